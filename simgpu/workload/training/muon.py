"""Muon: matrices of layers are updated by their momentum, made orthogonal; all else by Adam.

Five steps of Newton and Schulz in bf16 make a matrix of m x n (m the shorter side) orthogonal: X X^T, its square and a
product with X, 4 m^2 n + 2 m^3 FLOPs each (Jordan et al., Muon, 2024; Liu et al., Muon is Scalable for LLM Training,
2025, arXiv 2502.16982, section 2). Of a matrix that tensor parallelism splits each rank takes its own part
(Megatron-Core, core/optimizer/muon.py, `blockwise`), and query, key, value, gate and up are matrices of their own.
Embedding, head, norms and biases have Adam.

Sharded states (ZeRO-1 and on) are of parts of matrices. So momenta are gathered in bf16, and the ranks that share them
take the matrices between them (the same paper, section 2.3, Distributed Muon): 2 bytes a parameter more than with Adam.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from simgpu.model.operators import BYTES, GroupedMatmul, Kernel, Matmul
from simgpu.plan.parallelism import Plan

if TYPE_CHECKING:
    from simgpu.timing.kernels import KernelModel

MUON = "muon"
STEPS = 5
"""Steps of Newton and Schulz (Megatron-Core, muon_num_ns_steps)."""

WIDTH = BYTES["bf16"]


class Matrix(NamedTuple):
    """A shape of matrices of a rank, and whether they are experts'."""

    rows: int
    columns: int
    experts: bool


Matrices = tuple[tuple[Matrix, int], ...]
"""Shapes and how many matrices have each."""


def matrices_of(parts: Iterable[Kernel], outputs: Mapping[str, Sequence[int]], experts: int) -> Matrices:
    """Matrices of the operators of a layer on a rank.

    outputs: columns of products that several matrices make side by side. experts: those of the rank.
    """
    found: Counter[Matrix] = Counter()
    for part in parts:
        if isinstance(part, Matmul) and part.weight:
            for columns in outputs.get(part.name, (part.n_size,)):
                found[Matrix(part.k.size, columns, False)] += 1
        elif isinstance(part, GroupedMatmul):
            found[Matrix(part.k.size, part.n_size, True)] += experts
    return tuple(found.items())


def joined(some: Iterable[Matrices]) -> Matrices:
    """Matrices of several units together."""
    found: Counter[Matrix] = Counter()
    for matrices in some:
        found.update(dict(matrices))
    return tuple(found.items())


def elements(matrices: Matrices, experts: bool) -> float:
    """Parameters of matrices, of experts or of all else."""
    return float(sum(one.rows * one.columns * count for one, count in matrices if one.experts == experts))


def flops(matrix: Matrix) -> float:
    """FLOPs that make a matrix orthogonal.

    >>> flops(Matrix(2, 3, False))
    320.0
    """
    short, long = sorted((matrix.rows, matrix.columns))
    return STEPS * (4.0 * short**2 * long + 2.0 * short**3)


def orthogonal_s(kernels: KernelModel, matrix: Matrix) -> float:
    """Seconds of the products that make a matrix orthogonal."""
    short, long = sorted((matrix.rows, matrix.columns))
    gemm = kernels.timer.matrix.gemm
    once = gemm(short, short, long).seconds + gemm(short, short, short).seconds + gemm(short, long, short).seconds
    return STEPS * float(once)


def dealt_s(kernels: KernelModel, plan: Plan, matrices: Matrices) -> float:
    """Seconds of a rank that takes its share of the matrices: no less than one of them."""
    total = 0.0
    for experts, ranks in ((False, plan.shards), (True, plan.expert_copies)):
        each = [(orthogonal_s(kernels, one), count) for one, count in matrices if one.experts == experts]
        if each:
            whole = sum(seconds * count for seconds, count in each)
            total += max(whole / (ranks if plan.zero else 1), max(seconds for seconds, _ in each))
    return total


def gathers(plan: Plan, matrices: Matrices) -> Iterator[tuple[str, float]]:
    """Groups in which momenta are gathered, and bytes."""
    if plan.zero:
        for group, experts in (("shard", False), ("expert", True)):
            if size := WIDTH * elements(matrices, experts):
                yield group, size
