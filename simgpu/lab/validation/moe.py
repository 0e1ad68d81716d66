"""Adapter of tables of mixture-of-experts layers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.batches import DTYPES, WIDTHS, Batch, Machine, Part, roofline, unpredictable
from simgpu.lab.validation.gemm import timed
from simgpu.lab.validation.tables import Rows, Table

LIBRARIES = {"fp8_block": "deepgemm", "nvfp4": "cutlass-fp4"}
SHAPE = ("num_tokens", "hidden_size", "expert_inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size")


def layers(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """The expert layer of one rank: routing, two grouped matrix multiplications, activation; no all-to-all."""
    for (dtype, gated, distribution), at in table.split(rows, "dtype", "gated", "distribution"):
        refused = unpredictable(machine, "moe", at, dtype, "moe_layer")
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
        timed, machine.timer.moe_layer, 0.0, tokens, hidden, inter, topk, experts, tp, ep,
        gated=gated, distribution=distribution, dtype=name, library=library, rotation=1.0,
    )  # fmt: skip
    baseline = partial(roofline, flops, moved, machine.peak(name), machine.bandwidth)
    return Batch("moe", dtype, at, call, baseline, "moe", library, (*SHAPE, "gated", "distribution", "kernel_source"))
