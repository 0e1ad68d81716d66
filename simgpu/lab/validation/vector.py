"""Adapters of tables of whole layers: matrix multiplications beside normalisation, softmax, elementwise ..."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation import operators
from simgpu.lab.validation.batches import DTYPES, WIDTHS, Batch, Machine, Part, Unpredicted, roofline
from simgpu.lab.validation.gemm import SYNC_OVERHEAD, matmul, timed
from simgpu.lab.validation.operators import StreamCall
from simgpu.lab.validation.tables import Array, Rows, Table

_EXPERTS = ("gate", "expert.w1", "expert.w2", "expert.w3")
_SERVED = ("num_tokens", "hidden_size", "num_heads", "num_kv_heads", "ffn_size", "tp_size")


def served(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Kernels of a layer by their time on the GPU, as a server runs them."""
    for (kind, model, dtype), at in table.split(rows, "kind", "model", "dtype"):
        if kind == "gemm":
            m, n, k = (table.number(name, at) for name in ("num_tokens", "gemm_n", "gemm_k"))
            yield matmul(
                machine, at, dtype, m, n, k, shape=("model", "tp_size", "op", "num_tokens", "gemm_n", "gemm_k")
            )
        else:
            call = operators.vidur(kind, model, {name: table.number(name, at) for name in _SERVED})
            yield streamed(machine, at, kind, dtype, call, ("model", "tp_size", "op", "num_tokens"))


def profiled(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Kernels of a layer as a profiler sees them; rows with a GEMM shape are matrix multiplications."""
    for (layer, model, method, dtype), at in table.split(rows, "layer", "model", "method", "dtype"):
        with_shape = ~np.isnan(table.number("gemm_n", at))
        products, others = at[with_shape], at[~with_shape]
        if len(products):
            m, n, k = (table.number(name, products) for name in ("num_tokens", "gemm_n", "gemm_k"))
            shape = ("model", "tp_size", "layer", "num_tokens", "gemm_n", "gemm_k")
            yield matmul(machine, products, dtype, m, n, k, shape=shape)
        if len(others):
            tokens, tp = table.number("num_tokens", others), table.number("tp_size", others)
            call = operators.llmservingsim(layer, model, method, tokens, tp, DTYPES.get(dtype, "bf16"))
            if call is None and layer in _EXPERTS:
                yield Unpredicted(
                    layer, others, "which tokens reach an expert, and how many experts there are, is not stated"
                )
                continue
            yield streamed(machine, others, layer, dtype, call, ("model", "tp_size", "layer", "num_tokens"))


def host_timed(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Calls timed by the host with a synchronisation: its overhead is part of each time."""
    for (op, dtype), at in table.split(rows, "op", "dtype"):
        if op == "matmul":
            m, n, k = (table.number(name, at) for name in "mnk")
            yield matmul(machine, at, dtype, m, n, k, overhead=SYNC_OVERHEAD)
        else:
            m, n = (table.number(name, at) for name in "mn")
            amd = machine.gpu.vendor.lower() == "amd"
            yield streamed(machine, at, op, dtype, operators.llmcompass(op, m, n, amd), ("op", "m", "n"))


def single_precision(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Streaming operators in fp32."""
    for (op, dtype), at in table.split(rows, "op", "dtype"):
        call = operators.neusight(op, table.number("rows", at), table.number("cols", at))
        yield streamed(machine, at, op, dtype, call, ("op", "rows", "cols"))


_READS = {"copy": 1.0, "mul": 1.0, "add": 2.0, "triad": 2.0}
"""Vectors that an operator of BabelStream reads; each writes one."""


def streams(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Copy, mul, add and triad of BabelStream."""
    for (op, dtype), at in table.split(rows, "op", "dtype"):
        if dtype not in DTYPES:
            yield Unpredicted(op, at, f"no model of data type '{dtype}'")
            continue
        if op not in _READS:
            yield Unpredicted(op, at, f"no operator of BabelStream; expected one of {', '.join(_READS)}")
            continue
        size, width, reads = table.number("elements", at), WIDTHS[DTYPES[dtype]], _READS[op]
        given = {"elements": size, "reads": reads, "writes": 1.0}
        call = StreamCall("elementwise", "elementwise", DEFAULT, given, (reads + 1) * width * size, size, DTYPES[dtype])
        yield streamed(machine, at, op, dtype, call, ("op", "elements"))


def streamed(
    machine: Machine, rows: Rows, name: str, dtype: str, call: StreamCall | None, shape: tuple[str, ...]
) -> Part:
    """Rows that one streaming model predicts."""
    if call is None:
        return Unpredicted(name, rows, f"no model of {name}")
    model = machine.model(call.method)
    if model is None:
        return Unpredicted(call.op, rows, f"no model of {call.op} yet")
    predict = partial(timed, model, 0.0, **call.arguments, dtype=call.dtype, library=call.library)
    peak = machine.timer.peak("fp32", tensor=False)  # what streaming kernels compute in
    baseline = partial(roofline, call.flops, call.moved, peak, machine.bandwidth)
    return Batch(call.op, dtype, rows, predict, baseline, "vector", call.library, shape)


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
            yield streamed(machine, at, op, dtype, operators.llmcompass(name, rows_, cols), _LAYER)


def _sizes(table: Table, at: Rows) -> tuple[Array, ...]:
    """tokens, queries, keys, sequences x heads of a rank, head dim, hidden, hidden / tp, ffn / tp."""
    columns = ("batch_size", "q_len", "kv_len", "hidden_size", "num_heads", "ffn_size", "tp_size")
    batch, q, kv, hidden, heads, ffn, tp = (table.number(name, at) for name in columns)
    return batch * q, q, kv, batch * heads / tp, hidden / heads, hidden, hidden / tp, ffn / tp


def _product(table: Table, at: Rows, machine: Machine, op: str, dtype: str) -> Part:
    tokens, q, kv, groups, dim, hidden, share, ffn = _sizes(table, at)
    one = np.ones_like(tokens)
    m, n, k, batch = {
        "qkv_proj": (tokens, 3 * share, hidden, one),
        "q_mul_k": (q, kv, dim, groups),
        "a_mul_v": (q, dim, kv, groups),
        "wo_proj": (tokens, hidden, share, one),
        "w1_proj": (tokens, ffn, hidden, one),
        "w2_proj": (tokens, hidden, ffn, one),
    }[op]
    return matmul(machine, at, dtype, m, n, k, batch, overhead=SYNC_OVERHEAD, shape=_LAYER)


def _extent(table: Table, at: Rows, op: str) -> tuple[Array, Array]:
    """Rows and columns of a streaming operator."""
    tokens, q, kv, groups, _, hidden, _, ffn = _sizes(table, at)
    if op == "softmax":
        return groups * q, kv
    return (tokens, ffn) if op == "gelu" else (tokens, hidden)
