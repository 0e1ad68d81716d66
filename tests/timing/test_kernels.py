"""Kernel times: never better than the datasheet, never worse for less work, and given times taken as they are."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simgpu
from simgpu.catalog import Catalogue
from simgpu.hardware.inherit import REGIMES
from simgpu.model.operators import Attention, Dim, Embedding, Matmul, Pointwise
from simgpu.timing.kernels import NONE, KernelModel
from simgpu.timing.uncertainty import class_of, spread

repeatable = settings(derandomize=True, deadline=None, max_examples=200)

CATALOGUE = simgpu.Catalogue()
NODES = CATALOGUE.names("nodes")


@cache
def model(name):
    return KernelModel(CATALOGUE.cluster(name))


def matmul(m, n, k, dtype="fp16", **more):
    return Matmul("mm", Dim(m, 1, "rows"), (Dim(n, 1, "columns"),), Dim(k, 1, "inner"), dtype, **more)


# ---- on the GPUs of the catalogue --------------------------------------------------------------------------


@repeatable
@given(
    st.sampled_from(NODES),
    st.integers(1, 16384),
    st.integers(1, 16384),
    st.integers(1, 16384),
    st.integers(1, 8),
    st.sampled_from(["fp16", "bf16", "fp32"]),
)
def test_a_matmul_never_beats_the_datasheet_of_its_gpu(name, m, n, k, batch, dtype):
    kernels = model(name)
    if dtype == "bf16" and not kernels.timer.device.engine("bf16"):
        dtype = "fp16"  # before Ampere
    time = kernels.time(matmul(m, n, k, dtype, batch=batch))
    element = 4 if dtype == "fp32" else 2
    assert time.seconds >= 2 * batch * m * n * k / kernels.peak(dtype)
    assert time.seconds >= element * batch * (m * k + k * n + m * n) / kernels.gpu.memory.bandwidth.si
    assert time.seconds >= kernels.timer.matrix.libraries.values()["launch_overhead"]


@repeatable
@given(st.sampled_from(NODES), st.integers(1, 8192), st.integers(1, 8192), st.integers(1, 8192), st.integers(1, 4))
def test_a_larger_matmul_never_takes_less_time(name, m, n, k, times):
    time = model(name).time(matmul(m, n, k)).seconds
    for larger in (
        matmul(m * times, n, k),
        matmul(m, n * times, k),
        matmul(m, n, k * times),
        matmul(m, n, k, batch=times),
    ):
        assert time <= model(name).time(larger).seconds


@repeatable
@given(st.sampled_from(NODES), st.integers(1, 2**20), st.integers(1, 16384), st.integers(1, 4), st.integers(1, 4))
def test_memory_bound_operators_never_beat_the_memory_once_they_outgrow_l2(name, rows, width, reads, writes):
    """What fits, the kernel before may have left there."""
    kernels = model(name)
    pointwise = Pointwise("p", "elementwise", Dim(rows), (Dim(width),), "fp16", reads, writes)
    lookup = Embedding("e", Dim(rows), Dim(32000), width, "fp16")
    bandwidth = kernels.gpu.memory.bandwidth.si
    for op in (pointwise, lookup):
        if op.bytes > 30 * kernels.gpu.memory.l2_cache.si:
            assert kernels.time(op).seconds >= op.bytes / bandwidth
        assert kernels.time(op).seconds >= op.bytes / bandwidth / 8


@repeatable
@given(st.sampled_from(NODES), st.integers(1, 4), st.integers(1, 4096), st.integers(1, 64), st.booleans())
def test_attention_never_beats_the_datasheet(name, batch, tokens, heads, causal):
    kernels = model(name)
    op = Attention("a", Dim(batch), tokens, tokens, Dim(heads), Dim(heads), 128, "fp16", causal)
    seen = tokens * (tokens + 1) // 2 if causal else tokens * tokens
    assert kernels.time(op).seconds >= 4 * 128 * seen * batch * heads / kernels.peak("fp16")
    assert kernels.time(op).seconds >= 2 * 4 * tokens * 128 * batch * heads / kernels.gpu.memory.bandwidth.si


@pytest.mark.parametrize("name", NODES)
def test_bounds_are_what_they_should_be(name):
    kernels = model(name)
    bounds = [kernels.time(op).bound for op in (matmul(8192, 8192, 8192), matmul(1, 8192, 8192), matmul(8, 8, 8))]
    if kernels.timer.device.engine("fp16") == "vector":  # tiles of shader products are as high for one row as for many
        assert bounds[::2] == ["compute", "latency"]
        return
    assert bounds == ["compute", "memory", "latency"]
    large, thin = (kernels.time(matmul(m, 16384, 16384)) for m in (16384, 1))
    assert 0.1 < large.sol_s / large.seconds <= 1
    assert 0.6 < thin.sol_s / thin.seconds <= 1


OPERATORS = [
    (matmul(128, 4096, 4096), "gemm", "default"),
    (matmul(128, 4096, 4096, "fp8"), "gemm", "fp8-scaled-mm"),
    (matmul(128, 4096, 4096, "fp32"), "gemm", "simt"),
    (Attention("a", Dim(2), 512, 512, Dim(32), Dim(8), 128, "bf16"), "attention_prefill", "fa3"),
    (Attention("a", Dim(2), 1, 512, Dim(32), Dim(8), 128, "bf16"), "attention_decode", "fa3"),
    (Attention("a", Dim(2), 512, 512, Dim(32), Dim(8), 128, "bf16", passes=2.5), "attention_prefill", "fa3"),
    (Embedding("e", Dim(512), Dim(32000), 4096, "bf16"), "embedding", "default"),
    (Pointwise("n", "normalization", Dim(512), (Dim(4096),), "bf16"), "normalization", "default"),
    (Pointwise("s", "softmax", Dim(512), (Dim(4096),), "bf16"), "softmax", "default"),
    (Pointwise("r", "rope", Dim(512), (Dim(4096),), "bf16"), "rope", "default"),
    (Pointwise("g", "activation", Dim(512), (Dim(4096),), "bf16", 2, 1), "activation", "default"),
    (Pointwise("d", "elementwise", Dim(512), (Dim(4096),), "bf16", 2, 1), "elementwise", "default"),
]


@pytest.mark.parametrize(("op", "operator", "library"), OPERATORS)
def test_every_operator_has_a_model_an_interval_and_constants_with_sources(op, operator, library):
    kernels = model("dgx-h100")
    time = kernels.time(op)
    assert (time.operator, time.library) == (operator, library)
    assert time.regime in REGIMES
    assert 0 < time.uncertainty.low <= 1 <= time.uncertainty.high < 10
    assert time.uncertainty.high > time.uncertainty.low
    assert 0 <= time.uncertainty.correlated <= 1
    assert time.uncertainty.group == class_of(operator)
    used = kernels.used(time)
    assert {"memory_fraction"} <= set(used)
    assert all(one.level in ("h100-sxm", "hopper", "generic") and len(one.source) > 10 for one in used.values())


def test_attention_shares_the_clocks_of_matrix_multiplication():
    kernels = model("dgx-h100")
    used = kernels.used(kernels.time(Attention("a", Dim(2), 512, 512, Dim(32), Dim(8), 128, "bf16")))
    assert used["energy_per_flop"].level == "h100-sxm"
    assert used["energy_per_flop"].figure.si == kernels.constants.group("gemm")["energy_per_flop"]


def test_a_gpu_that_nobody_measured_is_less_sure():
    own, family = (model(name).time(matmul(4096, 4096, 4096)) for name in ("dgx-h100", "dgx-b200"))
    assert (own.regime, family.regime) == ("calibrated", "inherited")
    found = [spread("gemm", own.seconds, architecture="hopper", regime=regime) for regime in REGIMES]
    widths = [float(one.high - one.low) for one in found]  # of one architecture: each has errors of its own
    assert widths[0] < widths[1] < widths[2]


def test_steps_are_sustained_unless_a_burst_is_asked_for():
    cluster = CATALOGUE.cluster("dgx-h100")
    sustained, burst = (KernelModel(cluster, how).time(matmul(4096, 4096, 4096)) for how in (True, False))
    assert sustained.seconds > 1.05 * burst.seconds
    assert KernelModel(cluster).time(matmul(4096, 4096, 4096)) is sustained


def test_collectives_have_intervals_too():
    uncertainty = model("dgx-h100").collective_uncertainty("all_reduce", 1e-4)
    assert uncertainty.group == "collective"
    assert uncertainty.low <= 1 <= uncertainty.high


def test_equal_operators_take_equal_times_and_different_ones_are_not_mixed_up():
    kernels = KernelModel(CATALOGUE.cluster("dgx-h100"))
    first = kernels.time(matmul(4096, 4096, 4096))
    assert kernels.time(matmul(4096, 4096, 4096)) is first, "timed once"
    assert KernelModel(Catalogue().cluster("dgx-h100")).time(matmul(4096, 4096, 4096)) is first, "in a process"
    others = {
        "gpu__memory__bandwidth": "0.2 TB/s", "gpu__peak__fp16-fp32-tensor": "500 TFLOPS", "gpu__compute__sm_count": 66,
        "gpu__kernel__gemm__default__compute_fraction": 0.5, "gpu__kernel__gemm__default__throttle": 0.5,
    }  # fmt: skip
    for key, value in others.items():
        changed = KernelModel(simgpu.load_cluster("dgx-h100", CATALOGUE, **{key: value}))
        assert changed.time(matmul(4096, 4096, 4096)).seconds > first.seconds, key
    assert kernels.time(matmul(4096, 4096, 4096, "bf16")) == first
    assert kernels.time(matmul(4096, 4096, 4096, "fp8")).seconds < first.seconds
    assert kernels.time(matmul(4096, 4096, 4096, "fp32")).seconds > first.seconds
    assert kernels.time(matmul(4096, 4096, 4096, batch=2)).seconds > first.seconds


# ---- dtypes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype", "has"),
    [
        ("dgx-a100", "fp8", ["bf16 (fp32)", "fp16 (fp32)", "int8 (int32)"]),
        ("dgx-h100", "fp4", ["bf16 (fp32)", "fp8 (fp32)"]),
        ("l4-pcie-2x", "fp4", ["fp8 (fp32)"]),
    ],
)
def test_a_dtype_the_gpu_lacks_is_refused_with_those_it_has(name, dtype, has):
    kernels = model(name)
    for ask in (lambda: kernels.peak(dtype), lambda: kernels.time(matmul(64, 64, 64, dtype))):
        with pytest.raises(simgpu.InputError, match=f"'{kernels.gpu.name}' has no {dtype} peak") as error:
            ask()
        assert all(known in str(error.value) for known in has)
        assert error.value.key == "dtype"


def test_an_accumulation_the_gpu_lacks_is_refused():
    with pytest.raises(simgpu.InputError, match=r"no bf16 peak with fp16 accumulation; it has .*bf16 \(fp32\)"):
        model("dgx-h100").peak("bf16", "fp16")


@pytest.mark.parametrize("dtype", ["fp4", "fp8"])
def test_simulate_refuses_a_dtype_the_gpu_lacks_even_where_nothing_would_use_it(dtype):
    operators = simgpu.OperatorList(operators=[{"op": "pointwise", "rows": 64, "width": 64}])
    with pytest.raises(simgpu.InputError, match=f"has no {dtype} peak"):
        simgpu.simulate(CATALOGUE.cluster("dgx-a100"), operators, dtype=dtype)


def test_tensor_cores_come_before_vector_units():
    kernels = model("dgx-h100")
    listed = {(p.dtype, p.accumulate, p.engine): p.si for p in kernels.gpu.peak}
    assert kernels.peak("bf16") == listed["bf16", "fp32", "tensor"]
    assert kernels.peak("fp32") == listed["fp32", "fp32", "vector"]
    assert kernels.peak("int8") == listed["int8", "int32", "tensor"]
    assert kernels.peak("fp64") == listed["fp64", "fp64", "tensor"] > listed["fp64", "fp64", "vector"]
    assert kernels.peak("fp64", tensor=False) == listed["fp64", "fp64", "vector"]


# ---- given times -------------------------------------------------------------------------------------------


@repeatable
@given(st.sampled_from(NODES), st.floats(1e-9, 10.0), st.integers(1, 4096))
def test_a_given_time_is_taken_as_it_is(name, seconds, m):
    time = model(name).time(matmul(m, 4096, 4096, time_s=seconds))
    assert time.seconds == seconds
    assert (time.bound, time.uncertainty, time.operator) == ("measured", NONE, "")
    assert (NONE.low, NONE.high) == (1, 1)
    assert model(name).used(time) == {}


def given_time_operators():
    rows, columns, inner = Dim(512, 1, "rows"), Dim(1024, 1, "columns"), Dim(2048, 1, "inner")
    heads, batch = Dim(32, 1, "heads"), Dim(8, 1, "batch")
    return (
        [
            pytest.param(Matmul("mm", rows, (columns,), inner, "fp16", time_s=8e-3), axis, id=f"matmul-{axis}")
            for axis in ("rows", "columns", "inner")
        ]
        + [
            pytest.param(
                Attention("a", batch, 128, 128, heads, heads, 128, "fp16", time_s=8e-3), axis, id=f"attention-{axis}"
            )
            for axis in ("heads", "batch")
        ]
        + [
            pytest.param(
                Pointwise("p", "elementwise", rows, (columns,), "fp16", time_s=8e-3), axis, id=f"pointwise-{axis}"
            )
            for axis in ("rows", "columns")
        ]
    )


@pytest.mark.parametrize(("op", "axis"), given_time_operators())
@pytest.mark.parametrize("ways", [1, 2, 8])
def test_a_given_time_is_split_by_flops(op, axis, ways):
    part = op.split({axis: ways})
    assert part.flops == op.flops / ways
    assert model("dgx-h100").time(part).seconds == pytest.approx(8e-3 / ways, rel=1e-12)
    assert op.split({"another axis": ways}) == op


@pytest.mark.parametrize(("split", "parts"), [("m", 2), ("n", 2), ("k", 2), ("none", 1)])
def test_a_given_time_of_a_listed_operator_reaches_the_step(split, parts):
    """2 ms three times over: on one GPU 6 ms; with tp 2 each GPU takes its share, without another launch."""
    operators = [{"op": "matmul", "m": 64, "n": 64, "k": 64, "split": split, "time": "2 ms"}]
    workload = simgpu.OperatorList(operators=operators, repeat=3)
    cluster = CATALOGUE.cluster("dgx-h100")
    assert simgpu.simulate(cluster, workload).step_s == pytest.approx(6e-3, rel=1e-9)
    halved = simgpu.simulate(cluster, workload, plan=simgpu.Plan(tp=2))
    assert halved.step_s == pytest.approx(6e-3 / parts, rel=1e-9)
    assert halved.single_gpu_step_s == pytest.approx(6e-3, rel=1e-9)
