"""InferenceX, once InferenceMAX (utils/bench_serving/benchmark_serving.py and benchmarks/benchmark_lib.sh, July 2026).

A fork of vLLM's old `benchmark_serving.py` in which lengths are uniform whole numbers in int(L r) to L, and r is 1
unless given. The shell function `run_benchmark_serving` sends ten prompts a client where it is not told, all at once,
with `--ignore-eos` and two warm-up requests a client, which are all the first prompt.
"""

from __future__ import annotations

from math import inf
from typing import Any

from simgpu.workload.server.tools import vllm_bench
from simgpu.workload.server.tools.sglang_bench import up_to
from simgpu.workload.server.tools.words import Given, Meant, Tool, arrivals, limits, needs_lengths, number, positive

TEN = 10
"""Prompts of a client."""


def read(given: Given) -> Meant:
    """What InferenceX sends."""
    meant = Meant(model=given("--model", ""))
    clients = given("--max-concurrency")
    meant.load({"requests": given("--num-prompts", TEN * clients if clients else 1000), "max_concurrency": clients})
    meant.load(arrivals(given("--request-rate", inf), given("--burstiness", 1.0)) | {"seed": given("--seed")})
    shell = "--input-len" in given or "--output-len" in given
    if not shell and given("--dataset-name", "sharegpt") != "random":
        meant.load(needs_lengths(given, "--dataset-name", given("--dataset-name", "sharegpt")))
    else:
        prompt = given.first("--input-len", "--random-input-len", default=1024)
        output = given.first("--output-len", "--random-output-len", default=128)
        meant.load(up_to(prompt, output, given.share("--random-range-ratio", 1.0)))
    meant.load({"prefix_tokens": given("--random-prefix-len")})
    meant.load({"warmups": given("--num-warmups", 2 * clients if shell and clients else 0) or None})
    meant.load(limits(given))
    if not shell and not given("--ignore-eos"):
        meant.notes.append("outputs are simulated to their full length; without --ignore-eos some end earlier")
    return meant


_OWN: dict[str, Any] = {"--random-range-ratio": number, "--ignore-eos": bool, "--max-concurrency": positive}

TOOL = Tool(
    name="'run_benchmark_serving ...' of InferenceX",
    starts=("run_benchmark_serving", r"(.*/)?bench_serving/benchmark_serving\.py", r".*[Ii]nference(MAX|X).*\.py"),
    source="InferenceX at 086eabb (utils/bench_serving)",
    read=read,
    kinds={**vllm_bench.KINDS, **_OWN},
    nothing=vllm_bench.NOTHING + " --best-of --server-pid --bench-serving-dir --hf-output-len",
    switches=vllm_bench.SWITCHES.replace("--ignore-eos ", "") + " --use-chat-template --dsv4",
    refused=dict(vllm_bench.TOOL.refused),
)
