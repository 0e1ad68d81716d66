"""A timeline as a picture: one row for each stream of each rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simgpu.analysis.breakdown import breakdown
from simgpu.render.style import COLOURS, COMMUNICATION, COMPUTE, style
from simgpu.render.text import heading, legend_below
from simgpu.workload.execution import Activity, Execution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Bar = tuple[float, float, str]
"""Start and end, s, and what it is."""

MAX_RANKS = 16
FEW, MANY = 150, 3000
"""Bars in a row that are told apart by their edges; from which on all that touch are one."""
TOUCH = 1 / 4000
"""Share of the picture's width below which a gap cannot be seen."""

_LOOKS = {
    "gemm": (COLOURS[0], "matrix multiplications"),
    "attention": (COLOURS[4], "attention"),
    "moe": ("#003F66", "experts"),
    "vector": (COLOURS[2], "memory-bound kernels"),
    "forward": (COLOURS[0], "forward"),
    "backward": (COLOURS[4], "backward"),
    "weight gradients": (COLOURS[2], "weight gradients"),
    "prefill": (COLOURS[0], "prefill"),
    "decode": (COLOURS[4], "decode"),
    "compute": (COMPUTE, "compute"),
    "other": ("#6E6E6E", "optimizer, host, other kernels"),
    "communication": (COMMUNICATION, "communication"),
}
"""Colours and names of what spans are, in the order of the legend."""


def timeline_figure(execution: Execution, title: str = "", window: tuple[float, float] | None = None) -> Figure:
    """Spans of the first ranks between the two times of `window` (s; default: the whole step)."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    low, high = window or (0.0, execution.step)
    ranks = execution.streams[:MAX_RANKS]
    rows = {number: row for row, number in enumerate(n for streams in ranks for n in streams.values())}
    names = [f"rank {r} {name}" for r, streams in enumerate(ranks) for name in streams]
    bars: list[list[Bar]] = [[] for _ in rows]
    for span in execution.timeline.spans(rows):
        if span.end > low and span.start < high and span.end > span.start:
            bars[rows[span.stream]].append((max(span.start, low), min(span.end, high), _class(span.label)))
    used = [row for row, some in enumerate(bars) if some]  # streams that nothing runs on say nothing
    unit, scale = ("s", 1.0) if high >= 1 else ("ms", 1e3) if high >= 1e-3 else ("us", 1e6)
    with style():
        figure = Figure(figsize=(11, 2.0 + 0.34 * max(len(used), 1)), layout="constrained")
        panel = figure.add_subplot()
        there: dict[str, None] = {}
        for at, row in enumerate(used):
            there |= _draw(panel, at, bars[row], scale, (high - low) * TOUCH)
        panel.set_yticks(range(len(used)), [names[row] for row in used])
        panel.set_ylim(max(len(used), 1) - 0.4, -0.6)
        panel.set_xlim(low * scale, high * scale)
        panel.set_xlabel(f"Time ({unit})")
        panel.grid(axis="y", visible=False)
        patches = [Patch(color=colour, label=name) for kind, (colour, name) in _LOOKS.items() if kind in there]
        legend_below(figure, patches, [str(one.get_label()) for one in patches])
        hidden = len(execution.streams) - len(ranks)
        about = (title or "Timeline") + (f"  (first {len(ranks)} of {len(execution.streams)} ranks)" if hidden else "")
        heading(figure, about, _finding(execution, low, high))
    return figure


def _class(label: object) -> str:
    if not isinstance(label, Activity):
        return "other"
    if label.category == "communication":
        return "communication"
    return next((name for name in (label.doubt.group, label.kind) if name in _LOOKS), "other")


def _draw(panel: Axes, at: int, bars: Sequence[Bar], scale: float, touch: float) -> dict[str, None]:
    """The bars of a row; of very many those that touch are one. Returns what is there."""
    if len(bars) > MANY:
        bars = _joined(bars, touch)
    few = len(bars) <= FEW  # more would be nothing but white edges
    edge = {"edgecolors": "white", "linewidth": 0.3} if few else {"linewidth": 0, "antialiased": False}
    places = [(start * scale, (end - start) * scale) for start, end, _ in bars]
    panel.broken_barh(places, (at - 0.38, 0.76), facecolors=[_LOOKS[kind][0] for _, _, kind in bars], **edge)
    return dict.fromkeys(kind for _, _, kind in bars)


def _joined(bars: Sequence[Bar], touch: float) -> list[Bar]:
    """Bars that follow each other within `touch` s as one: compute, or communication."""
    found: list[Bar] = []
    for start, end, kind in sorted(bars):
        what = kind if kind == "communication" else "compute"
        if found and found[-1][2] == what and start - found[-1][1] <= touch:
            found[-1] = (found[-1][0], max(end, found[-1][1]), what)
        else:
            found.append((start, end, what))
    return found


def _finding(execution: Execution, low: float, high: float) -> str:
    """How long the step takes and what of it computes and waits for communication, on the rank that ends last."""
    from simgpu.units import format_seconds

    parts = breakdown(execution)
    whole = parts.step or 1.0
    text = f"step of {format_seconds(parts.step)}: {100 * parts.compute / whole:.0f} % with kernels, "
    text += f"{100 * parts.exposed_communication / whole:.0f} % with communication alone (rank {parts.rank})"
    shown = "" if high - low >= 0.999 * whole else f"; drawn: {format_seconds(low)} to {format_seconds(high)}"
    return text + shown
