"""Adapters of tables of whole layers: matrix multiplications beside normalisation, softmax, elementwise ..."""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.study.validation.batches import Machine, Part, Unpredicted
from simgpu.study.validation.gemm import SYNC_OVERHEAD, matmul
from simgpu.study.validation.tables import Rows, Table


def served(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Kernels of a layer by their time on the GPU, as a server runs them."""
    for (kind, dtype), at in table.split(rows, "kind", "dtype"):
        if kind == "gemm":
            m, n, k = (table.number(name, at) for name in ("num_tokens", "gemm_n", "gemm_k"))
            yield matmul(
                machine, at, dtype, m, n, k, shape=("model", "tp_size", "op", "num_tokens", "gemm_n", "gemm_k")
            )
        else:
            yield Unpredicted(kind, at, f"no model of {kind} yet")


def profiled(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    for (layer, dtype), at in table.split(rows, "layer", "dtype"):
        with_shape = ~(table.number("gemm_n", at) != table.number("gemm_n", at))
        products, others = at[with_shape], at[~with_shape]
        if len(products):
            m, n, k = (table.number(name, products) for name in ("num_tokens", "gemm_n", "gemm_k"))
            shape = ("model", "tp_size", "layer", "num_tokens", "gemm_n", "gemm_k")
            yield matmul(machine, products, dtype, m, n, k, shape=shape)
        if len(others):
            yield Unpredicted(layer, others, f"no model of {layer} yet")


def host_timed(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    for (op, dtype), at in table.split(rows, "op", "dtype"):
        if op == "matmul":
            m, n, k = (table.number(name, at) for name in "mnk")
            yield matmul(machine, at, dtype, m, n, k, overhead=SYNC_OVERHEAD)
        else:
            yield Unpredicted(op, at, f"no model of {op} yet")


def one_layer(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    for (op,), at in table.split(rows, "op"):
        yield Unpredicted(op, at, f"no model of {op} yet")


def single_precision(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    for (op,), at in table.split(rows, "op"):
        yield Unpredicted(op, at, f"no model of {op} yet")
