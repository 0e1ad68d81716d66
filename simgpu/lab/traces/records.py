"""What a trace says that ran: operators with their shapes, collectives, copies, each with its time on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OPERATOR, COLLECTIVE, COPY, KERNEL = "operator", "collective", "copy", "kernel"
"""What a record is: an operator of a framework; a collective; a copy or fill; a kernel that no operator is known of."""


@dataclass(frozen=True)
class Record:
    """Something that ran once. Seconds are those of its kernels on a GPU; None where a trace has no times.

    `shapes` and `types` are those of its inputs, by position, as the framework writes them; `values` its other
    arguments. A collective has its `size` in bytes as nccl-tests count it, and over how many `ranks` it goes.
    """

    name: str
    kind: str
    seconds: float | None
    shapes: Sequence[Any] = ()
    types: Sequence[Any] = ()
    values: Sequence[Any] = ()
    kernels: tuple[str, ...] = ()
    size: float = 0.0
    ranks: int = 0


@dataclass(frozen=True)
class Recorded:
    """A trace: its records in order, the GPUs it names as (name, multiprocessors, bytes of memory), and what it is."""

    what: str
    records: tuple[Record, ...]
    gpus: tuple[tuple[str, int, int], ...] = ()
    notes: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
