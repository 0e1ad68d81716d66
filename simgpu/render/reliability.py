"""A reliability diagram: the share of measurements inside predicted intervals, against what these promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from simgpu.render.style import COLOURS, INK, MARKERS, style
from simgpu.render.text import heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAND = 0.1
"""Either side of what is promised, that is drawn as reached."""
PROMISED = 0.8
"""What the intervals of this project promise."""


def reliability_figure(levels: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Lines of shares inside at each of `levels`, a panel for each way to group the rows; each source counts once."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(6.4 * len(panels), 6.4), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        promised = [100 * level for level in levels]
        for panel, (title, lines) in zip(axes, panels.items(), strict=True):
            panel.fill_between(
                [0, 100], [-100 * BAND, 100 - 100 * BAND], [100 * BAND, 100 + 100 * BAND], color=INK, alpha=0.07, lw=0
            )
            panel.plot([0, 100], [0, 100], color=INK, lw=1.2)
            panel.axvline(100 * PROMISED, color=INK, lw=1.0, ls=":")
            for i, (name, shares) in enumerate(lines.items()):
                panel.plot(
                    promised, [100 * share for share in shares], color=COLOURS[i % len(COLOURS)],
                    marker=MARKERS[i % len(MARKERS)], ms=5, label=name,
                )  # fmt: skip
            panel.set_xlim(0, 100)
            panel.set_ylim(0, 100)
            panel.set_aspect("equal")
            panel.set_title(title, fontsize=12)
            panel.set_xlabel("promised: share of measurements inside (%)")
            panel.legend(loc="lower right", fontsize=10)
        axes[0].set_ylabel("measured to be inside (%)")
        words = [
            f"{100 * shares[min(range(len(levels)), key=lambda i: abs(levels[i] - PROMISED))]:.0f} %"
            for shares in next(iter(panels.values())).values()
        ]
        first, last = min(words, key=_number), max(words, key=_number)
        title = f"Error bars that promise 80 % hold {first} to {last} of the measurements, by distance"
        heading(
            figure, title, "below the line: too narrow; above: too wide; grey: within 10 points; sources count once"
        )
    return figure


def _number(words: str) -> float:
    return float(words.split()[0])
