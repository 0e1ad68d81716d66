"""The TOML of TorchTitan 0.2 (torchtitan/config/job_config.py), written and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.launching.answer import Draft, Launch, of_kind
from simgpu.launching.asked import TRAINS, Asked
from simgpu.launching.megatron import log_check
from simgpu.launching.pairs import Pair, nested
from simgpu.launching.ranks import environment, placed, slurm, torchrun

VERSION = "0.2"
SCHEDULES = {"1f1b": "1F1B", "gpipe": "GPipe", "interleaved": "Interleaved1F1B", "zb-v": "ZBVZeroBubble",
             "dualpipe-v": "DualPipeV"}  # fmt: skip
PAIRS = (
    Pair("workload.tokens", "training.seq_len", always=True),
    Pair("workload.batch", "training.global_batch_size", always=True),
    Pair("plan.tp", "parallelism.tensor_parallel_degree", 1),
    Pair("plan.pp", "parallelism.pipeline_parallel_degree", 1),
    Pair("plan.cp", "parallelism.context_parallel_degree", 1),
    Pair("plan.ep", "parallelism.expert_parallel_degree", 1),
    Pair("plan.expert_tp", "parallelism.expert_tensor_parallel_degree"),
    Pair("plan.recompute", "activation_checkpoint.mode", names={one: one for one in ("none", "selective", "full")},
         always=True),
)  # fmt: skip
ROTATES = {"all_gather": "allgather", "ring": "alltoall"}
FLAVORS: Mapping[tuple[str, str], tuple[int, int]] = {
    ("llama3", "8B"): (32, 4096), ("llama3", "70B"): (80, 8192), ("llama3", "405B"): (126, 16384),
    ("deepseek_v3", "16B"): (27, 2048), ("deepseek_v3", "236B"): (60, 5120), ("deepseek_v3", "671B"): (61, 7168),
    ("qwen3", "0.6B"): (28, 1024), ("qwen3", "1.7B"): (28, 2048), ("qwen3", "4B"): (36, 2560),
    ("qwen3", "8B"): (36, 4096), ("qwen3", "14B"): (40, 5120), ("qwen3", "32B"): (64, 5120),
    ("qwen3", "30B-A3B"): (48, 2048), ("qwen3", "235B-A22B"): (94, 4096),
}  # fmt: skip
"""Layers and width of the flavors that TorchTitan registers (torchtitan/models/*/__init__.py)."""
FAMILIES = {"llama3": ("llama-3",), "deepseek_v3": ("deepseek-v",), "qwen3": ("qwen3",)}


def torchtitan(asked: Asked) -> Launch:
    """A TOML file, and `torchrun -m torchtitan.train` that reads it."""
    of_kind(asked, TRAINS, "torchtitan")
    draft, plan = Draft(asked), asked.plan
    _model(draft)
    for pair in PAIRS:
        pair.put(draft)
    _batch(draft)
    _replicas(draft)
    if plan.pp > 1:
        draft.set("parallelism.pipeline_parallel_schedule", "plan.schedule", None, SCHEDULES)
        layers = draft.asked.take("plan.vp")
        if layers > 1 and plan.schedule not in ("zb-v", "dualpipe-v"):
            draft.put("parallelism.pipeline_parallel_layers_per_stage", asked.config.layers // (plan.pp * layers),
                      "plan.vp")  # fmt: skip
    method = asked.take("plan.context")
    if plan.cp > 1 and method in ROTATES:
        draft.put("parallelism.context_parallel_rotate_method", ROTATES[method], "plan.context")
    elif plan.cp > 1:
        draft.lacks("plan.context", method)
    if asked.take("plan.async_tp"):
        draft.put("parallelism.enable_async_tensor_parallel", True, "plan.async_tp")
    _numerics(draft)
    if asked.take("plan.sequence_parallel") is False and plan.tp > 1:
        draft.notes.append("TorchTitan always splits the sequence with tensor parallelism (plan.sequence_parallel)")
    where = placed(asked)
    if where:
        draft.lacks("plan.order", where, "its mesh is pp, dp_replicate, dp_shard, cp, tp from the outside in")
    draft.close()
    text = toml_of(nested((flag.flag, flag.value) for flag in draft.flags))
    command = f"{torchrun(asked)} -m torchtitan.train --job.config_file train.toml"
    script = "#!/bin/bash\nset -euo pipefail\n" + "".join(f"{line}\n" for line in environment(asked)) + command + "\n"
    files = {"train.toml": text, "train.sh": script, "train.sbatch": slurm(asked, "./train.sh")}
    return Launch(asked.name, "torchtitan", VERSION, command, files, draft.flags, draft.missing, draft.notes,
                  _check(asked))  # fmt: skip


def _check(asked: Asked) -> Any:
    from dataclasses import replace

    row, made = asked.row, log_check(asked, "seconds of a step", unit=1.0)
    rate = row.get("tokens_per_s_per_gpu")
    if rate is None:
        return made
    ends = row.get("tokens_per_s_per_gpu_p10"), row.get("tokens_per_s_per_gpu_p90")
    return replace(made, expected=(("'tps'", rate, *ends, "tokens/s of a GPU"), *made.expected))


def _model(draft: Draft) -> None:
    config, name = draft.asked.config, str(draft.asked.scenario.model)
    for (family, flavor), shape in FLAVORS.items():
        if shape == (config.layers, config.hidden) and any(start in config.name for start in FAMILIES[family]):
            draft.put("model.name", family, "model")
            draft.put("model.flavor", flavor, "model")
            return
    draft.lacks("model", name, "no flavor of TorchTitan has its shape; register one")


def _batch(draft: Draft) -> None:
    asked, plan = draft.asked, draft.asked.plan
    each = asked.take("plan.micro_batch") or max(1, asked.job.batch // plan.dp)
    if plan.pp > 1:
        draft.put("training.local_batch_size", asked.job.batch // plan.dp, "workload.batch / plan.dp")
        draft.put("parallelism.pipeline_parallel_microbatch_size", each, "plan.micro_batch")
    else:
        draft.put("training.local_batch_size", each, "plan.micro_batch")


def _replicas(draft: Draft) -> None:
    """Sharded and whole copies: FSDP within a group, DDP or HSDP across groups."""
    asked, plan = draft.asked, draft.asked.plan
    zero, shard = asked.take("plan.zero"), asked.take("plan.shard") or plan.dp * plan.cp
    asked.take("plan.dp")
    if zero == 0:
        draft.put("parallelism.data_parallel_replicate_degree", plan.dp, "plan.dp, plan.zero")
        draft.put("parallelism.data_parallel_shard_degree", 1, "plan.zero")
        return
    inner = max(1, shard // plan.cp)
    draft.put("parallelism.data_parallel_replicate_degree", plan.dp // inner, "plan.dp, plan.shard")
    draft.put("parallelism.data_parallel_shard_degree", inner, "plan.shard")
    if zero == 1:
        draft.lacks("plan.zero", 1, "FSDP2 shards gradients with the states; written as zero: 2")
    keep = zero < 3
    draft.put("parallelism.fsdp_reshard_after_forward", "never" if keep else "always", "plan.zero")


def _numerics(draft: Draft) -> None:
    asked = draft.asked
    dtype, scaling = asked.take("dtype"), asked.take("workload.fp8_scaling")
    compiled = "compiled" in asked.scenario.framework
    converters: list[str] = []
    if dtype == "fp8" and scaling == "mx":
        converters.append("quantize.linear.mx")
        draft.put("quantize.linear.mx.recipe_name", "mxfp8_cublas", "workload.fp8_scaling")
    elif dtype == "fp8":
        converters.append("quantize.linear.float8")
        recipe = scaling or "tensorwise"
        if recipe in ("tensorwise", "rowwise"):
            draft.put("quantize.linear.float8.recipe_name", recipe, "workload.fp8_scaling")
        else:
            draft.lacks("workload.fp8_scaling", recipe)
        draft.put("quantize.linear.float8.filter_fqns", ["output"], "the head stays in 16 bits")
    elif dtype not in ("bf16", "fp32"):
        draft.lacks("dtype", dtype)
    if converters:
        draft.put("model.converters", converters, "dtype")
    draft.put("training.mixed_precision_param", "float32" if dtype == "fp32" else "bfloat16", "dtype")
    draft.put("training.mixed_precision_reduce", "float32", "its only choice")
    if asked.take("workload.reduce") == "bf16":
        draft.lacks("workload.reduce", "bf16", "mixed_precision_reduce takes float32 alone")
    draft.put("compile.enable", compiled, "framework")
    if asked.take("workload.optimizer") in ("adam",):
        draft.put("optimizer.name", "AdamW", "workload.optimizer")
        draft.put("optimizer.implementation", "fused", "as TorchTitan has it")
    else:
        draft.lacks("workload.optimizer", asked.job.optimizer)
    if asked.take("plan.offload") == "parameters":
        draft.put("training.enable_cpu_offload", True, "plan.offload")
    draft.put("training.max_norm", 1.0 if asked.take("workload.clip") else 0.0, "workload.clip")
    for key in ("overlap_gradients", "overlap_weights"):
        asked.take(f"plan.{key}")
    for key in ("flash", "weights", "master_weights", "states", "gradients", "sharded_copy", "train_tokens"):
        asked.take(f"workload.{key}")


def toml_of(data: Mapping[str, Any], path: str = "") -> str:
    """TOML of mappings in mappings, tables after the plain values of each."""
    plain = [(key, value) for key, value in data.items() if not isinstance(value, Mapping)]
    lines = [f"[{path}]"] if path and plain else []
    lines += [f"{key} = {_value(value)}" for key, value in plain]
    text = "\n".join(lines) + ("\n\n" if lines else "")
    for key, value in data.items():
        if isinstance(value, Mapping):
            text += toml_of(value, f"{path}.{key}" if path else key)
    return text


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        import json

        return json.dumps(value)
    return repr(value)
