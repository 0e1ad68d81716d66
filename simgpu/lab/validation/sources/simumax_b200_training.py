"""Training steps of Megatron on one machine of 8 B200, by the authors of SimuMax: Llama 3 and DeepSeek, cut to fit.

How it was measured: steps of Megatron with Transformer Engine 2.11, microbatches of one sequence of 4,096 tokens unless
the name says another length, fused cross entropy, no recomputation, tensor-parallel overlap off.

Traps: plan, layers and microbatches stand in the name of the case. The power limit of the machine is not stated; its
products sustain what such a board does at 750 to 800 W.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.training_steps import Case, MeasuredStep
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Columns
from simgpu.plan.parallelism import Plan

COLUMNS = Columns(positive=("measured_step_ms",), words=("case", "gpu"), optional=("suspicious",))
MODELS = {"llama3_70b": "llama-3-70b", "llama3_405b": "llama-3.1-405b", "deepseekv3": "deepseek-v3"}
TOKENS = 4096
GPUS = 8


def case(row: Reader) -> Iterable[MeasuredStep | str]:
    """A case by its name, such as llama3_70b_l12_tp1_pp2_dp4_mbc4_cef."""
    name = row.word("case")
    said = {key: int(value) for key, value in re.findall(r"_(l|tp|cp|pp|dp|ep|seq|mbc)(\d+)(?=_|$)", name)}
    model = next((known for start, known in MODELS.items() if name.startswith(f"{start}_")), None)
    if model is None or not {"l", "dp", "mbc"} <= set(said):
        return [f"no model '{name.partition('_')[0]}' in the catalogue"]
    layers = said["l"]
    config = row.catalogue.model(model)
    dense = min(getattr(config, "dense_layers", 0), layers - 1)
    config = replace(config, layers=layers) if not dense else row.catalogue.model(f"{model}@layers={layers}")
    tp, cp, pp, dp, ep = (said.get(axis, 1) for axis in ("tp", "cp", "pp", "dp", "ep"))
    plan = Plan(tp=tp, cp=cp, pp=pp, dp=dp, ep=ep, micro_batch=1, zero=1, sequence_parallel=tp > 1)
    numerics = (("gradients", "fp32"), ("reduce", "fp32"))
    done = Case(
        config, GPUS, GPUS, plan, said["mbc"] * said["dp"], said.get("seq", TOKENS), "bf16", "megatron", numerics
    )
    return [MeasuredStep((done,), 1e-3 * row.number("measured_step_ms"), dtype="bf16")]


SOURCE = Source(
    "https://github.com/MooreThreads/SimuMax at 4dcaae5: training steps of 8 x B200",
    [training.adapter(COLUMNS, case)],
    seen=False,
)
