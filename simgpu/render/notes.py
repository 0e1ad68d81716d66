"""Notes below a table: why rows differ, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simgpu.analysis.walk import Walk
from simgpu.render.columns import cell, is_share


def walk_notes(walks: Sequence[Walk], start: object, end: object) -> list[str]:
    """A block for each walk: by how much each assumption moved the value, in the order in which they were changed."""
    notes: list[str] = []
    for walk in walks:
        name = ", ".join(str(value) for value in walk.match.values())
        notes.append(f"{name}: {cell(walk.value, walk.start)} ({start}) -> {cell(walk.value, walk.end)} ({end})")
        for move in walk.moves:
            steps = f"step {cell('step_s', move.step_before)} -> {cell('step_s', move.step_after)}"
            notes.append(f"  {_change(walk.value, move.after - move.before):>14}  {move.what} ({steps})")
    return notes


def settings_notes(settings: Sequence[str], without: Sequence[str] = ()) -> list[str]:
    """Notes on settings of the command line: titles and labels of the file may no longer fit.

    `without` are columns of the file's table that no row has any more.
    """
    if not settings:
        return []
    gone = f" No row has {', '.join(without)} now; the table leaves it out." if without else ""
    return [f"Changed in every row by --set: {', '.join(settings)}. Titles and labels are the file's.{gone}"]


def memory_notes(rows: Sequence[Mapping[str, Any]], label: str | None) -> list[str]:
    """Notes on rows whose weights do not fit. Of training rows the whole memory is known, see `fit_notes`."""
    bad = [row for row in rows if row.get("weights_fit") is False and "memory_fits" not in row]
    if not bad:
        return []
    where: dict[str, list[str]] = {}
    for row in bad:
        where.setdefault(str(row.get(label or "cluster")), []).append(str(row["tp"]))
    listed = "; ".join(f"{name}: TP {', '.join(degrees)}" for name, degrees in where.items())
    return [f"The weights do not fit in GPU memory ({listed}). Their times are hypothetical."]


def context_notes(lengths: Mapping[str, tuple[int | None, int]]) -> list[str]:
    """A line for each model whose sequences are longer than it was published for: (their tokens, those)."""
    return [
        f"{model}: {tokens:,} tokens are more than the {published:,} of its configuration. Its positions go on beyond, "
        "so that times and memory hold; how well it answers is not simulated."
        for model, (tokens, published) in lengths.items()
    ]


def price_notes(rows: Sequence[Mapping[str, Any]], label: str | None) -> list[str]:
    """A line for each set of prices that rows were reckoned with, and for rows that have no cost."""
    priced = [row for row in rows if row.get("price_used")]
    by = _names_of(priced, label or "cluster") or _names_of(priced, "gpu") or {}
    if not by:
        return [f"Price: {words}." for words in dict.fromkeys(row["price_used"] for row in priced)]
    several = len(by) > 1
    return [f"Price{f' of {_some(names)}' if several else ''}: {words}." for words, names in by.items()]


def month_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the brackets of a month mean, where rows have one."""
    if not any(row.get("month_used") for row in rows):
        return []
    return ["A month: brackets reach from the cheapest to the dearest quote of the half year that the price is from."]


def _names_of(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, list[str]] | None:
    """The values of a column by the prices of their rows; None where one value has several prices."""
    of: dict[str, str] = {}
    for row in rows:
        name = str(row.get(column))
        if of.setdefault(name, row["price_used"]) != row["price_used"]:
            return None
    by: dict[str, list[str]] = {}
    for name, words in of.items():
        by.setdefault(words, []).append(name)
    return by


def _some(names: Sequence[str]) -> str:
    found = list(dict.fromkeys(names))
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def fit_notes(misfits: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each plan that does not fit: (names of its rows, by how much and what would help)."""
    return [f"{name}: {text}" for name, text in misfits]


def adapter_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for rows with adapters: what their kernels were held against."""
    if not any(row.get("adapters_per_step") is not None for row in rows):
        return []
    return [
        "adapters: a lower bound of what they cost; published servers lost three to six times as much (docs/held.md)"
    ]


def tier_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each tier of cache that is left out since to compute takes less time than to load."""
    said = dict.fromkeys(row["tiers_unused"] for row in rows if row.get("tiers_unused"))
    return [f"tiers of cache: {words}" for words in said]


def _change(column: str, difference: float) -> str:
    return f"{100 * difference:+.1f} points" if is_share(column) else f"{difference:+.4g}"
