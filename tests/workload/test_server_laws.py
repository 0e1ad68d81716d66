"""Laws of a server at a steady load, over random models, GPUs, engines, precisions and lengths."""

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simgpu import Catalogue, Plan, Serving
from simgpu.analysis.inference import products_of
from simgpu.model.serving import Group
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.inference.generation import Run, pipelined, prefill_runs
from simgpu.workload.inference.serving import LEAST, Load, batch_of, batch_sizes, serve

CATALOGUE = Catalogue()

DEPLOYMENTS = [
    ("llama-3.1-8b", "h100-sxm", "vllm", "bf16", Plan()),
    ("llama-3.1-8b", "h100-sxm", "vllm", "fp8", Plan()),
    ("llama-3.1-8b", "a100-sxm-80gb", "sglang", "bf16", Plan()),
    ("llama-3.1-8b", "rtx-4090", "vllm", "int4", Plan()),
    ("llama-3.1-8b", "h100-sxm", "eager", "bf16", Plan()),
    ("llama-3.2-1b", "rtx-3090", "llama.cpp", "q4_k_m", Plan()),
    ("qwen3-8b", "l40s", "vllm", "fp8", Plan()),
    ("qwen3-30b-a3b", "h200-sxm", "sglang", "bf16", Plan()),
    ("qwen3-30b-a3b", "dgx-h100", "trtllm", "fp8", Plan(tp=2, ep=2)),
    ("deepseek-v2-lite", "b200-sxm", "vllm", "bf16", Plan()),
    ("llama-3.1-70b", "dgx-h100", "trtllm", "fp8", Plan(tp=4)),
    ("llama-3.1-70b", "dgx-h100", "vllm", "bf16", Plan(tp=2, pp=2, dp=2)),
    ("gemma-3-4b", "mi300x", "vllm", "bf16", Plan(dp=1)),
]

scenarios = st.tuples(
    st.sampled_from(DEPLOYMENTS),
    st.sampled_from([1, 16, 100, 256, 1000, 3000, 8000]),
    st.sampled_from([1, 2, 3, 8, 50, 64, 500]),
    st.sampled_from([0.0, 0.0, 0.5]),
    st.lists(st.integers(2, 3000), min_size=2, max_size=4),
)


def job_of(case):
    (_, _, engine, precision, _), prompt, output, hit, _ = case
    return Serving(
        concurrency=2, prompt=prompt, output=max(output, 2), runtime=engine, precision=precision, prefix_hit=hit
    )


def deployed(case):
    (model, gpu, _, _, plan), *_ = case
    job = job_of(case)
    return deploy(CATALOGUE.cluster(gpu), job, CATALOGUE.model(model), plan, CATALOGUE.runtime(job.runtime))


def load_of(case, clients):
    _, prompt, output, hit, _ = case
    return Load(clients, prompt, output, int(prompt * hit))


@settings(max_examples=25, deadline=None)
@example((DEPLOYMENTS[0], 256, 2, 0.0, [64, 256]))
@example((DEPLOYMENTS[1], 256, 64, 0.0, [256, 512, 724, 1024]))
@example((DEPLOYMENTS[6], 256, 2, 0.0, [64, 65]))
@example((DEPLOYMENTS[6], 3000, 1, 0.0, [2, 3]))
@given(scenarios)
@pytest.mark.slow
def test_a_server_stays_below_its_hardware_and_gains_by_clients(case):
    one, plan = deployed(case), case[0][4]
    found = [serve(one, load_of(case, clients)) for clients in sorted(case[-1])]
    rates = [done.requests_per_s for done in found]
    assert rates == pytest.approx(sorted(rates), rel=1e-9)  # never falls as clients are added
    load = found[0].load

    sizes = [*islice(batch_sizes(), 22)]
    prefills = (n / pipelined(prefill_runs(one, n, load.prompt, load.cached), one.runtime.queue) for n in sizes)
    assert rates[-1] <= plan.dp * max(prefills) * (1 + 1e-9)

    prompt, token = (
        products_of([Run(step, 1, step.seconds, 1.0)], replace(plan, dp=1)).flops
        for step in (one.step(Group(1, load.new, load.prompt)), one.decode(1, load.context))
    )
    narrow = one.precision.products if not one.precision.converted else None
    peak = one.kernels.peak(narrow or one.dtype)
    assert rates[-1] * (prompt + (load.output - 1) * token) <= plan.dp * plan.pp * plan.tp * peak

    for done in found:
        assert done.load.concurrency == pytest.approx(done.requests_per_s * done.total)  # Little's law
        assert done.load.concurrency == pytest.approx(plan.dp * (done.batch + done.waiting))
        assert done.tpot >= done.decode_s > 0 and done.ttft > 0
        if plan.pp == 1:
            assert done.decode_s == pytest.approx(sum(step.seconds * share for step, share in done.decode))


@settings(max_examples=10, deadline=None)
@given(scenarios)
def test_a_request_takes_no_less_time_in_company(case):
    one, load = deployed(case), load_of(case, 1)
    alone = batch_of(one, load, 1)
    for size in islice(batch_sizes(), 16):
        assert batch_of(one, load, size).total >= LEAST * alone.total


def test_fewer_clients_than_replicas_are_each_alone():
    """As where prefill and decode are apart, and a few clients meet many replicas of one of them."""
    cluster, model, plan = CATALOGUE.cluster("dgx-h100"), CATALOGUE.model("llama-3.1-8b"), Plan(dp=8)
    one = deploy(cluster, Serving(concurrency=8, prompt=256, output=32), model, plan, CATALOGUE.runtime("vllm"))
    found = [serve(one, Load(clients, 256, 32)) for clients in (1, 2, 7, 8)]
    for done in found:
        assert (done.ttft, done.tpot) == (found[-1].ttft, found[-1].tpot)
        assert done.requests_per_s == pytest.approx(done.load.concurrency / done.total)
