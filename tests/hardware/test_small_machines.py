"""Modules and desk machines: what was measured on them, held against what is predicted; a power limit in watts."""

import pytest

import simgpu
from simgpu import Catalogue
from simgpu.timing.timer import GPUTimer

CATALOGUE = Catalogue()

SERVED = [
    # NVIDIA TensorRT Edge-LLM 0.7.0, performance benchmarks: Qwen3 30B A3B in GPTQ int4 on a Jetson AGX Thor
    ("jetson-thor-t5000", "qwen3-30b-a3b", "int4", "trtllm", 1, 370, 81.3),
    ("jetson-thor-t5000", "qwen3-30b-a3b", "int4", "trtllm", 8, 370, 223.2),
    # forums.developer.nvidia.com topic 364663: Llama 3.1 8B in vLLM 0.15.1; 4 bits as NVIDIA's own tables have it
    ("jetson-thor-t5000", "llama-3.1-8b", "int4", "vllm", 1, 2048, 45),
    # OpenBMB/MiniCPM issue 331: 8B models in Q4_K_M in llama.cpp on a Jetson AGX Orin
    ("jetson-agx-orin-64gb", "qwen3-8b", "q4_k_m", "llama.cpp", 1, 16, 25),
]
"""Tokens/s of decoding that others measured; no constant was fitted to them."""


@pytest.mark.parametrize(("machine", "model", "precision", "runtime", "batch", "prompt", "measured"), SERVED)
def test_decoding_is_as_fast_as_others_measured(machine, model, precision, runtime, batch, prompt, measured):
    job = {"kind": "inference", "batch": batch, "prompt": prompt, "output": 128, "runtime": runtime}
    row = simgpu.simulate(machine, {**job, "precision": precision}, model).row
    assert batch / row["tpot_s"] == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize("name", ["jetson-agx-orin-64gb", "jetson-thor-t5000"])
def test_no_kernel_reads_faster_than_was_measured(name):
    """152.8 of 204.8 GB/s on Orin, 257 of 273 GB/s on a Thor (infinigence/ApxInf pull request 74)."""
    gpu = CATALOGUE.spec("gpus", name)
    timer = GPUTimer(gpu, CATALOGUE.kernel_constants(gpu))
    measured = {"jetson-agx-orin-64gb": 152.8e9, "jetson-thor-t5000": 257e9}[name]
    n = 16384
    seconds = float(timer.gemm(1, n, n, dtype="bf16", accumulate="fp32").seconds)
    assert 0.7 * measured < 2 * n * n / seconds <= 1.01 * measured


def test_products_on_orin_are_as_fast_as_was_measured():
    """33.4 to 34.1 TFLOPS in bf16 at 1300 MHz (infinigence/ApxInf pull request 74)."""
    gpu = CATALOGUE.spec("gpus", "jetson-agx-orin-64gb")
    timer = GPUTimer(gpu, CATALOGUE.kernel_constants(gpu))
    assert 2 * 4096**3 / float(timer.gemm(4096, 4096, 4096, dtype="bf16", accumulate="fp32").seconds) == pytest.approx(
        33.7e12, rel=0.05
    )


def test_a_limit_of_a_hundred_watts_leaves_out_what_draws_more():
    found = simgpu.recommend("small_machines")
    kept = [row for row in found.rows if "(kW)" not in row["why"]]
    assert 0 < len(kept) < len(found.rows)
    assert all(row["power_kw"] <= 0.1 for row in kept)
    assert all(row["power_kw"] > 0.1 for row in found.rows if row not in kept)
