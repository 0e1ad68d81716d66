"""Speed of collectives over thousands of GPUs: a few nodes stand for all, so that more of them cost no more.

python benchmarks/fabrics.py
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table

import simgpu

SIZE = 2.0**30


def main() -> None:
    """Time 1 GiB of all-reduce and all-to-all from 1,024 to 131,072 GPUs, each on a cluster that is new."""
    table = Table(title="1 GiB on DGX H100 behind a fat tree in three tiers (radix 128)", title_justify="left")
    for column in (
        "GPUs",
        "all-reduce ms",
        "busbw GB/s",
        "s to predict",
        "all-to-all ms",
        "busbw GB/s",
        "s to predict",
    ):
        table.add_column(column, justify="right")
    for gpus in (1024, 16_384, 65_536, 131_072):
        cells = [f"{gpus:,}"]
        for kind in ("all_reduce", "all_to_all"):
            cluster = simgpu.load_cluster("h100-fat-tree-3", cluster__nodes=gpus // 8, cluster__fabric__radix=128)
            began = time.perf_counter()
            done = simgpu.time_collective(cluster, kind, [SIZE], gpus)
            took = time.perf_counter() - began
            cells += [f"{done.seconds[0] * 1e3:.2f}", f"{done.busbw[0] / 1e9:.1f}", f"{took:.2f}"]
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    main()
