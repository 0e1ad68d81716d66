"""MFU is a share of the datasheet peaks of the types that products run in: any GPU, precision and kind of job."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import sampled

from simgpu import Catalogue, Inference, InputError, MixedStep, OperatorList, Plan, Prefill, Serving, Training, simulate
from simgpu.plan.precision import PRECISIONS, is_gguf

CATALOGUE = Catalogue()
LLAMA = CATALOGUE.model("llama-3.1-8b")
MIXTRAL = CATALOGUE.model("mixtral-8x7b")
TRAINED = [(1, 1, 1), (8, 1, 1), (2, 4, 1), (2, 1, 4), (1, 2, 2)]  # tp, dp, pp


def peak(cluster, key="bf16-fp32-tensor"):
    return next(one.si for one in cluster.gpu.peak if one.key == key)


@pytest.mark.parametrize("gpu", sampled(CATALOGUE.names("gpus"), 4))
def test_mfu_is_a_share_for_every_gpu_and_precision(gpu):
    cluster, seen = CATALOGUE.cluster(gpu), 0
    for name, precision in PRECISIONS.items():
        job = MixedStep(prefill=1024, precision=name, runtime="llama.cpp" if is_gguf(precision) else "vllm")
        try:
            row = simulate(cluster, job, LLAMA).row
        except InputError:
            continue  # the GPU lacks the type
        seen += 1
        assert 0 < row["mfu"] <= 1, name
    assert seen >= 6


def test_products_are_held_against_the_peaks_of_their_types():
    cluster = CATALOGUE.cluster("rtx-4090")
    row = simulate(cluster, Inference(batch=4, prompt=2048, output=1), LLAMA).row
    assert row["mfu"] == pytest.approx(row["flop_per_s_per_gpu"] / peak(cluster), rel=1e-9)
    narrow = simulate(cluster, Inference(batch=4, prompt=2048, output=1, precision="fp8"), LLAMA).row
    # the head and attention stay in 16 bits, so that the peak they share lies between those of the two types
    assert peak(cluster) < narrow["flop_per_s_per_gpu"] / narrow["mfu"] < peak(cluster, "fp8-fp32-tensor")
    # llama.cpp sums prompts in fp16, at twice the rate on this GPU
    prompt = simulate(cluster, Inference(batch=1, prompt=512, output=1, precision="q4_k_m", runtime="llama.cpp"), LLAMA)
    assert prompt.flop_per_s_per_gpu / prompt.mfu > 1.5 * peak(cluster, "fp16-fp32-tensor")


def test_operators_of_a_list_have_types_of_their_own():
    matmul = {"op": "matmul", "m": 8192, "n": 8192, "k": 8192}
    both = OperatorList(operators=[matmul, matmul | {"dtype": "fp8"}])
    row = simulate(CATALOGUE.cluster("h100-sxm"), both).row
    assert 0.5 < row["mfu"] <= 1
    assert row["flop_per_s_per_gpu"] / row["mfu"] == pytest.approx(2 / (1 / 989.4e12 + 1 / 1978.9e12), rel=1e-3)
    only = OperatorList(operators=[{"op": "pointwise", "rows": 4096, "width": 4096}])
    assert simulate(CATALOGUE.cluster("h100-sxm"), only).mfu == 0


@pytest.mark.parametrize("change", ["@500W", "@350W", "@1200MHz"])
@pytest.mark.parametrize(
    "job",
    [
        Training(batch=8, tokens=2048), Prefill(batch=4, tokens=2048), Inference(batch=4, prompt=2048, output=4),
        Serving(concurrency=4, prompt=512, output=16), MixedStep(prefill=2048),
    ],
    ids=lambda job: job.kind,
)  # fmt: skip
def test_a_power_cap_lowers_the_rate_and_the_mfu_alike(job, change):
    whole, capped = (simulate(CATALOGUE.cluster(name), job, LLAMA).row for name in ("h100-sxm", f"h100-sxm{change}"))
    assert capped["mfu"] < whole["mfu"]
    assert capped["mfu"] / whole["mfu"] == pytest.approx(
        capped["flop_per_s_per_gpu"] / whole["flop_per_s_per_gpu"], rel=1e-9
    )
    if job.kind == "training":
        assert capped["hfu"] / whole["hfu"] == pytest.approx(capped["mfu"] / whole["mfu"], rel=1e-9)


def test_a_peak_that_is_set_on_a_capped_gpu_is_a_peak_without_the_cap_too():
    from simgpu.overrides import Override

    capped = CATALOGUE.spec("gpus", "h100-sxm@500W")
    key = "peak.bf16-fp32-tensor"
    before = next(one for one in capped.peak if one.key == key.removeprefix("peak."))
    override = Override(f"gpu.{key}", f"{2 * before.si} SI", "--set")
    cluster = CATALOGUE.cluster("h100-sxm@500W", [override])
    after = next(one for one in cluster.gpu.peak if one.key == before.key)
    assert after.datasheet == pytest.approx(2 * before.datasheet) and before.datasheet == pytest.approx(989.4e12)


@pytest.mark.parametrize("name", ["h100-sxm@1g.10gb", "h100-sxm@500W@3g.40gb"])
def test_a_slice_is_a_part_with_the_peaks_of_its_multiprocessors(name):
    cluster, whole = CATALOGUE.cluster(name), CATALOGUE.cluster("h100-sxm")
    share = cluster.gpu.compute.sm_count.si / whole.gpu.compute.sm_count.si
    row = simulate(cluster, Inference(batch=1, prompt=2048, output=1), LLAMA).row
    assert row["flop_per_s_per_gpu"] / row["mfu"] == pytest.approx(peak(whole) * share, rel=1e-9)
    assert 0.2 < row["mfu"] <= 1


@pytest.mark.parametrize(
    "job",
    [
        Inference(batch=4, prompt=2048, output=33), Serving(concurrency=8, prompt=512, output=9),
        MixedStep(decodes=8, context=4096), MixedStep(prefill=2048),
    ],
    ids=["batch", "server", "decode", "prompt"],
)  # fmt: skip
def test_model_flops_are_the_same_however_a_step_is_split(job):
    cluster = CATALOGUE.cluster("dgx-h100")
    plans = [Plan(tp=2), Plan(pp=2), Plan(tp=4, pp=2)]
    if job.kind != "serving":
        plans += [Plan(cp=2), Plan(tp=2, cp=2)]
    alone = simulate(cluster, job, LLAMA).flop
    for plan in plans:
        assert simulate(cluster, job, LLAMA, plan).flop == pytest.approx(alone, rel=1e-4), (
            plan
        )  # each rank makes logits


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_mfu_is_no_more_than_hfu_and_hfu_than_one(data):
    name = data.draw(st.sampled_from(["h100-sxm", "rtx-4090", "b200-sxm@600W", "v100-sxm-32gb", "mi300x"]))
    cluster = CATALOGUE.cluster({"h100-sxm": "dgx-h100"}.get(name, name))
    tp, dp, pp = data.draw(st.sampled_from(TRAINED if name == "h100-sxm" else TRAINED[:1]))
    model = data.draw(st.sampled_from([LLAMA, MIXTRAL]))
    plan = Plan(
        tp=tp, dp=dp, pp=pp, micro_batch=1, recompute=data.draw(st.sampled_from(["none", "selective", "full"])),
        zero=data.draw(st.sampled_from([0, 3])) if pp == 1 else 0,
    )  # fmt: skip
    job = Training(batch=data.draw(st.sampled_from([4, 8])) * dp, tokens=data.draw(st.sampled_from([512, 4096])),
                   finetune=data.draw(st.sampled_from(["full", "lora"])))  # fmt: skip
    dtype = data.draw(st.sampled_from(["fp32", "tf32", "fp16", "bf16", "fp8"]))
    framework = data.draw(st.sampled_from(["megatron", "pytorch-eager", "pytorch-compiled"]))
    clocks = data.draw(st.sampled_from(["burst", "sustained"]))
    try:
        row = simulate(cluster, job, model, plan, dtype=dtype, framework=framework, clocks=clocks).row
    except InputError:
        return
    assert 0 < row["mfu"] <= row["hfu"] <= 1


def test_products_in_int8_sum_in_int32():
    """Whatever the activations sum in: at batch 1 between half the bytes of 16 bits and 16 bits, prompts faster."""
    cluster = CATALOGUE.cluster("h100-sxm")
    steps = {
        (name, prompt): simulate(
            cluster, MixedStep(prefill=prompt, decodes=1 - bool(prompt), precision=name), LLAMA
        ).step_s
        for name in ("bf16", "w8a16", "int8")
        for prompt in (0, 4096)
    }
    assert 0.9 * steps["w8a16", 0] < steps["int8", 0] < 0.9 * steps["bf16", 0]
    assert steps["int8", 4096] < 0.8 * steps["bf16", 4096]
    assert simulate(cluster, MixedStep(decodes=1, precision="int8"), MIXTRAL).step_s > 0
