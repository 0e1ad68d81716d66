"""Times the experts of mixture-of-experts layers of one GPU.

Inference engines fuse kernels around the multiplications of a layer, which is timed whole; training libraries run the
multiplications one by one, forward and for both gradients.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from simgpu.errors import InputError, shown
from simgpu.hardware.inherit import DEFAULT, Calibration, filled
from simgpu.memo import Region
from simgpu.model.config import MAX_EXPERTS
from simgpu.model.formats import format_of
from simgpu.model.operators import BYTES
from simgpu.timing.checks import check_dtypes, check_library, check_sizes
from simgpu.timing.constants import ExpertConstants
from simgpu.timing.device import Device
from simgpu.timing.expert_libraries import LIBRARIES
from simgpu.timing.gemm import Operands
from simgpu.timing.gemm_libraries import MOST, GemmLibraries
from simgpu.timing.moe import HIDDEN_BYTES, ExpertLoad, LayerWork, grouped_gemm_time, moe_time
from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.placing import parted
from simgpu.timing.routing import KNOWN, TILE_ROWS, RankLoad, rank_load

BY_DTYPE = {"fp4": "cutlass-fp4", "fp8": "cutlass-fp8", "int8": "cutlass-fp8"}
"""Which library multiplies experts in a data type."""


class ExpertLayerWork(NamedTuple):
    """A mixture-of-experts layer; all but `whole` broadcasts against each other."""

    tokens: ArrayLike  # that enter, over the whole expert-parallel group
    hidden: ArrayLike  # width of the model
    inner: ArrayLike  # width of one expert, of all tensor-parallel ranks
    topk: ArrayLike  # experts that each token visits
    experts: ArrayLike
    tp: ArrayLike = 1  # ranks that each expert is split over
    ep: ArrayLike = 1  # ranks that share the experts
    gated: ArrayLike = True
    distribution: ArrayLike = "random"  # of tokens over experts (`simgpu.timing.routing.rank_loads`)
    whole: bool = True  # as in `simgpu.timing.routing.rank_load`


class GroupedWork(NamedTuple):
    """One multiplication of all experts of the busiest of `ep` ranks: their tokens [v, k] by [k, n] each."""

    tokens: int  # that enter, over all ranks
    topk: int  # experts that each token visits
    experts: int
    ep: int  # ranks that share the experts
    n: int
    k: int
    distribution: str = "balanced"  # of tokens over experts (`simgpu.timing.routing.rank_loads`)
    weight_gradient: bool = False  # [k, v] by [v, n] instead: an output as large as the weights, tiles of rows of k
    whole: bool = True  # as in `simgpu.timing.routing.rank_load`


class ExpertTimer:
    """Grouped matrix multiplications and the layers around them."""

    def __init__(self, device: Device, calibration: Calibration, libraries: GemmLibraries, sustained: bool) -> None:
        self.device, self.calibration, self.libraries, self.sustained = device, calibration, libraries, sustained
        self._constants: Region[str, ExpertConstants] = Region(MOST)

    def library(self, dtype: str) -> str:
        """The library that multiplies experts in a data type."""
        return BY_DTYPE.get(dtype, DEFAULT)

    def constants(self, library: str = DEFAULT) -> ExpertConstants:
        """Constants of a library of experts: what it does not give is that of large matrix products."""

        def made() -> ExpertConstants:
            values = {**self.libraries.values(), **self.calibration.group(ExpertConstants.operators, library)}
            return filled(ExpertConstants, values, f"'{self.device.name}', library '{library}',")

        return self._constants.known(library, made)

    def layer(
        self,
        work: ExpertLayerWork,
        dtype: str = "bf16",
        library: str = DEFAULT,
        rotation: float = math.inf,
        sustained: bool | None = None,
        weights: str | None = None,
    ) -> KernelTimes:
        """The experts of a layer on the busiest rank, without all-to-all.

        `weights` as in `MatrixTimer.gemm`; `rotation` and `sustained` as in `simgpu.timing.moe.moe_time`.
        """
        tokens, topk = work.tokens, work.topk
        check_sizes(tokens=tokens, hidden=work.hidden, inner=work.inner, topk=topk, tp=work.tp, ep=work.ep)
        check_sizes(1, MAX_EXPERTS, experts=work.experts)
        check_dtypes(dtype)
        check_library(library, self.calibration, "moe", LIBRARIES)
        _check_experts(topk, work.experts, work.ep, _copies(work.distribution))
        used = self.library(dtype) if library == DEFAULT else library
        rank = LayerWork(
            tokens,
            _loads(work),
            work.hidden,
            np.asarray(work.inner, float) / np.asarray(work.tp, float),
            work.gated,
            routed=np.asarray(tokens, float) * np.asarray(topk, float),
            experts=work.experts,
        )
        return moe_time(
            rank,
            self._operands(dtype, weights),
            self.device,
            self.constants(used),
            self.libraries.of().clock,
            rotation=rotation,
            sustained=self.sustained if sustained is None else sustained,
        )

    def product(self, work: GroupedWork, dtype: str = "bf16", sustained: bool | None = None) -> KernelTimes:
        """One multiplication of all experts of the busiest rank, in a launch of its own."""
        load = _load(work.tokens, work.topk, work.experts, work.ep, work.distribution, work.whole)
        operands, constants = self._operands(dtype), self.constants(self.library(dtype))
        ideal = 2 * load.visits * work.n * work.k / operands.peak
        long = self.sustained if sustained is None else sustained
        hertz = self.libraries.of().clock.under_load(self.device.clock, ideal, long)
        rank, rows = ExpertLoad(np.asarray(load.blocks), load.active, load.visits), float(work.k)
        if work.weight_gradient:
            blocks = load.active * np.ceil(work.k / np.asarray(TILE_ROWS, dtype=float))
            rank = ExpertLoad(blocks, load.active, load.active * work.k)
            rows = max(load.visits / load.active, 1.0)
        times = grouped_gemm_time(rank, work.n, rows, operands, self.device, constants, hertz=hertz)
        overhead = np.full_like(times.seconds, constants.launch_overhead)
        return KernelTimes(times.seconds + overhead, times.compute, times.memory, times.latency + overhead)

    def _operands(self, dtype: str, weights: str | None = None) -> Operands:
        width = BYTES[dtype]
        stored = format_of(weights).bytes if weights else width
        return Operands(width, HIDDEN_BYTES, stored, self.device.peak(dtype))


def _loads(work: ExpertLayerWork) -> ExpertLoad:
    """Loads of the busiest rank, arrays over layers."""
    given = np.broadcast_arrays(work.tokens, work.topk, work.experts, work.ep, work.distribution)
    flat = zip(*(array.reshape(-1).tolist() for array in given), strict=True)
    loads = [_load(int(n), int(t), int(e), int(r), str(how), work.whole) for n, t, e, r, how in flat]
    shape = given[0].shape
    return ExpertLoad(
        np.reshape([one.blocks for one in loads], (*shape, len(TILE_ROWS))),
        np.reshape([one.active for one in loads], shape),
        np.reshape([one.visits for one in loads], shape),
    )


def _load(tokens: int, topk: int, experts: int, ranks: int, distribution: str, whole: bool) -> RankLoad:
    """`rank_load`. Raises `InputError` for a distribution that is not known."""
    try:
        return rank_load(tokens, topk, experts, ranks, distribution, whole)
    except ValueError:
        problem = f"{shown(distribution[:100])} is not known; expected {KNOWN}"
        raise InputError(problem, key="distribution") from None


def _copies(distribution: ArrayLike) -> ArrayLike:
    """Copies of popular experts that distributions name."""
    if isinstance(distribution, str):
        return parted(distribution)[1] or 0
    return np.vectorize(lambda one: parted(str(one))[1] or 0, otypes=[float])(distribution)


def _check_experts(topk: ArrayLike, experts: ArrayLike, ep: ArrayLike, copies: ArrayLike = 0) -> None:
    """Raise `InputError` unless a token can visit `topk` experts and each of `ep` ranks has as many as the others."""
    given = (np.asarray(one, float) for one in (topk, experts, ep, copies))
    k, e, r, more = np.broadcast_arrays(*given)
    wrongs = (("topk", k, k > e, "is more than"), ("ep", r, (e + more) % r != 0, "does not divide"))
    for key, values, wrong, says in wrongs:
        if wrong.any():
            raise InputError(f"{values[wrong].flat[0]:g} {says} experts = {e[wrong].flat[0]:g}", key=key)
