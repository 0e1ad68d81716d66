"""Times kernels of one GPU: looks up its figures and constants and calls the model of the class.

The models (`simgpu.timing.gemm`, `attention`, `vector`, `moe` ...) are pure functions over numpy arrays that take
every figure by name; this class is the only place that knows where the figures come from.
"""

from __future__ import annotations

from functools import cached_property

from simgpu.errors import InputError
from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.hardware.spec import GPUSpec
from simgpu.model.operators import ACCUMULATE, BYTES
from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.vector_timer import VectorTimer


class GPUTimer(VectorTimer):
    """Kernel times of a GPU with its constants. All methods broadcast over arrays of shapes."""

    def __init__(self, gpu: GPUSpec, constants: Calibration) -> None:
        self.gpu = gpu
        self.constants = constants

    @cached_property
    def _peaks(self) -> dict[tuple[str, str, str], float]:
        return {(peak.dtype, peak.accumulate, peak.engine): peak.si for peak in self.gpu.peak}

    def peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True, key: str = "dtype") -> float:
        """Dense datasheet peak, FLOP/s: the tensor cores' where they have the dtype, else the vector units'.

        Raises `InputError` at `key` where the GPU has neither.
        """
        sums = accumulate or ACCUMULATE[dtype]
        for engine in ("tensor", "vector") if tensor else ("vector",):
            found = self._peaks.get((dtype, sums, engine))
            if found is not None:
                return found
        known = sorted({f"{d} ({a})" for d, a, _ in self._peaks})
        raise InputError(
            f"'{self.gpu.name}' has no {dtype} peak with {sums} accumulation; it has {', '.join(known)}", key=key
        )

    @cached_property
    def device(self) -> dict[str, float]:
        """Datasheet figures that the models take, in SI units."""
        gpu = self.gpu
        return {
            "sm_count": gpu.compute.sm_count.si,
            "clock": gpu.compute.boost_clock.si,
            "bandwidth": gpu.memory.bandwidth.si,
            "l2_bytes": gpu.memory.l2_cache.si,
        }

    def gemm(
        self,
        m: ArrayLike,
        n: ArrayLike,
        k: ArrayLike,
        batch: ArrayLike = 1,
        dtype: str = "bf16",
        accumulate: str | None = None,
        library: str = DEFAULT,
    ) -> KernelTimes:
        """C[m, n] = A[m, k] B[k, n], `batch` times; output in 2 bytes for inputs narrower than that."""
        from simgpu.timing.gemm import gemm_time

        width = BYTES[dtype]
        return gemm_time(
            m,
            n,
            k,
            batch=batch,
            input_bytes=width,
            output_bytes=max(width, 2.0),
            peak=self.peak(dtype, accumulate),
            **self.device,
            **self.constants.group("gemm", library),
        )

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
