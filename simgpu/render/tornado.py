"""Tornado plots: the change of an answer when each input is lower and higher, the widest bar on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simgpu.analysis.comparison import sides_of
from simgpu.render.style import COLOURS, INK, SLIDE, style
from simgpu.render.text import heading, legend_below, width_of, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LESS, MORE = COLOURS[1], COLOURS[0]
HEIGHT = 0.7
SEEN = 5e-4
"""Relative change of the answer below which a bar is left out."""
ROW, SHEET_ROW = 0.42, 0.35
"""Height of a bar with its surroundings, inches: alone, and of several panels on a sheet."""
MOST, MOST_OF_SHEET = 16, 8
"""Bars of a panel."""
PALE = 0.4


@dataclass(frozen=True)
class TornadoBar:
    """Relative change of the answer with less and with more of an input; None where it could not be changed.

    figure
        What the input is ('700 W'), for the label; a sheet of several panels has no room for it.
    aside
        Why an input is not ranked: it changes other inputs too, or cost is proportional to it. It stands
        below the others, whatever its width.
    """

    label: str
    less: float | None
    more: float | None
    figure: str = ""
    aside: str = ""

    @property
    def swing(self) -> float:
        """The larger of both changes, without sign."""
        return max(abs(end) for end in (self.less or 0.0, self.more or 0.0))


@dataclass(frozen=True)
class Tornado:
    """An answer and its bars: `base` says what it is ('step 5.97 s'), `answer` its name in the finding."""

    name: str
    base: str
    answer: str
    bars: Sequence[TornadoBar]


def tornado_figure(panels: Sequence[Tornado], change: float, title: str = "") -> Figure:
    """A panel for each answer, two beside each other; inputs were changed by the fraction `change` either way."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    several = len(panels) > 1
    shown = [_shown(tornado.bars, MOST_OF_SHEET if several else MOST) for tornado in panels]
    columns = 2 if several else 1
    heights = [max(len(bars) for bars in shown[n : n + columns]) + 2.2 for n in range(0, len(shown), columns)]
    with style():
        size = (SLIDE if several else 11.0, 1.6 + (SHEET_ROW if several else ROW) * sum(heights) + 0.3 * len(heights))
        figure = Figure(figsize=size, layout="constrained")
        parts = (
            figure.subfigures(len(heights), columns, squeeze=False, height_ratios=heights).flat if several else [figure]
        )
        for part, tornado, bars in zip(parts, panels, shown, strict=False):
            width = 72 * size[0] / columns
            _draw(part.subplots(), tornado, bars, several, width)
            if several:
                words = (
                    wrapped(text.replace(" %", "\u00a0%"), 11, width - 16, 2)
                    for text in (tornado.name, finding(tornado, bars, change))
                )
                part.suptitle("\n".join(words), fontsize=11, x=0.02, ha="left", color=INK)
        names = [f"{side} of it" for side in sides_in_words(change)]
        handles = [Patch(color=colour) for colour in (LESS, MORE)]
        if aside := ", ".join(dict.fromkeys(bar.aside for bars in shown for bar in bars if bar.aside)):
            handles, names = [*handles, Patch(color=LESS, alpha=PALE)], [*names, f"pale, not ranked: {aside}"]
        legend_below(figure, handles, names)
        heading(figure, title, "" if several else finding(panels[0], shown[0], change))
    return figure


def finding(tornado: Tornado, bars: Sequence[TornadoBar], change: float) -> str:
    """A sentence on the widest bar, in its own numbers: true of a time and of a rate."""
    widest = next((bar for bar in bars if not bar.aside), None)
    if widest is None:
        return f"no input moves {tornado.answer}"
    name = widest.label.partition(" (")[0]
    matters = "matter" if name.endswith(("latencies", "rates")) else "matters"
    ends = zip((widest.less, widest.more), sides_in_words(change), strict=True)
    known = [(_percent(end), side) for end, side in ends if end is not None]
    words = [f"{tornado.answer} {known[0][0]} with {known[0][1]}", *(f"{end} with {side}" for end, side in known[1:])]
    return f"{name} {matters} most: {', '.join(words)}"


def sides_in_words(change: float) -> tuple[str, str]:
    """Both sides of a change in words: '10 % less' and '10 % more', '50 % less' and '100 % more'."""
    less, more = sides_of(change)
    return f"{100 * (1 - less):.3g} % less", f"{100 * (more - 1):.3g} % more"


def _shown(bars: Sequence[TornadoBar], most: int) -> list[TornadoBar]:
    """The bars that are wide enough to be seen, the widest first, unranked ones last."""
    seen = sorted((bar for bar in bars if bar.swing >= SEEN), key=lambda bar: (bool(bar.aside), -bar.swing))
    aside = [bar for bar in seen if bar.aside]
    return [*seen[: min(len(seen) - len(aside), most - len(aside))], *aside]


def _left_out(tornado: Tornado, bars: Sequence[TornadoBar]) -> str:
    """A sentence on the bars that had no room, and how wide they are at most; '' if none."""
    out = [bar for bar in tornado.bars if bar.swing >= SEEN and bar not in bars]
    if not out:
        return ""
    return f"not drawn: {', '.join(bar.label for bar in out)} ({_percent(max(bar.swing for bar in out))[1:]} at most)"


def _draw(panel: Axes, tornado: Tornado, bars: Sequence[TornadoBar], several: bool, width: float) -> None:
    """The bars of a panel, with labels and numbers, in `width` points."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for at, bar in enumerate(bars):
        same_side = _same_side(bar)
        sides = [(bar.less, LESS), (bar.more, MORE)]
        for n, (end, colour) in enumerate(sides):
            if end is None:
                continue
            look: dict[str, Any] = {"color": colour, "alpha": PALE if bar.aside else 1.0}
            if same_side:  # one above the other, so that neither hides the other
                panel.barh(at + (n - 0.5) * HEIGHT / 2, 100 * end, HEIGHT / 2, **look)
            else:
                panel.barh(at, 100 * end, HEIGHT, **look)
        for end, text in _ends(bar, same_side):
            left = end < 0
            panel.annotate(
                text, (100 * end, at), (-5 if left else 5, 0), textcoords="offset points",
                ha="right" if left else "left", va="center", fontsize=10, color=INK,
                bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"},
            )  # fmt: skip
    labels = [_label(bar, several) for bar in bars]
    room = width - 30 - max((width_of(label, 12) for label in labels), default=0.0)
    panel.set_xlim(*_limits(bars, room))
    panel.set_yticks(range(len(bars)), labels)
    panel.set_ylim(max(len(bars), 1) - 0.4, -0.6)
    panel.axvline(0, color=INK, lw=1.2, zorder=3)
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)
    panel.xaxis.set_major_locator(MaxNLocator(5 if several else 8))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g} %" if x else "0"))
    out = _left_out(tornado, bars)
    panel.set_xlabel(f"Change of {tornado.base}" + (f"\n{wrapped(out, 12, room, 3)}" if out else ""))
    if not bars:
        panel.set_xticks([0])
        panel.text(0, 0, "no input moves it", ha="center", va="center", fontsize=11, color=INK)


def _limits(bars: Sequence[TornadoBar], width: float) -> tuple[float, float]:
    """Ends of an axis `width` points long that has room for the numbers beyond the bars, percent."""
    ends = [100 * end for bar in bars for end in (bar.less, bar.more) if end] or [-1.0, 1.0]
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    texts = [(end < 0, width_of(text, 10) + 12) for bar in bars for end, text in _ends(bar, _same_side(bar))]
    left, right = (max((wide for side, wide in texts if side == less), default=10.0) / width for less in (True, False))
    long = (high - low) / max(1 - left - right, 0.2)
    return low - left * long, high + right * long


def _same_side(bar: TornadoBar) -> bool:
    return bool(bar.less and bar.more and bar.less * bar.more > 0)


def _label(bar: TornadoBar, several: bool) -> str:
    """The name of a bar: 'Tensor peak (bf16, 989.4 TFLOP/s)', on a sheet 'Tensor peak (bf16)'."""
    if several or not bar.figure:
        return bar.label
    return f"{bar.label[:-1]}, {bar.figure})" if bar.label.endswith(")") else f"{bar.label} ({bar.figure})"


def _ends(bar: TornadoBar, same_side: bool) -> list[tuple[float, str]]:
    """Places of a bar's numbers: outside of it, both at one end where both sides go the same way."""
    ends = [end for end in (bar.less, bar.more) if end is not None and abs(end) >= SEEN / 2]
    if same_side and len(ends) == 2:
        return [(max(ends, key=abs), " / ".join(_percent(end) for end in ends))]
    return [(end, _percent(end)) for end in ends]


def _percent(end: float) -> str:
    return f"{100 * end:+.1f} %" if abs(end) >= 9.5e-3 else f"{100 * end:+.2f} %"
