"""Methods of `simgpu.timing.timer.GPUTimer` for everything but matrix multiplications, attention and experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simgpu.hardware.inherit import DEFAULT
from simgpu.model.operators import BYTES
from simgpu.timing.checks import check_library, check_name, check_sizes
from simgpu.timing.parts import ArrayLike, KernelTimes

if TYPE_CHECKING:
    from simgpu.hardware.inherit import Calibration
    from simgpu.hardware.spec import GPUSpec
    from simgpu.timing.vector import StreamWork


class VectorTimer:
    """Kernels that stream. `library` names the constants; all sizes broadcast; times are those of GPU kernels.

    Libraries whose name ends in `-host` are timed by the host's clock, from the call to the end of a synchronisation.
    """

    gpu: GPUSpec
    constants: Calibration

    if TYPE_CHECKING:

        @property
        def device(self) -> dict[str, float]: ...

        def peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True, key: str = "dtype") -> float: ...

        def gemm(
            self, m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1, dtype: str = "bf16",
            accumulate: str | None = None, library: str = DEFAULT,
        ) -> KernelTimes: ...  # fmt: skip

    def normalization(
        self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", layer: bool = False, residual: bool = False,
        fused: bool = True, library: str = DEFAULT,
    ) -> KernelTimes:  # fmt: skip
        """RMSNorm of rows of `cols` elements, or with `layer` LayerNorm; `residual` adds a tensor before it.

        Not `fused`: one kernel for each step of the formula (RMSNorm).
        """
        from simgpu.timing.vector_work import normalization_work, unfused_norm_work

        check_sizes(rows=rows, cols=cols)
        figures = self._vector(library)
        if fused:
            work = normalization_work(rows, cols, width=width_of(dtype), layer=layer, residual=residual, **figures)
        else:
            work = unfused_norm_work(rows, cols, width=width_of(dtype), **figures)
        return self._stream(work, figures)

    def softmax(
        self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", output: str | None = None, library: str = DEFAULT
    ) -> KernelTimes:
        """Softmax of rows of `cols` elements; the result in `output` (as the input if None)."""
        from simgpu.timing.vector_work import softmax_work

        check_sizes(rows=rows, cols=cols)
        figures = self._vector(library)
        written = width_of(output or dtype)
        return self._stream(softmax_work(rows, cols, width=width_of(dtype), written_width=written, **figures), figures)

    def elementwise(
        self, elements: ArrayLike, reads: float = 1.0, writes: float = 1.0, dtype: str = "bf16", function: str = "add",
        kernels: float = 1.0, library: str = DEFAULT,
    ) -> KernelTimes:  # fmt: skip
        """A function of `reads` tensors into `writes` tensors of `elements`, in one kernel or a chain of several.

        `function` is what costs arithmetic: copy, add, exp, silu, gelu or pow. A chain counts all tensors it touches.
        """
        from simgpu.timing.vector_work import ARITHMETIC, SPECIAL, flat_work

        check_sizes(elements=elements, kernels=kernels)
        check_sizes(0, reads=reads, writes=writes)
        check_name(function, ARITHMETIC, "function")
        figures, width = self._vector(library), width_of(dtype)
        work = flat_work(
            elements, read_bytes=reads * width, written_bytes=writes * width, width=width, kernels=kernels,
            arithmetic=ARITHMETIC[function] * kernels, special=SPECIAL[function], **_flat(figures),
        )  # fmt: skip
        return self._stream(work, figures)

    def activation(
        self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", gated: bool = True, function: str = "silu",
        fused: bool = True, library: str = DEFAULT,
    ) -> KernelTimes:  # fmt: skip
        """silu(gate) x up over rows of `cols` outputs; not `gated`: the function alone. Not `fused`: two kernels."""
        import numpy as np

        from simgpu.timing.vector_work import ARITHMETIC, activation_work

        check_sizes(rows=rows, cols=cols)
        check_name(function, ARITHMETIC, "function")
        figures, width = self._vector(library), width_of(dtype)
        if not fused and gated:
            work = activation_work(rows, cols, width=width, gated=False, function=function, **figures)
            elements = np.asarray(rows, float) * np.asarray(cols, float)
            product = self.elementwise(elements, reads=2, writes=1, dtype=dtype, library=library)
            return self._stream(work, figures) + product
        return self._stream(
            activation_work(rows, cols, width=width, gated=gated, function=function, **figures), figures
        )

    def rope(
        self, tokens: ArrayLike, heads: ArrayLike, kv_heads: ArrayLike, head_dim: ArrayLike, dtype: str = "bf16",
        fused: bool = True, library: str = DEFAULT,
    ) -> KernelTimes:  # fmt: skip
        """Rotary positions of the queries and keys of `tokens`. Not `fused`: ten strided kernels."""
        import numpy as np

        from simgpu.timing.vector_work import rope_work, unfused_rope_work

        check_sizes(tokens=tokens, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        figures = self._vector(library)
        both = np.asarray(heads, float) + np.asarray(kv_heads, float)
        work = (rope_work if fused else unfused_rope_work)(tokens, both, head_dim, width=width_of(dtype), **figures)
        return self._stream(work, figures)

    def embedding(self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", library: str = DEFAULT) -> KernelTimes:
        """`rows` rows of `cols` elements gathered from a table by their indices."""
        from simgpu.timing.vector_work import embedding_work

        check_sizes(rows=rows, cols=cols)
        figures = self._vector(library)
        return self._stream(embedding_work(rows, cols, width=width_of(dtype), **figures), figures)

    gather = embedding

    def quantise(
        self, rows: ArrayLike, cols: ArrayLike, group: float = 0.0, dtype: str = "bf16", to: str = "fp8",
        library: str = DEFAULT,
    ) -> KernelTimes:  # fmt: skip
        """Scales and rounds to `to`: a scale for each row, or for each `group` elements of it (128)."""
        from simgpu.timing.vector_work import quantise_work

        check_sizes(rows=rows, cols=cols)
        check_sizes(0, group=group)
        figures = self._vector(library)
        work = quantise_work(
            rows, cols, width=width_of(dtype), written_width=width_of(to), group=group, **figures
        )  # fmt: skip
        return self._stream(work, figures)

    def sampling(
        self, rows: ArrayLike, vocab: ArrayLike, dtype: str = "bf16", sort: bool = False, library: str = DEFAULT
    ) -> KernelTimes:
        """The next token of `rows` sequences from logits over `vocab`: the largest, or with `sort` top-k and top-p."""
        from simgpu.timing.vector_work import SAMPLING_KERNELS, flat_work, sampling_work

        check_sizes(rows=rows, vocab=vocab)
        figures = self._vector(library)
        passes = self._stream(sampling_work(rows, vocab, width=width_of(dtype), sort=sort, **figures), figures)
        small = flat_work(
            rows, read_bytes=4.0, written_bytes=4.0, arithmetic=1.0, kernels=SAMPLING_KERNELS, **_flat(figures)
        )
        return passes + self._stream(small, figures)

    def optimizer(
        self, parameters: ArrayLike, kind: str = "adam", weights: str = "bf16", gradients: str = "fp32",
        states: str = "fp32", master: str | None = "fp32", library: str = DEFAULT,
    ) -> KernelTimes:  # fmt: skip
        """One fused step of `adam`, `momentum` or `sgd` over `parameters`, by its dtypes (master None: no copy)."""
        from simgpu.timing.vector_work import STATES, optimizer_work

        check_sizes(parameters=parameters)
        check_name(kind, STATES, "kind")
        figures = self._vector(library)
        work = optimizer_work(
            parameters, kind=kind, weight_bytes=width_of(weights), gradient_bytes=width_of(gradients),
            state_bytes=width_of(states), master_bytes=width_of(master) if master else 0.0, **figures,
        )  # fmt: skip
        return self._stream(work, figures)

    def reduction(self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", library: str = DEFAULT) -> KernelTimes:
        """Sum or largest of each of `rows` rows of `cols` elements."""
        from simgpu.timing.vector_work import reduction_work

        check_sizes(rows=rows, cols=cols)
        figures = self._vector(library)
        return self._stream(reduction_work(rows, cols, width=width_of(dtype), **figures), figures)

    def memory_copy(self, size: ArrayLike, library: str = DEFAULT) -> KernelTimes:
        """`size` bytes from one place of the GPU's memory to another."""
        from simgpu.timing.copies import copy_work

        check_sizes(0, size=size)
        figures = self._vector(library)
        return self._stream(copy_work(size, **figures), figures)

    def host_copy(
        self, size: ArrayLike, link_bandwidth: float, host_bandwidth: float = float("inf"), pinned: bool = True,
        library: str = DEFAULT,
    ) -> KernelTimes:  # fmt: skip
        """`size` bytes between host and GPU over a link of `link_bandwidth` (B/s, one direction)."""
        from simgpu.timing.copies import host_copy_time

        check_sizes(0, size=size)
        check_sizes(link_bandwidth=link_bandwidth)
        return host_copy_time(
            size, pinned=pinned, link_bandwidth=link_bandwidth, host_bandwidth=host_bandwidth, **self._vector(library)
        )

    def convolution(
        self, images: ArrayLike, channels: ArrayLike, height: ArrayLike, width: ArrayLike, filters: ArrayLike,
        kernel: tuple[int, int] = (3, 3), stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1), groups: ArrayLike = 1, dtype: str = "bf16", accumulate: str | None = None,
        library: str = DEFAULT,
    ) -> KernelTimes:  # fmt: skip
        """A two-dimensional convolution as implicit GEMM: its time without the repeated reads of the unfolded input."""
        import numpy as np

        from simgpu.timing.convolution import convolution_gemm

        check_sizes(images=images, channels=channels, height=height, width=width, filters=filters, groups=groups)
        shape = convolution_gemm(
            images, channels, height, width, filters, kernel, stride, padding, dilation, groups
        )  # fmt: skip
        whole = self.gemm(shape.m, shape.n, shape.k, shape.batch, dtype=dtype, accumulate=accumulate, library=library)
        memory = whole.memory * shape.fresh
        saved = np.maximum(whole.memory - np.maximum(memory, whole.compute), 0.0)
        return KernelTimes(whole.seconds - saved, whole.compute, memory, whole.latency)

    def _vector(self, library: str) -> dict[str, float]:
        """Constants of streaming kernels in a library."""
        check_library(library, self.constants, "vector")
        return self.constants.group("vector", library)

    def _stream(self, work: StreamWork, figures: dict[str, float]) -> KernelTimes:
        from simgpu.timing.vector import stream_time

        peak = self.peak("fp32", "fp32", tensor=False)
        return stream_time(**work._asdict(), peak=peak, **self.device, **(figures | self._memory(figures)))

    def _memory(self, figures: dict[str, float]) -> dict[str, float]:
        """The fraction of the memory bandwidth that streams reach: GDDR keeps ECC bits among the data, HBM beside."""
        inline = self.gpu.memory.ecc.value and self.gpu.memory.type.startswith("GDDR")
        return {"memory_fraction": figures["memory_fraction"] * (figures["inline_ecc_fraction"] if inline else 1.0)}


def width_of(dtype: str) -> float:
    """Bytes of an element of `dtype`."""
    check_name(dtype, BYTES, "dtype")
    return BYTES[dtype]


def _flat(figures: dict[str, float]) -> dict[str, float]:
    return {name: figures[name] for name in ("vector_bytes", "load_instructions")}
