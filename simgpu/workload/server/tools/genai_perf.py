"""`genai-perf profile` (genai_perf 0.0.16) and `aiperf profile` (aiperf 0.13), its successor with the same flags.

Without a rate they keep `--concurrency` requests on their way, 1 unless given. A data set of `--num-prompts` prompts,
100 unless given, is made first and sent again and again, so that prompts come from the cache once all were sent;
lengths are normal with a standard deviation, cut below 1. The model decides where an output ends unless `--osl` says.
At a rate genai-perf sends at equal gaps, aiperf at random. Delays are in milliseconds.
"""

from __future__ import annotations

import json
import re
from typing import Any

from simgpu.errors import shown
from simgpu.workload.server.tools.sglang_bench import up_to
from simgpu.workload.server.tools.vllm_bench import window
from simgpu.workload.server.tools.words import (
    Given,
    Keys,
    Meant,
    Tool,
    limits,
    needs_lengths,
    number,
    numbers,
    positive,
    whole,
)

PROMPTS = 100
"""Prompts of a data set unless it is told."""
TOKENS = 550
"""Tokens of a prompt unless it is told."""


def _read(given: Given, equal_gaps: bool) -> Meant:
    meant = Meant(model=given("--model", ""))
    turns = round(given("--session-turns-mean", 1.0))
    meant.load({"seed": given("--random-seed", 0)})
    meant.load({**limits(given), "timeout_s": given("--request-timeout-seconds")})
    traced = _trace(given)
    if traced:
        meant.load(traced)
        return meant
    meant.load(_lengths(given, turns))
    count = given("--num-prompts", PROMPTS)
    meant.load({"distinct": count if turns == 1 else None})
    if turns > 1:
        meant.load({"turns": turns, "think_s": given("--session-turn-delay-mean", 0.0) / 1000})
    if given("--shared-system-prompt-length"):
        meant.load({"prefix_tokens": given("--shared-system-prompt-length")})
    if given("--num-prefix-prompts"):
        meant.load({"prefixes": given("--num-prefix-prompts"), "prefix_tokens": given("--prefix-prompt-length", 100)})
    _load(given, meant, equal_gaps)
    if given("--warmup-request-count"):
        meant.notes.append(
            "warm-up requests are not sent: which prompts of its data set the cache then holds is not known"
        )
    if "ignore_eos" not in " ".join(given("--extra-inputs", [])):
        meant.notes.append("outputs are simulated to their full length; without ignore_eos some end earlier")
    return meant


def _load(given: Given, meant: Meant, equal_gaps: bool) -> None:
    """Rates or clients, one or a list of them."""
    seconds, total = given("--benchmark-duration"), given.first("--num-sessions", "--request-count")
    clients = [round(one) for one in given("--concurrency", [])]
    rates = given("--request-rate", [])
    if "--user-centric-rate" in given:
        meant.load(_users(given, total, seconds))
        return
    meant.load({"duration_s": seconds})
    if rates:
        meant.load({**_pattern(given, equal_gaps), "max_concurrency": clients[0] if clients else None})
        few = total or (None if seconds else 10)
        cases: list[tuple[str, Keys]] = [(f"{rate:g}/s", {"rate": rate, "requests": few}) for rate in rates]
    else:
        cases = []
        for one in clients or [1]:
            requests = total or (None if seconds else max(10, 2 * one))
            start = given("--concurrency-ramp-duration")
            cases.append((f"{one} clients", {"clients": one, "requests": requests, "clients_start_s": start}))
    meant.loads(cases)


def _users(given: Given, total: int | None, seconds: float | None) -> Keys:
    """Users who each send a turn every users / rate seconds."""
    rate, users, turns = given("--user-centric-rate"), given("--num-users"), round(given("--session-turns-mean", 1.0))
    if users is None:
        given.refuse("--user-centric-rate", "expected --num-users with it")
    if turns < 2 or not rate:
        given.refuse("--user-centric-rate", "expected a rate above 0, and --session-turns-mean of 2 turns at least")
    sessions = given("--num-sessions") or (-(-total // turns) if total else None)
    if sessions is None and seconds is None:
        given.refuse("--user-centric-rate", "expected --num-sessions, --request-count or --benchmark-duration")
    return {"arrivals": "users", "users": users, "rate": rate, "requests": sessions}


def _pattern(given: Given, equal_gaps: bool) -> Keys:
    pattern = given("--arrival-pattern", "constant" if equal_gaps else "poisson")
    if pattern not in ("constant", "poisson", "gamma"):
        given.refuse("--arrival-pattern", f"{shown(pattern)} is not known; expected constant, poisson or gamma")
    shape = given("--arrival-smoothness", 1.0) if pattern == "gamma" else None
    return {"arrivals": pattern, "burstiness": shape}


def _mix(given: Given, turns: int) -> Keys:
    """Pairs of lengths with a share in percent: `256|10,128|5:40;512,256:60`, in brackets, or as JSON."""
    text = given("--seq-dist").strip()
    if text.startswith("{"):
        try:
            pairs = [tuple(one.get(key, 0) for key in _JSON) for one in json.loads(text)["pairs"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            pairs = []
    else:
        pairs = [found.groups("0") for found in re.finditer(_PAIR, text)]
        if re.sub(_PAIR, "", text).strip("[],; "):
            pairs = []
    if not pairs:
        given.refuse("--seq-dist", f"{shown(text)}: expected ISL,OSL:PERCENT;..., each length perhaps as MEAN|STDDEV")
    made = [{"prompt": int(one[0]), "prompt_deviation": float(one[1]), "output": int(one[2]),
             "output_deviation": float(one[3]), "share": float(one[4]) / 100} for one in pairs]  # fmt: skip
    total = 100 * sum(one["share"] for one in made)
    if abs(total - 100) > 1e-4:
        given.refuse("--seq-dist", f"shares add up to {total:g}; expected 100 percent")
    if "--random-range-ratio" in given:
        given.refuse("--random-range-ratio", "is not of --seq-dist; leave it out")
    if turns > 1:
        given.refuse("--seq-dist", "of conversations is not modelled; expected --isl and --osl")
    return {"mix": made}


_NUMBER = r"(?:\|(\d+(?:\.\d+)?|\.\d+))?"
_PAIR = rf"\(?\s*(\d+){_NUMBER}\s*,\s*(\d+){_NUMBER}\s*\)?\s*:\s*(\d+(?:\.\d+)?|\.\d+)"
_JSON = ("isl", "isl_stddev", "osl", "osl_stddev", "prob")


def _lengths(given: Given, turns: int = 1) -> Keys:
    if "--seq-dist" in given:
        return _mix(given, turns)
    if "--public-dataset" in given:
        return needs_lengths(given, "--public-dataset", given("--public-dataset"))
    prompt, output = given("--isl", TOKENS), given("--osl")
    if output is None and not given.told:
        given.refuse("--osl", "is missing; expected the tokens of an output, which the model decides on otherwise")
    ratio = given("--random-range-ratio")
    if ratio is not None:
        lower = given("--random-corpus-style", "vllm") == "sglang"
        return up_to(prompt, output, ratio) if lower else window(prompt, output, (ratio, ratio))
    wide = [given(flag, 0.0) for flag in ("--isl-stddev", "--osl-stddev")]
    found: Keys = {"prompt": prompt, "output": output}
    if any(wide):
        found |= {"lengths": "normal", "spread": wide[0] / prompt, "output_spread": wide[1] / (output or 1)}
    return found


def _trace(given: Given) -> Keys:
    """A trace that is replayed, or nothing."""
    file = given("--input-file")
    if file is None:
        return {}
    kind = given("--custom-dataset-type", "mooncake_trace")
    if kind not in ("mooncake_trace", "burst_gpt_trace"):
        return needs_lengths(given, "--custom-dataset-type", kind)
    start, end = given("--fixed-schedule-start-offset", 0), given("--fixed-schedule-end-offset")
    faster = given.first("--synthesis-speedup-ratio", "--replay-speedup", default=1.0)
    return {
        "trace": str(file), "trace_start_s": start / 1000, "duration_s": None if end is None else (end - start) / 1000,
        "time_scale": 1 / faster if faster != 1 else None, "trace_block": given("--isl-block-size"),
    }  # fmt: skip


def read_genai(given: Given) -> Meant:
    """What a command line of `genai-perf profile` sends."""
    return _read(given, equal_gaps=True)


def read_ai(given: Given) -> Meant:
    """What a command line of `aiperf profile` sends."""
    return _read(given, equal_gaps=False)


_KINDS: dict[str, Any] = {
    "--concurrency": numbers, "--extra-inputs": list, "--goodput": list, "--input-file": str, "--isl": positive,
    "--isl-stddev": number, "--model": str, "--num-prefix-prompts": whole, "--num-prompts": positive,
    "--num-sessions": positive, "--osl": positive, "--osl-stddev": number, "--prefix-prompt-length": whole,
    "--random-seed": whole, "--request-count": positive, "--request-rate": numbers, "--seq-dist": str,
    "--session-turn-delay-mean": number,
    "--session-turns-mean": number, "--warmup-request-count": whole,
}  # fmt: skip
_SHORT = {
    "-m": "--model", "-u": "--url", "-g": "--goodput", "-H": "--header",
    "--sequence-distribution": "--seq-dist", "--num-warmup-requests": "--warmup-request-count",
    "-v": "--verbose", "-s": "--stability-percentage",
    "--synthetic-input-tokens-mean": "--isl", "--prompt-input-tokens-mean": "--isl", "--output-tokens-mean": "--osl",
    "--prompt-output-tokens-mean": "--osl", "--synthetic-input-tokens-stddev": "--isl-stddev",
    "--prompt-input-tokens-stddev": "--isl-stddev", "--output-tokens-stddev": "--osl-stddev",
    "--prompt-output-tokens-stddev": "--osl-stddev", "--num-dataset-entries": "--num-prompts",
    "--num-requests": "--request-count", "--num-conversations": "--num-sessions",
    "--conversation-num": "--num-sessions",
    "--conversation-turn-mean": "--session-turns-mean", "--conversation-turn-delay-mean": "--session-turn-delay-mean",
    "--prompt-prefix-pool-size": "--num-prefix-prompts", "--prefix-prompt-pool-size": "--num-prefix-prompts",
    "--prompt-prefix-length": "--prefix-prompt-length", "--vllm-burstiness": "--arrival-smoothness",
    "--request-rate-mode": "--arrival-pattern", "--model-names": "--model",
    "--prompt-input-tokens-block-size": "--isl-block-size", "--synthetic-input-tokens-block-size": "--isl-block-size",
}  # fmt: skip
_NOTHING = (
    "--endpoint --endpoint-type --url --tokenizer --tokenizer-revision --artifact-dir --profile-export-file --header"
    " --server-metrics-url --server-metrics-urls --backend"
    " --model-selection-strategy --service-kind --measurement-interval --stability-percentage --batch-size-text"
    " --grpc-method --checkpoint-dir --session-turns-stddev --conversation-turn-stddev"
    " --session-turn-delay-stddev --conversation-turn-delay-stddev"
)
_SWITCHES = (
    "--streaming --verbose --generate-plots --enable-checkpointing --tokenizer-trust-remote-code"
    " --output-tokens-mean-deterministic --fixed-schedule"
)
_REFUSED = {
    "--image-width-mean": "images are not modelled here; leave it out",
    "--audio-length-mean": "audio is not modelled here; leave it out",
    "--session-concurrency": "is not modelled; expected --concurrency",
}

_AI_ONLY = ("--arrival-pattern", "--arrival-smoothness", "--isl-block-size")

GENAI = Tool(
    name="'genai-perf profile ...'",
    starts=("genai-perf profile",),
    source="genai-perf 0.0.16",
    read=read_genai,
    kinds=_KINDS,
    nothing=_NOTHING,
    switches=_SWITCHES,
    refused={**_REFUSED, "--session-delay-ratio": "is not modelled; leave it out"},
    short={short: flag for short, flag in _SHORT.items() if flag not in _AI_ONLY},
    append=("--extra-inputs",),
)

AI = Tool(
    name="'aiperf profile ...'",
    starts=("aiperf profile",),
    source="aiperf 0.13",
    read=read_ai,
    kinds={
        **_KINDS, "--request-timeout-seconds": number, "--concurrency-ramp-duration": number, "--arrival-pattern": str,
        "--arrival-smoothness": number,
        "--benchmark-duration": number, "--custom-dataset-type": str,
        "--fixed-schedule-end-offset": number, "--fixed-schedule-start-offset": number,
        "--isl-block-size": positive, "--public-dataset": str, "--random-corpus-style": str,
        "--random-range-ratio": number, "--replay-speedup": number, "--shared-system-prompt-length": whole,
        "--num-users": positive, "--synthesis-speedup-ratio": number, "--user-centric-rate": number,
    },
    nothing=_NOTHING + (
        " --ui --ui-type --api-key --workers-max --max-workers --benchmark-grace-period"
        " --record-processors --profile-export-level --export-level --slice-duration --log-level --gpu-telemetry"
        " --output-artifact-dir --profile-export-prefix --dataset-sampling-strategy --custom-endpoint"
        " --connection-reuse-strategy --warmup-duration --num-warmup-sessions --warmup-concurrency"
        " --warmup-request-rate --warmup-arrival-pattern --warmup-grace-period --prompt-corpus --server-metrics"
    ),
    switches=_SWITCHES + (
        " --use-server-token-count --use-legacy-max-tokens --extra-verbose --fixed-schedule-auto-offset --auto-plot"
        " --no-gpu-telemetry --no-server-metrics --show-trace-timing --export-http-trace --no-fixed-schedule"
    ),
    refused={
        **_REFUSED,
        "--prefill-concurrency": "is not modelled; leave it out",
        "--request-cancellation-rate": "cancelled requests are not modelled; leave it out",
        "--request-rate-ramp-duration": "is not modelled; leave it out, or write a scenario with a profile",
        "--request-rate-series": "expected a scenario with workload.profile of the same points",
    },
    short=_SHORT,
    append=("--extra-inputs",),
)  # fmt: skip
