"""The steps of `simgpu calibrate --step`: read the time, move the prediction, write, print."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, shown
from simgpu.lab.calibration.fragment import is_folder
from simgpu.lab.calibration.step import StepCalibration, calibrate_step
from simgpu.lab.calibration.step import write as write_step
from simgpu.render.data import print_csv
from simgpu.render.table import print_table
from simgpu.scenario import Origins, Scenario
from simgpu.units import format_si, parse_quantity, to_si


def run(scenario: Scenario, origins: Origins, catalogue: Catalogue, measured: str | None, name: str) -> StepCalibration:
    """Move the prediction of a case; nothing is written."""
    if measured is None:
        raise InputError("is not given; expected the time of the step, such as '1.23 s'", key="--measured")
    return calibrate_step(scenario, origins, catalogue, seconds(measured), name)


def seconds(text: str) -> float:
    """A time with its unit, in seconds. Raises `InputError`."""
    try:
        value, unit = parse_quantity(text)
        value = to_si(value, unit or "no unit", "s")
    except ValueError:
        value = math.nan
    if not value > 0 or not math.isfinite(value):
        raise InputError(f"{shown(text)}: expected a time with its unit, such as '1.23 s' or '18 ms'", key="--measured")
    return value


def write(done: StepCalibration, out: Path) -> Path:
    """Write the GPU's file into the folder `out`. Raises `InputError` for a file."""
    if not is_folder(out):
        raise InputError(f"{out}: expected a folder, which gets the GPU's file", key="--out")
    return write_step(done, out)


def rows(done: StepCalibration) -> list[dict[str, Any]]:
    """Two rows: the prediction of the case before and after."""
    return [
        {
            "prediction": name,
            "value": row[done.column],
            "p10": row[f"{done.column}_p10"],
            "p90": row[f"{done.column}_p90"],
        }
        for name, row in (("before", done.before), ("after", done.after))
    ]


def show(done: StepCalibration, style: str, out: IO[str]) -> None:
    """Print both predictions, and what was found."""
    found = {"gpu": done.gpu, "stack": done.stack, "column": done.column, "measured": done.measured}
    found |= {"slowdown": done.slowdown, "steps": done.runs}
    if style == "json":
        out.write(json.dumps({**found, "predictions": rows(done)}, indent=1, allow_nan=False) + "\n")
    elif style == "csv":
        print_csv(rows(done), out)
    else:
        shown_rows = [
            {
                "prediction": row["prediction"],
                done.column: format_si(row["value"], "s"),
                "80 % interval": f"{format_si(row['p10'], 's')} to {format_si(row['p90'], 's')}",
                "P90 / P10": f"{row['p90'] / row['p10']:.2f}",
            }
            for row in rows(done)
        ]
        heading = (
            f"{done.stack} on {done.gpu}: {format_si(done.measured, 's')} measured, step {done.runs} of this machine"
        )
        note = (
            f"kernels of {done.stack} on {done.gpu} take {done.slowdown:.3f} times as long; how far one step moves the"
            " prediction follows from how much machines differ, and how much steps of one machine do"
        )
        print_table(shown_rows, tuple(shown_rows[0]), heading, [note], out)
