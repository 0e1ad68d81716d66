"""All-reduce and send/receive by Vidur: torch.distributed, float16, within and between nodes of A40, A100 and H100.

How it was measured: durations of NCCL's kernels by a profiler, eager calls one after another. They hold the wait for
the launches of the other ranks, 30 to 60 us, which is not predicted.

Traps: durations below the transfer at the full rate of the link cannot be those of transfers. Of pairs of H100, the
original repeats those of A100 byte by byte: flagged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from simgpu.lab.validation.adapters.collectives import collectives, columns
from simgpu.lab.validation.batches import Adapter, Batch, Machine, Part, Unpredicted
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Rows, Table

EAGER = "timed eagerly"
IMPOSSIBLE = "the larger ones are faster than the full rate of the link: not times of transfers"


def profiled(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Durations of NCCL kernels by a profiler, eager calls one after another.

    They hold the wait for the launches of the other ranks, 30 to 60 us, which is not predicted. Durations shorter than
    the transfer at the full rate of the link cannot be those of transfers; they are left out, and with them all of
    the same two GPUs where the link is known.
    """
    for part in collectives(table, rows, machine):
        if isinstance(part, Batch):
            part = replace(part, caveat=part.caveat or EAGER)
        if not isinstance(part, Batch) or part.op != "send_recv":
            yield part
            continue
        possible = table.number("latency_s", part.rows) >= part.roofline()
        if part.caveat == EAGER and not possible.all():  # the link is known: then none of them is a transfer
            possible[:] = False
        yield from _divided(part, possible, IMPOSSIBLE)


def _divided(part: Batch, kept: np.ndarray, reason: str) -> Iterator[Part]:
    """The rows of a batch that are kept, and the others left out."""
    if kept.all():
        yield part
        return
    yield Unpredicted(part.op, part.rows[~kept], reason, left_out=True)
    if kept.any():
        predict, baseline = part.predict, part.roofline
        yield replace(part, rows=part.rows[kept], predict=lambda: predict()[kept], roofline=lambda: baseline()[kept])


SOURCE = Source(
    "https://github.com/microsoft/vidur at 7d4751336, MIT: data/profiling/network",
    [Adapter("collectives", columns("intra_node_link", optional=("sku",)), profiled)],
    reasons=(
        Reason(
            "4 GB/s between two GPUs with a bridge: this pair went through the memory of the host",
            "send_recv",
            "a40",
            where=lambda n: n["num_nodes"] == 1,
        ),
        Reason(
            "the network between the nodes is not stated; a plain one is assumed",
            where=lambda n: n["num_nodes"] > 1,
        ),
        Reason(
            "eager calls under a profiler: the kernel's duration holds the wait for the other ranks, 30 to 60 us",
            "all_reduce",
            where=lambda n: n["message_bytes"] <= 4e6,
        ),
    ),
)
