"""Command lines that start servers: `vllm serve`, `sglang.launch_server`, `trtllm-serve`.

Flags were read in vLLM 0.20 (vllm/engine/arg_utils.py), SGLang 0.5.23 (sglang/srt/arg_groups/fields) and TensorRT-LLM
1.2 (tensorrt_llm/commands/serve.py). With `--enable-dp-attention` SGLang cuts its tensor-parallel group into data-
parallel ones: TP of attention is tp / dp, and experts lie on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simgpu.documents import read_yaml
from simgpu.errors import InputError, shown
from simgpu.workload.server.tools.words import Given, Meant, Tool, number, pairs, positive

_TYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32"}
_CACHES = {"fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "int8_per_token_head": "int8", **_TYPES}
_WEIGHTS = {"fp8": "fp8", "awq": "int4", "gptq": "int4", "awq_marlin": "int4", "gptq_marlin": "int4",
            "w8a8_fp8": "fp8", "modelopt_fp8": "fp8", "modelopt_fp4": "fp4"}  # fmt: skip
_EAGER = "steps without CUDA graphs are not modelled; leave it out"
_SPECULATES = (
    "is not modelled by this flag; expected --set workload.speculative.draft=mtp, or a model of the catalogue, and "
    ".tokens=N"
)
_LORA = "expected --set workload.lora={adapters: N, rank: R, max_loras: SLOTS}, since a command does not say how many"


def _types(given: Given, meant: Meant, flags: Mapping[str, tuple[str, Mapping[str, str]]]) -> None:
    """Types of weights, activations and the cache."""
    for flag, (key, names) in flags.items():
        value = given(flag, "auto")
        if value != "auto":
            meant.keys[key] = names.get(value, value)


def _put(given: Given, meant: Meant, keys: Mapping[str, str]) -> None:
    for flag, key in keys.items():
        if flag in given:
            meant.keys[key] = given(flag)


# ---- vLLM --------------------------------------------------------------------------------------------


def read_vllm(given: Given) -> Meant:
    """The server that `vllm serve` starts."""
    meant = Meant({"workload.runtime": "vllm"}, given.words[0] if given.words else given("--model", ""))
    _put(given, meant, {
        "--tensor-parallel-size": "plan.tp", "--pipeline-parallel-size": "plan.pp", "--data-parallel-size": "plan.dp",
        "--max-num-seqs": "workload.sequences", "--max-num-batched-tokens": "workload.chunk",
        "--block-size": "workload.block", "--gpu-memory-utilization": "workload.memory_share",
        "--enable-prefix-caching": "workload.prefix_cache", "--max-model-len": "workload.max_model_len",
    })  # fmt: skip
    if given("--enable-expert-parallel"):
        meant.keys["plan.ep"] = meant.keys.get("plan.tp", 1) * meant.keys.get("plan.dp", 1)
    _exchange(given("--all2all-backend", ""), meant)
    if given("--no-enable-prefix-caching"):
        meant.keys["workload.prefix_cache"] = False
    if "--num-gpu-blocks-override" in given:
        meant.keys["workload.cache_tokens"] = given("--num-gpu-blocks-override") * given("--block-size", 16)
    _types(given, meant, {"--dtype": ("dtype", _TYPES), "--kv-cache-dtype": ("workload.kv_cache", _CACHES),
                          "--quantization": ("workload.precision", _WEIGHTS)})  # fmt: skip
    for sizes in ("--cudagraph-capture-sizes", "--cuda-graph-sizes"):  # the second up to vLLM 0.11
        if sizes in given:
            meant.keys["workload.graph_sizes"] = _sizes(given, sizes)
    if "--speculative-config" in given:
        meant.keys["workload.speculative"] = _guesses(given)
    if given("--scheduling-policy") == "priority":
        meant.notes.append("--scheduling-policy priority needs the shares of classes: --set workload.policy=priority "
                           "--set workload.classes=[...]; it is simulated as fcfs")  # fmt: skip
    if given("--performance-mode", "balanced") == "throughput":
        meant.notes.append("--performance-mode throughput doubles vLLM's defaults; give --max-num-seqs and "
                           "--max-num-batched-tokens to simulate it")  # fmt: skip
    for flag in ("--async-scheduling", "--no-async-scheduling"):
        if flag in given:
            meant.notes.append(f"{flag} is as the version of the runtime has it (works ahead from 0.14 on)")
    return meant


def _exchange(backend: str, meant: Meant) -> None:
    """What brings rows to experts of other replicas, where a server has such: DeepEP, or as it is without."""
    if meant.keys.get("plan.ep", 1) > meant.keys.get("plan.tp", 1) and backend.startswith("deepep"):
        meant.keys["plan.dispatcher"] = "deepep"


def _sizes(given: Given, flag: str) -> list[int]:
    """Sizes of CUDA graphs."""
    sizes = given(flag)
    if not all(size.isdigit() and int(size) for size in sizes):
        given.refuse(flag, f"{shown(' '.join(sizes))}: expected whole numbers of 1 or more")
    return sorted({int(size) for size in sizes})


def _guesses(given: Given) -> dict[str, Any]:
    """What a speculative configuration guesses with: layers of the model itself, or a model of the catalogue."""
    flag, config = "--speculative-config", given("--speculative-config")
    method = config.get("method", "draft_model" if "model" in config else "")
    tokens = config.get("num_speculative_tokens", "")
    if not (method.endswith("mtp") or (method == "draft_model" and config.get("model"))):
        given.refuse(flag, f"method {shown(method)} is not modelled; expected mtp or draft_model")
    if not tokens.isdigit() or not int(tokens):
        given.refuse(flag, f"num_speculative_tokens {shown(tokens)}: expected 1 or more")
    return {"draft": "mtp" if method.endswith("mtp") else config["model"], "tokens": int(tokens)}


def _length(text: str) -> int:
    """Tokens as vLLM writes them: 32768, 32k or 32K (the latter 1024 each)."""
    scale = {"k": 1000, "K": 1024, "m": 10**6, "M": 1 << 20}.get(text[-1:], 1)
    value = float(text[:-1] if scale > 1 else text) * scale
    if not 1 <= value < 1e12:
        raise ValueError("expected tokens, 1 or more")
    return int(value)


VLLM = Tool(
    name="'vllm serve ...'",
    starts=("vllm serve", r"vllm\.entrypoints\.openai\.api_server", r"vllm\.entrypoints\.cli\.main serve"),
    source="vLLM 0.20 (vllm/engine/arg_utils.py)",
    read=read_vllm,
    kinds={
        "--model": str, "--tensor-parallel-size": positive, "--pipeline-parallel-size": positive,
        "--data-parallel-size": positive, "--enable-expert-parallel": bool, "--max-num-seqs": positive,
        "--all2all-backend": str,
        "--max-num-batched-tokens": positive, "--block-size": positive, "--gpu-memory-utilization": number,
        "--kv-cache-dtype": str, "--quantization": str, "--dtype": str, "--enable-prefix-caching": bool,
        "--no-enable-prefix-caching": bool, "--num-gpu-blocks-override": positive, "--async-scheduling": bool,
        "--no-async-scheduling": bool, "--performance-mode": str, "--max-model-len": _length,
        "--scheduling-policy": str,
        "--cuda-graph-sizes": list, "--cudagraph-capture-sizes": list, "--speculative-config": pairs,
    },
    nothing=(
        "--host --port --served-model-name --tokenizer --tokenizer-mode --tokenizer-revision --revision"
        " --code-revision --seed --download-dir --load-format --config-format --hf-overrides"
        " --hf-config-path --hf-token --reasoning-parser --tool-call-parser --chat-template"
        " --api-key --uvicorn-log-level"
        " --limit-mm-per-prompt --mm-processor-kwargs --max-logprobs --distributed-executor-backend --model-impl"
        " --trust-remote-code-revision --generation-config --override-generation-config --swap-space --root-path"
        " --ssl-keyfile --ssl-certfile --max-log-len --response-role --runner --convert --task --rope-scaling"
        " --rope-theta --otlp-traces-endpoint --api-server-count --data-parallel-backend --data-parallel-address"
        " --data-parallel-rpc-port --data-parallel-size-local --prefix-caching-hash-algo --compilation-config -O"
        " --attention-backend --max-seq-len-to-capture --stream-interval"
        " --allowed-origins --kv-events-config --max-cudagraph-capture-size"
    ),
    switches=(
        "--trust-remote-code --disable-log-requests --disable-log-stats --enable-log-requests --no-enable-log-requests"
        " --enable-auto-tool-choice --enable-chunked-prefill --no-enable-chunked-prefill --language-model-only"
        " --disable-uvicorn-access-log --disable-fastapi-docs --enable-server-load-tracking --enable-prompt-embeds"
        " --disable-cascade-attn --headless --enable-sleep-mode --disable-hybrid-kv-cache-manager --skip-mm-profiling"
        " --enable-reasoning --calculate-kv-scales --enable-prompt-tokens-details --enable-force-include-usage"
    ),
    refused={
        "--enforce-eager": _EAGER, "--speculative-model": _SPECULATES,
        "--num-speculative-tokens": _SPECULATES, "--enable-lora": _LORA, "--lora-modules": _LORA,
        "--cpu-offload-gb": "expected --set workload.offload=SHARE of the layers' weights",
        "--kv-cache-memory-bytes": "expected --set workload.cache_tokens=TOKENS",
        "--kv-transfer-config": "expected --set workload.prefill_replicas=N for prompts apart",
        "--decode-context-parallel-size": "is not modelled request by request; leave it out",
        "--enable-dbo": "is not modelled; leave it out", "--enable-eplb": "is not modelled; leave it out",
        "--num-scheduler-steps": "several steps at once are not modelled; leave it out",
        "--long-prefill-token-threshold": "is not modelled; leave it out",
        "--max-num-partial-prefills": "is not modelled; leave it out",
        "--max-long-partial-prefills": "is not modelled; leave it out",
    },
    short={
        "-tp": "--tensor-parallel-size", "-dp": "--data-parallel-size", "-pp": "--pipeline-parallel-size",
        "-q": "--quantization", "-ep": "--enable-expert-parallel", "-dcp": "--decode-context-parallel-size",
        "-asc": "--api-server-count",
    },
)  # fmt: skip


# ---- SGLang ------------------------------------------------------------------------------------------


def read_sglang(given: Given) -> Meant:
    """The server that `sglang.launch_server` starts."""
    meant = Meant({"workload.runtime": "sglang"}, given("--model-path", ""))
    _put(given, meant, {
        "--tp-size": "plan.tp", "--dp-size": "plan.dp", "--pp-size": "plan.pp", "--ep-size": "plan.ep",
        "--max-running-requests": "workload.sequences", "--mem-fraction-static": "workload.memory_share",
        "--page-size": "workload.block", "--max-total-tokens": "workload.cache_tokens",
        "--context-length": "workload.max_model_len", "--max-queued-requests": "workload.max_queue",
    })  # fmt: skip
    chunk = given("--chunked-prefill-size", 0)
    if chunk > 0:
        meant.keys["workload.chunk"] = chunk
    elif chunk < 0:
        meant.notes.append("--chunked-prefill-size -1 is simulated with the default chunk")
    if given("--enable-dp-attention"):
        tp, dp = given("--tp-size", 1), given("--dp-size", 1)
        if tp % dp:
            given.refuse("--dp-size", f"{dp} does not divide --tp-size {tp}")
        meant.keys |= {"plan.tp": tp // dp, "plan.dp": dp, "plan.ep": tp}
    _exchange(given("--moe-a2a-backend", ""), meant)
    for sizes in ("--cuda-graph-bs-decode", "--cuda-graph-bs"):  # the second in earlier versions
        if sizes in given:
            meant.keys["workload.graph_sizes"] = _sizes(given, sizes)
    if given("--disable-radix-cache"):
        meant.keys["workload.prefix_cache"] = False
    if given("--schedule-policy", "fcfs") != "fcfs":
        meant.notes.append(f"--schedule-policy {given('--schedule-policy')} is simulated as fcfs")
    if given("--disable-overlap-schedule"):
        meant.notes.append("--disable-overlap-schedule is not modelled: the scheduler works ahead")
    _types(given, meant, {"--dtype": ("dtype", _TYPES), "--kv-cache-dtype": ("workload.kv_cache", _CACHES),
                          "--quantization": ("workload.precision", _WEIGHTS)})  # fmt: skip
    return meant


SGLANG = Tool(
    name="'python -m sglang.launch_server ...'",
    starts=(r"sglang\.launch_server", "sglang serve", r"(.*/)?launch_server\.py"),
    source="SGLang 0.5.23 (sglang/srt/arg_groups/fields)",
    read=read_sglang,
    kinds={
        "--model-path": str, "--tp-size": positive, "--dp-size": positive, "--ep-size": positive, "--pp-size": positive,
        "--max-running-requests": positive, "--chunked-prefill-size": int, "--mem-fraction-static": number,
        "--kv-cache-dtype": str, "--quantization": str, "--dtype": str, "--disable-radix-cache": bool,
        "--page-size": positive, "--max-total-tokens": positive, "--enable-dp-attention": bool,
        "--schedule-policy": str, "--disable-overlap-schedule": bool, "--context-length": positive,
        "--max-queued-requests": positive, "--cuda-graph-bs": list, "--cuda-graph-bs-decode": list,
        "--moe-a2a-backend": str,
    },
    nothing=(
        "--host --port --served-model-name --tokenizer-path --tokenizer-mode --random-seed"
        " --download-dir --load-format --reasoning-parser --tool-call-parser --chat-template --api-key --log-level"
        " --revision --nnodes --node-rank --dist-init-addr --nccl-port --attention-backend --sampling-backend"
        " --prefill-attention-backend --decode-attention-backend --moe-runner-backend --deepep-mode"
        " --fp8-gemm-runner-backend --grammar-backend --watchdog-timeout --stream-interval --decode-log-interval"
        " --cuda-graph-max-bs --max-prefill-tokens --schedule-conservativeness --load-balance-method"
        " --mm-attention-backend --json-model-override-args --model-loader-extra-config --moe-dense-tp-size"
        " --radix-eviction-policy --dist-timeout --device --preferred-sampling-params"
        " --tokenizer-worker-num --kt-weight-path"
    ),
    switches=(
        "--trust-remote-code --enable-metrics --enable-cache-report --log-requests --skip-server-warmup"
        " --enable-p2p-check"
        " --enable-dp-lm-head --disable-custom-all-reduce --enable-flashinfer-allreduce-fusion --enable-symm-mem"
        " --disable-shared-experts-fusion --enable-nccl-nvls --enable-torch-compile --disable-chunked-prefix-cache"
        " --enable-multimodal --disable-cuda-graph-padding --skip-tokenizer-init --language-model-only"
    ),
    refused={
        "--disable-cuda-graph": _EAGER, "--speculative-algorithm": _SPECULATES,
        "--speculative-num-steps": _SPECULATES, "--speculative-eagle-topk": _SPECULATES,
        "--speculative-num-draft-tokens": _SPECULATES, "--speculative-draft-model-path": _SPECULATES,
        "--enable-mixed-chunk": "steps of prompts and decodes together are not modelled for SGLang; leave it out",
        "--enable-lora": _LORA, "--lora-paths": _LORA, "--dllm-algorithm": "diffusion models are not modelled",
        "--enable-two-batch-overlap": "is not modelled; leave it out",
        "--enable-hierarchical-cache": "expected --set workload.tiers=[{kind: host, size: ...}]",
        "--disaggregation-mode": "expected --set workload.prefill_replicas=N for prompts apart",
        "--enable-eplb": "is not modelled; leave it out",
        "--cpu-offload-gb": "expected --set workload.offload=SHARE of the layers' weights",
    },
    short={
        "--model": "--model-path", "--tp": "--tp-size", "--dp": "--dp-size", "--ep": "--ep-size", "--pp": "--pp-size",
        "--tensor-parallel-size": "--tp-size", "--data-parallel-size": "--dp-size",
        "--expert-parallel-size": "--ep-size", "--pipeline-parallel-size": "--pp-size",
        "--enable-hicache": "--enable-hierarchical-cache",
    },
)  # fmt: skip


# ---- TensorRT-LLM ------------------------------------------------------------------------------------

_OPTIONS = {
    ("max_batch_size",): "workload.sequences", ("max_num_tokens",): "workload.chunk",
    ("max_seq_len",): "workload.max_model_len",
    ("tensor_parallel_size",): "plan.tp", ("moe_expert_parallel_size",): "plan.ep",
    ("kv_cache_config", "free_gpu_memory_fraction"): "workload.memory_share",
    ("kv_cache_config", "enable_block_reuse"): "workload.prefix_cache",
    ("kv_cache_config", "tokens_per_block"): "workload.block",
    ("kv_cache_config", "max_tokens"): "workload.cache_tokens",
    ("kv_cache_config", "dtype"): "workload.kv_cache",
}  # fmt: skip
"""Keys of the file of `--config` (`--extra_llm_api_options`), which replaces flags."""
_NOT_MODELLED = ("speculative_config", "enable_attention_dp", "lora_config", "context_parallel_size")


def read_trtllm(given: Given) -> Meant:
    """The server that `trtllm-serve` starts."""
    words = given.words[1:] if given.words[:1] == ["serve"] else given.words
    meant = Meant({"workload.runtime": "trtllm"}, words[0] if words else "")
    _put(given, meant, {
        "--tp_size": "plan.tp", "--pp_size": "plan.pp", "--ep_size": "plan.ep",
        "--max_batch_size": "workload.sequences",
        "--max_num_tokens": "workload.chunk", "--free_gpu_memory_fraction": "workload.memory_share",
        "--max_seq_len": "workload.max_model_len",
    })  # fmt: skip
    _types(given, meant, {"--kv_cache_dtype": ("workload.kv_cache", _CACHES)})
    if "--config" in given:
        _options(Path(given("--config")), meant)
    return meant


def _options(file: Path, meant: Meant) -> None:
    """What a file of options says."""
    document = read_yaml(file)
    if not isinstance(document.data, dict):
        raise InputError("holds no keys; expected options of TensorRT-LLM", file=file)
    for name, value in document.data.items():
        if name in _NOT_MODELLED and value:
            raise document.error(f"{shown(value)} is not modelled request by request; leave it out", (name,))
        inner = value if isinstance(value, dict) and name == "kv_cache_config" else {None: value}
        for below, one in inner.items():
            key = _OPTIONS.get((name,) if below is None else (name, below))
            if key is None:
                meant.ignored.append(name if below is None else f"{name}.{below}")
            elif one != "auto":
                meant.keys[key] = _CACHES.get(one, one) if isinstance(one, str) else one


TRTLLM = Tool(
    name="'trtllm-serve MODEL ...'",
    starts=("trtllm-serve",),
    source="TensorRT-LLM 1.2 (tensorrt_llm/commands/serve.py)",
    read=read_trtllm,
    kinds={
        "--tp_size": positive, "--pp_size": positive, "--ep_size": positive, "--max_batch_size": positive,
        "--max_num_tokens": positive, "--free_gpu_memory_fraction": number, "--kv_cache_dtype": str, "--config": str,
        "--max_seq_len": positive,
    },
    nothing=(
        "--host --port --backend --log_level --tokenizer --custom_tokenizer --gpus_per_node"
        " --num_postprocess_workers --revision --reasoning_parser --tool_parser --metadata_server_config_file"
        " --server_role --otlp_traces_endpoint --media_io_kwargs --chat_template --custom_module_dirs --max_input_len"
    ),
    switches="--trust_remote_code --enable_chunked_prefill --fail_fast_on_attention_window_too_large",
    refused={
        "--max_beam_width": "beams are not modelled; leave it out",
        "--cp_size": "is not modelled request by request; leave it out",
        "--cluster_size": "is not modelled; leave it out",
        "--disagg_cluster_uri": "expected --set workload.prefill_replicas=N for prompts apart",
    },
    short={
        "--tensor_parallel_size": "--tp_size", "--pipeline_parallel_size": "--pp_size",
        "--moe_expert_parallel_size": "--ep_size", "--context_parallel_size": "--cp_size",
        "--kv_cache_free_gpu_memory_fraction": "--free_gpu_memory_fraction", "--extra_llm_api_options": "--config",
        "--moe_cluster_parallel_size": "--cluster_size",
    },
)  # fmt: skip
