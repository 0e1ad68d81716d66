"""The job traffic: what comes, what comes back, what cannot be, and how far its table of steps is from the steps."""

from dataclasses import replace
from itertools import islice
from random import Random
from statistics import fmean, median

import pytest

from simgpu import Catalogue, InputError, Serving, Traffic, simulate
from simgpu.model.serving import Group
from simgpu.plan.parallelism import Plan
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.server.answer import rules_of, serve_requests, serve_traffic
from simgpu.workload.server.like import load_like, server_like
from simgpu.workload.server.load import requests_of
from simgpu.workload.server.steps import steps_of

CATALOGUE = Catalogue()
BASE = {"prompt": 500, "output": 50}
MODEL = "llama-3.1-8b"


def deployment(job: Traffic, cluster: str = "dgx-h100", tp: int = 1, dp: int = 1):
    run = CATALOGUE.runtime(job.runtime)
    return deploy(CATALOGUE.cluster(cluster), job.served(), CATALOGUE.model(MODEL), Plan(tp=tp, dp=dp), run)


# ---- steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runtime", "model"), [("vllm", MODEL), ("sglang", "qwen3-30b-a3b")])
def test_the_table_of_steps_is_close_to_the_steps(runtime, model):
    run = CATALOGUE.runtime(runtime)
    job = Traffic(rate=1.0, runtime=runtime, **BASE)
    made = deploy(CATALOGUE.cluster("dgx-h100"), job.served(), CATALOGUE.model(model), Plan(), run)
    steps, random, errors = steps_of(made), Random(0), []
    for _ in range(40):
        n, context, new = (int(2 ** random.uniform(*ends)) for ends in ((0, 8), (5, 13), (5, 12.5)))
        errors.append(steps.decode(n, n * context) / made.decode(n, context).seconds - 1)
        mixed = made.step(Group(1, new, new + context), Group(n, 1, context))
        errors.append(steps.mixed(n, n * context, [(new, context)]) / mixed.seconds - 1)
    assert median(map(abs, errors)) < 0.005 and fmean(map(abs, errors)) < 0.012


def test_lines_meet_where_they_end():
    steps = steps_of(deployment(Traffic(rate=1.0, runtime="vllm", **BASE)))
    for n in (1, 7, 64, 200):
        for place in range(5, 13):
            end = n * (1 << place) - 1
            assert steps.decode(n, end) == pytest.approx(steps.decode(n, end + 1), rel=2e-3)


# ---- loads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "rate"),
    [
        (Traffic(rate=5.0, requests=4000, **BASE), 5.0),
        (Traffic(rate=5.0, arrivals="constant", requests=4000, **BASE), 5.0),
        (Traffic(rate=5.0, arrivals="gamma", burstiness=0.5, requests=4000, **BASE), 5.0),
        (Traffic(rate=5.0, arrivals="day", day_s=400.0, duration_s=800.0, **BASE), 5.0),
        (Traffic(rate=2.0, arrivals="ramp", end_rate=8.0, duration_s=800.0, **BASE), 5.0),
        (Traffic(stages=[(2.0, 400.0), (8.0, 400.0)], **BASE), 5.0),
    ],
)
def test_requests_come_at_the_rate(job, rate):
    sent = [one.sent for one in requests_of(job)]
    assert sent == sorted(sent)
    assert len(sent) / sent[-1] == pytest.approx(rate, rel=0.05)


def test_lengths_have_their_mean_and_spread():
    for kind, spread in (("uniform", 0.5), ("lognormal", 0.8)):
        job = Traffic(rate=5.0, requests=4000, lengths=kind, spread=spread, prompt=1000, output=200)
        made = list(requests_of(job))
        assert fmean(one.prompt for one in made) == pytest.approx(1000, rel=0.04)
        assert fmean(one.output for one in made) == pytest.approx(200, rel=0.04)
    assert {one.prompt for one in requests_of(Traffic(rate=5.0, requests=9, **BASE))} == {500}


def test_lengths_of_sharegpt_are_those_of_its_first_turns():
    one = list(requests_of(Traffic(arrivals="burst", requests=4000, lengths="sharegpt", prompt=220, output=203)))
    assert fmean(r.prompt for r in one) == pytest.approx(220, rel=0.06)
    assert fmean(r.output for r in one) == pytest.approx(203, rel=0.06)
    assert 0.15 < sum(r.output <= 20 for r in one) / 4000 < 0.25  # a fifth of the answers are of a line or two
    assert max(r.prompt for r in one) <= 1026 and max(r.prompt + r.output for r in one) < 2500
    long = sorted(one, key=lambda r: r.prompt)[2000:]
    assert fmean(r.output for r in long) < 180  # long prompts have the shorter answers
    twice = requests_of(Traffic(arrivals="burst", requests=4000, lengths="sharegpt", prompt=440, output=406))
    assert fmean(r.output for r in twice) == pytest.approx(406, rel=0.06)
    with pytest.raises(InputError, match="leave it out"):
        Traffic(arrivals="burst", requests=9, lengths="sharegpt", prompt=220, output=203, spread=0.5)


def test_a_change_of_one_stream_leaves_the_others():
    one, other = (list(requests_of(Traffic(rate=rate, requests=50, lengths="uniform", spread=0.5, prefix_tokens=64,
                                           prefixes=4, **BASE))) for rate in (2.0, 4.0))  # fmt: skip
    assert [a.sent for a in one] == pytest.approx([2 * b.sent for b in other])
    assert [(a.prompt, a.output, a.path) for a in one] == [(b.prompt, b.output, b.path) for b in other]


def test_turns_of_a_conversation_hold_what_was_said():
    first = next(requests_of(Traffic(rate=1.0, requests=2, turns=3, think_s=2.0, prefix_tokens=100, **BASE)))
    ((second, pause),) = first.follows
    assert pause == 2.0 and second.prompt == first.prompt + first.output + 500
    assert second.path == (*first.path, (first.number, first.longest))
    assert second.follows[0][0].follows == ()


def test_traces_are_read_as_they_are(tmp_path):
    azure = tmp_path / "azure.csv"
    azure.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
                     "2023-11-16 18:15:50.9951690,396,109\n")  # fmt: skip
    made = list(requests_of(Traffic(trace=str(azure), time_scale=2.0)))
    assert [(round(one.sent, 3), one.prompt, one.output) for one in made] == [(0, 374, 44), (8.629, 396, 109)]
    done = simulate("h100-sxm", {"kind": "traffic", "trace": str(azure)}, MODEL)
    assert done.requests_served == 2 and done.stationary == "varies"


# ---- answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [1, 96])
def test_clients_that_wait_are_served_as_in_the_closed_form(clients):
    load = {"prompt": 512, "output": 200, "runtime": "vllm"}
    closed = simulate("h100-sxm", Serving(concurrency=clients, **load), MODEL)
    ran = simulate("h100-sxm", Traffic(clients=clients, requests=8 * clients, **load), MODEL)
    assert ran.tpot_s == pytest.approx(closed.tpot_s, rel=0.02 if clients == 1 else 0.08)
    assert ran.steady_tpot_s == pytest.approx(closed.tpot_s, rel=1e-6)
    assert ran.output_tokens_per_s == pytest.approx(closed.output_tokens_per_s, rel=0.02 if clients == 1 else 0.12)


def test_an_overloaded_server_says_so():
    light, heavy = (simulate("h100-sxm", Traffic(rate=rate, requests=600, **BASE), MODEL) for rate in (2.0, 500.0))
    assert (light.stationary, heavy.stationary) == ("yes", "no")
    assert heavy.waiting > 50 > light.waiting
    assert light.ttft_99th_s_p10 <= light.ttft_99th_s <= light.ttft_99th_s_p90


def test_equal_seeds_give_equal_bytes_and_others_do_not():
    def row(seed):
        return repr(simulate("h100-sxm", Traffic(rate=9.0, requests=200, seed=seed, **BASE), MODEL).row)

    assert row(1) == row(1) != row(2)


def test_a_later_engine_works_ahead_and_an_older_one_does_not():
    runs = ("vllm@0.12", "vllm@0.14", "vllm@0.6", "trtllm", "sglang")
    jobs = {run: Traffic(rate=1.0, runtime=run, **BASE) for run in runs}
    rules = {run: rules_of(deployment(job), job) for run, job in jobs.items()}
    assert [rules[run].ahead for run in runs[:3]] == [False, True, False]
    assert [rules[run].block for run in runs] == [16, 16, 16, 32, 1]
    assert [rules[run].keeps for run in runs] == [True, True, False, True, True]
    assert (rules["trtllm"].whole, rules["sglang"].mixes, rules["vllm@0.6"].watermark) == (True, False, 0.01)


def test_leaps_change_nothing_on_real_steps():
    job = Traffic(rate=30.0, requests=150, lengths="uniform", spread=0.9, cache_tokens=20_000, runtime="vllm", **BASE)
    made = deployment(job)
    ends = [
        sorted((record[0], record[6], record[7]) for record in serve_traffic(made, job, leaps=leaps).records)
        for leaps in (True, False)
    ]
    for one, other in zip(*ends, strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_replicas_share_the_load():
    job = Traffic(rate=20.0, requests=400, router="least_requests", **BASE)
    one, two = (serve_traffic(deployment(job, dp=dp), job) for dp in (1, 2))
    assert two.tpot.mean < one.tpot.mean
    apart = job.model_copy(update={"prefill_replicas": 1})
    split = serve_traffic(deployment(job, dp=2), apart)
    assert split.requests == 400 and split.tally.itl.percentiles((99.0,)) < two.tally.itl.percentiles((99.0,))


def test_rules_can_be_those_of_a_users_own():
    job = Traffic(rate=20.0, requests=50, **BASE)
    made = deployment(job)

    class Last:
        def __init__(self, seed):
            self.seed = seed

        def choose(self, request, replicas):
            return replicas[-1]

    done = serve_requests(made, job, replace(rules_of(made, job), seats=2), steps_of(made), router=Last)
    assert done.requests == 50 and max(row["running"] for row in done.tally.series.rows()) <= 2.0001


# ---- what cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "expected rate for arrivals poisson; given is none"),
        ({"rate": 1.0, "clients": 4}, "given is rate and clients"),
        ({"rate": 0.0}, "greater than 0|above 0|more than"),
        ({"rate": float("nan")}, "finite|number"),
        ({"rate": 1.0, "arrivals": "ramp"}, "expected end_rate"),
        ({"rate": 1.0, "spread": 0.2}, "fixed lengths have none"),
        ({"rate": 1e9, "duration_s": 1e9, "requests": None}, "expected at most 1e\\+08"),
        ({"stages": [[1e9, 1e9]], "requests": None}, "1e\\+18 requests; expected at most"),
        ({"profile": [[0, 0], [9, 4]], "duration_s": 1e9, "requests": None}, "2e\\+09 requests; expected at most"),
        ({"clients": 9, "duration_s": 1e9, "requests": None}, "9 clients may send"),
        ({"rate": 1.0, "requests": 1000, "retries": 10**6, "max_queue": 0}, "each sent again up to 1,000,000 times"),
        ({"rate": 1.0, "failures": {"every_s": 1e-3, "retries": 10**6}}, "an engine fails every 0.001 s"),
        ({"rate": 1.0, "mix": [{"share": 0.5, "prompt": 9, "output": 9}]}, "shares add up to 0.5; expected 1"),
        ({"rate": 1.0, "users": 4}, "arrivals users are of users, a rate and at least 2 turns"),
        ({"rate": 1.0, "warmups": 1, "turns": 2}, "warmups are of requests of one turn"),
        ({"rate": 1.0, "trace_deltas": True}, "says how a trace is read"),
        ({"rate": 1.0, "prompt": None}, "expected prompt and output"),
        ({"rate": 1.0, "router": "least_request"}, "least_requests"),
        ({"trace": "/nowhere.csv"}, "No such file"),
        ({"rate": 1.0, "prompt": 10**7}, "tokens"),
        ({"rate": 1.0, "runtime": "llama.cpp"}, "does not batch continuously"),
        ({"rate": 1.0, "prefill_replicas": 1}, "leave none for decodes"),
        ({"rate": 1.0, "cache_tokens": 8}, "the cache holds 8 tokens"),
    ],
)
def test_bad_input_is_one_line(asked, says):
    with pytest.raises(InputError, match=says) as error:
        simulate("h100-sxm", {"kind": "traffic", **BASE, "requests": 5, **asked}, MODEL)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a,b"], "no column of the arrival"),
        (["arrival_s,input_tokens,output_tokens", "1,5,5", "0.5,5,5"], "sort it"),
        (["arrival_s,input_tokens,output_tokens", "1,nan,5"], "expected a time and two whole numbers"),
        (["arrival_s,input_tokens,output_tokens", "-1,5,5"], "expected a time"),
        (["arrival_s,input_tokens,output_tokens", "1,0,5"], "expected 1 and more"),
    ],
)
def test_a_bad_trace_names_its_line(tmp_path, lines, says):
    file = tmp_path / "trace.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=says) as error:
        list(islice(requests_of(Traffic(trace=str(file))), 9))
    assert str(file) in str(error.value)


# ---- command lines -----------------------------------------------------------------------------------


def test_lengths_mean_what_each_tool_means():
    vllm = load_like("vllm bench serve --random-input-len 1000 --random-range-ratio 0.2 --request-rate 4 --ignore-eos")
    assert vllm.keys["workload.prompt"] == 1000 and vllm.keys["workload.prompt_range"] == [800, 1200]
    assert vllm.ignored == ["--ignore-eos"]
    sglang = load_like("python3 -m sglang.bench_serving --random-input-len 1000 --dataset-name random")
    assert (sglang.keys["workload.prompt"], sglang.keys["workload.prompt_range"]) == (500, [1, 1000])
    assert sglang.keys["workload.arrivals"] == "burst"


def test_flags_of_servers_are_keys_of_a_scenario():
    keys = server_like("vllm serve m -tp 4 --max-num-seqs=64 --no-enable-prefix-caching --kv-cache-dtype fp8").keys
    assert (keys["plan.tp"], keys["workload.sequences"], keys["workload.kv_cache"]) == (4, 64, "fp8")
    assert keys["workload.prefix_cache"] is False
    assert server_like("python -m sglang.launch_server --model-path m --tp 8").keys["plan.tp"] == 8


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vllm bench serve --reqest-rate 8", "did you mean '--request-rate'"),
        ("ab -n 10", "is no command line that is known"),
        ("vllm bench serve --num-prompts many", "expected a whole number"),
        ("vllm bench serve --dataset-name sonnet", "lengths of its own"),
        ("vllm bench serve --request-rate", "expected a value"),
        ("vllm bench serve 'open", "no closing quotation"),
    ],
)
def test_what_is_not_understood_is_refused(text, says):
    with pytest.raises(InputError, match=says):
        load_like(text)
