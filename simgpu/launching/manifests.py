"""Kubernetes manifests: NVIDIA Dynamo's graph of components, and the values of llm-d's model service.

Forms are those of Dynamo 1.4 (nvidia.com/v1beta1 DynamoGraphDeployment, recipes/ of its repository) and of the chart
llm-d-modelservice 0.4 (guides/ of llm-d 0.5).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from simgpu.errors import InputError
from simgpu.launching.answer import Draft, Flag, Launch, of_kind
from simgpu.launching.asked import SERVES, Asked
from simgpu.launching.engines import cache_options, sglang_flags, started, trtllm_flags, vllm_flags
from simgpu.launching.limits import Limits
from simgpu.launching.load import check_of

DYNAMO, LLM_D = "1.4", "0.5 (llm-d-modelservice 0.4)"
_ENGINES: dict[str, tuple[Callable[[Draft, Limits], list[Flag]], str]] = {
    "vllm": (vllm_flags, "--model"),
    "sglang": (sglang_flags, "--model-path"),
    "trtllm": (trtllm_flags, "--model"),
}
WORKER_NAMES = {
    "--tp_size": "--tensor-parallel-size", "--pp_size": "--pipeline-parallel-size",
    "--ep_size": "--expert-parallel-size", "--max_seq_len": "--max-seq-len", "--max_batch_size": "--max-batch-size",
    "--max_num_tokens": "--max-num-tokens", "--free_gpu_memory_fraction": "--free-gpu-memory-fraction",
}  # fmt: skip
"""Flags of `trtllm-serve` as Dynamo's worker names them (components/src/dynamo/trtllm/backend_args.py)."""
_NIXL = '{"kv_connector":"NixlConnector","kv_role":"kv_both"}'
ROUTERS = {
    "round_robin": "round-robin",
    "prefix": "kv",
    "least_requests": "least-loaded",
    "power_of_two": "power-of-two",
}


def _engine(asked: Asked, target: str, known: tuple[str, ...]) -> str:
    """The engine of a row, where the target runs it. Raises `InputError`."""
    of_kind(asked, SERVES, target)
    engine = str(asked.job.runtime).split("@")[0]
    if engine not in known:
        raise InputError(f"{target} runs {', '.join(known)}, not {engine}", key="workload.runtime")
    return engine


def _workers(asked: Asked) -> tuple[int, int, int]:
    """Workers for prompts and for decodes (or for both), and GPUs of each.

    Replicas that share experts are one worker with data-parallel attention; other replicas are workers of their own.
    """
    plan = asked.plan
    together = max(1, plan.ep // plan.tp) if plan.ep > plan.tp else 1
    replicas = plan.dp // together
    apart = int(asked.take("workload.prefill_replicas") or 0) // together
    return apart, replicas - apart, plan.tp * plan.pp * together


def _flags(draft: Draft, limits: Limits, engine: str) -> list[Flag]:
    """Flags of an engine in a worker: its replicas alone."""
    asked = draft.asked
    write, named = _ENGINES[engine]
    draft.put(named, asked.model, "model")
    write(draft, limits)
    plan = asked.plan
    together = max(1, plan.ep // plan.tp) if plan.ep > plan.tp else 1
    for name in ("--data-parallel-size", "--dp-size"):
        draft.flags = [flag for flag in draft.flags if flag.flag != name]
        if together > 1 and engine == ("vllm" if name == "--data-parallel-size" else "sglang"):
            draft.put(name, together, "plan.ep / plan.tp: replicas that share experts")
    if engine == "trtllm":
        draft.missing = [line for line in draft.missing if not line.startswith("plan.dp")]
        draft.flags = _worker_flags(draft)
    return draft.flags


def _worker_flags(draft: Draft) -> list[Flag]:
    """Flags of `dynamo.trtllm`: what it has no flag for is an option of the engine."""
    options: dict[str, Any] = {}
    flags = []
    for flag in draft.flags:
        if flag.flag == "--enable_chunked_prefill":
            options["enable_chunked_prefill"] = True
        else:
            flags.append(Flag(WORKER_NAMES.get(flag.flag, flag.flag), flag.value, flag.key))
    cache = cache_options(draft)
    block = cache.pop("tokens_per_block", None)
    if block is not None:
        flags.append(Flag("--kv-block-size", block, "workload.block"))
    if cache:
        options["kv_cache_config"] = cache
    if options:
        flags.append(Flag("--override-engine-args", json.dumps(options), "workload.kv_cache, .prefix_cache, .chunk"))
    return flags


def dynamo(asked: Asked) -> Launch:
    """A DynamoGraphDeployment: a front end and workers, with prompts apart where the row has them so."""
    engine = _engine(asked, "dynamo", ("vllm", "sglang", "trtllm"))
    draft, limits = started(asked, engine)
    apart, decodes, gpus = _workers(asked)
    words = [word for flag in _flags(draft, limits, engine) for word in flag.words]
    router = asked.take("workload.router") or "round_robin"
    if router not in ROUTERS:
        draft.lacks("workload.router", router, "the front end routes round-robin, kv, least-loaded, power-of-two")
    image = f"nvcr.io/nvidia/ai-dynamo/{'tensorrtllm' if engine == 'trtllm' else engine}-runtime:1.4.2"
    front = {"name": "Frontend", "type": "frontend", "replicas": 1,
             "podTemplate": _pod(image, ["-m", "dynamo.frontend"], 0,
                                 {"DYN_ROUTER_MODE": ROUTERS.get(router, "round-robin")})}  # fmt: skip
    components = [front]
    for name, kind, count in (("PrefillWorker", "prefill", apart), ("DecodeWorker", "decode", decodes)):
        if not count:
            continue
        mode = _mode(engine, kind) if apart else []
        components.append(
            {"name": name if apart else "Worker", "type": kind if apart else "worker", "replicas": count,
             "sharedMemorySize": "64Gi",
             "podTemplate": _pod(image, ["-m", f"dynamo.{engine}", *words, *mode], min(gpus, asked.per_node), {})}
        )  # fmt: skip
    if gpus > asked.cluster.gpus_per_node:
        draft.notes.append(f"a worker of {gpus} GPUs spans {-(-gpus // asked.per_node)} nodes: give it multinode")
    draft.close()
    data = {"apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment",
            "metadata": {"name": _slug(asked.name)},
            "spec": {"backendFramework": engine, "components": components}}  # fmt: skip
    command = "kubectl apply -f dynamo.yaml"
    return Launch(asked.name, "dynamo", DYNAMO, command, {"dynamo.yaml": _yaml(data)}, draft.flags, draft.missing,
                  draft.notes, check_of(asked, "vllm", f"http://{_slug(asked.name)}-frontend:8000"))  # fmt: skip


def _mode(engine: str, kind: str) -> list[str]:
    words = ["--disaggregation-mode", kind]
    if engine == "vllm":
        words += ["--kv-transfer-config", _NIXL]
    if engine == "sglang":
        words += ["--disaggregation-transfer-backend", "nixl"]
    return words


def _pod(image: str, args: list[str], gpus: int, environment: dict[str, str]) -> dict[str, Any]:
    main: dict[str, Any] = {"name": "main", "image": image, "command": ["python3"], "args": args}
    if environment:
        main["env"] = [{"name": name, "value": value} for name, value in environment.items()]
    if gpus:
        main["resources"] = {"requests": {"nvidia.com/gpu": str(gpus)}, "limits": {"nvidia.com/gpu": str(gpus)}}
    return {"spec": {"containers": [main]}}


def llm_d(asked: Asked) -> Launch:
    """Values of the chart llm-d-modelservice: decode and prefill workers of vLLM behind the inference gateway."""
    _engine(asked, "llm-d", ("vllm",))
    draft, limits = started(asked, "vllm")
    apart, decodes, gpus = _workers(asked)
    flags = _flags(draft, limits, "vllm")
    plan = asked.plan
    together = gpus // (plan.tp * plan.pp)
    words = [shlex.join(flag.words) if len(flag.words) == 1 else f"{flag.flag}={flag.words[1]}" for flag in flags
             if flag.flag not in ("--model", "--tensor-parallel-size", "--data-parallel-size")]  # fmt: skip
    asked.take("workload.router")

    def worker(count: int) -> dict[str, Any]:
        args = [*words, f"--kv-transfer-config={_NIXL}"] if apart else words
        return {
            "create": True,
            "replicas": count,
            "parallelism": {"tensor": plan.tp, "data": together},
            "containers": [{"name": "vllm", "image": "ghcr.io/llm-d/llm-d-cuda:v0.5.0", "modelCommand": "vllmServe",
                            "args": list(args), "mountModelVolume": True}],
        }  # fmt: skip

    data = {
        "multinode": gpus > asked.cluster.gpus_per_node,
        "modelArtifacts": {"uri": f"hf://{asked.model}", "name": asked.model, "authSecretName": "llm-d-hf-token"},
        "routing": {"proxy": {"enabled": bool(apart), "targetPort": 8000}},
        "accelerator": {"type": "nvidia"},
        "decode": worker(decodes),
        "prefill": worker(apart) if apart else {"create": False},
    }
    draft.close()
    name = _slug(asked.name)
    command = f"helm install {name} llm-d-modelservice/llm-d-modelservice -f llm-d.yaml"
    return Launch(asked.name, "llm-d", LLM_D, command, {"llm-d.yaml": _yaml(data)}, draft.flags, draft.missing,
                  draft.notes, check_of(asked, "vllm", "http://GATEWAY:8000"))  # fmt: skip


def _slug(name: str) -> str:
    """A name as Kubernetes takes it."""
    return "".join(one if one.isalnum() else "-" for one in name.lower()).strip("-")[:50] or "simgpu"


def _yaml(data: Any) -> str:
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000))
