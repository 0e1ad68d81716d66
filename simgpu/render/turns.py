"""Requests of sessions by their place in them: what the cache has of their prompts, and how long they wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.style import COLOURS, style
from simgpu.render.text import heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def turns_figure(runs: Sequence[tuple[str, Any]], words: str) -> Figure:
    """A line for each run (`simgpu.workload.server.answer.Served`) by its name: hit rate, and TTFT, by request."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    with style():
        figure = Figure(figsize=(13.3, 5.4), layout="constrained")
        hits, waits = figure.subplots(1, 2)
        most = 0.0
        for (name, served), colour in zip(runs, COLOURS, strict=False):
            rows = served.sessions.rows()
            places = [row["request"] for row in rows]
            mark = "o" if len(rows) <= 30 else ""
            hits.plot(places, [100 * row["hit_rate"] for row in rows], color=colour, marker=mark, ms=4, label=name)
            waits.plot(places, [row["ttft_s"] for row in rows], color=colour, marker=mark, ms=4, label=name)
            most = max(most, *(row["ttft_s"] for row in rows))
        hits.set_ylim(0, 102)
        hits.set_title("Prompt tokens that the cache had")
        hits.set_ylabel("Hit rate (%)")
        waits.set_title("Time to first token, mean")
        waits.set_ylabel("TTFT (s)")
        waits.set_yscale("log")
        waits.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        waits.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        waits.yaxis.set_minor_formatter(NullFormatter())
        for panel in (hits, waits):
            panel.set_xlabel("Request of a session")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(runs) > 1:
            hits.legend(loc="best")
        heading(figure, words)
    return figure
