"""Rows of NVIDIA's tables of training throughput (NeMo, Megatron-Bridge): a model by name, a plan, a container."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from simgpu.lab.machines import largest_node
from simgpu.lab.validation.adapters.nemo_recipes import doubt_of, settings_of, sharding_of
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.training_steps import Case, MeasuredStep, Numerics
from simgpu.lab.validation.tables import Columns
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan

COLUMNS = Columns(
    positive=("gpus", "tp", "pp", "cp", "ep", "vp", "dp", "mbs", "gbs", "seq", "measured"),
    words=("gpu", "row", "model", "precision", "framework", "metric", "unit"),
    optional=("source", "note"),
)

MODELS = {
    "llama3-8b": "llama-3-8b", "llama3-70b": "llama-3-70b", "llama3.1-405b": "llama-3.1-405b",
    "llama3-405b": "llama-3.1-405b", "gpt3-175b": "gpt3-175b", "mixtral-8x7b": "mixtral-8x7b",
    "mixtral-8x22b": "mixtral-8x22b", "gpt-oss-120b": "gpt-oss-120b", "qwen3-30b-a3b": "qwen3-30b-a3b",
    "qwen3-235b-a22b": "qwen3-235b-a22b", "deepseekv3": "deepseek-v3", "kimi-k2": "kimi-k2",
}  # fmt: skip
"""Models of the catalogue by the name of the tables, in lower case and without what stands in brackets."""

GRADIENTS: Numerics = (("gradients", "bf16"), ("reduce", "bf16"))
"""grad_reduce_in_fp32 is false in every recipe of scripts/performance."""

SCALED = {"CS": "tensorwise", "MX": "mx", "DS": "delayed", "current scaling": "tensorwise"}
"""Scaling of fp8 by what a table calls it."""


def step(row: Reader) -> Iterable[MeasuredStep | str]:
    """One row: tokens/s of a GPU become seconds of a step."""
    if row.word("metric") != "throughput" or row.word("unit") != "tokens/s/GPU":
        return [f"no meaning for {row.word('metric')} in {row.word('unit')}"]
    name = re.sub(r"[ _]+", "-", re.sub(r"\(.*?\)", "", row.word("model")).strip().lower())
    if name not in MODELS:
        return [f"no model '{row.word('model')}' in the catalogue"]
    dtype, numerics = _numerics(row.word("precision"))
    if not dtype:
        return [f"no training in {row.word('precision')}"]
    if "/LoRA/" in row.word("row"):
        numerics = (("finetune", "lora"),)
    published = row.catalogue.model(MODELS[name])
    config = published if "w/o" in row.word("model") else _predicting(published)
    gpus, gbs, seq = row.count("gpus"), row.count("gbs"), row.count("seq")
    plan = _plan(row, config)
    per_node = _per_node(largest_node(row.catalogue, row.gpu), gpus)
    if plan.world != gpus or gpus % per_node:
        return [f"{gpus} GPUs are not the {plan.world} of the plan, or fill no nodes of {per_node}"]
    case = Case(
        config=config, gpus=gpus, per_node=per_node, plan=plan, batch=gbs, tokens=seq,
        dtype=dtype,
        framework=f"megatron-bridge@{_version(row)}" if "Bridge" in row.word("framework") else "megatron",
        numerics=numerics,
    )  # fmt: skip
    measured = gbs * seq / gpus / row.number("measured")
    doubt = doubt_of(config.name, row.word("gpu"), _version(row), {"ep": row.count("ep")})
    caveat = "; ".join(words for words in (doubt, row.word("note")) if words)
    return [MeasuredStep((case,), measured, caveat=caveat, dtype=row.word("precision"))]


def _predicting(config: TransformerConfig) -> TransformerConfig:
    """A model with multi-token prediction: its further layers, and the logits of a token more for each."""
    further = config.mtp_layers
    return replace(config, layers=config.layers + further, vocab=(1 + further) * config.vocab)


def _per_node(node: int, gpus: int) -> int:
    """GPUs of a node that a run takes: all that it has, or a power of two where that divides them.

    Of the 72 of a rack large runs take 64: 256 GPUs are four racks.
    """
    usual = 1 << (node.bit_length() - 1)
    return usual if gpus % usual == 0 else min(gpus, node)


def _numerics(precision: str) -> tuple[str, Numerics]:
    """A dtype and what goes with it; nothing where it is not trained in."""
    if precision == "BF16":
        return "bf16", GRADIENTS
    if precision == "NVFP4":
        return "fp4", GRADIENTS
    scaling = SCALED.get(precision.removeprefix("FP8").lstrip("-_ "))
    return ("fp8", (*GRADIENTS, ("fp8_scaling", scaling))) if scaling else ("", ())


def _version(row: Reader) -> str:
    found = re.search(r"(\d\d\.\d\d)", row.word("framework"))
    return found[1] if found else ""


def _plan(row: Reader, config: TransformerConfig) -> Plan:
    """The plan of the columns, with the recipe's settings of experts."""
    degrees: dict[str, Any] = {name: row.count(name) for name in ("tp", "pp", "cp", "ep", "vp", "dp")}
    settings: dict[str, Any] = {"zero": 1}
    if degrees["pp"] == 1 and config.experts <= 1:
        settings |= sharding_of(config.name, row.word("gpu"), _version(row))
    if config.experts > 1:
        settings |= settings_of(config.name, row.word("gpu"), _version(row), row.word("precision"))
        settings |= {"expert_tp": 1} if degrees["tp"] > 1 else {}
    if "tokendrop" in row.word("model"):
        settings["capacity_factor"] = 1.0
    settings |= _recomputed(row.word("note"), config)
    chunks = degrees["pp"] * degrees["vp"]
    if config.mtp_layers and 1 < chunks <= config.layers:
        settings["stage_layers"] = _layout(config.layers, chunks)
    return Plan(
        **degrees, sequence_parallel=degrees["tp"] > 1, async_tp=degrees["tp"] > 1,
        micro_batch=row.count("mbs"), **settings,
    )  # fmt: skip


def _recomputed(note: str, config: TransformerConfig) -> dict[str, Any]:
    """Modules that a recipe recomputes, as the note of a row says.

    Kernels of clamped gates were counted with the activation made again (frameworks/megatron.yaml, `clamped`).
    """
    found = re.search(r"recompute of ([a-z_, /]+?) not expressible", note)
    counted = {"moe_act"} if config.bias and config.gated else set()
    modules = tuple(name for name in re.findall(r"[a-z_]+", found[1]) if name not in counted) if found else ()
    return {"recompute": "selective", "recompute_modules": modules} if modules else {}


def _layout(layers: int, chunks: int) -> tuple[int, ...]:
    """Layers by chunk, as recipes with multi-token prediction lay them out: 'Et*4|(t*4|)*14tmL', 'Et|(tt|)*30mL'."""
    first, each = (1, 2) if chunks >= 32 else (-(-layers // chunks), -(-layers // chunks))
    inner = [each] * (chunks - 2)
    return first, *inner, layers - first - sum(inner)
