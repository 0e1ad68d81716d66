"""Mixture-of-experts layers of AIConfigurator: the experts of one rank on A100, H100 and L40S.

How it was measured: TensorRT-LLM's collector: top-k, permutation, two grouped matrix multiplications with the
activation between them, and back. CUTLASS, or the kernel that `kernel_source` names, in a CUDA graph.

Traps: no all-to-all. Routing by a power law is drawn once for a row and replayed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.batches import DTYPES, WIDTHS, Adapter, Batch, Machine, Part, roofline, timed, unpredictable
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.timing.expert_timer import ExpertLayerWork

LIBRARIES = {"fp8_block": "deepgemm", "nvfp4": "cutlass-fp4"}
SHAPE = ("num_tokens", "hidden_size", "expert_inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size")

COLUMNS = Columns(
    positive=(*SHAPE, "latency_s"),
    words=("gpu", "dtype", "gated", "distribution"),
    optional=("suspicious", "kernel_source"),
)


def layers(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """The expert layer of one rank: routing, two grouped matrix multiplications, activation; no all-to-all."""
    for (dtype, gated, distribution), at in table.split(rows, "dtype", "gated", "distribution"):
        refused = unpredictable(machine, "moe", at, dtype)
        yield refused or _layer(table, at, machine, dtype, gated == "True", distribution)


def _layer(table: Table, at: Rows, machine: Machine, dtype: str, gated: bool, distribution: str) -> Part:
    tokens, hidden, inter, topk, experts, tp, ep = (table.number(name, at) for name in SHAPE)
    name = DTYPES[dtype]
    library = LIBRARIES.get(dtype, DEFAULT)
    products = 3 if gated else 2
    flops = 2 * tokens * topk * products * hidden * inter / (tp * ep)
    used = np.minimum(experts / ep, np.maximum(tokens * topk / ep, 1.0))  # experts that any token goes to, at most
    moved = used * products * hidden * inter / tp * WIDTHS[name] + 2 * tokens * topk / ep * hidden * 2.0
    call = partial(
        timed,
        machine.timer.experts.layer,
        0.0,
        ExpertLayerWork(tokens, hidden, inter, topk, experts, tp, ep, gated, distribution),
        dtype=name,
        library=library,
        rotation=1.0,
    )
    baseline = partial(roofline, flops, moved, machine.peak(name), machine.bandwidth)
    return Batch("moe", dtype, at, call, baseline, "moe", library, (*SHAPE, "gated", "distribution", "kernel_source"))


SOURCE = Source(
    "https://github.com/ai-dynamo/aiconfigurator at 095f58a51c4c, Apache-2.0: "
    "systems/data/<system>/moe/trtllm/{1.0.0,1.3.0rc20}/moe_perf.parquet",
    [Adapter("kernels", COLUMNS, layers)],
    reasons=(
        Reason(
            "few tokens, and a routing drawn once: on the busiest rank it may touch every expert that they can reach",
            where=lambda n: n["num_tokens"] <= 16 and n["moe_ep_size"] > 1,
        ),
        Reason(
            "the autotuner of TensorRT-LLM took a poor kernel: the same layer at a neighbouring number of tokens, or"
            " with half the ranks, is several times faster",
            where=lambda n: n["slow"] < 1,
        ),
        Reason(
            "one expert a token at a time: which of them the single drawn routing takes decides the time",
            where=lambda n: n["topk"] <= 2 or n["num_tokens"] <= 16,
        ),
    ),
)
