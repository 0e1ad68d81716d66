"""Explanations for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from simgpu.render.columns import cell_of
from simgpu.render.table import INTERVALS, grid, print_notes
from simgpu.units import format_seconds, format_si

HEADS = ("operator", "segment", "kernels", "runs", "time", "share", "FLOP", "bytes", "FLOP/B", "bound", "% of ideal")

_REGIMES = {"calibrated": "measured", "inherited": "architecture", "datasheet": "generic"}
REGIMES = (
    "kernels, last word: where the constants come from. measured: on this GPU; architecture: on other GPUs of its "
    "architecture; generic: no measurement of a similar GPU"
)

Scenario = tuple[str, Mapping[str, Any], Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]], Sequence[str]]
"""Name, row of results, operators with the slowest first, constants, notes that stand above its table."""


def print_explanations(scenarios: Sequence[Scenario], most: int, out: IO[str]) -> None:
    """The operators of every scenario, then what the columns mean and the constants behind all of them."""
    for name, step, rows, _, notes in scenarios:
        print_notes(notes, out)
        _print_operators(f"{name}: step {cell_of('step_s', step)}", rows, most, out)
    above = any((row["speed_of_light"] or 0) > 1.005 for _, _, rows, _, _ in scenarios for row in rows[:most])
    print_notes(
        [
            f"% of ideal: ideal time (datasheet peak and bandwidth) / predicted time{ABOVE if above else ''}",
            REGIMES,
            INTERVALS,
        ],
        out,
    )
    constants = _grouped(scenarios)
    if constants:
        partly = any(group[-1] for group in constants)
        heads = ("kernels", "from", "constants", "source", "only in")
        cells = constants if partly else [group[:-1] for group in constants]
        grid("Constants used, by where they come from", heads if partly else heads[:-1], cells, out)


def _print_operators(heading: str, rows: Sequence[Mapping[str, Any]], most: int, out: IO[str]) -> None:
    cells = [
        (
            row["operator"],
            row["segment"],
            _kernels(row),
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


def _kernels(row: Mapping[str, Any]) -> str:
    """The model that times an operator: 'fa3, measured'; 'nccl nvls simple, 16 channels, architecture'."""
    words = [row["library"]]
    if row["protocol"] == "ideal":
        words.append("ideal links")
    elif row["protocol"] == row["library"]:  # serving engines' own have no protocols
        words.append(row["algorithm"])
    elif row["protocol"]:
        number = row["channels"]
        words = [" ".join((*words, row["algorithm"], row["protocol"])), f"{number} channel{'s' if number > 1 else ''}"]
    return ", ".join(word for word in (*words, _REGIMES.get(row["regime"], row["regime"])) if word)


ABOVE = " (above 100 %: operands that the kernel before has left in L2)"


def _grouped(scenarios: Sequence[Scenario]) -> list[tuple[str, str, str, str, str]]:
    """One row for all constants of a library that share level, source and scenarios.

    Scenarios are named unless they are all that have constants.
    """
    where: dict[tuple[str, str, str, str], list[str]] = {}
    for name, _, _, constants, _ in scenarios:
        for one in constants:
            library, _, constant = one["constant"].rpartition(".")
            text = f"{constant} {_value(one['value'], one['unit'])}".strip()
            where.setdefault((library, one["level"], str(one["source"]), text), []).append(name)
    everywhere = [name for name, _, _, constants, _ in scenarios if constants]
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for (library, level, source, text), names in where.items():
        only = "" if names == everywhere else _few(names)
        groups.setdefault((library, level, source, only), []).append(text)
    libraries = list(dict.fromkeys(library for library, *_ in groups))
    groups = dict(sorted(groups.items(), key=lambda one: libraries.index(one[0][0])))
    return [
        (library, level, ", ".join(found), source, only) for (library, level, source, only), found in groups.items()
    ]


def _value(value: float, unit: str) -> str:
    return format_si(value, unit) if unit in ("s", "B/s") else f"{value:.3g} {unit}"


def _few(names: Sequence[str]) -> str:
    """Some names, and the number of the others."""
    most = 4
    return "; ".join(names[:most]) + (f"; {len(names) - most} more" if len(names) > most else "")
