"""Kimi delta attention of AIConfigurator (shapes of Kimi K3) by engine: prompts, steps, and verified drafts.

How it was measured: as `gdn`; `verify` folds seq_len draft tokens of each sequence in, and keeps a state of each.

Traps: vLLM's convolutions ran eagerly, with host time, which is flagged; its version is a build of a branch.
"""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.adapters.scans import COLUMNS, scans
from simgpu.lab.validation.batches import Adapter, Machine, Part
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Rows, Table


def kimi_delta(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Scans in Triton's kernels or FlashKDA's."""
    yield from scans(table, rows, machine, "kda", library_of)


def library_of(kernel: str) -> str:
    """The library that an engine names where it has kernels of its own for prompts."""
    return "flashinfer" if kernel.startswith("flashkda") else DEFAULT


SOURCE = Source(
    "https://pypi.org/project/aiconfigurator-core 0.12.0, Apache-2.0: "
    "systems/data/<gpu>/kda/{sglang,vllm}/<version>/kda_perf.parquet",
    [Adapter("kernels", COLUMNS, kimi_delta)],
    reasons=[Reason("states stay in L2 between replays, which between the layers of a model they do not",
                    "scan_decode", "l40s")],
)  # fmt: skip
