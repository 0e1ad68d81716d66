"""Attention: bounds, monotony, limits, names of libraries, and agreement with measurements where they are at hand."""

import csv
import gzip
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue
from simgpu.errors import InputError
from simgpu.timing.attention import BACKWARD_FLOPS, prefill_time
from simgpu.timing.attention_decode import decode_time
from simgpu.timing.attention_libraries import BEST, LIBRARIES, default_library, library_of
from simgpu.timing.attention_work import AttentionWork, LatentWork, MixedWork
from simgpu.timing.constants import DecodeConstants, PrefillConstants
from simgpu.timing.timer import GPUTimer

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[3] / "shared/measurements"))
GPUS = ("h100-sxm", "a100-sxm-80gb", "l40s", "b200-sxm", "rtx-4090", "mi300x")
L2_RULE = 3.0  # operands of more than this many L2 sizes come from DRAM, all but a millionth


@cache
def timer(gpu: str) -> GPUTimer:
    catalogue = Catalogue()
    spec = catalogue.spec("gpus", gpu)
    return GPUTimer(spec, catalogue.kernel_constants(spec))


shapes = st.tuples(
    st.integers(1, 64),  # batch
    st.integers(1, 8192),  # queries
    st.integers(0, 8192),  # cached
    st.sampled_from([(8, 8), (32, 8), (40, 40), (64, 8), (16, 1)]),
    st.sampled_from([64, 96, 128, 192, 256]),
    st.sampled_from(GPUS),
)


@settings(max_examples=80, deadline=None)
@given(shapes)
def test_never_faster_than_the_peak(shape):
    """Causal work 2 (d + dv) per visible pair, at the datasheet peak."""
    batch, q, past, (heads, kv), d, gpu = shape
    seconds = timer(gpu).attention.prefill(AttentionWork(batch, q, q + past, heads, kv, d)).seconds
    pairs = batch * heads * (q * past + q * (q + 1) / 2)
    clock = timer(gpu).matrix.libraries.of().clock
    assert seconds >= pairs * 4 * d / timer(gpu).peak("bf16") / max(1, clock.clock_fraction)


@settings(max_examples=80, deadline=None)
@given(shapes)
def test_never_faster_than_memory(shape):
    """What cannot stay in L2 is read at the datasheet bandwidth at most; cold operands always."""
    batch, q, past, (heads, kv), d, gpu = shape
    t = timer(gpu)
    cache_bytes = batch * (q + past) * kv * 2 * d * 2
    bandwidth, l2 = t.device.bandwidth, t.device.l2_bytes
    prefill = t.attention.prefill(AttentionWork(batch, q, q + past, heads, kv, d), warm=False).seconds
    assert prefill >= (cache_bytes + batch * q * heads * 4 * d) / bandwidth
    assert (
        t.attention.decode(AttentionWork(batch, 1, q + past, heads, kv, d), warm=False).seconds
        >= cache_bytes / bandwidth
    )
    if cache_bytes > L2_RULE * l2:
        assert t.attention.decode(AttentionWork(batch, 1, q + past, heads, kv, d)).seconds >= cache_bytes / bandwidth


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("library", ["default", *LIBRARIES])
def test_prefill_is_monotone(gpu, library):
    t = timer(gpu)

    def rises(**axis):
        base = {"batch": 3, "queries": 700, "keys": 3000, "heads": 32, "kv_heads": 8, "head_dim": 128}
        seconds = t.attention.prefill(AttentionWork(**{**base, **axis}), library=library).seconds
        assert np.all(np.diff(seconds) >= -1e-3 * seconds[1:]), axis

    rises(batch=np.arange(1, 100))
    rises(keys=np.arange(700, 9000, 37))
    rises(heads=np.arange(8, 257, 8))
    grown = np.arange(16, 4000, 64)
    rises(queries=grown, keys=grown)


@pytest.mark.parametrize("gpu", GPUS)
def test_decode_is_monotone(gpu):
    """With the best number of splits. FlashAttention's plan of splits is not: see `_planned`."""
    t = timer(gpu)

    def rises(**axis):
        base = {"batch": 8, "queries": 1, "keys": 3000, "heads": 32, "kv_heads": 8, "head_dim": 128}
        seconds = t.attention.decode(AttentionWork(**{**base, **axis}), library="trtllm-mha").seconds
        assert np.all(np.diff(seconds) >= -1e-3 * seconds[1:]), axis

    rises(keys=np.arange(1, 9000, 37))
    rises(queries=np.arange(1, 17))
    rises(heads=np.arange(8, 257, 8))
    bytes_of_batches = np.arange(1, 300)
    rises(batch=bytes_of_batches[bytes_of_batches * 8 >= 132])


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(1, 9000))
def test_windows_never_slow_down(shape, window):
    batch, q, past, (heads, kv), d, gpu = shape
    t = timer(gpu)
    for call in (
        lambda w: t.attention.prefill(AttentionWork(batch, q, q + past, heads, kv, d, window=w)),
        lambda w: t.attention.decode(AttentionWork(batch, 1, q + past, heads, kv, d, window=w), library="trtllm-mha"),
    ):
        assert call(window).seconds <= call(0).seconds * (1 + 1e-9)
        assert call(q + past).seconds == pytest.approx(call(0).seconds)


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_shared_heads_are_never_slower(shape):
    """MQA <= GQA <= MHA, where a tile is full: a few queries fill a tile of 64 rows or, shared, one of 128."""
    batch, q, past, _, d, gpu = shape
    t, kv = timer(gpu), np.asarray([1, 2, 4, 8, 16, 32])
    q = max(q, 128)
    prefill = t.attention.prefill(AttentionWork(batch, q, q + past, 32, kv, d)).seconds
    decode = t.attention.decode(AttentionWork(batch, 1, q + past, 32, kv, d), library="trtllm-mha").seconds
    for seconds in (prefill, decode):
        assert np.all(seconds[:-1] <= seconds[1:] * 1.01)


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_half_a_peak_never_speeds_up(shape):
    batch, q, past, (heads, kv), d, gpu = shape
    t, work = timer(gpu), AttentionWork(batch, q, q + past, heads, kv, d, d)
    operands, library = t.attention.operands("bf16"), t.attention.library()
    slower, clock = replace(operands, peak=operands.peak / 2), t.matrix.libraries.of().clock
    for call, kind, some in (
        (prefill_time, PrefillConstants, work),
        (decode_time, DecodeConstants, work._replace(queries=1)),
    ):
        half, whole = (
            call(some, one, t.device, t.constants.read(kind, library), clock).seconds for one in (slower, operands)
        )
        assert half >= whole


def test_arrays_equal_single_calls():
    t, rng = timer("h100-sxm"), np.random.default_rng(1)
    batch, q, k = rng.integers(1, 64, 50), rng.integers(1, 4000, 50), rng.integers(4000, 9000, 50)
    many = t.attention.prefill(AttentionWork(batch, q, k, 32, 8, 128))
    decode = t.attention.decode(AttentionWork(batch, 1, k, 32, 8, 128))
    for i in range(50):
        one = t.attention.prefill(AttentionWork(batch[i], q[i], k[i], 32, 8, 128))
        assert [float(x) for x in one] == pytest.approx([x[i] for x in many])
        assert t.attention.decode(AttentionWork(batch[i], 1, k[i], 32, 8, 128)).seconds == pytest.approx(
            decode.seconds[i]
        )
    grid = t.attention.prefill(AttentionWork(batch[:, None], q[None, :5], 9000, 32, 8, 128))
    assert grid.seconds.shape == (50, 5)


def test_chunks_cost_little_more_than_one_prefill():
    """A prompt in chunks of 2048: the same causal work, besides what each chunk costs to start."""
    t = timer("h100-sxm")
    ends = np.arange(2048, 32769, 2048)
    chunks = t.attention.prefill(AttentionWork(1, 2048, ends, 32, 8, 128), sustained=True).seconds
    whole = t.attention.prefill(AttentionWork(1, 32768, 32768, 32, 8, 128), sustained=True).seconds
    assert whole < chunks.sum() < 1.35 * whole


def test_causal_is_half_of_full():
    t = timer("a100-sxm-80gb")
    causal, full = (
        t.attention.prefill(AttentionWork(4, 16384, 16384, 32, 8, 128), causal=c).seconds for c in (True, False)
    )
    assert full / causal == pytest.approx(2, rel=0.06)


def test_backward_is_slower_than_its_flops_say():
    t = timer("h100-sxm")
    forward = t.attention.prefill(AttentionWork(4, 8192, 8192, 32, 32, 128)).seconds
    backward = t.attention.backward(AttentionWork(4, 8192, 8192, 32, 32, 128)).seconds
    assert BACKWARD_FLOPS < backward / forward < 1.4 * BACKWARD_FLOPS


def test_latent_attention():
    t = timer("h100-sxm")
    few, many = (t.attention.latent_decode(LatentWork(64, 1, 8192, heads)) for heads in (16, 128))
    assert few.seconds >= 64 * 8192 * 576 * 2 / t.device.bandwidth  # one cache for all heads, keys only
    assert few.seconds <= many.seconds
    assert many.seconds >= 64 * 8192 * 128 * 2 * (576 + 512) / t.peak("bf16")
    expanded = t.attention.latent_prefill(LatentWork(1, 4096, 4096, 128)).seconds
    assert expanded == t.attention.prefill(AttentionWork(1, 4096, 4096, 128, 128, 192, 128)).seconds


def test_mixed_batches():
    t = timer("rtx-4090")
    prefill = t.attention.mixed(MixedWork(512, 2048, 0, 0, 32, 8, 128)).seconds
    assert prefill == t.attention.prefill(AttentionWork(1, 512, 2048, 32, 8, 128)).seconds
    decode = t.attention.mixed(MixedWork(0, 0, 32, 1024, 32, 8, 128)).seconds
    assert decode == t.attention.decode(AttentionWork(32, 1, 1024, 32, 8, 128)).seconds
    assert t.attention.mixed(MixedWork(512, 2048, 32, 1024, 32, 8, 128)).seconds > prefill


def test_narrow_caches():
    t = timer("h100-sxm")
    wide, narrow = (
        t.attention.decode(AttentionWork(64, 1, 16384, 32, 8, 128), kv_dtype=kind).seconds for kind in ("bf16", "fp8")
    )
    assert wide / 2 < narrow < wide
    with pytest.raises(InputError, match="no fp8 peak"):
        timer("a100-sxm-80gb").attention.prefill(AttentionWork(1, 512, 512, 32, 8, 128), dtype="fp8")


def test_a_sustained_run_is_slower():
    t = timer("l40s")
    burst, run = (
        t.attention.prefill(AttentionWork(1, 2048, 2048, 32, 8, 128), sustained=s).seconds for s in (False, True)
    )
    assert burst < run


def test_names_of_libraries():
    assert library_of("sglang", "flash_attention", "ampere") == "fa3-sm80"
    assert library_of("sglang", "fa3", "hopper") == "fa3"
    assert library_of("sglang", "trtllm_mha", "blackwell") == "trtllm-mha"
    assert library_of("vllm", "", "ada") == "fa2"
    assert library_of("vllm", "", "hopper") == "fa3"
    assert library_of("somebody", "own_kernel", "hopper") is None
    assert set(BEST.values()) <= set(LIBRARIES)
    assert default_library("cdna3") == "default"
    assert set(timer("mi300x").constants.libraries("attention")) == {"default", *LIBRARIES}


GOALS = {  # median and mean absolute error, %, as measured when this was written, rounded up
    ("context", "a100-sxm-80gb", "flash_attention"): (3, 5),
    ("context", "h100-sxm", "fa3"): (7, 9),
    ("context", "l40s", "flashinfer"): (7, 9),
    ("generation", "a100-sxm-80gb", "flash_attention"): (4.5, 6.5),
    ("generation", "h100-sxm", "fa3"): (5.5, 8),
    ("generation", "l40s", "flashinfer"): (7, 14),
}


@pytest.mark.skipif(not (FOLDER / "aic_context_attention.csv.gz").is_file(), reason=f"no measurements in {FOLDER}")
@pytest.mark.parametrize(("kind", "gpu", "kernel"), GOALS)
def test_measurements(kind, gpu, kernel):
    """Full attention of heads of 128 and 256 in bf16; prefills of 50 us and more."""
    with gzip.open(FOLDER / f"aic_{kind}_attention.csv.gz", "rt") as lines:
        rows = [
            row
            for row in csv.DictReader(lines)
            if (row["gpu"], row["kernel_source"], row["kv_cache_dtype"]) == (gpu, kernel, "bfloat16")
            and row["head_dim"] in ("128", "256")
            and row["window_size"] == "0"
            and (kind == "generation" or float(row["latency_s"]) >= 50e-6)
        ]
    names = ("batch_size", "q_len", "past_kv_len", "num_heads", "num_kv_heads", "head_dim", "latency_s")
    b, q, past, h, kv, d, measured = (np.asarray([float(row[name]) for row in rows]) for name in names)
    t = timer(gpu)
    library = library_of("sglang", kernel, t.constants.architecture)
    if kind == "context":
        predicted = t.attention.prefill(AttentionWork(b, q, q + past, h, kv, d), library=library).seconds
    else:
        predicted = t.attention.decode(AttentionWork(b, 1, past + 1, h, kv, d), library=library).seconds
    error = 100 * np.abs(predicted / measured - 1)
    assert len(rows) > 500
    assert (np.median(error), np.mean(error)) <= GOALS[kind, gpu, kernel]
    assert np.mean(error) <= GOALS[kind, gpu, kernel][1]
