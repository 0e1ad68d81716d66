"""Operators as a user lists them, in an experiment file or in a graph file of `simgpu import`."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from simgpu.errors import InputError
from simgpu.model.convolution import DATA, FORWARD, Convolution
from simgpu.model.operators import ACCUMULATE, Attention, Communicate, Dim, Embedding, Matmul, Operator, Pointwise
from simgpu.schema_errors import TrueFalse
from simgpu.workload.fields import Accumulate, Dtype, Passes, Size, Strict, positive


class _Listed(Strict):
    """An operator of a list. `split` names what tensor parallelism cuts; with tp > 1 it must be given.

    `time` is a measured time of the whole operator on one GPU; parts of it take their share by FLOPs.
    """

    name: str = ""
    split: str | None = None
    time: Annotated[float, positive("s")] | None = None

    def split_size(self) -> tuple[str, int] | None:
        """The axis that is split and its length; None where nothing is split."""
        return None if self.split in (None, "none") else (str(self.split), int(getattr(self, str(self.split))))


class ListedMatmul(_Listed):
    """C[m, n] = A[m, k] B[k, n]."""

    op: Literal["matmul"]
    m: Size
    n: Size
    k: Size
    batch: Size = 1
    dtype: Dtype | None = None
    accumulate: Accumulate | None = None
    split: Literal["m", "n", "k", "none"] | None = None
    weight: TrueFalse = True
    """Whether B holds parameters."""
    bias: TrueFalse = False

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The product as an operator called `name`; `dtype` and `accumulate` where the list has none of its own."""
        dims = {key: Dim(getattr(self, key), 1, "tp" if self.split == key else "") for key in ("m", "n", "k")}
        own = self.dtype or dtype
        sums = self.accumulate or (accumulate if own == dtype else ACCUMULATE[own])
        return Matmul(
            name, dims["m"], (dims["n"],), dims["k"], own, sums, self.batch, self.weight, self.bias, time_s=self.time
        )


class ListedAttention(_Listed):
    """Flash attention of `batch` sequences: `queries` new tokens against `keys` (default: as many)."""

    op: Literal["attention"]
    batch: Size = 1
    queries: Size
    keys: Size | None = None
    heads: Size
    kv_heads: Size | None = None
    head_dim: Annotated[int, Field(strict=True, gt=0, le=1024)]
    causal: TrueFalse = True
    dtype: Dtype | None = None
    split: Literal["heads", "batch", "none"] | None = None

    @field_validator("kv_heads")
    @classmethod
    def _divides_heads(cls, kv_heads: int | None, info: ValidationInfo) -> int | None:
        heads = info.data.get("heads")
        if kv_heads and heads and heads % kv_heads:
            raise ValueError(f"{kv_heads} does not divide heads = {heads}")
        return kv_heads

    def check(self, key: str, tp: int) -> None:
        """Raise `InputError` below `key` where keys are too few, or heads do not go over `tp` ranks."""
        if self.causal and self.keys is not None and self.keys < self.queries:
            problem = f"{self.keys} is less than queries = {self.queries}; keys count the new tokens with the cached"
            raise InputError(problem, key=f"{key}.keys")
        few = self.kv_heads or self.heads
        if self.split == "heads" and few % tp and tp % few:
            raise InputError(f"tp {tp} does not divide kv_heads = {few}", key=f"{key}.kv_heads")

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The attention as an operator called `name`; `dtype` where the list has none of its own."""
        heads_axis, batch_axis = ("tp" if self.split == key else "" for key in ("heads", "batch"))
        return Attention(
            name,
            Dim(self.batch, 1, batch_axis),
            self.queries,
            self.keys or self.queries,
            Dim(self.heads, 1, heads_axis),
            Dim(self.kv_heads or self.heads, 1, heads_axis),
            self.head_dim,
            self.dtype or dtype,
            self.causal,
            accumulate=accumulate if self.dtype in (None, dtype) else ACCUMULATE[self.dtype or dtype],
            time_s=self.time,
        )


Pair = tuple[Size, Size]
"""Height and width."""

Padding = Annotated[int, Field(strict=True, ge=-100_000, le=100_000)]


class ListedConvolution(_Listed):
    """A convolution of `images` images; with `depth` also over so many frames of them.

    A `transposed` one makes its input from its output. Negative padding cuts off.
    """

    op: Literal["convolution"]
    images: Size
    channels: Size
    height: Size
    width: Size
    filters: Size
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: tuple[Padding, Padding] = (0, 0)
    groups: Size = 1
    depth: Size = 1
    bias: TrueFalse = True
    transposed: TrueFalse = False
    dtype: Dtype | None = None
    split: Literal["images", "none"] | None = None

    @field_validator("groups")
    @classmethod
    def _divides(cls, groups: int, info: ValidationInfo) -> int:
        for name in ("channels", "filters"):
            if info.data.get(name) and info.data[name] % groups:
                raise ValueError(f"{groups} does not divide {name} = {info.data[name]}")
        return groups

    def check(self, key: str, _tp: int) -> None:
        """Raise `InputError` below `key` where the kernel is larger than the padded image."""
        for name, size, pad, kernel in zip(
            ("height", "width"), (self.height, self.width), self.padding, self.kernel, strict=True
        ):
            if size + 2 * pad < kernel:
                problem = f"{size} with padding {pad} is less than the kernel's {kernel}"
                raise InputError(problem, key=f"{key}.{name}")

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The convolution as an operator called `name`; `dtype` where the list has none of its own."""
        own = self.dtype or dtype
        return Convolution(
            name, Dim(self.images, 1, "tp" if self.split == "images" else ""), self.channels, self.height, self.width,
            self.filters, own, self.kernel, self.stride, self.padding, self.groups, self.depth, self.bias,
            accumulate if own == dtype else ACCUMULATE[own], DATA if self.transposed else FORWARD, self.time,
            self.transposed,
        )  # fmt: skip


class ListedEmbedding(_Listed):
    """`rows` rows of `width` elements looked up in a table of `vocab`; `weight`: whether it holds the table."""

    op: Literal["embedding"]
    rows: Size
    vocab: Size
    width: Size
    weight: TrueFalse = True
    dtype: Dtype | None = None
    split: Literal["rows", "none"] | None = None

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The lookup as an operator called `name`; `dtype` where the list has none of its own."""
        rows = Dim(self.rows, 1, "tp" if self.split == "rows" else "")
        vocab = Dim(self.vocab if self.weight else 0)
        return Embedding(name, rows, vocab, self.width, self.dtype or dtype, time_s=self.time)


class ListedPointwise(_Listed):
    """A memory-bound operator over [rows, width]: `reads` + `writes` passes.

    A `kind` whose kernels need more than passes is named: normalization and softmax reduce over the width. `weights`
    are parameters that it holds.
    """

    op: Literal["pointwise"]
    kind: Literal["elementwise", "activation", "normalization", "softmax", "rope"] = "elementwise"
    rows: Size
    width: Size
    weights: Annotated[int, Field(strict=True, ge=0, le=10**12)] = 0
    reads: Passes = 1
    writes: Passes = 1
    dtype: Dtype | None = None
    split: Literal["rows", "width", "none"] | None = None

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The operator, called `name`; `dtype` where the list has none of its own."""
        rows, width = (Dim(getattr(self, key), 1, "tp" if self.split == key else "") for key in ("rows", "width"))
        return Pointwise(
            name, self.kind, rows, (width,), self.dtype or dtype, self.reads, self.writes, weights=self.weights,
            time_s=self.time,
        )  # fmt: skip


class ListedCollective(Strict):
    """A collective over the tensor-parallel group; `bytes` as nccl-tests count them. Nothing with tp 1."""

    op: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
    name: str = ""
    bytes: Annotated[float, positive("B")]

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The collective as an operator called `name`. It moves bytes, of no data type."""
        return Communicate(name, self.op, self.bytes)


Listed = Annotated[
    ListedMatmul | ListedAttention | ListedConvolution | ListedEmbedding | ListedPointwise | ListedCollective,
    Field(discriminator="op"),
]
