"""Configurations of trainers read back: TorchTitan's TOML, DeepSpeed's JSON, Accelerate's and axolotl's YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.errors import InputError, shown
from simgpu.launching import huggingface, torchtitan
from simgpu.launching.meant import Config
from simgpu.launching.pairs import flat


class Names:
    """Names of a configuration with their values, and those that were not asked for."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.values = flat(data)
        self._asked: set[str] = set()

    def __call__(self, name: str, default: Any = None) -> Any:
        """A value; one that is left empty or 'auto' is the default."""
        self._asked.add(name)
        value = self.values.get(name)
        return default if value is None or value == "auto" else value

    def whole(self, name: str, default: int = 1) -> int:
        """A whole number. Raises `InputError`."""
        value = self(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{shown(value)}: expected a whole number", key=name)
        return value

    def left(self) -> list[str]:
        """Names that were not asked for."""
        return [name for name in self.values if name not in self._asked]

    def sort(self, made: Config, nothing: tuple[str, ...]) -> None:
        """Put the names that were not asked for where they belong: without effect, or unknown."""
        for name in self.left():
            without = any(name == one or name.startswith(f"{one}.") for one in nothing)
            (made.ignored if without else made.unknown).append(name)


# ---- TorchTitan --------------------------------------------------------------------------------------

_TITAN_NOTHING = ("job", "profiling", "metrics", "lr_scheduler", "checkpoint", "validation", "comm", "debug", "comet",
                  "training.dataset", "training.dataset_path", "training.steps", "training.seed", "optimizer",
                  "training.max_norm", "training.gc_freq", "training.deterministic", "model.hf_assets_path",
                  "model.tokenizer_path", "training.mixed_precision_reduce", "quantize.linear.float8.filter_fqns",
                  "quantize.linear.float8.enable_fsdp_float8_all_gather", "activation_checkpoint.selective_ac_option",
                  "quantize.linear.float8.precompute_float8_dynamic_scale_for_fsdp", "compile.components",
                  "activation_checkpoint.per_op_sac_force_recompute_mm_shapes_by_fqns")  # fmt: skip


def read_torchtitan(data: Mapping[str, Any], gpus: int) -> Config:
    """What a TOML of TorchTitan means on so many GPUs (0: not known). Raises `InputError` (key: the name)."""
    names, made = Names(data), Config("torchtitan", torchtitan.VERSION, gpus=gpus)
    compiled = bool(names("compile.enable", names("training.compile", False)))
    made.keys |= {"framework": f"torchtitan{'-compiled' if compiled else ''}@0.2", "workload.kind": "training"}
    for pair in torchtitan.PAIRS:
        value = names(pair.name)
        if value is not None and not (pair.key == "workload.batch" and value == -1):
            made.put(pair.key, pair.read(value, pair.name), pair.default)
    family, flavor = str(names("model.name", "")), str(names("model.flavor", ""))
    shape = torchtitan.FLAVORS.get((family, flavor))
    if shape is not None:
        made.shape, made.starts = {"layers": shape[0], "hidden": shape[1]}, torchtitan.FAMILIES[family]
    made.model = f"{family} {flavor}".strip()
    _titan_ranks(names, made)
    _titan_types(names, made)
    names.sort(made, _TITAN_NOTHING)
    return made


def _titan_ranks(names: Names, made: Config) -> None:
    keys = made.keys
    inside = int(keys.get("plan.tp", 1)) * int(keys.get("plan.pp", 1)) * int(keys.get("plan.cp", 1))
    copies = names.whole("parallelism.data_parallel_replicate_degree")
    shard = names.whole("parallelism.data_parallel_shard_degree", -1)
    if shard == -1:
        if not made.gpus:
            problem = "-1 takes what GPUs are left; how many there are is not said: expected --gpus N"
            raise InputError(problem, key="parallelism.data_parallel_shard_degree")
        shard = max(1, made.gpus // (inside * copies))
    made.gpus = made.gpus or inside * copies * shard
    dp = copies * shard
    made.put("plan.dp", dp, 1)
    kept = names("parallelism.fsdp_reshard_after_forward", "default")
    pipelined = int(keys.get("plan.pp", 1)) > 1
    if shard > 1:
        made.keys["plan.zero"] = 2 if kept == "never" or (kept == "default" and pipelined) else 3
        cp = int(keys.get("plan.cp", 1))
        made.put("plan.shard", shard * cp, dp * cp)
    each = names.whole("training.local_batch_size", 8)
    if pipelined:
        made.keys["plan.micro_batch"] = names.whole("parallelism.pipeline_parallel_microbatch_size")
        back = {its: mine for mine, its in torchtitan.SCHEDULES.items()}
        schedule = names("parallelism.pipeline_parallel_schedule", "1F1B")
        if schedule in back:
            made.put("plan.schedule", back[schedule], "1f1b")
        else:
            made.unknown.append(f"parallelism.pipeline_parallel_schedule {schedule}")
        made.put("plan.vp", 2 if schedule in ("ZBVZeroBubble", "DualPipeV") else None)
        layers = names("parallelism.pipeline_parallel_layers_per_stage")
        if layers and made.shape and schedule == "Interleaved1F1B":
            made.put("plan.vp", made.shape["layers"] // int(keys["plan.pp"]) // int(layers), 1)
    else:
        made.keys["plan.micro_batch"] = each
    made.keys.setdefault("workload.batch", each * dp)
    if int(keys.get("plan.tp", 1)) > 1:
        made.keys["plan.sequence_parallel"] = True
    rotates = {its: mine for mine, its in torchtitan.ROTATES.items()}
    method = names("parallelism.context_parallel_rotate_method", "allgather")
    if int(keys.get("plan.cp", 1)) > 1:
        made.put("plan.context", rotates.get(method), "ring")
    if names("parallelism.enable_async_tensor_parallel"):
        made.keys["plan.async_tp"] = True


def _titan_types(names: Names, made: Config) -> None:
    converters = names("model.converters", [])
    words = converters if isinstance(converters, list) else str(converters).split(",")
    made.keys["dtype"] = "fp32" if names("training.mixed_precision_param") == "float32" else "bf16"
    for word in words:
        if word in ("float8", "quantize.linear.float8"):
            made.keys |= {"dtype": "fp8", "workload.fp8_scaling":
                          names("quantize.linear.float8.recipe_name", "tensorwise")}  # fmt: skip
        elif word in ("mx", "quantize.linear.mx"):
            names("quantize.linear.mx.recipe_name")
            made.keys |= {"dtype": "fp8", "workload.fp8_scaling": "mx"}
        elif word:
            made.unknown.append(f"model.converters {word}")
    if names("training.enable_cpu_offload"):
        made.keys["plan.offload"] = "parameters"
    made.keys.setdefault("plan.recompute", "selective")
    if made.keys["plan.recompute"] == "none":
        del made.keys["plan.recompute"]


# ---- DeepSpeed ---------------------------------------------------------------------------------------

_SPEED_NOTHING = ("optimizer", "scheduler", "steps_per_print", "wall_clock_breakdown", "gradient_clipping",
                  "zero_allow_untested_optimizer", "fp16", "bf16", "zero_optimization.overlap_comm",
                  "zero_optimization.contiguous_gradients", "zero_optimization.reduce_bucket_size",
                  "zero_optimization.allgather_bucket_size", "zero_optimization.allgather_partitions",
                  "zero_optimization.reduce_scatter", "zero_optimization.stage3_prefetch_bucket_size",
                  "zero_optimization.stage3_param_persistence_threshold", "zero_optimization.sub_group_size",
                  "zero_optimization.stage3_max_live_parameters", "zero_optimization.stage3_max_reuse_distance",
                  "zero_optimization.stage3_gather_16bit_weights_on_model_save", "dump_state", "seed",
                  "zero_optimization.round_robin_gradients",
                  "zero_optimization.offload_optimizer", "zero_optimization.offload_param", "prescale_gradients",
                  "tensorboard", "wandb", "csv_monitor", "flops_profiler", "comms_logger", "checkpoint")  # fmt: skip


def read_deepspeed(data: Mapping[str, Any], gpus: int) -> Config:
    """What a JSON of DeepSpeed means on so many GPUs. Raises `InputError` (key: the name)."""
    names, made = Names(data), Config("deepspeed", huggingface.DEEPSPEED, gpus=gpus)
    made.keys |= {"framework": "deepspeed", "workload.kind": "training"}
    tp, cp = names.whole("tensor_parallel.autotp_size"), names.whole("sequence_parallel_size")
    made.put("plan.tp", tp, 1)
    if cp > 1:
        made.keys |= {"plan.cp": cp, "plan.context": "all_to_all"}
    if not gpus:
        raise InputError("a JSON of DeepSpeed does not say how many GPUs there are: expected --gpus N")
    dp = max(1, gpus // (tp * cp))
    made.put("plan.dp", dp, 1)
    batch, each = names("train_batch_size"), names("train_micro_batch_size_per_gpu")
    steps = names("gradient_accumulation_steps")
    made.put("plan.micro_batch", each)
    if batch is None and each is not None:
        batch = each * (steps or 1) * dp
    if batch is None:
        made.notes.append("the batch is 'auto': say workload.batch and plan.micro_batch")
    made.put("workload.batch", batch)
    made.put("plan.zero", names.whole("zero_optimization.stage", 0), 0)
    made.put("plan.shard", names("zero_optimization.zero_hpz_partition_size"), 1)
    devices = [names(f"zero_optimization.offload_{one}.device", "none") for one in ("optimizer", "param")]
    if devices[1] != "none":
        made.keys["plan.offload"] = "parameters"
    elif devices[0] != "none":
        made.keys["plan.offload"] = "optimizer"
    if "nvme" in devices:
        made.keys["plan.offload_to"] = "nvme" if devices[1] != "cpu" else "mixed"
    made.keys["dtype"] = "bf16" if names("bf16.enabled") else "fp16" if names("fp16.enabled") else "fp32"
    if names("bf16.enabled") is None and data.get("bf16", {}) and names.values.get("bf16.enabled") == "auto":
        made.keys["dtype"] = "bf16"
    name = str(names("optimizer.type", "AdamW")).lower()
    words = {"adam": "adam", "adamw": "adam", "sgd": "momentum", "muon": "muon"}
    made.put("workload.optimizer", words.get(name), "adam")
    if name not in words:
        made.unknown.append(f"optimizer.type {name}")
    names.sort(made, _SPEED_NOTHING)
    return made


# ---- Accelerate --------------------------------------------------------------------------------------

_ACCELERATE_NOTHING = ("compute_environment", "machine_rank", "main_process_ip", "main_process_port", "debug",
                       "main_training_function", "rdzv_backend", "same_network", "tpu_env", "tpu_use_cluster",
                       "tpu_use_sudo", "use_cpu", "downcast_bf16", "enable_cpu_affinity", "dynamo_config",
                       "fsdp_config.fsdp_auto_wrap_policy", "fsdp_config.fsdp_state_dict_type",
                       "fsdp_config.fsdp_cpu_ram_efficient_loading", "fsdp_config.fsdp_transformer_layer_cls_to_wrap",
                       "fsdp_config.fsdp_sync_module_states", "fsdp_config.fsdp_use_orig_params", "gpu_ids",
                       "fsdp_config.fsdp_backward_prefetch", "fsdp_config.fsdp_forward_prefetch",
                       "fsdp_config.fsdp_version", "use_parallelism_config")  # fmt: skip


def read_accelerate(data: Mapping[str, Any], gpus: int) -> Config:
    """What a YAML of Accelerate means. Raises `InputError` (key: the name)."""
    names = Names(data)
    made = Config("accelerate", huggingface.ACCELERATE, gpus=names.whole("num_processes", gpus or 1))
    made.keys |= {"framework": "hf-trainer", "workload.kind": "training"}
    nodes = names.whole("num_machines")
    made.per_node = made.gpus // max(1, nodes)
    sizes = {one: names.whole(f"parallelism_config.parallelism_config_{one}_size")
             for one in ("tp", "cp", "dp_replicate", "dp_shard")}  # fmt: skip
    dp = max(1, made.gpus // (sizes["tp"] * sizes["cp"]))
    made.put("plan.tp", sizes["tp"], 1)
    made.put("plan.cp", sizes["cp"], 1)
    made.put("plan.dp", dp, 1)
    kind = str(names("distributed_type", "NO"))
    if kind == "FSDP":
        made.put("plan.zero", _sharding(names), 0)
        if sizes["dp_shard"] > 1:
            made.put("plan.shard", sizes["dp_shard"] * sizes["cp"], dp * sizes["cp"])
        if names("fsdp_config.fsdp_offload_params"):
            made.keys["plan.offload"] = "parameters"
        if names("fsdp_config.fsdp_activation_checkpointing"):
            made.keys["plan.recompute"] = "full"
    elif kind == "DEEPSPEED":
        made.keys["framework"] = "deepspeed"
        made.put("plan.zero", names("deepspeed_config.zero_stage"), 0)
        for one, offload in (("optimizer", "optimizer"), ("param", "parameters")):
            if names(f"deepspeed_config.offload_{one}_device", "none") != "none":
                made.keys["plan.offload"] = offload
    elif kind not in ("NO", "MULTI_GPU"):
        made.unknown.append(f"distributed_type {kind}")
    strategy = names("parallelism_config.parallelism_config_cp_comm_strategy", "allgather")
    if sizes["cp"] > 1:
        made.put("plan.context", "all_gather" if strategy == "allgather" else "ring", "ring")
    mixed = str(names("mixed_precision", "no"))
    made.keys["dtype"] = "fp32" if mixed in ("no", "False") else mixed
    made.notes.append("batch, sequence and model are arguments of your script, not of this file")
    names.sort(made, _ACCELERATE_NOTHING)
    return made


def _sharding(names: Names) -> int:
    """The ZeRO stage of FSDP: FULL_SHARD 3, SHARD_GRAD_OP 2; FSDP2 says whether weights are given back."""
    old = names("fsdp_config.fsdp_sharding_strategy")
    keeps = names("fsdp_config.fsdp_reshard_after_forward", old or True)
    if isinstance(keeps, str):
        return {"FULL_SHARD": 3, "SHARD_GRAD_OP": 2, "NO_SHARD": 0, "HYBRID_SHARD": 3}.get(keeps, 3)
    return 3 if keeps else 2


# ---- axolotl -----------------------------------------------------------------------------------------

_AXOLOTL_NOTHING = ("datasets", "dataset_prepared_path", "val_set_size", "output_dir", "num_epochs", "learning_rate",
                    "lr_scheduler", "warmup_steps", "warmup_ratio", "weight_decay", "logging_steps", "saves_per_epoch",
                    "evals_per_epoch", "eval_steps", "save_steps", "save_strategy", "special_tokens", "chat_template",
                    "wandb_project", "wandb_entity", "wandb_watch", "wandb_name", "wandb_log_model", "model_type",
                    "tokenizer_type", "trust_remote_code", "strict", "hub_model_id", "lora_alpha", "lora_dropout",
                    "lora_fan_in_fan_out", "lora_model_dir", "train_on_inputs", "group_by_length", "tf32", "debug",
                    "early_stopping_patience", "resume_from_checkpoint", "local_rank", "seed", "eval_table_size",
                    "max_grad_norm", "max_steps", "save_safetensors", "save_only_model", "save_first_step",
                    "gradient_checkpointing_kwargs", "eval_sample_packing", "load_in_8bit", "tokens", "plugins",
                    "fsdp_config.fsdp_limit_all_gathers", "fsdp_config.fsdp_sync_module_states", "adam_beta1",
                    "adam_beta2", "adam_epsilon", "fsdp_config.fsdp_use_orig_params", "fsdp_config.fsdp_version",
                    "fsdp_config.fsdp_cpu_ram_efficient_loading", "fsdp_config.cpu_ram_efficient_loading",
                    "fsdp_config.fsdp_auto_wrap_policy", "fsdp_config.auto_wrap_policy", "fsdp_version",
                    "fsdp_config.fsdp_transformer_layer_cls_to_wrap", "fsdp_config.transformer_layer_cls_to_wrap",
                    "fsdp_config.fsdp_state_dict_type", "fsdp_config.state_dict_type",
                    "fp8_enable_fsdp_float8_all_gather", "xformers_attention", "cosine_constant_lr_ratio",
                    "cosine_min_lr_ratio")  # fmt: skip


def read_axolotl(data: Mapping[str, Any], gpus: int) -> Config:
    """What a YAML of axolotl means on so many GPUs (0: one). Raises `InputError` (key: the name)."""
    names, made = Names(data), Config("axolotl", huggingface.AXOLOTL, gpus=gpus or 1)
    if not gpus:
        made.notes.append("it does not say how many GPUs there are: taken for one; --gpus N")
    made.model = str(names("base_model", ""))
    tp, cp = names.whole("tensor_parallel_size"), names.whole("context_parallel_size")
    dp = max(1, made.gpus // (tp * cp))
    each, steps = names.whole("micro_batch_size"), names.whole("gradient_accumulation_steps")
    made.keys |= {"framework": "hf-trainer", "workload.kind": "training", "workload.batch": each * steps * dp,
                  "workload.tokens": names.whole("sequence_len", 512), "plan.micro_batch": each}  # fmt: skip
    for key, value in (("plan.tp", tp), ("plan.cp", cp), ("plan.dp", dp)):
        made.put(key, value, 1)
    _axolotl_adapters(names, made)
    _axolotl_sharding(names, made, dp * cp)
    made.keys["dtype"] = ("fp8" if names("fp8") else "fp16" if names("fp16") else "fp32"
                          if names("bf16") is False else "bf16")  # fmt: skip
    checkpointing = names("gradient_checkpointing", False)
    made.put("plan.recompute", "full" if checkpointing else None)
    if checkpointing == "offload":
        made.notes.append("gradient_checkpointing: offload keeps the checkpoints in host memory: plan.offload_layers")
    if not any(names(one) for one in ("flash_attention", "sdp_attention", "flex_attention", "sage_attention")):
        made.keys["workload.flash"] = False
    for one in ("flex_attn_compile_kwargs.dynamic", "flex_attn_compile_kwargs.mode"):
        names(one)
    names("pad_to_sequence_len")
    if names("sample_packing"):
        made.notes.append("sample_packing: rows hold several sequences; say workload.mean_tokens and lengths: packed")
    if names("torch_compile"):
        made.keys["framework"] = "pytorch-compiled"
    if names("liger_fused_linear_cross_entropy"):
        made.keys["workload.loss"] = "fused"
    for name in names.left():
        if name.startswith("liger_"):
            names(name)
            made.ignored.append(name)
    _optimizer(str(names("optimizer", "adamw_torch_fused")), made)
    names.sort(made, _AXOLOTL_NOTHING)
    return made


def _optimizer(name: str, made: Config) -> None:
    plain = {"adamw": "adam", "adam": "adam", "sgd": "momentum", "muon": "muon"}.get(name.split("_")[0])
    made.put("workload.optimizer", plain, "adam")
    if "8bit" in name or plain is None:
        made.unknown.append(f"optimizer {name}")


def _axolotl_adapters(names: Names, made: Config) -> None:
    adapter = names("adapter")
    names("load_in_4bit")
    if adapter not in ("lora", "qlora"):
        return
    made.keys |= {"workload.finetune": adapter, "workload.rank": names.whole("lora_r", 16)}
    modules = names("lora_target_modules") or []
    if names("lora_target_linear"):
        modules = [one for several in huggingface.TARGETS.values() for one in several]
    known = [target for target in ("qkv", "attention_out", "ffn_up", "ffn_down")
             if set(huggingface.TARGETS[target]) <= set(modules)]  # fmt: skip
    if known and known != ["qkv", "attention_out"]:
        made.keys["workload.targets"] = known


def _axolotl_sharding(names: Names, made: Config, ranks: int) -> None:
    speed = str(names("deepspeed", "") or "")
    shard, copies = names("dp_shard_size"), names.whole("dp_replicate_size")
    if "zero" in speed:
        made.keys["framework"] = "deepspeed"
        made.keys["plan.zero"] = next((stage for stage in (3, 2, 1) if f"zero{stage}" in speed), 0)
    elif shard or any(name.startswith("fsdp") for name in names.values):
        keep = names("fsdp_config.reshard_after_forward", names("fsdp_config.fsdp_reshard_after_forward", True))
        strategy = names("fsdp_config.fsdp_sharding_strategy", "FULL_SHARD")
        made.keys["plan.zero"] = 3 if keep and strategy != "SHARD_GRAD_OP" else 2
        if copies > 1:
            made.put("plan.shard", ranks // copies)
        for one in ("offload_params", "fsdp_offload_params"):
            if names(f"fsdp_config.{one}"):
                made.keys["plan.offload"] = "parameters"
        if names("fsdp_config.activation_checkpointing", names("fsdp_config.fsdp_activation_checkpointing")):
            made.keys["plan.recompute"] = "full"
    names("fsdp")
