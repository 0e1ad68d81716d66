"""Traces as PyTorch's profiler would write them of steps that simgpu simulated: names, sizes and times, no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simgpu.model.operators import Attention, Embedding, Matmul, Pointwise
from simgpu.workload.execution import Activity, Execution

BF16 = "c10::BFloat16"
CALL = 5.0
"""Microseconds that the host takes for a call; it is ahead of the GPU as far as it can be."""
DEVICE = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85_045_280_768, "numSms": 132}


def kernels(execution: Execution, rank: int = 0) -> Iterator[tuple[str, float, float, Activity]]:
    """Stream, start and length in s, and activity of all that a rank runs, blocks of layers opened."""
    streams = execution.streams[rank]
    for stream, number in streams.items():
        for span in execution.timeline.spans([number]):
            blocks = execution.blocks.get(span.label, ())
            at, planned = span.start, sum(block.seconds * times for block, times in blocks)
            for block, times in blocks:
                for _ in range(times):
                    for inside, start, end, activity in block.spans:
                        by = span.duration / planned
                        yield inside, at + start * by, (end - start) * by, activity
                    at += block.seconds * span.duration / planned
            if not blocks:
                yield stream, span.start, span.duration, span.label


def operator(activity: Activity) -> tuple[str, list[Any]]:
    """The call of PyTorch that would run a kernel, with the sizes of its inputs."""
    op = activity.op
    if isinstance(op, Matmul):
        first, second = [op.m.size, op.k.size], [op.k.size, op.n_size]
        if op.products == 1:
            return "aten::mm", [first, second]
        return "aten::bmm", [[op.products, *first], [op.products, *second]]
    if isinstance(op, Attention):
        q = [op.batch.size, op.queries, op.heads.size, op.head_dim]
        kv = [op.batch.size, op.keys, op.kv_heads.size, op.head_dim]
        if op.passes > 1:
            return "aten::_flash_attention_backward", [q, q, kv, kv]
        return "aten::_flash_attention_forward", [q, kv, kv]
    if isinstance(op, Embedding):
        return "aten::embedding", [[op.vocab.size, op.width], [op.rows.size]]
    rows = op.rows.size if isinstance(op, Pointwise) else 1
    shape = [rows, max(int(activity.bytes / 6 / rows), 1)]
    return "aten::add", [shape, shape]


def trace(execution: Execution, ranks: dict[str, int], rank: int = 0, step: bool = True) -> dict[str, Any]:
    """The trace of one rank; `ranks` says how many each group of collectives goes over, `step` annotates the step."""
    events: list[dict[str, Any]] = []
    now = 1e6 - 100 * CALL
    order = sorted(kernels(execution, rank), key=lambda one: one[1])
    for number, (stream, start, seconds, activity) in enumerate(order, 1):
        if activity.kind == "host":
            continue
        ts, dur = 1e6 + 1e6 * start, 1e6 * seconds
        now = max(now + CALL / 1000, min(now + CALL, ts - CALL))
        gpu = {"device": 0, "stream": 7 + len(stream), "correlation": number}
        host = {"ph": "X", "pid": 1, "tid": 1}
        if activity.category == "compute":
            name, dims = operator(activity)
            if activity.op is None:
                name, dims = activity.name, []
            args: dict[str, Any] = {"Input Dims": dims, "Input type": [BF16] * len(dims)}
        else:
            name = "record_param_comms"
            elements = int(activity.bytes / 2)
            args = {
                "Collective name": activity.kind.replace("_", ""),
                "In msg nelems": elements,
                "Out msg nelems": elements,
                "dtype": "BFloat16",
                "Group size": ranks.get(activity.group, 0),
            }
        events.append({**host, "cat": "cpu_op", "name": name, "ts": now, "dur": CALL / 2000, "args": args})
        launch = {"correlation": number}
        events.append(
            {
                **host,
                "cat": "cuda_runtime",
                "name": "cudaLaunchKernel",
                "ts": now + CALL / 8000,
                "dur": CALL / 8000,
                "args": launch,
            }
        )
        kernel = "nccl" if activity.category != "compute" else "kernel_bf16"
        events.append(
            {
                "ph": "X",
                "cat": "kernel",
                "name": f"{kernel}_{activity.name}",
                "pid": 0,
                "tid": gpu["stream"],
                "ts": ts,
                "dur": dur,
                "args": gpu,
            }
        )
    if step:
        span = {"ts": 1e6, "dur": 1e6 * execution.step, "pid": 1, "tid": 2}
        events.append({"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#7", **span})
    return {"schemaVersion": 1, "deviceProperties": [DEVICE], "traceEvents": events}


def write(execution: Execution, ranks: dict[str, int], file: Path, rank: int = 0, step: bool = True) -> Path:
    """Write the trace of a rank."""
    file.write_text(json.dumps(trace(execution, ranks, rank, step)))
    return file
