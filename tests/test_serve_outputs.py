"""What comes out of a server that is followed: tables, files, traces and pictures."""

import json
from itertools import pairwise

import pytest
from command_line import command, simgpu

from simgpu import Traffic, simulate
from simgpu.render.columns import cell_of
from simgpu.render.knee import knee_of, knee_words
from simgpu.render.requests_files import tables_of, write_requests
from simgpu.render.requests_trace import request_events

LIKE = "--model meta-llama/Llama-3.2-1B"
FILE = """
experiment: loads
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100
  workload: {kind: traffic, rate: 20, prompt: 500, output: 20, requests: 150, tpot_limit_s: 0.02, ttft_limit_s: 0.1}
vary:
  workload.rate: [20, 4000]
plots:
  - {kind: line, x: workload.rate, y: [ttft_99th_s], name: knee}
  - {kind: steps, where: {workload.rate: 20}, window: [0, 1], name: steps}
"""


@pytest.fixture(scope="module")
def done():
    job = Traffic(rate=60.0, requests=120, prompt=800, output=40, lengths="uniform", spread=0.5, prefix_tokens=64)
    return simulate("h100-sxm", job, "llama-3.2-1b").served


# ---- serve -------------------------------------------------------------------------------------------


def test_one_load_is_printed_as_benchmarks_print_it():
    found = simgpu("serve", "--cluster", "dgx-h100", "--like", f"vllm bench serve {LIKE} --num-prompts 20")
    lines = [line.split() for line in found.stdout.splitlines() if line.strip()]
    assert lines[0] == ["latency", "mean", "P50", "P90", "P95", "P99"]
    assert [line[0] for line in lines[2:6]] == ["TTFT", "TPOT", "ITL", "end"]
    assert "simulated as model llama-3.2-1b" in found.stdout


def test_loads_of_one_command_line_are_rows():
    like = f"aiperf profile {LIKE} --concurrency 1,8 --isl 100 --osl 10 --extra-inputs ignore_eos:true"
    rows = json.loads(simgpu("serve", "--cluster", "dgx-h100", "--like", like, "--format", "json").stdout)["rows"]
    assert [(row["load"], row["requests_served"]) for row in rows] == [("1 clients", 10), ("8 clients", 16)]
    assert rows[0]["requests_per_s"] < rows[1]["requests_per_s"]


def test_a_sweep_finds_its_rates():
    data = "--max-requests 30 --data prompt_tokens=64,output_tokens=8"
    like = f"guidellm benchmark --rate-type sweep --rate 4 {LIKE} {data}"
    rows = json.loads(simgpu("serve", "--cluster", "dgx-h100", "--like", like, "--format", "json").stdout)["rows"]
    assert [row["load"] for row in rows[:2]] == ["synchronous", "throughput"] and len(rows) == 4
    low, high = (row["requests_per_s"] for row in rows[:2])
    rates = [float(row["load"].removesuffix("/s")) for row in rows[2:]]
    assert rates == pytest.approx([low + (high - low) / 2, high], rel=1e-3)


def test_settings_say_lengths_that_a_data_set_hides(tmp_path):
    file = tmp_path / "lengths.csv"
    file.write_text("arrival_s,input_tokens,output_tokens\n0,300,12\n0,100,4\n")
    like = f"python -m sglang.bench_serving {LIKE} --num-prompts 10"
    assert "lengths of its own" in command("serve", "--cluster", "dgx-h100", "--like", like).stderr
    found = simgpu("serve", "--cluster", "dgx-h100", "--like", like, "--set", f"workload.lengths_file={file}", "-q",
                   "-o", tmp_path / "out", "--tables", "both", "--trace")  # fmt: skip
    assert "TTFT" in found.stdout
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [
        "requests.csv", "requests.parquet", "requests_trace.json", "seconds.csv", "seconds.parquet",
    ]  # fmt: skip


# ---- files -------------------------------------------------------------------------------------------


def test_parquet_holds_what_csv_holds(done, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_requests(done, tmp_path, ("parquet",))
    rows = parquet.read_table(tmp_path / "requests.parquet").to_pylist()
    assert rows == tables_of(done)["requests"] and len(rows) == 120
    state = parquet.read_table(tmp_path / "seconds.parquet").to_pylist()
    width = state[1]["time_s"] - state[0]["time_s"]
    assert sum(row.get("requests_per_s") or 0 for row in state) * width == pytest.approx(120)


def test_parquet_without_pyarrow_is_one_line(done, tmp_path, monkeypatch):
    import sys

    from simgpu import InputError

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow: pip install"):
        write_requests(done, tmp_path, ("csv", "parquet"))
    assert not list(tmp_path.iterdir())


def test_a_trace_holds_every_second_of_every_request(done):
    events = request_events(done)
    whole = {}
    lanes = {}
    for event in events:
        if event["ph"] == "X" and event["pid"] == 0:
            number = event["args"]["request"]
            whole[number] = whole.get(number, 0.0) + event["dur"]
            lanes.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    assert {number: pytest.approx((last - sent) * 1e6) for number, sent, *_, last, _ in done.records} == whole
    for spans in lanes.values():
        spans.sort()
        assert all(later[0] >= one[1] - 1e-3 for one, later in pairwise(spans))
    busy = sum(event["dur"] for event in events if event["ph"] == "X" and event["pid"] == 1)
    assert busy == pytest.approx(1e6 * done.tally.busy_s)


def test_steps_make_all_tokens(done):
    steps = done.tally.steps
    assert sum(step[4] for step in steps) == done.tally.computed
    firsts = len(done.records)
    assert sum(step[3] * step[5] for step in steps) + firsts == done.tally.made
    assert all(later[1] >= one[2] - 1e-9 for one, later in pairwise(steps))


# ---- pictures, and rows that have no number ----------------------------------------------------------


@pytest.mark.slow
def test_a_run_draws_the_knee_and_steps_and_writes_requests(tmp_path):
    (tmp_path / "loads.yaml").write_text(FILE)
    simgpu("run", tmp_path / "loads.yaml", "-o", tmp_path / "out", "--plot-format", "png", "--requests", "csv")
    assert all((tmp_path / "out" / f"{name}.png").stat().st_size > 10_000 for name in ("knee", "steps"))
    assert len((tmp_path / "out" / "row2" / "requests.csv").read_text().splitlines()) == 151
    names = [event["args"]["name"] for event in json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
             if event["name"] == "process_name"]  # fmt: skip
    assert len(names) == 4 and names[0].endswith("requests") and names[1].endswith("steps")


@pytest.mark.slow
def test_steps_need_a_server(tmp_path):
    file = tmp_path / "loads.yaml"
    file.write_text(FILE.replace("where: {workload.rate: 20}, ", ""))
    found = command("run", file, "-o", tmp_path / "out")
    assert found.returncode == 2 and "draws one; expected a where" in found.stderr


def test_an_unsure_row_has_a_range_and_no_number():
    row = {"stationary": "unsure", "ttft_99th_s": 2.0, "ttft_99th_s_p10": 0.2, "ttft_99th_s_p90": 9.0, "waiting": 17.0}
    assert cell_of("ttft_99th_s", row) == "200 ms to 9 s" and cell_of("waiting", row) == "-"
    assert cell_of("ttft_99th_s", {**row, "stationary": "yes"}).startswith("2 s (")


def test_the_knee_lies_between_the_last_that_keeps_up_and_the_first_that_does_not():
    rows = [{"rate": rate, "stationary": how} for rate, how in ((4, "yes"), (8, "yes"), (12, "unsure"), (16, "no"))]
    assert knee_of(rows, "rate") == (8, 16)
    assert knee_words(rows, "rate") == "keeps up to rate 8, falls behind from 16 on"
    assert knee_of(rows[:3], "rate") is None


@pytest.mark.slow
def test_capacity_has_prices(tmp_path):
    file = tmp_path / "loads.yaml"
    file.write_text(FILE.replace("vary:\n  workload.rate: [20, 4000]\n", "").split("plots:")[0])
    row = json.loads(simgpu("capacity", file, "--price", "dgx-h100=2.5", "--format", "json").stdout)["rows"][0]
    assert row["usd_per_hour"] == 2.5 * row["gpus_needed"]
    tokens = row["largest_rate"] * 20 * 3600
    assert row["usd_per_million_output_tokens"] == pytest.approx(2.5 / tokens * 1e6)
    for price, says in (("other=2", "has no price of 'dgx-h100'"), ("dgx-h100=nan", "expected USD")):
        found = command("capacity", file, "--price", price)
        assert found.returncode == 2 and says in found.stderr
