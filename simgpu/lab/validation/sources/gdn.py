"""Gated delta nets of AIConfigurator (shapes of Qwen3.5) by engine: chunks of prompts, and steps of one token.

How it was measured: the collectors of SGLang, TensorRT-LLM and vLLM, CUDA graphs; one layer's scan without its
projections. vLLM takes FlashInfer's kernels for prompts on Hopper and Blackwell, all others Triton's.

Traps: some convolutions run over the channels of the keys alone, which is flagged. On L40S states stay in L2 from one
replay to the next.
"""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.adapters.scans import COLUMNS, scans
from simgpu.lab.validation.batches import Adapter, Machine, Part
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Rows, Table


def delta_nets(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Scans in Triton's or FlashInfer's kernels."""
    yield from scans(table, rows, machine, "gated_delta", library_of)


def library_of(kernel: str) -> str:
    """The library of a kernel by its name."""
    return "flashinfer" if kernel.endswith("flashinfer") else DEFAULT


SOURCE = Source(
    "https://pypi.org/project/aiconfigurator-core 0.12.0, Apache-2.0: "
    "systems/data/<gpu>/gdn/{sglang,trtllm,vllm}/<version>/gdn_perf.parquet",
    [Adapter("kernels", COLUMNS, delta_nets)],
    reasons=[Reason("states stay in L2 between replays, which between the layers of a model they do not",
                    "scan_decode", "l40s")],
)  # fmt: skip
