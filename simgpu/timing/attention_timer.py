"""Times attention of one GPU."""

from __future__ import annotations

import numpy as np

from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.model.operators import BYTES
from simgpu.timing.attention import prefill_time
from simgpu.timing.attention_decode import decode_time
from simgpu.timing.attention_libraries import LIBRARIES, default_library
from simgpu.timing.attention_tiles import AttentionOperands
from simgpu.timing.attention_unfused import unfused_time
from simgpu.timing.attention_work import AttentionWork, LatentWork, MixedWork
from simgpu.timing.checks import check_dtypes, check_keys, check_library, check_name, check_sizes
from simgpu.timing.constants import DecodeConstants, PrefillConstants, UnfusedConstants
from simgpu.timing.device import Device
from simgpu.timing.gemm_libraries import GemmLibraries
from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.power import TensorClock

UNFUSED = "ggml"
"""Attention of llama.cpp without a fused kernel."""


class AttentionTimer:
    """Fused attention. All sizes of a work broadcast.

    `library` names kernels (`simgpu.timing.attention_libraries`); default: those that stacks choose on the GPU.
    `kv_dtype` is what the cache holds where that is not `dtype`. `warm` operands that fit L2 are read from there, as
    in the benchmarks the constants were fitted to; the cache of a model whose layers take turns is not (False).
    `sustained` is a long run, throttled in full; None: as the timer.
    """

    def __init__(self, device: Device, calibration: Calibration, libraries: GemmLibraries, sustained: bool) -> None:
        self.device, self.calibration, self.libraries, self.sustained = device, calibration, libraries, sustained

    def prefill(
        self,
        work: AttentionWork,
        *,
        causal: bool = True,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
        sustained: bool | None = None,
    ) -> KernelTimes:
        """New tokens over keys (new and cached ones), and their append to the cache."""
        checked = work.checked(causal)
        return prefill_time(
            checked,
            self.operands(dtype, kv_dtype),
            self.device,
            self.calibration.read(PrefillConstants, self._known(library)),
            self._clock(),
            causal=causal,
            warm=warm,
            sustained=self.sustained if sustained is None else sustained,
        )

    def backward(
        self,
        work: AttentionWork,
        *,
        causal: bool = True,
        dtype: str = "bf16",
        library: str = DEFAULT,
        warm: bool = True,
        sustained: bool | None = None,
    ) -> KernelTimes:
        """The backward pass of `prefill` in training: gradients of queries, keys and values."""
        checked = work.checked(causal)
        return prefill_time(
            checked,
            self.operands(dtype),
            self.device,
            self.calibration.read(PrefillConstants, self._known(library)),
            self._clock(),
            causal=causal,
            backward=True,
            warm=warm,
            sustained=self.sustained if sustained is None else sustained,
        )

    def decode(
        self,
        work: AttentionWork,
        *,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
    ) -> KernelTimes:
        """One query (or a few speculated ones) per sequence over a cache that then holds all keys."""
        checked = work.checked()
        return decode_time(
            checked,
            self.operands(dtype, kv_dtype),
            self.device,
            self.calibration.read(DecodeConstants, self._known(library)),
            self._clock(),
            warm=warm,
        )

    def mixed(
        self,
        work: MixedWork,
        *,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
    ) -> KernelTimes:
        """One kernel for a chunk of a prompt and for sequences that decode.

        Its blocks are those of a prefill for both, since one kernel has one size of tiles; the parts follow each other
        on the multiprocessors and what a launch costs is paid once. Where there is nothing to prefill it is a decode.
        """
        check_sizes(0, queries=work.queries, keys=work.keys, decodes=work.decodes, decode_keys=work.decode_keys)
        check_keys(work.keys, work.queries)
        q, n = np.broadcast_arrays(np.asarray(work.queries, float), np.asarray(work.decodes, float))
        heads, one, many = work[4:], np.maximum(q, 1), np.maximum(n, 1)
        prompt = AttentionWork(1, one, np.maximum(work.keys, one), *heads)
        each = AttentionWork(many, 1, np.maximum(work.decode_keys, 1), *heads)
        chunk = self.prefill(prompt, dtype=dtype, kv_dtype=kv_dtype, library=library, warm=warm)
        rows = self.prefill(each, dtype=dtype, kv_dtype=kv_dtype, library=library, warm=warm)
        alone = self.decode(each, dtype=dtype, kv_dtype=kv_dtype, library=library, warm=warm)
        overhead = self.calibration.read(PrefillConstants, self.library(library)).overhead
        both, shared = (q > 0) & (n > 0), np.asarray([overhead, 0.0, 0.0, overhead])
        choices = [
            np.where(both, c + r - s, np.where(q > 0, c, np.where(n > 0, a, 0.0)))
            for c, r, a, s in zip(chunk, rows, alone, shared, strict=True)
        ]
        return KernelTimes(*choices)

    def latent_prefill(
        self,
        work: LatentWork,
        *,
        causal: bool = True,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
    ) -> KernelTimes:
        """Latent attention of a prefill: keys and values expanded to every head.

        The products that expand the latent are matrix multiplications of their own, not counted here.
        """
        expanded = work.expanded()
        return self.prefill(expanded, causal=causal, dtype=dtype, kv_dtype=kv_dtype, library=library, warm=warm)

    def latent_decode(
        self,
        work: LatentWork,
        *,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
    ) -> KernelTimes:
        """Latent attention of a decode step, absorbed: all heads share one key of latent + rope, its value inside."""
        absorbed = work.absorbed()
        return decode_time(
            absorbed,
            self.operands(dtype, kv_dtype),
            self.device,
            self.calibration.read(DecodeConstants, self._known(library)),
            self._clock(),
            warm=warm,
        )

    def unfused(
        self, batch: ArrayLike, keys: ArrayLike, kv_heads: ArrayLike, width: ArrayLike, kv_dtype: str = "fp16"
    ) -> KernelTimes:
        """Scores of one query and their product with the values as two kernels of llama.cpp, softmax not counted.

        `width` elements of key and value in each KV head.
        """
        check_sizes(batch=batch, keys=keys, kv_heads=kv_heads, width=width)
        check_name(kv_dtype, BYTES, "kv_dtype")
        cache = np.asarray(batch, float) * np.asarray(keys, float) * np.asarray(kv_heads, float)
        cache = cache * np.asarray(width, float) * BYTES[kv_dtype]
        return unfused_time(cache, self.device, self.calibration.read(UnfusedConstants, UNFUSED))

    def library(self, library: str = DEFAULT) -> str:
        """The library that a name stands for on this GPU."""
        return default_library(self.calibration.architecture) if library == DEFAULT else library

    def operands(self, dtype: str, kv_dtype: str | None = None) -> AttentionOperands:
        """Bytes of data types and the peak of the products. Raises `InputError` for types that the GPU lacks."""
        check_dtypes(dtype, kv_dtype=kv_dtype)
        return AttentionOperands(BYTES[dtype], BYTES[kv_dtype or dtype], self.device.peak(dtype))

    def _known(self, library: str) -> str:
        check_library(library, self.calibration, "attention", LIBRARIES)
        return self.library(library)

    def _clock(self) -> TensorClock:
        """The clock of large matrix products, from which the clock of attention follows."""
        return self.libraries.of().clock
