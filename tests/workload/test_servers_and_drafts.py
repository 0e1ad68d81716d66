"""Limits of speculation and of servers under load."""

import pytest
from deployments import CATALOGUE, NODE, deployed

from simgpu import Inference, Plan, Serving, simulate
from simgpu.workload.inference.disaggregation import serve_apart
from simgpu.workload.inference.generation import generate
from simgpu.workload.inference.serving import Load, serve
from simgpu.workload.inference.speculation import Speculation
from simgpu.workload.runtime_files import runtime

# ---- speculation, servers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "acceptance", "expected"), [(4, 0.0, 1), (4, 1.0, 5), (2, 0.5, 1.75), (1, 0.8, 1.8)]
)
def test_a_cycle_brings_what_leviathan_et_al_say(tokens, acceptance, expected):
    assert Speculation(tokens, acceptance, deployed()).expected == pytest.approx(expected)


def test_speculation_pays_where_guesses_are_right_and_costs_where_they_are_not():
    model, draft = CATALOGUE.model("llama-3.1-70b"), CATALOGUE.model("llama-3.2-1b")

    def tpot(acceptance, batch=1):
        job = Inference(
            batch=batch, prompt=512, output=128,
            speculative={"draft": "llama-3.2-1b", "tokens": 4, "acceptance": acceptance},
        )  # fmt: skip
        return simulate(NODE, job, model, Plan(tp=4), draft=draft).tpot_s

    plain = simulate(NODE, Inference(prompt=512, output=128), model, Plan(tp=4)).tpot_s
    assert tpot(0.9) < plain < tpot(0.0)
    assert tpot(0.9) < tpot(0.6) < tpot(0.3)
    mtp = Inference(
        prompt=512, output=128, precision="fp8-block", speculative={"draft": "mtp", "tokens": 1, "acceptance": 0.85}
    )
    deep = CATALOGUE.model("deepseek-v3")
    guessed = simulate(NODE, mtp, deep, Plan(tp=8)).tpot_s
    assert guessed < simulate(NODE, Inference(prompt=512, output=128, precision="fp8-block"), deep, Plan(tp=8)).tpot_s


def test_a_server_with_one_client_is_a_batch_of_one():
    one = deployed()
    alone = serve(one, Load(1, 1000, 200))
    batch = generate(one, 1, 1000, 200)
    assert alone.tpot == pytest.approx(batch.tpot, rel=0.01)
    assert alone.ttft - runtime("vllm").first_s == pytest.approx(batch.ttft, rel=0.1)
    assert alone.interference_s == 0 and not alone.saturated


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_more_clients_wait_longer_and_get_more_done(engine):
    found = [serve(deployed(engine=engine), Load(n, 1000, 200)) for n in (1, 4, 16, 64, 128)]
    for values in ([one.tpot for one in found], [one.ttft for one in found], [one.requests_per_s for one in found]):
        assert values == sorted(values)
    for one in found:  # Little's law
        assert one.load.concurrency == pytest.approx(one.requests_per_s * one.total)


def test_a_full_cache_makes_requests_queue():
    small = deployed(cluster=CATALOGUE.cluster("l4"))
    few, many = (serve(small, Load(n, 4000, 500)) for n in (4, 64))
    assert not few.saturated and many.saturated
    assert many.batch < 64 and many.waiting == pytest.approx(64 - many.batch)
    assert many.ttft > 5 * few.ttft


def test_prompts_on_gpus_of_their_own_do_not_disturb_decodes():
    one = deployed()
    mixed, apart = serve(one, Load(32, 2000, 200)), serve_apart(deployed(), deployed(), Load(32, 2000, 200))
    assert apart.tpot < mixed.tpot and apart.interference_s == 0 < mixed.interference_s


def test_a_job_of_a_server_is_the_closed_form():
    row = simulate(NODE, Serving(concurrency=16, prompt=1000, output=200), CATALOGUE.model("llama-3.1-8b")).row
    done = serve(deployed(), Load(16, 1000, 200))
    assert row["tpot_s"] == pytest.approx(done.tpot) and row["ttft_s"] == pytest.approx(done.ttft)
    assert row["requests_per_s"] == pytest.approx(done.requests_per_s)
