"""Tornado plots: what an answer does when each input is a little less and a little more, the widest bar on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simgpu.analysis.comparison import sides_of
from simgpu.render.style import COLOURS, INK, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LESS, MORE = COLOURS[1], COLOURS[0]
HEIGHT = 0.7
SEEN = 5e-4
"""Relative change of the answer below which a bar is left out."""


@dataclass(frozen=True)
class TornadoBar:
    """Relative change of the answer with less and with more of an input; None where it could not be changed."""

    label: str
    less: float | None
    more: float | None

    @property
    def swing(self) -> float:
        return max(abs(end) for end in (self.less or 0.0, self.more or 0.0))


@dataclass(frozen=True)
class Tornado:
    """One answer: `base` says what it is ('step 5.97 s'), `finding` what the bars show, `left_out` what has no bar."""

    name: str
    base: str
    finding: str
    bars: Sequence[TornadoBar]


def tornado_figure(panels: Sequence[Tornado], change: float, heading: str = "") -> Figure:
    """A panel for each answer, two beside each other; inputs were changed by the fraction `change` either way."""
    from matplotlib.figure import Figure

    several = len(panels) > 1
    shown = [_shown(one.bars, 8 if several else 12) for one in panels]
    columns = 2 if several else 1
    heights = [max(len(bars) for bars in shown[n : n + columns]) + 2.2 for n in range(0, len(shown), columns)]
    with style():
        figure = Figure(figsize=(9.0 * columns if several else 11.0, 1.5 + 0.42 * sum(heights)), layout="constrained")
        axes = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights}).flat
        for panel, one, bars in zip(axes, panels, shown, strict=False):
            _draw(panel, one, bars, several)
        for panel in list(axes)[len(panels) :]:
            panel.set_axis_off()
        handles: list[Any] = [figure.axes[0].barh([0], [0], color=colour) for colour in (LESS, MORE)]
        words = [f"{side} of it" for side in sides_in_words(change)]
        figure.legend(handles, words, loc="outside lower center", ncols=2)
        lines = [heading] if heading else []
        lines += [] if several else [panels[0].finding]
        figure.suptitle("\n".join(lines), fontsize=13, x=0.01, ha="left")
    return figure


def sides_in_words(change: float) -> tuple[str, str]:
    """What both sides of a change are: '10 % less' and '10 % more', '50 % less' and '100 % more'."""
    less, more = sides_of(change)
    return f"{100 * (1 - less):.3g} % less", f"{100 * (more - 1):.3g} % more"


def _shown(bars: Sequence[TornadoBar], most: int) -> list[TornadoBar]:
    """Those that can be seen, the widest first."""
    return sorted((bar for bar in bars if bar.swing >= SEEN), key=lambda bar: -bar.swing)[:most]


def _draw(panel: Axes, one: Tornado, bars: Sequence[TornadoBar], several: bool) -> None:
    from matplotlib.ticker import FuncFormatter

    for at, bar in enumerate(bars):
        same_side = bool(bar.less and bar.more and bar.less * bar.more > 0)
        sides = [(bar.less, LESS), (bar.more, MORE)]
        for n, (end, colour) in enumerate(sides):
            if end is None:
                continue
            if same_side:  # one above the other, so that neither hides the other
                panel.barh(at + (n - 0.5) * HEIGHT / 2, 100 * end, HEIGHT / 2, color=colour)
            else:
                panel.barh(at, 100 * end, HEIGHT, color=colour)
        for end, text in _ends(bar, same_side):
            left = end < 0
            panel.annotate(
                text, (100 * end, at), (-5 if left else 5, 0), textcoords="offset points",
                ha="right" if left else "left", va="center", fontsize=10, color=INK,
                bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"},
            )  # fmt: skip
    widest = 100 * max((bar.swing for bar in bars), default=0.01)
    low = 100 * min((end for bar in bars for end in (bar.less, bar.more) if end), default=-0.01)
    high = 100 * max((end for bar in bars for end in (bar.less, bar.more) if end), default=0.01)
    panel.set_xlim(min(low, 0) - 0.24 * widest, max(high, 0) + 0.24 * widest)
    panel.set_yticks(range(len(bars)), [bar.label for bar in bars])
    panel.set_ylim(max(len(bars), 1) - 0.4, -0.6)
    panel.axvline(0, color=INK, lw=1.2, zorder=3)
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g} %" if x else "0"))
    panel.set_xlabel(f"Change of {one.base}")
    if several:
        panel.set_title(f"{one.name}\n{one.finding}", fontsize=11, loc="left")
    if not bars:
        panel.set_xticks([0])
        panel.text(0, 0, "no input moves it", ha="center", va="center", fontsize=11, color=INK)


def _ends(bar: TornadoBar, same_side: bool) -> list[tuple[float, str]]:
    """Where the numbers of a bar stand: outside of it, both at one end where both sides go the same way."""
    ends = [end for end in (bar.less, bar.more) if end is not None and abs(end) >= SEEN / 2]
    if same_side and len(ends) == 2:
        return [(max(ends, key=abs), " / ".join(_percent(end) for end in ends))]
    return [(end, _percent(end)) for end in ends]


def _percent(end: float) -> str:
    return f"{100 * end:+.1f} %" if abs(end) >= 9.5e-3 else f"{100 * end:+.2f} %"
