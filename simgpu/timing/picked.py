"""Latent attention over keys that an indexer picked (DeepSeek Sparse Attention), by the kernel that an engine calls.

- A kernel of whole blocks (flash_mla_sparse_fwd of FlashMLA) gives each query token places for all keys that may be
  picked and multiplies them all, whether there are so many or not.
- On caches in 8 bits it widens the keys before (flash_mla_with_kvcache), none multiplied meanwhile.
- Kernels generated for TensorRT-LLM (trtllm-gen, datacentre Blackwell) gather the keys that there are.

vLLM and TensorRT-LLM send decodes through the kernel of prompts as well: a decode of one sequence takes as long as one
of as many as there are multiprocessors. SGLang has FlashAttention 3 for them, whose cost is that of reading the keys.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.model.operators import BYTES, Attention
from simgpu.timing.constants import PickedConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import Array, ArrayLike, KernelTimes, smooth_maximum
from simgpu.timing.scan import SHARPNESS

FLASHMLA, TRTLLM = "flashmla", "trtllm"
LIBRARIES = {
    FLASHMLA: "FlashMLA for prompts and decodes, as in vLLM",
    TRTLLM: "TensorRT-LLM: its build of FlashMLA on Hopper, trtllm-gen on datacentre Blackwell",
}
"""Libraries that an engine may name. None: SGLang's choice, with dense attention of short prompts."""

WIDENS_ONCE = 32
"""Heads from which vLLM widens an 8-bit cache before the kernel of prompts (flashmla_sparse.py of vllm-project/vllm,
MIN_HEADS_FOR_BF16_PREFILL)."""
GATHERS = 16
"""Heads up to which vLLM takes trtllm-gen for 16-bit caches on datacentre Blackwell, as its tables name its kernels."""


class PickedWork(NamedTuple):
    """What attention over picked keys does; everything broadcasts."""

    rows: ArrayLike  # query tokens of all sequences
    heads: ArrayLike  # of this rank
    places: ArrayLike  # keys that are picked for each token
    width: float  # of a key and a value together, elements of the latent space
    peak: float  # dense of 16 bits, FLOP/s


def picked_time(
    work: PickedWork, device: Device, constants: PickedConstants, cast: float = 0, split: bool = False
) -> Array:
    """Seconds of a kernel of whole blocks, of one query token and a group of heads each.

        t = ceil(rows ceil(heads / H) / SMs) 2 places H width / (fraction peak / SMs)
            + ceil(rows / SMs) places cast / (w clock)

    `cast` elements of each key are widened by w in a clock of a multiprocessor, for all heads together where two
    multiprocessors share a token. `split`: keys of few tokens are split over multiprocessors, which finish together.
    """
    rows, places = np.asarray(work.rows, float), np.asarray(work.places, float)
    group = constants.picked_heads
    blocks = rows * np.ceil(np.asarray(work.heads, float) / group) / device.sm_count
    flops = 2.0 * places * group * work.width
    whole = blocks if split else np.ceil(blocks)
    found: Array = whole * flops * device.sm_count / (constants.picked_fraction * work.peak)
    if cast:
        widened = rows / device.sm_count if split else np.ceil(rows / device.sm_count)
        found = found + widened * places * cast / (constants.picked_cast_per_clock * device.clock)
    return found


def gathered_time(
    keys: ArrayLike, moved: float, flops: float, peak: float, device: Device, constants: PickedConstants
) -> tuple[Array, Array]:
    """Seconds to gather `keys` (of all query tokens together) of `moved` bytes, and of their products, `flops` each."""
    count = np.asarray(keys, float)
    return (
        count * moved / (constants.gathered_fraction * device.bandwidth),
        count * flops / (constants.gathered_products * peak),
    )


class PickedTimer:
    """Attention over picked keys on one GPU. `library`: one of `LIBRARIES`, or none of them."""

    def __init__(self, device: Device, calibration: Calibration) -> None:
        self.device, self.calibration = device, calibration

    def few(self, op: Attention, streamed: KernelTimes, library: str = DEFAULT) -> KernelTimes:
        """Of a few queries, of which `streamed` is how long as many keys take to read."""
        constants = self._constants(library)
        if self._gathers(op, library):
            return streamed
        if library != DEFAULT and not self._narrow(op):
            return max(streamed, self._whole(op, library), key=lambda times: float(times.seconds))
        if self._narrow(op) and constants.picked_cast_per_clock:
            products = picked_time(self._work(op), self.device, constants, op.v_dim, split=True)
        else:
            products = picked_time(self._work(op), self.device, constants, split=True)
            products = products * (constants.picked_fraction / constants.picked_few_fraction)
        seconds = smooth_maximum((np.asarray(streamed.seconds), products), SHARPNESS)
        return KernelTimes(seconds, np.maximum(streamed.compute, products), streamed.memory, streamed.latency)

    def prompt(self, op: Attention, library: str = DEFAULT) -> KernelTimes:
        """Of prompts."""
        return self._gathered(op) if self._gathers(op, library) else self._whole(op, library)

    def _whole(self, op: Attention, library: str) -> KernelTimes:
        constants = self._constants(library)
        widens = self._narrow(op) and not (library == FLASHMLA and op.heads.size >= WIDENS_ONCE)
        cast = op.v_dim if widens and constants.picked_cast_per_clock else 0
        products, launch = (
            picked_time(self._work(op), self.device, constants, cast),
            np.asarray(constants.step_overhead),
        )
        return KernelTimes(launch + products, products, np.zeros_like(products), launch)

    def _gathered(self, op: Attention) -> KernelTimes:
        constants = self._constants(TRTLLM)
        dtype = op.kv_dtype or op.dtype
        flops = 2.0 * op.heads.size * (op.head_dim + op.v_dim)
        peak = self.device.peak(dtype if self.device.engine(dtype) else op.dtype)
        keys = op.pairs * op.batch.size
        memory, products = gathered_time(keys, op.cache_width * BYTES[dtype], flops, peak, self.device, constants)
        launch = np.asarray(constants.step_overhead)
        seconds = launch + smooth_maximum((memory, products), SHARPNESS)
        return KernelTimes(seconds, products, memory, launch)

    def _gathers(self, op: Attention, library: str) -> bool:
        """Whether trtllm-gen takes it: in TensorRT-LLM, of 8-bit caches, and of few heads in vLLM."""
        few = library == FLASHMLA and op.heads.size <= GATHERS
        return bool(self._constants(TRTLLM).gathered_fraction) and (library == TRTLLM or self._narrow(op) or few)

    @staticmethod
    def _narrow(op: Attention) -> bool:
        return BYTES[op.kv_dtype or op.dtype] < 2

    def _work(self, op: Attention) -> PickedWork:
        wide = "bf16" if self.device.engine("bf16") else op.dtype
        width, peak = float(op.head_dim + op.v_dim), self.device.peak(wide)
        return PickedWork(op.batch.size * op.queries, op.heads.size, op.window, width, peak)

    def _constants(self, library: str) -> PickedConstants:
        return self.calibration.read(PickedConstants, library)
