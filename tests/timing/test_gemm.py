"""Matrix multiplication: the equation read back, laws that hold on every GPU, and what halves of a GPU may not do."""

import math
import warnings
from dataclasses import fields, replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue
from simgpu.model.formats import format_of
from simgpu.model.operators import BYTES
from simgpu.overrides import Override
from simgpu.timing.constants import GemmConstants, QuantiseConstants
from simgpu.timing.device import Device
from simgpu.timing.gemm import CHUNK, SPLITS, TILES_M, TILES_N, GemmWork, Operands, gemm_time, memory_time
from simgpu.timing.parts import KernelTimes
from simgpu.timing.power import TensorClock
from simgpu.timing.quantise import quantise_time
from simgpu.timing.timer import GPUTimer

repeatable = settings(derandomize=True, deadline=None, max_examples=100)

CATALOGUE = Catalogue()
EVERY = CATALOGUE.names("gpus")
GPUS = [
    "a100-sxm-80gb", "a40", "b200-sxm", "gb300", "h100-sxm", "h200-sxm", "l4", "l40s", "mi300x", "rtx-4090", "t4",
    "v100-sxm-32gb",
]  # fmt: skip
CLOSE = 1 - 1e-12

FIGURES = {
    "peak": 1e12, "sm_count": 8.0, "clock": 1e9, "bandwidth": 1e11, "l2_bytes": 1e6, "compute_fraction": 0.9,
    "memory_fraction": 0.8, "launch_overhead": 2e-6, "clock_fraction": 0.95, "throttle": 0.2, "throttle_time": 8e-4,
    "l2_bytes_per_clock": 64.0, "k_step_clocks": 300.0, "wave_latency": 4e-7, "split_latency": 2e-6,
    "resident_fraction": 0.9, "resident_bytes_per_clock": 12.0, "tile_latency": 1e-6,
}  # fmt: skip


def parts_of(figures):
    """Datasheet, constants and clock of a GPU that has `figures`."""
    some = {"vector_peak": 1e12, **figures}
    return [
        kind(**{one.name: some[one.name] for one in fields(kind) if one.name in some})
        for kind in (Device, GemmConstants, TensorClock)
    ]


@cache
def timer(name, sustained=False):
    spec = CATALOGUE.spec("gpus", name)
    return GPUTimer(spec, CATALOGUE.kernel_constants(spec), sustained)


def dtypes(name):
    return [dtype for dtype in BYTES if timer(name).device.engine(dtype)]


def shapes(count, most=16384, seed=0):
    """m, n, k between 1 and `most`, half of them multiples of 64."""
    random = np.random.default_rng(seed)
    plain = np.exp(random.uniform(0, np.log(most), (3, count))).astype(int).astype(float)
    return np.where(random.random((3, count)) < 0.5, plain, np.maximum(plain // 64 * 64, 1))


sizes = st.integers(1, 16384)
gpus = st.sampled_from(GPUS)


# ---- the equation ----------------------------------------------------------------------------------------


def by_the_docstring(m, n, k, batch, e, o, sustained, rotation, f, largest_tile=256 * 128, rows_covered=0):
    """Seconds, with loops and for one shape."""
    ideal = 2 * m * n * k * batch / f["peak"]
    hertz = f["clock"] * f["clock_fraction"]
    hertz /= 1 + f["throttle"] * (1 if sustained else ideal / (ideal + f["throttle_time"]))
    feed = f["l2_bytes_per_clock"] * hertz
    rate = f["compute_fraction"] * f["peak"] * hertz / f["clock"] / f["sm_count"]
    a_and_b, c = batch * (m * k + k * n) * e, batch * m * n * o
    dram = f["memory_fraction"] * f["bandwidth"]
    l2 = max(f["resident_bytes_per_clock"] * hertz * f["sm_count"], dram)
    fits = 1 / (1 + ((rotation * a_and_b + c) / (f["resident_fraction"] * f["l2_bytes"])) ** 12)
    memory = (a_and_b + c) * ((1 - fits) / dram + fits / l2)
    best, width = math.inf, 128 / e
    for tm in TILES_M:
        for tn in TILES_N:
            if tm * tn > largest_tile or tm < min(m, rows_covered):
                continue
            rows, columns = min(tm, m), min(tn, n)
            step = max(2 * tm * tn * width / rate, (rows + columns) * width * e / feed, f["k_step_clocks"] / hertz)
            for s in SPLITS:
                steps = math.ceil(k / (width / 2)) / 2 if s == 1 else math.ceil(k / s / width)
                waves = math.ceil(math.ceil(m / tm) * math.ceil(n / tn) * s * batch / f["sm_count"])
                busy = waves * (steps * step + 3 * rows * columns * o / 2 / feed)
                t = (busy**3 + memory**3) ** (1 / 3) + waves * f["wave_latency"] + f["tile_latency"] * tm * tn / 128**2
                if s > 1:
                    t += f["split_latency"] + 4 * s * m * n * batch / (f["sm_count"] * feed)
                best = min(best, t)
    return f["launch_overhead"] + best


@repeatable
@given(
    *[st.integers(1, 3000)] * 3, st.integers(1, 5), st.sampled_from([1.0, 2.0, 4.0, 8.0]), st.booleans(),
    st.sampled_from([1.0, 6.0, 1e6]), st.sampled_from([0, 128]), st.sampled_from([256 * 128, 128 * 128]),
)  # fmt: skip
def test_the_docstring_says_what_is_computed(m, n, k, batch, e, sustained, rotation, rows_covered, largest_tile):
    operands = Operands(e, max(e, 2), e, FIGURES["peak"])
    gpu = parts_of(FIGURES | {"rows_covered": rows_covered, "largest_tile": largest_tile})
    found = gemm_time(GemmWork(m, n, k, batch), operands, *gpu, rotation=rotation, sustained=sustained)
    wanted = by_the_docstring(m, n, k, batch, e, max(e, 2), sustained, rotation, FIGURES, largest_tile, rows_covered)
    assert float(found.seconds) == pytest.approx(wanted, rel=1e-9)


def test_memory_is_dram_where_operands_do_not_fit_and_l2_where_they_do():
    gpu = parts_of(
        FIGURES | {"sm_count": 100.0, "bandwidth": 1e12, "l2_bytes": 40e6, "resident_bytes_per_clock": 20.0}
    )[:2]
    sets = np.asarray([1.0, 0.5 * 36e6, 36e6, 2 * 36e6, np.inf])
    cold, warm = 1e6 / 0.8e12, 1e6 / 2e12
    seconds = memory_time(np.full(5, 1e6), sets, 1e9, *gpu)
    assert seconds[[0, 2, 4]] == pytest.approx([warm, (cold + warm) / 2, cold], rel=1e-12)
    assert seconds[[1, 3]] == pytest.approx([warm, cold], rel=1e-3)
    slow_l2 = memory_time(np.asarray(1e6), np.asarray(1.0), 1e8, *gpu)
    assert slow_l2 == pytest.approx(cold), "L2 is never slower than DRAM"


def test_many_shapes_at_once_are_the_shapes_one_by_one():
    m, n, k = shapes(2 * CHUNK + 3, seed=3)
    batch = np.arange(len(m)) % 4 + 1
    model = timer("h100-sxm")
    together = model.gemm(m, n, k, batch)
    some = range(0, len(m), 37)
    alone = [model.gemm(m[i], n[i], k[i], batch[i]) for i in some]
    for part, name in enumerate(KernelTimes._fields):
        assert list(together[part][list(some)]) == [float(one[part]) for one in alone], name
        assert together[part].shape == m.shape


def test_arguments_broadcast():
    times = timer("a100-sxm-80gb").gemm(np.asarray([[64.0], [128.0]]), np.asarray([256.0, 512.0, 1024.0]), 512)
    assert times.seconds.shape == times.bound().shape == (2, 3)
    assert times.seconds[1, 2] == timer("a100-sxm-80gb").gemm(128, 1024, 512).seconds
    assert timer("a100-sxm-80gb").gemm(1, 2, 3).seconds.shape == ()


def test_no_shape_makes_floats_complain():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rotation in (1.0, math.inf):
            times = timer("rtx-4090").gemm(
                [1, 1, 2**24, 7], [1, 2**20, 2**20, 1], [1, 1, 2**16, 2**24], rotation=rotation
            )
            assert np.all(np.isfinite(times.seconds)) and np.all(times.seconds > 0)


# ---- never better than the datasheet -----------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_never_faster_than_the_peak_or_cold_memory(name):
    model = timer(name)
    m, n, k = shapes(200)
    batch = 1 + np.arange(200) % 5
    for dtype in dtypes(name):
        flops, width = 2 * m * n * k * batch, BYTES[dtype]
        moved = batch * ((m * k + k * n) * width + m * n * max(width, 2.0))
        for sustained in (False, True):
            cold = model.gemm(m, n, k, batch, dtype, sustained=sustained).seconds
            warm = model.gemm(m, n, k, batch, dtype, sustained=sustained, rotation=1).seconds
            assert np.all(warm >= flops / model.peak(dtype)), dtype
            assert np.all(cold >= flops / model.peak(dtype)), dtype
            assert np.all(cold >= moved / model.device.bandwidth), dtype


@pytest.mark.parametrize("name", EVERY)
def test_large_products_reach_most_of_the_peak_and_thin_ones_most_of_the_memory(name):
    """Of the clock that the power limit leaves."""
    model = timer(name)
    constants = model.matrix.libraries.values()
    dtype = "fp16" if model.device.engine("fp16") == "tensor" else "fp32"
    if dtype == "fp32":
        constants = model.matrix.libraries.values("simt")
    large, thin = model.gemm(16384, 16384, 16384, dtype=dtype), model.gemm(1, 16384, 16384, dtype=dtype)
    clock = constants["clock_fraction"] / (1 + constants["throttle"])
    best = 2 * 16384.0**3 / (model.peak(dtype) * constants["compute_fraction"] * clock)
    assert 0.95 * best <= large.seconds <= 1.45 * best
    assert large.bound() == "compute"
    stream = BYTES[dtype] * 16384.0**2 / model.device.bandwidth
    assert stream <= thin.seconds <= 2 * stream / constants["memory_fraction"]


@pytest.mark.parametrize("name", GPUS)
def test_a_tiny_product_is_a_launch_and_a_few_microseconds(name):
    tiny = timer(name).gemm(1, 1, 1, dtype="fp16")
    assert timer(name).matrix.libraries.values()["launch_overhead"] < tiny.seconds < 20e-6
    assert tiny.bound() == "latency"


# ---- more is never faster ----------------------------------------------------------------------------------

OTHERS = np.asarray([(1, 1), (1, 4096), (40, 300), (64, 1), (300, 20), (512, 512), (4096, 64), (4096, 4096)], float).T


@pytest.mark.parametrize("name", GPUS)
@pytest.mark.parametrize("axis", range(4), ids=["m", "n", "k", "batch"])
def test_one_more_row_column_element_or_product_never_takes_less(name, axis):
    """Exactly, tile edges included: the fastest of candidates that all grow."""
    steps = np.unique(np.r_[1:400, 500:530, 1010:1040, np.round(2.0 ** np.arange(9, 14, 0.125))])[:, None]
    one, other = OTHERS
    size = [one, other, np.ones_like(one)]
    arguments = [*size[:axis], steps, *size[axis:]] if axis < 3 else [one, other, other, steps]
    for dtype in {"fp32", "fp16", "fp8", "fp64"} & set(dtypes(name)):
        seconds = timer(name).gemm(*arguments, dtype).seconds
        assert np.all(seconds[1:] >= seconds[:-1] * CLOSE), dtype


@repeatable
@given(gpus, sizes, sizes, sizes, st.integers(1, 8), st.integers(0, 3), st.integers(1, 5000), st.booleans())
def test_a_larger_product_never_takes_less(name, m, n, k, batch, axis, more, sustained):
    shape = np.asarray([m, n, k, batch], float)
    larger = shape + more * (np.arange(4) == axis)
    seconds = timer(name).gemm(*np.stack([shape, larger], axis=1), "fp16", sustained=sustained).seconds
    assert seconds[1] >= seconds[0] * CLOSE


@pytest.mark.parametrize("name", GPUS)
def test_operands_used_again_sooner_are_never_slower(name):
    m, n, k = shapes(300, seed=5)
    seconds = timer(name).gemm(m, n, k, dtype="fp16", rotation=1).seconds
    for passes in (2, 6, 50, math.inf):
        before, seconds = seconds, timer(name).gemm(m, n, k, dtype="fp16", rotation=passes).seconds
        assert np.all(seconds >= before * CLOSE)


@pytest.mark.parametrize("name", GPUS)
def test_a_batch_takes_no_longer_than_its_products_one_by_one(name):
    """In a sustained run; a short burst leaves the next its clock."""
    m, n, k = shapes(300, most=4096, seed=6)
    one = timer(name).gemm(m, n, k, 1, "fp16", sustained=True).seconds
    for batch in (2, 3, 8, 64):
        many = timer(name).gemm(m, n, k, batch, "fp16", sustained=True).seconds
        assert np.all(one * CLOSE <= many)
        assert np.all(many <= batch * one / CLOSE)


# ---- less of a GPU is never faster -------------------------------------------------------------------------

LESS = (
    "peak", "bandwidth", "l2_bytes", "clock", "compute_fraction", "memory_fraction", "clock_fraction",
    "l2_bytes_per_clock", "resident_fraction", "resident_bytes_per_clock", "throttle_time", "largest_tile",
    "largest_split",
)  # fmt: skip
MORE = ("k_step_clocks", "wave_latency", "split_latency", "launch_overhead", "throttle", "tile_latency")


@pytest.mark.parametrize("figure", [*LESS, *MORE])
@pytest.mark.parametrize("name", GPUS)
def test_half_of_a_figure_never_speeds_up(name, figure):
    m, n, k = shapes(150, seed=7)
    used = timer(name).matrix.libraries.of()
    figures = vars(timer(name).device) | vars(used.constants) | vars(used.clock) | {"peak": timer(name).peak("fp16")}
    changed = figures | {figure: figures[figure] * (0.5 if figure in LESS else 2.0)}
    for rotation in (1.0, math.inf):
        whole, half = (
            gemm_time(GemmWork(m, n, k), Operands(2, 2, 2, these["peak"]), *parts_of(these), rotation=rotation).seconds
            for these in (figures, changed)
        )
        assert np.all(half >= whole * CLOSE)


@pytest.mark.parametrize("what", ["peak", "bandwidth", "l2", "power"])
@pytest.mark.parametrize("name", EVERY)
def test_a_gpu_with_half_of_something_is_never_faster(name, what):
    """Set by a user: its clock under load stays that of the GPU, even where it follows from the power limit."""
    spec = CATALOGUE.spec("gpus", name)
    halves = {
        "peak": {f"gpu.peak.{peak.key}": peak.si / 2 for peak in spec.peak},
        "bandwidth": {"gpu.memory.bandwidth": spec.memory.bandwidth.si / 2},
        "l2": {"gpu.memory.l2_cache": spec.memory.l2_cache.si / 2},
        "power": {"gpu.power.tdp": spec.power.tdp.si / 2},
    }[what]
    less = CATALOGUE.spec("gpus", name, [Override(key, f"{value!r} SI", "halved") for key, value in halves.items()])
    m, n, k = shapes(100, seed=8)
    for sustained in (False, True):
        half = GPUTimer(less, CATALOGUE.kernel_constants(less), sustained)
        for dtype in {"fp32", "fp16", "fp8"} & set(dtypes(name)):
            whole = timer(name, sustained).gemm(m, n, k, dtype=dtype).seconds
            assert np.all(half.gemm(m, n, k, dtype=dtype).seconds >= whole * CLOSE), dtype


DERIVED = [
    f"{name}@{change}"
    for name, changes in {
        "h100-sxm": ["1g.10gb", "3g.40gb", "7g.80gb", "500W", "1200MHz", "500W@1g.10gb"],
        "h200-sxm": ["1g.18gb", "400W", "1000MHz", "400W@1g.18gb"],
        "a100-sxm-40gb": ["1g.5gb", "7g.40gb", "200W"],
        "b200-sxm": ["4g.90gb", "600W"],
        "l4": ["40W", "700MHz"],
        "rtx-4090": ["300W"],
        "mi300x": ["500W"],
    }.items()
    for change in changes
]


@pytest.mark.parametrize("derived", DERIVED)
def test_a_slice_a_cap_and_a_clock_limit_are_never_faster_than_the_whole(derived):
    name = derived.partition("@")[0]
    m, n, k = shapes(200, seed=9)
    for sustained in (False, True):
        for dtype in {"fp32", "bf16", "fp8"} & set(dtypes(name)):
            whole, part = (timer(one, sustained).gemm(m, n, k, dtype=dtype).seconds for one in (name, derived))
            assert np.all(part >= whole * CLOSE), dtype
            if dtype == "fp32" and not sustained and not derived.endswith("7g.80gb"):  # all of an H100
                assert np.any(part > whole * 1.02)


@pytest.mark.parametrize("name", EVERY)
def test_sustained_is_never_faster_than_a_burst_and_a_long_burst_lacks_only_the_hours(name):
    """A burst of seconds is throttled like a run, but for what clocks lose over hours (`training_slowdown`)."""
    m, n, k = shapes(200, seed=10)
    for dtype in {"fp32", "fp16", "fp8"} & set(dtypes(name)):
        burst, run = (timer(name, sustained).gemm(m, n, k, dtype=dtype).seconds for sustained in (False, True))
        assert np.all(run >= burst * CLOSE)
        long = [timer(name, sustained).gemm(2**17, 2**16, 2**16, dtype=dtype).seconds for sustained in (False, True)]
        steady = timer(name, True).constants.group("gemm")["training_slowdown"]
        assert long[0] * 0.98 <= long[1] <= long[0] * steady * 1.02


def test_a_run_costs_the_clock_that_the_power_limit_takes_and_no_more():
    """Throttling beyond that is of libraries whose large shapes are slow: it does not touch the small ones. Hours cost
    16-bit products a little more."""
    run, burst = timer("h100-sxm", True), timer("h100-sxm")
    held, steady = run.matrix.libraries.values()["throttle"], run.constants.group("gemm")["training_slowdown"]
    assert run.matrix.libraries.values("fp8-scaled-mm")["throttle"] > 3 * held
    for dtype in ("bf16", "fp8"):
        for size in (1024, 4096, 16384):
            seconds = [float(one.gemm(size, size, size, dtype=dtype).seconds) for one in (burst, run)]
            most = (1 + held) * (steady if dtype == "bf16" else 1)
            assert seconds[0] <= seconds[1] <= seconds[0] * most


# ---- data types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sustained", [False, True], ids=["burst", "sustained"])
@pytest.mark.parametrize("name", EVERY)
def test_large_products_of_narrower_types_are_never_slower(name, sustained):
    """Where the datasheet has them faster. Large ones: a kernel quantises an operand before a product in fp8 or fp4.

    Of a product that takes at the memory's rate more than a quarter of what is saved, nothing is said.
    """
    model = timer(name, sustained)
    m, n, k = np.random.default_rng(11).integers(4, 17, (3, 60)) * 1024
    seconds = {dtype: model.gemm(m, n, k, dtype=dtype).seconds for dtype in dtypes(name)}
    for order in (("fp4", "fp8", "bf16", "fp32", "fp64"), ("int8", "bf16"), ("bf16", "tf32"), ("fp16", "fp32")):
        for narrow, wide in combinations([dtype for dtype in order if dtype in seconds], 2):
            if model.peak(narrow) >= 1.5 * model.peak(wide):
                saved = 2.0 * m * n * k * (1 / model.peak(wide) - 1 / model.peak(narrow))
                large = 3.0 * m * k / model.gpu.memory.bandwidth.si <= saved / 4
                assert np.all((seconds[wide] >= seconds[narrow] * CLOSE)[large]), (narrow, wide)


@pytest.mark.parametrize("name", [one for one in EVERY if timer(one).device.engine("fp16", "fp16")])
def test_sums_in_half_precision_are_never_slower(name):
    m, n, k = shapes(200, seed=12)
    if timer(name).device.engine("fp16", "fp16") == timer(name).device.engine("fp16") == "tensor":
        wide, narrow = (timer(name).gemm(m, n, k, dtype="fp16", accumulate=sums).seconds for sums in ("fp32", "fp16"))
        assert np.all(narrow <= wide / CLOSE)


@pytest.mark.parametrize("weights", ["int8", "int4", "int4-g32", "fp8", "fp4", "mxfp4", "q8_0", "q6_k", "q4_k", "q2_k"])
@pytest.mark.parametrize("name", GPUS)
def test_narrow_weights_speed_up_few_rows_and_are_still_read(name, weights):
    """A twentieth is left to their kernels, which keep to the instructions of a warp where others have gone on."""
    n, k = np.random.default_rng(13).integers(2, 17, (2, 40)) * 1024
    model, m = timer(name), np.asarray([[1.0], [4.0], [16.0]])
    narrow, plain = (model.gemm(m, n, k, dtype="fp16", weights=which).seconds for which in (weights, None))
    assert np.all(narrow <= 1.05 * plain)
    assert np.all(narrow[:, n * k > 2**25] < plain[:, n * k > 2**25])
    assert np.all(narrow >= n * k * format_of(weights).bytes / model.device.bandwidth)
    many = model.gemm(8192, n, k, dtype="fp16", weights=weights).seconds
    assert np.all(many >= 2 * 8192 * n * k / model.peak("fp16")), "multiplied in the type of the activations"


def test_narrow_weights_save_what_is_not_read():
    large = [timer("a100-sxm-80gb").gemm(1, 16384, 16384, weights=which).memory for which in (None, "int8", "int4")]
    assert large[0] / large[1] == pytest.approx(2, rel=0.01)
    assert large[0] / large[2] == pytest.approx(2 / format_of("int4").bytes, rel=0.01)


def test_quantising_activations_is_a_kernel_of_its_own():
    device = parts_of(FIGURES | {"bandwidth": 1e12})[0]
    times = quantise_time(GemmWork([10, 1000], 1, 4000, 2), device, QuantiseConstants(3.0, 2e-6, memory_fraction=0.5))
    assert times.seconds == pytest.approx([2e-6 + 2 * 10 * 4000 * 3 / 0.5e12, 2e-6 + 2 * 1000 * 4000 * 3 / 0.5e12])
    model = timer("h100-sxm")
    used, work = model.matrix.libraries.of("fp8-scaled-mm"), GemmWork(512, 4096, 4096)
    alone = gemm_time(work, Operands(1, 2, 1, model.peak("fp8")), model.device, used.constants, used.clock)
    both = model.gemm(512, 4096, 4096, dtype="fp8")
    assert both.seconds == pytest.approx(
        alone.seconds + quantise_time(work, model.device, used.quantise).seconds, rel=1e-12
    )


def test_what_a_gpu_has_no_tensor_cores_for_runs_in_the_library_of_the_vector_units():
    model = timer("h100-sxm")
    assert [model.matrix.libraries.chosen(dtype) for dtype in ("fp32", "tf32", "fp8")] == [
        "simt",
        "default",
        "fp8-scaled-mm",
    ]
    assert model.matrix.libraries.chosen("bf16", weights="int4") == "weight-only"
    assert model.matrix.libraries.values("simt")["throttle"] == 0


def test_widening_costs_what_the_lanes_need_and_nothing_where_nothing_is_widened():
    """Weights of a tile are widened once for each tile of rows, so tall tiles spend a smaller share on it."""
    known = timer("a100-sxm-80gb")
    library = known.matrix.libraries.of("weight-only-trtllm")
    free = replace(library.constants, convert_per_clock=math.inf)
    m, n, k = np.array([16.0, 128.0, 8192.0]), 8192.0, 8192.0

    def seconds(constants, stored):
        operands = Operands(2.0, 2.0, stored, known.peak("fp16"))
        return gemm_time(GemmWork(m, n, k), operands, known.device, constants, library.clock).seconds

    assert np.array_equal(seconds(library.constants, 2.0), seconds(free, 2.0))
    share = seconds(library.constants, 0.52) / seconds(free, 0.52)
    assert np.all(share > 1.02) and share[2] < share[0]
    half = replace(library.constants, convert_per_clock=library.constants.convert_per_clock / 2)
    assert np.all(seconds(half, 0.52) >= seconds(library.constants, 0.52))
