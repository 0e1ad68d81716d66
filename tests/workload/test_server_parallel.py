"""Engines of several ranks: replicas that step together, pipelines, split caches; drafts, graphs, caches that move."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import RULES, SERVICE, Ran, Steps, poisson

from simgpu import Catalogue, InputError, Traffic, simulate
from simgpu.plan.parallelism import Plan
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.server.answer import serve_traffic
from simgpu.workload.server.fleet import Fleet
from simgpu.workload.server.lockstep import Lockstep, Rank
from simgpu.workload.server.pipe import Pipe
from simgpu.workload.server.requests import Request
from simgpu.workload.server.routing import ROUTERS
from simgpu.workload.server.steps import steps_of
from simgpu.workload.server.tally import Tally
from simgpu.workload.server.transfers import Transfer, Transfers

CATALOGUE = Catalogue()


@dataclass
class Shared(Steps):
    """Steps of ranks that share experts, each of which takes `expert` seconds of all tokens."""

    expert: float = 1e-6

    def line(self, n, held, rows=0):
        return 10**12, self.base + (self.sequence + self.expert) * (rows or n), self.context

    def mixed(self, n, held, chunks):
        return self.lockstep([(n, held, chunks)], 1)

    def lockstep(self, ranks, count):
        tokens = sum(n + sum(new for new, _ in chunks) for n, _, chunks in ranks)
        return max(super(Shared, self).mixed(*one) for one in ranks) + self.expert * tokens / count


def together(load, ranks=4, rules=RULES, steps=None, leaps=True, router="least_load") -> Ran:
    tally, done = Tally(), []
    made = [Rank(rules, steps or Shared(), tally, leaps) for _ in range(ranks)]
    Lockstep(made)
    fleet = Fleet(made, ROUTERS[router](0), done.append)
    fleet.run(load)
    return Ran(fleet, tally, sorted(done, key=lambda one: one.number))


def piped(load, stages=4, rules=RULES, steps=None, share=None) -> Ran:
    tally, done = Tally(), []
    pipe = Pipe(rules, steps or Steps(), tally, stages, share or 1 / stages)
    fleet = Fleet([pipe], ROUTERS["round_robin"](0), done.append)
    fleet.run(load)
    return Ran(fleet, tally, sorted(done, key=lambda one: one.number))


ENGINES = st.builds(
    replace,
    st.just(RULES),
    blocks=st.sampled_from([2000, 130]),
    seats=st.sampled_from([3, 64]),
    chunk=st.sampled_from([300, 2048]),
    keeps=st.booleans(),
    mixes=st.booleans(),
    ahead=st.booleans(),
    reserve=st.sampled_from([0.0, 0.3, 1.0]),
)


def conserved(ran: Ran, count: int) -> None:
    assert [one.number for one in ran.requests] == list(range(count))
    assert ran.tally.made == sum(one.output for one in ran.requests)
    assert ran.tally.computed == sum(one.prompt - one.hit + one.again for one in ran.requests)
    for one in ran.fleet.replicas:
        assert one.pool.free == one.pool.total and one.queued == one.held == 0


# ---- lockstep ----------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(ENGINES, st.sampled_from([2.0, 20.0]), st.integers(0, 10**6))
def test_ranks_conserve_what_they_are_given_and_leap_as_they_step(rules, rate, seed):
    leaps, steps = (together(poisson(50, rate, seed), rules=rules, leaps=leaps) for leaps in (True, False))
    conserved(leaps, 50)
    for one, other in zip(leaps.requests, steps.requests, strict=True):
        assert (one.first, one.last) == pytest.approx((other.first, other.last), rel=1e-9)


def test_the_slowest_rank_decides():
    """A prompt on one rank delays the tokens of all; ranks on their own do not notice it."""

    def load():
        for i in range(4):
            yield Request(i, 0.0, 100, 100)
        yield Request(4, 0.2, 2000, 1)

    gaps = together(load(), router="round_robin").tally.itl
    assert gaps.counts and max(gaps.counts) > min(gaps.counts)
    ends = [one.last for one in together(load(), router="round_robin").requests[:4]]
    assert max(ends) - min(ends) < 0.006  # the first began a step before the others, and the long prompt is on its rank


def test_ranks_with_equal_loads_are_as_fast_as_one():
    def load(times):
        for i in range(20):
            for j in range(times):
                yield Request(times * i + j, 0.3 * i, 300, 40)

    steps = Shared(expert=0.0)
    one = together(load(1), 1, steps=steps, router="round_robin").requests
    four = together(load(4), 4, steps=steps, router="round_robin").requests
    for alone, other in zip(one, four[::4], strict=True):
        assert 0 <= other.last - alone.last < 0.0061  # of four that come at once the first begins a step alone


def test_idle_ranks_run_along_empty():
    ran = together(iter([Request(0, 0.0, 100, 50)]), 4)
    assert ran.tally.dummy_s == pytest.approx(3 * ran.tally.busy_s)
    busy = together((Request(i, 0.0, 100, 50) for i in range(4)), 4, router="round_robin").tally
    assert busy.dummy_s < 0.1 * busy.busy_s  # the first step, before the others come, and the last


def test_wide_experts_step_together_and_others_do_not():
    job = Traffic(rate=30.0, requests=80, prompt=500, output=60, runtime="vllm", router="least_load")
    done = {}
    for name, plan in (("apart", Plan(dp=4)), ("together", Plan(dp=4, ep=4))):
        made = deploy(CATALOGUE.cluster("dgx-h100"), job.served(), CATALOGUE.model("qwen3-30b-a3b"), plan,
                      CATALOGUE.runtime("vllm"))  # fmt: skip
        done[name] = serve_traffic(made, job)
    assert done["apart"].tally.dummy_s == 0 < done["together"].tally.dummy_s
    row = simulate("dgx-h100", job, "qwen3-30b-a3b", {"dp": 4, "ep": 4}).row
    assert 0 < row["dummy_share"] < 0.5


# ---- pipelines ---------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(ENGINES, st.sampled_from([2.0, 20.0]), st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_pipelines_conserve_what_they_are_given(rules, rate, seed, stages):
    conserved(piped(poisson(50, rate, seed), stages, rules), 50)


def test_one_request_alone_takes_all_stages_for_each_token():
    ran = piped(iter([Request(0, 0.0, 100, 11)]), steps=SERVICE)
    assert (ran.requests[0].first, ran.requests[0].last) == pytest.approx((1.0, 11.0))


def test_batches_fill_the_stages():
    """Four batches of four stages pass in the time of one: a token of each in every round."""
    load = [Request(i, 0.01 * i, 100, 101) for i in range(4)]
    ran = piped(iter(load), steps=SERVICE)
    assert max(one.last for one in ran.requests) == pytest.approx(101.0, rel=0.02)
    eight = piped((Request(i, 0.01 * i, 100, 101) for i in range(8)), steps=SERVICE)
    assert max(one.last for one in eight.requests) < 105.0


def test_chunks_of_a_prompt_follow_each_other_through_the_stages():
    """Eight chunks of four stages take 8 + 3 stages, not 8 times 4."""
    rules = replace(RULES, chunk=100)
    ran = piped(iter([Request(0, 0.0, 800, 1)]), 4, rules, SERVICE)
    assert ran.requests[0].first == pytest.approx((8 + 3) / 4)


def test_a_pipeline_of_real_steps_is_near_the_closed_form():
    job = {"kind": "traffic", "clients": 32, "requests": 160, "prompt": 500, "output": 120, "runtime": "vllm"}
    row = simulate("dgx-h100", job, "llama-3.1-8b", {"pp": 2}).row
    assert row["tpot_s"] == pytest.approx(row["steady_tpot_s"], rel=0.15)


# ---- split caches, drafts, graphs --------------------------------------------------------------------


def test_split_caches_answer_long_prompts_sooner():
    job = {"kind": "traffic", "rate": 0.2, "requests": 20, "prompt": 30_000, "output": 20, "runtime": "vllm"}
    one, four = (simulate("dgx-h100", job, "llama-3.1-8b", {"cp": cp}) for cp in (1, 4))
    assert four.ttft_s < 0.6 * one.ttft_s


def test_a_draft_brings_its_tokens_in_the_time_of_a_cycle():
    job = {"kind": "traffic", "clients": 1, "requests": 3, "prompt": 500, "output": 200, "runtime": "vllm"}
    guess = {"draft": "mtp", "tokens": 3, "acceptance": 0.8}
    plain = simulate("h100-sxm", {"kind": "inference", "prompt": 500, "output": 200, "runtime": "vllm",
                                  "speculative": guess}, "llama-3.1-8b")  # fmt: skip
    served = simulate("h100-sxm", {**job, "speculative": guess}, "llama-3.1-8b")
    assert served.tpot_s == pytest.approx(plain.tpot_s, rel=0.08)  # the batch has the host's time for each guess too
    none = simulate("h100-sxm", {**job, "speculative": {**guess, "acceptance": 0.0}}, "llama-3.1-8b")
    assert none.tpot_s > simulate("h100-sxm", job, "llama-3.1-8b").tpot_s > served.tpot_s


def test_tokens_of_drafts_are_conserved():
    job = Traffic(rate=25.0, requests=60, prompt=500, output=40, lengths="uniform", spread=0.9, runtime="vllm")
    done = simulate("h100-sxm", job.model_copy(update={"speculative": None}), "llama-3.1-8b")
    drafted = simulate("h100-sxm", {**job.model_dump(exclude_none=True),
                                    "speculative": {"draft": "mtp", "tokens": 2}}, "llama-3.1-8b")  # fmt: skip
    for one in (done, drafted):
        assert one.served.tally.made == one.served.outputs
    assert drafted.tpot_s < done.tpot_s


def test_steps_run_at_the_next_size_of_a_graph():
    job = Traffic(rate=1.0, prompt=500, output=50, runtime="vllm")
    made = deploy(CATALOGUE.cluster("dgx-h100"), job.served(), CATALOGUE.model("llama-3.1-8b"), Plan(),
                  CATALOGUE.runtime("vllm"))  # fmt: skip
    plain, padded = steps_of(made), steps_of(made, (1, 64, 128))
    attention = [padded.decode(n, 500 * n) - padded.decode(64, 500 * 64) for n in (40, 64)]
    assert attention[0] <= attention[1] == 0
    assert padded.decode(40, 40 * 500) > plain.decode(40, 40 * 500)
    assert padded.decode(64, 64 * 500) == pytest.approx(plain.decode(64, 64 * 500), rel=1e-3)
    assert padded.decode(129, 129 * 500) >= plain.decode(129, 129 * 500)  # launched one by one


# ---- caches on their way -----------------------------------------------------------------------------


def ends(moves, others=None):
    """When transfers of (start, source, target) of 100 tokens of a byte each end, over links of 10 bytes/s.

    `others` are engines whose caches move otherwise.
    """
    made, found, moves = (
        Transfers(dict.fromkeys("abxy", Transfer(10.0, float)) | (others or {})),
        {},
        list(enumerate(moves)),
    )
    while moves or made.next_time < float("inf"):
        if moves and moves[0][1][0] <= made.next_time:
            key, (start, source, target) = moves.pop(0)
            made.start(key, source, target, 100, start)
        else:
            now = made.next_time
            found |= dict.fromkeys(made.finish(), now)
    return [found[key] for key in sorted(found)]


def test_transfers_share_the_links_of_both_ends():
    assert ends([(0.0, "a", "x")]) == [10.0]
    assert ends([(0.0, "a", "x"), (0.0, "b", "y")]) == [10.0, 10.0]
    assert ends([(0.0, "a", "x"), (0.0, "a", "y")]) == [20.0, 20.0]  # out of one
    assert ends([(0.0, "a", "x"), (0.0, "b", "x")]) == [20.0, 20.0]  # into one
    assert ends([(0.0, "a", "x"), (5.0, "a", "y")]) == [15.0, 20.0]


def test_a_transfer_goes_at_the_pace_of_the_slower_side():
    wide = Transfer(10.0, lambda tokens: tokens / 4)  # of an engine of four GPUs
    assert ends([(0.0, "a", "x")], {"x": wide}) == [10.0]
    assert ends([(0.0, "a", "x")], {"a": wide}) == [10.0]
    assert ends([(0.0, "a", "x")], {"a": wide, "x": wide}) == [2.5]
    assert ends([(0.0, "a", "x"), (0.0, "b", "x")], {"x": wide}) == [10.0, 10.0]
    assert ends([(0.0, "a", "x")], {"x": Transfer(5.0, float)}) == [20.0]


# ---- pools of other GPUs -----------------------------------------------------------------------------


def test_a_pool_of_the_same_gpus_is_more_replicas():
    job = {"kind": "traffic", "rate": 20.0, "requests": 80, "prompt": 500, "output": 60, "runtime": "vllm",
           "router": "least_requests"}  # fmt: skip
    pooled = simulate("dgx-h100", {**job, "pools": [{"cluster": "dgx-h100"}]}, "llama-3.1-8b")
    plain = simulate("dgx-h100", job, "llama-3.1-8b", {"dp": 2})
    for name in ("ttft_s", "tpot_99th_s", "gpus", "output_tokens_per_s_per_gpu", "waiting", "busy"):
        assert pooled.row[name] == pytest.approx(plain.row[name], rel=1e-9), name


def test_a_router_sends_more_to_the_faster_pool():
    job = {"kind": "traffic", "rate": 40.0, "requests": 200, "prompt": 500, "output": 60, "runtime": "vllm",
           "router": "least_requests", "pools": [{"cluster": "dgx-a100", "tp": 2}]}  # fmt: skip
    done = simulate("dgx-h100", job, "llama-3.1-8b")
    assert done.gpus == 3 and done.row["gpu"] == "h100-sxm + a100-sxm-80gb"
    slow = simulate("dgx-a100", {key: value for key, value in job.items() if key != "pools"}, "llama-3.1-8b")
    assert done.ttft_99th_s < slow.ttft_99th_s


APART = {"kind": "traffic", "rate": 10.0, "requests": 60, "prompt": 500, "output": 40, "runtime": "vllm"}


def test_a_pool_of_the_same_gpus_that_decodes_is_prompts_apart():
    plain = simulate("dgx-h100", {**APART, "prefill_replicas": 1}, "llama-3.1-8b", {"dp": 2})
    decodes = {"prefill_replicas": 1, "pools": [{"cluster": "dgx-h100", "takes": "decodes"}]}
    prompts = {"pools": [{"cluster": "dgx-h100", "takes": "prompts"}]}
    for asked in (decodes, prompts):
        pooled = simulate("dgx-h100", {**APART, **asked}, "llama-3.1-8b")
        for name in ("ttft_s", "tpot_99th_s", "gpus", "transfer_s", "busy"):
            assert pooled.row[name] == pytest.approx(plain.row[name], rel=1e-9), name


def test_prompts_are_sooner_ready_on_faster_gpus_and_decodes_by_their_own():
    def row(cluster, **pool):
        return simulate("dgx-a100", {**APART, "pools": [{"cluster": cluster, **pool}]}, "llama-3.1-8b").row

    fast, slow = (row(cluster, takes="prompts") for cluster in ("dgx-h100", "dgx-a100"))
    assert fast["ttft_s"] < slow["ttft_s"] and fast["tpot_s"] == pytest.approx(slow["tpot_s"], rel=0.05)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"pools": [{"cluster": "dgx-h100", "takes": "decodes"}]}, "no replica takes prompts"),
        ({"pools": [{"cluster": "dgx-h100", "takes": "prompts"}], "prefill_replicas": 1}, "leave none for decodes"),
        ({"pools": [{"cluster": "dgx-h100"}, {"cluster": "dgx-h100", "takes": "prompts"}]}, "the same of all"),
        ({"pools": [{"cluster": "dgx-h100", "takes": "prompt"}]}, "'prompts'"),
        ({"pools": [{"cluster": "dgx-h100", "takes": "prompts"}], "gateway": {"per_replica": 4}}, "leave it out"),
    ],
)
def test_sides_that_cannot_be_are_refused_in_a_line(asked, says):
    with pytest.raises(InputError, match=says) as error:
        simulate("dgx-h100", {**APART, **asked}, "llama-3.1-8b")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        ({"cluster": "dgx-h10"}, "dgx-h10"),
        ({"cluster": "dgx-h100", "tp": 64}, "64"),
        ({"cluster": "l40s", "tpp": 2}, "tp"),
    ],
)
def test_a_pool_that_cannot_be_is_refused_in_a_line(pool, says):
    with pytest.raises(InputError, match=says) as error:
        simulate(
            "dgx-h100", {"kind": "traffic", "rate": 1.0, "prompt": 9, "output": 9, "pools": [pool]}, "llama-3.1-8b"
        )
    assert "\n" not in str(error.value)
