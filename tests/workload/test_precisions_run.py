"""Every precision that a runtime lists runs on every GPU that has the units, or that a runtime converts weights for."""

import pytest
from sampling import sampled

import simgpu
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec
from simgpu.plan.precision import PRECISIONS, is_gguf
from simgpu.workload.runtime_files import runtime as runtime_named
from simgpu.workload.runtime_files import shipped

CATALOGUE = Catalogue()
MODELS = {True: CATALOGUE.model("phi-mini-moe"), False: CATALOGUE.model("llama-3.2-1b")}


def one_of_each_architecture() -> list[GPUSpec]:
    found: dict[str, GPUSpec] = {}
    for name in CATALOGUE.names("gpus"):
        gpu = CATALOGUE.spec("gpus", name)
        assert isinstance(gpu, GPUSpec)
        found.setdefault(gpu.architecture, gpu)
    return list(found.values())


def has_units(gpu: GPUSpec, dtype: str) -> bool:
    sums = "int32" if dtype == "int8" else "fp32"
    return any(peak.dtype == dtype and peak.accumulate == sums for peak in gpu.peak)


def step(gpu: str, precision: str, runtime: str) -> float:
    """Seconds of a short batch; narrow products run in a mixture of experts too."""
    job = simgpu.Inference(batch=1, prompt=64, output=2, precision=precision, runtime=runtime)
    model = MODELS[bool(PRECISIONS[precision].products)]
    return simgpu.simulate(CATALOGUE.cluster(gpu), job, model=model, dtype="fp16").step_s


@pytest.mark.parametrize("gpu", sampled(one_of_each_architecture(), 5), ids=lambda gpu: gpu.name)
def test_what_a_runtime_lists_runs_where_the_units_are(gpu):
    for name, stored in PRECISIONS.items():
        for run in (*(one for one in shipped().every() if one.default), runtime_named("llama.cpp@2024-05")):
            runtime = run.name
            precision = run.precision(stored)
            listed = {
                "gguf": is_gguf(precision) or not precision.weights,
                "weight-only": not precision.weights or name in ("int4", "w8a16"),
                "": not is_gguf(precision),
            }[run.precisions or ""]
            if name in ("tf32", "bf16", "fp32"):
                continue  # the type of the activations itself, which `dtype` says
            units = has_units(gpu, precision.products or "fp16") or (bool(precision.products) and run.converts)
            try:
                seconds = step(gpu.name, name, runtime)
            except InputError as refused:
                assert not (listed and units), (gpu.name, name, runtime, str(refused))
            else:
                assert listed and units and seconds > 0, (gpu.name, name, runtime)


@pytest.mark.parametrize("version", [one.name for one in shipped().versions("llama.cpp")])
def test_every_file_type_holds_experts_in_every_version(version):
    """Mixed types store the matrices of an expert differently."""
    times = {}
    for name, stored in PRECISIONS.items():
        if is_gguf(runtime_named(version).precision(stored)):
            job = simgpu.Inference(batch=1, prompt=64, output=2, precision=name, runtime=version)
            times[name] = simgpu.simulate(CATALOGUE.cluster("h100-sxm"), job, MODELS[True], dtype="fp16").tpot_s
    assert len(times) >= 7 and times["q2_k"] < times["q4_k_m"] < times["q8_0"]


def test_int8_lies_between_its_neighbours():
    """W8A8 moves the weights of W8A16 and quantises activations too; its products are twice as fast as in bf16."""
    for gpu in ("h100-sxm", "a100-sxm-80gb", "l4"):
        cluster, model = CATALOGUE.cluster(gpu), CATALOGUE.model("llama-3.1-8b")

        def times(precision, cluster=cluster, model=model):
            job = simgpu.Inference(batch=1, prompt=2048, output=8, precision=precision)
            found = simgpu.simulate(cluster, job, model)
            return found.ttft_s, found.tpot_s

        wide, weights, both = times("bf16"), times("w8a16"), times("int8")
        assert weights[1] < both[1] < wide[1], gpu
        assert 0.5 * wide[0] < both[0] < 0.9 * wide[0], gpu
