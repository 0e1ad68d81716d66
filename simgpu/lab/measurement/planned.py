"""The answer of `simgpu measure --plan`: measurements ranked by what they make of an interval, as commands to paste."""

from __future__ import annotations

from math import sqrt
from typing import IO, Any

from simgpu.lab.measurement.planning import Planned
from simgpu.render.columns import cell
from simgpu.render.columns import title as title_of
from simgpu.render.data import print_csv, print_json
from simgpu.render.table import grid, print_notes


def document(done: Planned) -> dict[str, Any]:
    """The answer as data. Widths are P90 over P10 of the main column."""
    rows = [
        {"measurement": one.what, "width_before": done.before, "width_after": one.after, "commands": list(one.commands),
         "why": one.why}
        for one in done.proposed
    ]  # fmt: skip
    return {
        "experiment": done.name, "column": done.column, "predicted": done.value, "width": done.before, "rows": rows,
        "without_effect": list(done.useless),
    }  # fmt: skip


def show(done: Planned, style: str, out: IO[str]) -> None:
    """Print the measurements, the best first, then their commands."""
    if style == "json":
        print_json(document(done), out)
        return
    if style == "csv":
        rows = [{**row, "commands": "; ".join(row["commands"])} for row in document(done)["rows"]]
        print_csv(rows, out, ("measurement", "width_before", "width_after", "commands", "why"))
        return
    cells = [(str(i), one.what, _percent(done.before), _percent(one.after), one.why)
            for i, one in enumerate(done.proposed, 1)]  # fmt: skip
    heading = f"{done.name}: {title_of(done.column)} {cell(done.column, done.value)}, 80 % interval"
    heads = ("", "measure", "now", "then", "what it speaks for")
    if cells:
        grid(f"{heading} {_percent(done.before)}", heads, cells, out, right=(2, 3))
    else:
        print_notes([f"{heading} {_percent(done.before)}: no measurement known here would narrow it"], out)
    for i, one in enumerate(done.proposed, 1):
        out.write(f"# {i}: {one.what}\n")
        out.writelines(f"{line}\n" for line in one.commands)
    if done.useless:
        print_notes([f"would not narrow it by itself: {', '.join(done.useless)}"], out)


def _percent(width: float) -> str:
    """Half the width of an interval: +- 10 % where P90 / P10 is 1.21."""
    return f"\u00b1{100 * (sqrt(width) - 1):.1f} %"
