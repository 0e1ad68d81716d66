"""Megatron-Bridge (the trainer of NeMo containers): `run_recipe.py` with overrides of its configuration.

Names are those of Megatron-Bridge 0.4 (scripts/training/run_recipe.py, src/megatron/bridge/training/config.py), whose
`model.*` fields are those of Megatron-Core's configuration.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from simgpu.launching.answer import Flag, Launch, of_kind, plain
from simgpu.launching.asked import TRAINS, Asked
from simgpu.launching.megatron import log_check, megatron
from simgpu.launching.ranks import environment, slurm, torchrun

VERSION = "Megatron-Bridge 0.4 (NeMo 26.04)"
_TRAIN = {"--micro-batch-size": "train.micro_batch_size", "--global-batch-size": "train.global_batch_size",
          "--train-iters": "train.train_iters"}  # fmt: skip
_DDP = {"--use-distributed-optimizer": "ddp.use_distributed_optimizer", "--overlap-grad-reduce":
        "ddp.overlap_grad_reduce", "--overlap-param-gather": "ddp.overlap_param_gather", "--use-megatron-fsdp":
        "ddp.use_megatron_fsdp", "--data-parallel-sharding-strategy": "ddp.data_parallel_sharding_strategy",
        "--num-distributed-optimizer-instances": "ddp.num_distributed_optimizer_instances",
        "--grad-reduce-in-bf16": "mixed_precision.grad_reduce_in_fp32"}  # fmt: skip
_MODEL = {
    "--num-virtual-stages-per-pipeline-rank": "model.virtual_pipeline_model_parallel_size",
    "--cpu-offloading-num-layers": "model.cpu_offloading_num_layers", "--cpu-offloading": "model.cpu_offloading",
    "--moe-router-force-load-balancing": "model.moe_router_force_load_balancing",
    "--tp-comm-overlap": "comm_overlap.tp_comm_overlap", "--optimizer-cpu-offload": "optimizer.optimizer_cpu_offload",
    "--overlap-cpu-optimizer-d2h-h2d": "optimizer.overlap_cpu_optimizer_d2h_h2d",
    "--use-precision-aware-optimizer": "optimizer.use_precision_aware_optimizer",
    "--clip-grad": "optimizer.clip_grad", "--optimizer": "optimizer.optimizer",
    "--overlap-moe-expert-parallel-comm": "comm_overlap.overlap_moe_expert_parallel_comm",
    "--cross-entropy-fusion-impl": "model.cross_entropy_fusion_impl",
}  # fmt: skip
_KEPT = (
    "--tensor-model-parallel-size --pipeline-model-parallel-size --context-parallel-size "
    "--expert-model-parallel-size --expert-tensor-parallel-size --seq-length --sequence-parallel "
    "--moe-permute-fusion --moe-router-fusion --moe-token-dispatcher-type --moe-flex-dispatcher-backend "
    "--moe-expert-capacity-factor --moe-pad-expert-input-to-capacity --cp-comm-type "
    "--recompute-granularity --recompute-method --recompute-num-layers --recompute-modules "
    "--mtp-num-layers --cuda-graph-impl --cuda-graph-scope --pipeline-model-parallel-layout "
    "--moe-grouped-gemm --moe-router-load-balancing-type "
)
_MIXED = {"bf16": "bf16_mixed", "fp16": "16_mixed", ("fp8", "delayed"): "bf16_with_fp8_delayed_scaling_mixed",
          ("fp8", "tensorwise"): "bf16_with_fp8_current_scaling_mixed", ("fp8", "mx"): "bf16_with_mxfp8_mixed",
          ("fp8", "block"): "bf16_with_fp8_subchannel_scaling_mixed", "fp4": "bf16_with_nvfp4_mixed"}  # fmt: skip


def nemo(asked: Asked) -> Launch:
    """`run_recipe.py` of Megatron-Bridge, with the plan as overrides of the model's recipe."""
    of_kind(asked, TRAINS, "nemo")
    core = megatron(asked)
    flags = [made for flag in core.flags if (made := _override(flag)) is not None]
    missing = [line for line in core.missing if not line.startswith("workload.finetune")]
    dtype = asked.scenario.dtype
    mixed = _MIXED.get(dtype) or _MIXED.get((dtype, asked.job.fp8_scaling or "delayed"))
    if mixed:
        flags.append(Flag("mixed_precision", mixed, "dtype, workload.fp8_scaling"))
    adapter = asked.job.finetune
    recipe = f"{recipe_of(asked)}_{'pretrain' if adapter == 'full' else 'peft'}_config"
    start = f"{torchrun(asked)} scripts/training/run_recipe.py --recipe {recipe}"
    start += " --dataset llm-pretrain-mock" if adapter == "full" else " --dataset llm-finetune --peft_scheme lora"
    notes = [f"the recipe is taken to be called {recipe}; 'python -c \"import megatron.bridge.recipes as r; "
             "print(*dir(r))\"' lists those of your container"]  # fmt: skip
    if adapter != "full":
        flags.append(Flag("peft.dim", asked.job.rank, "workload.rank"))
    if adapter == "qlora":
        missing.append("workload.finetune: qlora: Megatron-Bridge has LoRA on 16-bit weights")
    words = [f"'{flag.flag}={_hydra(flag.value)}'" for flag in flags]
    command = " \\\n  ".join([start, *words])
    variables = environment(asked)
    script = "#!/bin/bash\nset -euo pipefail\n" + "".join(f"{line}\n" for line in variables) + command + "\n"
    files = {"train.sh": script, "train.sbatch": slurm(asked, "./train.sh", variables)}
    return Launch(asked.name, "nemo", VERSION, "", files, flags, missing, notes,
                  log_check(asked, "elapsed time per iteration (ms)", "throughput per GPU (TFLOP/s/GPU)"))  # fmt: skip


def _override(flag: Flag) -> Flag | None:
    """A field of Megatron-Bridge's configuration for an argument of Megatron-LM; None for what its recipe sets."""
    value: Any = True if flag.value is None else flag.value
    if flag.flag == "--grad-reduce-in-bf16":
        return Flag(_DDP[flag.flag], False, flag.key)
    for table in (_TRAIN, _DDP, _MODEL):
        if flag.flag in table:
            return Flag(table[flag.flag], value, flag.key)
    if flag.flag in _KEPT.split() and flag.key != "model":
        return Flag("model." + flag.flag[2:].replace("-", "_"), value, flag.key)
    return None


def recipe_of(asked: Asked) -> str:
    """The start of a recipe's name: 'llama3_8b', 'qwen3_30b_a3b'."""
    name = re.sub(r"[^a-z0-9]+", "_", asked.config.name.lower()).strip("_")
    return re.sub(r"^llama_(\d)(?:_(\d))?_", _llama, name)


def _llama(found: re.Match[str]) -> str:
    """The start of a Llama's name: llama3_ for 3 and 3.1, llama32_ for 3.2."""
    return f"llama{found[1]}{'' if found[2] in (None, '1') else found[2]}_"


def _hydra(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(plain, value)) + "]"
    return shlex.quote(plain(value)) if isinstance(value, str) and re.search(r"[\s'\"]", value) else plain(value)
