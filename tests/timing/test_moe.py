"""Experts: no token is lost, layers obey the laws of matrix multiplication, one expert is a plain product."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue
from simgpu.overrides import Override
from simgpu.timing.constants import ExpertConstants, GemmConstants
from simgpu.timing.device import Device
from simgpu.timing.expert_timer import ExpertLayerWork
from simgpu.timing.gemm import GemmWork, Operands, gemm_time
from simgpu.timing.moe import ExpertLoad, LayerWork, grouped_gemm_time, moe_time
from simgpu.timing.power import TensorClock
from simgpu.timing.routing import TILE_ROWS, rank_load, rank_loads
from simgpu.timing.timer import GPUTimer

repeatable = settings(derandomize=True, deadline=None, max_examples=100)

CATALOGUE = Catalogue()
GPUS = ["a100-sxm-80gb", "b200-sxm", "h100-sxm", "h200-sxm", "l4", "l40s", "mi300x", "rtx-4090", "rtx-3090", "t4"]
DISTRIBUTIONS = ["balanced", "random", "power_law_1.01", "power_law_1.2"]
EXTREMES = ["power_law_0", "power_law_1", "power_law_2", "power_law_10"]
MIXTRAL = {"hidden": 4096, "inner": 14336, "topk": 2, "experts": 8}
FINE = {"hidden": 2048, "inner": 768, "topk": 8, "experts": 128}
CLOSE = 1 - 1e-12


@cache
def timer(name, sustained=False):
    spec = CATALOGUE.spec("gpus", name)
    return GPUTimer(spec, CATALOGUE.kernel_constants(spec), sustained)


def time(model, *sizes, dtype="bf16", rotation=np.inf, **named):
    """Times of an expert layer."""
    return model.experts.layer(ExpertLayerWork(*sizes, **named), dtype, rotation=rotation)


def dtype_of(name):
    return "bf16" if timer(name).device.engine("bf16") else "fp16"


# ---- tokens of experts -------------------------------------------------------------------------------------


@st.composite
def routings(draw):
    """(tokens, topk, experts, ranks)."""
    ranks = draw(st.sampled_from([1, 2, 4, 8]))
    experts = ranks * draw(st.sampled_from([1, 2, 8, 32]))
    return draw(st.integers(1, 20000)), draw(st.integers(1, min(experts, 8))), experts, ranks


@repeatable
@given(routings(), st.sampled_from(DISTRIBUTIONS + EXTREMES))
def test_loads_are_those_of_the_experts_of_one_rank(routing, distribution):
    tokens, _, experts, ranks = routing
    loads = np.atleast_2d(rank_loads(*routing, distribution))
    assert loads.shape[1] == experts // ranks
    assert np.all(loads >= 0) and np.all(loads <= tokens)
    assert np.all(np.diff(loads, axis=1) <= 0), "sorted downwards"
    assert np.all(loads == np.round(loads)), "whole tokens"


@repeatable
@given(st.integers(1, 64), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]), st.integers(1, 4))
def test_balanced_experts_share_all_visits_evenly(each, topk, ranks, times):
    experts = topk * ranks * times
    tokens = each * (experts // topk)
    loads = rank_loads(tokens, topk, experts, ranks, "balanced")
    assert list(loads) == [each] * (experts // ranks)
    assert loads.sum() * ranks == tokens * topk


@repeatable
@given(routings())
def test_balanced_loads_differ_by_one_token_at_most(routing):
    loads = rank_loads(*routing, "balanced")
    assert loads.max() - loads.min() <= 1
    tokens, topk, experts, ranks = routing
    if ranks == 1 and experts % topk == 0:
        assert loads.sum() == tokens * topk


@repeatable
@given(routings())
def test_the_busiest_rank_of_a_power_law_has_at_least_its_share(routing):
    tokens, topk, experts, ranks = routing
    alone = rank_loads(tokens, topk, experts, 1, "power_law_1.2")
    assert alone.sum() == tokens * topk
    sums = np.atleast_2d(rank_loads(*routing, "power_law_1.2")).sum(axis=1)
    assert np.all(sums >= tokens * topk / ranks)
    assert np.all(sums <= tokens * topk)


@repeatable
@given(routings())
def test_random_loads_have_the_mean_of_an_expert(routing):
    tokens, topk, experts, _ = routing
    loads = rank_loads(*routing, "random")
    mean = tokens * topk / experts
    assert loads.mean() == pytest.approx(mean, abs=max(0.6, 0.02 * mean))


def test_skewed_routing_is_more_uneven_than_random_and_random_than_balanced():
    spread = [np.atleast_2d(rank_loads(4096, 8, 128, 1, how)).std() for how in DISTRIBUTIONS]
    assert spread == sorted(spread)
    assert spread[0] == 0 < spread[1] < spread[2]


def test_an_exponent_of_one_lies_between_its_neighbours():
    below, one, above = (rank_loads(16384, 8, 256, 1, f"power_law_{a}") for a in ("0.999999", "1", "1.000001"))
    assert one == pytest.approx(below, abs=2) and one == pytest.approx(above, abs=2)
    busiest = [rank_loads(16384, 8, 256, 1, f"power_law_{a}").max() for a in ("0", "0.5", "1", "1.2")]
    assert busiest == sorted(busiest)
    assert busiest[0] == pytest.approx(2 * 16384 * 8 / 256, rel=0.01)
    assert rank_loads(16384, 8, 256, 1, "power_law_10").max() < 2 * 16384 * 8 / 256


@pytest.mark.parametrize("exponent", ["10.1", "-1", "nan", "inf"])
def test_an_exponent_out_of_range_is_refused(exponent):
    with pytest.raises(ValueError, match="is not a number from 0 to 10"):
        rank_loads(16, 2, 8, 1, f"power_law_{exponent}")


def test_few_tokens_reach_few_experts():
    assert rank_load(1, 8, 128, 1, "balanced").active == 8
    assert rank_load(1, 8, 128, 16, "balanced").active <= 8
    active = [rank_load(tokens, 8, 128, 1, "random").active for tokens in (1, 8, 64, 512)]
    assert active == sorted(active) and active[0] <= 16 and active[-1] == 128


def test_an_unknown_distribution_is_refused():
    with pytest.raises(ValueError, match=r"unknown distribution 'zipf'.*balanced, random, power_law_A, popularity_A"):
        rank_loads(16, 2, 8, 1, "zipf")


@repeatable
@given(routings(), st.sampled_from(DISTRIBUTIONS))
def test_tiles_of_rows_hold_all_tokens(routing, distribution):
    load = rank_load(*routing, distribution)
    for blocks, rows in zip(load.blocks, TILE_ROWS, strict=True):
        assert load.visits / rows - 1e-9 <= blocks <= load.visits / rows + load.active + 1e-9
    assert list(load.blocks) == sorted(load.blocks, reverse=True)
    assert load.blocks[-1] >= load.active - 1e-9


# ---- layers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MIXTRAL, FINE], ids=["few", "many"])
@pytest.mark.parametrize("name", GPUS)
def test_a_layer_never_beats_the_peak_or_the_weights_it_reads(name, model):
    tokens = np.asarray([1, 7, 64, 500, 4096, 30000])
    size = 3 * model["hidden"] * model["inner"]
    for distribution in DISTRIBUTIONS:
        loads = [rank_load(int(n), model["topk"], model["experts"], 1, distribution) for n in tokens]
        times = time(timer(name), tokens, **model, distribution=distribution, dtype=dtype_of(name))
        visits, active = (np.asarray([getattr(load, part) for load in loads]) for part in ("visits", "active"))
        assert np.all(times.seconds >= 2 * visits * size / timer(name).peak(dtype_of(name)))
        assert np.all(times.seconds >= active * size * 2 / timer(name).device.bandwidth)
        warm = time(timer(name), tokens, **model, distribution=distribution, dtype=dtype_of(name), rotation=1)
        assert np.all(warm.seconds <= times.seconds / CLOSE)


@pytest.mark.parametrize("name", GPUS)
def test_more_tokens_wider_layers_and_more_experts_of_a_token_never_take_less(name):
    tokens = np.unique(np.round(2.0 ** np.arange(0, 15, 0.5)))
    for model in (MIXTRAL, FINE):
        for distribution in ("balanced", "random"):

            def layer(more=1.0, distribution=distribution, model=model, **other):
                return time(
                    timer(name),
                    tokens * more, **model | other, distribution=distribution, dtype=dtype_of(name)
                ).seconds  # fmt: skip

            seconds = layer()
            assert np.all(np.diff(seconds) >= -1e-15)
            larger = [
                layer(hidden=model["hidden"] + 256), layer(inner=model["inner"] + 256), layer(topk=model["topk"] * 2),
                layer(more=2),
            ]  # fmt: skip
            assert all(np.all(one >= seconds * CLOSE) for one in larger)


@pytest.mark.parametrize("name", GPUS)
def test_parts_of_a_layer_take_no_longer_than_the_layer(name):
    tokens = np.asarray([16, 256, 4096, 16384])
    for model in (MIXTRAL, FINE):
        whole = time(timer(name), tokens, **model, dtype=dtype_of(name)).seconds
        for parts in ({"tp": 2}, {"tp": 8}, {"ep": 2}, {"ep": 8}, {"tp": 2, "ep": 4}):
            part = time(timer(name), tokens, **model, **parts, dtype=dtype_of(name)).seconds
            assert np.all(part <= whole * 1.001), parts
        plain = time(timer(name), tokens, **model, gated=False, dtype=dtype_of(name)).seconds
        assert np.all(plain <= whole / CLOSE)


@pytest.mark.parametrize("name", GPUS)
def test_uneven_routing_costs_the_busiest_rank(name):
    times = [
        float(time(timer(name), 8192, **FINE, ep=8, distribution=how, dtype=dtype_of(name)).seconds)
        for how in ("balanced", "power_law_1.01", "power_law_1.2")
    ]
    assert times == sorted(times)
    assert times[2] > 1.1 * times[0]


@pytest.mark.parametrize("name", GPUS)
def test_sustained_layers_are_never_faster_and_fp8_is_faster_where_there_is_much_to_do(name):
    tokens = np.asarray([16, 1024, 16384])
    burst, run = (time(timer(name, how), tokens, **MIXTRAL, dtype=dtype_of(name)).seconds for how in (False, True))
    assert np.all(run >= burst * CLOSE)
    if timer(name).device.engine("fp8"):
        assert np.all(time(timer(name), tokens, **MIXTRAL, dtype="fp8").seconds[-1] < burst[-1])


@pytest.mark.parametrize("name", GPUS)
def test_one_expert_that_all_tokens_visit_is_two_plain_products(name):
    """And the chain of small kernels around them; grouped kernels reach less of the peak."""
    hidden, inner, dtype = 4096, 1536, dtype_of(name)
    for tokens in (256, 2048, 16384):
        layer = time(timer(name), tokens, hidden, inner, 1, 1, dtype=dtype).seconds
        plain = sum(
            timer(name).gemm(tokens, n, k, dtype=dtype).seconds for n, k in ((2 * inner, hidden), (hidden, inner))
        )
        assert plain < layer < 4.5 * plain


def test_arrays_broadcast_and_are_the_layers_one_by_one():
    model = timer("h100-sxm")
    tokens, names = np.asarray([[1.0], [300.0], [8192.0]]), np.asarray(["balanced", "random", "power_law_1.2"])
    times = time(model, tokens, 4096, 1536, 8, [128], ep=[4], distribution=names)
    assert times.seconds.shape == (3, 3)
    for i, n in enumerate((1, 300, 8192)):
        for j, name in enumerate(names):
            one = time(model, n, 4096, 1536, 8, 128, ep=4, distribution=str(name))
            assert [float(part[i, j]) for part in times] == pytest.approx([float(part) for part in one], rel=1e-12)


# ---- the functions -----------------------------------------------------------------------------------------

DEVICE = Device(sm_count=100.0, clock=1.5e9, bandwidth=2e12, l2_bytes=40e6, vector_peak=1e13)
TILES = {
    "compute_fraction": 0.9, "memory_fraction": 0.8, "launch_overhead": 0.0, "l2_bytes_per_clock": 64.0,
    "k_step_clocks": 200.0, "wave_latency": 4e-7, "resident_fraction": 0.9, "resident_bytes_per_clock": 12.0,
}  # fmt: skip
EXPERTS = ExpertConstants(**TILES, fixed_time=2e-5, visit_time=1e-11, permute_passes=3.0)


def test_one_large_group_is_a_plain_product_without_its_launch():
    """Where both choose a tile of 128 x 256 and nothing is ragged."""
    m, n, k = 128 * 20, 256 * 10, 4096
    load, operands = ExpertLoad([m / rows for rows in TILE_ROWS], 1, m), Operands(2, 2, 2, peak=3e14)
    grouped = grouped_gemm_time(load, n, k, operands, DEVICE, EXPERTS, hertz=DEVICE.clock)
    plain = GemmConstants(**TILES, split_latency=1, largest_split=1)
    product = gemm_time(GemmWork(m, n, k), operands, DEVICE, plain, TensorClock(1, 0, 1))
    assert float(grouped.seconds) == pytest.approx(float(product.seconds), rel=1e-9)
    assert grouped.memory == pytest.approx(product.memory, rel=1e-12)


LAYER = (
    Operands(input_bytes=2, output_bytes=2, weight_bytes=2, peak=3e14),
    DEVICE,
    EXPERTS,
    TensorClock(0.95, 0.1, 8e-4),
)


@pytest.mark.parametrize(
    ("figure", "factor"),
    [
        *((name, 0.5) for name in ("peak", "bandwidth", "l2_bytes", "compute_fraction", "memory_fraction", "clock",
          "l2_bytes_per_clock", "clock_fraction")),
        *((name, 2) for name in ("fixed_time", "visit_time", "permute_passes", "wave_latency", "throttle",
          "k_step_clocks")),
    ],
)  # fmt: skip
def test_less_of_a_gpu_never_speeds_a_layer_up(figure, factor):
    tokens = [1, 40, 700, 9000]
    for rotation in (1.0, np.inf):
        loads = [rank_load(n, 8, 64, 2, "random") for n in tokens]
        load = ExpertLoad(*(np.asarray([getattr(one, part) for one in loads]) for part in ExpertLoad._fields))
        work = LayerWork(tokens, load, hidden=4096, inner=1536, gated=True, routed=load.visits)
        less = [
            replace(part, **{figure: vars(part)[figure] * factor}) if figure in vars(part) else part for part in LAYER
        ]
        whole, less = (moe_time(work, *parts, rotation=rotation).seconds for parts in (LAYER, less))
        assert np.all(less >= whole * CLOSE)


def layer_seconds(tokens, experts=64, **figures):
    load = ExpertLoad(*(np.asarray(part) for part in rank_load(tokens, 8, experts, 1, "random")))
    work = LayerWork(tokens, load, hidden=4096, inner=1536, gated=True, routed=load.visits, experts=experts)
    return float(moe_time(work, *LAYER[:2], replace(EXPERTS, **figures), LAYER[3]).seconds)


def test_a_layer_takes_time_for_each_of_its_experts_used_or_not():
    for experts in (64, 512):
        grown = layer_seconds(4, experts, expert_time=5e-8) - layer_seconds(4, experts)
        assert grown == pytest.approx(experts * 5e-8, rel=1e-6)


@pytest.mark.parametrize("tokens", [1, 64, 4096])
def test_weights_that_are_widened_in_the_kernel_and_low_tiles_cost_time(tokens):
    """No fewer clocks than the weights of all tiles take, on all multiprocessors."""
    plain, widened, slower = (layer_seconds(tokens, convert_per_clock=rate) for rate in (np.inf, 64.0, 16.0))
    assert plain < widened < slower
    assert layer_seconds(tokens, most_rows=64) >= plain
    active = float(rank_load(tokens, 8, 64, 1, "random").active)
    assert slower > active * 3 * 4096 * 1536 / 16 / DEVICE.sm_count / DEVICE.clock


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_with_half_the_peak_or_bandwidth_is_never_faster(name):
    spec = CATALOGUE.spec("gpus", name)
    tokens = np.asarray([1, 30, 400, 5000])
    for halves in (
        {f"gpu.peak.{peak.key}": peak.si / 2 for peak in spec.peak},
        {"gpu.memory.bandwidth": spec.memory.bandwidth.si / 2},
    ):
        less = CATALOGUE.spec("gpus", name, [Override(key, f"{value!r} SI", "halved") for key, value in halves.items()])
        half = GPUTimer(less, CATALOGUE.kernel_constants(less))
        for model in (MIXTRAL, FINE):
            whole = time(timer(name), tokens, **model, dtype=dtype_of(name)).seconds
            assert np.all(time(half, tokens, **model, dtype=dtype_of(name)).seconds >= whole * CLOSE)


def test_popularity_is_the_law_of_few_tokens_at_any_number_of_them():
    for tokens in (7, 32):  # at most as many visits as experts; whole tokens of the law, means of popularity
        whole, means = (rank_loads(tokens, 8, 256, 1, f"{law}_1.2") for law in ("power_law", "popularity"))
        assert np.abs(whole - means).max() < 2 and whole.sum() == pytest.approx(means.sum())
    many = rank_loads(10_000, 8, 256, 1, "popularity_1.2")
    assert many.sum() == pytest.approx(80_000) and many.max() <= 10_000 and 150 < many[0] / many[-1] < 200
    assert many / 10_000 == pytest.approx(rank_loads(1, 8, 256, 1, "popularity_1.2"))
    active = [rank_load(tokens, 8, 256, 1, "popularity_1.2").active for tokens in range(1, 200)]
    assert active == sorted(active)


@pytest.mark.parametrize("how", [*DISTRIBUTIONS, "popularity_1.2"])
def test_the_busiest_rank_has_a_token_and_more_tokens_never_less_work(how):
    for topk, experts, ranks in ((1, 128, 8), (2, 8, 4), (1, 16, 8), (4, 128, 1), (6, 64, 2), (3, 8, 4), (8, 12, 4)):
        loads = [np.array([*load.blocks, load.active, load.visits]) for load in loads_of(topk, experts, ranks, how)]
        assert loads[0][-1] > 0
        assert all((more >= less * (1 - 1e-9)).all() for less, more in pairwise(loads))


def loads_of(topk, experts, ranks, how):
    sizes = [*range(1, 70), *range(600, 660, 3), 1000, 1001, 4095, 4096, 4097]
    return [rank_load(n, topk, experts, ranks, how) for n in sizes]


@pytest.mark.parametrize(("topk", "experts"), [(3, 8), (8, 9), (2, 7), (5, 12)])
def test_balanced_tokens_visit_as_many_experts_as_they_should_where_these_do_not_divide(topk, experts):
    for tokens in (1, 5, 64, 1001):
        loads = rank_loads(tokens, topk, experts, 1, "balanced")
        assert loads.sum() == tokens * topk
        assert loads.max() - loads.min() <= 1


@pytest.mark.parametrize("how", ["balanced", "popularity_1.2"])
def test_an_expert_more_never_takes_a_tile_where_loads_scatter(how):
    for tokens, topk in ((7, 2), (264, 8), (1052, 2), (2740, 1), (4096, 4)):
        loads = [rank_load(tokens, topk, experts, 1, how, whole=False) for experts in range(8, 40)]
        for less, more in pairwise(loads):
            assert all(b >= a * (1 - 1e-9) for a, b in zip(less.blocks, more.blocks, strict=True))
