"""Output on memory: a table of stages and parts, and bars with the capacity as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from simgpu.render.style import COLOURS, INK, style
from simgpu.render.text import heading as headline
from simgpu.render.text import legend_below, width_of, wrapped

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
SIDE = 240.0
"""Width of names beside lying bars, points."""
MOST_CAPACITIES = 2.2
"""Length up to which bars are drawn, in capacities of the largest GPU."""


def print_memory(rows: Mapping[str, MemoryRow], heading: str, out: IO[str], notes: Sequence[str] = ()) -> None:
    """Print a line for each stage or scenario, by its label; GiB of each part, of all, and what is left."""
    from simgpu.render.table import grid, print_notes

    capacity = any(row.get("capacity") for row in rows.values())
    other_memories = [name for name in ("host", "nvme") if any(row.get(name) for row in rows.values())]
    parts = [part for part in PARTS if any(part in row for row in rows.values())]
    columns = [
        "GiB",
        *(part.replace("_", " ") for part in parts),
        "total",
        *(("free",) if capacity else ()),
        *("NVMe" if name == "nvme" else name for name in other_memories),
    ]
    cells = []
    for label, row in rows.items():
        line = [label, *(_gib(row.get(part, 0.0)) for part in parts), _gib(row["total"])]
        if capacity:
            usable = row.get("budget") or row.get("capacity")
            line.append(_gib(usable - row["total"]) if usable else "")
        line += [_gib(row.get(name) or 0.0) for name in other_memories]
        cells.append(line)
    grid(heading, columns, cells, out, right=range(1, len(columns)))
    print_notes(notes, out)


def memory_figure(rows: Mapping[str, MemoryRow], heading: str, across: str = "") -> Figure:
    """Stacked bars of each part, a bar for each stage or scenario, with the capacity of the GPU as a line.

    across: the quantity by which the bars differ, for the axis.
    """
    from matplotlib.figure import Figure

    labels = list(rows)
    with style():
        upright = len(labels) <= 20 and max(map(len, labels), default=0) <= 12
        each = max([0.62, *((width_of(label, 12) + 12) / 72 for label in labels)])
        size = (max(9.0, 1.2 + each * len(labels)), 5.6) if upright else (10.5, max(3.6, 2.2 + 0.43 * len(labels)))
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
        _legend(figure, axes)
        headline(figure, heading, _finding(rows))
    return figure


def _bars(axes: Axes, rows: Mapping[str, MemoryRow], upright: bool, far: float) -> None:
    """Draw parts on top of each other, the total at the end of each bar, or at the edge where it ends beyond `far`."""
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
        limit = row.get("budget") or row.get("capacity")
        short = bool(limit) and row["total"] > limit
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
    names = list(rows) if upright else [wrapped(label, 12, SIDE, 2) for label in rows]
    (axes.set_xticks if upright else axes.set_yticks)(list(places), names)


def _end_of(total: float, capacity: float, far: float) -> float:
    """The place of a bar's number: at its end, behind a capacity that it would touch, before the picture's edge."""
    if total > far:
        return 0.92 * far
    return capacity if 0 <= capacity - total < 0.055 * far else total


def _finding(rows: Mapping[str, MemoryRow]) -> str:
    """A sentence on what does not fit, or is nearest to its limit, and on the largest part there."""
    known = {name: row for name, row in rows.items() if row.get("capacity")}
    if not known:
        return ""
    fullest = max(known, key=lambda name: known[name]["total"] / (known[name].get("budget") or known[name]["capacity"]))
    row = known[fullest]
    part = max(PARTS, key=lambda part: row.get(part, 0.0))
    most = f"{part.replace('_', ' ')} {100 * row.get(part, 0.0) / row['total']:.0f} % of it"
    limit = row.get("budget") or row["capacity"]
    over = [one["total"] > (one.get("budget") or one["capacity"]) for one in known.values()]
    kept = f"{limit / GIB:.0f} GiB" + (" that the runtime may use" if row.get("budget") else "")
    fullness = f"fullest: {fullest}, {row['total'] / GIB:,.0f} of {kept} ({most})"
    return (
        f"{sum(over)} of {len(over)} {'does' if sum(over) == 1 else 'do'} not fit; {fullness}"
        if any(over)
        else fullness
    )


def _legend(figure: Figure, axes: Axes) -> None:
    """Parts in the order in which they stand, the capacity first."""
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    words = [part.replace("_", " ") for part in PARTS]
    order = [*(name for name in named if name not in words), *(part for part in words if part in named)]
    legend_below(figure, [named[name] for name in order], order)


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
