"""Clocks under the power limit: the closed form, its bounds, and which GPUs it is asked for."""

from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue
from simgpu.errors import InputError
from simgpu.overrides import Override
from simgpu.timing.power import NOT_CORES, tensor_clock
from simgpu.timing.timer import GPUTimer

repeatable = settings(derandomize=True, deadline=None, max_examples=200)

CATALOGUE = Catalogue()
MEASURED = ["a100-sxm-80gb", "a40", "h100-sxm", "l40s", "rtx-3090", "rtx-4090", "rtx-a6000"]

watts = st.floats(20.0, 2000.0)
peaks = st.floats(1e12, 1e16)
fractions = st.floats(0.3, 1.0)
energies = st.floats(1e-13, 1e-11)
exponents = st.floats(0.0, 1.0)


def timer(name, **changes):
    overrides = [
        Override(key.replace("__", ".").replace("_fp32_", "-fp32-"), value, "set") for key, value in changes.items()
    ]
    spec = CATALOGUE.spec("gpus", name, overrides)
    return GPUTimer(spec, CATALOGUE.kernel_constants(spec, without=[name]))


@repeatable
@given(watts, peaks, fractions, energies, exponents)
def test_a_clock_is_what_the_power_left_for_the_cores_pays_for(tdp, peak, fraction, energy, exponent):
    burst, throttle = tensor_clock(tdp, peak, fraction, energy, exponent)
    sustained = burst / (1 + throttle)
    assert 0 < sustained <= burst * (1 + 1e-12) and burst <= 1
    assert throttle >= 0
    assert sustained == pytest.approx(min(1, sqrt((1 - NOT_CORES) * tdp / (energy * fraction * peak))), rel=1e-12)
    assert burst == pytest.approx(sustained**exponent, rel=1e-12)


def test_a_burst_is_unthrottled_or_throttled_at_once_at_the_ends_of_the_exponent():
    half = {"tdp": 100 / (1 - NOT_CORES), "peak": 4e14, "compute_fraction": 1.0, "energy_per_flop": 1e-12}
    assert tensor_clock(**half, burst_exponent=0) == (1.0, pytest.approx(1.0))
    assert tensor_clock(**half, burst_exponent=1) == (pytest.approx(0.5), pytest.approx(0.0))
    assert tensor_clock(**half, burst_exponent=0.5) == (pytest.approx(0.5**0.5), pytest.approx(2**0.5 - 1))


@repeatable
@given(watts, st.floats(1.0, 4.0), peaks, fractions, energies, exponents)
def test_more_power_never_lowers_a_clock_and_a_faster_chip_never_gets_slower(tdp, more, peak, fraction, energy, how):
    at, above = (tensor_clock(power, peak, fraction, energy, how) for power in (tdp, more * tdp))
    assert above[0] >= at[0] * (1 - 1e-12)
    assert above[0] / (1 + above[1]) >= at[0] / (1 + at[1]) * (1 - 1e-12)
    wide = tensor_clock(tdp, more * peak, fraction, energy, how)
    assert wide[0] * more * peak >= at[0] * peak * (1 - 1e-12)
    assert wide[0] / (1 + wide[1]) * more >= at[0] / (1 + at[1]) * (1 - 1e-12)


@pytest.mark.parametrize("name", CATALOGUE.names("gpus"))
def test_every_gpu_without_measured_clocks_gets_sane_ones(name):
    """An L4 at 72 W is the slowest under load, as measured: nvidia-smi shows it near 900 of 2040 MHz."""
    constants = timer(name).matrix.libraries.values()
    sustained = constants["clock_fraction"] / (1 + constants["throttle"])
    assert 0.3 < sustained <= constants["clock_fraction"] <= 1


@pytest.mark.parametrize("name", MEASURED)
def test_clocks_from_the_power_limit_are_near_those_that_were_measured(name):
    own = CATALOGUE.spec("gpus", name)
    measured = GPUTimer(own, CATALOGUE.kernel_constants(own)).matrix.libraries.values()
    predicted = timer(name).matrix.libraries.values()
    clocks = [one["clock_fraction"] / (1 + one["throttle"]) for one in (measured, predicted)]
    assert clocks[1] == pytest.approx(clocks[0], rel=0.17)


def test_measured_clocks_come_before_those_of_the_power_limit():
    own = GPUTimer(
        spec := CATALOGUE.spec("gpus", "h100-sxm"), CATALOGUE.kernel_constants(spec)
    ).matrix.libraries.values()
    assert (own["clock_fraction"], own["throttle"]) == (1.0, spec.kernel.gemm["default"].throttle.si)


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
    known = {name: vector[name] for name in ("compute_fraction", "energy_per_flop", "burst_exponent")}
    assert vector["energy_per_flop"] > 2 * l4.matrix.libraries.values()["energy_per_flop"]
    assert (vector["clock_fraction"], vector["throttle"]) == tensor_clock(72, l4.gpu.vector_peak.si, **known)
    assert changed.matrix.libraries.values("simt")["clock_fraction"] == vector["clock_fraction"]
    own = CATALOGUE.spec("gpus", "l40s")
    measured = GPUTimer(own, CATALOGUE.kernel_constants(own)).matrix.libraries.values("simt")
    assert (
        measured["clock_fraction"] == l40s.matrix.libraries.values("simt")["clock_fraction"] > vector["clock_fraction"]
    )
