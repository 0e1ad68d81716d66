"""The commands of servers: serve and capacity, and the picture of a server over time."""

import csv
import json

import pytest
from command_line import command, simgpu

from simgpu.study.capacity.finding import _fewest, _largest

FILE = """
experiment: plan
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100
  workload: {kind: traffic, rate: 400, prompt: 500, output: 20, requests: 150, tpot_limit_s: 0.02, ttft_limit_s: 0.1}
zip: [{workload.lengths: [fixed, uniform], workload.spread: [0, 0.5]}]
plots:
  - {kind: server, where: {workload.lengths: fixed}}
"""
LIKE = "vllm bench serve --model meta-llama/Llama-3.2-1B --request-rate 50 --num-prompts 40 --port 8000"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "plan.yaml").write_text(FILE)
    return tmp_path / "plan.yaml"


def test_the_largest_load_is_the_last_that_keeps_the_limits():
    assert _largest(lambda load: load <= 37.3, 10.0, False) == pytest.approx(37.3, rel=0.011)
    assert _largest(lambda load: load <= 0.4, 10.0, False) == pytest.approx(0.4, rel=0.011)
    assert _largest(lambda load: int(load) <= 37, 10.0, True) == 37
    assert _largest(lambda load: False, 10.0, False) == 0
    assert _fewest(lambda count: count >= 11, 100.0, 10.0, 1) == 11
    assert _fewest(lambda count: False, 100.0, 10.0, 1) is None


@pytest.mark.slow
def test_capacity_says_the_rate_and_the_gpus(file):
    rows = json.loads(simgpu("capacity", file, "--format", "json").stdout)["rows"]
    assert len(rows) == 2
    for row in rows:
        assert 0 < row["largest_rate_p10"] <= row["largest_rate"] <= row["largest_rate_p90"]
        assert row["gpus_needed"] == row["replicas_needed"] >= 1
        assert row["tpot_99th_s"] <= 0.02 and row["ttft_99th_s"] <= 0.1
        assert row["usd_per_hour"] > 0  # by the catalogue's price, which a note names
    found = simgpu("capacity", file).stdout
    assert "largest rate" in found and "Price: h100-sxm" in found


@pytest.mark.slow
def test_capacity_needs_limits_and_requests(file):
    for change, says in (("workload.tpot_limit_s=null", "expected it or tpot_limit_s"), ("workload.rate=null", "rate")):
        found = command("capacity", file, "--set", change, "--set", "workload.ttft_limit_s=null")
        assert found.returncode == 2 and says in found.stderr and "Traceback" not in found.stderr
    assert "has no requests to follow" in command("capacity", "latency_throughput").stderr


def test_a_benchmark_is_served_as_its_command_line_says(tmp_path):
    found = simgpu("serve", "--cluster", "dgx-h100", "--like", LIKE, "-o", tmp_path / "out")
    assert "TTFT" in found.stdout and "no effect on times: --port" in found.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "requests.csv").read_text().splitlines()))
    assert len(rows) == 40 and all(float(row["sent_s"]) < float(row["first_s"]) < float(row["last_s"]) for row in rows)
    refused = command("serve", "--cluster", "dgx-h100", "--like", "vllm bench serve --reqest-rate 8")
    assert refused.returncode == 2 and "did you mean '--request-rate'?" in refused.stderr


@pytest.mark.slow
def test_a_server_is_drawn_over_time(file, tmp_path):
    simgpu("run", file, "-o", tmp_path / "out", "--plot-format", "png")
    assert (tmp_path / "out" / "plot1.png").stat().st_size > 10_000
    found = command("run", file, "--set", "workload.kind=serving", "-o", tmp_path / "other")
    assert found.returncode == 2
