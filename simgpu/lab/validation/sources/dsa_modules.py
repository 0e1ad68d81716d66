"""Sparse attention layers of AIConfigurator (DeepSeek-V3.2) by engine: projections, indexer, top-k and attention.

How it was measured: the collectors of SGLang, TensorRT-LLM and vLLM run the attention half of a layer with the heads of
one tensor-parallel rank, norms and projections included. Prompts of up to 2,048 tokens take dense attention.

Traps: prompts of SGLang and vLLM ran eagerly, so that each took a millisecond of the host at least: they are left out.
Weights of vLLM are constant, whose flat scores make the choice of keys slower. Rates of the kernels of
attention were chosen on rows of TensorRT-LLM and of long prompts; what keys cost to choose was not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from simgpu.lab.validation.adapters.inference_prediction import deploy
from simgpu.lab.validation.adapters.inference_runs import Engine
from simgpu.lab.validation.batches import Adapter, Batch, Machine, Part, Unpredicted, roofline
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.model.layers import Layer
from simgpu.model.serving import Group
from simgpu.plan.parallelism import Plan
from simgpu.workload.blocks import Block

COLUMNS = Columns(
    positive=("batch_size", "q_len", "num_heads", "latency_s"),
    numbers=("past_kv_len",),
    words=("gpu", "engine", "kernel", "phase", "gemm_type", "kv_cache_dtype"),
    optional=("suspicious", "version", "model"),
)

MODEL = "deepseek-v3.2"
PRECISIONS = {"bfloat16": "bf16", "fp8_block": "fp8-block", "nvfp4": "fp4"}
CACHES = {"bfloat16": "", "fp8": "fp8"}
RUNTIMES = {"sglang": "sglang", "vllm": "vllm", "trtllm": "trtllm"}
EAGER = ("sglang", "vllm")
"""Engines whose prompts the collector ran without a CUDA graph."""

ALONE = Layer(feed="none")
"""A layer without a feed-forward."""


def layers(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """The attention half of a layer, as a step of the engine runs it."""
    for (engine, phase, gemm, cache), at in table.split(rows, "engine", "phase", "gemm_type", "kv_cache_dtype"):
        op = f"sparse_attention_{phase}"
        if phase == "prefill" and engine in EAGER:
            yield Unpredicted(op, at, "ran eagerly, kernel by kernel: the time is the host's", left_out=True)
            continue
        if engine not in RUNTIMES or gemm not in PRECISIONS or cache not in CACHES:
            yield Unpredicted(op, at, f"no model of {engine} with {gemm} and a cache in {cache}")
            continue
        if gemm == "nvfp4" and "fp4" not in {peak.dtype for peak in machine.gpu.peak}:
            yield Unpredicted(op, at, "this GPU has no fp4 units", key="gemm_type")
            continue
        yield _batch(table, at, machine, op, (RUNTIMES[engine], PRECISIONS[gemm], CACHES[cache]))


def _batch(table: Table, at: Rows, machine: Machine, op: str, how: tuple[str, str, str]) -> Batch:
    columns = ("num_heads", "batch_size", "q_len", "past_kv_len")
    shapes = np.stack([table.number(name, at) for name in columns], axis=1).astype(int).tolist()
    blocks = [_block(machine, how, *shape) for shape in shapes]
    dtype = {"fp8-block": "fp8"}.get(how[1], how[1])
    flops, moved = np.asarray([one.flops for one in blocks]), np.asarray([_bytes(one) for one in blocks])
    return Batch(
        op,
        table.words["gemm_type"][at[0]],
        at,
        partial(_seconds, blocks),
        partial(roofline, flops, moved, machine.peak(dtype), machine.bandwidth),
        "indexer",
        shape=(*columns, "kernel"),
        caveat="a whole layer: products, the indexer and attention together",
    )


def _block(machine: Machine, how: tuple[str, str, str], heads: int, batch: int, queries: int, past: int) -> Block:
    """The layer of a step of `batch` sequences with `queries` new tokens each behind `past` cached ones."""
    whole = machine.bench.catalogue.model(MODEL)
    config = replace(whole, layers=1, heads=heads, kv_heads=heads, dense_layers=0, runs=((ALONE, 1),))
    runtime, precision, cache = how
    deployment = deploy(machine, Engine(config, Plan(), precision, runtime, "bf16", cache))
    step = deployment.step(Group(batch, queries, past + queries, 0))
    return next(block for block, _ in step.stages[0] if block.name == ALONE.kind)


def _bytes(block: Block) -> float:
    return sum(part.activity.bytes * part.runs for part in block.parts)


def _seconds(blocks: list[Block]) -> Array:
    return np.asarray([one.seconds for one in blocks])


SOURCE = Source(
    "https://pypi.org/project/aiconfigurator-core 0.12.0, Apache-2.0: "
    "systems/data/<gpu>/dsa/{sglang,trtllm,vllm}/<version>/dsa_{context,generation}_module_perf.parquet",
    [Adapter("kernels", COLUMNS, layers)],
)
