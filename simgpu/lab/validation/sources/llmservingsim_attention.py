"""Attention kernels of a server by LLMServingSim: prefill chunks, decodes, and steps that mix both.

How it was measured: kernel times inside vLLM 0.19, eager.

Traps: the table names no kernel; vLLM's own choice for the architecture is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from simgpu.lab.validation.adapters.attention import library_for, visible
from simgpu.lab.validation.batches import DTYPES, WIDTHS, Adapter, Batch, Machine, Part, roofline, timed, unpredictable
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.timing.attention_work import MixedWork

_STEP = ("prefill_q_len", "prefill_past_kv_len", "num_decode_seqs", "decode_kv_len")

COLUMNS = Columns(
    positive=("num_heads", "num_kv_heads", "head_dim", "latency_s"),
    numbers=_STEP,
    words=("gpu", "dtype"),
    optional=("suspicious", "model", "tp_size"),
)


def mixed(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Steps of a server: a prefill chunk, decodes, or both in one kernel."""
    for (dtype,), at in table.split(rows, "dtype"):
        q, decodes = table.number("prefill_q_len", at), table.number("num_decode_seqs", at)
        for op, which in (
            ("attention_prefill", (q > 0) & (decodes == 0)),
            ("attention_decode", (q == 0) & (decodes > 0)),
            ("attention_mixed", (q > 0) & (decodes > 0)),
        ):
            if which.any():
                yield _step(table, at[which], machine, op, dtype)


def _step(table: Table, at: Rows, machine: Machine, op: str, dtype: str) -> Part:
    refused = unpredictable(machine, op, at, dtype)
    if refused:
        return refused
    q, past, decodes, kv_len = (table.number(name, at) for name in _STEP)
    heads, kv, dim = (table.number(name, at) for name in ("num_heads", "num_kv_heads", "head_dim"))
    name, kernels = DTYPES[dtype], library_for(machine, "vllm", "")
    width = WIDTHS[name]
    flops = 4 * heads * dim * (visible(q, past + q) + decodes * kv_len)
    moved = width * dim * (2 * heads * (q + decodes) + 2 * kv * (past + q + decodes * kv_len))
    call = partial(
        timed,
        machine.timer.attention.mixed,
        0.0,
        MixedWork(q, past + q, decodes, kv_len, heads, kv, dim),
        dtype=name,
        library=kernels,
    )
    baseline = partial(roofline, flops, moved, machine.peak(name), machine.bandwidth)
    return Batch(op, dtype, at, call, baseline, "attention", kernels, ("model", "tp_size", *_STEP))


SOURCE = Source(
    "https://github.com/casys-kaist/LLMServingSim at 5daddb21a, MIT: profiler/perf/*/attention.csv",
    [Adapter("kernels", COLUMNS, mixed)],
    also=("inference",),
    reasons=(
        Reason(
            "a few new tokens over a long cache: this version of vLLM does not split the keys of a chunk over blocks",
            where=lambda n: n["prefill_past_kv_len"] >= 2048 and n["slow"] < 1,
        ),
        Reason(
            "vLLM runs a small chunk and its decodes in one kernel; the prediction runs one after the other",
            "attention_mixed",
            where=lambda n: n["slow"] > 1,
        ),
        Reason(
            "a small chunk beside decodes of long caches: one kernel for both does not split the keys of the decodes",
            "attention_mixed",
        ),
    ),
)
