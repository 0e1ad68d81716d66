"""Adapters of tables of collectives."""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.study.validation.batches import Machine, Part, Unpredicted
from simgpu.study.validation.tables import Rows, Table

NAMES = {"alltoall": "all_to_all", "allreduce": "all_reduce", "allgather": "all_gather"}
"""Other names of collectives in tables."""


def nccl_tests(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Sizes and times as nccl-tests prints them."""
    for (kind,), at in table.split(rows, "collective"):
        yield Unpredicted(NAMES.get(kind, kind), at, "no model of collectives yet")
