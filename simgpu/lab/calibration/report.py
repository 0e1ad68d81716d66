"""Output of a calibration, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.calibration.outcome import Calibrated, Constant, Errors, Group
from simgpu.lab.calibration.trial import unit_of
from simgpu.render.table import print_notes, print_table
from simgpu.units import format_si

_COLUMNS = ("class", "library", "rows", "fitted", "held out", "before", "after")


def print_report(done: Calibrated, out: IO[str]) -> None:
    """Errors before and after, the constants that moved, and what was left out."""
    few = any(not group.held_out for group in done.groups)
    notes = ["'none': too few rows to hold any out, so the errors are those of the rows fitted"] if few else []
    notes += ["no change: what the rows ask for does not help the rows held out"] * any(
        not group.helped for group in done.groups
    )
    heading = f"Calibration of {done.gpu.name}: errors of rows held out, median / mean / P90 in %"
    print_table(scores(done), _COLUMNS, heading, notes, out)
    if done.moved:
        rows = [_constant(one) for one, _ in done.moved]
        print_table(rows, ("constant", "before", "after", "before from"), "Constants", [], out)
    print_notes([f"left out: {count:,} rows of {file}: {reason}" for file, count, reason in done.left_out], out)


def scores(done: Calibrated) -> list[Mapping[str, Any]]:
    """A row for each class of kernels: its rows, and its errors before and after."""
    return [_scores(group) for group in done.groups]


def _scores(group: Group) -> Mapping[str, Any]:
    return {
        "class": f"{group.kind}: {', '.join(group.ops)}" if group.ops != (group.kind,) else group.kind,
        "library": "" if group.library == DEFAULT else group.library,
        "rows": group.rows,
        "fitted": group.fitted,
        "held out": str(group.held_out) if group.held_out else "none",
        "before": _errors(group.before),
        "after": _errors(group.after) if group.helped else "no change",
    }


def _errors(errors: Errors) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in (errors.median_ape, errors.mape, errors.p90_ape))


def _constant(constant: Constant) -> Mapping[str, Any]:
    unit = unit_of(constant.path)
    return {
        "constant": ".".join(constant.path),
        "before": _figure(constant.before, unit),
        "after": _figure(constant.after, unit),
        "before from": constant.level + ("" if constant.fitted else " (moved with the streams)"),
    }


def _figure(value: float, unit: str) -> str:
    return format_si(value, unit) if unit else f"{value:.4g}"
