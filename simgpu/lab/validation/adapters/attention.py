"""What tables of attention share: prefill and decode in a named library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.batches import (
    DTYPES,
    WIDTHS,
    Batch,
    Machine,
    Part,
    Unpredicted,
    roofline,
    timed,
    unpredictable,
)
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.timing.attention_libraries import library_of
from simgpu.timing.attention_work import AttentionWork

COLUMNS = Columns(
    positive=("batch_size", "q_len", "num_heads", "num_kv_heads", "head_dim", "v_head_dim", "latency_s"),
    numbers=("past_kv_len", "window_size"),
    words=("gpu", "attn_dtype", "kv_cache_dtype", "kernel_source"),
    optional=("framework", "version", "suspicious"),
)
"""Columns of a layer's attention."""

BY_ENGINE = replace(
    COLUMNS,
    words=("gpu", "attn_dtype", "kv_cache_dtype"),
    optional=("version", "suspicious"),
    renamed={"kernel_source": "kernel", "framework": "engine"},
)
"""The same of tables that name the engine and its kernel."""

SHAPE = ("batch_size", "q_len", "past_kv_len", "num_heads", "num_kv_heads", "head_dim", "window_size", "kernel_source")
SPLIT = ("attn_dtype", "kv_cache_dtype", "kernel_source", "framework")


def prefill(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Causal attention of new tokens in a named library, with writing the cache."""
    yield from _tables(table, rows, machine, "attention_prefill", _prefill)


def decode(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """One new token a sequence against the cache, in a named library."""
    yield from _tables(table, rows, machine, "attention_decode", _decode)


def _tables(table: Table, rows: Rows, machine: Machine, op: str, call: Callable[..., Part]) -> Iterator[Part]:
    names = [*SPLIT, *(["causal"] if "causal" in table.words else [])]
    for (dtype, kv_dtype, source, framework, *_), at in table.split(rows, *names):
        refused = unpredictable(machine, op, at, dtype)
        if refused or kv_dtype not in DTYPES:
            yield refused or Unpredicted(op, at, f"no model of data type '{kv_dtype}'")
            continue
        yield call(table, at, machine, _Kind(dtype, kv_dtype, library_for(machine, framework, source)))


def library_for(machine: Machine, framework: str, source: str) -> str:
    """The library of constants that a table's framework and kernel mean; the default's where it is not known."""
    return library_of(framework, source, machine.architecture) or DEFAULT


class _Kind(NamedTuple):
    """What the rows of a batch share: data types as the table spells them, and the library of constants."""

    dtype: str
    kv_dtype: str
    library: str

    @property
    def widths(self) -> tuple[float, float]:
        """Bytes of an element of queries, and of the cache."""
        return WIDTHS[DTYPES[self.dtype]], WIDTHS[DTYPES[self.kv_dtype]]


def _prefill(table: Table, at: Rows, machine: Machine, kind: _Kind) -> Part:
    batch, q, past, heads, kv, dim, v_dim, window = _shape(table, at)
    keys = past + q
    width, kv_width = kind.widths
    moved = batch * (q * heads * (dim + v_dim) * width + keys * kv * (dim + v_dim) * kv_width)
    work = AttentionWork(batch, q, keys, heads, kv, dim, v_dim, window)
    causal = table.words.get("causal")
    full = causal is not None and causal[at[0]] == "False"
    pairs = q * keys if full else visible(q, keys, window)
    flops = 2 * batch * heads * pairs * (dim + v_dim)
    call = partial(timed, machine.timer.attention.prefill, 0.0, work, causal=not full)
    return _batch("attention_prefill", machine, at, kind, call, flops, moved)


def _decode(table: Table, at: Rows, machine: Machine, kind: _Kind) -> Part:
    batch, q, past, heads, kv, dim, v_dim, window = _shape(table, at)
    keys = past + q
    seen = np.where(window > 0, np.minimum(keys, window), keys)
    width, kv_width = kind.widths
    flops = 2 * batch * heads * seen * (dim + v_dim)
    moved = batch * (heads * (dim + v_dim) * width + seen * kv * (dim + v_dim) * kv_width)
    work = AttentionWork(batch, 1, keys, heads, kv, dim, v_dim, window)
    call = partial(timed, machine.timer.attention.decode, 0.0, work)
    return _batch("attention_decode", machine, at, kind, call, flops, moved)


def _batch(op: str, machine: Machine, at: Rows, kind: _Kind, call: Any, flops: Array, moved: Array) -> Batch:
    name, kv_name = DTYPES[kind.dtype], DTYPES[kind.kv_dtype]
    return Batch(
        op,
        kind.dtype,
        at,
        partial(call, dtype=name, kv_dtype=kv_name, library=kind.library),
        partial(roofline, flops, moved, machine.peak(name), machine.bandwidth),
        "attention",
        kind.library,
        (*SHAPE, "attn_dtype", "kv_cache_dtype"),
    )


def _shape(table: Table, at: Rows) -> list[Array]:
    columns = ("batch_size", "q_len", "past_kv_len", "num_heads", "num_kv_heads", "head_dim", "v_head_dim")
    return [table.number(name, at) for name in (*columns, "window_size")]


def visible(queries: Array, keys: Array, window: Array | float = 0.0) -> Array:
    """(query, visible key) pairs of one head: causal, `queries` at the end of `keys`, a window (0: none)."""
    limit = np.where(np.asarray(window) > 0, np.minimum(window, keys), keys)
    before = keys - queries
    ramp = np.clip(limit - before, 0, queries)  # queries that see all keys up to their own
    return ramp * before + ramp * (ramp + 1) / 2 + (queries - ramp) * limit
