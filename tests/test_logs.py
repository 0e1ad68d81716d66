"""Logs that people have: told apart, read in SI units, warm-up and slow steps left out, other jobs refused."""

import gzip
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.lab.logs.comparing import compared
from simgpu.lab.logs.observed import Measurement, Observed
from simgpu.lab.logs.reading import read
from simgpu.lab.logs.steps import split

MEGATRON = (
    " [2026-05-01 12:00:00] iteration {n:8}/ 100 | consumed samples: 256 | elapsed time per iteration (ms): {ms:.1f} |"
    " throughput per GPU (TFLOP/s/GPU): {tflops:.1f} | learning rate: 1.5E-04 | global batch size:   256 |"
    " lm loss: {loss} | loss scale: 1.0 |\n"
)


def megatron(times, loss="1.05E+01", first=1):
    return "".join(
        MEGATRON.format(n=first + i, ms=1e3 * t, tflops=412.0 * 5 / t, loss=loss) for i, t in enumerate(times)
    )


def written(tmp_path, text, name="a.log"):
    file = tmp_path / name
    file.write_text(text)
    return file


def only(file):
    (found,) = read(file)
    return found


def test_steps_of_megatron_are_its_steady_ones(tmp_path):
    text = " seq_length ..................... 4096\n world_size .................... 64\n"
    text += megatron([25.0, 5.02, 5.0, 15.0, 5.01])
    text += (
        "[Rank 0] (after 2 iterations) memory (MB) | allocated: 1.0 | max allocated: 2000.0 | max reserved: 3000.0\n"
    )
    found = only(written(tmp_path, text))
    assert (found.kind, found.tool) == ("training", "Megatron-LM")
    assert found.of("step_s").value == pytest.approx(5.01)
    assert found.of("step_s").count == 3
    assert found.of("allocated_memory_bytes_per_gpu").value == 2000 * 2**20
    assert found.facts == {"tokens": 4096, "gpus": 64, "batch": 256}
    assert found.notes == ("step 1 as warm-up", "step 4 as slow (evaluation, checkpoint or a pause)")


LINES = {
    "TorchTitan": (
        "\x1b[31m[rank0]:[titan] 2026-01-01 - root - INFO - step: {n}  loss:  7.1  grad_norm: 1.2"
        "  memory: 30.65GiB(38.58%)  tps: 5,000  tflops: 302.12  mfu: 30.55%\x1b[39m",
        "tokens_per_s_per_gpu", 5000.0,
    ),
    "nanoGPT": ("iter {n}: loss 4.3012, time 250.00ms, mfu 40.12%", "step_s", 0.25),
    "llm.c": ("step {n:5}/18865 | loss 7.1 (+nan z)| norm 1.2 (+nan z)| lr 6.00e-04 | 250.00 ms | 55.1% bf16 MFU |"
              " 424000 tok/s", "step_s", 0.25),
    "NeMo": ("Training epoch 0, iteration {n}/99 | lr: 1e-06 | global_batch_size: 128 | global_step: {n} |"
             " reduced_train_loss: 10.9 | train_step_timing in s: 0.25 | consumed_samples: 1280", "step_s", 0.25),
    "Megatron-Bridge": ("Step Time : 0.25s GPU utilization: 700.0MODEL_TFLOP/s/GPU", "step_s", 0.25),
    "DeepSpeed": ("[INFO] [timer.py:264:stop] epoch=0/micro_step={n}/global_step={n}, RunningAvgSamplesPerSec=25.2,"
                  " CurrSamplesPerSec=25.0, MemAllocated=4.3GB, MaxMemAllocated=16.0GB", "samples_per_s", 25.0),
    "Composer": ("[batch={n}/100]:\n Train throughput/batches_per_sec: 4.0\n",
                 "step_s", 0.25),
    "tqdm": (" {n}%|#  | {n}/100 [00:12<01:50,  4.00it/s]", "step_s", 0.25),
}  # fmt: skip


@pytest.mark.parametrize("tool", LINES)
def test_lines_of_trainers_are_read_in_si_units(tool, tmp_path):
    line, column, value = LINES[tool]
    found = only(written(tmp_path, "".join(line.format(n=n) + "\n" for n in range(1, 7))))
    assert found.tool == tool
    assert found.of(column).value == pytest.approx(value)


def test_a_progress_bar_drawn_over_itself_counts_where_no_tool_prints_steps(tmp_path):
    bar = "\r".join(f" {n}%|# | {n}/100 [00:12<01:50,  2.00s/it]" for n in range(1, 8)) + "\n"
    assert only(written(tmp_path, "{'loss': 2.3, 'epoch': 0.1}\n" + bar)).of("step_s").value == 2.0
    assert only(written(tmp_path, bar + megatron([5.0] * 4))).tool == "Megatron-LM"


def test_ranks_that_print_the_same_step_count_once(tmp_path):
    lines = megatron([9.0, 5.0, 5.0, 5.0]).splitlines(keepends=True)
    text = "".join(f"{rank}: {line}" for line in lines for rank in range(4))
    assert only(written(tmp_path, text)).of("step_s").count == 3


def test_two_runs_in_one_log_are_two(tmp_path):
    first, second = read(written(tmp_path, megatron([9.0, 5.0, 5.0]) + megatron([9.0, 4.0, 4.0, 4.0])))
    assert (first.of("step_s").value, second.of("step_s").value) == (5.0, 4.0)


def test_losses_that_are_no_numbers_are_noted_and_times_that_cannot_be_left_out(tmp_path):
    text = megatron([9.0, 5.0, 5.0], "nan") + megatron([5.0, 5.0], first=4).replace(": 5000.0", ": 0.0", 1)
    found = only(written(tmp_path, text))
    assert found.of("step_s").count == 3
    assert any("3 steps have no finite loss" in note for note in found.notes)
    assert any("1 times that cannot be" in note for note in found.notes)


def test_a_clock_that_jumps_back_or_far_ahead_counts_for_nothing(tmp_path):
    found = only(written(tmp_path, megatron([9.0, 5.0, -3600.0, 5.0, 86400.0, 5.0, 5.0])))
    assert (found.of("step_s").value, found.of("step_s").count) == (5.0, 4)
    assert any("times that cannot be" in note for note in found.notes)
    assert any("step 5 as slow" in note for note in found.notes)


@pytest.mark.parametrize("times", [[9.0, 1, 1, 1, 1.02, 4, 1, 0.99], [9.0, 8, 1, 1, 1, 1], [1.0], [2.0, 1.0]])
def test_each_step_is_of_one_kind(times):
    found = split(times)
    assert sorted((*found.steady, *found.warm, *found.slow)) == list(range(len(times)))
    assert found.steady and all(times[i] <= 1.1 for i in found.steady)


# ---- servers -------------------------------------------------------------------------------------------

VLLM_TEXT = """
============ Serving Benchmark Result ============
Successful requests:                     1000
Maximum request concurrency:             64
Total input tokens:                      1024000
Total generated tokens:                  128000
Request throughput (req/s):              16.64
Mean TTFT (ms):                          123.4
P99 TTFT (ms):                           400.0
Mean TPOT (ms):                          18.40
"""
FLAT = {"backend": "vllm", "model_id": "m", "completed": 1000, "request_rate": "inf", "max_concurrency": 64,
        "total_input_tokens": 1024000, "total_output_tokens": 128000, "request_throughput": 16.64,
        "mean_ttft_ms": 123.4, "p99_ttft_ms": 400.0, "mean_tpot_ms": 18.4}  # fmt: skip
GENAI = {"time_to_first_token": {"unit": "ms", "avg": 123.4, "p99": 400.0},
         "inter_token_latency": {"unit": "ms", "avg": 18.4}, "request_latency": {"unit": "ms", "avg": 2500.0},
         "request_throughput": {"unit": "requests/sec", "avg": 16.64}, "input_sequence_length": {"avg": 1024.0},
         "output_sequence_length": {"avg": 128.0}, "input_config": {"perf_analyzer": {"concurrency": 64}}}  # fmt: skip
_OK = {"time_to_first_token_ms": {"successful": {"mean": 123.4, "percentiles": {"p99": 400.0}}},
       "inter_token_latency_ms": {"successful": {"mean": 18.4}}, "request_latency": {"successful": {"mean": 2.5}},
       "requests_per_second": {"successful": {"mean": 16.64}}, "prompt_token_count": {"successful": {"mean": 1024.0}},
       "output_token_count": {"successful": {"mean": 128.0}}}  # fmt: skip
AIPERF = {**GENAI, "aiperf_version": "0.8.0", "input_config": {"phases": [
    {"name": "warmup", "concurrency": 2}, {"name": "profiling", "concurrency": 64}]}}  # fmt: skip
GUIDE = {"benchmarks": [{"args": {"strategy": {"streams": 64}}, "metrics": _OK}]}
NEWER_GUIDE = {"metadata": {"guidellm_version": "0.5.3"}, "args": {"rate": 8}, "benchmarks": [
    {"config": {"strategy": {"type_": "concurrent", "streams": 64}}, "metrics": _OK}]}  # fmt: skip
PERF = {"load_summary": {"requested_rate": 17}, "successes": {"count": 1000, "latency": {
            "time_to_first_token": {"mean": 0.1234, "p99": 0.4}, "time_per_output_token": {"mean": 0.0184}},
        "throughput": {"requests_per_sec": 16.64},
        "prompt_len": {"mean": 1024}, "output_len": {"mean": 128}}}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        VLLM_TEXT,
        *map(
            json.dumps,
            (FLAT, {**FLAT, "backend": "sglang"}, GENAI, AIPERF, {"records": GENAI}, GUIDE, NEWER_GUIDE, PERF),
        ),
    ],
    ids=["text", "vllm", "sglang", "genai-perf", "aiperf", "records", "guidellm", "guidellm 0.5", "inference-perf"],
)
def test_one_load_is_the_same_in_the_form_of_each_tool(content, tmp_path):
    found = only(written(tmp_path, content))
    assert found.kind == "server"
    assert found.of("ttft_s").value == pytest.approx(0.1234)
    assert found.of("ttft_99th_s").value == pytest.approx(0.4)
    assert found.of("tpot_s").value == pytest.approx(0.0184)
    assert found.of("requests_per_s").value == pytest.approx(16.64)
    assert found.facts["input_tokens"] == pytest.approx(1024) and found.facts["output_tokens"] == pytest.approx(128)
    assert found.facts.get("concurrency", 64) == 64


def test_documents_one_a_line_are_runs(tmp_path):
    assert len(read(written(tmp_path, json.dumps(FLAT) + "\n" + json.dumps(FLAT) + "\n", "out.jsonl"))) == 2


def test_tables_of_llama_bench(tmp_path):
    table = "| model | size | params | backend | ngl | test | t/s |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    table += "| llama 8B Q4_0 | 4 GiB | 8 B | CUDA | 99 | pp512 | 12,345.67 ± 3.21 |\n"
    table += "| llama 8B Q4_0 | 4 GiB | 8 B | CUDA | 99 | tg128 @ d4096 | 151.20 ± 0.10 |\n"
    prompt, token = read(written(tmp_path, table))
    assert prompt.of("prefill_tokens_per_s").value == 12345.67 and prompt.facts["input_tokens"] == 512
    assert token.of("output_tokens_per_s").value == 151.2 and token.facts["depth"] == 4096
    rows = [{"model_type": "llama 8B", "n_prompt": 512, "n_gen": 0, "avg_ts": 12345.67, "samples_ts": [1, 2]}]
    assert only(written(tmp_path, json.dumps(rows))).of("prefill_tokens_per_s").value == 12345.67
    text = "model_type,n_prompt,n_gen,avg_ts\nllama 8B,0,128,151.2\n"
    assert only(written(tmp_path, text)).of("output_tokens_per_s").value == 151.2


def test_a_page_of_metrics_gives_means_and_percentiles_between_its_buckets(tmp_path):
    page = "# HELP vllm:time_to_first_token_seconds h\n"
    for edge, count in (("0.1", 50), ("0.2", 90), ("+Inf", 100)):
        page += f'vllm:time_to_first_token_seconds_bucket{{le="{edge}",model_name="m"}} {count}\n'
    page += 'vllm:time_to_first_token_seconds_sum{model_name="m"} 12.0\n'
    page += 'vllm:time_to_first_token_seconds_count{model_name="m"} 100\n'
    found = only(written(tmp_path, page))
    stamped = page.replace("\n", " 1764500000.123\n").replace("h 1764500000.123", "h") + "# EOF\n"  # OpenMetrics
    assert only(written(tmp_path, stamped, "stamped.txt")).measurements == found.measurements
    assert found.of("ttft_s").value == pytest.approx(0.12)
    assert found.of("ttft_50th_s").value == pytest.approx(0.1)
    assert found.of("ttft_90th_s").value == pytest.approx(0.2)
    assert found.of("ttft_99th_s") is None  # beyond the last bucket


# ---- what is refused, in one line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("hello\nworld\n", "holds nothing that is known"),
        ('{"completed": 10, "mean_ttft_ms": ', "is it cut"),
        ("[" * 200_000, "nested too deeply|is no JSON"),
        (json.dumps({**FLAT, "mean_ttft_ms": "x"}), ""),
        (megatron([5.0, 5.0]).replace("5000.0", "5,01"), "decimal comma"),
        (megatron([25.0]), "a.log:1: holds warm-up steps alone"),
        (json.dumps({"completed": 0, "mean_ttft_ms": 0.0, "backend": "vllm"}), "hold nothing measured"),
    ],
)
def test_what_cannot_be_read_is_one_line(content, said, tmp_path):
    result = CliRunner().invoke(main, ["observe", str(written(tmp_path, content))])
    assert result.exit_code in ((2,) if said else (0, 2)), result.output
    assert not result.exception or isinstance(result.exception, SystemExit)
    assert re.search(said, result.output)
    assert result.exit_code == 0 or len(result.output.strip().splitlines()) == 1


def test_packed_logs_are_read_and_cut_ones_refused(tmp_path):
    packed = gzip.compress((megatron([9.0, 5.0, 5.0]) * 50).encode())
    file = tmp_path / "a.log.gz"
    file.write_bytes(packed)
    assert read(file)[0].of("step_s").value == 5.0
    file.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="cut or damaged"):
        read(file)


# ---- against a prediction --------------------------------------------------------------------------------

ROW = {"step_s": 5.0, "step_s_p10": 4.5, "step_s_p90": 5.5, "batch": 256, "flop_per_s_per_gpu": 4e14}


def log(**values):
    return Observed(Path("a.log"), "training", "t", tuple(Measurement(*one) for one in values.items()), {"batch": 256})


def test_a_measurement_lies_inside_or_not_and_is_said_in_words():
    inside, beyond = compared(log(step_s=5.4), ROW), compared(log(step_s=6.5, loss=1.0), ROW)
    assert inside.lines[0].inside and not beyond.lines[0].inside
    assert beyond.words() == ["step: 30 % longer than predicted, beyond the 80 % interval"]
    assert list(beyond.unpredicted) == ["loss"]


def test_logs_of_other_jobs_are_refused():
    with pytest.raises(InputError, match="batch 256, the experiment 128"):
        compared(log(step_s=5.0), ROW | {"batch": 128})
    with pytest.raises(InputError, match="3 times the FLOPs"):
        compared(log(step_s=5.0, flop_per_s_per_gpu=1.2e15), ROW)
    with pytest.raises(InputError, match="predicts none of these"):
        compared(log(ttft_s=5.0), ROW)


def test_compare_prints_measured_beside_predicted(tmp_path):
    file = written(tmp_path, "".join(LINES["nanoGPT"][0].format(n=n) + "\n" for n in range(5)))
    result = CliRunner().invoke(
        main, ["compare", "pipeline_schedules", "--case", "2", "--log", str(file), "--format", "json"]
    )
    assert result.exit_code == 0, result.output
    (line,) = json.loads(result.output)["runs"][0]["lines"]
    assert line["measured"] == 0.25 and line["predicted"] > 1 and line["in_interval"] is False


# ---- learning from logs ----------------------------------------------------------------------------------

JOBS = """
experiment: two
title: two ways to split a step
scenario:
  model: llama-3.1-8b@layers=4
  cluster: dgx-h100
  workload: {kind: training, batch: 16, tokens: 4096}
  plan: {tp: 8, micro_batch: 1, sequence_parallel: true}
cases:
  - {labels: {run: a}}
  - {labels: {run: b}, plan.tp: 1, plan.dp: 8, plan.zero: 1, plan.sequence_parallel: false}
"""
KNOWN = """
machine: dgx-h100
source: made up
stacks: {megatron: {slowdown: 1.15, runs: 1}}
links: {nvlink-4: 0.93}
"""


def steps_of(folder, cluster):
    """Step times of both cases on a machine."""
    result = CliRunner().invoke(
        main, ["run", str(folder / "jobs.yaml"), "--set", f"cluster={cluster}", "--format", "json", "--no-plots", "-q",
               "--out", str(folder / "out")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return [row["step_s"] for row in json.loads(result.output)["rows"]]


@pytest.fixture
def machine(tmp_path):
    """Logs of a machine whose factors are known."""
    written(tmp_path, JOBS, "jobs.yaml")
    for name, step in zip("ab", steps_of(tmp_path, written(tmp_path, KNOWN, "known.yaml")), strict=True):
        written(
            tmp_path, "".join(f"iter {n}: loss 4.3, time {1e3 * step}ms, mfu 40%\n" for n in range(6)), f"{name}.log"
        )
    return tmp_path


def learned(folder, *more):
    logs = [str(folder / "a.log"), str(folder / "b.log")]
    return CliRunner().invoke(
        main, ["observe", *logs, "--of", str(folder / "jobs.yaml"), "--case", "1", "--case", "2", *more]
    )


@pytest.mark.slow
def test_factors_of_a_made_up_machine_are_found_within_their_intervals(machine):
    result = learned(machine, "--format", "json", "-o", str(machine / "mine.yaml"), "-q")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.output)
    truth = {"kernels of megatron": 1.15, "payload of nvlink-4": 0.93}
    assert {one["factor"] for one in answer["factors"]} == set(truth)
    for one in answer["factors"]:
        assert one["p10"] <= truth[one["factor"]] <= one["p90"] and 0 < one["told"] < 1
    for run in answer["runs"]:  # each log is nearer after the fit, and after one to the other log alone
        assert abs(run["after"] - 1) < abs(run["left_out"] - 1) < abs(run["before"] - 1)


@pytest.mark.slow
def test_what_was_learned_is_a_cluster(machine):
    assert learned(machine, "-o", str(machine / "mine.yaml"), "-q").exit_code == 0
    catalogued, mine, real = (
        steps_of(machine, one) for one in ("dgx-h100", machine / "mine.yaml", machine / "known.yaml")
    )
    assert all(before < after < truth for before, after, truth in zip(catalogued, mine, real, strict=True))
    asked = ["compare", str(machine / "jobs.yaml"), "--set", f"cluster={machine / 'mine.yaml'}"]
    result = CliRunner().invoke(main, [*asked, "--log", str(machine / "a.log"), "--format", "json"])
    assert json.loads(result.output)["runs"][0]["lines"][0]["in_interval"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("nvlink-4: 0.93", "nvlink-9: 0.85"), "no such link"),
        (("nvlink-4: 0.93", "nvlink-4: -1"), "known.yaml:5.*links.nvlink-4"),
        (("slowdown: 1.15", "slowdown: nan"), "known.yaml:4.*slowdown"),
        (("machine: dgx-h100", "machine: known.yaml"), "itself|known.yaml"),
        (("machine: dgx-h100", "machine: dgx-h10"), "unknown cluster"),
        (("source: made up", "sources: made up"), "sources"),
    ],
)
def test_a_wrong_overlay_is_one_line(change, said, machine, monkeypatch):
    monkeypatch.chdir(machine)
    written(machine, KNOWN.replace(*change), "known.yaml")
    result = CliRunner().invoke(main, ["run", "jobs.yaml", "--set", "cluster=known.yaml", "--no-plots", "-q"])
    assert result.exit_code == 2 and re.search(said, result.output), result.output
    assert len(result.output.strip().splitlines()) == 1


def test_logs_of_another_job_teach_nothing(machine):
    written(machine, "".join(f"iter {n}: loss 4.3, time 90000.0ms, mfu 40%\n" for n in range(6)), "b.log")
    result = learned(machine, "-o", str(machine / "mine.yaml"))
    assert result.exit_code == 2 and "is it a log of this case?" in result.output
    assert not (machine / "mine.yaml").exists()


def test_a_decimal_comma_of_any_trainer_is_refused(tmp_path):
    log = written(tmp_path, "iter 1: loss 4.3, time 5,01ms, mfu 40%\niter 2: loss 4.2, time 5,02ms, mfu 40%\n", "x.log")
    with pytest.raises(InputError, match=r"x.log:1: '5,01' has a decimal comma"):
        read(log)


def test_a_trace_whose_window_was_empty_is_one_line(tmp_path):
    kernel = {"ph": "X", "cat": "kernel", "name": "k", "ts": 1, "dur": 0, "args": {}}
    with pytest.raises(InputError, match="window empty"):
        read(written(tmp_path, json.dumps({"traceEvents": [kernel]}), "x.json"))
