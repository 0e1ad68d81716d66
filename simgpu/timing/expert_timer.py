"""Methods of `simgpu.timing.timer.GPUTimer` for the matrix multiplications of experts in training.

`MatrixTimer.moe_layer` times the whole layer of an inference engine, whose kernels are fused around the
multiplications. Training libraries run them one by one, forward and for both gradients; here is one of them.
"""

from __future__ import annotations

import numpy as np

from simgpu.errors import InputError, shown
from simgpu.model.operators import BYTES
from simgpu.timing.matrix_timer import MatrixTimer
from simgpu.timing.parts import KernelTimes


class ExpertTimer(MatrixTimer):
    """Grouped matrix multiplications."""

    def experts(
        self, tokens: int, topk: int, experts: int, ep: int, n: int, k: int, distribution: str = "balanced",
        weight_gradient: bool = False, dtype: str = "bf16", sustained: bool | None = None, whole: bool = True,
    ) -> KernelTimes:  # fmt: skip
        """One multiplication of all experts of the busiest of `ep` ranks: their tokens [v, k] by [k, n] each.

        `tokens` enter over all ranks and visit `topk` of `experts`; `distribution` as in
        `simgpu.timing.routing.rank_loads`, `whole` as in `rank_load`. `weight_gradient`: [k, v] by [v, n] instead,
        whose output is as large as the weights and whose tiles are those of its rows k.
        """
        from simgpu.timing.moe import grouped_gemm_time
        from simgpu.timing.routing import TILE_ROWS, rank_load

        try:
            load = rank_load(tokens, topk, experts, ep, distribution, whole)
        except ValueError:
            problem = f"{shown(distribution)} is not known; expected balanced, random, power_law_A or popularity_A"
            raise InputError(problem, key="distribution") from None
        figures = {**self.device, **self.matrix_constants()}
        figures |= self.constants.group("moe", self.expert_library(dtype))
        peak, clock = self.peak(dtype), figures.pop("clock")
        slower = figures["throttle"]
        if not (self.sustained if sustained is None else sustained):
            ideal = 2 * load.visits * n * k / peak
            slower *= ideal / (ideal + figures["throttle_time"])
        blocks, visits, rows = np.asarray(load.blocks), load.visits, float(k)
        if weight_gradient:
            blocks = load.active * np.ceil(k / np.asarray(TILE_ROWS, dtype=float))
            visits, rows = load.active * k, max(load.visits / load.active, 1.0)
        times = grouped_gemm_time(
            blocks, load.active, visits, n, rows, input_bytes=BYTES[dtype], resident_bytes=np.inf,
            clock=clock * figures["clock_fraction"] / (1 + slower), peak_per_clock=peak / clock, **figures,
        )  # fmt: skip
        overhead = np.full_like(times.seconds, figures["launch_overhead"])
        return KernelTimes(times.seconds + overhead, times.compute, times.memory, times.latency + overhead)
