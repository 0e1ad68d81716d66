"""Arguments of Megatron-LM: `pretrain_gpt.py`, written and read.

Names are those of megatron/training/arguments.py and megatron/core/transformer/transformer_config.py of
Megatron-Core 0.15; DeepSeek-V3's published command line (docs/discussions of that repository) was read for the flags
of experts, graphs and low precision.
"""

from __future__ import annotations

from typing import Any

from simgpu.launching.answer import Check, Draft, Launch, command_of, of_kind
from simgpu.launching.asked import TRAINS, Asked
from simgpu.launching.pairs import Pair
from simgpu.launching.ranks import environment, placed, slurm, torchrun
from simgpu.model.config import TransformerConfig

VERSION = "Megatron-Core 0.15"
DEGREES = (
    Pair("plan.tp", "--tensor-model-parallel-size", 1, always=True),
    Pair("plan.pp", "--pipeline-model-parallel-size", 1, always=True),
    Pair("plan.vp", "--num-virtual-stages-per-pipeline-rank", 1),
    Pair("plan.cp", "--context-parallel-size", 1),
    Pair("plan.ep", "--expert-model-parallel-size", 1),
    Pair("plan.expert_tp", "--expert-tensor-parallel-size"),
    Pair("plan.micro_batch", "--micro-batch-size", always=True),
    Pair("workload.batch", "--global-batch-size", always=True),
    Pair("workload.tokens", "--seq-length", always=True),
    Pair("plan.capacity_factor", "--moe-expert-capacity-factor"),
    Pair("workload.mtp_layers", "--mtp-num-layers", 0),
    Pair("plan.offload_layers", "--cpu-offloading-num-layers"),
)
CONTEXT = {"ring": "p2p", "all_gather": "all_gather", "all_to_all": "a2a"}
SHARDING = {1: "optim", 2: "optim_grads", 3: "optim_grads_params"}
FP8 = {"delayed": "delayed", "tensorwise": "tensorwise", "block": "blockwise", "mx": "mxfp8"}
STATES = {"bf16": "bf16", "fp16": "fp16"}
SWITCHES = (
    Pair("plan.sequence_parallel", "--sequence-parallel"),
    Pair("plan.permute_fusion", "--moe-permute-fusion"),
    Pair("plan.router_fusion", "--moe-router-fusion"),
    Pair("plan.expert_overlap", "--overlap-moe-expert-parallel-comm"),
    Pair("plan.async_tp", "--tp-comm-overlap"),
)
GRAPHS = {
    "router": ("transformer_engine", ["moe_router", "moe_preprocess"]),
    "parts": ("transformer_engine", ["attn", "moe_router", "moe_preprocess"]),
    "layer": ("local", None),
    "full": ("local", ["full_iteration"]),
}
BALANCE = {"forced": ("--moe-router-force-load-balancing", None), "aux_loss": ("--moe-router-load-balancing-type",
           "aux_loss"), "none": ("--moe-router-load-balancing-type", "none")}  # fmt: skip


def megatron(asked: Asked) -> Launch:
    """A shell script that starts `pretrain_gpt.py` of Megatron-LM."""
    of_kind(asked, TRAINS, "megatron")
    draft = Draft(asked)
    _shape(draft, asked.config)
    for pair in DEGREES:
        pair.put(draft)
    _filled(draft)
    for pair in SWITCHES:
        draft.switch(pair.name, pair.key)
    _sharding(draft)
    _precision(draft)
    _recompute(draft)
    _experts(draft)
    _optimizer(draft)
    _pipeline(draft)
    draft.put("--mock-data", None, "no data is named: give --data-path")
    draft.put("--tokenizer-type", "NullTokenizer", "as above")
    draft.put("--train-iters", 50, "the check")
    draft.put("--log-interval", 1, "the check")
    draft.put("--log-throughput", None, "the check")
    where = placed(asked)
    if where and asked.plan.order[-2:] == ("pp", "dp"):
        draft.put("--use-tp-pp-dp-mapping", None, "plan.order")
    elif where:
        draft.lacks("plan.order", where, "Megatron places tp, cp, ep, dp, pp, or tp, cp, ep, pp, dp")
    draft.close()
    start = f"{torchrun(asked)} pretrain_gpt.py"
    command = command_of(start, draft.flags)
    more = ["export CUDA_DEVICE_MAX_CONNECTIONS=1"] if asked.plan.tp > 1 or asked.plan.cp > 1 else []
    more += environment(asked)
    script = "#!/bin/bash\nset -euo pipefail\n" + "".join(f"{line}\n" for line in more) + command + "\n"
    files = {"train.sh": script, "train.sbatch": slurm(asked, "./train.sh", more)}
    return Launch(asked.name, "megatron", VERSION, "", files, draft.flags, draft.missing, draft.notes,
                  log_check(asked, "elapsed time per iteration (ms)", "throughput per GPU (TFLOP/s/GPU)"))  # fmt: skip


def log_check(asked: Asked, time: str, rate: str = "", unit: float = 1e3) -> Check:
    """The line of a training log that is held against the prediction."""
    row = asked.row
    expected = [(f"'{time}'", row["step_s"] * unit, *_ends(row, "step_s", unit), "ms" if unit == 1e3 else "s")]
    flops = row.get("flop_per_s_per_gpu")
    if rate and flops:
        expected.append((f"'{rate}'", flops / 1e12, *_ends(row, "flop_per_s_per_gpu", 1e-12), "TFLOP/s"))
    held = row.get("reserved_memory_bytes_per_gpu") or row.get("memory_bytes_per_gpu")
    if held:
        expected.append(("memory of the fullest GPU", held / 2**30, None, None, "GiB"))
    command = f"simgpu compare {asked.name} --log train.log"
    return Check(command, "steps after the first ten, without those that evaluate or save", tuple(expected))


def _ends(row: Any, column: str, scale: float) -> tuple[float | None, float | None]:
    low, high = row.get(f"{column}_p10"), row.get(f"{column}_p90")
    return (None if low is None else low * scale), (None if high is None else high * scale)


# ---- parts -------------------------------------------------------------------------------------------


def _shape(draft: Draft, config: TransformerConfig) -> None:
    """The model, as far as arguments of Megatron say it."""
    for flag, value in shape_flags(config).items():
        draft.put(flag, value, "model")
    beyond = [name for name in ("runs", "state", "index_heads", "streams", "sandwich_norms", "parallel", "post_norm")
              if getattr(config, name)]  # fmt: skip
    if beyond:
        draft.missing.append(f"model: {config.name} has {', '.join(beyond)}, which these arguments do not say")


def shape_flags(config: TransformerConfig) -> dict[str, Any]:
    """Arguments of Megatron for the shape of a model; a switch has the value None."""
    flags: dict[str, Any] = {
        "--num-layers": config.layers,
        "--hidden-size": config.hidden,
        "--ffn-hidden-size": config.ffn,
        "--num-attention-heads": config.heads,
        **(_latent(config) if config.kv_rank else _grouped(config)),
        "--max-position-embeddings": config.max_tokens,
        "--vocab-size": config.vocab,
    }
    if config.rms_norm:
        flags["--normalization"] = "RMSNorm"
    if config.rope:
        flags["--position-embedding-type"] = "rope"
    switches = {
        "--swiglu": config.gated,
        "--disable-bias-linear": not config.bias,
        "--add-qkv-bias": config.qkv_bias and not config.bias,
        "--qk-layernorm": config.qk_norm,
        "--untie-embeddings-and-output-weights": not config.tied_embeddings,
    }
    flags |= {flag: None for flag, on in switches.items() if on}
    return flags | (_expert_shape(config) if config.experts > 1 else {})


def _grouped(config: TransformerConfig) -> dict[str, Any]:
    """Heads of plain attention."""
    flags: dict[str, Any] = {}
    if config.kv_heads != config.heads:
        flags |= {"--group-query-attention": None, "--num-query-groups": config.kv_heads}
    if config.head_dim * config.heads != config.hidden:
        flags["--kv-channels"] = config.head_dim
    return flags


def _latent(config: TransformerConfig) -> dict[str, Any]:
    """Widths of latent attention."""
    flags: dict[str, Any] = {
        "--multi-latent-attention": None,
        "--kv-lora-rank": config.kv_rank,
        "--qk-head-dim": config.qk_nope_dim,
        "--qk-pos-emb-head-dim": config.qk_rope_dim,
        "--v-head-dim": config.value_dim,
    }
    return flags | ({"--q-lora-rank": config.q_rank} if config.q_rank else {})


def _expert_shape(config: TransformerConfig) -> dict[str, Any]:
    """Experts of a layer."""
    flags: dict[str, Any] = {
        "--num-experts": config.experts,
        "--moe-router-topk": config.experts_per_token,
        "--moe-ffn-hidden-size": config.expert_width,
        "--moe-grouped-gemm": None,
    }
    if config.shared_experts:
        flags["--moe-shared-expert-intermediate-size"] = (
            config.shared_ffn or config.shared_experts * config.expert_width
        )
    if config.dense_layers:
        flags["--moe-layer-freq"] = f"([0]*{config.dense_layers}+[1]*{config.layers - config.dense_layers})"
    return flags


def _filled(draft: Draft) -> None:
    """What a plan leaves out and Megatron asks for."""
    asked = draft.asked
    if asked.scenario.plan.micro_batch is None:
        batch = max(1, asked.job.batch // asked.plan.dp)
        draft.put("--micro-batch-size", batch, "plan.micro_batch: all of a replica")
    method = asked.take("plan.context")
    if asked.plan.cp > 1 and method != "ring":
        draft.put("--cp-comm-type", CONTEXT[method], "plan.context")
    asked.take("plan.dp")


def _sharding(draft: Draft) -> None:
    asked = draft.asked
    zero, shard = asked.take("plan.zero"), asked.take("plan.shard")
    if zero == 1:
        draft.put("--use-distributed-optimizer", None, "plan.zero")
    elif zero:
        draft.put("--use-megatron-fsdp", None, "plan.zero")
        draft.put("--use-distributed-optimizer", None, "plan.zero")
        draft.put("--data-parallel-sharding-strategy", SHARDING[zero], "plan.zero")
        draft.put("--no-gradient-accumulation-fusion", None, "Megatron-FSDP needs it")
        draft.put("--ckpt-format", "fsdp_dtensor", "Megatron-FSDP needs it")
    ranks = asked.plan.dp * asked.plan.cp
    if shard and zero and shard != ranks:
        draft.put("--num-distributed-optimizer-instances", ranks // shard, "plan.shard")
    if asked.take("plan.overlap_gradients") and asked.plan.dp > 1:
        draft.put("--overlap-grad-reduce", None, "plan.overlap_gradients")
    if asked.take("plan.overlap_weights") and zero and asked.plan.dp > 1:
        draft.put("--overlap-param-gather", None, "plan.overlap_weights")


def _precision(draft: Draft) -> None:
    asked = draft.asked
    dtype = asked.take("dtype")
    scaling = asked.take("workload.fp8_scaling")
    if dtype in ("bf16", "fp16"):
        draft.put(f"--{dtype}", None, "dtype")
    elif dtype == "fp8":
        draft.put("--bf16", None, "dtype: fp8")
        draft.put("--fp8-format", "e4m3" if scaling in ("mx", "block") else "hybrid", "dtype")
        scaling = scaling or "delayed"
        if scaling in FP8:
            draft.put("--fp8-recipe", FP8[scaling], "workload.fp8_scaling")
        else:
            draft.lacks("workload.fp8_scaling", scaling)
    elif dtype == "fp4":
        draft.put("--bf16", None, "dtype: fp4")
        draft.put("--fp4-format", "e2m1", "dtype")
        draft.put("--fp4-recipe", "nvfp4", "dtype")
    elif dtype != "fp32":
        draft.lacks("dtype", dtype)
    _summed(draft)


def _summed(draft: Draft) -> None:
    """What gradients are summed in, attention, the loss, dropout."""
    asked = draft.asked
    if asked.take("workload.gradients") == "bf16":
        draft.put("--grad-reduce-in-bf16", None, "workload.gradients")
    if asked.take("workload.reduce") == "bf16" and asked.job.gradients != "bf16":
        draft.put("--grad-reduce-in-bf16", None, "workload.reduce")
    for key in ("weights", "master_weights", "accumulate"):
        asked.take(f"workload.{key}")
    if not asked.take("workload.flash"):
        draft.put("--attention-backend", "unfused", "workload.flash")
    else:
        draft.put("--attention-backend", "auto", "workload.flash")
    if asked.take("workload.loss") in ("fused", "compiled"):
        draft.put("--cross-entropy-loss-fusion", None, "workload.loss")
        if asked.job.loss == "fused":
            draft.put("--cross-entropy-fusion-impl", "te", "workload.loss")
    dropout = asked.take("workload.dropout")
    if dropout is None:
        dropout = asked.catalogue.framework(asked.scenario.framework).memory.dropout
    for flag in ("--attention-dropout", "--hidden-dropout"):  # Megatron's own default is .1
        draft.put(flag, 0.1 if dropout else 0.0, "workload.dropout, else framework")


def _recompute(draft: Draft) -> None:
    asked = draft.asked
    how = asked.take("plan.recompute")
    layers, modules = asked.take("plan.recompute_layers"), asked.take("plan.recompute_modules")
    if how == "full":
        draft.put("--recompute-granularity", "full", "plan.recompute")
        draft.put("--recompute-method", "block" if layers else "uniform", "plan.recompute_layers")
        draft.put("--recompute-num-layers", layers or 1, "plan.recompute_layers")
    elif how == "selective":
        draft.put("--recompute-granularity", "selective", "plan.recompute")
        if modules:
            draft.put("--recompute-modules", list(modules), "plan.recompute_modules")


def _experts(draft: Draft) -> None:
    asked = draft.asked
    dispatcher, graphs = asked.take("plan.dispatcher"), asked.take("plan.cuda_graphs")
    if dispatcher in ("deepep", "hybridep"):
        draft.put("--moe-token-dispatcher-type", "flex", "plan.dispatcher")
        draft.put("--moe-flex-dispatcher-backend", dispatcher, "plan.dispatcher")
    elif dispatcher:
        draft.put("--moe-token-dispatcher-type", dispatcher, "plan.dispatcher")
    elif asked.config.experts > 1:
        draft.put("--moe-token-dispatcher-type", "alltoall", "as Megatron's recipes have it")
    if graphs in GRAPHS:
        how, scope = GRAPHS[graphs]
        draft.put("--cuda-graph-impl", how, "plan.cuda_graphs")
        if scope:
            draft.put("--cuda-graph-scope", scope, "plan.cuda_graphs")
    balance = asked.take("plan.balance")
    if balance in BALANCE:
        flag, value = BALANCE[balance]
        draft.put(flag, value, "plan.balance")
    elif balance:
        draft.lacks("plan.balance", balance, "how even the tokens are is the router's doing")
    if asked.take("plan.grouped") == "loop":
        draft.flags = [flag for flag in draft.flags if flag.flag != "--moe-grouped-gemm"]
    if asked.plan.capacity_factor:
        draft.put("--moe-pad-expert-input-to-capacity", None, "plan.capacity_factor")
    if asked.take("workload.routing") not in ("balanced", None):
        draft.lacks("workload.routing", asked.job.routing, "how even the tokens are is the router's doing")


def _optimizer(draft: Draft) -> None:
    asked = draft.asked
    name = asked.take("workload.optimizer")
    words = {"adam": "adam", "sgd": "sgd", "momentum": "sgd", "muon": "muon"}
    if name in words:
        draft.put("--optimizer", words[name], "workload.optimizer")
    else:
        draft.lacks("workload.optimizer", name)
    states = asked.take("workload.states")
    if states in STATES:
        draft.put("--use-precision-aware-optimizer", None, "workload.states")
        draft.put("--exp-avg-dtype", states, "workload.states")
        draft.put("--exp-avg-sq-dtype", states, "workload.states")
    if asked.take("plan.offload") == "optimizer":
        draft.put("--optimizer-cpu-offload", None, "plan.offload")
        draft.put("--overlap-cpu-optimizer-d2h-h2d", None, "plan.offload")
    elif asked.plan.offload != "none":
        draft.lacks("plan.offload", asked.plan.offload)
    if asked.take("plan.offload_to") != "host":
        draft.lacks("plan.offload_to", asked.plan.offload_to)
    if asked.plan.offload_layers:
        draft.put("--cpu-offloading", None, "plan.offload_layers")
    draft.put("--clip-grad", 1.0 if asked.take("workload.clip") else 0.0, "workload.clip")
    if asked.take("workload.finetune") != "full":
        draft.lacks("workload.finetune", asked.job.finetune, "pretrain_gpt.py trains all weights; NeMo has adapters")
    asked.take("workload.train_tokens")


def _pipeline(draft: Draft) -> None:
    asked = draft.asked
    schedule = asked.take("plan.schedule")
    if asked.plan.pp > 1 and schedule not in (None, "1f1b", "interleaved"):
        draft.lacks("plan.schedule", schedule, "Megatron-Core has 1f1b and interleaved")
    layers = asked.take("plan.stage_layers")
    if layers:
        layout = layout_of(layers)
        draft.put("--pipeline-model-parallel-layout", layout, "plan.stage_layers")
        draft.flags = [flag for flag in draft.flags if flag.flag != "--num-virtual-stages-per-pipeline-rank"]


def layout_of(layers: tuple[int, ...]) -> str:
    """A layout in Megatron's letters: E the embedding, t a layer, L the loss, | between chunks."""
    chunks = ["t" * count for count in layers]
    chunks[0] = "E" + chunks[0]
    chunks[-1] += "L"
    return "|".join(chunks)
