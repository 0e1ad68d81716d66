"""Bad experiment files: every error is one line with file, line, key, the value and what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from bad_input import (
    SMALL,
    _elsewhere,  # noqa: F401 - fixtures
    check,
    edited,
    one_line,
    refused,
    undrawn,
    wrote,
)
from click.testing import CliRunner

from simgpu.cli import main

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
    "plot kind": (
        "kind: bar",
        "kind: pie",
        "plots.0.kind",
        ("'pie'", "expected one of bar, breakeven, cost, curve, heatmap, line"),
    ),
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
        (
            "nosuch",
            (
                "'nosuch'",
                "simgpu list experiments names them",
            ),
        ),
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
