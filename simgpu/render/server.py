"""A server over time: what its requests wait for, its queue and its cache, and how latencies spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.style import COLOURS, style
from simgpu.render.text import heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOWS = 40
"""Windows of time of which each has its percentiles."""


def server_figure(served: Any, words: str) -> Figure:
    """Four panels of a server (`simgpu.workload.server.answer.Served`)."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(13.3, 8.2), layout="constrained")
        panels = figure.subplots(2, 2)
        _first_tokens(panels[0][0], served)
        _requests(panels[0][1], served)
        _cache(panels[1][0], served)
        _spread(panels[1][1], served)
        heading(figure, words)
    return figure


def _first_tokens(panel: Axes, served: Any) -> None:
    """Percentiles of TTFT by the time at which requests were sent."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    sent = [record[1] for record in served.records]
    width = max(served.last_sent, 1e-9) / WINDOWS
    groups: list[list[float]] = [[] for _ in range(WINDOWS)]
    for record, time in zip(served.records, sent, strict=True):
        groups[min(int(time / width), WINDOWS - 1)].append(record[6] - record[1])
    for share, colour in ((50, COLOURS[0]), (90, COLOURS[2]), (99, COLOURS[1])):
        points = [((i + 0.5) * width, _percentile(some, share)) for i, some in enumerate(groups) if some]
        panel.plot(*zip(*points, strict=True), color=colour, label=f"P{share}", lw=1.8)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(_seconds))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_ylim(top=2 * panel.get_ylim()[1])  # room for the legend
    _named(panel, "Time to first token", "Sent at (s)", "TTFT (s)")


def _requests(panel: Axes, served: Any) -> None:
    rows = served.tally.series.rows()
    times = [row["time_s"] for row in rows]
    panel.plot(times, [row["running"] for row in rows], color=COLOURS[0], label="running", lw=1.8)
    panel.plot(times, [row["waiting"] for row in rows], color=COLOURS[1], label="waiting", lw=1.8)
    panel.set_ylim(bottom=0)
    _named(panel, "Requests in the server", "Time (s)", "Requests, all replicas")


def _cache(panel: Axes, served: Any) -> None:
    rows = served.tally.series.rows()
    blocks = served.rules.blocks * served.replicas
    panel.plot([row["time_s"] for row in rows], [100 * row["used"] / blocks for row in rows], color=COLOURS[2], lw=1.8)
    panel.set_ylim(0, 105)
    lost = f", {served.tally.preemptions:,} preemptions" if served.tally.preemptions else ""
    found = f": {100 * served.hit_rate:.1f} % of prompt tokens found" if served.hit_rate > 0.0005 else ""
    _named(panel, f"Cache{found}{lost}", "Time (s)", "Blocks held (%)")


def _spread(panel: Axes, served: Any) -> None:
    """Cumulative shares of latencies, on a common axis of time."""
    from matplotlib.ticker import FuncFormatter

    samples = {"TTFT": served.ttft, "TPOT": served.tpot, "ITL": served.tally.itl, "end to end": served.total}
    for (name, sample), colour in zip(samples.items(), COLOURS, strict=False):
        points = [(value, 100 * share) for value, share in sample.curve() if value > 0]
        if points:
            panel.plot(*zip(*points, strict=True), color=colour, label=name, lw=1.8)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(_seconds))
    panel.set_ylim(0, 101)
    _named(panel, "Shares of requests (of tokens for ITL)", "Seconds", "Share below (%)")


def _seconds(value: float, _: object = None) -> str:
    return f"{value:g}"


def _named(panel: Axes, title: str, x: str, y: str) -> None:
    panel.set_title(title)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    if len(panel.get_lines()) > 1:
        panel.legend(loc="best")


def _percentile(values: Sequence[float], share: float) -> float:
    rows = sorted(values)
    return rows[min(int(share / 100 * len(rows)), len(rows) - 1)]
