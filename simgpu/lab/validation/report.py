"""A validation as a document: JSON, tables for the terminal, files and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from simgpu.lab.validation import between_nodes
from simgpu.lab.validation.adapters.inference_runs import OPERATIONS as RUNS
from simgpu.lab.validation.intervals import LEVELS, interval_rows, outsider, reliability_lines
from simgpu.lab.validation.run import Scored, Validation
from simgpu.lab.validation.score import groups, scores, worst
from simgpu.lab.validation.steps import by_origin, farthest, step_rows
from simgpu.render.data import print_csv
from simgpu.render.files import written_whole
from simgpu.version import __version__

STEPS = ("step_time", "memory", *RUNS)
"""Whole steps: what has rows of its own."""


def document(done: Validation) -> dict[str, Any]:
    """The JSON document. `groups` is the contract; the other keys account for every row that is not in it."""
    steps = step_rows(done)
    whole = {"steps": steps, "origins": by_origin(steps), "farthest": farthest(steps)} if steps else {}
    return {
        "target": done.target,
        "data": str(done.folder),
        "regime": done.regime,
        "simgpu_version": __version__,
        "groups": [asdict(group) for group in groups(done)],
        **whole,
        **({"between_nodes": far} if (far := between_nodes.error_rows(done.scored)) else {}),
        "intervals": interval_rows(done.scored),
        "outsider": outsider(done.scored),
        "worst": [asdict(row) for row in worst(done)],
        "not_predicted": [asdict(entry) for entry in done.not_predicted],
        "left_out": [asdict(entry) for entry in done.left_out],
        "said_not_to_fit": [asdict(entry) for entry in done.misfits],
        "not_read": [{"file": file, "reason": reason} for file, reason in done.not_read],
    }


def print_json(found: Mapping[str, Any], out: IO[str]) -> None:
    """One JSON document."""
    out.write(json.dumps(found, indent=1, allow_nan=False) + "\n")


def print_report(found: Mapping[str, Any], out: IO[str]) -> None:
    """Scores, worst rows, and what was not scored."""
    from simgpu.render.table import print_notes
    from simgpu.render.training import print_farthest, print_origins, print_rows
    from simgpu.render.validation import print_between_nodes, print_intervals, print_listed, print_scores, print_worst

    if "steps" in found:
        print_rows(found["steps"], out)
    regime = "" if found["regime"] == "full" else f", constants: {found['regime']}"
    heading = f"Predicted against measured in {found['data']}{regime} (errors in %; roofline: median error of the "
    if found["groups"]:
        print_scores(found["groups"], heading + "datasheet alone)", out)
        if any(group["op"] not in STEPS for group in found["groups"]):
            print_worst(found["worst"], out)
    if "between_nodes" in found:
        print_between_nodes(found["between_nodes"], out)
    if "steps" in found:
        print_origins(found["origins"], out)
        print_farthest(found["farthest"], out)
    print_intervals(found["intervals"], found["outsider"], out)
    print_listed("Not predicted", found["not_predicted"], out)
    print_listed("Left out", found["left_out"], out)
    count = sum(entry["rows"] for entry in found["said_not_to_fit"])
    print_listed(f"Ran, but said not to fit the memory: {count:,} rows", found["said_not_to_fit"], out)
    print_notes([f"not read: {entry['file']} ({entry['reason']})" for entry in found["not_read"]], out)


def write(
    done: Validation, found: Mapping[str, Any], folder: Path, plots: bool = True, formats: Sequence[str] = ()
) -> list[Path]:
    """Write the document, its groups as CSV, and two plots of each operator. Figures are built before any file is."""
    figures = _figures(done) if plots else {}
    files = [folder / "validation.json", folder / "validation.csv"]
    with written_whole(files[0]) as stream:
        print_json(found, stream)
    with written_whole(files[1]) as stream:
        print_csv(found["groups"], stream, ["source"])
    if figures:
        from simgpu.render.files import save
    for name, figure in figures.items():
        files += save(figure, *(folder / f"{name}.{kind}" for kind in dict.fromkeys(formats or ("png",))))
    return files


def _figures(done: Validation) -> dict[str, Any]:
    """parity_OP and error_by_size_OP of every operator."""
    from simgpu.render.validation import error_figure, parity_figure

    by_op: dict[str, list[Scored]] = {}
    for part in done.scored:
        if part.batch.op not in STEPS:
            by_op.setdefault(part.batch.op, []).append(part)
    figures: dict[str, Any] = {}
    steps = step_rows(done)
    if any(row["op"] == "step_time" for row in steps):
        from simgpu.render.training import parity

        figures["training_parity"] = parity([row for row in steps if row["op"] == "step_time"])
    runs = [row for row in steps if row["op"] in RUNS]
    if runs:
        from simgpu.render.training import parity

        figures["inference_parity"] = parity(runs, "Inference runs", "time")
    for op, parts in sorted(by_op.items()):
        points = _points(parts)
        if points:
            total = scores(parts)
            figures[f"parity_{op}"] = parity_figure(op, points, total)
            figures[f"error_by_size_{op}"] = error_figure(op, points, total)
    by_standing, by_class = reliability_lines(done.scored)
    if by_standing:
        from simgpu.render.reliability import reliability_figure

        panels = {"by distance from what was measured": by_standing, "by class": by_class}
        figures["reliability"] = reliability_figure(LEVELS, panels)
    return figures


def _points(parts: list[Scored]) -> dict[str, tuple[Any, Any, Any]]:
    """(measured, predicted, roofline) by GPU; GPUs beyond the fifth with the most rows share a name."""
    rows: dict[str, int] = {}
    for part in parts:
        rows[part.gpu] = rows.get(part.gpu, 0) + len(part.measured)
    largest = sorted(rows, key=lambda gpu: (-rows[gpu], gpu))
    named = set(largest if len(largest) <= 6 else largest[:5])
    gathered: dict[str, list[Scored]] = {}
    for gpu in largest:
        for part in parts:
            if part.gpu == gpu and len(part.measured):
                gathered.setdefault(gpu if gpu in named else "other GPUs", []).append(part)
    return {
        name: (
            np.concatenate([part.measured for part in found]),
            np.concatenate([part.predicted for part in found]),
            np.concatenate([part.roofline for part in found]),
        )
        for name, found in gathered.items()
    }
