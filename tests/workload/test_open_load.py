"""Servers under an open load, and what a request waits for: Little's law, the loop of an engine, limits of a batch."""

import pytest

import simgpu
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import precision_of
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.open_load import serve_at_rate
from simgpu.workload.inference.serving import Load, serve
from simgpu.workload.runtime_files import runtime

CATALOGUE = Catalogue()
PROMPT, OUTPUT = 600, 200


def deployed(engine="vllm", plan=None, cluster="h100-sxm", model="llama-3.1-8b", **more):
    found = CATALOGUE.cluster(cluster), plan or Plan(), precision_of("bf16"), runtime(engine)
    return Deployment(CATALOGUE.model(model), *found, **more)


ONE = deployed()


@pytest.mark.parametrize("rate", [0.01, 2.0, 12.0])
def test_requests_at_a_time_are_those_that_come_while_one_is_answered(rate):
    done = serve_at_rate(ONE, rate, PROMPT, OUTPUT)
    assert done.requests_per_s == pytest.approx(rate, rel=1e-6)
    assert done.load.concurrency == pytest.approx(rate * done.total, rel=1e-6)
    assert done.waiting == 0


def test_a_higher_rate_and_fewer_hits_take_longer():
    slow, fast = (serve_at_rate(ONE, rate, PROMPT, OUTPUT) for rate in (2.0, 12.0))
    assert fast.tpot > slow.tpot and fast.ttft > slow.ttft
    repeated = serve_at_rate(ONE, 12.0, PROMPT, OUTPUT, cached=592)
    assert repeated.tpot < fast.tpot and repeated.ttft < fast.ttft


def test_a_rate_that_no_server_answers_is_refused_with_what_it_does():
    with pytest.raises(InputError, match="10000 requests/s, and this server answers") as refused:
        serve_at_rate(ONE, 1e4, PROMPT, OUTPUT)
    assert refused.value.key == "workload.rate"
    most = float(str(refused.value.problem).split("answers ")[1].split(":")[0])
    assert serve_at_rate(ONE, 0.99 * most, PROMPT, OUTPUT).requests_per_s == pytest.approx(0.99 * most, rel=1e-6)


def test_replicas_share_a_rate():
    two = deployed(plan=Plan(dp=2), cluster="dgx-h100")
    alone = deployed(cluster="dgx-h100")
    both, one = serve_at_rate(two, 8.0, PROMPT, OUTPUT), serve_at_rate(alone, 4.0, PROMPT, OUTPUT)
    assert both.tpot == pytest.approx(one.tpot, rel=1e-6) and both.batch == pytest.approx(one.batch, rel=1e-6)


def test_a_first_token_under_open_load_waits_for_the_steps_of_the_loop_and_its_own():
    """One and a half steps of others where the next one has been sent already, half of one where it has not."""
    load = Load(16, PROMPT, OUTPUT, cached=592, closed=False)
    for engine, steps in (("vllm@0.12", 0.5), ("vllm@0.15", 1.5)):
        one = deployed(engine)
        done, front = serve(one, load), one.runtime.first_s
        own = done.ttft - front - steps * (1 - 1 / 16) * done.tpot
        assert done.decode_s <= own < 1.2 * done.decode_s


def test_a_request_alone_waits_for_nobody():
    for closed in (True, False):
        done = serve(ONE, Load(1, PROMPT, OUTPUT, closed=closed))
        again = serve(deployed("vllm@0.13"), Load(1, PROMPT, OUTPUT, closed=closed))
        assert done.ttft < again.ttft  # they differ in what the host of one step takes alone
        assert again.ttft - done.ttft == pytest.approx(0.6e-3 + 40e-6 - 0.1e-3, rel=0.1)


def test_limits_of_a_batch_are_keys_and_make_clients_wait():
    asked = {"kind": "serving", "concurrency": 64, "prompt": PROMPT, "output": OUTPUT}

    def row(**more):
        return simgpu.simulate("h100-sxm", asked | more, "llama-3.1-8b").row

    free, few = row(), row(sequences=16)
    assert free["batch"] == 64 and few["batch"] == 16 and few["saturated"] and not free["saturated"]
    assert few["tpot_s"] < free["tpot_s"] and few["ttft_s"] > free["ttft_s"]
    assert row(chunk=256)["ttft_s"] != free["ttft_s"]


@pytest.mark.parametrize("more", [{}, {"concurrency": 4, "rate": 1.0}, {"rate": 0.0}, {"rate": float("inf")}])
def test_a_load_is_one_of_the_two(more):
    with pytest.raises(InputError, match="workload"):
        simgpu.simulate("h100-sxm", {"kind": "serving", "prompt": 8, "output": 8, **more}, "llama-3.1-8b")


@pytest.mark.parametrize(
    ("engine", "gpu", "chunk", "seats"),
    [
        ("vllm", "h100-sxm", 8192, 1024), ("vllm", "a100-sxm-80gb", 2048, 256), ("vllm", "l4", 2048, 256),
        ("vllm@0.8.5", "a100-sxm-80gb", 8192, 1024), ("vllm@0.33", "b200-sxm", 16384, 1024),
        ("vllm@0.6", "h100-sxm", 8192, 256),
        ("trtllm", "h100-sxm", 8192, 2048), ("sglang", "rtx-4090", 2048, 4096),
    ],
)  # fmt: skip
def test_defaults_of_a_batch_are_those_of_the_version_and_the_gpu(engine, gpu, chunk, seats):
    one = deployed(engine, cluster=gpu)
    assert (one.chunk, one.seats) == (chunk, seats)


def test_norms_over_all_heads_add_an_all_reduce_to_each_layer():
    one = deployed(model="minimax-m2", cluster="dgx-h100", plan=Plan(tp=8))
    alike = deployed(model="minimax-m2", cluster="dgx-h100", plan=Plan(tp=8))
    alike.config = one.config.__class__(**{**vars(one.config), "qk_norm_whole": False})
    longer = one.decode(8, 1000).seconds - alike.decode(8, 1000).seconds
    assert 2e-6 < longer / one.config.layers < 20e-6
