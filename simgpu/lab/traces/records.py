"""What a trace says that ran: operators with their shapes, collectives, copies, each with its time on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OPERATOR, COLLECTIVE, COPY, KERNEL = "operator", "collective", "copy", "kernel"
"""What a record is: an operator of a framework; a collective; a copy or fill; a kernel that no operator is known of."""


@dataclass(frozen=True)
class Ran:
    """One kernel on a GPU: when it began and how long it took, s, on which stream, and when the host launched it."""

    start: float
    seconds: float
    stream: str = ""
    launched: float | None = None

    @property
    def end(self) -> float:
        """When it ended, s."""
        return self.start + self.seconds


@dataclass(frozen=True)
class Record:
    """Something that ran once. Seconds are those of its kernels on a GPU; None where a trace has no times.

    `shapes` and `types` are those of its inputs, by position, as the framework writes them; `values` its other
    arguments. A collective has its `size` in bytes as nccl-tests count it, and over how many `ranks` it goes. `ran` are
    its kernels with their times, where a trace has them; `op` is the operator itself in traces that simgpu wrote.
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
    ran: tuple[Ran, ...] = ()
    op: Any = None


@dataclass(frozen=True)
class Recorded:
    """A trace: its records in order, the GPUs it names as (name, multiprocessors, bytes of memory), and what it is.

    `waits` are times (from, to), s, in which the host waited for the GPU.
    """

    what: str
    records: tuple[Record, ...]
    gpus: tuple[tuple[str, int, int], ...] = ()
    notes: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    waits: tuple[tuple[float, float], ...] = ()
