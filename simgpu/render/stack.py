"""Where a step goes: a bar for each row, made of the columns that add up to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import axis, cell, title
from simgpu.render.fields import STEP_PARTS
from simgpu.render.style import COLOURS, INK, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOKS: dict[str, tuple[str, str]] = {
    # work in blues and greens, communication in warm colours, nothing done in white
    "gemm_s": (COLOURS[0], ""),
    "attention_s": (COLOURS[4], ""),
    "experts_s": ("#003F66", ""),
    "memory_bound_s": (COLOURS[2], ""),
    "optimizer_s": ("#7FCDB5", ""),
    "host_s": ("#9A9A9A", ""),
    "exposed_tp_s": (COLOURS[1], ""),
    "exposed_cp_s": (COLOURS[3], ""),
    "exposed_ep_s": ("#7A2E00", ""),
    "exposed_pp_s": (COLOURS[5], ""),
    "exposed_data_s": ("#F0B48F", ""),
    "bubble_s": ("#FFFFFF", "////"),
}
_NAMES = {
    "gemm_s": "matrix multiplications",
    "attention_s": "attention",
    "experts_s": "experts",
    "memory_bound_s": "memory-bound kernels",
    "optimizer_s": "optimizer",
    "host_s": "host",
    "exposed_tp_s": "exposed tensor parallel",
    "exposed_cp_s": "exposed context parallel",
    "exposed_ep_s": "exposed expert parallel",
    "exposed_pp_s": "exposed pipeline sends",
    "exposed_data_s": "exposed gradients, weights",
    "bubble_s": "bubble",
}
SMALL = 0.003
"""Parts below this share of the longest bar everywhere are left out of the legend: they cannot be seen."""


def stack_figure(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str], heading: str) -> Figure:
    """A horizontal bar for each label of `rows`, made of `columns` (default: the parts of a training step)."""
    from matplotlib.figure import Figure

    wanted = list(columns) or [c for c in STEP_PARTS if any(c in row for row in rows.values())]
    sums = {label: sum(row.get(c) or 0.0 for c in wanted) for label, row in rows.items()}
    label, scale = axis(wanted[0] if wanted else "step_s", list(sums.values()))
    longest = max(sums.values(), default=0.0) or 1.0
    with style():
        figure = Figure(figsize=(11.0, max(3.4, 1.9 + 0.5 * len(rows))), layout="constrained")
        panel = figure.add_subplot()
        for n, column in enumerate(wanted):
            values = [row.get(column) or 0.0 for row in rows.values()]
            if max(values, default=0.0) >= SMALL * longest:
                _part(panel, rows, wanted, column, n, scale, longest)
        for at, (name, total) in enumerate(sums.items()):
            text = cell(wanted[0] if wanted else "step_s", total)
            mfu = rows[name].get("mfu")
            text += f", MFU {100 * mfu:.0f} %" if mfu is not None and not columns else ""
            panel.annotate(
                text, (total * scale, at), (5, 0), textcoords="offset points", va="center", fontsize=11, color=INK
            )
        panel.set_yticks(range(len(rows)), list(rows))
        panel.invert_yaxis()
        panel.set_xlim(0, longest * scale * 1.2)
        panel.set_xlabel(f"Time of the step ({label.rpartition('(')[2]}" if "(" in label else label)
        panel.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=4, fontsize=10)
        figure.suptitle(heading, fontsize=13, x=0.01, ha="left")
    return figure


def _part(
    panel: Axes, rows: Mapping[str, Mapping[str, Any]], wanted: Sequence[str], column: str, n: int, scale: float,
    longest: float,
) -> None:  # fmt: skip
    """One column on top of those before it; its share stands in it where there is room."""
    colour, hatch = _LOOKS.get(column, (COLOURS[n % len(COLOURS)], ""))
    values = [(row.get(column) or 0.0) * scale for row in rows.values()]
    left = [sum(row.get(c) or 0.0 for c in wanted[: wanted.index(column)]) * scale for row in rows.values()]
    panel.barh(
        range(len(rows)), values, 0.7, left=left, color=colour, hatch=hatch, label=_NAMES.get(column, title(column)),
        edgecolor="#8A8A8A" if hatch else "white", linewidth=0.6,
    )  # fmt: skip
    for at, (value, start, row) in enumerate(zip(values, left, rows.values(), strict=True)):
        whole = sum(row.get(c) or 0.0 for c in wanted) * scale
        if value > 0.055 * longest * scale:
            ink = "white" if colour in (COLOURS[0], COLOURS[1], COLOURS[2], "#003F66", "#7A2E00") else INK
            box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"} if hatch else None
            panel.text(
                start + value / 2, at, f"{100 * value / whole:.0f} %", ha="center", va="center", fontsize=9, color=ink,
                bbox=box,
            )  # fmt: skip
