"""Steps of a server one by one: what each works on, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.style import COLOURS, style
from simgpu.render.text import heading, legend_below, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 120
"""Steps that can be told apart in one picture."""

DECODES, PROMPTS = COLOURS[0], COLOURS[1]

Step = tuple[int, float, float, int, int, int]
Bar = tuple[float, float, float, bool]
"""Start and end, s, a height, and True with prompts."""


def steps_figure(served: Any, words: str, window: tuple[float, float] | None) -> Figure:
    """Three panels over one time: tokens of prompts, sequences that decode, and seconds of each step.

    Of several replicas the first is drawn. Steps of decodes alone that are alike are drawn one by one, at equal times.
    """
    from matplotlib.figure import Figure

    steps = [one for step in served.tally.steps if step[0] == 0 for one in _single(step)]
    start, end = window or _busiest(steps)
    shown = [one for one in steps if one[2] > start and one[1] < end]
    with style():
        figure = Figure(figsize=(13.3, 7.4), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True)
        heights: tuple[tuple[str, list[Bar]], ...] = (
            ("Prompt tokens", [(one[1], one[2], one[4], one[4] > 0) for one in shown]),
            ("Sequences\nthat decode", [(one[1], one[2], one[3], one[4] > 0) for one in shown]),
            ("Time of\nthe step (ms)", [(one[1], one[2], 1e3 * (one[2] - one[1]), one[4] > 0) for one in shown]),
        )
        for panel, (name, bars) in zip(panels, heights, strict=True):
            _bars(panel, bars)
            panel.set_ylabel(name)
        panels[0].set_xlim(start, end)
        panels[-1].set_xlabel("Time (s)")
        legend_below(figure, *panels[-1].get_legend_handles_labels())
        heading(figure, words, _finding(shown))
    return figure


def _single(step: Step) -> list[Step]:
    """The steps of a leap, one by one."""
    replica, start, end, decodes, tokens, number = step
    each = (end - start) / number
    return [(replica, start + i * each, start + (i + 1) * each, decodes, tokens, 1) for i in range(min(number, 1000))]


def _busiest(steps: Sequence[Step]) -> tuple[float, float]:
    """A window of `FEW` steps in the middle of what was recorded, or all where there are fewer."""
    if not steps:
        return 0.0, 1.0
    middle = max(len(steps) // 2 - FEW // 2, 0)
    some = steps[middle : middle + FEW]
    return some[0][1], some[-1][2]


def _bars(panel: Axes, bars: Sequence[Bar]) -> None:
    from matplotlib.ticker import FuncFormatter

    for prompts, colour, name in ((False, DECODES, "decodes alone"), (True, PROMPTS, "with prompts")):
        some = [bar for bar in bars if bar[3] is prompts]
        lefts, widths, tops = ([bar[0] for bar in some], [bar[1] - bar[0] for bar in some], [bar[2] for bar in some])
        panel.bar(lefts, tops, widths, align="edge", color=colour, edgecolor="white", linewidth=0.4, label=name)
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(FuncFormatter(thousands))


def _finding(steps: Sequence[Step]) -> str:
    """A sentence on steps with prompts against those without."""
    with_prompts = [end - start for _, start, end, _, tokens, _ in steps if tokens]
    alone = [end - start for _, start, end, _, tokens, _ in steps if not tokens]
    if not with_prompts or not alone:
        return f"{len(steps)} steps of one replica"
    means = [1e3 * sum(some) / len(some) for some in (with_prompts, alone)]
    share = 100 * sum(with_prompts) / (sum(with_prompts) + sum(alone))
    words = f"steps with prompts take {means[0]:.3g} ms, decodes alone {means[1]:.3g} ms"
    return f"{words}; {share:.0f} % of the time has prompts"
