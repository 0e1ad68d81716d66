"""What is drawn: an input of each kind, from a valid example that is damaged."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from . import calls, examples, stores
from .mutations import CELLS, WORDS, damaged, damaged_table, damaged_text, ugly

Files = dict[str, bytes]


@dataclass(frozen=True)
class Input:
    """A command with the files it reads, or a call of the Python API as it would be written."""

    kind: str
    arguments: tuple[str, ...] = ()
    files: Files = field(default_factory=dict)
    call: str = ""


def draw(seed: int, number: int, kinds: tuple[str, ...] = ()) -> Input:
    """The input of that number: it depends on nothing else."""
    source = random.Random(f"simgpu fuzz {seed} {number}")
    kind = source.choices(list(KINDS), [KINDS[name][0] if not kinds or name in kinds else 0 for name in KINDS])[0]
    arguments, files, call = KINDS[kind][1](source)
    return Input(kind, tuple(arguments), files, call)


Drawn = tuple[list[str], Files, str]


def _yaml(data: Any) -> bytes:
    """YAML of a tree, strings that no file can hold included."""
    try:
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    except ValueError:  # integers of more digits than Python prints
        return (
            b"experiment: drawn\nscenario: {cluster: dgx-h100, workload: {kind: prefill, tokens: "
            + b"9" * 5000
            + b"}}\n"
        )


def _json(data: Any) -> bytes:
    try:
        return json.dumps(data, indent=1).encode("utf-8", "surrogatepass")
    except ValueError:
        return b'{"model_type": "llama", "hidden_size": ' + b"9" * 5000 + b"}"


def _example(draw: random.Random) -> dict[str, Any]:
    return draw.choice(examples.EXPERIMENTS) if draw.random() < 0.8 else draw.choice(examples.published())


def _command(draw: random.Random, file: str = "e.yaml") -> list[str]:
    """A command that reads an experiment; drawing is slow, so that few draw pictures."""
    return list(
        draw.choices(
            [
                ["run", file, "--no-plots", "--format", "json", "-q"],
                ["run", file, "--no-plots", "--memory", "--out", "out"],
                ["run", file, "--format", "csv", "--plot-format", "svg", "-q"],
                ["resolve", file],
                ["trace", file, "-o", "t.json"],
                ["explain", file, "--format", "json"],
                ["sensitivity", file, "--no-plots", "--format", "json", "--case", "1"],
                ["sweep", file, "--jobs", "1", "--no-plots", "--format", "json", "-q"],
                ["search", file, "--jobs", "1", "--no-plots", "--format", "json"],
                ["diff", f"{file}:1", f"{file}:1", "--set-b", "gpu.memory.bandwidth=1 TB/s", "--format", "json"],
            ],
            [60, 8, 1, 6, 4, 4, 2, 2, 2, 2],
        )[0]
    )


def _experiment(draw: random.Random) -> Drawn:
    tree = damaged(draw, _example(draw))
    return _command(draw), {"e.yaml": _yaml(tree)}, ""


def _experiment_text(draw: random.Random) -> Drawn:
    text = yaml.safe_dump(_example(draw), sort_keys=False)
    return _command(draw), {"e.yaml": damaged_text(draw, text)}, ""


def _search(draw: random.Random) -> Drawn:
    tree = damaged(draw, draw.choice(examples.SEARCHES))
    arguments = ["search", "e.yaml", "--jobs", "1", "--no-plots", "--format", draw.choice(("json", "csv", "table"))]
    return arguments, {"e.yaml": _yaml(tree)}, ""


def _settings(draw: random.Random) -> Drawn:
    arguments = _command(draw)
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = _shown(ugly(draw))
        key = draw.choice(examples.SETTINGS) if draw.random() < 0.95 else draw.choice(WORDS)
        arguments += ["--set", draw.choice((f"{key}={value}",) * 9 + (key + value,)).replace("\0", "")]
    return arguments, {"e.yaml": _yaml(_example(draw))}, ""


def _shown(value: Any) -> str:
    """A value as someone would type it."""
    if isinstance(value, (dict, list)):
        return yaml.safe_dump(value, default_flow_style=True).strip()
    try:
        return str(value)
    except ValueError:
        return "9" * 5000


def _options(draw: random.Random) -> Drawn:
    """Options of commands: names, columns, numbers."""
    word, column = _shown(ugly(draw)).replace("\0", ""), draw.choice(examples.COLUMNS)
    path = "x" if word.startswith("/") or ".." in word else word or "x"  # nothing is written outside its folder
    number = draw.choice((word, "0", "-1", "1", "3", "1e9", "1000000000000", "nan", "9" * 30))
    arguments = draw.choice(
        (
            ["sensitivity", "e.yaml", "--no-plots", "--value", column, "--change", number],
            ["sensitivity", "e.yaml", "--no-plots", "--case", number, "--price", number],
            ["diff", f"e.yaml:{number}", "e.yaml:1", "--value", column],
            ["explain", "e.yaml", "--top", number],
            ["run", word or "x"],
            ["run", "e.yaml", "--no-plots", "--out", path],
            ["trace", "e.yaml", "-o", path],
            ["show", word or "x"],
            ["show", "dgx-h100-ib", "--set", f"cluster.nodes={number}"],
            [
                "fit",
                draw.choice(("llama-3.2-1b", word or "x")),
                "--gpu",
                draw.choice(("l4", word)),
                "--context",
                number,
            ],
            ["fit", "llama-3.2-1b", "--gpu", "l4", "--users", number, "--precision", draw.choice(("fp8", word))],
            ["--catalog", word or "x", "list"],
        )
    )
    return arguments, {"e.yaml": _yaml(examples.EXPERIMENTS[1])}, ""


def _condition(draw: random.Random) -> Drawn:
    """A condition of words that conditions know and some that they do not."""
    atoms = ("tp", "dp", "batch", "gpus", "layers", "model", "dtype", "'fp8'", "1", "0", "2.5", "10", "1e308", "-1",
    "None",
             "nothing", "True", "x.y", "tp[0]", "__import__('os')", "'a' * 10", "9" * 40, "(tp", "lambda: 1",
             "abs(tp)", "²")  # fmt: skip
    joins = (
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        "and",
        "or",
        "in",
        "not in",
        "is",
        ",",
        "if",
    )
    text = draw.choice(atoms)
    for _ in range(draw.choice((1, 2, 2, 3, 5, 40))):
        text = f"{'not ' if draw.random() < 0.05 else ''}{text} {draw.choice(joins)} {draw.choice(atoms)}"
        text = f"({text})" if draw.random() < 0.3 else text
    tree = {**examples.EXPERIMENTS[1], "vary": _axes(draw), "where": [text]}
    return ["run", "e.yaml", "--no-plots", "--format", "json", "-q"], {"e.yaml": _yaml(tree)}, ""


def _axes(draw: random.Random) -> dict[str, Any]:
    """Axes of few values, however they are written; that more are refused is a matter of tests."""
    batch = draw.choice(([1, 2], {"range": [1, 3], "step": 1}, {"range": [1, 3]}, {"log_range": [1, 4], "factor": 2}))
    return {"plan.tp": [1, 2], "workload.batch": batch}


def _hardware(draw: random.Random) -> Drawn:
    """A specification of the catalogue, damaged, and something that runs on it."""
    kind, name, machine = draw.choice(examples.hardware())
    text = examples.specification(kind, name)
    raw = damaged_text(draw, text) if draw.random() < 0.2 else _yaml(damaged(draw, yaml.safe_load(text)))
    job: dict[str, Any] = {"kind": "prefill", "batch": 1, "tokens": 256}
    served = {"kind": "inference", "batch": 2, "prompt": 128, "output": 8}
    tree = {"experiment": "drawn", "scenario": {"cluster": machine, "model": "llama-3.2-1b",
            "workload": draw.choice((job, job, served)), "plan": {"tp": draw.choice((1, 1, 2, 4))}}}  # fmt: skip
    command = draw.choice(
        (
            *([["run", "e.yaml", "--no-plots", "--format", "json", "-q"]] * 3),
            ["show", name],
            ["nccl-tests", machine, "-b", "1M", "-e", "64M", "-f", "8"],
            ["list", kind if kind in ("gpus", "nodes", "clusters") else "gpus"],
        )
    )
    return ["--catalog", "cat", *command], {f"cat/{kind}/{name}.yaml": raw, "e.yaml": _yaml(tree)}, ""


def _software(draw: random.Random) -> Drawn:
    """A framework or a runtime, damaged, and something that it runs."""
    kind, name, text = draw.choice(examples.software())
    raw = damaged_text(draw, text) if draw.random() < 0.2 else _yaml(damaged(draw, yaml.safe_load(text)))
    scenario: dict[str, Any] = {"cluster": "dgx-h100", "model": "llama-3.2-1b", "plan": {"tp": draw.choice((1, 2))}}
    if kind == "frameworks":
        size = {"kind": "training", "batch": 2, "tokens": 128}
        scenario |= {"framework": name, "workload": size | draw.choice(({}, {"weights": "fp32"}, {"flash": False}))}
    else:
        precision = {"precision": "q4_0"} if name.startswith("llama.cpp") else {}
        size = {"prompt": 64, "output": 4, "runtime": name}
        kinds = ({"kind": "inference", "batch": 2}, {"kind": "serving", "concurrency": 2})
        scenario |= {"workload": {**draw.choice(kinds), **size, **precision}}
    run = ["run", "e.yaml", "--no-plots", "--format", "json", "-q"]
    command = draw.choice((run, run, run, ["show", name], ["list", kind], ["resolve", "e.yaml"]))
    tree = {"experiment": "drawn", "scenario": scenario}
    return ["--catalog", "cat", *command], {f"cat/{kind}/{name}.yaml": raw, "e.yaml": _yaml(tree)}, ""


def _model(draw: random.Random) -> Drawn:
    config = draw.choice(examples.models())
    raw = damaged_text(draw, json.dumps(config, indent=1)) if draw.random() < 0.2 else _json(damaged(draw, config))
    jobs = (
        {"kind": "prefill", "batch": 1, "tokens": 128},
        {"kind": "training", "batch": 2, "tokens": 128},
        {"kind": "inference", "batch": 2, "prompt": 64, "output": 8},
    )
    tree = {"experiment": "drawn", "scenario": {"cluster": "dgx-h100", "model": "m", "workload": draw.choice(jobs)}}
    command = draw.choice(
        (
            *([["run", "e.yaml", "--no-plots", "--format", "json", "-q"]] * 3),
            ["show", "m"],
            ["fit", "m", "--gpu", "h100-sxm", "--format", "json"],
        )
    )
    return ["--catalog", "cat", *command], {"cat/models/m.json": raw, "e.yaml": _yaml(tree)}, ""


def _collectives(draw: random.Random) -> Drawn:
    """nccl-tests: its sizes and options, or a log of it."""
    if draw.random() < 0.5:
        raw = damaged_text(draw, examples.LOG)
        if draw.random() < 0.6:
            raw = damaged_table(draw, [line.split() for line in examples.LOG.splitlines()]).replace(b",", b" ")
        return ["nccl-tests", draw.choice(("dgx-h100", "dgx-h100", "l4")), "--compare", "log"], {"log": raw}, ""
    arguments = ["nccl-tests", "dgx-h100", "-b", "1K", "-e", "1M"]
    for _ in range(draw.choice((1, 1, 2))):
        option = draw.choice(("-c", "-g", "-b", "-e", "-f", "-d", "--algorithm", "--protocol", "--library"))
        good = ("all_gather", "half", "8", "1G", "1048576", "ring", "ll128", "custom", "1.5", "send_recv", "nvls", "72")
        arguments += [
            option,
            draw.choice((_shown(ugly(draw)), draw.choice(CELLS), draw.choice(good))).replace("\0", ""),
        ]
    return arguments, {}, ""


def _validation(draw: random.Random) -> Drawn:
    target, name, rows = draw.choice(examples.tables())
    raw = damaged_table(draw, rows)
    return ["validate", target, "--data", "data", "--format", "json", "-q"], {f"data/{name}.csv": raw}, ""


def _calibration(draw: random.Random) -> Drawn:
    kind = draw.choice(list(examples.CALIBRATION))
    raw = damaged_table(draw, examples.CALIBRATION[kind])
    return (
        ["calibrate", "rows.csv", "--format", "json", "-q", *draw.choice(([], ["--out", "f.yaml"]))],
        {"rows.csv": raw},
        "",
    )


def _store(draw: random.Random) -> Drawn:
    """A store of a sweep, with a value, a table or its bytes changed."""
    raw = stores.damaged(draw)
    column = draw.choice(examples.COLUMNS)
    arguments = draw.choice(
        (
            ["results", "--store", "s.sqlite", "--format", "json", "--status", "all"],
            ["results", "--store", "s.sqlite", "--sort", draw.choice((column, f"-{column}"))],
            ["results", "--store", "s.sqlite", "--where", f"{column} > {draw.choice(('0.1', '0', 'nan', 'tp'))}"],
            ["results", "--store", "s.sqlite", "--columns", f"{column},model", "--format", "csv"],
            ["results", "--store", "s.sqlite", "--export", "out.csv"],
            ["results", draw.choice(("0", "a", "f", "", "zz")), "--store", "s.sqlite"],
            ["sweep", "e.yaml", "--store", "s.sqlite", "--jobs", "1", "--no-plots", "--format", "json", "-q"],
        )
    )
    return arguments, {"s.sqlite": raw, "e.yaml": _yaml(stores.EXPERIMENT)}, ""


def _call(draw: random.Random) -> Drawn:
    return [], {}, calls.draw(draw)


KINDS: dict[str, tuple[int, Callable[[random.Random], Drawn]]] = {
    "experiment": (20, _experiment),
    "experiment text": (8, _experiment_text),
    "search": (3, _search),
    "--set": (12, _settings),
    "options": (6, _options),
    "condition": (4, _condition),
    "hardware": (16, _hardware),
    "software": (6, _software),
    "config.json": (12, _model),
    "nccl-tests": (6, _collectives),
    "validation table": (6, _validation),
    "calibration table": (3, _calibration),
    "store": (5, _store),
    "Python API": (14, _call),
}
"""Kinds of inputs: how many of a hundred or so, and what draws one."""
