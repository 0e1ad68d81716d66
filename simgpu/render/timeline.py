"""A timeline as a picture: one row for each stream of each rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simgpu.render.style import COMMUNICATION, COMPUTE, style
from simgpu.workload.execution import Activity, Execution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_RANKS = 16
FEW = 150
"""Bars in a row that are told apart by their edges."""
MAX_SPANS = 20_000


def timeline_figure(execution: Execution, title: str = "", window: tuple[float, float] | None = None) -> Figure:
    """Spans of the first ranks between the two times of `window` (s; default: the whole step)."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    low, high = window or (0.0, execution.step)
    ranks = execution.streams[:MAX_RANKS]
    rows = {number: row for row, number in enumerate(n for streams in ranks for n in streams.values())}
    names = [f"rank {r} {name}" for r, streams in enumerate(ranks) for name in streams]
    unit, scale = ("s", 1.0) if high >= 1 else ("ms", 1e3) if high >= 1e-3 else ("us", 1e6)
    with style():
        figure = Figure(figsize=(11, 1.6 + 0.34 * len(rows)), layout="constrained")
        panel = figure.add_subplot()
        bars: dict[int, list[tuple[float, float]]] = {row: [] for row in rows.values()}
        colours = dict.fromkeys(rows.values(), COMPUTE)
        for drawn, span in enumerate(execution.timeline.spans(rows)):
            if drawn >= MAX_SPANS:
                break
            if span.end > low and span.start < high:
                bars[rows[span.stream]].append((span.start * scale, span.duration * scale))
            if isinstance(span.label, Activity) and span.label.category == "communication":
                colours[rows[span.stream]] = COMMUNICATION
        for row, spans in bars.items():
            few = len(spans) <= FEW  # more would be nothing but white edges
            edge = {"edgecolors": "white", "linewidth": 0.3} if few else {"linewidth": 0, "antialiased": False}
            panel.broken_barh(spans, (row - 0.38, 0.76), facecolors=colours[row], **edge)
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.4, -0.6)
        panel.set_xlim(low * scale, high * scale)
        panel.set_xlabel(f"Time ({unit})")
        panel.grid(axis="y", visible=False)
        handles = [Patch(color=COMPUTE, label="compute"), Patch(color=COMMUNICATION, label="communication")]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        hidden = len(execution.streams) - len(ranks)
        heading = (title or "Timeline") + (
            f"  (first {len(ranks)} of {len(execution.streams)} ranks)" if hidden else ""
        )
        figure.suptitle(heading, x=0.02, ha="left", fontsize=14)
    return figure
