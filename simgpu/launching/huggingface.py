"""DeepSpeed's JSON, Accelerate's YAML and axolotl's YAML: trainers of Hugging Face models.

Keys are those of DeepSpeed 0.18 (deepspeed/runtime/config.py, docs/config-json), Accelerate 1.10
(accelerate/commands/config, parallelism_config) and axolotl 0.12 (src/axolotl/utils/schemas).
"""

from __future__ import annotations

import json
from typing import Any

from simgpu.errors import InputError
from simgpu.launching.answer import Draft, Launch, of_kind
from simgpu.launching.asked import TRAINS, Asked
from simgpu.launching.megatron import log_check
from simgpu.launching.pairs import nested
from simgpu.launching.ranks import placed, slurm, torchrun

DEEPSPEED, ACCELERATE, AXOLOTL = "0.18", "1.10", "0.12"


def accumulation(asked: Asked) -> tuple[int, int]:
    """Sequences of a microbatch, and microbatches of a step. Raises `InputError` where they do not make the batch."""
    plan = asked.plan
    each = asked.take("plan.micro_batch") or max(1, asked.job.batch // plan.dp)
    asked.take("workload.batch"), asked.take("plan.dp")
    if asked.job.batch % (each * plan.dp):
        problem = f"{asked.job.batch} sequences are not whole microbatches of {each} on {plan.dp} replicas"
        raise InputError(problem, key="workload.batch")
    return each, asked.job.batch // (each * plan.dp)


def _only_data(draft: Draft, target: str, tp: bool = True, cp: bool = True) -> None:
    """Name the degrees that a trainer does not have."""
    plan = draft.asked.plan
    for key, value in {"pp": plan.pp, "ep": plan.ep, **({} if tp else {"tp": plan.tp}),
                       **({} if cp else {"cp": plan.cp})}.items():  # fmt: skip
        draft.asked.take(f"plan.{key}")
        if value > 1:
            draft.lacks(f"plan.{key}", value, f"not in a configuration of {target}")
    where = placed(draft.asked)
    if where:
        draft.lacks("plan.order", where)
    for key in ("schedule", "vp", "overlap_gradients", "overlap_weights", "sequence_parallel"):
        draft.asked.take(f"plan.{key}")


def _usual(asked: Asked, *keys: str) -> None:
    for key in ("tokens", "flash", "weights", "master_weights", "states", "gradients", "reduce", "sharded_copy",
                "train_tokens", "accumulate", *keys):  # fmt: skip
        asked.take(f"workload.{key}")


def _arguments(draft: Draft, each: int, steps: int) -> list[str]:
    """Arguments of a Hugging Face Trainer that go with a configuration."""
    asked = draft.asked
    words = ["--model_name_or_path", asked.model, "--per_device_train_batch_size", str(each),
             "--gradient_accumulation_steps", str(steps), "--max_length", str(asked.job.tokens)]  # fmt: skip
    if asked.take("workload.finetune") != "full":
        words += ["--use_peft", "--lora_r", str(asked.take("workload.rank"))]
        words += ["--load_in_4bit"] if asked.job.finetune == "qlora" else []
        modules = _modules(asked)
        words += ["--lora_target_modules", *modules]
    if asked.take("plan.recompute") == "full":
        words += ["--gradient_checkpointing", "true"]
    elif asked.plan.recompute != "none":
        draft.lacks("plan.recompute", asked.plan.recompute, "gradient_checkpointing is of whole layers")
    if asked.scenario.dtype in ("bf16", "fp16"):
        words += [f"--{asked.scenario.dtype}", "true"]
    return words


# ---- DeepSpeed ---------------------------------------------------------------------------------------


def deepspeed_config(draft: Draft) -> tuple[dict[str, Any], int, int]:
    """The JSON of DeepSpeed, sequences of a microbatch, microbatches of a step."""
    asked = draft.asked
    each, steps = accumulation(asked)
    zero, shard = asked.take("plan.zero"), asked.take("plan.shard")
    draft.put("train_batch_size", asked.job.batch, "workload.batch")
    draft.put("train_micro_batch_size_per_gpu", each, "plan.micro_batch")
    draft.put("gradient_accumulation_steps", steps, "workload.batch / (micro_batch x dp)")
    draft.put("zero_optimization.stage", zero, "plan.zero")
    if zero:
        draft.put("zero_optimization.overlap_comm", asked.plan.overlap_gradients, "plan.overlap_gradients")
    if zero == 3 and shard and shard != asked.plan.dp * asked.plan.cp:
        draft.put("zero_optimization.zero_hpz_partition_size", shard, "plan.shard: ZeRO++'s second copy of weights")
    offload, where = asked.take("plan.offload"), asked.take("plan.offload_to")
    device = {"host": "cpu", "nvme": "nvme"}.get(where, "nvme")
    if offload != "none":
        draft.put("zero_optimization.offload_optimizer.device", device, "plan.offload")
    if offload == "parameters":
        draft.put("zero_optimization.offload_param.device", "cpu" if where == "mixed" else device, "plan.offload")
    dtype = asked.take("dtype")
    if dtype in ("bf16", "fp16"):
        draft.put(f"{dtype}.enabled", True, "dtype")
    elif dtype != "fp32":
        draft.lacks("dtype", dtype)
    if asked.take("workload.clip"):
        draft.put("gradient_clipping", 1.0, "workload.clip")
    tp = asked.take("plan.tp")
    if tp > 1:
        draft.put("tensor_parallel.autotp_size", tp, "plan.tp")
    cp, context = asked.take("plan.cp"), asked.take("plan.context")
    if cp > 1:
        draft.put("sequence_parallel_size", cp, "plan.cp")
        if context != "all_to_all":
            draft.lacks("plan.context", context, "DeepSpeed's is all_to_all (Ulysses)")
    names = {"adam": "AdamW", "sgd": "SGD", "momentum": "SGD", "muon": "Muon"}
    name = asked.take("workload.optimizer")
    if name in names:
        draft.put("optimizer.type", names[name], "workload.optimizer")
        draft.put("optimizer.params.lr", 1e-5, "give your own")
    else:
        draft.lacks("workload.optimizer", name)
    return nested((flag.flag, flag.value) for flag in draft.flags), each, steps


def deepspeed(asked: Asked) -> Launch:
    """A JSON of DeepSpeed, and the command of its launcher."""
    of_kind(asked, TRAINS, "deepspeed")
    draft = Draft(asked)
    config, each, steps = deepspeed_config(draft)
    _only_data(draft, "DeepSpeed")
    _usual(asked)
    words = _arguments(draft, each, steps)
    draft.close()
    hosts = "" if asked.nodes == 1 else f" --hostfile hostfile --num_nodes {asked.nodes}"
    command = f"deepspeed{hosts} --num_gpus {asked.per_node} train.py --deepspeed ds_config.json {' '.join(words)}"
    draft.notes.append("train.py is your script of a Hugging Face Trainer; its arguments are those of TRL's SFT script")
    files = {"ds_config.json": json.dumps(config, indent=2) + "\n"}
    if asked.nodes > 1:
        files["hostfile"] = "".join(f"node{i + 1} slots={asked.per_node}\n" for i in range(asked.nodes))
    return Launch(asked.name, "deepspeed", DEEPSPEED, command, files, draft.flags, draft.missing, draft.notes,
                  log_check(asked, "train_runtime / steps (s)", unit=1.0))  # fmt: skip


# ---- Accelerate --------------------------------------------------------------------------------------


def accelerate(asked: Asked) -> Launch:
    """A YAML of Accelerate (DDP or FSDP2), and `accelerate launch`."""
    of_kind(asked, TRAINS, "accelerate")
    draft, plan = Draft(asked), asked.plan
    each, steps = accumulation(asked)
    zero, shard = asked.take("plan.zero"), asked.take("plan.shard") or plan.dp * plan.cp
    draft.put("compute_environment", "LOCAL_MACHINE", "one launcher on each node")
    draft.put("distributed_type", "FSDP" if zero else "MULTI_GPU", "plan.zero")
    dtype = asked.take("dtype")
    draft.put("mixed_precision", {"fp32": "no"}.get(dtype, dtype), "dtype")
    draft.put("num_machines", asked.nodes, "GPUs of the plan")
    draft.put("num_processes", asked.gpus, "GPUs of the plan")
    draft.put("machine_rank", 0, "of each node its own")
    if zero:
        _fsdp(draft, zero)
    asked.take("plan.tp"), asked.take("plan.cp"), asked.take("plan.context")
    if plan.tp > 1 or plan.cp > 1 or (zero and shard < plan.dp * plan.cp):
        inner = max(1, shard // plan.cp) if zero else 1
        for name, value, key in (("dp_replicate", plan.dp // inner, "plan.dp"), ("dp_shard", inner, "plan.shard"),
                                 ("tp", plan.tp, "plan.tp"), ("cp", plan.cp, "plan.cp")):  # fmt: skip
            draft.put(f"parallelism_config.parallelism_config_{name}_size", value, key)
        if plan.cp > 1 and plan.context == "all_to_all":
            draft.lacks("plan.context", plan.context, "its context parallelism gathers or rotates keys and values")
        elif plan.cp > 1:
            draft.put("parallelism_config.parallelism_config_cp_comm_strategy",
                      "allgather" if plan.context == "all_gather" else "alltoall", "plan.context")  # fmt: skip
    _only_data(draft, "Accelerate")
    _usual(asked, "optimizer", "clip")
    words = _arguments(draft, each, steps)
    draft.close()
    text = _yaml(nested((flag.flag, flag.value) for flag in draft.flags))
    command = f"accelerate launch --config_file accelerate.yaml train.py {' '.join(words)}"
    if asked.nodes > 1:
        command = command.replace("launch ", "launch --machine_rank $NODE_RANK --main_process_ip $MASTER_ADDR "
                                  "--main_process_port 29500 ", 1)  # fmt: skip
    files = {"accelerate.yaml": text, "train.sbatch": slurm(asked, command)}
    return Launch(asked.name, "accelerate", ACCELERATE, command, files, draft.flags, draft.missing, draft.notes,
                  log_check(asked, "train_runtime / steps (s)", unit=1.0))  # fmt: skip


def _fsdp(draft: Draft, zero: int) -> None:
    asked = draft.asked
    if zero == 1:
        draft.lacks("plan.zero", 1, "FSDP2 shards gradients with the states; written as zero: 2")
    for name, value, key in (
        ("version", 2, "plan.zero"), ("reshard_after_forward", zero == 3, "plan.zero"),
        ("auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "layer by layer"),
        ("state_dict_type", "SHARDED_STATE_DICT", "checkpoints alone"),
        ("cpu_ram_efficient_loading", True, "start alone"),
        ("offload_params", asked.take("plan.offload") == "parameters", "plan.offload"),
        ("activation_checkpointing", asked.take("plan.recompute") == "full", "plan.recompute"),
    ):  # fmt: skip
        draft.put(f"fsdp_config.fsdp_{name}", value, key)
    if asked.plan.offload == "optimizer":
        draft.lacks("plan.offload", "optimizer", "FSDP offloads parameters with their states, or nothing")


def _yaml(data: Any) -> str:
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000))


# ---- axolotl -----------------------------------------------------------------------------------------


def axolotl(asked: Asked) -> Launch:
    """A YAML of axolotl, and `axolotl train`."""
    of_kind(asked, TRAINS, "axolotl")
    draft, plan, job = Draft(asked), asked.plan, asked.job
    each, steps = accumulation(asked)
    draft.put("base_model", asked.model, "model")
    draft.put("sequence_len", job.tokens, "workload.tokens")
    draft.put("micro_batch_size", each, "plan.micro_batch")
    draft.put("gradient_accumulation_steps", steps, "workload.batch / (micro_batch x dp)")
    _adapters(draft)
    _rows(draft)
    dtype = asked.take("dtype")
    if dtype == "fp8":
        draft.put("fp8", True, "dtype")
    elif dtype not in ("bf16", "fp16", "fp32"):
        draft.lacks("dtype", dtype)
    if dtype in ("bf16", "fp16", "fp8"):
        draft.put("fp16" if dtype == "fp16" else "bf16", True, "dtype")
    names = {"adam": "adamw_torch_fused", "sgd": "sgd", "momentum": "sgd", "muon": "muon"}
    draft.set("optimizer", "workload.optimizer", None, names)
    draft.put("max_grad_norm", 1.0 if asked.take("workload.clip") else 0.0, "workload.clip")
    draft.put("gradient_checkpointing", asked.take("plan.recompute") == "full", "plan.recompute")
    draft.put("flash_attention", bool(asked.take("workload.flash")), "workload.flash")
    if asked.take("workload.loss") == "fused":
        draft.put("plugins", ["axolotl.integrations.liger.LigerPlugin"], "workload.loss")
        draft.put("liger_fused_linear_cross_entropy", True, "workload.loss")
    _axolotl_ranks(draft)
    _only_data(draft, "axolotl")
    _usual(asked, "rank", "targets", "finetune")
    draft.put("datasets", [{"path": "your/dataset", "type": "completion"}], "no data is named")
    draft.put("output_dir", "./outputs", "no place is named")
    draft.put("num_epochs", 1, "give your own")
    draft.put("learning_rate", 2e-5, "give your own")
    draft.close()
    text = _yaml(nested((flag.flag, flag.value) for flag in draft.flags))
    command = f"{torchrun(asked)} -m axolotl.cli.train axolotl.yaml" if plan.world > 1 else "axolotl train axolotl.yaml"
    files = {"axolotl.yaml": text, "train.sbatch": slurm(asked, command)}
    return Launch(asked.name, "axolotl", AXOLOTL, command, files, draft.flags, draft.missing, draft.notes,
                  log_check(asked, "train_runtime / steps (s)", unit=1.0))  # fmt: skip


TARGETS = {"q": ["q_proj"], "qkv": ["q_proj", "k_proj", "v_proj"], "attention_out": ["o_proj"],
           "ffn_up": ["gate_proj", "up_proj"], "ffn_down": ["down_proj"], "q_down": ["q_a_proj"],
           "q_up": ["q_b_proj"], "kv_down": ["kv_a_proj_with_mqa"], "kv_up": ["kv_b_proj"]}  # fmt: skip
"""Modules of transformers' models for simgpu's matrices (src/transformers/models/*/modeling_*.py)."""


def _adapters(draft: Draft) -> None:
    asked, job = draft.asked, draft.asked.job
    kind = asked.take("workload.finetune")
    if kind == "full":
        return
    draft.put("adapter", kind, "workload.finetune")
    if kind == "qlora":
        draft.put("load_in_4bit", True, "workload.finetune")
    draft.put("lora_r", asked.take("workload.rank"), "workload.rank")
    draft.put("lora_alpha", 2 * job.rank, "give your own")
    draft.put("lora_target_modules", _modules(asked), "workload.targets")


def _modules(asked: Asked) -> list[str]:
    """Modules that have adapters, by transformers' names."""
    named = asked.take("workload.targets") or ("qkv", "attention_out")
    return [module for name in named for module in TARGETS.get(name, [])]


def _rows(draft: Draft) -> None:
    """How sequences make rows: packed, padded, or as they are."""
    asked = draft.asked
    lengths = asked.take("workload.lengths")
    asked.take("workload.mean_tokens"), asked.take("workload.length_deviation")
    if lengths == "ragged":
        draft.put("pad_to_sequence_len", False, "workload.lengths")
    draft.put("sample_packing", lengths == "packed", "workload.lengths")
    if lengths != "ragged":
        draft.put("pad_to_sequence_len", True, "workload.lengths")


def _axolotl_ranks(draft: Draft) -> None:
    asked, plan = draft.asked, draft.asked.plan
    zero, shard = asked.take("plan.zero"), asked.take("plan.shard") or plan.dp * plan.cp
    for key in ("tp", "cp", "context"):
        asked.take(f"plan.{key}")
    if zero in (2, 3) and plan.dp * plan.cp > 1:
        inner = max(1, shard // plan.cp)
        draft.put("dp_shard_size", inner, "plan.shard")
        if plan.dp // inner > 1:
            draft.put("dp_replicate_size", plan.dp // inner, "plan.dp")
        for name, value, key in (("fsdp_version", 2, "plan.zero"), ("reshard_after_forward", zero == 3, "plan.zero"),
                                 ("auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "layer by layer"),
                                 ("offload_params", asked.take("plan.offload") == "parameters", "plan.offload"),
                                 ("state_dict_type", "SHARDED_STATE_DICT", "checkpoints alone")):  # fmt: skip
            draft.put(name if name == "fsdp_version" else f"fsdp_config.{name}", value, key)
    elif zero == 1:
        draft.put("deepspeed", "deepspeed_configs/zero1.json", "plan.zero")
    if plan.tp > 1:
        draft.put("tensor_parallel_size", plan.tp, "plan.tp")
    if plan.cp > 1:
        draft.put("context_parallel_size", plan.cp, "plan.cp")
        if plan.context != "ring":
            draft.lacks("plan.context", plan.context, "axolotl's is ring-flash-attn")
