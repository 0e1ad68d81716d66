"""Times kernels of one GPU: looks up its figures and constants and calls the model of the class.

The models (`simgpu.timing.gemm`, `attention`, `vector`, `moe` ...) are pure functions over numpy arrays that take
every figure by name; this class is the only place that knows where the figures come from.
"""

from __future__ import annotations

from simgpu.hardware.inherit import DEFAULT
from simgpu.model.operators import BYTES
from simgpu.timing.matrix_timer import MatrixTimer
from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.vector_timer import VectorTimer


class GPUTimer(MatrixTimer, VectorTimer):
    """Kernel times of a GPU with its constants. All methods broadcast over arrays of shapes."""

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
    ) -> KernelTimes:
        """Fused attention of `queries` new tokens per sequence over `keys` (new and cached), with the cache append.

        `window` 0 sees all keys. `kv_dtype` is what the cache holds; the arithmetic is in `dtype`.
        """
        from simgpu.timing.attention import prefill_time

        v_dim = head_dim if v_head_dim is None else v_head_dim
        return prefill_time(
            batch, queries, keys, heads, kv_heads, head_dim, v_dim, causal=causal, window=window,
            **self._attention(dtype, kv_dtype, library),
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
    ) -> KernelTimes:
        """Fused attention of `queries` (1, or a few speculated) tokens per sequence over a cache of `keys` tokens."""
        from simgpu.timing.attention_decode import decode_time

        v_dim = head_dim if v_head_dim is None else v_head_dim
        return decode_time(
            batch, keys, heads, kv_heads, head_dim, v_dim, queries=queries, window=window,
            **self._attention(dtype, kv_dtype, library),
        )  # fmt: skip

    def _attention(self, dtype: str, kv_dtype: str | None, library: str) -> dict[str, float]:
        """Figures of an attention kernel: of the device, of the dtypes, of the library."""
        from simgpu.timing.attention_libraries import default_library

        if library == DEFAULT:
            library = default_library(self.constants.architecture)
        kv_bytes = BYTES[kv_dtype or dtype]
        figures = {"input_bytes": BYTES[dtype], "kv_bytes": kv_bytes, "peak": self.peak(dtype)}
        return {**self.constants.group("attention", library), **self.device, **figures}
