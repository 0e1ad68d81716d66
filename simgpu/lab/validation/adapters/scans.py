"""What tables of scans over a state share: chunks of a prompt, steps of one token, and verification of a few.

Each row is the operator that a model has (`simgpu.model.state_operators.Scan`), timed by the library of its kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from simgpu.lab.validation.batches import Batch, Machine, Part, Unpredicted, roofline, unpredictable
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.model.dims import Dim
from simgpu.model.state_operators import Scan
from simgpu.timing.scan_timer import scan_library

COLUMNS = Columns(
    positive=("batch_size", "seq_len", "num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim", "state_bytes",
              "latency_s"),
    words=("gpu", "engine", "kernel", "phase"),
    optional=("suspicious", "version", "model"),
)  # fmt: skip

SHAPE = ("batch_size", "seq_len", "num_k_heads", "num_v_heads", "phase", "kernel")
OPS = {"context": "scan_prefill", "generation": "scan_decode", "verify": "scan_verify"}
WIDE_STATE = 4.0
"""Bytes of an element of a state as models keep it."""


def scans(table: Table, rows: Rows, machine: Machine, variant: str, library: Callable[[str], str]) -> Iterator[Part]:
    """Scans of a kind of recurrence; `library` says which one an engine names for a kernel."""
    for (kernel, phase), at in table.split(rows, "kernel", "phase"):
        op = OPS.get(phase, "scan_prefill")
        if "conv1d" in kernel:
            yield Unpredicted("causal_convolution", at, "streams beside a scan; not scored by itself", left_out=True)
            continue
        refused = unpredictable(machine, op, at, "bfloat16")
        if refused or phase not in OPS:
            yield refused or Unpredicted(op, at, f"no phase '{phase}' is known", key="phase")
            continue
        wide = table.number("state_bytes", at) == WIDE_STATE
        if phase != "context" and not wide.all():
            yield Unpredicted(op, at[~wide], "states in 16 bits; models keep them in 32", key="state_bytes")
            at = at[wide]
        if len(at):
            yield _batch(table, at, machine, op, scan_library(library(kernel), variant), variant)


def _batch(table: Table, at: Rows, machine: Machine, op: str, library: str, variant: str) -> Batch:
    columns = ("batch_size", "seq_len", "num_v_heads", "num_k_heads", "head_k_dim", "head_v_dim")
    numbers = np.stack([table.number(name, at) for name in columns], axis=1).astype(int)
    work = [
        Scan(op, variant, Dim(batch), tokens, Dim(heads), Dim(keys), k, v, "bf16", continued=op != OPS["context"],
             chunked=op == OPS["context"])
        for batch, tokens, heads, keys, k, v in numbers.tolist()
    ]  # fmt: skip
    flops, moved = (np.asarray([getattr(one, name) for one in work]) for name in ("flops", "bytes"))
    return Batch(
        op,
        "bfloat16",
        at,
        partial(_seconds, machine, work, library),
        partial(roofline, flops, moved, machine.peak("bf16"), machine.bandwidth),
        "scan",
        library,
        SHAPE,
    )


def _seconds(machine: Machine, work: list[Scan], library: str) -> Array:
    return np.asarray([float(machine.timer.scans.scan(one, library, warm=True).seconds) for one in work])
