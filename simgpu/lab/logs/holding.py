"""What was learned of a machine against further logs of it: `simgpu validate --with mine.yaml FILE...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, shown
from simgpu.lab.logs.comparing import Comparison, Line, compared
from simgpu.lab.logs.fitting import Given
from simgpu.overlay import is_overlay, read_overlay
from simgpu.render.columns import cell, title
from simgpu.render.data import print_csv, print_json
from simgpu.render.table import print_table
from simgpu.scenario import run_scenario


@dataclass(frozen=True)
class Held:
    """One column of one run: measured, beside what is predicted without the file and with it."""

    file: Path
    before: Line
    after: Line

    def row(self) -> dict[str, Any]:
        """The line as data."""
        one = self.after
        return {
            "file": str(self.file), "column": one.column, "measured": one.measured.value,
            "predicted_without": self.before.predicted, "predicted": one.predicted, "p10": one.p10, "p90": one.p90,
            "inside_without": self.before.inside, "inside": one.inside,
        }  # fmt: skip


def hold(given: Sequence[Given], overlay: str, catalogue: Catalogue) -> list[Held]:
    """Each column of each run with and without a file of what was learned.

    Raises `InputError` for a file that is none, one of another machine than a case's, and a log of another job.
    """
    if not is_overlay(overlay):
        wrong = f"{shown(overlay)}: expected a file that simgpu observe wrote, such as mine.yaml"
        raise InputError(wrong, key="--with")
    machine = read_overlay(overlay)[0].machine
    found = []
    for one in given:
        if one.scenario.cluster not in (machine, overlay):
            wrong = f"is of '{machine}', the case of '{one.scenario.cluster}'; expected cases on the same machine"
            raise InputError(wrong, file=Path(overlay))
        before, after = (_compared(one, cluster, catalogue) for cluster in (machine, overlay))
        found += [Held(one.run.file, *lines) for lines in zip(before.lines, after.lines, strict=True)]
    return found


def _compared(one: Given, cluster: str, catalogue: Catalogue) -> Comparison:
    """A run against its case on a machine."""
    scenario = one.scenario.model_copy(update={"cluster": cluster})
    return compared(one.run, run_scenario(scenario, catalogue, one.origins).row)


def show(found: Sequence[Held], overlay: str, style: str, out: IO[str]) -> None:
    """Print each column, and the errors of both below."""
    if style == "json":
        print_json({"with": overlay, "rows": [one.row() for one in found], "summary": summary(found)}, out)
    elif style == "csv":
        print_csv([one.row() for one in found], out)
    else:
        rows = [
            {
                "run": one.file.name,
                "quantity": title(one.after.column),
                "measured": cell(one.after.column, one.after.measured.value),
                "without": f"{one.before.ratio:.3f}",
                "with": f"{one.after.ratio:.3f}",
                "inside": "yes" if one.after.inside else "no",
            }
            for one in found
        ]
        print_table(rows, tuple(rows[0]), f"measured / predicted, without and with {overlay}", _words(found), out)


def summary(found: Sequence[Held]) -> dict[str, Any]:
    """Median and mean error, and how many lie inside, without the file and with it."""
    told: dict[str, Any] = {"rows": len(found)}
    for name, lines in (("without", [one.before for one in found]), ("with", [one.after for one in found])):
        errors = [abs(1 / line.ratio - 1) for line in lines]
        inside = sum(line.inside for line in lines)
        told[name] = {"median_error": median(errors), "mean_error": fmean(errors), "inside": inside}
    return told


def _words(found: Sequence[Held]) -> list[str]:
    told, words = summary(found), []
    for name in ("without", "with"):
        one = told[name]
        words.append(
            f"{name}: median and mean error {100 * one['median_error']:.1f} and {100 * one['mean_error']:.1f} %,"
            f" {one['inside']} of {told['rows']} inside the 80 % interval"
        )
    worse = told["with"]["mean_error"] > told["without"]["mean_error"]
    if worse:
        words.append("these logs are farther off with the file than without: are they of that machine?")
    return words


__all__ = ["Held", "hold", "show", "summary"]
