"""Laws over the whole catalogue: what figures of one chip, one kind of memory or one architecture have in common.

A figure that is of a board, a module, a die or a sparse peak instead of the GPU breaks one of them.
"""

import itertools
import math

import pytest

from simgpu import Catalogue
from simgpu.hardware.derive import LOWEST_CAP, derive
from simgpu.hardware.plausible import PIN_RATES, RELATED, doubts, most_of
from simgpu.timing.timer import GPUTimer

CATALOGUE = Catalogue()
GPUS = {name: CATALOGUE.spec("gpus", name) for name in CATALOGUE.names("gpus")}
FAMILIES = {gpu.architecture: tuple(CATALOGUE.architectures(gpu)) for gpu in GPUS.values()}
MOST = {name: found for name, levels in FAMILIES.items() if (found := most_of(levels)[1]) is not None}
SAYING = [name for name, levels in FAMILIES.items() if levels[0].most]
RATED = [name for name, gpu in GPUS.items() if gpu.architecture in SAYING]


def top(gpu):
    return (gpu.compute.max_clock or gpu.compute.boost_clock).si


def per_clock(gpu, rate):
    """`rate` (FLOP/s, W) of one multiprocessor in one clock of the tensor peaks."""
    return rate / gpu.compute.sm_count.si / gpu.compute.boost_clock.si


def chip(gpu):
    """What tells chips of one architecture apart: GP100 from GP104, GeForce from professional cards."""
    rates = (per_clock(gpu, gpu.half_peak.si), per_clock(gpu, gpu.vector_peak.si))
    return gpu.architecture, *(round(math.log2(rate)) for rate in rates)


def pairs():
    """Pairs of GPUs with the same chip."""
    chips = {}
    for gpu in GPUS.values():
        chips.setdefault(chip(gpu), []).append(gpu)
    return [pair for alike in chips.values() for pair in itertools.combinations(alike, 2)]


# ---- peaks -----------------------------------------------------------------------------------------------


def test_peaks_of_one_chip_differ_by_its_clocks():
    """Per multiprocessor, within what the clocks of both allow: the clock of the tensor peaks to the highest."""
    for a, b in pairs():
        if a.architecture == "gaudi":  # counts vector processors, multiplies elsewhere
            continue
        theirs = {peak.key: peak.si / b.compute.sm_count.si for peak in b.peak}
        for peak in a.peak:
            if peak.key in theirs:
                ratio = peak.si / a.compute.sm_count.si / theirs[peak.key]
                low, high = a.compute.boost_clock.si / top(b), top(a) / b.compute.boost_clock.si
                assert 0.98 * low <= ratio <= 1.02 * high, (peak.key, a.name, b.name)


@pytest.mark.parametrize("name", SAYING)
def test_what_an_architecture_says_of_its_most_is_of_its_gpus(name):
    mine = [gpu for gpu in GPUS.values() if gpu.architecture == name]
    most = MOST[name]
    assert most.flop_per_clock.si == pytest.approx(max(per_clock(gpu, gpu.half_peak.si) for gpu in mine), rel=0.01)
    watts = max(1e9 * per_clock(gpu, gpu.power.tdp.si) for gpu in mine)
    assert most.watts_per_ghz.si <= 1.01 * watts and watts <= RELATED * most.watts_per_ghz.si


# ---- memory ----------------------------------------------------------------------------------------------

STACKS = (4, 8, 16, 24, 32, 36, 48)  # GiB on the 1024 bits of one stack of HBM
CHIPS = (0.5, 1, 1.5, 2, 3, 4, 6)  # GiB on the 32 bits of one chip of GDDR, or of two that share them


@pytest.mark.parametrize("name", [name for name, gpu in GPUS.items() if gpu.memory.bus_width])
def test_bandwidth_is_bus_width_times_a_rate_of_that_memory(name):
    memory = GPUS[name].memory
    slowest, fastest = PIN_RATES["LPDDR" if memory.type.startswith("LPDDR") else memory.type]
    assert slowest <= 8 * memory.bandwidth.si / memory.bus_width.si <= fastest


@pytest.mark.parametrize("name", [name for name, gpu in GPUS.items() if gpu.memory.bus_width])
def test_capacity_is_whole_stacks_or_chips_in_binary_units(name):
    """Vendors print GB and sell GiB: what lies beside a whole number is decimal, of one die, or of two GPUs."""
    memory = GPUS[name].memory
    bits, sizes = (1024, STACKS) if memory.type.startswith("HBM") else (32, CHIPS)
    if memory.type.startswith("LPDDR"):  # the GPU's part of what it shares with a processor
        return
    each = memory.capacity.si / 2**30 / (memory.bus_width.si / bits)
    assert min(abs(each / size - 1) for size in sizes) < 0.001, each


def test_stacks_of_one_kind_are_about_as_fast_on_every_gpu_of_an_architecture():
    stacked = [gpu for gpu in GPUS.values() if gpu.memory.bus_width and gpu.memory.type.startswith("HBM")]
    for a, b in itertools.combinations(stacked, 2):
        if (a.architecture, a.memory.type) == (b.architecture, b.memory.type):
            rates = [gpu.memory.bandwidth.si / gpu.memory.bus_width.si for gpu in (a, b)]
            assert max(rates) <= 1.27 * min(rates), (a.name, b.name)  # V100S: 1,107 MHz, V100: 876


# ---- links -----------------------------------------------------------------------------------------------


def test_links_of_one_chip_are_of_one_generation():
    """A superchip reaches its processor another way."""
    for pair in pairs():
        for what in ("host_link", "nvlink"):
            links = {port.link for gpu in pair if (port := getattr(gpu, what))}
            assert len({link for link in links if CATALOGUE.spec("links", link).kind in ("pcie", "nvlink")}) <= 1, links


def test_links_between_gpus_are_counted_in_one_direction():
    """They carry at most a fifth of what the memory does; data sheets print both directions together."""
    for name, gpu in GPUS.items():
        if port := gpu.nvlink:
            lanes = port.lanes.si * CATALOGUE.spec("links", port.link).lane_bandwidth.si
            assert (port.bandwidth.si if port.bandwidth else lanes) <= 0.2 * gpu.memory.bandwidth.si, name


# ---- power -----------------------------------------------------------------------------------------------


def test_a_module_takes_more_than_its_gpu():
    of_modules = {name for name, gpu in GPUS.items() if gpu.power.module}
    assert {"gh200-96gb", "mi250-1gcd"} <= of_modules
    for name in of_modules:
        assert GPUS[name].power.tdp.si < GPUS[name].power.module.si, name


def sustained(gpu):
    """Rate of a large product of 16-bit numbers that goes on for long, over the peak."""
    timer = GPUTimer(gpu, CATALOGUE.kernel_constants(gpu))
    dtype, accumulate, _ = gpu.half_peak.key.split("-")
    seconds = float(timer.gemm(8192, 8192, 8192, dtype=dtype, accumulate=accumulate, sustained=True).seconds)
    return 2 * 8192**3 / seconds / gpu.half_peak.si


def test_products_on_one_chip_differ_by_its_power_and_clocks_alone():
    """Same chip, same watts for a FLOP, same share of the peak; more watts never less, and not more than in proportion.

    A tenth is left for clocks that were measured: GeForce boards run above the clock that is printed.
    """
    shares = {name: sustained(gpu) for name, gpu in GPUS.items() if gpu.half_peak.engine == "tensor"}
    for pair in pairs():
        for a, b in (pair, pair[::-1]):
            if a.name in shares and a.architecture in MOST:
                watts = a.power.tdp.si / a.half_peak.si / (b.power.tdp.si / b.half_peak.si)
                assert shares[a.name] / shares[b.name] <= 1.12 * max(1, watts), (a.name, b.name)


def test_the_same_chip_at_the_same_clocks_and_power_is_as_fast():
    """Hopper's parts of 132 multiprocessors and 700 W: the H100, the H200, and the GPU of every GH200."""
    found = [gpu for gpu in GPUS.values() if gpu.architecture == "hopper" and gpu.power.tdp.si == 700]
    assert {"h100-sxm", "h200-sxm", "gh200-96gb", "gh200-141gb"} <= {gpu.name for gpu in found}
    alike = [gpu for gpu in found if chip(gpu) == chip(GPUS["h100-sxm"]) and gpu.compute.sm_count.si == 132]
    rates = [sustained(gpu) * gpu.half_peak.si for gpu in alike]
    assert max(rates) <= 1.02 * min(rates)


@pytest.mark.parametrize("name", CATALOGUE.names("nodes"))
def test_the_power_of_a_node_is_that_of_its_gpus_and_of_the_rest(name):
    """What is not the GPUs' takes as much as they do at most, beside a host of 500 W: the rest is not the whole."""
    node = CATALOGUE.spec("nodes", name)
    if node.power:
        gpus = node.gpu_count * GPUS[node.gpu].power.tdp.si
        assert node.power.overhead.si <= 1.1 * gpus + 500


@pytest.mark.parametrize("name", CATALOGUE.names("nodes"))
def test_what_a_superchip_takes_beside_its_gpu_is_in_its_node(name):
    """The limit of a GPU leaves out the processor of its module, which the overhead of the node has to hold."""
    node = CATALOGUE.spec("nodes", name)
    gpu = GPUS[node.gpu]
    if node.power and gpu.power.module and gpu.host_link.link == "nvlink-c2c":
        assert node.power.overhead.si >= node.gpu_count * (gpu.power.module.si - gpu.power.tdp.si)


# ---- what is derived -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GPUS)
def test_a_power_cap_and_a_clock_limit_keep_the_laws(name):
    gpu = GPUS[name]
    share, drawn = max(0.5, LOWEST_CAP), CATALOGUE.drawn(gpu)
    half_watts = derive(gpu, [f"{round(share * gpu.power.tdp.si, 1)}W"], drawn)
    half_clock = derive(gpu, [f"{round(gpu.compute.boost_clock.si / 2e6)}MHz"], drawn)
    for made in (half_watts, half_clock):
        assert doubts(made, FAMILIES[gpu.architecture]) == []
        low = made.compute.boost_clock.si / gpu.compute.boost_clock.si
        assert low < 1 or (made is half_watts and drawn.busy <= share)  # what never draws as much keeps its clock
        for mine, whole in zip(made.peak, gpu.peak, strict=True):
            assert mine.datasheet == whole.si
            assert low * gpu.compute.boost_clock.si / top(gpu) * 0.999 <= mine.si / whole.si <= 1


# ---- the same of users' own files ------------------------------------------------------------------------


def changed(gpu, room, name, factor):
    part = getattr(gpu, room)
    figure = getattr(part, name)
    figure = figure.model_copy(update={"value": figure.value * factor})
    return gpu.model_copy(update={room: part.model_copy(update={name: figure})})


@pytest.mark.parametrize("name", RATED)
def test_a_peak_with_sparsity_is_doubted(name):
    """Twice the dense peak, on every card but those that run FP32 sums at half the rate of the chip."""
    gpu, levels = GPUS[name], FAMILIES[GPUS[name].architecture]
    sparse = [peak.model_copy(update={"value": 2 * peak.value}) for peak in gpu.peak]
    found = doubts(gpu.model_copy(update={"peak": sparse}), levels)
    whole = per_clock(gpu, gpu.half_peak.si) > 0.9 * MOST[gpu.architecture].flop_per_clock.si
    assert any("with sparsity" in doubt for doubt in found) or not whole


def test_the_power_of_a_module_is_doubted():
    for name, watts in {"gh200-96gb": 1000, "gb200": 2700, "gb300": 3000, "h100-sxm": 1000, "rtx-5090": 850}.items():
        gpu = GPUS[name]
        (doubt,) = doubts(changed(gpu, "power", "tdp", watts / gpu.power.tdp.si), FAMILIES[gpu.architecture])
        assert doubt.startswith("gpu.power.tdp (per multiprocessor and GHz) = ") and "of a module" in doubt
    assert doubts(changed(GPUS["gh200-96gb"], "power", "tdp", 900 / 700), FAMILIES["hopper"]) == []


@pytest.mark.parametrize(("name", "factor"), [("h100-sxm", 2), ("mi300x", 2), ("b200-sxm", 0.5), ("rtx-4090", 2)])
def test_a_bandwidth_that_the_bus_does_not_carry_is_doubted(name, factor):
    (doubt,) = doubts(changed(GPUS[name], "memory", "bandwidth", factor), FAMILIES[GPUS[name].architecture])
    assert "per pin of gpu.memory.bus_width" in doubt and f"{GPUS[name].memory.type} has" in doubt
