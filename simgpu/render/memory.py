"""What people see of memory: a table of stages and parts, and bars with the capacity as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from simgpu.render.style import COLOURS, INK, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MemoryRow = Mapping[str, Any]
"""Fields of `simgpu.plan.memory.Memory` (`as_dict`), bytes."""

PARTS = (
    *("weights", "gradients", "optimizer", "kv_cache", "activations", "communication", "temporary", "logits"),
    *("graphs", "reserve"),
)
"""Parts in the order in which they stand; a training step has some of them, a server others."""
_GREY = "#9A9A9A"
_FILLS = dict(zip(PARTS, (*(COLOURS[i] for i in (0, 1, 2, 2, 3, 4, 5, 5, 1)), _GREY), strict=True))
_HATCHES = {"reserve": "//"}
GIB = 2.0**30
MOST_CAPACITIES = 2.2
"""How far bars are drawn, in capacities of the largest GPU."""


def print_memory(rows: Mapping[str, MemoryRow], heading: str, out: IO[str], notes: Sequence[str] = ()) -> None:
    """A line for each stage or scenario, by its label; GiB of each part, of all, and what is left."""
    from simgpu.render.table import grid

    capacity = any(row.get("capacity") for row in rows.values())
    host = any(row.get("host") for row in rows.values())
    parts = [part for part in PARTS if any(part in row for row in rows.values())]
    columns = [
        "GiB",
        *(part.replace("_", " ") for part in parts),
        "total",
        *(("free",) if capacity else ()),
        *(("host",) if host else ()),
    ]
    cells = []
    for label, row in rows.items():
        line = [label, *(_gib(row.get(part, 0.0)) for part in parts), _gib(row["total"])]
        if capacity:
            usable = row.get("budget") or row.get("capacity")
            line.append(_gib(usable - row["total"]) if usable else "")
        if host:
            line.append(_gib(row.get("host") or 0.0))
        cells.append(line)
    grid(heading, columns, cells, out, right=range(1, len(columns)))
    for note in notes:
        print(note, file=out)


def memory_figure(rows: Mapping[str, MemoryRow], heading: str, across: str = "") -> Figure:
    """Stacked bars of each part, a bar for each stage or scenario, with the capacity of the GPU as a line.

    across: what the bars differ by, for the axis."""
    from matplotlib.figure import Figure

    labels = list(rows)
    with style():
        upright = len(labels) <= 20 and max(map(len, labels), default=0) <= 12
        long = 1.0 + 0.62 * len(labels)
        size = (max(7.5, long + 3.2), 5.0) if upright else (9.6, max(3.2, 1.6 + 0.42 * len(labels)))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        capacities = sorted({row["capacity"] / GIB for row in rows.values() if row.get("capacity")})
        totals = [row["total"] / GIB for row in rows.values()]
        far = 1.12 * max([*totals, *capacities], default=1.0)
        if capacities:  # of what is many times too large, the number says enough
            far = min(far, MOST_CAPACITIES * capacities[-1])
        _bars(axes, rows, upright, far)
        if len(capacities) == 1:
            _capacity_line(axes, capacities[0], upright)
        else:
            _capacity_marks(axes, rows, upright)
        if upright:
            axes.set_ylim(0, far)
            axes.set_ylabel("GiB per GPU")
            axes.set_xlabel(across)
            axes.grid(axis="x", visible=False)
        else:
            axes.set_xlim(0, far)
            axes.set_xlabel("GiB per GPU")
            axes.set_ylabel(across)
            axes.grid(axis="y", visible=False)
            axes.invert_yaxis()
        _legend(figure, axes, upright)
        figure.suptitle(heading, fontsize=13, x=0.01, ha="left")
    return figure


def _bars(axes: Axes, rows: Mapping[str, MemoryRow], upright: bool, far: float) -> None:
    """Parts on top of each other, the total at the end of each bar or, where it ends beyond `far`, at that edge."""
    places = range(len(rows))
    base = [0.0] * len(rows)
    for part in PARTS:
        sizes = [row.get(part, 0.0) / GIB for row in rows.values()]
        if not any(sizes):
            continue
        look: dict[str, Any] = {"color": _FILLS[part], "edgecolor": "white", "linewidth": 0.8}
        look |= {"hatch": _HATCHES.get(part, ""), "label": part.replace("_", " ")}
        if upright:
            axes.bar(places, sizes, 0.72, bottom=base, **look)
        else:
            axes.barh(places, sizes, 0.72, left=base, **look)
        base = [below + size for below, size in zip(base, sizes, strict=True)]
    for place, total, row in zip(places, base, rows.values(), strict=True):
        short = bool(row.get("capacity")) and row["total"] > row["capacity"]
        text = f"{total:,.0f}" if total >= 10 else f"{total:.1f}"
        where: dict[str, Any] = {"ha": "center", "va": "bottom"} if upright else {"ha": "left", "va": "center"}
        end = _end_of(total, (row.get("capacity") or 0.0) / GIB, far)
        if total > far:
            text += " ↑" if upright else " →"
        at = (place, end) if upright else (end, place)
        axes.annotate(
            text, at, xytext=(0, 3) if upright else (4, 0), textcoords="offset points", fontsize=10, color=INK,
            fontweight="bold" if short else "normal", zorder=5,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}, **where,
        )  # fmt: skip
    (axes.set_xticks if upright else axes.set_yticks)(list(places), list(rows))


def _end_of(total: float, capacity: float, far: float) -> float:
    """Where the number of a bar stands: at its end, behind a capacity that is close, before the edge of the picture."""
    if total > far:
        return 0.92 * far
    return capacity if 0 <= capacity - total < 0.1 * far else total


def _legend(figure: Figure, axes: Axes, upright: bool) -> None:
    """Parts in the order in which they stand, the capacity first."""
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    words = [part.replace("_", " ") for part in PARTS]
    parts = [part for part in words if part in named]
    order = [*(name for name in named if name not in words), *(reversed(parts) if upright else parts)]
    figure.legend([named[name] for name in order], order, loc="outside right upper")


def _capacity_line(axes: Axes, capacity: float, upright: bool) -> None:
    words = f"capacity {capacity:.0f} GiB"
    if upright:
        axes.axhline(capacity, color=INK, lw=1.8, ls="--", label=words)
    else:
        axes.axvline(capacity, color=INK, lw=1.8, ls="--", label=words)


def _capacity_marks(axes: Axes, rows: Mapping[str, MemoryRow], upright: bool) -> None:
    """A mark across each bar, where the GPUs differ."""
    label: str | None = "capacity"
    for place, row in enumerate(rows.values()):
        if not row.get("capacity"):
            continue
        at, across = [row["capacity"] / GIB] * 2, [place - 0.46, place + 0.46]
        axes.plot(*((across, at) if upright else (at, across)), color=INK, lw=2.4, label=label, zorder=4)
        label = None


def _gib(value: float) -> str:
    return f"{value / GIB:.1f}"
