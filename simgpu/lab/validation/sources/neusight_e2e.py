"""Whole models by NeuSight: one forward, or forward and backward, of Hugging Face models in fp32.

How it was measured: eager transformers without TF32, mean of the 5 fastest of 25 runs; four GPUs by Megatron-LM through
accelerate, 10 fastest of 50. Forwards belong to `validate inference`, the others to `validate training`.

Traps: no optimizer. Rows with four pipeline stages have one microbatch. gpt3_xl has 24 layers of 3072 with 24 heads,
which is not the GPT-3 XL of the paper. Rows close to the memory's end are slow, and flagged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from simgpu.errors import shown
from simgpu.lab.validation.adapters import inference, training
from simgpu.lab.validation.adapters.inference_runs import PREFILL, Engine, MeasuredRun
from simgpu.lab.validation.adapters.models import bidirectional, gpt
from simgpu.lab.validation.adapters.reader import Reader, degrees
from simgpu.lab.validation.adapters.training_steps import (
    FP32,
    NO_OPTIMIZER,
    SHAPE,
    Case,
    MeasuredStep,
    columns,
    pytorch,
)
from simgpu.lab.validation.source import Source
from simgpu.plan.parallelism import Plan

COLUMNS = columns(
    (*SHAPE, "hidden_size", "vocab_size", "global_batch", "num_gpus", "latency_s"),
    ("model", "mode", "dtype"),
    ("torch_compile",),
    *("dp_size", "tp_size", "pp_size", "num_microbatches"),
)


def step(row: Reader) -> Iterable[MeasuredStep | str]:
    """Forward and backward: eager on vector units, or Megatron-LM by accelerate on 4 GPUs."""
    mode = row.word("mode")
    if mode == "inference_prefill":
        return ["forward alone: see validate inference"]
    if mode != "training_fwd_bwd":
        return [f"no mode {shown(mode)}; expected training_fwd_bwd or inference_prefill"]
    model = row.word("model")
    if model.startswith("switch"):
        return ["an encoder-decoder of experts is not simulated"]
    config = bidirectional(gpt(row)) if model.startswith("bert") else gpt(row)
    split, caveat = degrees(row), ""
    batch = row.count("global_batch")
    micro = batch // split["dp"] // row.count("num_microbatches", 1)
    if split["pp"] > 1 and micro == batch:
        split, caveat = split | {"pp": 1}, "one microbatch: stages run one after another, as on one GPU"
    world = math.prod(split.values())
    case = Case(
        config=config,
        gpus=world,
        per_node=world,
        plan=Plan(**split, micro_batch=micro, overlap_gradients=False),
        batch=batch,
        tokens=row.count("seq_len"),
        dtype="fp32",
        framework=pytorch(row.flag("torch_compile")),  # Megatron's fused kernels need 16-bit types
        numerics=(*NO_OPTIMIZER, *FP32, ("flash", False)),
    )
    return [MeasuredStep((case,), row.number("latency_s"), caveat=caveat, dtype=row.word("dtype"))]


_ACTIVATIONS = {"gpt": "gelu_new", "ber": "gelu", "opt": "relu"}
"""Of the families in the table (transformers' config classes)."""


def forward(row: Reader) -> Iterable[MeasuredRun | str]:
    """One forward: eager on vector units."""
    if row.word("mode") != "inference_prefill":
        return ["with a backward pass: see validate training"]
    model = row.word("model")
    if model.startswith("switch"):
        return ["an encoder-decoder of experts is not simulated"]
    config = gpt(row)
    if model.startswith("bert"):
        config = bidirectional(config)
    config = replace(config, activation=_ACTIVATIONS.get(model[:3], ""))
    if row.count("num_gpus") > 1:
        return ["a forward over several GPUs is not described"]
    runtime = "compiled" if row.flag("torch_compile") else "eager"
    engine = Engine(config, Plan(), "fp32", runtime, "fp32", per_node=1)
    batch, tokens = row.count("global_batch"), row.count("seq_len")
    return [MeasuredRun(PREFILL, engine, row.number("latency_s"), batch, tokens, 1, dtype="fp32")]


SOURCE = Source(
    "https://github.com/sitar-lab/NeuSight at 6945927d9, MIT: scripts/asplos/label",
    [training.adapter(COLUMNS, step), inference.adapter(COLUMNS, forward)],
)
