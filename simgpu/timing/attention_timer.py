"""Methods of `simgpu.timing.timer.GPUTimer` for attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from simgpu.hardware.inherit import DEFAULT
from simgpu.model.operators import BYTES
from simgpu.timing.attention_libraries import LIBRARIES
from simgpu.timing.checks import (
    WIDEST_HEAD,
    check_dtypes,
    check_heads,
    check_keys,
    check_library,
    check_name,
    check_sizes,
)
from simgpu.timing.matrix_timer import MatrixTimer
from simgpu.timing.parts import ArrayLike, KernelTimes

UNFUSED = "ggml"
"""Attention of llama.cpp without a fused kernel."""


class AttentionTimer(MatrixTimer):
    """Fused attention. All sizes broadcast.

    `library` names kernels (`simgpu.timing.attention_libraries`); default: those that stacks choose on the GPU.
    `kv_dtype` is what the cache holds where that is not `dtype`. `warm` operands that fit L2 are read from there, as
    in the benchmarks the constants were fitted to; the cache of a model whose layers take turns is not (False).
    """

    def attention_prefill(
        self,
        batch: ArrayLike,
        queries: ArrayLike,
        keys: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        head_dim: ArrayLike,
        v_head_dim: ArrayLike | None = None,
        causal: bool = True,
        window: ArrayLike = 0,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
        sustained: bool | None = None,
    ) -> KernelTimes:
        """`queries` new tokens per sequence over `keys` (new and cached ones), and their append to the cache.

        A prefill chunk has more keys than queries. `window` 0 sees all keys.
        """
        from simgpu.timing.attention import prefill_time

        _check(batch, queries, keys, heads, kv_heads, head_dim, v_head_dim, window, causal)
        v_dim = head_dim if v_head_dim is None else v_head_dim
        figures = self._attention(dtype, kv_dtype, library, sustained=sustained)
        return prefill_time(
            batch, queries, keys, heads, kv_heads, head_dim, v_dim, window, causal=causal, warm=warm, **figures
        )

    def attention_backward(
        self,
        batch: ArrayLike,
        queries: ArrayLike,
        keys: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        head_dim: ArrayLike,
        v_head_dim: ArrayLike | None = None,
        causal: bool = True,
        window: ArrayLike = 0,
        dtype: str = "bf16",
        library: str = DEFAULT,
        warm: bool = True,
        sustained: bool | None = None,
    ) -> KernelTimes:
        """The backward pass of `attention_prefill` in training: gradients of queries, keys and values."""
        from simgpu.timing.attention import prefill_time

        _check(batch, queries, keys, heads, kv_heads, head_dim, v_head_dim, window, causal)
        v_dim = head_dim if v_head_dim is None else v_head_dim
        figures = self._attention(dtype, None, library, sustained=sustained)
        return prefill_time(
            batch, queries, keys, heads, kv_heads, head_dim, v_dim, window,
            causal=causal, warm=warm, backward=True, **figures,
        )  # fmt: skip

    def attention_decode(
        self,
        batch: ArrayLike,
        keys: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        head_dim: ArrayLike,
        v_head_dim: ArrayLike | None = None,
        window: ArrayLike = 0,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        queries: ArrayLike = 1,
        library: str = DEFAULT,
        warm: bool = True,
    ) -> KernelTimes:
        """`queries` (1, or a few speculated) tokens per sequence over a cache that then holds `keys` tokens."""
        from simgpu.timing.attention_decode import decode_time

        _check(batch, queries, keys, heads, kv_heads, head_dim, v_head_dim, window)
        v_dim = head_dim if v_head_dim is None else v_head_dim
        figures = self._attention(dtype, kv_dtype, library)
        return decode_time(batch, keys, heads, kv_heads, head_dim, v_dim, queries, window, warm=warm, **figures)

    def attention_mixed(
        self,
        queries: ArrayLike,
        keys: ArrayLike,
        decodes: ArrayLike,
        decode_keys: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        head_dim: ArrayLike,
        v_head_dim: ArrayLike | None = None,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
    ) -> KernelTimes:
        """One kernel for a prefill chunk (`queries` over `keys`) and `decodes` sequences of `decode_keys` tokens.

        Its blocks are those of a prefill for both, since one kernel has one size of tiles; the parts follow each other
        on the multiprocessors and what a launch costs is paid once. Where there is nothing to prefill it is a decode.
        """
        check_sizes(0, queries=queries, keys=keys, decodes=decodes, decode_keys=decode_keys)
        check_keys(keys, queries)
        q, n = np.broadcast_arrays(np.asarray(queries, float), np.asarray(decodes, float))
        shape: dict[str, Any] = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "v_head_dim": v_head_dim}
        common: dict[str, Any] = {"dtype": dtype, "kv_dtype": kv_dtype, "library": library, "warm": warm}
        one, many = np.maximum(q, 1), np.maximum(n, 1)
        chunk = self.attention_prefill(1, one, np.maximum(keys, one), **shape, **common)
        rows = self.attention_prefill(many, 1, np.maximum(decode_keys, 1), **shape, **common)
        alone = self.attention_decode(many, np.maximum(decode_keys, 1), **shape, **common)
        overhead = self._attention(dtype, kv_dtype, library)["overhead"]
        both, shared = (q > 0) & (n > 0), np.asarray([overhead, 0.0, 0.0, overhead])
        choices = [
            np.where(both, c + r - s, np.where(q > 0, c, np.where(n > 0, a, 0.0)))
            for c, r, a, s in zip(chunk, rows, alone, shared, strict=True)
        ]
        return KernelTimes(*choices)

    def attention_mla_prefill(
        self,
        batch: ArrayLike,
        queries: ArrayLike,
        keys: ArrayLike,
        heads: ArrayLike,
        nope_dim: ArrayLike = 128,
        rope_dim: ArrayLike = 64,
        v_head_dim: ArrayLike = 128,
        causal: bool = True,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
    ) -> KernelTimes:
        """Latent attention (DeepSeek-V2, arXiv:2405.04434) of a prefill: keys and values expanded to every head.

        The products that expand the latent are matrix multiplications of their own, not counted here.
        """
        check_sizes(0, nope_dim=nope_dim, rope_dim=rope_dim)
        wide = np.asarray(nope_dim, float) + np.asarray(rope_dim, float)
        return self.attention_prefill(
            batch, queries, keys, heads, heads, wide, v_head_dim, causal,
            dtype=dtype, kv_dtype=kv_dtype, library=library, warm=warm,
        )  # fmt: skip

    def attention_mla_decode(
        self,
        batch: ArrayLike,
        keys: ArrayLike,
        heads: ArrayLike,
        latent_dim: ArrayLike = 512,
        rope_dim: ArrayLike = 64,
        queries: ArrayLike = 1,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        library: str = DEFAULT,
        warm: bool = True,
    ) -> KernelTimes:
        """Latent attention of a decode step, absorbed: all heads share one key of latent + rope, its value inside."""
        from simgpu.timing.attention_decode import decode_time

        check_sizes(0, rope_dim=rope_dim)
        check_sizes(latent_dim=latent_dim)
        wide = np.asarray(latent_dim, float) + np.asarray(rope_dim, float)
        _check(batch, queries, keys, heads, 1.0, wide, None, 0)
        figures = self._attention(dtype, kv_dtype, library)
        return decode_time(batch, keys, heads, 1.0, wide, latent_dim, queries, 0.0, wide, warm=warm, **figures)

    def attention_unfused(
        self, batch: ArrayLike, keys: ArrayLike, kv_heads: ArrayLike, width: ArrayLike, kv_dtype: str = "fp16"
    ) -> KernelTimes:
        """Scores of one query and their product with the values as two kernels of llama.cpp, softmax not counted.

        `width` elements of key and value in each KV head. They work through the cache no faster than
        `cache_bandwidth`, whatever the GPU: few threads wait for one row after another.
        """
        check_sizes(batch=batch, keys=keys, kv_heads=kv_heads, width=width)
        check_name(kv_dtype, BYTES, "kv_dtype")
        figures = self.constants.group("attention", UNFUSED)
        cache = np.asarray(batch, float) * np.asarray(keys, float) * np.asarray(kv_heads, float)
        cache = cache * np.asarray(width, float) * BYTES[kv_dtype]
        memory = cache / (figures["decode_memory_fraction"] * self.device["bandwidth"])
        latency = 2 * figures["launch_overhead"] + cache / figures["cache_bandwidth"]
        return KernelTimes(memory + latency, np.zeros_like(memory), memory, np.asarray(latency))

    def attention_library(self, library: str = DEFAULT) -> str:
        """The library that a name stands for on this GPU."""
        from simgpu.timing.attention_libraries import default_library

        return default_library(self.constants.architecture) if library == DEFAULT else library

    def _attention(
        self, dtype: str, kv_dtype: str | None, library: str, sustained: bool | None = None
    ) -> dict[str, Any]:
        """Figures of an attention kernel: of the device, of the dtypes, of the library."""
        check_dtypes(dtype, kv_dtype=kv_dtype)
        check_library(library, self.constants, "attention", LIBRARIES)
        matrix = self.matrix_constants()
        clocks = {name: matrix[name] for name in ("clock_fraction", "throttle", "throttle_time")}
        shape = {"input_bytes": BYTES[dtype], "kv_bytes": BYTES[kv_dtype or dtype], "peak": self.peak(dtype)}
        figures: dict[str, Any] = {**self.constants.group("attention", self.attention_library(library)), **self.device}
        return {**figures, **clocks, **shape, "sustained": self.sustained if sustained is None else sustained}


def _check(
    batch: ArrayLike,
    queries: ArrayLike,
    keys: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    v_head_dim: ArrayLike | None,
    window: ArrayLike,
    causal: bool = True,
) -> None:
    """Raise `InputError` for a shape that no attention has."""
    check_sizes(batch=batch, queries=queries, keys=keys, heads=heads, kv_heads=kv_heads)
    check_sizes(1, WIDEST_HEAD, head_dim=head_dim, v_head_dim=v_head_dim)
    check_sizes(0, window=window)
    check_heads(heads, kv_heads)
    if causal:
        check_keys(keys, queries)
