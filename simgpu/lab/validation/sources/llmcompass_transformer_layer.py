"""Operators of one GPT-3 175B layer by LLMCompass, on one of four A100 that share it: prefill and decode.

How it was measured: as `llmcompass_ops`, each operator alone.

Traps: the all-reduces come from nccl-tests and stand in `llmcompass_allreduce` already.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simgpu.lab.validation.adapters.gemm import matmul
from simgpu.lab.validation.adapters.streams import streamed
from simgpu.lab.validation.batches import Adapter, Machine, Part, Unpredicted
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.sources.llmcompass_ops import SYNC_OVERHEAD, stream
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.timing.gemm import GemmWork

COLUMNS = Columns(
    positive=(
        *("num_gpus", "hidden_size", "num_heads", "ffn_size", "tp_size"),
        *("batch_size", "q_len", "kv_len", "latency_s"),
    ),
    words=("gpu", "op", "dtype"),
    optional=("suspicious", "phase", "model"),
)

_PRODUCTS = ("qkv_proj", "q_mul_k", "a_mul_v", "wo_proj", "w1_proj", "w2_proj")
_LAYER = ("op", "phase", "batch_size", "q_len", "kv_len", "hidden_size", "tp_size")


def one_layer(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Operators of one layer on one of the ranks that share it, each timed alone by the host."""
    for (op, dtype), at in table.split(rows, "op", "dtype"):
        if op in _PRODUCTS:
            yield _product(table, at, machine, op, dtype)
        elif op.startswith("allreduce"):
            reason = "measured by nccl-tests; the table llmcompass_allreduce holds them"
            yield Unpredicted("all_reduce", at, reason, left_out=True)
        else:
            rows_, cols = _extent(table, at, op)
            name = op.partition("_")[0]
            yield streamed(machine, at, op, dtype, stream(name, rows_, cols), _LAYER)


def _sizes(table: Table, at: Rows) -> tuple[Array, ...]:
    """tokens, queries, keys, sequences x heads of a rank, head dim, hidden, hidden / tp, ffn / tp."""
    columns = ("batch_size", "q_len", "kv_len", "hidden_size", "num_heads", "ffn_size", "tp_size")
    batch, q, kv, hidden, heads, ffn, tp = (table.number(name, at) for name in columns)
    return batch * q, q, kv, batch * heads / tp, hidden / heads, hidden, hidden / tp, ffn / tp


def _product(table: Table, at: Rows, machine: Machine, op: str, dtype: str) -> Part:
    tokens, q, kv, groups, dim, hidden, share, ffn = _sizes(table, at)
    one = np.ones_like(tokens)
    sizes = {
        "qkv_proj": (tokens, 3 * share, hidden, one),
        "q_mul_k": (q, kv, dim, groups),
        "a_mul_v": (q, dim, kv, groups),
        "wo_proj": (tokens, hidden, share, one),
        "w1_proj": (tokens, ffn, hidden, one),
        "w2_proj": (tokens, hidden, ffn, one),
    }[op]
    return matmul(machine, at, dtype, GemmWork(*sizes), overhead=SYNC_OVERHEAD, shape=_LAYER)


def _extent(table: Table, at: Rows, op: str) -> tuple[Array, Array]:
    """Rows and columns of a streaming operator."""
    tokens, q, kv, groups, _, hidden, _, ffn = _sizes(table, at)
    if op == "softmax":
        return groups * q, kv
    return (tokens, ffn) if op == "gelu" else (tokens, hidden)


SOURCE = Source(
    "https://github.com/PrincetonUniversity/LLMCompass at 2e015fd2e, BSD-3: ae/figure5/ijkl/real_hardware",
    [Adapter("kernels", COLUMNS, one_layer)],
    also=("inference",),
)
