"""Whatever a user gives: one line on stderr that names the place, exit code 2, nothing else, nothing written."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from simgpu.cli import main

ENTRY = shutil.which("simgpu", path=str(Path(sys.executable).parent)) or "simgpu"

SMALL = """\
experiment: small
scenario:
  cluster: dgx-h100
  dtype: fp16
  plan:
    tp: 2
    dp: 1
  workload:
    kind: operators
    repeat: 1
    operators:
      - {op: matmul, name: gemm, m: 512, n: 512, k: 512, split: k}
      - {op: all_reduce, name: sum, bytes: 1 MB}
cases:
  - labels: {case: a, group: g}
  - labels: {case: b, group: g}
    plan.tp: 4
vary:
  gpu.power.tdp: [700 W]
table: [case, step_s]
plots:
  - {kind: bar, name: steps, x: case, y: [step_s], series: group, marks: {step_s: tp}}
compare:
  value: step_s
  between: case
  start: a
  end: b
  match: [group]
  steps:
    - {what: more GPUs, keys: [plan.tp]}
"""

PREFILL = """\
scenario:
  model: llama-2-7b
  cluster: dgx-h100
  dtype: bf16
  plan:
    tp: 2
    dp: 1
  workload:
    kind: training
    batch: 4
    tokens: 128
"""

GPU = """\
name: tiny
title: A GPU of the tests
vendor: nobody
architecture: generic
sources:
  sheet: a made-up datasheet
compute:
  sm_count: {value: 100, source: sheet}
  boost_clock: {value: 1000, unit: MHz, source: sheet}
peak:
  - {dtype: fp16, accumulate: fp32, engine: tensor, value: 100, unit: TFLOPS, source: sheet}
  - {dtype: fp32, accumulate: fp32, engine: vector, value: 10, unit: TFLOPS, source: sheet}
memory:
  type: HBM
  capacity: {value: 16, unit: GiB, source: sheet}
  bandwidth: {value: 1, unit: TB/s, source: sheet}
  l2_cache: {value: 32, unit: MiB, source: sheet}
  ecc: {value: true, source: sheet}
host_link:
  link: pcie-4
  lanes: {value: 16, source: sheet}
  peer_to_peer: {value: true, source: sheet}
power:
  tdp: {value: 100, unit: W, source: sheet}
mig_profiles:
  - {name: half, compute_slices: 1, memory_slices: 1, memory: {value: 8, unit: GB}, instances: 2, source: sheet}
"""

NODE = """\
name: tiny-box
title: Two of them
gpu: tiny
sources:
  guide: a made-up guide
sockets:
  - cpu: none
    count: 1
    memory_bandwidth: {value: 100, unit: GB/s, source: guide}
    devices: [gpu, gpu]
peer_to_peer_scope: {value: root, source: guide}
"""

MODEL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "num_hidden_layers": 2,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


class Hang(BaseException):
    """A command took too long."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Break a command that does not end."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in an empty folder, without a catalogue of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMGPU_CATALOG", raising=False)


def everything_below(folder: Path) -> dict[str, bytes]:
    """Every file and folder with its content."""
    found = (path for path in folder.rglob("*") if not path.is_symlink())
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


def one_line(stderr: str) -> str:
    """The message, which must be a single printable line that begins with the program's name."""
    assert stderr.startswith("simgpu: "), stderr
    assert stderr.endswith("\n") and stderr.count("\n") == 1, stderr
    assert stderr[:-1].isprintable(), repr(stderr)
    assert len(stderr) <= 1500
    return stderr[len("simgpu: ") : -1]


def undrawn(*arguments: object) -> str:
    """Run a command whose rows answer but whose plot cannot be drawn of them; returns the message."""
    result = CliRunner().invoke(main, [*(str(argument) for argument in arguments), "--quiet"])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.exception
    assert result.stdout and not list(Path.cwd().rglob("*.png"))
    return one_line(result.stderr)


def refused(*arguments: object) -> str:
    """Run a command that must refuse its input; returns the message."""
    before = everything_below(Path.cwd())
    with at_most(20):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if not isinstance(result.exception, SystemExit):
        assert result.exception is not None, f"accepted silently; it printed {result.stdout[:300]!r}"
        raise AssertionError(f"traceback: {result.exception!r}") from result.exception
    assert result.exit_code == 2
    message = one_line(result.stderr)
    assert result.stdout == "", "printed an answer before the error"
    assert everything_below(Path.cwd()) == before, "wrote something before the error"
    return message


def wrote(name: str, content: str | bytes) -> Path:
    """A file below the current folder."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def edited(text: str, old: str, new: str) -> tuple[str, int]:
    """`text` with `old` (which it holds once) replaced, and the line where that stands."""
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the text"
    return text.replace(old, new), text[: text.index(old)].count("\n") + 1


def check(message: str, place: str, words: tuple[str, ...]) -> None:
    """The message begins with its place (file:line: key) and holds each of `words`."""
    assert message.startswith(place), message
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


# ---- experiment files: values and keys -----------------------------------------------------------------

MATMUL = "op: matmul, name: gemm, m: 512, n: 512, k: 512, split: k"
VALUES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    # id: (text, its replacement, key that the message names, what else it says)
    "unknown cluster": ("cluster: dgx-h100", "cluster: dgx-h10", "cluster", ("'dgx-h10'", "names like it: dgx-h100")),
    "cluster number": ("cluster: dgx-h100", "cluster: 5", "cluster", ("5", "string")),
    "cluster empty": ("cluster: dgx-h100", "cluster: ''", "cluster", ("''",)),
    "cluster list": ("cluster: dgx-h100", "cluster: [dgx-h100]", "cluster", ("['dgx-h100']", "string")),
    "cluster control character": ("cluster: dgx-h100", 'cluster: "\\e[31mdgx"', "cluster", ("dgx",)),
    "unknown dtype": ("dtype: fp16", "dtype: fp17", "dtype", ("'fp17'", "fp16, fp32")),
    "dtype not of this GPU": ("dtype: fp16", "dtype: fp4", "dtype", ("h100-sxm", "fp4", "fp8")),
    "tp zero": ("tp: 2\n    dp", "tp: 0\n    dp", "plan.tp", ("0", "greater than 0")),
    "tp negative": ("tp: 2\n    dp", "tp: -2\n    dp", "plan.tp", ("-2", "greater than 0")),
    "tp text": ("tp: 2\n    dp", "tp: two\n    dp", "plan.tp", ("'two'", "integer")),
    "tp fraction": ("tp: 2\n    dp", "tp: 2.5\n    dp", "plan.tp", ("2.5", "integer")),
    "tp true": ("tp: 2\n    dp", "tp: true\n    dp", "plan.tp", ("True", "integer")),
    "tp null": ("tp: 2\n    dp", "tp: null\n    dp", "plan.tp", ("None", "integer")),
    "tp nan": ("tp: 2\n    dp", "tp: .nan\n    dp", "plan.tp", ("nan",)),
    "tp infinite": ("tp: 2\n    dp", "tp: .inf\n    dp", "plan.tp", ("inf",)),
    "tp list": ("tp: 2\n    dp", "tp: [2]\n    dp", "plan.tp", ("[2]", "integer")),
    "tp enormous": ("tp: 2\n    dp", f"tp: {'9' * 400}\n    dp", "plan.tp", ("999", "1000000")),
    "tp too many digits": ("tp: 2\n    dp", f"tp: {'9' * 5000}\n    dp", "scenario.plan.tp", ("999", "digits")),
    "dp of a list of operators": ("dp: 1", "dp: 2", "plan.dp", ("2", "expected 1")),
    "kind unknown": ("kind: operators", "kind: operator", "workload", ("did you mean 'operators'?",)),
    "repeat zero": ("repeat: 1", "repeat: 0", "workload.repeat", ("0", "greater than 0")),
    "repeat enormous": ("repeat: 1", "repeat: 1000000000", "workload.repeat", ("1000000000", "100000")),
    "operator unknown": ("op: matmul", "op: matmull", "workload.operators.0", ("did you mean 'matmul'?",)),
    "operator not named": ("op: matmul, ", "", "workload.operators.0", ("op", "expected one of all_gather")),
    "operator text": ("{" + MATMUL + "}", "matmul", "workload.operators.0", ("'matmul'", "mapping")),
    "size zero": ("m: 512", "m: 0", "workload.operators.0.m", ("0", "greater than 0")),
    "size text": ("m: 512", "m: 8k", "workload.operators.0.m", ("'8k'", "integer")),
    "split unknown": ("split: k", "split: z", "workload.operators.0.split", ("'z'", "expected one of k, m, n, none")),
    "split missing": (", split: k", "", "workload.operators.0.split", ("is missing", "tp 2")),
    "split does not divide": ("k: 512", "k: 511", "workload.operators.0.k", ("tp 2", "511")),
    "operator dtype": ("m: 512", "dtype: fp4, m: 512", "workload.operators.0.dtype", ("h100-sxm", "fp4")),
    "time in GB": ("m: 512", "time: 1 GB, m: 512", "workload.operators.0.time", ("'1 GB'", "a unit of s", "2.5 us")),
    "time zero": ("m: 512", "time: 0, m: 512", "workload.operators.0.time", ("0", "more than zero")),
    "bytes negative": ("bytes: 1 MB", "bytes: -1 MB", "workload.operators.1.bytes", ("-1 MB", "more than zero")),
    "bytes text": ("bytes: 1 MB", "bytes: many", "workload.operators.1.bytes", ("'many'", "128 MB")),
    "bytes rate": ("bytes: 1 MB", "bytes: 1 MB/s", "workload.operators.1.bytes", ("MB/s", "a unit of B")),
    "bytes nan": ("bytes: 1 MB", "bytes: .nan", "workload.operators.1.bytes", ("nan", "more than zero")),
    "bytes infinite": ("bytes: 1 MB", "bytes: .inf", "workload.operators.1.bytes", ("inf", "out of range")),
    "bytes enormous": ("bytes: 1 MB", f"bytes: {'9' * 400}", "workload.operators.1.bytes", ("999",)),
    "label nan": ("case: a,", "case: .nan,", "cases.0.labels.case", ("nan",)),
    "label infinite": ("case: a,", "case: .inf,", "cases.0.labels.case", ("inf",)),
    "label null": ("case: a,", "case: null,", "cases.0.labels.case", ("None", "plain value")),
    "label list": ("case: a,", "case: [a],", "cases.0.labels.case", ("['a']", "plain value")),
    "label date": ("case: a,", "case: 2024-01-01,", "cases.0.labels.case", ("plain value",)),
    "label collides with a column": ("case: a,", "step_s: 1,", "cases.0.labels.step_s", ("'step_s'", "column")),
    "labels list": ("{case: a, group: g}", "[a]", "cases.0.labels", ("['a']", "mapping")),
    "case text": ("- labels: {case: a, group: g}", "- a", "cases.0", ("'a'", "mapping")),
    "case value": ("    plan.tp: 4", "    plan.tp: 0", "plan.tp", ("0", "greater than 0")),
    "vary value": ("[700 W]", "[700 GB]", "gpu.power.tdp", ("GB", "700 W")),
    "vary empty": ("[700 W]", "[]", "vary.gpu.power.tdp", ("[]", "at least 1")),
    "vary scalar": ("[700 W]", "700 W", "vary.gpu.power.tdp", ("'700 W'", "list")),
    "table column": ("table: [case, step_s]", "table: [case, step]", "table.1", ("'step'", "did you mean 'step_s'?")),
    "table text": ("table: [case, step_s]", "table: step_s", "table", ("'step_s'", "list")),
    "plot kind": ("kind: bar", "kind: pie", "plots.0.kind", ("'pie'", "expected one of bar, curve, heatmap, line")),
    "plot x": ("x: case", "x: cas", "plots.0.x", ("'cas'", "did you mean 'case'?")),
    "plot y": ("y: [step_s]", "y: [stap_s]", "plots.0.y.0", ("'stap_s'", "did you mean 'step_s'?")),
    "plot y absent": ("y: [step_s]", "y: [tokens_per_s, step_s]", "plots.0.y.0", ("'tokens_per_s'",)),
    "plot y empty": ("y: [step_s]", "y: []", "plots.0.y", ("at least 1",)),
    "plot y text": ("y: [step_s]", "y: [gpu, step_s]", "plots.0.y.0", ("gpu", "number")),
    "plot series": ("series: group", "series: grou", "plots.0.series", ("'grou'", "did you mean 'group'?")),
    "plot marks column": ("marks: {step_s: tp}", "marks: {compute_s: tp}", "plots.0.marks.compute_s", ("compute_s",)),
    "plot marks label": ("marks: {step_s: tp}", "marks: {step_s: nosuch}", "plots.0.marks.step_s", ("nosuch",)),
    "plot marks text": ("marks: {step_s: tp}", "marks: {step_s: gpu}", "plots.0.marks.step_s", ("gpu", "number")),
    "plot name is a path": ("name: steps", "name: ../steps", "plots.0.name", ("'../steps'",)),
    "plot name is absolute": (
        "name: steps",
        "name: /proc/simgpu-test/steps",
        "plots.0.name",
        ("'/proc/simgpu-test/steps'",),
    ),
    "plot name with a zero byte": ("name: steps", 'name: "a\\0b"', "plots.0.name", ()),
    "compare value": ("value: step_s", "value: stap_s", "compare.value", ("did you mean 'step_s'?",)),
    "compare text": ("value: step_s", "value: gpu", "compare.value", ("gpu", "number")),
    "compare between": ("between: case", "between: cas", "compare.between", ("did you mean 'case'?",)),
    "compare start": ("start: a", "start: aa", "compare.start", ("'aa'", "case")),
    "compare match": ("match: [group]", "match: [grou]", "compare.match.0", ("did you mean 'group'?",)),
    "compare match empty": ("match: [group]", "match: []", "compare.match", ("at least 1",)),
    "experiment name is a path": ("experiment: small", "experiment: ../small", "experiment", ("'../small'",)),
    "experiment name is absolute": (
        "experiment: small",
        "experiment: /proc/simgpu-test/small",
        "experiment",
        ("'/proc/simgpu-test/small'",),
    ),
    "experiment name with a zero byte": ("experiment: small", 'experiment: "a\\0b"', "experiment", ()),
    "experiment name is a number": ("experiment: small", "experiment: 5", "experiment", ("5", "string")),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_bad_value_names_file_line_key_and_value(name: str) -> None:
    old, new, key, words = VALUES[name]
    text, line = edited(SMALL, old, new)
    wrote("e.yaml", text)
    said = undrawn if name in ("plot y absent", "plot y text", "plot marks text") else refused
    check(said("run", "e.yaml"), f"e.yaml:{line}: {key}", words)


UNKNOWN_KEYS = {
    # id: (text, its replacement, the key that is wrong, the nearest right one)
    "experiment": ("experiment: small", "experment: small", "experment", "experiment"),
    "table": ("table: [case, step_s]", "tabel: [case, step_s]", "tabel", "table"),
    "scenario": ("  dtype: fp16", "  dtyp: fp16", "dtyp", "dtype"),
    "scenario, required": ("  cluster: dgx-h100", "  clusterr: dgx-h100", "clusterr", "cluster"),
    "plan": ("    tp: 2", "    tpp: 2", "tpp", "tp"),
    "workload": ("repeat: 1", "repeats: 1", "repeats", "repeat"),
    "workload, required": ("    operators:\n", "    operatorss:\n", "operatorss", "operators"),
    "operator": ("split: k", "splitt: k", "splitt", "split"),
    "operator, required": ("m: 512", "mm: 512", "mm", "m"),
    "second operator": ("name: sum", "nam: sum", "nam", "name"),
    "hardware": ("gpu.power.tdp: [", "gpu.power.tpd: [", "tpd", "tdp"),
    "hardware root": ("gpu.power.tdp: [", "hardware.gpuu.power.tdp: [", "gpuu", "gpu"),
    "plan in a case": ("    plan.tp: 4", "    plan.tpp: 4", "tpp", "tp"),
    "case": ("- labels: {case: a", "- label: {case: a", "label", "labels"),
    "plots": ("series: group", "serie: group", "serie", "series"),
    "plots, required": ("x: case", "xx: case", "xx", "x"),
    "compare": ("between: case", "betwen: case", "betwen", "between"),
    "compare.steps": ("what: more", "wat: more", "wat", "what"),
    "key that a step changes": ("keys: [plan.tp]", "keys: [plan.tpp]", "tpp", "plan.tp"),
}


@pytest.mark.parametrize("name", UNKNOWN_KEYS)
def test_a_misspelt_key_is_named_with_the_nearest_right_one(name: str) -> None:
    old, new, wrong, right = UNKNOWN_KEYS[name]
    text, line = edited(SMALL, old, new)
    wrote("e.yaml", text)
    message = refused("run", "e.yaml")
    check(message, f"e.yaml:{line}: ", (f"'{right}'",))
    assert re.search(rf"\b{wrong}\b", message), message


def test_a_key_of_another_operator_is_not_offered_as_its_own_correction() -> None:
    text, line = edited(SMALL, "m: 512", "heads: 8, m: 512")
    wrote("e.yaml", text)
    message = refused("run", "e.yaml")
    check(message, f"e.yaml:{line}: workload.operators.0.heads: unknown key", ())
    assert "did you mean 'heads'" not in message


@pytest.mark.parametrize(
    ("old", "key"),
    [
        ("  cluster: dgx-h100\n", "cluster"),
        ("    kind: operators\n", "workload"),
        ("    operators:\n" + "\n".join(SMALL.splitlines()[11:13]) + "\n", "workload.operators"),
        ("m: 512, ", "workload.operators.0.m"),
        ("bytes: 1 MB", "workload.operators.1.bytes"),
        ("x: case, ", "plots.0.x"),
        ("  between: case\n", "compare.between"),
    ],
)
def test_a_missing_key_names_the_file_and_the_key(old: str, key: str) -> None:
    wrote("e.yaml", edited(SMALL, old, "")[0])
    message = refused("run", "e.yaml")
    assert re.match(rf"e\.yaml:\d+: {re.escape(key)}\b", message), message
    assert "missing" in message


def test_more_ranks_than_gpus_names_the_plan_and_its_line() -> None:
    text, _ = edited(SMALL, "    tp: 2", "    tp: 16")
    wrote("e.yaml", text)
    message = refused("run", "e.yaml")
    assert re.match(r"e\.yaml:(5|6|7): plan", message), message
    for word in ("16", "'dgx-h100'", "8 GPUs"):
        assert word in message


def test_plots_with_one_name_would_overwrite_each_other() -> None:
    text, line = edited(SMALL, "compare:\n", "  - {kind: bar, name: steps, x: case, y: [compute_s]}\ncompare:\n")
    wrote("e.yaml", text)
    check(refused("run", "e.yaml"), f"e.yaml:{line}: plots.1.name: ", ("'steps'",))


def test_a_key_written_nested_and_dotted_is_given_twice() -> None:
    text, line = edited(SMALL, "  workload:\n", "  plan.tp: 4\n  workload:\n")
    wrote("e.yaml", text)
    check(refused("run", "e.yaml"), f"e.yaml:{line}: ", ("plan.tp", "twice"))


@pytest.mark.parametrize("labels", ["{case: a}, {other: 1}", "{case: 1}, {case: a}"])
def test_a_line_plot_over_what_not_all_rows_have(labels: str) -> None:
    text = SMALL[: SMALL.index("cases:")]
    first, second = labels.split(", ")
    text += f"cases:\n  - labels: {first}\n  - labels: {second}\nplots:\n  - {{kind: line, x: case, y: [step_s]}}\n"
    wrote("e.yaml", text)
    check(undrawn("run", "e.yaml"), f"e.yaml:{text.count(chr(10))}: plots.0.x: ", ("case",))


@pytest.mark.parametrize("where", ["title", "label", "plot title"])
@pytest.mark.parametrize("text", ["[/bold]", "$\\\\frac$", "5 $ or 6 $, $x_$", "[H100] [x8]"])
def test_text_is_text_for_the_table_and_the_plots(where: str, text: str) -> None:
    """Brackets and dollar signs are nothing special, so nothing of this is refused either."""
    place = {"title": ("table:", f'title: "{text}"\ntable:'), "label": ("case: a,", f'case: "{text}",')}
    changed = edited(SMALL, *place.get(where, ("kind: bar,", f'kind: bar, title: "{text}",')))[0]
    wrote("e.yaml", changed.replace("  start: a\n", f'  start: "{text}"\n') if where == "label" else changed)
    result = CliRunner().invoke(main, ["run", "e.yaml", "--out", "answer"])
    assert result.exit_code == 0, (result.stderr, result.exception)
    if where != "plot title":
        assert text.replace("\\\\", "\\") in result.stdout


def test_a_step_of_no_time_is_explained() -> None:
    text = SMALL[: SMALL.index("cases:")].replace("      - {" + MATMUL + "}\n", "").replace("tp: 2", "tp: 1")
    wrote("e.yaml", text)
    assert "workload" in refused("run", "e.yaml")


@pytest.mark.parametrize("reads", [".inf", "1e308", "-1", ".nan"])
def test_passes_of_a_pointwise_operator(reads: str) -> None:
    new = f"op: pointwise, name: gemm, rows: 999999999, width: 999999999, reads: {reads}, split: none"
    text, line = edited(SMALL, MATMUL, new)
    wrote("e.yaml", text)
    check(
        refused("run", "e.yaml"), f"e.yaml:{line}: workload.operators.0.reads: ", (reads.strip(".").replace("e", "e+"),)
    )


def test_key_value_heads_must_divide_the_heads() -> None:
    new = "op: attention, name: gemm, queries: 16, heads: 32, kv_heads: 5, head_dim: 64, split: heads"
    text, line = edited(SMALL, MATMUL, new)
    wrote("e.yaml", text)
    check(refused("run", "e.yaml"), f"e.yaml:{line}: workload.operators.0.kv_heads: ", ("5", "32"))


# ---- experiment files: text that is no experiment ------------------------------------------------------


def _bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines) + "\n"


def _chain() -> str:
    """Few values, shallow in the text, but 2,000 levels deep once aliases are followed."""
    lines = ["a0: &a0 " + "[" * 35 + "x" + "]" * 35]
    lines += [f"a{i}: &a{i} " + "[" * 35 + f"*a{i - 1}" + "]" * 35 for i in range(1, 60)]
    return "\n".join(lines) + "\n"


BROKEN: dict[str, tuple[str | bytes, str, str]] = {
    # id: (text, place, what the message says)
    "empty": ("", "e.yaml:1: ", "expected a mapping"),
    "blank lines": ("\n\n", "e.yaml:1: ", "expected a mapping"),
    "only a comment": ("# nothing\n", "e.yaml:1: ", "expected a mapping"),
    "list at top": ("- a\n- b\n", "e.yaml:1: ", "expected a mapping"),
    "text at top": ("hello\n", "e.yaml:1: ", "expected a mapping"),
    "number at top": ("5\n", "e.yaml:1: ", "expected a mapping"),
    "tab": ("title: x\n\tcases: 1\n", "e.yaml:2: ", "not valid YAML"),
    "bracket not closed": ("title: x\ntable: [a, b\n", "e.yaml:3: ", "not valid YAML"),
    "quote not closed": ('title: "x\n', "e.yaml:2: ", "not valid YAML"),
    "colon in a value": ("title: a: b\n", "e.yaml:1: ", "not valid YAML"),
    "indentation": ("scenario:\n  dtype: fp16\n cluster: x\n", "e.yaml:3: ", "not valid YAML"),
    "two documents": ("title: a\n---\ntitle: b\n", "e.yaml:2: ", "another document"),
    "undefined alias": ("title: *x\n", "e.yaml:1: ", "undefined alias"),
    "at sign": ("title: @x\n", "e.yaml:1: ", "not valid YAML"),
    "control character": ("title: a\x07b\n", "e.yaml", "not valid YAML"),
    "zero byte": ("title: x\ntable: \0\n", "e.yaml:2: ", "not text"),
    "latin-1": ("title: x\ntable: [é]\n".encode("latin-1"), "e.yaml:2: ", "0xe9"),
    "utf-16": ("title: x\n".encode("utf-16"), "e.yaml:1: ", "not text"),
    "binary": (bytes(range(256)) * 20, "e.yaml:2: ", "not text"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "e.yaml:1: ", "not text"),
    "alias bomb": (_bomb(), "e.yaml:1: ", "expands to more than"),
    "alias chain": (_chain(), "e.yaml:", "deep"),
    "alias of itself": ("title: x\nscenario: &a {x: *a}\n", "e.yaml:2: ", "contains itself"),
    "deep lists": ("title: x\ntable: " + "[" * 10_000 + "]" * 10_000, "e.yaml:2: ", "levels deep"),
    "deep lists not closed": ("[" * 10_000, "e.yaml:1: ", "levels deep"),
    "deep mappings": ("{a: " * 10_000, "e.yaml:1: ", "levels deep"),
    "line of 10 MB": ("title: " + "x" * 10_000_000, "e.yaml: ", "larger than 1,000,000 bytes"),
    "duplicate key": (SMALL + "table: []\n", f"e.yaml:{SMALL.count(chr(10)) + 1}: table: ", "given twice"),
    "duplicate deeper": (SMALL.replace("tp: 2\n", "tp: 2\n    tp: 2\n"), "e.yaml:7: scenario.plan.tp: ", "given twice"),
    "key is a list": ("? [a]\n: 1\n", "e.yaml:1: ", "plain word"),
    "merge key": ("x: &a {y: 1}\nscenario:\n  <<: *a\n", "e.yaml:3: scenario: ", "<<"),
    "number for a title": ("title: 5\n", "e.yaml:1: title: 5", "string"),
    "date for a title": ("title: 2024-01-01\n", "e.yaml:1: title: ", "string"),
    "python object": (
        'title: !!python/object/apply:os.system ["touch x"]\n',
        "e.yaml:1: title: ",
        "python/object/apply",
    ),
    "python object as cases": (
        SMALL[: SMALL.index("cases:")] + 'cases: !!python/object/apply:os.system [{}, {"plan.tp": 1}]\n',
        f"e.yaml:{SMALL[: SMALL.index('cases:')].count(chr(10)) + 1}: cases: ",
        "python/object/apply",
    ),
    "python name": ('title: !!python/name:os.system ""\n', "e.yaml:1: title: ", "python/name:os.system"),
    "tag of a scalar": ("title: !mine x\n", "e.yaml:1: title: ", "!mine"),
    "tag of a mapping": ("scenario: !mine {cluster: dgx-h100}\n", "e.yaml:1: scenario: ", "!mine"),
    "tag bool": ("title: !!bool maybe\n", "e.yaml:1: title: ", "maybe"),
    "tag int": ('title: !!int ""\n', "e.yaml:1: title: ", "''"),
    "tag float": ('title: !!float ""\n', "e.yaml:1: title: ", "''"),
    "tag timestamp": ("title: !!timestamp today\n", "e.yaml:1: title: ", "today"),
    "tag binary": ('title: !!binary "a"\n', "e.yaml:1: title: ", "base64"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_line(name: str) -> None:
    content, place, word = BROKEN[name]
    wrote("e.yaml", content)
    check(refused("run", "e.yaml"), place, (word,))


@pytest.mark.parametrize("ending", ["\r\n", "\ufeff"], ids=["CRLF", "BOM"])
def test_what_editors_on_windows_write_is_fine(ending: str) -> None:
    wrote("e.yaml", ending + SMALL if ending == "\ufeff" else SMALL.replace("\n", ending))
    assert CliRunner().invoke(main, ["run", "e.yaml", "--no-plots"]).exit_code == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nosuch.yaml", ("nosuch.yaml: ", "no such file")),
        ("nosuch", ("'nosuch'", "expected one of decode_throughput, dp_scaling, ", "llama70b_tp, ", "tp2_scaling")),
        ("tp2_scalin", ("'tp2_scalin'", "did you mean 'tp2_scaling'?")),
        ("deep/nosuch", ("deep/nosuch: ", "no such file")),
        ("folder", ("folder: ", "is a folder, expected a file")),
        ("folder.yaml", ("folder.yaml: ", "is a folder, expected a file")),
        ("file/below", ("file/below: ", "cannot be read")),
        ("", ()),
        (".", ("is a folder",)),
        ("/dev/null", ("/dev/null:1: ", "expected a mapping")),
        ("/dev/zero", ("/dev/zero: ", "larger than")),
        ("x" * 300, ("xxx",)),
        ("x" * 300 + ".yaml", ("xxx",)),
        ("two\nlines.yaml", ("no such file",)),
    ],
)
@pytest.mark.parametrize("command", ["run", "resolve", "trace"])
def test_a_file_that_is_not_there_or_no_file(command: str, given: str, words: tuple[str, ...]) -> None:
    Path("folder").mkdir()
    Path("folder.yaml").mkdir()
    wrote("file", "title: x")
    message = refused(command, given)
    for word in words:
        assert word in message


def test_a_file_one_may_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because an administrator may read everything."""
    wrote("e.yaml", SMALL)
    opened = Path.open

    def forbidden(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "e.yaml":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", forbidden)
        result = CliRunner().invoke(main, ["run", "e.yaml"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert one_line(result.stderr) == "e.yaml: cannot be read (Permission denied)"


# ---- --set ---------------------------------------------------------------------------------------------

BANDWIDTH = "gpu.memory.bandwidth"
SETTINGS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # id: (setting, key that the message names, what else it says)
    "no equals sign": ("plan.tp", "", ("'plan.tp'", "expected key=value")),
    "no value": ("plan.tp=", "", ("'plan.tp='", "expected key=value")),
    "no key": ("=4", "", ("'=4'", "expected key=value")),
    "empty": ("", "", ("expected key=value",)),
    "only dots": ("..=4", "..: ", ("unknown key",)),
    "unknown key": ("dtyp=fp16", "dtyp: ", ("unknown key", "did you mean 'dtype'?")),
    "unknown key below": ("plan.tpp=4", "plan.tpp: ", ("unknown key", "did you mean 'tp'?")),
    "unknown key above": ("plann.tp=4", "plann", ("unknown key", "did you mean 'plan.tp'?")),
    "key of an experiment": ("table=[step_s]", "table: ", ("unknown key",)),
    "label": ("labels.case=a", "labels", ("unknown key",)),
    "tp zero": ("plan.tp=0", "plan.tp: ", ("0", "greater than 0")),
    "tp negative": ("plan.tp=-1", "plan.tp: ", ("-1", "greater than 0")),
    "tp text": ("plan.tp=two", "plan.tp: ", ("'two'", "integer")),
    "tp fraction": ("plan.tp=1.5", "plan.tp: ", ("1.5", "integer")),
    "tp true": ("plan.tp=true", "plan.tp: ", ("True", "integer")),
    "too many ranks": ("plan.tp=16", "plan", ("16", "8 GPUs")),
    "plan number": ("plan=2", "plan: ", ("2", "mapping")),
    "unknown cluster": ("cluster=dgx-h10", "cluster: ", ("'dgx-h10'", "names like it: dgx-h100")),
    "unknown model": ("model=lama-2-7b", "model: ", ("'lama-2-7b'", "did you mean 'llama-2-7b'?")),
    "unknown gpu": ("node.gpu=h100-sxn", "node.gpu: ", ("'h100-sxn'", "did you mean 'h100-sxm'?")),
    "model path": ("model=no/such.json", "model: ", ("no/such.json", "no such file")),
    "model zero byte": ('model="\\0.json"', "model: ", ()),
    "model surrogate": ('model="\\ud800.json"', "model: ", ()),
    "model long": (f"model={'x' * 5000}", "model: ", ("xxx",)),
    "unknown dtype": ("dtype=fp17", "dtype: ", ("'fp17'", "fp16, fp32")),
    "unknown algorithm": ("algorithm=rin", "algorithm: ", ("'rin'", "did you mean 'ring'?")),
    "unknown accumulate": ("accumulate=fp8", "accumulate: ", ("'fp8'", "fp16")),
    "unknown operator": ("workload.operators.gem.time=1ms", "workload.operators.gem.time: ", ("'gem'", "'gemm'")),
    "operator number": ("workload.operators.7.time=1ms", "workload.operators.7.time: ", ("'7'", "gemm, sum")),
    "operator key": ("workload.operators.gemm.tim=1ms", "workload.operators.gemm.tim: ", ("did you mean 'time'?",)),
    "operator value": ("workload.operators.gemm.time=1 GB", "workload.operators.gemm.time: ", ("'1 GB'", "2.5 us")),
    "operators empty": ("workload.operators=[]", "workload.operators: ", ("[]", "at least 1")),
    "workload text": ("workload=prefill", "workload: ", ("'prefill'", "mapping")),
    "workload incomplete": ("workload={kind: prefill}", "workload", ("tokens", "missing")),
    "bandwidth zero": (f"{BANDWIDTH}=0", f"{BANDWIDTH}: ", ("0", "more than zero", "3.35 TB/s")),
    "bandwidth negative": (f"{BANDWIDTH}=-1 TB/s", f"{BANDWIDTH}: ", ("-1 TB/s", "more than zero")),
    "bandwidth nan": (f"{BANDWIDTH}=.nan", f"{BANDWIDTH}: ", ("nan", "more than zero")),
    "bandwidth nan text": (f"{BANDWIDTH}=nan", f"{BANDWIDTH}: ", ("nan",)),
    "bandwidth infinite": (f"{BANDWIDTH}=.inf", f"{BANDWIDTH}: ", ("inf", "out of range")),
    "bandwidth overflow": (f"{BANDWIDTH}=1e400", f"{BANDWIDTH}: ", ("out of range",)),
    "bandwidth of 400 digits": (f"{BANDWIDTH}={'9' * 400}", f"{BANDWIDTH}: ", ("999",)),
    "bandwidth of 5000 digits": (f"{BANDWIDTH}={'9' * 5000}", f"{BANDWIDTH}: ", ("999",)),
    "bandwidth next to nothing": (f"{BANDWIDTH}=1e-320", f"{BANDWIDTH}: ", ("e-320",)),
    "bandwidth unit": (f"{BANDWIDTH}=2 TB", f"{BANDWIDTH}: ", ("'TB'", "a unit of B/s")),
    "bandwidth unknown unit": (f"{BANDWIDTH}=2 furlongs", f"{BANDWIDTH}: ", ("'furlongs'", "a unit of B/s")),
    "bandwidth text": (f"{BANDWIDTH}=fast", f"{BANDWIDTH}: ", ("'fast'", "number")),
    "bandwidth true": (f"{BANDWIDTH}=true", f"{BANDWIDTH}: ", ("True", "number")),
    "bandwidth null": (f"{BANDWIDTH}=null", f"{BANDWIDTH}: ", ("None", "number")),
    "bandwidth list": (f"{BANDWIDTH}=[2 TB/s]", f"{BANDWIDTH}: ", ("['2 TB/s']",)),
    "bandwidth misspelt": ("gpu.memory.bandwith=1 TB/s", "gpu.memory.bandwith: ", ("did you mean 'bandwidth'?",)),
    "bandwidth below": (f"{BANDWIDTH}.valeu=1", f"{BANDWIDTH}.valeu: ", ("did you mean 'value'?",)),
    "memory number": ("gpu.memory=5", "gpu.memory: ", ("5", "mapping")),
    "gpu": ("gpu=h100", "gpu: ", ("unknown key",)),
    "gpu.": ("gpu.=1", "gpu.: ", ("expected the name of a parameter",)),
    "peak of no dtype": ("gpu.peak.fp99=1 TFLOPS", "gpu.peak.fp99: ", ("'fp99'", "fp16")),
    "peak unit": ("gpu.peak.fp16=1 TB/s", "gpu.peak.fp16: ", ("'TB/s'", "TFLOPS")),
    "peak number": ("gpu.peak=5", "gpu.peak: ", ("5", "list")),
    "fraction above one": ("gpu.kernel.compute_fraction=1.5", "gpu.kernel.compute_fraction: ", ("1.5", "at most 1")),
    "latency negative": ("link.nvlink-4.latency=-1 us", "link.nvlink-4.latency: ", ("-1 us", "zero or more")),
    "link unknown": (
        "link.nvlink-9.latency=1 us",
        "link.nvlink-9.latency: ",
        ("expected one of infiniband-ndr, nvlink-4",),
    ),
    "link key": ("link.nvlink-4.latenci=1 us", "link.nvlink-4.latenci: ", ("did you mean 'latency'?",)),
    "scope": ("node.peer_to_peer_scope=rot", "node.peer_to_peer_scope: ", ("'rot'", "root")),
    "hardware root": ("hardware.gpuu.power.tdp=1 W", "gpuu.power.tdp: ", ("did you mean 'gpu'?",)),
    "nodes of a node": ("cluster.nodes=4", "cluster.nodes: ", ("'dgx-h100'", "single node")),
    "not YAML": ("plan.tp=[1", "plan.tp: ", ("'[1'",)),
    "alias": ("plan.tp=*a", "plan.tp: ", ("'*a'",)),
    "alias of itself": (f"{BANDWIDTH}=&a [*a]", f"{BANDWIDTH}: ", ()),
    "alias of itself below": ("plan=&a {tp: *a}", "plan", ()),
    "deep": ("plan.tp=" + "[" * 10_000, "plan.tp: ", ("[[[",)),
    "python object": ('dtype=!!python/object/apply:os.system ["touch x"]', "dtype: ", ("python/object/apply",)),
    "tag bool": ("dtype=!!bool maybe", "dtype: ", ("maybe",)),
    "tag int": ('dtype=!!int ""', "dtype: ", ()),
    "tag timestamp": ("dtype=!!timestamp today", "dtype: ", ("today",)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting_names_the_option_and_the_key(name: str) -> None:
    setting, key, words = SETTINGS[name]
    wrote("e.yaml", SMALL[: SMALL.index("cases:")])
    check(refused("run", "e.yaml", "--set", setting), f"--set: {key}", words)


def test_a_setting_that_expands_without_end() -> None:
    """Nine levels of ten aliases: printing such a value in the message must not take for ever."""
    value = "[&a [x, x, x, x, x, x, x, x, x, x]"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        value += f", &{new} [{', '.join([f'*{old}'] * 10)}]"
    wrote("e.yaml", SMALL)
    done = limited("run", "e.yaml", "--set", f"dtype={value}]")
    check(one_line(done.stderr), "--set: dtype: ", ())


def test_settings_are_checked_by_every_command() -> None:
    wrote("e.yaml", SMALL)
    for command in ("run", "resolve", "trace"):
        check(refused(command, "e.yaml", "--set", "plan.tp=0"), "--set: plan.tp: 0", ())


# ---- models --------------------------------------------------------------------------------------------


def _config(**changes: Any) -> str:
    """A config.json with fields changed, or left out where the value is `...`."""
    fields = {key: value for key, value in (MODEL | changes).items() if value is not ...}
    return json.dumps(fields, indent=2)


def _line(text: str, key: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if f'"{key}"' in line)


CONFIGS: dict[str, tuple[str | bytes, str, tuple[str, ...]]] = {
    # id: (text, key that the message names, what else it says)
    "broken": ('{"hidden_size": 1,\n "x": }', "", ("e.json:2: ", "not valid JSON")),
    "cut off": ('{"hidden_size": 1', "", ("e.json:1: ", "not valid JSON")),
    "empty": ("", "", ("e.json:1: ", "not valid JSON")),
    "list": ("[1, 2]", "", ("e.json:1: ", "expected a JSON object")),
    "deep": ("[" * 20_000, "", ("not valid JSON",)),
    "deep objects": ('{"a": ' * 20_000, "", ("not valid JSON",)),
    "binary": (b"\xff\xfe\x00", "", ("e.json:1: ", "not text")),
    "huge": (b" " * 2_000_000, "", ("larger than",)),
    "long number": ('{"hidden_size": ' + "9" * 5000 + "}", "", ("not valid JSON",)),
    "given twice": (_config()[:-2] + ',\n  "hidden_size": 2048\n}', "hidden_size", ("twice",)),
    "no type": (
        _config(model_type=...),
        "model_type",
        ("expected one of bert, deepseek_v2, deepseek_v3, gemma3",),
    ),
    "unknown type": (_config(model_type="t5x"), "model_type", ("'t5x'", "expected one of bert, ")),
    "misspelt type": (_config(model_type="lama"), "model_type", ("'lama'", "expected one of bert, deepseek_v2")),
    "type number": (_config(model_type=5), "model_type", ("5",)),
    "type list": (_config(model_type=["llama"]), "model_type", ("['llama']",)),
    "no hidden size": (_config(hidden_size=...), "hidden_size", ("is missing",)),
    "no layers": (_config(num_hidden_layers=...), "num_hidden_layers", ("is missing",)),
    "no positions": (_config(max_position_embeddings=...), "max_position_embeddings", ("is missing",)),
    "hidden null": (_config(hidden_size=None), "hidden_size", ("is missing",)),
    "hidden zero": (_config(hidden_size=0), "hidden_size", ("0", "positive whole number")),
    "hidden negative": (_config(hidden_size=-1), "hidden_size", ("-1", "positive whole number")),
    "hidden fraction": (_config(hidden_size=4096.5), "hidden_size", ("4096.5", "positive whole number")),
    "hidden text": (_config(hidden_size="4096"), "hidden_size", ("'4096'", "positive whole number")),
    "hidden true": (_config(hidden_size=True), "hidden_size", ("True", "positive whole number")),
    "hidden nan": (_config(hidden_size=float("nan")), "hidden_size", ("nan", "positive whole number")),
    "hidden enormous": (_config(hidden_size=10**9), "hidden_size", ("1000000000",)),
    "heads do not divide hidden": (
        _config(num_attention_heads=30, num_key_value_heads=...),
        "num_attention_heads",
        ("30", "hidden_size", "4096"),
    ),
    "kv heads do not divide heads": (_config(num_key_value_heads=5), "num_key_value_heads", ("5", "32")),
    "tied as text": (_config(tie_word_embeddings="false"), "tie_word_embeddings", ("'false'",)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_model_names_file_line_and_field(name: str) -> None:
    text, key, words = CONFIGS[name]
    wrote("e.json", text)
    wrote("e.yaml", PREFILL.replace("llama-2-7b", "e.json"))
    message = refused("run", "e.yaml")
    check(message, "e.json", words)
    if key:
        present = isinstance(text, str) and f'"{key}"' in text
        expected = (
            rf"e\.json:{_line(text, key)}: {key}: " if present and name != "given twice" else rf"e\.json.*: {key}: "
        )
        assert re.match(expected, message), message
    assert "e.json" in refused("show", "e.json")


SPLITS: dict[str, tuple[dict[str, Any], str, str, str, tuple[str, ...]]] = {
    # id: (fields of the model, text, its replacement, key, what else the message says)
    "tp does not divide the heads": ({}, "tp: 2", "tp: 3", "plan.tp", ("3", "32", "expected one of 1, 2, 4, 8")),
    "tp and kv heads": (
        {"num_attention_heads": 24, "num_key_value_heads": 3, "head_dim": 128},
        *("tp: 2", "tp: 2 ", "plan.tp", ("2", "3")),
    ),
    "tp and ffn": ({"intermediate_size": 11009}, "tp: 2", "tp: 2 ", "plan.tp", ("2", "11009")),
    "batch not divisible": ({}, "dp: 1", "dp: 3", "plan.dp", ("3", "4")),
    "batch zero": ({}, "batch: 4", "batch: 0", "workload.batch", ("0", "greater than 0")),
    "tokens zero": ({}, "tokens: 128", "tokens: 0", "workload.tokens", ("0", "greater than 0")),
    "rank too large": ({}, "batch: 4", "batch: 4\n    rank: 9999", "workload.rank", ("9999", "from 1 to 4096")),
    "zero unknown": ({}, "dp: 1", "dp: 1\n    zero: 4", "plan.zero", ("4 is not a whole number from 0 to 3",)),
    "zero text": ({}, "dp: 1", "dp: 1\n    zero: x", "plan.zero", ("'x' is not a whole number from 0 to 3",)),
    "no such split": ({}, "dp: 1", "dp: 1\n    tensor: 4", "plan.tensor", ("unknown key; expected one of tp, dp, ",)),
    "dtype of nothing trained": ({}, "dtype: bf16", "dtype: int8", "dtype", ("'int8' is not trained in", "bf16, fp16")),
    "tokens text": ({}, "tokens: 128", "tokens: 4k", "workload.tokens", ("'4k'", "integer")),
    "sequence parallel": (
        {},
        "dp: 1",
        "dp: 1\n    sequence_parallel: perhaps",
        "plan.sequence_parallel",
        ("'perhaps'",),
    ),
    "fp8 on an A100": (
        {},
        *(
            "cluster: dgx-h100\n  dtype: bf16",
            "cluster: dgx-a100\n  dtype: fp8",
            "dtype",
            ("a100-sxm-80gb", "fp8", "bf16"),
        ),
    ),
    "no model": ({}, "  model: e.json\n", "", "model", ("is missing", "training")),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_the_model_does_not_allow(name: str) -> None:
    fields, old, new, key, words = SPLITS[name]
    wrote("e.json", _config(**fields))
    text, line = edited(PREFILL.replace("llama-2-7b", "e.json"), old, new)
    line += new.count("\n")
    wrote("e.yaml", text)
    place = f"e.yaml:{line}: {key}: " if new else "e.yaml:"
    check(refused("run", "e.yaml"), place, (key, *words))


def test_tokens_that_sequence_parallelism_does_not_divide() -> None:
    wrote("e.yaml", PREFILL.replace("dp: 1", "sequence_parallel: true").replace("tokens: 128", "tokens: 127"))
    check(refused("run", "e.yaml"), "e.yaml:11: workload.tokens: ", ("127", "2 ranks"))


def test_an_unknown_model_in_a_file_has_a_line_and_a_suggestion() -> None:
    wrote("e.yaml", PREFILL.replace("llama-2-7b", "llama-2-7"))
    check(refused("run", "e.yaml"), "e.yaml:2: model: ", ("'llama-2-7'", "did you mean 'llama-2-7b'?"))


@pytest.mark.parametrize("model", ["no/such.json", "folder"])
def test_a_path_of_a_model_that_is_not_there(model: str) -> None:
    Path("folder").mkdir()
    wrote("e.yaml", PREFILL.replace("llama-2-7b", model))
    message = refused("run", "e.yaml")
    assert model in message and ("no such file" in message or "config.json" in message)
    assert "e.yaml:2" in message, f"does not say where the name was written: {message}"


# ---- the user's own catalogue --------------------------------------------------------------------------

RATE = "bandwidth: {value: 1, unit: TB/s, source: sheet}"
SPECS: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    # id: (file, text, its replacement, key that the message names, what else it says)
    "negative": (
        "gpu",
        "{value: 1, unit: TB/s",
        "{value: -1, unit: TB/s",
        "memory.bandwidth",
        ("-1 TB/s", "more than zero"),
    ),
    "zero": ("gpu", "{value: 1, unit: TB/s", "{value: 0, unit: TB/s", "memory.bandwidth", ("0 TB/s", "more than zero")),
    "nan": ("gpu", "{value: 1, unit: TB/s", "{value: .nan, unit: TB/s", "memory.bandwidth", ("nan",)),
    "infinite": ("gpu", "{value: 1, unit: TB/s", "{value: .inf, unit: TB/s", "memory.bandwidth", ("inf",)),
    "true": ("gpu", "{value: 1, unit: TB/s", "{value: true, unit: TB/s", "memory.bandwidth", ("True", "number")),
    "text": ("gpu", "{value: 1, unit: TB/s", "{value: fast, unit: TB/s", "memory.bandwidth", ("'fast'", "number")),
    "400 digits": ("gpu", "{value: 1, unit: TB/s", f"{{value: {'9' * 400}, unit: TB/s", "memory.bandwidth", ("999",)),
    "wrong unit": ("gpu", "unit: TB/s", "unit: TB", "memory.bandwidth", ("'TB'", "a unit of B/s", "3.35 TB/s")),
    "unknown unit": ("gpu", "unit: TB/s", "unit: TBps", "memory.bandwidth", ("'TBps'", "a unit of B/s")),
    "no unit": ("gpu", ", unit: TB/s", "", "memory.bandwidth", ("unit", "3.35 TB/s")),
    "no source": ("gpu", "TB/s, source: sheet", "TB/s", "memory.bandwidth", ("source",)),
    "bare number": ("gpu", RATE, "bandwidth: 1 TB/s", "memory.bandwidth", ("source",)),
    "unknown source": ("gpu", "TB/s, source: sheet", "TB/s, source: shet", "memory.bandwidth", ("'shet'", "'sheet'")),
    "empty source": ("gpu", "TB/s, source: sheet", "TB/s, source: ''", "memory.bandwidth", ("source", "sheet")),
    "source says nothing": ("gpu", "sheet: a made-up datasheet", "sheet: ''", "sources.sheet", ()),
    "no value": ("gpu", "{value: 1, unit: TB/s", "{unit: TB/s", "memory.bandwidth", ("value", "missing")),
    "misspelt optional": ("gpu", "boost_clock", "bost_clock", "compute", ("bost_clock", "did you mean 'boost_clock'?")),
    "misspelt": ("gpu", "l2_cache", "l2_cach", "memory", ("l2_cach", "did you mean 'l2_cache'?")),
    "misspelt value": ("gpu", "{value: 1, unit: TB/s", "{valu: 1, unit: TB/s", "memory.bandwidth", ("valu", "'value'")),
    "unknown key": ("gpu", "vendor: nobody", "vendor: nobody\ncolour: red", "colour", ("unknown key",)),
    "fraction of a unit": (
        "gpu",
        "{value: 100, source: sheet}",
        "{value: 99.5, source: sheet}",
        "compute.sm_count",
        ("99.5",),
    ),
    "no lanes": ("gpu", "{value: 16, source", "{value: 0, source", "host_link.lanes", ("0", "more than zero")),
    "flag": (
        "gpu",
        "peer_to_peer: {value: true",
        "peer_to_peer: {value: maybe",
        "host_link.peer_to_peer",
        ("'maybe'",),
    ),
    "peak dtype": ("gpu", "{dtype: fp16,", "{dtype: fp17,", "peak.0.dtype", ("'fp17'", "fp16, fp32")),
    "peak twice": (
        *(
            "gpu",
            "  - {dtype: fp32, accumulate: fp32, engine: vector,",
            "  - {dtype: fp16, accumulate: fp32, engine: tensor,",
        ),
        *("peak", ("fp16",)),
    ),
    "unknown source in a list": (
        "gpu",
        "value: 10, unit: TFLOPS, source: sheet",
        "value: 10, unit: TFLOPS, source: shet",
        "peak",
        ("'shet'",),
    ),
    "wrong name": ("gpu", "name: tiny\n", "name: tinny\n", "name", ("'tinny'", "'tiny'")),
    "unknown architecture": (
        "gpu",
        "architecture: generic",
        "architecture: hoper",
        "architecture",
        ("'hoper'", "'hopper'"),
    ),
    "unknown link": ("gpu", "link: pcie-4", "link: pcie4", "host_link.link", ("'pcie4'", "'pcie-4'")),
    "slice without source": (
        "gpu",
        "instances: 2, source: sheet",
        "instances: 2",
        "mig_profiles.0.source",
        ("missing",),
    ),
    "slice of unknown source": (
        "gpu",
        "instances: 2, source: sheet",
        "instances: 2, source: shet",
        "mig_profiles",
        ("'shet'",),
    ),
    "unknown gpu": ("node", "gpu: tiny", "gpu: tinyy", "gpu", ("'tinyy'", "did you mean 'tiny'?")),
    "unknown device": ("node", "[gpu, gpu]", "[gpu, gpo]", "sockets.0.devices.1", ("'gpo'", "'gpu'")),
    "no gpu at all": ("node", "devices: [gpu, gpu]", "devices: [nic]", "", ("gpu",)),
    "no sockets": ("node", "count: 1", "count: 0", "sockets.0.count", ("0", "whole number from 1 to 128")),
    "scope": ("node", "{value: root", "{value: rot", "peer_to_peer_scope", ("'rot'",)),
    "scope without source": (
        "node",
        "{value: root, source: guide}",
        "{value: root}",
        "peer_to_peer_scope",
        ("source",),
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_bad_specification_names_its_own_file_and_line(name: str) -> None:
    which, old, new, key, words = SPECS[name]
    text, line = edited(GPU if which == "gpu" else NODE, old, new)
    line += new.count("\n") if name == "unknown key" else 0
    wrote("own/gpus/tiny.yaml", text if which == "gpu" else GPU)
    wrote("own/nodes/tiny-box.yaml", text if which == "node" else NODE)
    wrote("e.yaml", SMALL[: SMALL.index("cases:")].replace("dgx-h100", "tiny-box"))
    file = "own/gpus/tiny.yaml" if which == "gpu" else "own/nodes/tiny-box.yaml"
    message = refused("--catalog", "own", "run", "e.yaml")
    below = name in ("misspelt", "misspelt optional", "misspelt value", "no gpu at all", "peak twice")
    check(message, f"{file}:" if below else f"{file}:{line}: {key}", (key, *words))


def test_the_specifications_of_these_tests_are_fine() -> None:
    wrote("own/gpus/tiny.yaml", GPU)
    wrote("own/nodes/tiny-box.yaml", NODE)
    wrote("e.json", _config())
    for text in (SMALL, PREFILL, SMALL.replace("dgx-h100", "tiny-box").replace("tp: 4", "tp: 1")):
        wrote("e.yaml", text.replace("llama-2-7b", "e.json"))
        result = CliRunner().invoke(main, ["--catalog", "own", "run", "e.yaml", "--no-plots"])
        assert result.exit_code == 0, (result.stderr, result.exception)


@pytest.mark.parametrize("content", ["", "- a\n", "name: [\n", "name: tiny\n", "\0", "name: tiny\nname: tiny\n"])
@pytest.mark.parametrize("command", ["show", "list"])
def test_a_broken_specification_is_named_by_show_and_list(command: str, content: str) -> None:
    wrote("own/gpus/tiny.yaml", content)
    if command == "list" and content == "name: tiny\n":
        assert CliRunner().invoke(main, ["--catalog", "own", "list", "gpus"]).exit_code == 0
    else:
        check(refused("--catalog", "own", command, "gpus" if command == "list" else "tiny"), "own/gpus/tiny.yaml:", ())


@pytest.mark.parametrize(
    "content",
    [
        *("- tiny\n", "tiny: [\n", "tiny: text\n", "tiny: [a]\n", "tiny: null\n", "tiny: {title: [a]}\n"),
        *("tiny: {source: 5}\n", "tiny: {published_parameters: many}\n", "tiny: {published_parameters: .inf}\n"),
    ],
)
@pytest.mark.parametrize("command", ["list", "show", "run"])
def test_a_broken_list_of_sources_of_models(command: str, content: str) -> None:
    """`list`, `show` and `run` may each need another part of it, so each may refuse or succeed, but not fall over."""
    wrote("own/models/tiny.json", _config())
    wrote("own/models/SOURCES.yaml", content)
    wrote("e.yaml", PREFILL.replace("llama-2-7b", "tiny"))
    arguments = {"list": ["list", "models"], "show": ["show", "tiny"], "run": ["run", "e.yaml", "--no-plots"]}[command]
    result = CliRunner().invoke(main, ["--catalog", "own", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    if result.exit_code:
        check(one_line(result.stderr), "own/models/SOURCES.yaml:", ())


@pytest.mark.parametrize("given", ["nosuch", "e.yaml", "x" * 300])
@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_catalogue_that_is_no_folder(way: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote("e.yaml", SMALL)
    if way == "environment":
        monkeypatch.setenv("SIMGPU_CATALOG", given)
    for command in (["list"], ["run", "e.yaml"], ["show", "h100-sxm"]):
        message = refused(*(["--catalog", given] if way == "option" else []), *command)
        assert given[:200] in message
        assert ("SIMGPU_CATALOG" if way == "environment" else "catalog") in message


# ---- show ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["h100-sx"], ("'h100-sx'", "did you mean 'h100-sxm'?")),
        (["h100"], ("'h100'", "did you mean one of h100-nvl, h100-pcie, h100-sxm")),
        (["a100-80gb"], ("'a100-80gb'", "did you mean one of a100-pcie-80gb, a100-sxm-80gb?")),
        (["dgx-h10"], ("'dgx-h10'", "names like it: dgx-h100")),
        (["llama-2-7"], ("'llama-2-7'", "did you mean 'llama-2-7b'?")),
        (["tp2_scaling"], ("'tp2_scaling'",)),
        (["x" * 300], ("xxx",)),
        (["."], ("folder",)),
        (["h100-sxm", "--set", "gpu.memory.bandwith=1 TB/s"], ("--set: gpu.memory.bandwith: ", "'bandwidth'")),
        (["h100-sxm", "--set", "gpu.memory.bandwidth=-1"], ("--set: gpu.memory.bandwidth: ", "-1")),
        (["h100-sxm", "--set", "plan.tp=2"], ("--set: plan.tp: ", "hardware parameter")),
        (["h100-sxm", "--set", "node.memory.bandwidth=1 TB/s"], ("--set: node.memory.bandwidth: ",)),
        (["h100-sxm", "--out", "x.png"], ("x.png",)),
        (["llama-2-7b", "--set", "gpu.memory.bandwidth=1 TB/s"], ("--set: gpu.memory.bandwidth: ",)),
        (["llama-2-7b", "--set", "hidden=1"], ("--set: hidden: ",)),
        (["nvlink-4", "--set", "link.pcie-4.latency=1 us"], ("--set: link.pcie-4.latency: ",)),
        (["nvlink-4", "--set", "gpu.latency=1 us"], ("--set: gpu.latency: ",)),
        (["dgx-h100", "--set", "node.sockts=1"], ("--set: node.sockts: ", "did you mean 'sockets'?")),
        (["dgx-h100", "--set", "cluster.nodes=2"], ("--set: cluster.nodes: ", "single node")),
        (["dgx-h100", "--out", "x.jpeg"], ("x.jpeg", "expected .png, .svg or .pdf")),
        (["dgx-h100", "--out", "x"], ("expected .png, .svg or .pdf",)),
        (["dgx-h100", "--out", "file/x.png"], ("file", "cannot be written")),
    ],
)
def test_show_refuses(arguments: list[str], words: tuple[str, ...]) -> None:
    wrote("file", "x")
    message = refused("show", *arguments)
    for word in words:
        assert word in message


# ---- where files go ------------------------------------------------------------------------------------

UNWRITABLE = ["file", "file/below", "/proc/simgpu-test", "x" * 300]


@pytest.mark.parametrize("folder", UNWRITABLE)
@pytest.mark.parametrize("style", ["table", "json"])
def test_out_that_cannot_be_written(folder: str, style: str) -> None:
    wrote("file", "x")
    wrote("e.yaml", SMALL)
    check(refused("run", "e.yaml", "--format", style, "--out", folder), folder[:200], ("cannot be written",))


@pytest.mark.parametrize("file", ["file/below.json", "/proc/simgpu-test/t.json", "folder", "x" * 300])
def test_trace_that_cannot_be_written(file: str) -> None:
    """The message names what the user gave, not a temporary file beside it."""
    wrote("file", "x")
    Path("folder").mkdir()
    wrote("e.yaml", SMALL)
    message = refused("trace", "e.yaml", "-o", file)
    place = message.partition(": ")[0]
    assert "cannot be written" in message
    assert file[:200].startswith(place) or place.startswith(file[:200]), message


def test_default_folder_that_cannot_be_written() -> None:
    wrote("results", "a file where the folder should be")
    wrote("e.yaml", SMALL)
    check(refused("run", "e.yaml"), "results", ("cannot be written",))


@pytest.mark.parametrize(
    "arguments",
    [["list", "gpu"], ["lst"], ["run"], ["run", "e.yaml", "--format", "xml"], ["show", "dgx-h100", "--nodes", "0"]],
)
def test_a_wrong_command_line_ends_with_two_and_says_how(arguments: list[str]) -> None:
    wrote("e.yaml", SMALL)
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr and "Traceback" not in result.stderr


def test_errors_go_to_stderr_of_the_installed_command() -> None:
    wrote("e.yaml", edited(SMALL, "    tp: 2", "    tp: 0")[0])
    done = subprocess.run([ENTRY, "run", "e.yaml"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    check(one_line(done.stderr), "e.yaml:6: plan.tp: 0", ())
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["e.yaml"]


# ---- input that must not take for ever ------------------------------------------------------------------


def limited(*arguments: str, seconds: float = 6, memory: int = 2 * 2**30) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own with limits on time and memory; it must refuse its input."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [ENTRY, *arguments], capture_output=True, text=True, timeout=seconds, preexec_fn=limit, env=env
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr[-300:]
    return done


def test_a_model_of_a_billion_layers() -> None:
    wrote("e.json", _config(num_hidden_layers=999_999_999))
    wrote("e.yaml", PREFILL.replace("llama-2-7b", "e.json"))
    check(one_line(limited("run", "e.yaml", "--no-plots").stderr), "e.json:7: num_hidden_layers: 999999999", ())


def test_axes_that_multiply_to_ten_billion_rows() -> None:
    names = ["power.tdp", "price.purchase", "memory.bandwidth", "memory.capacity", "compute.sm_count"]
    names += ["nvlink.lanes", "host_link.lanes", "peak.fp16", "peak.bf16", "memory.l2_cache"]
    text = SMALL[: SMALL.index("cases:")] + "vary:\n"
    wrote("e.yaml", text + "".join(f"  gpu.{name}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" for name in names))
    check(one_line(limited("run", "e.yaml", "--no-plots").stderr), f"e.yaml:{text.count(chr(10))}: vary", ())


def test_an_architecture_that_inherits_from_itself() -> None:
    wrote("own/gpus/tiny.yaml", GPU.replace("architecture: generic", "architecture: mine"))
    wrote("own/nodes/tiny-box.yaml", NODE)
    wrote("own/architectures/mine.yaml", "name: mine\ntitle: Mine\nparent: yours\n")
    wrote("own/architectures/yours.yaml", "name: yours\ntitle: Yours\nparent: mine\n")
    message = one_line(limited("--catalog", "own", "show", "tiny").stderr)
    check(message, "own/architectures/", ("parent", "mine"))


def test_a_number_of_many_digits_that_is_none() -> None:
    wrote("e.yaml", SMALL)
    done = limited("run", "e.yaml", "--set", f"gpu.memory.bandwidth={'1' * 50_000}!")
    check(one_line(done.stderr), "--set: gpu.memory.bandwidth: ", ("111",))


# ---- anything at all -----------------------------------------------------------------------------------


def fuzz(examples: int) -> settings:
    """The same examples every time; slow machines are no failure."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


WORDS = ["dgx-h100", "llama-2-7b", "fp16", "operators", "prefill", "training", "m", "k", "none", "step_s", "case", "tp"]
WORDS += ["1 GB", "-1 TB/s", "1e999 s", "2 us", "gpu", "[/x]", "$\\frac$", "a\nb", "../x", "\x1b[0m", "é", "0x10"]
NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([10**5, 10**12, 10**30, 10**400, -(10**400)]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(WORDS),
    st.dates(),
    st.binary(max_size=4),
)
ANYTHING = st.recursive(
    NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    "experiment",
    "title",
    "scenario",
    "cases",
    "vary",
    "zip",
    "where",
    "table",
    "plots",
    "compare",
    "labels",
    "hardware",
    "model",
]
KEYS += ["cluster", "dtype", "plan", "plan.tp", "workload", "workload.tokens", "workload.operators", "gpu.memory"]
KEYS += ["workload.operators.gemm.time", "workload.operators.sum.bytes", "workload.operators.0", "gpu.peak.fp16"]
KEYS += [
    "gpu.memory.bandwidth",
    "link.nvlink-4.latency",
    "node.gpu",
    "cluster.nodes",
    "gpu.kernel.launch_overhead",
    "",
    ".",
]


def never_falls_over(*arguments: str) -> None:
    """Exit code 0, or 2 with one line: nothing else, whatever the input."""
    with at_most(20):
        result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2)
    if result.exit_code == 2:
        assert result.stdout == ""
        assert result.stderr.startswith("simgpu: ") and result.stderr.count("\n") == 1, result.stderr
    else:
        assert json.loads(result.stdout)["rows"]


def run_text(text: str | bytes) -> None:
    wrote("fuzz.yaml", text)
    never_falls_over("run", "fuzz.yaml", "--format", "json", "--no-plots", "--out", "answer")


@fuzz(150)
@given(st.text() | st.text(alphabet="{}[]:,-&*!|>#?'\"%@ \n\tax1.~") | st.binary().map(bytes))
@example("title: !!bool x")
@example("{[]: 1}")
def test_fuzz_any_text_as_experiment(text: str | bytes) -> None:
    run_text(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)


@fuzz(100)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), ANYTHING, max_size=5))
def test_fuzz_any_mapping_as_experiment(data: dict[str, Any]) -> None:
    run_text(yaml.safe_dump(data, allow_unicode=True))


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in below for place in _places(value, (*path, key)))]


VALID = {"operators": yaml.safe_load(SMALL), "training": yaml.safe_load(PREFILL)}
VALID["training"]["scenario"]["workload"]["tokens"] = 16
PLACES = [(name, place) for name, data in VALID.items() for place in _places(data) if place]


def _changed(name: str, place: tuple[Any, ...], value: Any) -> str:
    """A good experiment with the value at one place replaced."""
    data = json.loads(json.dumps(VALID[name]))
    holder = data
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = value
    return yaml.safe_dump(data, allow_unicode=True)


UGLY: dict[str, Any] = {"null": None, "true": True, "zero": 0, "minus one": -1, "fraction": 0.5, "large": 10**12}
UGLY |= {"nan": float("nan"), "infinite": float("inf"), "enormous": 10**400, "empty": "", "text": "x", "list": []}
UGLY |= {"mapping": {}, "nested": [{}]}


@pytest.mark.parametrize("ugly", UGLY)
def test_every_place_of_an_experiment_with_an_ugly_value(ugly: str) -> None:
    """Not by chance but one by one: nothing that stands in an experiment may bring a run down."""
    fallen = []
    for name, place in PLACES:
        try:
            run_text(_changed(name, place, UGLY[ugly]))
        except Exception as error:
            fallen.append(f"{name}: {'.'.join(map(str, place))}: {error!r:.100}")
    assert not fallen


@fuzz(250)
@given(st.sampled_from(PLACES), ANYTHING, st.booleans())
def test_fuzz_an_experiment_with_one_thing_changed(
    where: tuple[str, tuple[Any, ...]], value: Any, rename: bool
) -> None:
    """A good experiment in which one value is replaced, or one key gets another name."""
    name, place = where
    if not rename or not isinstance(place[-1], str) or not isinstance(value, str):
        run_text(_changed(name, place, value))
        return
    data = json.loads(json.dumps(VALID[name]))
    holder = data
    for part in place[:-1]:
        holder = holder[part]
    holder[value] = holder.pop(place[-1])
    run_text(yaml.safe_dump(data, allow_unicode=True))


@fuzz(150)
@given(
    st.sampled_from(KEYS) | st.text(max_size=6),
    st.text(max_size=12) | ANYTHING.map(lambda value: yaml.safe_dump(value, default_flow_style=True).strip()),
)
@example("dtype", "!!bool x")
@example("model", '"\\0.json"')
@example("gpu.memory.bandwidth", "9" * 400)
def test_fuzz_settings(key: str, value: str) -> None:
    wrote("fuzz.yaml", SMALL[: SMALL.index("cases:")])
    never_falls_over("run", "fuzz.yaml", "--format", "json", "--no-plots", "--out", "answer", "--set", f"{key}={value}")


CONFIG_VALUES = NASTY.filter(lambda value: not isinstance(value, bytes) and type(value).__name__ != "date")


@fuzz(100)
@given(st.dictionaries(st.sampled_from(sorted(MODEL)), CONFIG_VALUES, min_size=1, max_size=2))
def test_fuzz_models(changes: dict[str, Any]) -> None:
    layers = changes.get("num_hidden_layers")
    if isinstance(layers, int) and layers > 100:
        changes["num_hidden_layers"] = 100  # how many are too many is asked elsewhere
    wrote("e.json", _config(**changes))
    run_text(PREFILL.replace("llama-2-7b", "e.json"))


SPEC_PLACES = [place for place in _places(yaml.safe_load(GPU)) if place]


@fuzz(120)
@given(st.sampled_from(SPEC_PLACES), ANYTHING)
def test_fuzz_a_specification_with_one_thing_changed(place: tuple[Any, ...], value: Any) -> None:
    data = yaml.safe_load(GPU)
    holder = data
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = value
    wrote("own/gpus/tiny.yaml", yaml.safe_dump(data, allow_unicode=True))
    wrote("own/nodes/tiny-box.yaml", NODE)
    wrote("fuzz.yaml", SMALL[: SMALL.index("cases:")].replace("dgx-h100", "tiny-box"))
    never_falls_over("--catalog", "own", "run", "fuzz.yaml", "--format", "json", "--no-plots", "--out", "answer")
