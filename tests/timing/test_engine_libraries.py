"""Libraries of products and experts by engine: what files name has constants, and what quantises costs what it does."""

from dataclasses import replace

import numpy as np
import pytest

import simgpu
from simgpu import Catalogue
from simgpu.model.operators import Dim, Matmul
from simgpu.plan.precision import PRECISIONS
from simgpu.timing.expert_libraries import LIBRARIES as EXPERTS
from simgpu.timing.expert_libraries import library_of
from simgpu.timing.gemm_libraries import ENGINES
from simgpu.timing.kernels import AFTER_ATTENTION, QUANTISED, KernelModel, quantised_by
from simgpu.timing.quantise import CAST, NONE, SCALED
from simgpu.workload.runtime_files import runtime, shipped

CATALOGUE = Catalogue()
MEASURED = {"hopper": "h100-sxm", "ada": "l40s", "blackwell": "b200-sxm", "ampere": "a100-sxm-80gb"}


@pytest.mark.parametrize("run", list(shipped().every()), ids=lambda run: f"{run.engine}-{run.since}")
def test_experts_that_a_file_names_have_constants_on_the_architecture_it_names(run):
    for architectures, precision, library in run.experts:
        assert precision in PRECISIONS
        assert set(architectures.split()) <= set(CATALOGUE.names("architectures"))
        for name in set(architectures.split()) & set(MEASURED):
            known = CATALOGUE.kernel_constants(CATALOGUE.spec("gpus", MEASURED[name]))
            assert library in known.libraries("moe"), (name, library)


@pytest.mark.parametrize("name", ["h100-sxm", "l40s", "b200-sxm", "mi300x", "rtx-4090"])
@pytest.mark.parametrize("library", [name for name in ENGINES if not name.startswith(("nvfp4", "weight-only"))])
def test_what_quantises_costs_no_less_than_a_cast_and_a_cast_no_less_than_nothing(name, library):
    m, k = np.asarray([[1.0], [64.0], [8192.0]]), np.asarray([128.0, 4096.0, 65536.0])
    matrix = simgpu.load_timer(name).matrix
    none, cast, scaled = (
        matrix.gemm(m, 4096, k, dtype="fp8", library=library, quantise=how).seconds for how in (NONE, CAST, SCALED)
    )
    assert (none < cast).all() and (cast <= scaled * 1.0001).all()
    assert (np.diff(scaled, axis=0) >= 0).all() and (np.diff(matrix.quantise(m, k, library).seconds, axis=1) >= 0).all()


def test_which_products_are_quantised_apart():
    assert [quantised_by(one, "ffn_up") for one in QUANTISED] == [SCALED, CAST, NONE, NONE]
    assert [quantised_by(one, AFTER_ATTENTION) for one in QUANTISED] == [SCALED, CAST, SCALED, NONE]
    product = Matmul(AFTER_ATTENTION, Dim(64), (Dim(8192),), Dim(8192), "fp8")
    cluster = CATALOGUE.cluster("dgx-h100")
    times = [KernelModel(cluster, quantised=one).time(product).seconds for one in ("none", "attention", "all")]
    assert times[0] < times[1] == times[2]


def test_an_engine_multiplies_in_its_own_library_and_others_gpus_in_theirs():
    fp8, h100, amd = PRECISIONS["fp8"], CATALOGUE.spec("gpus", "h100-sxm"), CATALOGUE.spec("gpus", "mi300x")
    found = {run: runtime(run).products_of(fp8, h100) for run in ("vllm", "trtllm", "sglang", "trtllm@1.0")}
    assert found == {"vllm": "fp8-cutlass", "trtllm": "fp8-trtllm", "sglang": "", "trtllm@1.0": ""}
    assert runtime("vllm").products_of(fp8, amd) == "" == runtime("vllm").experts_of(fp8, amd, "bf16")
    assert runtime("vllm").experts_of(PRECISIONS["bf16"], h100, "bf16") == "triton"
    assert runtime("vllm").experts_of(replace(fp8, converted=True), h100, "bf16") == ""


def test_kernels_of_tables_are_known_by_their_names():
    assert library_of("vllm", "vllm_fp8moe_flashinfer_trtllm_trtllmfp8expertsmonolithic", "fp8") == "trtllm-gen-fp8"
    assert library_of("trtllm", "moe_torch_flow_cutlass", "bfloat16") == "default"
    assert library_of("vllm", "vllm_gptossmxfp4moe_triton_oaitritonmxfp4", "w4a16_mxfp4") == "oai-triton-mxfp4"
    assert library_of("vllm", "of_another_kind", "bfloat16") is None
    assert library_of("sglang", "sglang_marlin_moe", "int4_wo") in EXPERTS


def test_rows_of_other_ranks_cost_where_a_library_keeps_them():
    timer = simgpu.load_timer("h100-sxm").experts
    shape = {"hidden": 4096, "inner": 1536, "topk": 8, "experts": 128, "distribution": "balanced"}
    work = simgpu.timing.expert_timer.ExpertLayerWork(tokens=8192, ep=np.asarray([1, 2, 4]), **shape)
    kept, dropped = (timer.layer(work, library=name).seconds for name in ("triton", "default"))
    assert (kept[1:] / kept[0] > dropped[1:] / dropped[0]).all()
