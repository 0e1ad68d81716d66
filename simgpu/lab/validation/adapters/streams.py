"""What tables of streaming operators share: normalisation, softmax, elementwise, activation, RoPE, embedding ...

A source says which method of `simgpu.timing.vector_timer.VectorTimer`, with which arguments and which library, stands
for a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from simgpu.lab.validation.batches import Batch, Machine, Part, Unpredicted, roofline, timed
from simgpu.lab.validation.tables import Array, Rows


@dataclass(frozen=True)
class StreamCall:
    """`method` of a `VectorTimer` called with `arguments` (and dtype, library) gives the times of the rows.

    `op` is the operator as validation spells it. `moved` and `flops` are the least bytes and FLOPs of the operator, for
    the plain roofline.
    """

    op: str
    method: str
    library: str
    arguments: Mapping[str, Any]
    moved: Array
    flops: Array
    dtype: str


def streamed(
    machine: Machine, rows: Rows, name: str, dtype: str, call: StreamCall | None, shape: tuple[str, ...]
) -> Part:
    """Rows that one streaming model predicts."""
    if call is None:
        return Unpredicted(name, rows, f"no model of {name}")
    model = getattr(machine.timer.vector, call.method)
    predict = partial(timed, model, 0.0, **call.arguments, dtype=call.dtype, library=call.library)
    peak = machine.timer.peak("fp32", tensor=False)  # what streaming kernels compute in
    baseline = partial(roofline, call.flops, call.moved, peak, machine.bandwidth)
    return Batch(call.op, dtype, rows, predict, baseline, "vector", call.library, shape)


def rope(
    tokens: Array, heads: Array, kv_heads: Array, head_dim: Array, library: str, fused: bool, dtype: str
) -> StreamCall:
    """Rotary positions of queries and keys."""
    given: dict[str, Any] = {
        "tokens": tokens,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "fused": fused,
    }
    size = tokens * (heads + kv_heads) * head_dim
    return StreamCall("rope", "rope", library, given, 4 * size, 6 * size, dtype)
