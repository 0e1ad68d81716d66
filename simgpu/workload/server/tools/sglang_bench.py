"""`sglang.bench_serving` (sglang/benchmark/serving.py and datasets of SGLang 0.5.23).

Its data set is sharegpt unless `--dataset-name` says another. Lengths of `random` are uniform whole numbers in
max(int(L r), 1) to L, and r is 0 unless given: half of L on average. Gaps are exponential. Outputs end where asked
unless `--disable-ignore-eos` is given.
"""

from __future__ import annotations

from math import inf

from simgpu.workload.server.tools.words import (
    Given,
    Keys,
    Meant,
    Tool,
    arrivals,
    between,
    limits,
    needs_lengths,
    number,
    positive,
    whole,
)

NOTHING = (
    "--backend --base-url --host --port --ready-check-timeout-sec --served-model-name --tokenizer --output-file"
    " --top-logprobs-num --token-ids-logprob --logprob-start-len --temperature --top-p --extra-request-body"
    " --profile-activities --profile-start-step --profile-steps --profile-num-steps --profile-stages"
    " --profile-output-dir --profile-prefix --profile-prefill-url --profile-decode-url --prompt-suffix"
    " --flush-cache-timeout --tag --header --rust-worker-threads --dataset-offset"
)
SWITCHES = (
    "--output-details --print-requests --disable-tqdm --disable-stream --return-logprob --return-routed-experts"
    " --cache-report --apply-chat-template --profile --plot-throughput --profile-by-stage"
    " --tokenize-prompt --gsp-fast-prepare --gsp-send-routing-key --gsp-ordered --rust-client --pd-separated"
    " --trust-remote-code"
)


WARMUPS = 1
"""Requests with the first prompt before the run, unless it is told; `--flush-cache` empties the cache behind them."""


def read(given: Given) -> Meant:
    """What a command line of `sglang.bench_serving` sends."""
    data = given("--dataset-name", "sharegpt")
    meant = Meant(model=given("--model", ""))
    meant.load({"requests": given("--num-prompts", 1000), "seed": given("--seed", 42)})
    meant.load({"max_concurrency": given("--max-concurrency")})
    meant.load(arrivals(given("--request-rate", inf)))
    meant.load(_lengths(given, data))
    meant.load(limits(given))
    if data == "mooncake":
        _replay(given, meant)
    elif "workload.turns" not in meant.keys and not given("--flush-cache"):
        meant.load({"warmups": given("--warmup-requests", WARMUPS) or None})
    if given("--disable-ignore-eos"):
        meant.notes.append("outputs are simulated to their full length; with --disable-ignore-eos some end earlier")
    return meant


def _lengths(given: Given, data: str) -> Keys:
    if data in ("random", "random-ids"):
        ratio = given.share("--random-range-ratio", 0.0)
        prompt = given.first("--random-input-len", "--random-input", default=1024)
        output = given.first("--random-output-len", "--random-output", default=1024)
        return up_to(prompt, output, ratio)
    if data == "generated-shared-prefix":
        groups, each = given("--gsp-num-groups", 64), given("--gsp-prompts-per-group", 16)
        ratio = given.share("--gsp-range-ratio", 1.0)
        lengths = up_to(given("--gsp-question-len", 128), given("--gsp-output-len", 256), ratio)
        turns = given("--gsp-num-turns", 1)
        shared = {"prefixes": groups, "prefix_tokens": given("--gsp-system-prompt-len", 2048)}
        return {**lengths, **shared, "requests": groups * each, "turns": turns if turns > 1 else None}
    if data == "mooncake" and given("--dataset-path"):
        return {}
    return needs_lengths(given, "--dataset-name", data)


def up_to(prompt: int, output: int, ratio: float) -> Keys:
    """Lengths that are uniform from a share of their nominal ones up to these."""
    if ratio == 1:
        return {"prompt": prompt, "output": output}
    made: Keys = {"lengths": "uniform"}
    for name, most in (("prompt", prompt), ("output", output)):
        low = max(int(most * ratio), 1)
        made |= between(name, round((low + most) / 2), low, most)
    return made


def _replay(given: Given, meant: Meant) -> None:
    """A Mooncake trace at its own times."""
    for key in ("arrivals", "rate"):
        meant.keys.pop(f"workload.{key}", None)
    meant.load({"trace": given("--dataset-path"), "time_scale": given("--mooncake-slowdown-factor")})


TOOL = Tool(
    name="'python -m sglang.bench_serving ...'",
    starts=(r"sglang\.bench_serving", r"(.*/)?bench_serving\.py", r"sglang\.benchmark\.serving"),
    source="SGLang 0.5.23 (sglang/benchmark/serving.py)",
    read=read,
    kinds={
        "--dataset-name": str, "--dataset-path": str, "--disable-ignore-eos": bool, "--flush-cache": bool,
        "--goodput": list, "--warmup-requests": whole,
        "--gsp-num-groups": positive, "--gsp-num-turns": positive, "--gsp-output-len": positive,
        "--gsp-prompts-per-group": positive, "--gsp-question-len": positive, "--gsp-range-ratio": number,
        "--gsp-system-prompt-len": whole, "--max-concurrency": positive, "--model": str,
        "--mooncake-slowdown-factor": number, "--num-prompts": positive, "--random-input": positive,
        "--random-input-len": positive, "--random-output": positive, "--random-output-len": positive,
        "--random-range-ratio": number, "--request-rate": number, "--seed": whole,
    },
    nothing=NOTHING,
    switches=SWITCHES,
    refused={
        "--image-count": "images are not modelled here; use kind serving, or random text",
        "--image-resolution": "images are not modelled here; use kind serving, or random text",
        "--lora-name": "LoRA is not modelled; leave it out",
        "--mooncake-num-rounds": "rounds of a trace are not modelled; leave it out",
        "--gsp-group-distribution": "groups of unequal popularity are not modelled; leave it out",
        "--fake-prefill": "is not modelled; leave it out",
    },
)  # fmt: skip
