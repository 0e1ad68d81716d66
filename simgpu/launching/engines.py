"""Command lines of engines: `vllm serve`, `sglang.launch_server`, `trtllm-serve`, `llama-server`.

Flags are those of vLLM 0.20 (vllm/engine/arg_utils.py), SGLang 0.5.23 (sglang/srt/server_args.py), TensorRT-LLM 1.2
(tensorrt_llm/commands/serve.py) and llama.cpp (tools/server/README.md). What `simgpu serve --server` reads is what is
written here.
"""

from __future__ import annotations

import json
from typing import Any

from simgpu.launching.answer import Draft, Flag, Launch, command_of, of_kind
from simgpu.launching.asked import SERVES, Asked
from simgpu.launching.limits import Limits, limits_of
from simgpu.launching.load import LOAD, check_of

TYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
VLLM_CACHES = {"fp8": "fp8", "int8": "int8_per_token_head", "fp16": "float16", "bf16": "bfloat16"}
"""vLLM's names of types of its cache (vllm/config/cache.py, CacheDType)."""
GGUF = {"q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K_M", "q4_k_m": "Q4_K_M", "q4_0": "Q4_0", "q3_k_m": "Q3_K_M",
        "q2_k": "Q2_K", "fp16": "F16", "bf16": "BF16", "mxfp4": "MXFP4"}  # fmt: skip
_QUANTISED = {"fp8": "fp8", "int4": "awq", "fp4": "modelopt_fp4"}
_AS_PUBLISHED = ("fp8-block", "mxfp4")
_NEEDS = {
    "fp8": "an FP8 checkpoint",
    "int4": "an AWQ or GPTQ checkpoint",
    "fp4": "an NVFP4 checkpoint of ModelOpt",
    "int8": "a W8A8 checkpoint",
}
VERSIONS = {"vllm": "0.20", "sglang": "0.5.23", "trtllm": "1.2", "llama.cpp": "b6327"}


def started(asked: Asked, target: str) -> tuple[Draft, Limits]:
    """A draft for an engine: the load's keys are taken, the runtime of the row is held against the target."""
    of_kind(asked, SERVES, target)
    draft = Draft(asked)
    for key in LOAD:
        asked.take(f"workload.{key}")
    asked.take("workload.routing")
    asked.take("workload.runtime")
    limits = limits_of(asked)
    if limits.runtime.engine != target:
        draft.notes.append(f"the row was simulated as {limits.runtime.name}; what {target} takes is not what was "
                           f"predicted: run it with workload.runtime={target}")  # fmt: skip
    return draft, limits


def precision_of(draft: Draft, names: dict[str, str], flag: str) -> None:
    """The flag of the weights' precision, where the checkpoint's own is another."""
    asked = draft.asked
    said = asked.take("workload.precision")
    precision = asked.row.get("precision")
    own = asked.config.published
    if (said is None and precision in (own, None)) or precision == own or precision in TYPES:
        return
    base = str(precision).split("-g")[0]
    if base in names:
        draft.put(flag, names[base], "workload.precision")
    elif base not in _AS_PUBLISHED and base not in _NEEDS:
        draft.lacks("workload.precision", precision)
    if base in _NEEDS and not (base == "fp8" and base in names):  # those that quantise as they load need none
        draft.notes.append(f"precision {precision} needs {_NEEDS[base]} in place of {asked.model}")


def vllm_flags(draft: Draft, limits: Limits) -> list[Flag]:
    """Flags of `vllm serve` behind the model."""
    asked, plan = draft.asked, draft.asked.plan
    draft.set("--tensor-parallel-size", "plan.tp", always=True)
    draft.set("--pipeline-parallel-size", "plan.pp", 1)
    draft.set("--data-parallel-size", "plan.dp", 1)
    _whole_experts(draft, "--enable-expert-parallel", plan.tp * plan.dp)
    if asked.take("plan.dispatcher") == "deepep":
        draft.put("--all2all-backend", "deepep_low_latency", "plan.dispatcher")
        draft.notes.append(
            "deepep_low_latency is for decodes, deepep_high_throughput for prompts: a server that runs both is slower"
            " at one of them than predicted"
        )
    draft.put("--max-model-len", limits.longest, limits.from_longest)
    draft.put("--max-num-seqs", limits.sequences, limits.from_sequences)
    draft.put("--max-num-batched-tokens", limits.chunk, limits.from_chunk)
    draft.put("--gpu-memory-utilization", limits.memory_share, limits.from_share)
    draft.set("--dtype", "dtype", None, TYPES)
    precision_of(draft, _QUANTISED, "--quantization")
    draft.set("--kv-cache-dtype", "workload.kv_cache", asked.row.get("dtype"), VLLM_CACHES)
    draft.switch("--no-enable-prefix-caching", "workload.prefix_cache", False)
    draft.set("--block-size", "workload.block")
    _blocks(draft, limits)
    draft.set("--cudagraph-capture-sizes", "workload.graph_sizes")
    guess = asked.take("workload.speculative")
    if guess is not None:
        method: dict[str, Any] = {"method": "mtp"} if guess.draft == "mtp" else {"model": _id(asked, guess.draft)}
        draft.put("--speculative-config", json.dumps({**method, "num_speculative_tokens": guess.tokens}),
                  "workload.speculative")  # fmt: skip
    if asked.take("workload.policy") == "priority":
        draft.put("--scheduling-policy", "priority", "workload.policy")
    _adapters(draft, "--max-loras", "--max-cpu-loras")
    _tiers(draft, ("--kv-offloading-size", "--kv-offloading-backend"), 2**30)
    _offload(draft, "--cpu-offload-gb")
    return draft.flags


RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM's slots may have (vllm/config/lora.py, MaxLoRARanks)."""


def _adapters(draft: Draft, slots: str, held: str) -> None:
    """Slots of adapters on the GPUs, and places in the host's memory, by an engine's names."""
    lora = draft.asked.take("workload.lora")
    if lora is None or not lora.rank:
        return
    rank = lora.max_rank or lora.rank
    wide = next((one for one in RANKS if one >= rank), rank)
    draft.put("--enable-lora", None, "workload.lora")
    draft.put(slots, lora.max_loras, "workload.lora.max_loras")
    draft.put("--max-lora-rank", wide, "workload.lora.max_rank" if lora.max_rank else "workload.lora.rank")
    if lora.max_cpu_loras is not None:
        draft.put(held, lora.max_cpu_loras, "workload.lora.max_cpu_loras")
    if wide != rank:
        draft.notes.append(f"slots have rank {wide}, and {rank} was simulated: give workload.lora.max_rank={wide}")
    draft.notes.append("adapters and their names are yours (--lora-modules, --lora-paths); requests name them as model")


def _classes(draft: Draft) -> None:
    """Requests by class, as SGLang has them: the larger its priority, the more urgent one is."""
    if draft.asked.take("workload.policy") == "priority":
        draft.put("--enable-priority-scheduling", None, "workload.policy")
        if not draft.asked.take("workload.preempts"):
            draft.put("--disable-priority-preemption", None, "workload.preempts")
        draft.notes.append("a request takes the place of one whose priority is lower by more than 10 "
                           "(--priority-scheduling-preemption-threshold)")  # fmt: skip


def _tiers(draft: Draft, flags: tuple[str, str], unit: float) -> None:
    """A tier of cache in host memory, which the engine has itself; others need LMCache, Mooncake or the like.

    `unit` is in bytes of a replica: vLLM counts GiB of all ranks together (vllm/config/cache.py), SGLang 10^9 bytes of
    each rank (srt/mem_cache/pool_host/base.py).
    """
    tiers = draft.asked.take("workload.tiers") or ()
    for key in ("tier_chunk", "tier_write"):
        draft.asked.take(f"workload.{key}")
    for tier in tiers:
        if tier.kind == "host" and tier.size:
            draft.put(flags[0], round(tier.size / unit, 1), "workload.tiers")
            draft.put(flags[1], "native" if flags[1].endswith("backend") else None, "workload.tiers")
        else:
            draft.lacks("workload.tiers", tier.kind, "the engine's own cache ends at host memory; LMCache has more")


def _blocks(draft: Draft, limits: Limits) -> None:
    tokens = draft.asked.take("workload.cache_tokens")
    if tokens:
        block = draft.asked.take("workload.block") or limits.runtime.block_tokens
        draft.put("--num-gpu-blocks-override", tokens // block, "workload.cache_tokens")


def _whole_experts(draft: Draft, flag: str, whole: int) -> None:
    """Expert parallelism where an engine has it over all GPUs or none."""
    ep = draft.asked.take("plan.ep")
    if ep == whole and ep > 1:
        draft.put(flag, None, "plan.ep")
    elif ep > 1:
        draft.lacks("plan.ep", ep, f"experts lie on all {whole} GPUs of tp x dp there, or on none")


def _offload(draft: Draft, flag: str) -> None:
    """Weights in host memory, in GB of each GPU."""
    share = draft.asked.take("workload.offload")
    if share:
        held = draft.asked.row.get("weights_bytes_per_gpu") or 0.0
        moved = share / max(1 - share, 1e-9) * held
        draft.put(flag, round(moved / 2**30, 1), "workload.offload")


def _id(asked: Asked, name: str) -> str:
    """The id of a model on Hugging Face, else its name."""
    ids = asked.catalogue.model_source(name).huggingface
    return ids[0] if ids else name


def vllm(asked: Asked) -> Launch:
    """`vllm serve`."""
    draft, limits = started(asked, "vllm")
    vllm_flags(draft, limits)
    _apart(draft, "vllm serve")
    return closed(draft, limits, "vllm", f"vllm serve {asked.model}")


def _apart(draft: Draft, command: str) -> None:
    """Prompts apart need more than one server."""
    apart = draft.asked.take("workload.prefill_replicas")
    if apart:
        draft.lacks("workload.prefill_replicas", apart, f"{command} starts one server; --for dynamo or llm-d has both")


def closed(draft: Draft, limits: Limits, target: str, start: str) -> Launch:
    """A launch of one command."""
    asked = draft.asked
    _several(draft, target)
    draft.reasons |= {"plan.order": "ranks lie as the engine places them"}
    draft.close()
    if limits.cache_tokens:
        draft.notes.append(f"its cache holds {limits.cache_tokens:,} tokens, as predicted; it prints what it finds")
    command = command_of(start, draft.flags)
    return Launch(asked.name, target, VERSIONS[target], command, {}, draft.flags, draft.missing, draft.notes,
                  check_of(asked, target))  # fmt: skip


def _several(draft: Draft, target: str) -> None:
    """What a server over several nodes needs beside its command."""
    asked = draft.asked
    if asked.nodes > 1 and target == "vllm":
        draft.notes.append(f"{asked.nodes} nodes: start Ray on each ('ray start'), or give --nnodes, --node-rank and "
                           "--master-addr on each; every node needs the same NCCL_SOCKET_IFNAME")  # fmt: skip
    elif asked.nodes > 1:
        draft.notes.append(f"{asked.nodes} nodes: run it on each under MPI or with the engine's own node rank")


# ---- SGLang ------------------------------------------------------------------------------------------


def sglang_flags(draft: Draft, limits: Limits) -> list[Flag]:
    """Flags of `sglang.launch_server`."""
    asked, plan = draft.asked, draft.asked.plan
    ep = asked.take("plan.ep")
    together = ep > plan.tp and plan.dp > 1
    if together:
        asked.take("plan.tp"), asked.take("plan.dp")
        draft.put("--tp-size", plan.tp * plan.dp, "plan.tp x plan.dp")
        draft.put("--dp-size", plan.dp, "plan.dp")
        draft.put("--enable-dp-attention", None, "plan.ep above plan.tp")
    else:
        draft.set("--tp-size", "plan.tp", always=True)
        draft.set("--dp-size", "plan.dp", 1)
    draft.set("--pp-size", "plan.pp", 1)
    if ep > 1:
        draft.put("--ep-size", ep, "plan.ep")
    if asked.take("plan.dispatcher") == "deepep":
        draft.put("--moe-a2a-backend", "deepep", "plan.dispatcher")
    draft.put("--context-length", limits.longest, limits.from_longest)
    if limits.from_sequences == "workload.sequences":
        draft.put("--max-running-requests", limits.sequences, limits.from_sequences)
    draft.put("--chunked-prefill-size", limits.chunk, limits.from_chunk)
    draft.set("--mem-fraction-static", "workload.memory_share")
    draft.set("--dtype", "dtype", None, TYPES)
    precision_of(draft, _QUANTISED, "--quantization")
    draft.set("--kv-cache-dtype", "workload.kv_cache", asked.row.get("dtype"), {"fp8": "fp8_e4m3"})
    draft.switch("--disable-radix-cache", "workload.prefix_cache", False)
    draft.set("--page-size", "workload.block")
    draft.set("--max-total-tokens", "workload.cache_tokens")
    draft.set("--max-queued-requests", "workload.max_queue")
    _adapters(draft, "--max-loras-per-batch", "--max-loaded-loras")
    _classes(draft)
    draft.set("--cuda-graph-bs-decode", "workload.graph_sizes")
    guess = asked.take("workload.speculative")
    if guess is not None:
        key = "workload.speculative"
        draft.put("--speculative-algorithm", "NEXTN" if guess.draft == "mtp" else "STANDALONE", key)
        if guess.draft != "mtp":
            draft.put("--speculative-draft-model-path", _id(asked, guess.draft), key)
        draft.put("--speculative-num-steps", guess.tokens, key)
        draft.put("--speculative-eagle-topk", 1, key)
        draft.put("--speculative-num-draft-tokens", guess.tokens + 1, key)
    _tiers(draft, ("--hicache-size", "--enable-hierarchical-cache"), 1e9 * plan.tp * plan.pp)
    _offload(draft, "--cpu-offload-gb")
    return draft.flags


def sglang(asked: Asked) -> Launch:
    """`python -m sglang.launch_server`."""
    draft, limits = started(asked, "sglang")
    draft.put("--model-path", asked.model, "model")
    sglang_flags(draft, limits)
    _apart(draft, "sglang.launch_server")
    return closed(draft, limits, "sglang", "python -m sglang.launch_server")


# ---- TensorRT-LLM ------------------------------------------------------------------------------------


def trtllm_flags(draft: Draft, limits: Limits) -> list[Flag]:
    """Flags of `trtllm-serve` behind the model."""
    asked = draft.asked
    draft.set("--tp_size", "plan.tp", always=True)
    draft.set("--pp_size", "plan.pp", 1)
    draft.set("--ep_size", "plan.ep", 1)
    dp = asked.take("plan.dp")
    if dp > 1:
        draft.lacks("plan.dp", dp, f"start {dp} of these behind a router (--for dynamo writes both)")
    draft.put("--max_seq_len", limits.longest, limits.from_longest)
    draft.put("--max_batch_size", limits.sequences, limits.from_sequences)
    draft.put("--max_num_tokens", limits.chunk, limits.from_chunk)
    draft.put("--free_gpu_memory_fraction", limits.memory_share, limits.from_share)
    asked.take("dtype")
    precision_of(draft, {}, "")
    if limits.chunk < int(asked.job.prompt or 0):  # else a longer prompt is refused
        draft.put("--enable_chunked_prefill", None, limits.from_chunk)
    return draft.flags


def cache_options(draft: Draft) -> dict[str, Any]:
    """Options of TensorRT-LLM's cache, which `trtllm-serve` 1.2 takes in a file (llmapi/llm_args.py, KvCacheConfig)."""
    options: dict[str, Any] = {}
    for key, name in (("prefix_cache", "enable_block_reuse"), ("block", "tokens_per_block"),
                      ("cache_tokens", "max_tokens"), ("kv_cache", "dtype")):  # fmt: skip
        value = draft.asked.take(f"workload.{key}")
        if key == "kv_cache" and value not in (None, "fp8"):
            if value != draft.asked.row.get("dtype"):
                draft.lacks("workload.kv_cache", value, "its cache is as the activations or fp8")
        elif value is not None:
            options[name] = value
    return options


def trtllm(asked: Asked) -> Launch:
    """`trtllm-serve`, with its file of options where flags do not say it."""
    draft, limits = started(asked, "trtllm")
    trtllm_flags(draft, limits)
    cache = cache_options(draft)
    options: dict[str, Any] = {"kv_cache_config": cache} if cache else {}
    guess = asked.take("workload.speculative")
    if guess is not None and guess.draft == "mtp":
        options["speculative_config"] = {"decoding_type": "MTP", "num_nextn_predict_layers": guess.tokens}
    elif guess is not None:
        draft.lacks("workload.speculative", guess.draft, "give the draft model in speculative_config by hand")
    files = {}
    if options:
        import yaml

        draft.put("--config", "options.yaml", "workload.kv_cache, .prefix_cache, .block, .cache_tokens, .speculative")
        files["options.yaml"] = yaml.safe_dump(options, sort_keys=False)
    _apart(draft, "trtllm-serve")
    made = closed(draft, limits, "trtllm", f"trtllm-serve {asked.model}")
    return Launch(made.name, made.target, made.version, made.command, files, made.flags, made.missing, made.notes,
                  made.check)  # fmt: skip


# ---- llama.cpp ---------------------------------------------------------------------------------------


def llama_cpp(asked: Asked) -> Launch:
    """`llama-server`: all requests share one context, of which each slot has a part."""
    draft, limits = started(asked, "llama.cpp")
    precision = str(asked.row.get("precision"))
    asked.take("workload.precision"), asked.take("dtype")
    if precision in GGUF:
        draft.put("-hf", f"{asked.model}:{GGUF[precision]}", "model, workload.precision")
        draft.notes.append(f"name a repository of GGUF files in place of {asked.model}, which holds safetensors")
    else:
        draft.lacks("workload.precision", precision, "llama.cpp reads GGUF types and fp16")
        draft.put("-m", f"{asked.config.name}.gguf", "model")
    slots = max(1, limits.sequences if asked.take("workload.sequences") else _slots(asked))
    draft.put("-c", limits.longest * slots, f"{limits.from_longest}, x slots")
    draft.put("-np", slots, "requests at a time")
    draft.put("-ngl", 999 if not asked.take("workload.offload") else _on_gpu(asked), "workload.offload")
    draft.put("-b", limits.chunk, limits.from_chunk)
    draft.put("-ub", min(limits.chunk, 512), "as llama.cpp has it")
    split = asked.take("plan.pp") * asked.take("plan.tp")
    if split > 1:
        tp = asked.plan.tp > 1
        draft.put("--split-mode", "row" if tp else "layer", "plan.tp" if tp else "plan.pp")
        draft.put("--tensor-split", ",".join(["1"] * split), "plan.tp" if tp else "plan.pp")
    caches = {"fp8": None, "int8": "q8_0", "fp16": "f16", "bf16": "bf16", "fp32": "f32"}
    cache = asked.take("workload.kv_cache")
    if cache is not None and caches.get(cache) is None:
        draft.lacks("workload.kv_cache", cache)
    elif cache is not None:
        draft.put("--cache-type-k", caches[cache], "workload.kv_cache")
        draft.put("--cache-type-v", caches[cache], "workload.kv_cache")
    if limits.runtime.fused_attention:
        draft.put("-fa", "on", f"as {limits.runtime.name} has it")
    dp = asked.take("plan.dp")
    if dp > 1:
        draft.lacks("plan.dp", dp, f"start {dp} of these behind a balancer")
    guess = asked.take("workload.speculative")
    if guess is not None and guess.draft != "mtp":
        draft.put("--hf-repo-draft", _id(asked, guess.draft), "workload.speculative.draft")
        draft.put("--draft-max", guess.tokens, "workload.speculative.tokens")
        draft.notes.append(
            "builds of 2026 have --spec-draft-n-max in place of --draft-max, and --spec-type draft-simple"
        )
    elif guess is not None:
        draft.lacks("workload.speculative", "mtp")
    return closed(draft, limits, "llama.cpp", "llama-server")


def _slots(asked: Asked) -> int:
    from simgpu.launching.limits import at_once_of

    return at_once_of(asked) or 1


def _on_gpu(asked: Asked) -> int:
    """Layers on the GPU."""
    return round(asked.config.layers * (1 - float(asked.job.offload)))
