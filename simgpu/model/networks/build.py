"""A builder of graphs: takes layers as modules of PyTorch name them and lists the kernels that eager PyTorch runs.

Kernels are counted in huggingface/diffusers and transformers: a bias of a convolution and each addition, scaling and
activation is a kernel of its own, a group norm three (aten/src/ATen/native/cuda/group_norm_kernel.cu). What a compiler
joins is joined afterwards (`simgpu.workload.networks.lowering`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from simgpu.model.convolution import Convolution
from simgpu.model.graph import ModelGraph, Segment
from simgpu.model.operators import ACCUMULATE, BYTES, Attention, Dim, Embedding, Matmul, Operator, Pointwise


@dataclass(frozen=True)
class Inputs:
    """What one pass of a component takes in. Height and width are those of its own input: pixels, or latents."""

    batch: int = 1
    height: int = 0
    width: int = 0
    frames: int = 1
    tokens: int = 0  # of text, beside an image; of a sequence
    past: int = 0  # tokens that a decoder has in its cache
    training: bool = False


@dataclass(frozen=True)
class Window:
    """What a convolution sees and skips: square `kernel` pixels in `depth` frames; `frames` of each image."""

    kernel: int = 3
    stride: int = 1
    padding: int | None = None  # None: half of the kernel
    groups: int = 1
    bias: bool = True
    frames: int = 1
    depth: int = 1

    @property
    def pad(self) -> int:
        """Pixels that are added at each side."""
        return self.kernel // 2 if self.padding is None else self.padding


SQUARE, POINT, HALVE = Window(), Window(kernel=1), Window(stride=2)
"""Kernels of 3 x 3, of one pixel, and of 3 x 3 that see every second pixel."""


@dataclass
class Builder:
    """Operators of one pass, and how much memory is live while they run.

    `kept` bytes are tensors that wait for later layers (skip connections, residuals); `peak` is the most that was live
    at once, `saved` what training keeps for the backward pass.
    """

    inputs: Inputs
    dtype: str = "fp16"
    accumulate: str = ""
    segments: list[Segment] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    kept: float = 0.0
    peak: float = 0.0
    saved: float = 0.0
    held: int = 0  # parameters that no operator multiplies by
    _times: int = 1

    def __post_init__(self) -> None:
        self.accumulate = self.accumulate or ACCUMULATE[self.dtype]

    @property
    def width(self) -> float:
        """Bytes of an element."""
        return BYTES[self.dtype]

    @property
    def batch(self) -> Dim:
        """The batch, which data parallelism splits."""
        return Dim(self.inputs.batch, 1, "batch")

    def rows(self, tokens: int) -> Dim:
        """Rows of `tokens` of each of the batch, which data and sequence parallelism split."""
        return Dim(self.inputs.batch, tokens, "batch")

    # ---- segments -------------------------------------------------------------------------------------

    @contextmanager
    def segment(self, name: str, repeat: int = 1) -> Iterator[None]:
        """Operators that are added inside are a segment of their own, `repeat` times over."""
        self._close("rest")
        self._times = repeat
        yield
        self._close(name, repeat)
        self._times = 1

    def _close(self, name: str, repeat: int = 1) -> None:
        if self.operators and repeat:
            self.segments.append(Segment(name, tuple(self.operators), repeat))
        self.operators = []

    def graph(self, name: str) -> ModelGraph:
        """Everything that was added."""
        self._close("rest")
        return ModelGraph(name, tuple(self.segments))

    def _add(self, op: Operator, live: float, out: float) -> None:
        self.operators.append(op)
        self.peak = max(self.peak, self.kept + live)
        self.saved += out * self._times

    # ---- layers ---------------------------------------------------------------------------------------

    def linear(self, name: str, rows: Dim, n: int, k: int, bias: bool = True, times: int = 1) -> None:
        """`times` linear layers of `k` inputs and `n` outputs, one after another on the same input."""
        op = Matmul(name, rows, (Dim(n),), Dim(k), self.dtype, self.accumulate, bias=bias)
        for _ in range(times):
            self._add(op, op.input_bytes + times * op.output_bytes, op.output_bytes)

    def tied(self, name: str, rows: Dim, n: int, k: int) -> None:
        """A linear layer whose weights are those of an embedding, which holds them."""
        op = Matmul(name, rows, (Dim(n),), Dim(k), self.dtype, self.accumulate, weight=False)
        self._add(op, op.input_bytes + op.output_bytes, op.output_bytes)

    def convolution(
        self, name: str, channels: int, filters: int, size: tuple[int, int], window: Window = SQUARE
    ) -> tuple[int, int]:
        """A convolution of input `size`, and the kernel that adds its bias; returns the size of its output."""
        w, frames = window, window.frames
        op = Convolution(
            name, Dim(self.inputs.batch, frames, "batch"), channels, *size, filters, self.dtype, (w.kernel, w.kernel),
            (w.stride, w.stride), (w.pad, w.pad), w.groups, w.depth, w.bias, self.accumulate,
        )  # fmt: skip
        self._add(op, op.input_bytes + op.output_bytes, op.output_bytes)
        if w.bias:
            rows = Dim(self.inputs.batch, frames * op.out[0] * op.out[1], "batch")
            self.elementwise(f"{name}_bias", rows, filters, saves=False)
        return op.out

    def elementwise(
        self,
        name: str,
        rows: Dim,
        width: int,
        reads: float = 1,
        writes: float = 1,
        saves: bool = True,
        weights: int = 0,
    ) -> None:
        """A kernel that reads `reads` and writes `writes` tensors of [rows, width]."""
        self._point(name, "elementwise", rows, width, reads, writes, saves, weights)

    def activation(self, name: str, rows: Dim, width: int) -> None:
        """SiLU, GELU, ReLU ... of [rows, width]."""
        self._point(name, "activation", rows, width, 1, 1, True)

    def layer_norm(self, name: str, rows: Dim, width: int, affine: bool = True, bias: bool = True) -> None:
        """LayerNorm, or without `bias` RMSNorm in one kernel; not `affine`: without weights."""
        weights = width * (1 + bias) if affine else 0
        self._point(name, "normalization", rows, width, 1, 1, True, weights)

    def _point(
        self, name: str, kind: str, rows: Dim, width: int, reads: float, writes: float, saves: bool, weights: int = 0
    ) -> None:
        op = Pointwise(name, kind, rows, (Dim(width),), self.dtype, reads, writes, weights=weights)
        one = rows.size * width * self.width
        self._add(op, (reads + writes) * one, writes * one if saves else 0.0)

    def group_norm(self, name: str, channels: int, size: tuple[int, int], groups: int, frames: int = 1) -> None:
        """Moments of each group of an image, the factors that follow from them, and their application."""
        pixels = size[0] * size[1] * frames
        rows, each = Dim(self.inputs.batch, groups, "batch"), Dim(channels // groups * pixels)
        moments = Pointwise(f"{name}_moments", "moments", rows, (each,), self.dtype, 1, 0)
        self._add(moments, pixels * channels * self.width * self.inputs.batch, 0.0)
        small = Pointwise(f"{name}_factors", "elementwise", self.batch, (Dim(channels),), "fp32", 1, 2)
        self._add(small, 0.0, 0.0)
        self.elementwise(name, Dim(self.inputs.batch, pixels, "batch"), channels, weights=2 * channels)

    def attention(
        self, name: str, queries: int, keys: int, heads: int, head_dim: int, causal: bool = False, kv_heads: int = 0,
        batch: int = 1,
    ) -> None:  # fmt: skip
        """Fused attention of `batch` sequences of each of the batch."""
        op = Attention(
            name, Dim(self.inputs.batch, batch, "batch"), queries, keys, Dim(heads), Dim(kv_heads or heads), head_dim,
            self.dtype, causal,
        )  # fmt: skip
        out = self.inputs.batch * batch * queries * heads * head_dim * self.width
        self._add(op, op.bytes, out)

    def unfused_attention(self, name: str, queries: int, keys: int, heads: int, head_dim: int) -> None:
        """Attention whose scores pass memory: a product, a bias, softmax in fp32 with casts, a product."""
        over = (self.batch, Dim(heads))
        rows, q, k, d = Dim(self.inputs.batch, heads * queries, "batch"), Dim(queries), Dim(keys), Dim(head_dim)
        scores = Matmul(f"{name}_scores", q, (k,), d, self.dtype, self.accumulate, weight=False, over=over)
        self._add(scores, scores.output_bytes, scores.output_bytes)
        self.elementwise(f"{name}_bias", rows, keys, reads=2)
        for kind, reads, writes in (("elementwise", 1, 2), ("softmax", 2, 2), ("elementwise", 2, 1)):
            self._point(f"{name}_softmax", kind, rows, keys, reads, writes, False)
        values = Matmul(f"{name}_values", q, (d,), k, self.dtype, self.accumulate, weight=False, over=over)
        self._add(values, values.output_bytes, values.output_bytes)
        self.elementwise(f"{name}_heads", self.rows(queries), heads * head_dim, saves=False)

    def embedding(self, name: str, tokens: int, vocab: int, width: int, positions: int = 0) -> None:
        """Rows of a table for `tokens` tokens of each sequence; `positions` rows of learned ones beside it."""
        rows = self.rows(tokens)
        op = Embedding(name, rows, Dim(vocab), width, self.dtype, positions=positions)
        self._add(op, op.output_bytes, op.output_bytes)

    def parameters(self, name: str, count: int) -> None:
        """Parameters that are only added or scaled by, in one small kernel."""
        op = Pointwise(name, "elementwise", self.batch, (Dim(1),), self.dtype, 1, 1, weights=count)
        self._add(op, 0.0, 0.0)

    @contextmanager
    def keeping(self, size: float) -> Iterator[None]:
        """`size` bytes stay in memory while what is added inside runs."""
        self.kept += size
        yield
        self.kept -= size
