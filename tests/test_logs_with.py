"""What was learned of a server holds against further logs of it: `simgpu validate --with mine.yaml FILE...`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu.cli import main

JOB = """
experiment: server
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100
  workload: {kind: serving, prompt: 512, output: 128, concurrency: 8, runtime: vllm@0.10}
"""
REAL = "machine: dgx-h100\nsource: made up\nstacks: {vllm: {slowdown: 1.2, host: 1.3, runs: 1}}\n"
LOADS = (1, 4, 8, 16, 64)


def asked(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def log(folder: Path, load: int) -> Path:
    """What vllm bench serve writes of a made-up machine at a load."""
    code, out, error = asked("run", folder / "job.yaml", "--set", f"cluster={folder / 'real.yaml'}", "--set",
                             f"workload.concurrency={load}", "--format", "json", "--no-plots", "-q", "-o",
                             folder / "out")  # fmt: skip
    assert code == 0, error
    row = json.loads(out)["rows"][0]
    said = {"backend": "vllm", "completed": 100, "max_concurrency": load, "mean_tpot_ms": 1e3 * row["tpot_s"],
            "median_tpot_ms": 1e3 * row["tpot_s"], "mean_ttft_ms": 1e3 * row["ttft_s"],
            "total_input_tokens": 51_200, "total_output_tokens": 12_800}  # fmt: skip
    file = folder / f"c{load}.json"
    file.write_text(json.dumps(said))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of a machine at five loads, and what was learned from three of them."""
    here = tmp_path_factory.mktemp("server")
    (here / "job.yaml").write_text(JOB)
    (here / "real.yaml").write_text(REAL)
    logs = [log(here, load) for load in LOADS]
    code, _, error = asked("observe", *logs[::2], "--of", here / "job.yaml", "-o", here / "mine.yaml", "-q")
    assert code == 0, error
    return here


@pytest.mark.slow
def test_further_logs_are_nearer_with_it_and_inside(folder: Path) -> None:
    logs = folder / "c4.json", folder / "c16.json"
    code, out, error = asked("validate", "--with", folder / "mine.yaml", *logs, "--of", folder / "job.yaml", "--format",
                             "json")  # fmt: skip
    assert code == 0, error
    told = json.loads(out)
    tokens = [row for row in told["rows"] if row["column"] == "tpot_s"]
    assert len(tokens) == 2 and all(row["inside"] for row in tokens)
    for row in tokens:  # each at its own load
        assert abs(row["predicted"] - row["measured"]) < abs(row["predicted_without"] - row["measured"]) / 2
    assert told["summary"]["with"]["mean_error"] < told["summary"]["without"]["mean_error"]


def test_it_says_so_in_words(folder: Path) -> None:
    code, out, _ = asked("validate", "--with", folder / "mine.yaml", folder / "c4.json", "--of", folder / "job.yaml")
    assert code == 0 and "inside the 80 % interval" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kernel"], "did you mean 'kernels'"),
        (["kernels", "training"], "given 2 times"),
        (["c4.json"], "--with"),
        (["--with", "mine.yaml", "c4.json"], "--of EXPERIMENT"),
        (["--with", "mine.yml", "c4.json", "--of", "job.yaml"], "no such file"),
        (["--with", "dgx-h100", "c4.json", "--of", "job.yaml"], "expected a file that simgpu observe wrote"),
        (["--with", "mine.yaml", "c5.json", "--of", "job.yaml"], "no such file"),
        (["--with", "mine.yaml", "c4.json", "--of", "job.yaml", "--case", "2"], "the experiment has 1"),
        (["--with", "other.yaml", "c4.json", "--of", "job.yaml"], "expected cases on the same machine"),
        (["--with", "mine.yaml", "c4.json", "--of", "job.yaml", "--regime", "family"], "takes --of, --case"),
        (["all", "--of", "job.yaml"], "expected --with"),
    ],
)
def test_slips_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str) -> None:
    monkeypatch.chdir(folder)
    (folder / "other.yaml").write_text(REAL.replace("dgx-h100", "dgx-a100"))
    code, _, error = asked("validate", *words)
    assert (code, error.count("\n")) == (2, 1), error
    assert said in error
