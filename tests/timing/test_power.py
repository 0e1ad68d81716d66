"""Clocks under the power limit: the closed form, its bounds, and which GPUs it is asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.power import OTHER_SHARE, VOLTAGE_SHARE, clock_under
from simgpu.overrides import Override
from simgpu.timing.power import clock_shape
from simgpu.timing.timer import GPUTimer

repeatable = settings(derandomize=True, deadline=None, max_examples=200)

CATALOGUE = Catalogue()
MEASURED = ["a100-sxm-80gb", "a40", "h100-sxm", "l40s", "rtx-3090", "rtx-4090", "rtx-a6000"]

limits = st.floats(0.25, 1.0)
demands = st.floats(0.05, 20.0)
exponents = st.floats(0.0, 1.0)


def timer(name, **changes):
    overrides = [
        Override(key.replace("__", ".").replace("_fp32_", "-fp32-"), value, "set") for key, value in changes.items()
    ]
    spec = CATALOGUE.spec("gpus", name, overrides)
    return GPUTimer(spec, CATALOGUE.kernel_constants(spec, without=[name]))


@repeatable
@given(limits, demands)
def test_a_clock_is_what_the_power_left_for_the_cores_pays_for(limit, demand):
    clock = clock_under(limit, demand)
    drawn = OTHER_SHARE + demand * clock * (1 - VOLTAGE_SHARE + VOLTAGE_SHARE * clock) ** 2
    assert 0 < clock <= 1 and drawn <= limit * (1 + 1e-9)
    assert clock == 1 or drawn == pytest.approx(limit, rel=1e-9)


@repeatable
@given(limits, limits, demands, st.floats(1.0, 4.0))
def test_more_power_never_lowers_a_clock_and_a_faster_chip_never_gets_slower(one, other, demand, more):
    low, high = sorted((one, other))
    assert clock_under(low, demand) <= clock_under(high, demand)
    assert clock_under(low, more * demand) * more >= clock_under(low, demand) * (1 - 1e-9)


@repeatable
@given(st.floats(0.05, 1.5), exponents)
def test_a_burst_is_between_full_clock_and_the_sustained_one(sustained, exponent):
    burst, throttle = clock_shape(sustained, exponent)
    assert burst / (1 + throttle) == pytest.approx(sustained, rel=1e-12)
    assert throttle >= -1e-12 and burst <= max(1, sustained) + 1e-12
    assert clock_shape(sustained, 1) == (sustained, 0)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("h100-sxm", 730), ("h100-pcie", 458), ("a100-sxm-80gb", 270), ("a100-pcie-40gb", 224),  # gpu-fryer; zzc0721
        ("gb200", 1550), ("gb300", 1735), ("b200-sxm", 1388),  # gpu-fryer; FlashInfer pull request 2899; AIConfigurator
        ("b200-sxm@750W", 1095), ("gb300@500W", 617),  # facebookexperimental/triton pull requests 854, 3648, 2023
        ("rtx-pro-6000-server", 387), ("rtx-pro-6000-max-q", 229), ("rtx-5090", 237), ("l4", 54),
    ],
)  # fmt: skip
def test_sustained_rates_are_near_those_that_loops_of_one_product_reach(name, tflops):
    spec = CATALOGUE.spec("gpus", name)
    loop = GPUTimer(spec, CATALOGUE.kernel_constants(spec), sustained=True)
    seconds = float(loop.gemm(8192, 8192, 8192).seconds)
    assert 2 * 8192**3 / seconds / 1e12 == pytest.approx(tflops, rel=0.15)


@pytest.mark.parametrize("name", CATALOGUE.names("gpus"))
def test_every_gpu_without_measured_clocks_gets_sane_ones(name):
    """An L4 at 72 W is the slowest under load, as measured: nvidia-smi shows it near 900 of 2040 MHz."""
    constants = timer(name).matrix.libraries.values()
    sustained = constants["clock_fraction"] / (1 + constants["throttle"])
    assert 0.3 < sustained <= constants["clock_fraction"] * (1 + 1e-12)
    assert constants["clock_fraction"] * constants["compute_fraction"] <= 1 + 1e-12


@pytest.mark.parametrize("name", MEASURED)
def test_clocks_from_the_power_limit_are_near_those_that_were_measured(name):
    own = CATALOGUE.spec("gpus", name)
    measured = GPUTimer(own, CATALOGUE.kernel_constants(own)).matrix.libraries.values()
    predicted = timer(name).matrix.libraries.values()
    clocks = [one["clock_fraction"] / (1 + one["throttle"]) for one in (measured, predicted)]
    assert clocks[1] == pytest.approx(clocks[0], rel=0.17)


def test_measured_clocks_come_before_those_of_the_power_limit():
    spec = CATALOGUE.spec("gpus", "rtx-4090")
    own = GPUTimer(spec, CATALOGUE.kernel_constants(spec)).matrix.libraries.values()
    given = spec.kernel.gemm["default"]
    assert (own["clock_fraction"], own["throttle"]) == (given.clock_fraction.si, given.throttle.si)


def test_a_power_limit_set_by_hand_is_that_of_the_derived_gpu():
    """Also where clocks were measured, which then hold for the whole limit only."""
    by_name = CATALOGUE.spec("gpus", "h100-sxm@350W")
    by_hand = CATALOGUE.spec("gpus", "h100-sxm", [Override("gpu.power.tdp", "350 W", "--set")])
    whole = CATALOGUE.spec("gpus", "h100-sxm")
    assert (by_hand.name, by_hand.power.tdp.si, by_hand.power.tdp.source) == ("h100-sxm@350W", 350, "--set")
    times = [
        float(GPUTimer(gpu, CATALOGUE.kernel_constants(gpu)).gemm(8192, 8192, 8192).seconds)
        for gpu in (by_hand, by_name, whole)
    ]
    assert times[0] == pytest.approx(times[1], rel=1e-9)
    assert times[0] > 1.2 * times[2]
    same = [Override("gpu.power.tdp", "700 W", "--set")]
    assert CATALOGUE.spec("gpus", "h100-sxm", same).name == "h100-sxm"
    assert CATALOGUE.cluster("dgx-h100", [Override("gpu.power.tdp", "350 W", "--set")]).gpu.name == "h100-sxm@350W"


@pytest.mark.parametrize(("name", "given"), [("h100-sxm", "20 W"), ("h100-sxm@500W", "400 W")])
def test_a_power_limit_that_cannot_be_set_is_refused_where_it_was_set(name, given):
    with pytest.raises(InputError) as caught:
        CATALOGUE.spec("gpus", name, [Override("gpu.power.tdp", given, "--set")])
    assert str(caught.value).startswith("--set: gpu.power.tdp: ")


def test_clocks_of_vector_units_follow_from_their_own_peak_and_energy():
    """Those of tensor cores, measured or not, say nothing of them; nor does a tensor peak that is set by hand."""
    l4, l40s, changed = timer("l4"), timer("l40s"), timer("l4", gpu__peak__fp16_fp32_tensor="60 TFLOPS")
    vector = l4.matrix.libraries.values("simt")
    assert vector["energy_per_flop"] > 2 * l4.matrix.libraries.values()["energy_per_flop"]
    demand = vector["energy_per_flop"] * vector["compute_fraction"] * l4.gpu.vector_peak.si / 72
    assert (vector["clock_fraction"], vector["throttle"]) == (pytest.approx(clock_under(1.0, demand)), 0)
    assert changed.matrix.libraries.values("simt")["clock_fraction"] == vector["clock_fraction"]
    own = CATALOGUE.spec("gpus", "l40s")
    measured = GPUTimer(own, CATALOGUE.kernel_constants(own)).matrix.libraries.values("simt")
    assert (
        measured["clock_fraction"] == l40s.matrix.libraries.values("simt")["clock_fraction"] > vector["clock_fraction"]
    )
