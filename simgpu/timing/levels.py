"""What a board draws by what it does: its levels, one law for every GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.hardware.power import held_clock, tensor_demand, voltage
from simgpu.hardware.spec import GPUSpec
from simgpu.timing.constants import LevelConstants, PowerConstants
from simgpu.timing.gemm_libraries import SIMT

RUNNING = {"gemm": "product", "attention": "attention", "scan": "attention", "moe": "experts"}
"""Which constant a class of kernels adds to waiting; others stream."""


@dataclass(frozen=True)
class Levels:
    """What one board draws by what it does, W.

        P = waiting + running(class) + pipe F / (peak t) + memory B / (bandwidth t),   at most the limit

    for a kernel that issues F FLOPs and moves B bytes in t seconds: a part for as long as anything runs, and an energy
    for each operation and each byte. `pipe`, the power of products at their peak, is the energy of a FLOP that holds
    the clocks too (`energy_per_flop`); FLOPs of narrower types cost less in proportion to their rate, as boards draw in
    fp8 what they draw in bf16.
    Under a cap or a clock limit an operation costs less, as the voltage falls with the clock (`simgpu.hardware.power`),
    and what runs goes with clock x voltage squared; memory and what waits do not change.

    Parameters
    ----------
    idle, waiting : without any work; in a job while no kernel runs
    running : by class: product, attention, experts, streaming, communication
    pipe : of products at the datasheet peak of their type
    memory : at the datasheet bandwidth
    bandwidth : B/s of the datasheet
    limit : the power limit, or cap
    padding : FLOPs that tiles of experts issue for one of theirs
    regime : calibrated (constants fitted on this GPU), inherited (on its architecture) or datasheet (on any)
    """

    idle: float
    waiting: float
    running: Mapping[str, float]
    pipe: float
    memory: float
    bandwidth: float
    limit: float
    regime: str
    padding: float = 1.0

    def kernel(self, group: str, seconds: float, peak_s: float, moved: float) -> float:
        """W while a kernel of class `group` runs, of which `peak_s` of its `seconds` would do at peak.

        `moved` are its bytes.
        """
        base = self.waiting + self.running[RUNNING.get(group, "streaming")]
        if not seconds:
            return min(base, self.limit)
        issued = peak_s * (self.padding if group == "moe" else 1.0)
        work = self.pipe * min(issued / seconds, 1.0) + self.memory * moved / self.bandwidth / seconds
        return min(base + work, self.limit)

    def collective(self, seconds: float, size: float) -> float:
        """W while a collective of `size` bytes runs and no kernel does; it reads and writes them in memory."""
        rate = 2 * size / seconds if seconds else 0.0
        work = self.memory * min(rate / self.bandwidth, 1.0)
        return min(self.waiting + self.running["communication"] + work, self.limit)


def levels_of(gpu: GPUSpec, constants: Calibration) -> Levels:
    """The levels of a GPU of the catalogue, with its cap or clock limit where it has one."""
    shares = constants.read(LevelConstants)
    tensor = any(one.engine == "tensor" for one in gpu.peak)
    of_products = constants.read(PowerConstants, DEFAULT if tensor else SIMT)
    rated = (gpu.power.rated_tdp or gpu.power.tdp).si
    half, vector = gpu.power.rated_peak, gpu.power.rated_vector_peak
    peak = (half.si if half else gpu.half_peak.datasheet) if tensor else (vector or gpu.vector_peak).si
    demand = tensor_demand(gpu, of_products.energy_per_flop, of_products.compute_fraction)
    clock, free = held_clock(gpu, demand)
    clock = min(clock, free)
    fall = (voltage(clock) / voltage(free)) ** 2
    slower = clock / free * fall
    running = {name: getattr(shares, name) * rated * slower for name in (*_KERNELS, "communication")}
    return Levels(
        idle=min(shares.idle * rated, gpu.power.tdp.si),
        waiting=min(shares.waiting * rated, gpu.power.tdp.si),
        running=running,
        pipe=of_products.energy_per_flop * peak * fall,
        memory=shares.memory * rated,
        bandwidth=gpu.memory.bandwidth.si,
        limit=gpu.power.tdp.si,
        regime=constants.regime("power", DEFAULT),
        padding=shares.padding,
    )


_KERNELS = ("product", "attention", "experts", "streaming")
