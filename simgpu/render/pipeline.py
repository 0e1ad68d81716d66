"""Pipeline schedules as a picture: a panel for each run, a row for each stage, a box for each pass of a microbatch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from simgpu.render.style import COLOURS, FAINT, INK, readable_on, style
from simgpu.render.text import heading, legend_below, width_of, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Colour = tuple[float, float, float]

WIDTH = 12.0
"""Width of the picture, inches; one of 16 : 9 slides is 13.3 wide."""
ROW, LEAST_ROW, ALL_ROWS = 0.3, 0.13, 5.0
"""Height of a stage, inches: at most, at least, and of all stages together where there is a choice."""
MAX_NUMBERS = 3000
"""Boxes in a picture that get their numbers; more would not be readable."""
NUMBER_SIZES = (11, 10, 9, 8, 7)
"""Sizes of these numbers, points; the first that fits the boxes is taken."""
FIT = 0.95
"""Share of the boxes of a kind that their numbers must fit; else none is written."""

_FILL = {
    "F": (COLOURS[0], "forward"),
    "B": (COLOURS[1], "backward"),
    "W": (COLOURS[2], "weight gradients"),
    "communication": ("#ADADAD", "communication"),
    "optimizer": ("#6E6E6E", "optimizer, host"),
}
_PASSES = ("F", "B", "W")


@dataclass(frozen=True, slots=True)
class Box:
    """An activity of a stage between two times, s: 'F', 'B', 'W', 'communication' or 'optimizer'.

    Communication is drawn behind the passes, so that only what they do not hide is seen.
    """

    start: float
    end: float
    kind: str
    microbatch: int | None = None
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """One run: its name, the boxes of each stage, and what share of the step is bubble (None: what no box covers)."""

    title: str
    stages: Sequence[Sequence[Box]]
    bubble: float | None = None

    @property
    def step(self) -> float:
        """End of the last box, s."""
        return max((box.end for boxes in self.stages for box in boxes), default=0.0)

    @property
    def idle(self) -> float:
        """Share of stages x step that no box covers."""
        whole = len(self.stages) * self.step
        return 1 - sum(_covered(boxes) for boxes in self.stages) / whole if whole > 0 else 0.0


def pipeline_figure(panels: Sequence[Panel], title: str = "") -> Figure:
    """A timeline of each of `panels` (at least one), one above the other on the same time axis."""
    from matplotlib.figure import Figure

    end = max(panel.step for panel in panels) or 1.0
    unit, scale = _unit(end)
    stages = sum(len(panel.stages) for panel in panels)
    row = min(ROW, max(LEAST_ROW, ALL_ROWS / max(1, stages)))
    with style():
        height = row * stages + 0.62 * len(panels) + 1.0 + (0.4 if title else 0)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(
            len(panels), 1, sharex=True, squeeze=False, height_ratios=[max(1, len(panel.stages)) for panel in panels]
        )[:, 0]
        per_second = (WIDTH - 1.1) * 72 / end  # points of the picture in a second of the step
        for panel, axis in zip(panels, axes, strict=True):
            _draw(axis, panel, scale, per_second)
            _number(axis, panel, scale, per_second, min(NUMBER_SIZES[0], row * 72 * 0.6))
            _name_rows(axis, len(panel.stages), row)
            _say_sooner(axis, panel, end, scale)
            share = panel.idle if panel.bubble is None else panel.bubble
            what = "idle" if panel.bubble is None else "bubble"
            finding = f"{share * 100:.1f} % {what}, {_figure(panel.step * scale)} {unit}"
            name = wrapped(panel.title, 14, (WIDTH - 1.5) * 72 - width_of(f": {finding}", 14), 1)
            axis.set_title(f"{name}: {finding}", loc="left", fontsize=14, color=INK)
        axes[-1].set_xlim(0, end * scale * 1.002)
        axes[-1].set_xlabel(f"Time ({unit})")
        handles = _legend(panels)
        legend_below(figure, handles, [str(one.get_label()) for one in handles])
        heading(figure, title, _finding(panels, unit, scale))
    return figure


def _finding(panels: Sequence[Panel], unit: str, scale: float) -> str:
    """A sentence on the shortest and the longest of several runs."""
    if len(panels) < 2:
        return ""
    short, long = (pick(panels, key=lambda panel: panel.step) for pick in (min, max))
    if long.step - short.step < 0.005 * long.step:
        return "all take the same time; idle: share of all stages together that no box covers"
    saved = f"{100 * (1 - short.step / long.step):.0f} % less time than {long.title}"
    return f"{short.title}: {_figure(short.step * scale)} {unit}, {saved}; idle: of all stages together"


def _draw(axis: Axes, panel: Panel, scale: float, per_second: float) -> None:
    """Draw boxes and the end of the step."""
    chunks = _chunks(panel)
    bars: dict[tuple[str, int, int], list[tuple[float, float]]] = defaultdict(list)
    step = panel.step * scale
    for row, boxes in enumerate(panel.stages):
        axis.broken_barh([(0, step)], (row - 0.42, 0.84), facecolors="white", edgecolors=FAINT, linewidth=0.8, zorder=1)
        for box in boxes:
            bars[box.kind, box.chunk, row].append((box.start * scale, (box.end - box.start) * scale))
    for (kind, chunk, row), spans in bars.items():
        wide = sum(span for _, span in spans) / len(spans) / scale * per_second > 5
        edge = {"edgecolors": "white", "linewidth": 0.7} if wide else {"linewidth": 0, "antialiased": False}
        above = 3 if kind in _PASSES else 2
        axis.broken_barh(spans, (row - 0.42, 0.84), facecolors=_shade(kind, chunk, chunks), zorder=above, **edge)
    axis.plot([step, step], [-0.6, len(panel.stages) - 0.4], color=INK, linewidth=1.6, zorder=5, clip_on=False)


def _number(axis: Axes, panel: Panel, scale: float, per_second: float, largest: float) -> None:
    """Write the numbers of microbatches, for each kind of pass of which they fit the boxes."""
    chunks = _chunks(panel)
    kinds: dict[str, list[tuple[int, Box]]] = defaultdict(list)
    for row, boxes in enumerate(panel.stages):
        for box in boxes:
            if box.microbatch is not None:
                kinds[box.kind].append((row, box))
    for kind, numbered in kinds.items():
        needed = [_ems(box) for _, box in numbered]
        room = [
            ((box.end - box.start) * per_second - 1.5) / ems for (_, box), ems in zip(numbered, needed, strict=True)
        ]
        fits = [size for size in NUMBER_SIZES if size <= largest and sum(r >= size for r in room) >= FIT * len(room)]
        if not fits or len(numbered) > MAX_NUMBERS:
            continue
        for (row, box), size in zip(numbered, room, strict=True):
            if size >= fits[0]:
                text = axis.text(
                    (box.start + box.end) / 2 * scale,
                    row + 0.02,
                    str(box.microbatch),
                    fontsize=fits[0],
                    color=readable_on(_shade(kind, box.chunk, chunks)),
                    ha="center",
                    va="center_baseline",
                    zorder=4,
                )
                text.set_in_layout(False)


def _name_rows(axis: Axes, stages: int, row: float) -> None:
    """Write the names of stages beside the rows, `row` inches high: every one, or as many as can be read."""
    size = min(12.0, max(9.0, row * 72 * 0.75))
    shown = range(0, stages, ceil(size * 1.3 / (row * 72)))
    axis.set_yticks(shown, [f"stage {stage}" for stage in shown])
    axis.tick_params(axis="y", length=0, labelsize=size)
    axis.set_ylim(stages - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)


def _say_sooner(axis: Axes, panel: Panel, end: float, scale: float) -> None:
    """Write how much of the longest step is saved, where there is room for it."""
    saved = 1 - panel.step / end
    if saved < 0.09:
        return
    axis.text(
        (panel.step + end) / 2 * scale,
        (len(panel.stages) - 1) / 2,
        f"{saved * 100:.0f} %\nless time",
        fontsize=12,
        color=INK,
        ha="center",
        va="center",
        backgroundcolor="white",
    )


def _legend(panels: Sequence[Panel]) -> list[Any]:
    from matplotlib.patches import Patch

    boxes = [box for panel in panels for boxes in panel.stages for box in boxes]
    there = {box.kind for box in boxes}
    handles: list[Any] = [Patch(color=colour, label=name) for kind, (colour, name) in _FILL.items() if kind in there]
    handles.append(Patch(facecolor="white", edgecolor=FAINT, label="idle"))
    chunks = max(_chunks(panel) for panel in panels)
    if chunks > 1:
        handles.append(Patch(color=_shade("F", chunks - 1, chunks), label="later chunks paler"))
    return handles


def _unit(seconds: float) -> tuple[str, float]:
    """Unit of the time axis and how many of it are in a second."""
    return ("s", 1.0) if seconds >= 10 else ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)


def _figure(value: float) -> str:
    """Three digits of a number, but all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ems(box: Box) -> float:
    """Width of a box's number in sizes of its type; a digit of DejaVu Sans is 0.636 wide."""
    return 0.636 * len(str(box.microbatch))


def _chunks(panel: Panel) -> int:
    return 1 + max((box.chunk for boxes in panel.stages for box in boxes), default=0)


def _shade(kind: str, chunk: int, chunks: int) -> Colour:
    """Colour of a box: that of its kind, paler for each further chunk."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(_FILL.get(kind, _FILL["communication"])[0])
    pale = 0.62 * chunk / (chunks - 1) if chunks > 1 else 0.0
    return red + (1 - red) * pale, green + (1 - green) * pale, blue + (1 - blue) * pale


def _covered(boxes: Sequence[Box]) -> float:
    """Seconds that any of `boxes` covers."""
    total, reached = 0.0, 0.0
    for box in sorted(boxes, key=lambda box: box.start):
        total += max(0.0, box.end - max(box.start, reached))
        reached = max(reached, box.end)
    return total
