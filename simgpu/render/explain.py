"""Explanations for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from simgpu.render.columns import cell_of
from simgpu.render.table import INTERVALS, grid
from simgpu.units import format_seconds, format_si

HEADS = ("operator", "segment", "kernels", "runs", "time", "share", "FLOP", "bytes", "FLOP/B", "bound", "of light")


def print_explanation(
    name: str, step: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], constants: Sequence[Mapping[str, Any]],
    most: int, out: IO[str],
) -> None:  # fmt: skip
    """The operators of one scenario, slowest first, and the constants behind them."""
    heading = f"{name}: step {cell_of('step_s', step)}"
    cells = [
        (
            row["operator"],
            row["segment"],
            ", ".join(word for word in (row["library"], row["regime"]) if word),
            str(row["runs"]),
            cell_of("time_s", row),
            f"{100 * row['share']:.1f} %",
            format_si(row["flop"], "FLOP") if row["flop"] else "",
            format_si(row["bytes"], "B"),
            f"{row['intensity']:.3g}" if row["intensity"] else "",
            row["bound"],
            f"{100 * row['speed_of_light']:.0f} %" if row["speed_of_light"] else "",
        )
        for row in rows[:most]
    ]
    if len(rows) > most:
        rest = rows[most:]
        share = 100 * sum(row["share"] for row in rest)
        time = format_seconds(sum(row["time_s"] for row in rest))
        cells.append((f"{len(rest)} more", "", "", "", time, f"{share:.1f} %", "", "", "", "", ""))
    grid(heading, HEADS, cells, out, right=(3, 4, 5, 6, 7, 8, 10))
    above = any(row["speed_of_light"] > 1 for row in rows[:most])
    print(f"of light: time at datasheet peak and bandwidth over time{ABOVE if above else ''}; {INTERVALS}", file=out)
    if constants:
        grid(
            "Constants used, by where they come from",
            ("kernels", "from", "constants", "source"),
            _grouped(constants),
            out,
        )


ABOVE = " (above 100 %: operands that the kernel before has left in L2)"


def _grouped(constants: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """One row for all constants of a library that share their level and source."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for one in constants:
        library, _, name = one["constant"].rpartition(".")
        value = (
            format_si(one["value"], one["unit"]) if one["unit"] in ("s", "B/s") else f"{one['value']:.3g} {one['unit']}"
        )
        groups.setdefault((library, one["level"], str(one["source"])), []).append(f"{name} {value.strip()}")
    return [(library, level, ", ".join(found), source) for (library, level, source), found in groups.items()]
