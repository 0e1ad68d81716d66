"""The picture of claims: claimed over computed, by kind, in the colour of the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING, get_args

from simgpu.claims.check import Claims
from simgpu.claims.entry import Kind
from simgpu.claims.finding import COLOURS, FALSE, VERDICTS, Finding
from simgpu.render.style import FAINT, INK, style
from simgpu.render.text import heading, legend_below, name_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMITS = (1e-3, 1e3)
"""Factors that are drawn; what lies beyond stands at the edge."""
NAMED = 12
"""Cells farthest off that are named."""
SHAPES = ("X", "s", "^", "D", "v", "o", "o")
"""Marks of the verdicts, worst first."""
LEAST = 1.5
"""Factor from which a cell is named."""
ORDER = get_args(Kind)
"""Kinds from left to right: hardware, kernels, memory, runs, money."""


def factor_of(one: Finding) -> float | None:
    """Claimed over what it is held against, None where there is nothing."""
    if one.factor is not None and one.factor > 0:
        return one.factor
    number = one.measured or one.computed or one.simulated
    if number is None or number.value <= 0 or one.claimed.value <= 0 or one.claimed.flag is not None:
        return None
    return one.claimed.value / number.value


def _points(claims: Claims) -> list[tuple[Finding, float]]:
    found = [(one, factor_of(one)) for entry in claims.entries for one in entry.findings]
    return [(one, factor) for one, factor in found if factor is not None and 0 < factor < float("inf")]


def has_points(claims: Claims) -> bool:
    """True if any cell has a number to be held against."""
    return bool(_points(claims))


def claims_figure(claims: Claims) -> Figure:
    """Factor of each cell over its kind; the line is where claimed and computed are equal, the band 10 %."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    points = _points(claims)
    kinds = sorted({one.kind for one, _ in points}, key=ORDER.index)
    with style():
        figure = Figure(figsize=(13.3, 7.4), layout="constrained")
        panel = figure.subplots()
        panel.axhspan(1 / 1.1, 1.1, color="#EAEAEA", lw=0, zorder=0, label="within 10 %")
        panel.axhline(1.0, color=INK, lw=1.2, zorder=1)
        places = _places(points, kinds)
        for number, verdict in enumerate(VERDICTS):
            mine = [place for (one, _), place in zip(points, places, strict=True) if one.verdict == verdict]
            if mine:
                panel.plot([x for x, _ in mine], [y for _, y in mine], ls="none", marker=SHAPES[number],
                           ms=8, mec="white", mew=0.5, color=COLOURS[verdict],
                           label=f"{verdict} ({len(mine)})")  # fmt: skip
        panel.set_yscale("log")
        lows, highs = min(y for _, y in places), max(y for _, y in places)
        panel.set_ylim(min(0.1, lows / 1.6), max(10.0, highs * 1.6))
        panel.set_xlim(-0.6, len(kinds) - 0.4)
        panel.set_xticks(range(len(kinds)), [kind.replace("_", "\n") for kind in kinds], fontsize=10)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.grid(axis="x", visible=False)
        panel.grid(axis="y", color=FAINT, lw=0.6)
        panel.set_ylabel("Claimed over computed, simulated or measured")
        _name(panel, points, places)
        handles, labels = panel.get_legend_handles_labels()
        legend_below(figure, handles, labels)
        within = sum(1 / 1.1 <= factor <= 1.1 for _, factor in points)
        several = f"{len(claims.entries)} published claims"
        title = several if len(claims.entries) > 1 else claims.entries[0].title
        heading(figure, title, f"{len(points)} figures that have a counterpart, {within} within 10 %")
    return figure


def _places(points: Sequence[tuple[Finding, float]], kinds: Sequence[str]) -> list[tuple[float, float]]:
    """Where each cell is drawn: side by side within its kind, in their order."""
    counts = {kind: sum(one.kind == kind for one, _ in points) for kind in kinds}
    seen = dict.fromkeys(kinds, 0)
    places = []
    for one, factor in points:
        across = (seen[one.kind] + 0.5) / counts[one.kind] - 0.5
        seen[one.kind] += 1
        places.append((kinds.index(one.kind) + 0.8 * across, min(max(factor, LIMITS[0]), LIMITS[1])))
    return places


def _name(panel: Axes, points: Sequence[tuple[Finding, float]], places: Sequence[tuple[float, float]]) -> None:
    """Name the cell of each entry that is farthest off; of a single entry, those of its cells."""
    order = sorted(range(len(points)), key=lambda n: -abs(log(points[n][1])))
    several = len({one.entry for one, _ in points}) > 1
    named: dict[str, int] = {}
    for n in order:
        one, factor = points[n]
        if len(named) < NAMED and one.verdict in FALSE and abs(log(factor)) > log(LEAST):
            cell = ", ".join(part for part in (one.row, one.subject, one.column) if part)
            named.setdefault(one.entry if several else cell, n)
    name_points(panel, [places[n] for n in named.values()], list(named), places, size=9, away=7)
