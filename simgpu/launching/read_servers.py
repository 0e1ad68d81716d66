"""Servers read back: command lines of engines, Dynamo's and llm-d's manifests."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simgpu.errors import InputError, shown
from simgpu.launching.manifests import WORKER_NAMES
from simgpu.launching.meant import Config
from simgpu.workload.server.like import server_like

_STARTS = {"vllm": "vllm serve", "sglang": "python -m sglang.launch_server", "trtllm": "trtllm-serve"}
LOAD = {"workload.kind": "serving", "workload.concurrency": 32, "workload.prompt": 1024, "workload.output": 256}
"""A load for a server whose configuration says none."""


def read_server(command: str) -> Config:
    """What a server's command line means. Raises `InputError`."""
    unknown: list[str] = []
    meant = server_like(command, "FILE", unknown)
    made = Config(str(meant.keys.get("workload.runtime", "")), "")
    made.keys = {**LOAD, **meant.keys}
    made.model, made.ignored, made.unknown = meant.model, list(meant.ignored), unknown
    made.notes = [*meant.notes]
    made.keys = _of_serving(made)
    made.gpus = _gpus(made)
    made.notes.append("a server's command line says no load: 32 clients of 1,024 and 256 tokens are set in its place")
    return made


def _of_serving(made: Config) -> dict[str, Any]:
    """Keys of a server at a steady load; those that only a server followed request by request has make it one."""
    only = ("block", "prefix_cache", "max_model_len", "cache_tokens", "graph_sizes", "max_queue", "prefill_replicas",
            "router")  # fmt: skip
    used = [key for key in made.keys if key.removeprefix("workload.") in only]
    keys = dict(made.keys)
    if "workload.prefill_replicas" in used or "workload.router" in used:
        clients = keys.pop("workload.concurrency")
        return {**keys, "workload.kind": "traffic", "workload.clients": clients, "workload.requests": 40 * clients}
    for key in used:
        made.notes.append(f"{key.removeprefix('workload.')} {shown(keys.pop(key))} matters request by request alone "
                          f"(kind: traffic)")  # fmt: skip
    return keys


def _gpus(made: Config) -> int:
    keys = made.keys
    return int(keys.get("plan.tp", 1)) * int(keys.get("plan.pp", 1)) * int(keys.get("plan.dp", 1))


# ---- manifests ---------------------------------------------------------------------------------------


def is_dynamo(data: Mapping[str, Any]) -> bool:
    """True for a graph of Dynamo."""
    return data.get("kind") == "DynamoGraphDeployment"


def is_llm_d(data: Mapping[str, Any]) -> bool:
    """True for values of llm-d's model service."""
    return isinstance(data.get("decode"), Mapping) and isinstance(data.get("modelArtifacts"), Mapping)


def read_dynamo(data: Mapping[str, Any]) -> Config:
    """What a DynamoGraphDeployment means, old (services) or new (components). Raises `InputError`."""
    spec = data.get("spec")
    if not isinstance(spec, Mapping):
        raise InputError("expected a mapping", key="spec")
    workers = [one for one in _components(spec) if one[1] != "frontend" and one[3]]
    if not workers:
        raise InputError("no worker has a command of an engine; expected dynamo.vllm, .sglang or .trtllm", key="spec")
    prompts = [one for one in workers if one[1] == "prefill"]
    others = [one for one in workers if one[1] != "prefill"]
    if len(others) != 1 or len(prompts) > 1:
        names = ", ".join(one[0] for one in workers)
        raise InputError(f"{names}: expected one kind of worker, or one for prompts and one for decodes", key="spec")
    made = read_server(_command(others[0][3], others[0][4]))
    _replicated(made, others[0][2], prompts[0][2] if prompts else 0)
    if prompts:
        apart = read_server(_command(prompts[0][3], prompts[0][4]))
        differ = [key for key in apart.keys if key.startswith("plan.") and apart.keys[key] != made.keys.get(key)
                  and key != "plan.dp"]  # fmt: skip
        if differ:
            made.notes.append(f"prompts run with {', '.join(f'{key} {apart.keys[key]}' for key in differ)}, decodes "
                              "otherwise; the experiment has both as the decodes")  # fmt: skip
    mode = next((word for one in _components(spec) for word in one[4].get("DYN_ROUTER_MODE", "").split()), "")
    routers = {"kv": "prefix", "power-of-two": "power_of_two", "least-loaded": "least_requests"}
    if mode in routers:
        made.keys["workload.router"] = routers[mode]
    made.kind, made.version = "dynamo", "1.4"
    made.keys = _of_serving(made)
    return made


def _components(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, int, list[str], dict[str, str]]]:
    """Name, kind, replicas, words of the engine, and variables of each component."""
    found = spec.get("components")
    if isinstance(found, list):
        for one in found:
            if isinstance(one, Mapping):
                pod = (one.get("podTemplate") or {}).get("spec") or {}
                main = next((box for box in pod.get("containers") or [] if isinstance(box, Mapping)), {})
                yield (str(one.get("name")), str(one.get("type")), int(one.get("replicas") or 1), *_words(main))
        return
    for name, one in (spec.get("services") or {}).items():
        if isinstance(one, Mapping):
            main = ((one.get("extraPodSpec") or {}).get("mainContainer")) or {}
            kind = str(one.get("subComponentType") or one.get("componentType"))
            yield (str(name), kind, int(one.get("replicas") or 1), *_words(main))


def _words(main: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Words of the engine in a container, from its module on, and its variables."""
    variables = {str(one.get("name")): str(one.get("value", "")) for one in main.get("env") or []
                 if isinstance(one, Mapping)}  # fmt: skip
    words = [str(word) for word in [*(main.get("command") or []), *(main.get("args") or [])]]
    if (len(words) > 2 and words[-2] == "-c") or (words and "\n" in words[-1]):
        words = shlex.split(words[-1].replace("\\\n", " "), comments=True)
    start = next((i for i, word in enumerate(words) if word.startswith("dynamo.") and word != "dynamo.frontend"), None)
    return (words[start:] if start is not None else []), variables


_DYNAMO_ONLY = ("--disaggregation-mode", "--kv-transfer-config", "--disaggregation-transfer-backend",
                "--is-prefill-worker", "--is-decode-worker")  # fmt: skip


def _command(words: Sequence[str], variables: Mapping[str, str]) -> str:
    """The engine's own command line for the words of a Dynamo worker."""
    engine = words[0].removeprefix("dynamo.")
    if engine not in _STARTS:
        raise InputError(f"{shown(words[0])} is not known; expected dynamo.vllm, dynamo.sglang, dynamo.trtllm")
    rest, skip = [], False
    for word in words[1:]:
        if skip and not word.startswith("--"):
            skip = False
            continue
        skip = word in _DYNAMO_ONLY and not word.endswith("-worker")
        if word in _DYNAMO_ONLY or word.startswith("--dyn-"):
            skip = not word.endswith("-worker")
            continue
        for name, value in variables.items():
            word = word.replace(f"$({name})", value).replace(f"${{{name}}}", value)
        rest.append(word)
    if engine == "trtllm":
        rest = _serve_words([word for word in rest if word not in ("--model", "--model-path")])
    return f"{_STARTS[engine]} {shlex.join(rest)}"


def _serve_words(words: Sequence[str]) -> list[str]:
    """Words of `dynamo.trtllm` as `trtllm-serve` has them; options of the engine as flags, where there are some."""
    names = {worker: serve for serve, worker in WORKER_NAMES.items()}
    made: list[str] = []
    for word in words:
        if made and made[-1] == "--override-engine-args" and (flags := _engine_flags(word)) is not None:
            made[-1:] = flags
        else:
            made.append(names.get(word, word))
    return made


def _engine_flags(text: str) -> list[str] | None:
    """Flags for `--override-engine-args`; None where one of its options has no flag."""
    try:
        options = json.loads(text)
        cache = options.pop("kv_cache_config", {})
        flags = ["--enable_chunked_prefill"] if options.pop("enable_chunked_prefill", False) else []
        flags += ["--kv_cache_dtype", str(cache.pop("dtype"))] if "dtype" in cache else []
        return None if options or cache else flags
    except (ValueError, AttributeError, TypeError):
        return None


def _replicated(made: Config, replicas: int, apart: int) -> None:
    """Workers as replicas of the plan: each has the replicas that share its experts."""
    together = int(made.keys.get("plan.dp", 1))
    made.put("plan.dp", together * (replicas + apart), 1)
    if apart:
        made.keys["workload.prefill_replicas"] = together * apart
    made.gpus = _gpus(made)


def read_llm_d(data: Mapping[str, Any]) -> Config:
    """What values of llm-d's model service mean. Raises `InputError`."""
    decode, prefill = data["decode"], data.get("prefill") or {}
    box = next((one for one in decode.get("containers") or [] if isinstance(one, Mapping)), {})
    sizes = decode.get("parallelism") or {}
    tensor, together = int(sizes.get("tensor") or 1), int(sizes.get("data") or 1)
    words = [str(word) for word in box.get("args") or []]
    words = [word for word in words if not word.startswith("--kv-transfer-config")]
    name = str((data.get("modelArtifacts") or {}).get("name") or "")
    command = f"vllm serve {shlex.quote(name)} -tp {tensor} -dp {together} {shlex.join(words)}"
    made = read_server(command)
    apart = int(prefill.get("replicas") or 1) if prefill.get("create") else 0
    _replicated(made, int(decode.get("replicas") or 1), apart)
    made.kind, made.version = "llm-d", "0.5"
    made.keys = _of_serving(made)
    return made
