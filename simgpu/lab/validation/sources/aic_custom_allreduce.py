"""All-reduce as inference servers run it, by AIConfigurator: one node, bfloat16.

How it was measured: kernels of the servers' own for small messages, NCCL for large ones; five in a CUDA graph, 20
replays.

Traps: eager rows copy the input in each call and pay for launches; they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.lab.validation.adapters.collectives import collectives, columns
from simgpu.lab.validation.batches import Adapter, Machine, Part, Unpredicted
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Rows, Table

COLUMNS = columns("", "cuda_graph", optional=("framework", "kernel_source"), nodes=False)


def served(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """All-reduce as inference servers run it: kernels of their own for small messages, NCCL for large ones."""
    graph = table.word("cuda_graph", rows) == "True"
    if not graph.all():
        reason = "eager: each includes a copy of the input and its launches"
        yield Unpredicted("all_reduce", rows[~graph], reason, left_out=True)
    yield from collectives(table, rows[graph], machine, "custom")


SOURCE = Source(
    "https://github.com/ai-dynamo/aiconfigurator at 095f58a51c4c, Apache-2.0: "
    "systems/data/<system>/comm/{sglang,trtllm,vllm}/<version>/custom_allreduce_perf.parquet",
    [Adapter("collectives", COLUMNS, served)],
    reasons=(
        Reason(
            "a single row; the same size in the other frameworks of the table is 4 to 12 times faster",
            where=lambda n: n["slow"] < 1,
        ),
    ),
)
