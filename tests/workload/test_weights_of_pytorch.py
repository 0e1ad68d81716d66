"""Weights in 8 and 4 bits in transformers and under torch.compile."""

import pytest

import simgpu

GPU = "a100-sxm-80gb"


def tpot(runtime: str, precision: str) -> float:
    """Seconds between tokens of one short sequence."""
    job = simgpu.Inference(batch=1, prompt=64, output=8, runtime=runtime, precision=precision)
    return simgpu.simulate(GPU, job, "qwen2.5-7b").tpot_s


def test_where_the_host_launches_kernels_narrow_weights_save_nothing():
    plain, eight, four = (tpot("eager", one) for one in ("bf16", "w8a16", "int4"))
    kernels = (eight - plain) / 31e-6  # one more for queries, for keys and values, out, gate and up, down
    assert kernels == pytest.approx(28 * 5)
    assert four == pytest.approx(plain)


def test_in_a_graph_narrow_weights_save_what_is_not_read():
    plain, eight, four = (tpot("compiled", one) for one in ("bf16", "w8a16", "int4"))
    assert 1.5 < plain / eight < 2 < plain / four < 4


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
@pytest.mark.parametrize("precision", ["fp8", "int8", "mxfp4", "q4_k_m"])
def test_others_are_refused_in_one_line(runtime, precision):
    expected = "GGUF type" if precision == "q4_k_m" else f"not in {runtime}; expected one of"
    with pytest.raises(simgpu.InputError, match=expected):
        tpot(runtime, precision)


def test_a_long_cache_is_copied_by_strided_kernels():
    """Repeating heads takes longer than joining the cache, though it moves as many bytes a head, on any GPU."""
    timer = simgpu.load_timer(GPU)
    near, apart = (timer.vector.elementwise(2**28, 0.2, 1.0, strided=one).seconds for one in (False, True))
    assert 1.5 < apart / near < 5
