"""Adapters of low rank beside the matrices of a served model, many at a time (LoRA).

Each matrix [k, n] has two products more, grouped by the adapter that a row names: of the rows by A [k, r], and of that
by B [r, n], which is added to the result. With T rows of D different adapters they read D r (k + n) numbers beside the
rows. Kernels run at the rank of the slots, whatever that of an adapter (vLLM, lora/layers: `lora_a_stacked` is [slots,
1, max_lora_rank, k]), and a buffer between them is set to zero first (lora/punica_wrapper, `add_lora_linear`). Tensor
parallelism leaves A whole beside matrices that are split by columns, and B beside those that are split by rows, as vLLM
does without `fully_sharded_loras`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simgpu.memo import remembered
from simgpu.model.operators import Dim, Matmul, Pointwise
from simgpu.plan.numerics import PROJECTIONS
from simgpu.plan.program import Step

TARGETS = (*PROJECTIONS, "ffn_up", "ffn_down")
"""Matrices that have adapters, unless others are named: those of attention and of dense feed-forward layers."""

ADAPTER_BYTES = 2.0
"""Bytes of a number of an adapter (vLLM's lora_dtype: that of the model's activations)."""


@dataclass(frozen=True)
class Adapters:
    """Adapters of a deployment: `count` of them, named by requests with chances that fall as place^-`exponent`.

    `rank` is that of the `slots` in which they lie on the GPUs, `own` that of each adapter, `targets` are the matrices
    beside which they stand.
    """

    rank: int
    slots: int
    count: int
    own: int
    exponent: float = 0.0
    targets: tuple[str, ...] = TARGETS

    def distinct(self, sequences: int) -> float:
        """Different adapters among so many sequences, on average."""
        return expected(self.count, self.exponent, sequences)

    def beside(self, matrix: Matmul, distinct: int) -> tuple[Step, ...]:
        """The kernels beside a matrix of a rank, whose rows name so many different adapters."""
        rows = Dim(-(-matrix.m.size // distinct))
        inner = products_of(matrix) * self.rank
        name, out, dtype = matrix.name, matrix.n_size, matrix.dtype if matrix.dtype in ("bf16", "fp16") else "bf16"
        zeroed = 2.0 * inner / out  # in fp32
        return (
            Pointwise(f"{name}_lora_sum", "elementwise", Dim(matrix.m.size), (Dim(out),), dtype, 1.0, zeroed),
            Matmul(f"{name}_lora_a", rows, (Dim(inner),), Dim(matrix.k.size), dtype, batch=distinct),
            Matmul(f"{name}_lora_b", rows, (Dim(out),), Dim(self.rank), dtype, batch=distinct),
        )

    def put_beside(self, steps: Iterable[Step], distinct: int) -> list[Step]:
        """The steps of a block of a rank, with those of adapters after each matrix that has some."""
        found: list[Step] = []
        for step in steps:
            found.append(step)
            if isinstance(step, Matmul) and step.name in self.targets:
                found += self.beside(step, distinct)
        return found

    def numbers(self, steps: Sequence[Step], rank: int) -> float:
        """Numbers of an adapter of a rank beside the matrices of a block."""
        matrices = [step for step in steps if isinstance(step, Matmul) and step.name in self.targets]
        return float(sum(rank * (products_of(one) * one.k.size + one.n_size) for one in matrices))


def products_of(matrix: Matmul) -> int:
    """Products that stand side by side in a matrix, each of which has an A of its own: q, k and v; gate and up."""
    return 3 if len(matrix.n) == 2 else matrix.n[0].width if matrix.n[0].width == 2 else 1


def alone(steps: Iterable[Step], adapters: Adapters, distinct: int) -> list[Step]:
    """The kernels of adapters alone."""
    return [made for step in steps if isinstance(step, Matmul) and step.name in adapters.targets
            for made in adapters.beside(step, distinct)]  # fmt: skip


@remembered(64)
def chances_of(count: int, exponent: float) -> tuple[float, ...]:
    """The chance of each of some adapters to be named, which falls as its place to a power."""
    weights = [place**-exponent for place in range(1, count + 1)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


@remembered(4096)
def expected(count: int, exponent: float, sequences: int) -> float:
    """Different ones of `count` adapters that so many sequences name, on average."""
    return sum(1.0 - (1.0 - chance) ** sequences for chance in chances_of(count, exponent))
