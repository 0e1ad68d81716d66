"""Power of a GPU over time: as it draws it, and as the controller of its board sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from simgpu.analysis.power_trace import WINDOW, PowerTrace
from simgpu.render.style import COLOURS, style
from simgpu.render.text import heading, legend_below
from simgpu.timing.levels import Levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPEATED = 4 * WINDOW
"""s that are drawn of a step that is shorter: it comes again and again."""

MOST_STEPS = 400


def power_figure(boards: Sequence[tuple[str, PowerTrace, Levels]], words: str) -> Figure:
    """A panel for each (name, trace, levels): power, its mean over the controller's window, limit and idle power."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(11, 1.2 + 2.6 * max(len(boards), 1)), layout="constrained")
        panels = figure.subplots(max(len(boards), 1), 1, squeeze=False)[:, 0]
        for panel, (name, trace, levels) in zip(panels, boards, strict=False):
            shown = repeated(trace)
            seen = shown.windowed(WINDOW)
            panel.stairs(shown.watts, shown.times, color=COLOURS[0], alpha=0.55, lw=0.8, label="as it draws it")
            at = (seen.times[1:] + seen.times[:-1]) / 2
            label = f"mean of {WINDOW * 1e3:g} ms, as the board's controller sees it"
            panel.plot(at, seen.watts, color=COLOURS[1], lw=2, label=label)
            panel.axhline(levels.limit, color="#444444", ls="--", lw=1, label="limit")
            panel.axhline(levels.idle, color="#999999", ls=":", lw=1.2, label="idle")
            panel.set_ylim(0, 1.12 * levels.limit)
            panel.set_xlim(shown.times[0], shown.times[-1])
            panel.set_ylabel("W of a GPU")
            panel.set_title(f"{name}: {trace.joules / trace.times[-1]:,.0f} W on average", loc="left", fontsize=10)
        panels[-1].set_xlabel("Time (s)")
        handles, labels = panels[0].get_legend_handles_labels()
        legend_below(figure, handles, labels)
        heading(figure, words)
    return figure


def repeated(trace: PowerTrace, least: float = REPEATED) -> PowerTrace:
    """The run again and again until it lasts `least` seconds."""
    step = float(trace.times[-1])
    times = min(int(np.ceil(least / step)), MOST_STEPS) if 0 < step < least else 1
    starts = np.concatenate([trace.times[:-1] + i * step for i in range(times)])
    return PowerTrace(np.append(starts, times * step), np.tile(trace.watts, times)).thinned()
