"""Published load tests that are served again: what their rows say of lengths, precision and the engine."""

from __future__ import annotations

import csv
from statistics import fmean

import pytest

from simgpu import Catalogue, Traffic
from simgpu.lab.validation.load_tests import LoadTests, _scatter
from simgpu.workload.server.load import requests_of

BENCH = "vllm bench serve --dataset-name random --random-input-len 4000 --random-output-len 200 --num-prompts 500"
ROW = {
    "gpu": "h100-sxm", "model": "Qwen/Qwen3-8B", "framework": "vllm", "framework_version": "0.11.0", "bench": BENCH,
    "hardware": "A single GPU.", "section": "ShareGPT", "serve": "vllm serve Qwen/Qwen3-8B", "source": "a/b.md:1",
    "mean_input_tokens": "215", "mean_output_tokens": "196", "requests": "200", "tpot_mean_s": "0.02",
    "ttft_mean_s": "1", "ttft_p50_s": "1", "tpot_p50_s": "0.02", "output_tokens_per_s": "5000",
}  # fmt: skip
NAMES = [*ROW, "suspicious", "kv_cache_gib", "request_rate", "max_concurrency"]


def again(tmp_path, **other):
    file = tmp_path / "tests.csv"
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, NAMES, restval="")
        table.writeheader()
        table.writerow({**ROW, **other})
    tests = LoadTests(file, Catalogue())
    found = list(tests.served())
    assert not tests.refused
    return found[0].done


def test_other_lengths_than_the_command_asks_for_are_those_of_sharegpt():
    row = {**dict.fromkeys(NAMES, ""), **ROW}
    job = Traffic(arrivals="burst", requests=200, **{"prompt": 215, "output": 196, **_scatter(row, 215, 196)})
    prompts, outputs = zip(*((one.prompt, one.output) for one in requests_of(job)), strict=True)
    assert (fmean(prompts), fmean(outputs)) == (pytest.approx(215, rel=0.01), pytest.approx(196, rel=0.01))
    assert min(outputs) <= 6 and max(outputs) > 500
    assert _scatter({**row, "section": "random 2K input"}, 1996, 99) == {}
    assert _scatter(row, 3990, 199) == {}


@pytest.mark.slow
def test_the_command_says_precision_and_whether_the_loop_works_ahead(tmp_path):
    plain = again(tmp_path)
    assert again(tmp_path, serve="vllm serve Qwen/Qwen3-8B-FP8").rules.blocks > plain.rules.blocks
    ahead = again(tmp_path, serve="vllm serve Qwen/Qwen3-8B --async-scheduling")
    assert ahead.rules.ahead and not plain.rules.ahead
    assert ahead.tpot.mean < plain.tpot.mean
