"""A timeline as a picture: one row for each stream of each rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import TYPE_CHECKING, Any

from simgpu.analysis.breakdown import Breakdown, breakdown
from simgpu.render.style import COLOURS, COMMUNICATION, COMPUTE, style
from simgpu.render.text import heading, legend_below, thousands
from simgpu.units import format_seconds
from simgpu.workload.execution import Activity, Execution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Bar = tuple[float, float, str]
"""Start and end, s, and what it is."""

MAX_RANKS = 16
MOST_EDGED, START, MANY = 150, 60, 3000
"""Bars in a row that are told apart by their edges; how many are drawn of more, where no window is given; from which on
all that touch are one."""
TOUCH = 1 / 4000
"""Share of the picture's width below which a gap cannot be seen."""
SEEN = 1 / 1200
"""Least width of a bar: so that even the shortest is seen."""

_LOOKS = {
    "gemm": (COLOURS[0], "matrix multiplications"),
    "attention": (COLOURS[4], "attention"),
    "moe": ("#003F66", "experts"),
    "scan": (COLOURS[3], "scans over states"),
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
_PASSES = ("forward", "backward")
_INSIDE = ("exposed_tp_s", "exposed_cp_s", "exposed_ep_s")
"""Communication inside the layers of a pass."""


def timeline_figure(
    execution: Execution, title: str = "", window: tuple[float, float] | None = None, ranks: int | None = None,
    row: Mapping[str, Any] | None = None,
) -> Figure:  # fmt: skip
    """Spans of the first `ranks` ranks between the two times of `window`, s.

    By default one rank, the one that ends last, and the whole step; if more than `MOST_EDGED` spans of it follow each
    other only the first `START`, which can be told apart. `row` is the row of the run: it knows which part of a pass
    are collectives inside its layers.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter

    parts = breakdown(execution)
    every = _spans(execution)
    shown = [parts.rank] if ranks is None else list(range(min(ranks, len(every), MAX_RANKS)))
    low, high = window or (0.0, _end_of_start([spans for rank in shown for spans in every[rank].values()], parts.step))
    bars = {
        f"rank {rank} {name}": [
            (max(start, low), min(end, high), kind) for start, end, kind in spans if low < end and start < high
        ]
        for rank in shown
        for name, spans in every[rank].items()
    }
    bars = {name: some for name, some in bars.items() if some}  # streams that nothing runs on say nothing
    unit, scale = ("s", 1.0) if high >= 1 else ("ms", 1e3) if high >= 1e-3 else ("us", 1e6)
    with style():
        figure = Figure(figsize=(11, 2.2 + 0.34 * max(len(bars), 2)), layout="constrained")
        panel = figure.add_subplot()
        there: dict[str, None] = {}
        for at, some in enumerate(bars.values()):
            there |= _draw(panel, at, some, scale, high - low)
        panel.set_yticks(range(len(bars)), list(bars))
        panel.set_ylim(max(len(bars), 1) - 0.4, -0.6)
        panel.set_xlim(low * scale, high * scale)
        panel.xaxis.set_major_formatter(FuncFormatter(thousands))
        panel.set_xlabel(f"Time ({unit})")
        panel.grid(axis="y", visible=False)
        inside = sum((row or {}).get(name) or 0.0 for name in _INSIDE) > 0
        names = {
            kind: name + (" with its collectives" if inside and kind in _PASSES else "")
            for kind, (_, name) in _LOOKS.items()
        }
        patches = [Patch(color=colour, label=names[kind]) for kind, (colour, _) in _LOOKS.items() if kind in there]
        legend_below(figure, patches, [str(one.get_label()) for one in patches])
        shares = _shares(parts, row or {})
        heading(figure, title or "Timeline", f"{shares}; {_drawn(every, shown, parts, low, high)}")
    return figure


def _spans(execution: Execution) -> list[dict[str, list[Bar]]]:
    """Spans of each stream of each rank, by its name."""
    spans: list[dict[str, list[Bar]]] = [{name: [] for name in streams} for streams in execution.streams]
    where = {number: spans[r][name] for r, streams in enumerate(execution.streams) for name, number in streams.items()}
    for span in execution.timeline.spans(where):
        if span.end > span.start:
            where[span.stream].append((span.start, span.end, _class(span.label)))
    return spans


def _end_of_start(streams: Sequence[Sequence[Bar]], step: float) -> float:
    """The default end of the window, s: the step's end, or as long as its spans can be told apart."""
    busiest = max(streams, key=len, default=())
    return step if len(busiest) <= MOST_EDGED else sorted(busiest)[START - 1][1]


def _shares(parts: Breakdown, row: Mapping[str, Any]) -> str:
    """Duration of the step and the part of it that waits for communication.

    Of training the row knows better: the collectives of a layer are part of its pass.
    """
    exposed = [row.get(name) for name in (*_INSIDE, "exposed_pp_s", "exposed_data_s")]
    whole = parts.step or 1.0
    text = f"step of {format_seconds(parts.step)}: "
    if any(isinstance(one, float) for one in exposed):
        waits, bubble = sum(one or 0.0 for one in exposed), row.get("bubble_s") or 0.0
        text += f"{100 * (1 - (waits + bubble) / whole):.0f} % with kernels, "
        text += f"{100 * waits / whole:.0f} % with communication alone"
        return text + (f", {100 * bubble / whole:.0f} % bubble" if bubble > 0.005 * whole else "")
    text += f"{100 * parts.compute / whole:.0f} % with kernels, "
    return text + f"{100 * parts.exposed_communication / whole:.0f} % with communication alone"


def _drawn(
    every: Sequence[Mapping[str, Sequence[Bar]]], shown: Sequence[int], parts: Breakdown, low: float, high: float
) -> str:
    """Ranks that are drawn, whether the others do the same, and the ends of the window."""
    count = len(every)
    if len(shown) > 1:
        text = f"drawn: {'all' if len(shown) == count else f'the first {len(shown)} of {count}'} ranks"
    else:
        alike = all(_alike(one, every[shown[0]]) for one in every)
        others = ", which all do the same" if alike else ", the others differ"
        text = f"drawn: rank {shown[0]}" + (f" of {count}{others}" if count > 1 else "")
    whole = high - low >= 0.999 * parts.step
    return text if whole else f"{text}; {format_seconds(low) if low else '0'} to {format_seconds(high)}"


def _alike(streams: Mapping[str, Sequence[Bar]], others: Mapping[str, Sequence[Bar]]) -> bool:
    """True if two ranks do the same at the same times."""
    if streams is others:
        return True
    if [len(bars) for bars in streams.values()] != [len(bars) for bars in others.values()]:
        return False
    pairs = (pair for a, b in zip(streams.values(), others.values(), strict=True) for pair in zip(a, b, strict=True))
    return all(isclose(a[0], b[0], rel_tol=1e-6, abs_tol=1e-9) and isclose(a[1], b[1], rel_tol=1e-6) for a, b in pairs)


def _class(label: object) -> str:
    if not isinstance(label, Activity):
        return "other"
    if label.category == "communication":
        return "communication"
    return next((name for name in (label.uncertainty.group, label.kind) if name in _LOOKS), "other")


def _draw(panel: Axes, at: int, bars: Sequence[Bar], scale: float, long: float) -> dict[str, None]:
    """Draw the bars of a row in a picture of `long` s; very many that touch become one. Returns their kinds."""
    if len(bars) > MANY:
        bars = _joined(bars, long * TOUCH)
    few = len(bars) <= MOST_EDGED  # more would be nothing but white edges
    edge = {"edgecolors": "white", "linewidth": 0.3} if few else {"linewidth": 0, "antialiased": False}
    places = [(start * scale, max(end - start, long * SEEN) * scale) for start, end, _ in bars]
    panel.broken_barh(places, (at - 0.38, 0.76), facecolors=[_LOOKS[kind][0] for _, _, kind in bars], **edge)
    return dict.fromkeys(kind for _, _, kind in bars)


def _joined(bars: Sequence[Bar], touch: float) -> list[Bar]:
    """Bars that follow each other within `touch` s as one: compute, or communication."""
    joined: list[Bar] = []
    for start, end, kind in sorted(bars):
        what = kind if kind == "communication" else "compute"
        if joined and joined[-1][2] == what and start - joined[-1][1] <= touch:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]), what)
        else:
            joined.append((start, end, what))
    return joined
