"""Times kernels of one GPU that stream: everything but matrix multiplications, attention and experts."""

from __future__ import annotations

import numpy as np

from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.model.operators import BYTES
from simgpu.timing import vector_work as works
from simgpu.timing.checks import check_library, check_name, check_sizes
from simgpu.timing.constants import HostCopyConstants, LaunchConstants, StreamConstants
from simgpu.timing.copies import HostLink, copy_work, host_copy_time
from simgpu.timing.device import Device
from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.vector import StreamWork, stream_time
from simgpu.timing.vector_work import ARITHMETIC, SAMPLING_KERNELS, SPECIAL, STATES, FlatKernel, ParameterBytes


class VectorTimer:
    """Kernels that stream. `library` names the constants; all sizes broadcast; times are those of GPU kernels.

    Libraries whose name ends in `-host` are timed by the host's clock, from the call to the end of a synchronisation.
    """

    def __init__(self, device: Device, calibration: Calibration) -> None:
        self.device, self.calibration = device, calibration

    def normalization(
        self,
        rows: ArrayLike,
        cols: ArrayLike,
        dtype: str = "bf16",
        layer: bool = False,
        residual: bool = False,
        fused: bool = True,
        library: str = DEFAULT,
    ) -> KernelTimes:
        """RMSNorm of rows of `cols` elements, or with `layer` LayerNorm; `residual` adds a tensor before it.

        Not `fused`: one kernel for each step of the formula (RMSNorm).
        """
        check_sizes(rows=rows, cols=cols)
        launch, width = self._launch(library), width_of(dtype)
        if fused:
            work = works.normalization_work(rows, cols, width, layer, residual, launch)
        else:
            work = works.unfused_norm_work(rows, cols, width, launch)
        return self._stream(work, library)

    def moments(self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", library: str = DEFAULT) -> KernelTimes:
        """Mean and variance of each of `rows` rows of `cols` elements, as PyTorch's group norm takes them."""
        check_sizes(rows=rows, cols=cols)
        return self._stream(works.moments_work(rows, cols, width_of(dtype), self._launch(library)), library)

    def softmax(
        self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", output: str | None = None, library: str = DEFAULT
    ) -> KernelTimes:
        """Softmax of rows of `cols` elements; the result in `output` (as the input if None)."""
        check_sizes(rows=rows, cols=cols)
        launch, written = self._launch(library), width_of(output or dtype)
        return self._stream(works.softmax_work(rows, cols, width_of(dtype), written, launch), library)

    def elementwise(
        self,
        elements: ArrayLike,
        reads: float = 1.0,
        writes: float = 1.0,
        dtype: str = "bf16",
        function: str = "add",
        kernels: float = 1.0,
        library: str = DEFAULT,
        strided: bool = False,
    ) -> KernelTimes:
        """A function of `reads` tensors into `writes` tensors of `elements`, in one kernel or a chain of several.

        `function` is what costs arithmetic: copy, add, exp, silu, gelu or pow. A chain counts all tensors it touches.
        `strided`: a tensor does not lie in one piece, so that a thread works out where each element is.
        """
        check_sizes(elements=elements, kernels=kernels)
        check_sizes(0, reads=reads, writes=writes)
        check_name(function, ARITHMETIC, "function")
        launch, width = self._launch(library), width_of(dtype)
        kernel = FlatKernel(
            read_bytes=reads * width,
            written_bytes=writes * width,
            arithmetic=(launch.strided_instructions if strided else ARITHMETIC[function]) * kernels,
            special=SPECIAL[function],
            width=width,
            kernels=kernels,
        )
        return self._stream(works.flat_work(elements, kernel, launch), library)

    def activation(
        self,
        rows: ArrayLike,
        cols: ArrayLike,
        dtype: str = "bf16",
        gated: bool = True,
        function: str = "silu",
        fused: bool = True,
        library: str = DEFAULT,
    ) -> KernelTimes:
        """silu(gate) x up over rows of `cols` outputs; not `gated`: the function alone. Not `fused`: two kernels."""
        check_sizes(rows=rows, cols=cols)
        check_name(function, ARITHMETIC, "function")
        launch, width = self._launch(library), width_of(dtype)
        work = works.activation_work(rows, cols, width, gated and fused, function, launch)
        times = self._stream(work, library)
        if fused or not gated:
            return times
        elements = np.asarray(rows, float) * np.asarray(cols, float)
        return times + self.elementwise(elements, reads=2, writes=1, dtype=dtype, library=library)

    def rope(
        self,
        tokens: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        head_dim: ArrayLike,
        dtype: str = "bf16",
        fused: bool = True,
        library: str = DEFAULT,
    ) -> KernelTimes:
        """Rotary positions of the queries and keys of `tokens`. Not `fused`: ten strided kernels."""
        check_sizes(tokens=tokens, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        both = np.asarray(heads, float) + np.asarray(kv_heads, float)
        work = works.rope_work if fused else works.unfused_rope_work
        launch = self._launch(library)
        return self._stream(work(tokens, both, head_dim, width_of(dtype), launch), library)

    def embedding(self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", library: str = DEFAULT) -> KernelTimes:
        """`rows` rows of `cols` elements gathered from a table by their indices."""
        check_sizes(rows=rows, cols=cols)
        launch = self._launch(library)
        return self._stream(works.embedding_work(rows, cols, width_of(dtype), launch), library)

    gather = embedding

    def quantise(
        self,
        rows: ArrayLike,
        cols: ArrayLike,
        group: float = 0.0,
        dtype: str = "bf16",
        to: str = "fp8",
        library: str = DEFAULT,
    ) -> KernelTimes:
        """Scales and rounds to `to`: a scale for each row, or for each `group` elements of it (128)."""
        check_sizes(rows=rows, cols=cols)
        check_sizes(0, group=group)
        launch = self._launch(library)
        return self._stream(works.quantise_work(rows, cols, width_of(dtype), width_of(to), group, launch), library)

    def sampling(
        self, rows: ArrayLike, vocab: ArrayLike, dtype: str = "bf16", sort: bool = False, library: str = DEFAULT
    ) -> KernelTimes:
        """The next token of `rows` sequences from logits over `vocab`: the largest, or with `sort` top-k and top-p."""
        check_sizes(rows=rows, vocab=vocab)
        launch = self._launch(library)
        passes = self._stream(works.sampling_work(rows, vocab, width_of(dtype), sort, launch), library)
        small = FlatKernel(read_bytes=4.0, written_bytes=4.0, arithmetic=1.0, kernels=SAMPLING_KERNELS)
        return passes + self._stream(works.flat_work(rows, small, launch), library)

    def optimizer(
        self,
        parameters: ArrayLike,
        kind: str = "adam",
        weights: str = "bf16",
        gradients: str = "fp32",
        states: str = "fp32",
        master: str | None = "fp32",
        library: str = DEFAULT,
    ) -> KernelTimes:
        """One fused step of `adam`, `momentum` or `sgd` over `parameters`, by its dtypes (master None: no copy)."""
        check_sizes(parameters=parameters)
        check_name(kind, STATES, "kind")
        launch, copy = self._launch(library), width_of(master) if master else 0.0
        held = ParameterBytes(width_of(weights), width_of(gradients), width_of(states), copy)
        return self._stream(works.optimizer_work(parameters, kind, held, launch), library)

    def reduction(self, rows: ArrayLike, cols: ArrayLike, dtype: str = "bf16", library: str = DEFAULT) -> KernelTimes:
        """Sum or largest of each of `rows` rows of `cols` elements."""
        check_sizes(rows=rows, cols=cols)
        launch = self._launch(library)
        return self._stream(works.reduction_work(rows, cols, width_of(dtype), launch), library)

    def memory_copy(self, size: ArrayLike, library: str = DEFAULT) -> KernelTimes:
        """`size` bytes from one place of the GPU's memory to another."""
        check_sizes(0, size=size)
        return self._stream(copy_work(size, self._launch(library)), library)

    def host_copy(
        self,
        size: ArrayLike,
        link_bandwidth: float,
        host_bandwidth: float = float("inf"),
        pinned: bool = True,
        library: str = DEFAULT,
    ) -> KernelTimes:
        """`size` bytes between host and GPU over a link of `link_bandwidth` (B/s, one direction)."""
        check_sizes(0, size=size)
        check_sizes(link_bandwidth=link_bandwidth)
        check_library(library, self.calibration, "vector")
        link = HostLink(link_bandwidth, host_bandwidth, pinned)
        return host_copy_time(size, link, self.calibration.read(HostCopyConstants, library))

    def _launch(self, library: str) -> LaunchConstants:
        """How a library writes its kernels. Raises `InputError` for one that is not known."""
        check_library(library, self.calibration, "vector")
        return self.calibration.read(LaunchConstants, library)

    def _stream(self, work: StreamWork, library: str) -> KernelTimes:
        return stream_time(work, self.device, self.calibration.read(StreamConstants, library))


def width_of(dtype: str) -> float:
    """Bytes of an element of `dtype`."""
    check_name(dtype, BYTES, "dtype")
    return BYTES[dtype]
