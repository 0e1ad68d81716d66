"""`vllm bench serve` (vllm/benchmarks/serve.py and datasets/random.py of vLLM 0.20, July 2026).

Gaps are gamma with the shape `--burstiness`, and stretched so that the last request comes at n / rate; a ramp is not
stretched. Lengths of the data set `random` are uniform whole numbers in floor(L (1 - r)) to ceil(L (1 + r)), and end
where asked: the tool sets ignore_eos itself. TTFT counts from when `--max-concurrency` lets a request go.
"""

from __future__ import annotations

import json
from math import ceil, floor, inf
from typing import Any

from simgpu.errors import shown
from simgpu.workload.server.data_sets import SHAREGPT
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
    "--backend --endpoint-type --base-url --endpoint --host --port --header --tokenizer --tokenizer-mode --logprobs"
    " --metadata --result-dir --result-filename --percentile-metrics --metric-percentiles"
    " --request-id-prefix --top-p --top-k --min-p --temperature --frequency-penalty --presence-penalty"
    " --repetition-penalty --served-model-name --ready-check-timeout-sec --chat-template-kwargs --extra-body --label"
    " --timeline-itl-thresholds --random-batch-size"
)
SWITCHES = (
    "--disable-tqdm --profile --save-result --save-detailed --append-result --ignore-eos --trust-remote-code --insecure"
    " --plot-timeline --plot-dataset-stats --skip-tokenizer-init --no-stream --no-oversample --skip-chat-template"
    " --disable-shuffle --disable-log-requests"
)


def _ratio(text: str) -> tuple[float, float]:
    """A range ratio of prompts and outputs: one number, or a JSON object with `input` and `output`."""
    data = json.loads(text) if text.lstrip().startswith("{") else {"input": float(text), "output": float(text)}
    ends = float(data.get("input", 0.0)), float(data.get("output", 0.0))
    if not all(0 <= one < 1 for one in ends):
        raise ValueError("expected 0 to less than 1")
    return ends


def read(given: Given) -> Meant:
    """What a command line of `vllm bench serve` sends."""
    meant = Meant(model=given("--model", ""))
    meant.load({"requests": given("--num-prompts", 1000), "seed": given("--seed")})
    meant.load({"max_concurrency": given("--max-concurrency"), "warmups": given("--num-warmups") or None})
    meant.load(_arrivals(given))
    meant.load(_lengths(given, given("--dataset-name", "random")))
    meant.load(limits(given))
    return meant


def _arrivals(given: Given) -> Keys:
    ramp = given("--ramp-up-strategy")
    rate = given("--request-rate", inf)
    if ramp is None:
        found = arrivals(rate, given("--burstiness", 1.0))
        return {**found, "scaled": True} if "rate" in found and found.get("arrivals") != "constant" else found
    if ramp not in ("linear", "exponential"):
        given.refuse("--ramp-up-strategy", f"{shown(ramp)} is not known; expected linear or exponential")
    if rate != inf:
        given.refuse("--request-rate", "is not of a ramp; expected --ramp-up-start-rps and --ramp-up-end-rps")
    start, end = given("--ramp-up-start-rps"), given("--ramp-up-end-rps")
    if not start or not end:
        given.refuse("--ramp-up-strategy", "expected --ramp-up-start-rps and --ramp-up-end-rps above 0")
    how = "requests" if ramp == "linear" else "factor"
    return {"arrivals": "ramp", "rate": start, "end_rate": end, "ramp": how, "burstiness": given("--burstiness")}


def _lengths(given: Given, data: str) -> Keys:
    if data == "random":
        prompt = given.first("--input-len", "--random-input-len", default=1024)
        output = given.first("--output-len", "--random-output-len", default=128)
        ratios = given("--random-range-ratio", (0.0, 0.0))
        return {**window(prompt, output, ratios), "prefix_tokens": given("--random-prefix-len")}
    if data in ("prefix_repetition", "prefix-repetition"):
        return {
            "prompt": given("--prefix-repetition-suffix-len", 256),
            "output": given.first("--output-len", "--prefix-repetition-output-len", default=128),
            "prefix_tokens": given("--prefix-repetition-prefix-len", 256),
            "prefixes": given("--prefix-repetition-num-prefixes", 10),
        }
    if data == "burstgpt" and given("--dataset-path"):
        return {"lengths_file": given("--dataset-path")}
    if data == "sharegpt" and not given.told:
        return _first_turns(given)
    return needs_lengths(given, "--dataset-name", data)


def _first_turns(given: Given) -> Keys:
    """First turns of ShareGPT, with answers as long as in the data set unless the command line says another length."""
    made: Keys = {"lengths": "sharegpt", "prompt": round(SHAREGPT.prompt.mean), "output": round(SHAREGPT.output.mean)}
    output = given.first("--output-len", "--sharegpt-output-len", default=0)
    return {**made, **between("output", output, output, output)} if output else made


def window(prompt: int, output: int, ratios: tuple[float, float]) -> Keys:
    """Lengths that are uniform about their means by ratios."""
    if not any(ratios):
        return {"prompt": prompt, "output": output}
    made: Keys = {"lengths": "uniform"}
    for name, mean, ratio in (("prompt", prompt, ratios[0]), ("output", output, ratios[1])):
        made |= between(name, mean, max(floor(mean * (1 - ratio)), 1), max(ceil(mean * (1 + ratio)), 1))
    return made


KINDS: dict[str, Any] = {
    "--burstiness": number, "--dataset-name": str, "--dataset-path": str, "--goodput": list, "--input-len": positive,
    "--max-concurrency": positive, "--model": str, "--num-prompts": positive,
    "--num-warmups": whole, "--output-len": positive,
    "--prefix-repetition-num-prefixes": positive, "--prefix-repetition-output-len": positive,
    "--prefix-repetition-prefix-len": whole, "--prefix-repetition-suffix-len": positive,
    "--ramp-up-end-rps": number, "--ramp-up-start-rps": number, "--ramp-up-strategy": str,
    "--random-input-len": positive, "--random-output-len": positive, "--random-prefix-len": whole,
    "--random-range-ratio": _ratio, "--request-rate": number, "--seed": whole, "--sharegpt-output-len": positive,
}  # fmt: skip

TOOL = Tool(
    name="'vllm bench serve ...'",
    starts=("vllm bench serve", r"(.*/)?benchmarks/benchmark_serving\.py", r"benchmark_serving\.py"),
    source="vLLM 0.20 (vllm/benchmarks/serve.py)",
    read=read,
    kinds=KINDS,
    nothing=NOTHING,
    switches=SWITCHES,
    refused={
        "--use-beam-search": "beams are not modelled; leave it out",
        "--lora-modules": "LoRA is not modelled; leave it out",
        "--probe-request-rate": "probes beside the load are not modelled; leave it out",
    },
)
