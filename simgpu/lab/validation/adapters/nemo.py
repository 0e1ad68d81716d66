"""Rows of NVIDIA's tables of training throughput (NeMo, Megatron-Bridge): a model by name, a plan, a container.

The settings of experts stand in the recipes of a container, not in the tables. They were read at its tag
(NVIDIA-NeMo/Megatron-Bridge, scripts/performance/configs: 0.1.0rc4 is 25.09, 0.2.0 25.11, 0.3.0 26.02, 0.4.0 26.04).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from simgpu.catalog import usual_catalogue
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

RACK = 64
"""GPUs of a rack that large runs take, of the 72 of its NVLink domain: 256 GPUs are four racks."""

MOST_IN_RACK = 72

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
    config = usual_catalogue().model(MODELS[name])
    if config.name == "deepseek-v3" and "w/o" not in row.word("model"):
        # multi-token prediction: a layer more, and the logits of one more token
        config = replace(config, layers=config.layers + 1, vocab=2 * config.vocab)
    gpus, gbs, seq = row.count("gpus"), row.count("gbs"), row.count("seq")
    plan = _plan(row, config)
    per_node = _per_node(row.word("gpu"), gpus)
    if plan.world != gpus or gpus % per_node:
        return [f"{gpus} GPUs are not the {plan.world} of the plan, or fill no nodes of {per_node}"]
    case = Case(
        config=config, gpus=gpus, per_node=per_node, plan=plan, batch=gbs, tokens=seq,
        dtype=dtype,
        framework=f"megatron-bridge@{_version(row)}" if "Bridge" in row.word("framework") else "megatron",
        numerics=numerics,
    )  # fmt: skip
    measured = gbs * seq / gpus / row.number("measured")
    return [MeasuredStep((case,), measured, caveat=row.word("note"), dtype=row.word("precision"))]


def _per_node(gpu: str, gpus: int) -> int:
    """GPUs of one NVLink domain that a run takes."""
    if not gpu.startswith("GB"):
        return min(8, gpus)
    return RACK if gpus % RACK == 0 else min(gpus, MOST_IN_RACK)


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
    settings: dict[str, Any] = {}
    if config.experts > 1:
        settings = _experts(config.name, row.word("gpu"), _version(row), row.word("precision"))
        settings |= {"expert_tp": 1} if degrees["tp"] > 1 else {}
    if "tokendrop" in row.word("model"):
        settings["capacity_factor"] = 1.0
    chunks = degrees["pp"] * degrees["vp"]
    if config.name == "deepseek-v3" and 1 < chunks <= config.layers:
        settings["stage_layers"] = _layout(config.layers, chunks)
    return Plan(
        **degrees, sequence_parallel=degrees["tp"] > 1, async_tp=degrees["tp"] > 1, zero=1,
        micro_batch=row.count("mbs"), **settings,
    )  # fmt: skip


def _layout(layers: int, chunks: int) -> tuple[int, ...]:
    """Layers of DeepSeek-V3 by chunk, as the recipes lay them out: 'Et*4|(t*4|)*14tmL', 'Et|(tt|)*30mL'."""
    first, each = (1, 2) if chunks >= 32 else (-(-layers // chunks), -(-layers // chunks))
    inner = [each] * (chunks - 2)
    return first, *inner, layers - first - sum(inner)


def _experts(model: str, gpu: str, version: str, precision: str) -> dict[str, Any]:
    """Dispatcher, graphs and overlap of a recipe."""
    rack = gpu.startswith("GB")
    mx = precision.endswith("MX")
    if not version or version < "25.09":
        return {"permute_fusion": True, "balance": "forced"}
    if version < "25.11":
        return {"cuda_graphs": "none" if gpu == "H100" else "layer"}
    if version >= "26.06":
        if gpu == "H100" or not mx:
            return {"dispatcher": "hybridep", "cuda_graphs": "router" if gpu == "H100" else "parts"}
        whole = rack or gpu == "B300"
        overlaps = model != "qwen3-235b-a22b" and whole
        return {
            "dispatcher": "hybridep", "cuda_graphs": "full" if whole else "parts",
            "grouped": "fused" if whole else "te", "expert_overlap": overlaps,
        }  # fmt: skip
    late = version >= "26.04"
    if model == "gpt-oss-120b":
        graphs = "router" if gpu == "GB300" or (gpu == "B300" and version >= "26.02") else "none"
        if late and gpu not in ("GB300", "H100"):
            return {"dispatcher": "hybridep", "cuda_graphs": "none", "expert_overlap": gpu == "GB200"}
        return {"dispatcher": "alltoall", "cuda_graphs": graphs}
    if model == "qwen3-30b-a3b":
        if gpu == "H100":
            return {
                "dispatcher": "deepep" if version >= "26.02" else "alltoall", "cuda_graphs": "none",
                "expert_overlap": True,
            }  # fmt: skip
        flex = gpu != "B200" or late
        return {
            "dispatcher": "hybridep" if flex else "alltoall",
            "cuda_graphs": "parts" if late and not mx else "router",
        }
    if model == "qwen3-235b-a22b":
        if rack:
            return {"dispatcher": "hybridep", "cuda_graphs": "parts" if late else "router"}
        overlaps = gpu == "H100" or (gpu == "B200" and version < "26.02") or (gpu == "B300" and not late)
        return {"dispatcher": "alltoall", "cuda_graphs": "none", "expert_overlap": overlaps}
    flex = rack or version >= "26.02"
    graphs = "parts" if late and (gpu == "GB200" or precision == "BF16") else "none"
    return {"dispatcher": "hybridep" if flex else "alltoall", "cuda_graphs": graphs}
