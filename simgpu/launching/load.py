"""The measurement that checks a prediction: the command of a load tool with the same load, and what it should print."""

from __future__ import annotations

import shlex
from math import ceil

from simgpu.launching.answer import Check
from simgpu.launching.asked import Asked
from simgpu.launching.limits import at_once_of

LOAD = (
    "kind", "batch", "prompt", "output", "concurrency", "rate", "lengths", "waves", "prefix_hit", "arrivals", "clients",
    "requests", "duration_s", "burstiness", "spread", "output_spread", "prompt_range", "output_range", "seed", "stages",
    "ttft_limit_s", "tpot_limit_s", "e2e_limit_s", "prefix_tokens", "prefixes", "think_s", "trace", "images",
    "max_concurrency", "distinct", "turns", "end_rate", "ramp", "scaled", "swing", "day_s", "profile",
    "clients_start_s", "time_scale", "trace_start_s", "trace_share", "trace_block", "spread_times", "lengths_file",
    "resample", "classes", "session", "trace_sessions", "trace_deltas", "mix", "users",
    "front_s", "warmup",
)  # fmt: skip
"""Keys of a workload that say what is sent to a server, not how the server runs."""

_PRINTS = {"vllm": ("Mean TTFT (ms)", "Mean TPOT (ms)", "Output token throughput (tok/s)"),
           "trtllm": ("Mean TTFT (ms)", "Mean TPOT (ms)", "Output token throughput (tok/s)"),
           "sglang": ("Mean TTFT (ms)", "Mean TPOT (ms)", "Output token throughput (tok/s)"),
           "llama.cpp": ("TTFT (ms)", "TPOT (ms)", "S_TG t/s")}  # fmt: skip
_COLUMNS = (("ttft_s", 1e3, "ms"), ("tpot_s", 1e3, "ms"), ("output_tokens_per_s", 1.0, "tokens/s"))


def check_of(asked: Asked, target: str, base: str = "") -> Check:
    """The command of a load tool that sends what the row says, and what it should print."""
    words = {"vllm": _vllm, "sglang": _sglang, "trtllm": _trtllm, "llama.cpp": _llama}[target](asked)
    if base:
        words += ["--base-url", base]
    names = _PRINTS[target]
    expected = []
    for name, (column, scale, unit) in zip(names, _COLUMNS, strict=True):
        value = asked.row.get(column)
        if value is None:
            continue
        ends = [asked.row.get(f"{column}_{end}") for end in ("p10", "p90")]
        low, high = (None if one is None else one * scale for one in ends)
        expected.append((f"'{name}'", value * scale, low, high, unit))
    return Check(shlex.join(words), "once the server answers; read these lines of what it prints", tuple(expected))


def _sent(asked: Asked) -> tuple[int, int, int, float | None]:
    """Tokens of a prompt and an answer, requests at a time (0: unlimited), and requests a second."""
    job = asked.job
    at_once = at_once_of(asked) * asked.plan.dp
    return int(job.prompt or 0), int(job.output or 0), at_once, getattr(job, "rate", None)


def _count(asked: Asked, at_once: int, rate: float | None) -> int:
    """Requests that a test should send: ten of each client, or five minutes of a rate."""
    if getattr(asked.job, "requests", None):
        return int(asked.job.requests)
    if asked.job.kind == "inference":
        return at_once
    return ceil(300 * rate) if rate else 10 * max(at_once, 1)


def _load(asked: Asked, names: dict[str, str]) -> list[str]:
    prompt, output, at_once, rate = _sent(asked)
    words = [names["prompt"], str(prompt), names["output"], str(output)]
    words += [names["count"], str(_count(asked, at_once, rate))]
    if at_once:
        words += [names["at_once"], str(at_once)]
    if rate:
        words += ["--request-rate", f"{rate:g}"]
        burst = getattr(asked.job, "burstiness", 1.0)
        if burst != 1.0 and "burst" in names:
            words += [names["burst"], f"{burst:g}"]
    return words


_VLLM = {"prompt": "--random-input-len", "output": "--random-output-len", "count": "--num-prompts",
         "at_once": "--max-concurrency", "burst": "--burstiness"}  # fmt: skip


def _vllm(asked: Asked) -> list[str]:
    start = ["vllm", "bench", "serve", "--model", asked.model, "--dataset-name", "random", "--ignore-eos"]
    return start + _load(asked, _VLLM)


def _sglang(asked: Asked) -> list[str]:
    start = ["python", "-m", "sglang.bench_serving", "--backend", "sglang", "--model", asked.model,
             "--dataset-name", "random", "--random-range-ratio", "1"]  # fmt: skip
    return start + _load(asked, {key: name for key, name in _VLLM.items() if key != "burst"})


def _trtllm(asked: Asked) -> list[str]:
    start = ["python", "-m", "tensorrt_llm.serve.scripts.benchmark_serving", "--model", asked.model,
             "--dataset-name", "random", "--random-ids", "--ignore-eos"]  # fmt: skip
    return start + _load(asked, _VLLM)


def _llama(asked: Asked) -> list[str]:
    prompt, output, at_once, _ = _sent(asked)
    slots = max(at_once, 1)
    return ["llama-batched-bench", "-m", f"{asked.config.name}.gguf", "-ngl", "999", "-npp", str(prompt),
            "-ntg", str(output), "-npl", str(slots), "-c", str((prompt + output) * slots)]  # fmt: skip
