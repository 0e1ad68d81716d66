"""Streaming kernels: laws that hold on every GPU, the shapes of the work, and errors against public measurements."""

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

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.lab.validation.sources import neusight_vector_fp32, vidur_ops
from simgpu.timing.constants import LaunchConstants, StreamConstants
from simgpu.timing.convolution import ConvolutionWork, convolution_gemm
from simgpu.timing.timer import GPUTimer
from simgpu.timing.vector import hits, stream_time
from simgpu.timing.vector_work import (
    ParameterBytes,
    embedding_work,
    normalization_work,
    optimizer_work,
    row_threads,
    softmax_work,
)

CATALOGUE = Catalogue()
GPUS = ["a100-sxm-80gb", "h100-sxm", "rtx-4090", "rtx-3090", "l4", "t4", "v100-sxm-32gb", "b200-sxm", "mi300x"]
MEASUREMENTS = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[3] / "shared" / "measurements"))


@cache
def timer(name: str) -> GPUTimer:
    spec = CATALOGUE.spec("gpus", name)
    return GPUTimer(spec, CATALOGUE.kernel_constants(spec))


def calls(t: GPUTimer, rows, cols):
    """Every operator on [rows, cols], with the bytes that it must move at least."""
    size = np.asarray(rows, float) * np.asarray(cols, float)
    return {
        "normalization": (t.vector.normalization(rows, cols), 4 * size),
        "layer norm": (t.vector.normalization(rows, cols, layer=True, library="torch"), 4 * size),
        "residual": (t.vector.normalization(rows, cols, residual=True), 8 * size),
        "unfused norm": (t.vector.normalization(rows, cols, fused=False, library="torch"), 4 * size),
        "softmax": (t.vector.softmax(rows, cols), 4 * size),
        "softmax fp32": (t.vector.softmax(rows, cols, dtype="fp32", library="torch"), 8 * size),
        "elementwise": (t.vector.elementwise(size, reads=2), 6 * size),
        "activation": (t.vector.activation(rows, cols), 6 * size),
        "unfused activation": (t.vector.activation(rows, cols, fused=False), 6 * size),
        "gelu": (t.vector.activation(rows, cols, gated=False, function="gelu"), 4 * size),
        "rope": (t.vector.rope(rows, np.maximum(np.asarray(cols) / 128, 1), 1, 128), 4 * size),
        "unfused rope": (t.vector.rope(rows, np.maximum(np.asarray(cols) / 128, 1), 1, 128, fused=False), 4 * size),
        "embedding": (t.vector.embedding(rows, cols), 4 * size),
        "quantise": (t.vector.quantise(rows, cols), 3 * size),
        "quantise groups": (t.vector.quantise(rows, cols, group=128), 3 * size),
        "sampling": (t.vector.sampling(rows, cols), 2 * size),
        "sorting": (t.vector.sampling(rows, cols, sort=True), 2 * size),
        "optimizer": (t.vector.optimizer(size), 4 * size),
        "reduction": (t.vector.reduction(rows, cols), 2 * size),
        "copy": (t.vector.memory_copy(size), 2 * size),
    }


@pytest.mark.parametrize("gpu", GPUS)
def test_never_faster_than_memory_when_larger_than_l2(gpu):
    t = timer(gpu)
    for name, (times, moved) in calls(t, 2.0**19, 8192.0).items():
        assert times.seconds > moved / t.device.bandwidth, name
        assert np.isfinite(times.seconds), name


@pytest.mark.parametrize("gpu", GPUS)
def test_positive_and_not_below_a_launch(gpu):
    t = timer(gpu)
    floor = t.constants.group("vector")["launch_overhead"]
    for name, (times, _) in calls(t, 1.0, 128.0).items():
        assert times.seconds >= floor * 0.7, name  # libraries timed to the microsecond have a lower one
        assert times.seconds < 1e-3, name


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("cols", [128.0, 4096.0, 32768.0])
def test_more_rows_never_take_less(gpu, cols):
    """Up to the documented step: more than 16 gathered rows go to another kernel."""
    rows = np.unique(np.round(2.0 ** np.arange(0, 20, 0.25)))
    for name, (times, _) in calls(timer(gpu), rows, cols).items():
        seconds = times.seconds[rows > 16] if name == "embedding" else times.seconds
        assert np.all(np.diff(seconds) >= -1e-15), name


@pytest.mark.parametrize("gpu", ["a100-sxm-80gb", "rtx-4090"])
def test_doubling_cols_never_takes_less(gpu):
    cols = 2.0 ** np.arange(7, 18)
    for name, (times, _) in calls(timer(gpu), 4096.0, cols).items():
        assert np.all(np.diff(times.seconds) >= -1e-15), name


@pytest.mark.parametrize("figure", ["bandwidth", "clock", "vector_peak", "l2_bytes"])
@given(
    rows=st.integers(1, 2**20),
    cols=st.integers(1, 2**16),
    gpu=st.sampled_from(GPUS),
    layer=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_half_of_a_figure_never_speeds_up(figure, rows, cols, gpu, layer):
    """SMs are not among them: with fewer rows in flight more of them stay in L2 between passes."""
    t = timer(gpu)
    launch, constants = (t.constants.read(kind, "torch") for kind in (LaunchConstants, StreamConstants))
    slower = replace(t.device, **{figure: getattr(t.device, figure) / 2})
    for work in (
        normalization_work(rows, cols, 2.0, layer=layer, residual=False, launch=launch),
        softmax_work(rows, cols, 4.0, 4.0, launch),
        embedding_work(rows, cols, 2.0, launch),
    ):
        whole, half = (stream_time(work, device, constants).seconds for device in (t.device, slower))
        assert half >= whole * (1 - 1e-12)


@pytest.mark.parametrize("gpu", GPUS)
def test_narrower_types_never_take_longer(gpu):
    t, rows, cols = timer(gpu), 2.0 ** np.arange(0, 18), 4096.0
    v = t.vector
    for method in (v.normalization, v.softmax, v.activation, v.embedding, v.reduction):
        wide, narrow = (method(rows, cols, dtype=dtype).seconds for dtype in ("fp32", "bf16"))
        assert np.all(narrow <= wide * 1.0001), method.__name__


def test_arrays_equal_scalars():
    t = timer("h100-sxm")
    rows, cols = np.array([1.0, 17.0, 300.0, 70000.0])[:, None], np.array([64.0, 4096.0, 50000.0])
    for name, (times, _) in calls(t, rows, cols).items():
        assert times.seconds.shape == (4, 3), name
        for i, j in ((0, 0), (2, 1), (3, 2)):
            one = calls(t, rows[i, 0], cols[j])[name][0]
            assert float(one.seconds) == pytest.approx(float(times.seconds[i, j]), rel=1e-12), name


def test_fusing_pays():
    t, rows = timer("a100-sxm-80gb"), 2.0 ** np.arange(0, 16)
    fused = t.vector.normalization(rows, 8192.0, library="torch").seconds
    assert np.all(t.vector.normalization(rows, 8192.0, fused=False, library="torch").seconds > 2 * fused)
    assert np.all(t.vector.activation(rows, 8192.0, fused=False).seconds > t.vector.activation(rows, 8192.0).seconds)
    assert np.all(t.vector.rope(rows, 64, 8, 128, fused=False).seconds > t.vector.rope(rows, 64, 8, 128).seconds)
    apart = t.vector.elementwise(rows * 8192.0, reads=2).seconds + t.vector.normalization(rows, 8192.0).seconds
    assert np.all(t.vector.normalization(rows, 8192.0, residual=True).seconds < apart)


def test_small_tensors_run_at_the_speed_of_l2():
    t = timer("h100-sxm")
    small, large = (t.vector.elementwise(size / 6, reads=2) for size in (16e6, 4e9))
    launch = t.constants.group("vector")["launch_overhead"]
    assert 16e6 / (small.seconds - launch) > 1.05 * 4e9 / large.seconds
    flushed = stream_rate(t, 16e6, warm=0.0)
    assert flushed < stream_rate(t, 16e6, warm=1.0)


def stream_rate(t: GPUTimer, size: float, warm: float) -> float:
    from simgpu.timing.copies import copy_work

    launch, constants = t.constants.read(LaunchConstants), t.constants.read(StreamConstants)
    times = stream_time(copy_work(size, launch), t.device, constants, warm)
    return size / float(times.seconds)


def test_rows_beyond_a_wave_cost_another():
    """One block of 1024 threads for each row: an A100 holds 216 of them (early vLLM, LayerNorm of 8192)."""
    t = timer("a100-sxm-80gb")
    one, full, over = t.vector.normalization([1, 216, 217], 8192, dtype="fp16", library="vllm-2023").seconds
    assert full < 1.35 * one
    assert over > 1.4 * full


def test_rows_of_a_softmax_that_outgrow_l2_are_read_again():
    t = timer("v100-sxm-32gb")
    size = 2.0**30
    short, medium, long = t.vector.softmax(
        size / np.array([1024, 2048, 16384]), [1024, 2048, 16384], "fp32", None, "torch"
    ).seconds
    assert short < medium < long
    assert long / short == pytest.approx(2.0, rel=0.15)  # 3 reads and 1 write, against 1 and 1


@pytest.mark.parametrize("gpu", GPUS)
def test_large_streams_fill_the_memory(gpu):
    """What PyTorch and BabelStream show on healthy GPUs: 70 to 95 % of the datasheet's bandwidth."""
    t = timer(gpu)
    assert 0.7 < 4e9 / t.device.bandwidth / float(t.vector.memory_copy(2e9).seconds) < 0.96


def test_gddr6_pays_for_ecc_and_gddr7_does_not():
    """Shares of the datasheet's bandwidth, of boards whose kernels are alike."""

    def share(name, operation):
        known = timer(name)
        moved, seconds = operation(known)
        return moved / float(seconds) / known.gpu.memory.bandwidth.si

    def copy(known):
        return 4e9, known.vector.memory_copy(2e9).seconds

    def product(known):
        return 2 * 65536 * 16384, known.matrix.gemm(1, 65536, 16384).seconds

    for operation in (copy, product):
        assert share("a40", operation) / share("rtx-3090", operation) == pytest.approx(0.895, rel=0.03)
        assert share("l40s", operation) / share("rtx-pro-6000-server", operation) == pytest.approx(0.895, rel=0.03)


def test_optimizer_moves_the_bytes_of_its_states():
    launch = timer("h100-sxm").constants.read(LaunchConstants)
    adam = optimizer_work(1000, "adam", ParameterBytes(weights=2, gradients=4, states=4, master=4), launch)
    assert (adam.read / 1000, adam.written / 1000) == (16, 14)
    sgd = optimizer_work(1000, "sgd", ParameterBytes(weights=4, gradients=4, states=4, master=0), launch)
    assert (sgd.read / 1000, sgd.written / 1000) == (8, 4)


def test_blocks_have_whole_warps():
    assert row_threads(np.array([0.1, 1, 33, 500, 5000]), 1024).tolist() == [32, 32, 64, 512, 1024]


@given(st.floats(0, 1e15), st.floats(1, 1e12), st.floats(0.5, 20))
def test_hits_are_a_fraction(footprint, capacity, sharpness):
    with np.errstate(over="ignore"):
        assert 0 <= hits(footprint, capacity, sharpness) <= 1


def test_host_copies():
    t = timer("h100-sxm")
    sizes = np.array([1.0, 1e6, 1e9])
    pinned = t.vector.host_copy(sizes, 63e9).seconds
    assert np.all(np.diff(pinned) > 0)
    assert pinned[2] == pytest.approx(1e9 / 55.4e9, rel=0.02)  # nvbandwidth of an H200 in ml-engineering
    assert np.all(t.vector.host_copy(sizes, 63e9, pinned=False).seconds[1:] > 1.5 * pinned[1:] - 10e-6)
    assert t.vector.host_copy(1e9, 63e9, host_bandwidth=20e9).seconds > 1e9 / 20e9


def test_convolution_is_a_matrix_product():
    shape = convolution_gemm(ConvolutionWork(32, 64, 56, 56, 128, stride=(2, 2), padding=(1, 1)))
    assert (shape.m, shape.n, shape.k) == (32 * 28 * 28, 128, 64 * 9)
    assert shape.fresh < 1
    point = convolution_gemm(ConvolutionWork(8, 256, 14, 14, 512, kernel=(1, 1)))
    assert point.fresh == pytest.approx(1.0)
    t = timer("a100-sxm-80gb")
    conv = t.matrix.convolution(ConvolutionWork(8, 256, 14, 14, 512, kernel=(1, 1))).seconds
    assert conv == pytest.approx(float(t.gemm(8 * 14 * 14, 512, 256).seconds), rel=1e-9)
    whole = t.matrix.convolution(ConvolutionWork(64, 256, 56, 56, 256, padding=(1, 1)))
    assert whole.seconds >= 2 * 64 * 56 * 56 * 256 * 256 * 9 / t.peak("bf16")
    groups = t.matrix.convolution(ConvolutionWork(8, 256, 14, 14, 256, np.array([1, 256]), padding=(1, 1)))
    assert groups.seconds.shape == (2,)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t.vector.softmax(1, 1, dtype="bf61"), "bf16"),
        (lambda t: t.vector.softmax(1, 1, library="troch"), "torch"),
        (lambda t: t.vector.elementwise(1, function="gleu"), "gelu"),
        (lambda t: t.vector.activation(1, 1, function="slu"), "silu"),
        (lambda t: t.vector.optimizer(1, kind="adm"), "adam"),
    ],
)
def test_unknown_words_are_refused_with_the_nearest(call, words):
    with pytest.raises(InputError, match=words):
        call(timer("a100-sxm-80gb"))


def rows_of(name: str) -> list[dict[str, str]]:
    file = MEASUREMENTS / name
    if not file.exists():
        pytest.skip("no measurements")
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("gpu", "median", "mean"),
    [
        ("a100-pcie-40gb", 0.03, 0.05),
        ("a100-pcie-80gb", 0.03, 0.05),
        ("v100-pcie-32gb", 0.03, 0.04),
        ("p4", 0.03, 0.04),
    ],
)
def test_errors_against_neusight(gpu, median, mean):
    rows = [row for row in rows_of("neusight_vector_fp32.csv") if row["gpu"] == gpu]
    errors = []
    for op in {row["op"] for row in rows}:
        of = [row for row in rows if row["op"] == op]
        call = neusight_vector_fp32.stream(op, *(np.array([float(row[key]) for row in of]) for key in ("rows", "cols")))
        operator = getattr(timer(gpu).vector, call.method)
        predicted = operator(**call.arguments, dtype=call.dtype, library=call.library).seconds
        errors.append(np.abs(predicted / [float(row["latency_s"]) for row in of] - 1))
        assert predicted.min() > 0
    errors = np.concatenate(errors)
    assert np.median(errors) < median
    assert errors.mean() < mean


@pytest.mark.parametrize(("gpu", "median", "mean"), [("a40", 0.13, 0.15), ("h100-sxm", 0.11, 0.15)])
def test_errors_against_vidur(gpu, median, mean):
    rows = [row for row in rows_of("vidur_ops.csv.gz") if row["gpu"] == gpu and row["kind"] != "gemm"]
    names = ("num_tokens", "hidden_size", "num_heads", "num_kv_heads", "ffn_size", "tp_size")
    errors = []
    for kind, model in {(row["kind"], row["model"]) for row in rows}:
        of = [row for row in rows if (row["kind"], row["model"]) == (kind, model)]
        call = vidur_ops.stream(kind, model, {name: np.array([float(row[name]) for row in of]) for name in names})
        operator = getattr(timer(gpu).vector, call.method)
        predicted = operator(**call.arguments, dtype=call.dtype, library=call.library).seconds
        ratio = predicted / [float(row["latency_s"]) for row in of]
        assert ratio.min() > 1 / 3
        assert ratio.max() < 3
        errors.append(np.abs(ratio - 1))
    errors = np.concatenate(errors)
    assert np.median(errors) < median
    assert errors.mean() < mean
