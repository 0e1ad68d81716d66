"""Parts of a step: a bar for each row, made of the columns that add up to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import axis, cell, interval_of, is_share, title
from simgpu.render.fields import STEP_PARTS
from simgpu.render.series import too_large
from simgpu.render.style import COLOURS, INK, readable_on, style
from simgpu.render.text import heading as headline
from simgpu.render.text import laid_out, legend_below, thousands, width_of, wrapped

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
    "exposed_offload_s": ("#D8C08A", ""),
    "bubble_s": ("#FFFFFF", "////"),
}
PART_NAMES = {
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
    "exposed_offload_s": "exposed copies to host, NVMe",
    "bubble_s": "bubble",
}
"""What the parts of a step are called."""
SMALL = 0.003
"""Parts below this share of the longest bar everywhere are left out of the legend: they cannot be seen."""


SIDE = 240.0
"""Width of names beside bars, points."""
WIDTH = 11.0
"""Width of the picture, inches."""


def stack_figure(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str], heading: str) -> Figure:
    """A horizontal bar for each label of `rows`, made of `columns` (default: the parts of a training step).

    Where the columns are all parts of a step, its 80 % interval stands at the end of the bar.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    wanted = list(columns) or [c for c in STEP_PARTS if any(c in row for row in rows.values())]
    sums = {label: sum(row.get(c) or 0.0 for c in wanted) for label, row in rows.items()}
    whole = {name: row for name, row in rows.items() if _is_step(row, sums[name])}
    ends = {name: found for name, row in whole.items() if (found := interval_of("step_s", row))}
    reach = max([*sums.values(), *(end for _, end in ends.values())], default=0.0) or 1.0
    label, scale = axis(wanted[0] if wanted else "step_s", list(sums.values()))
    longest = max(sums.values(), default=0.0) or 1.0
    names = [wrapped(name, 12, SIDE, 2) for name in rows]
    shares = bool(wanted) and is_share(wanted[0])
    texts = [_at_the_end(row, wanted, sums[name], name in whole) for name, row in rows.items()]
    with style():
        figure = Figure(figsize=(WIDTH, max(3.6, 2.1 + 0.5 * len(rows))), layout="constrained")
        panel = figure.add_subplot()
        for n, column in enumerate(wanted):
            values = [row.get(column) or 0.0 for row in rows.values()]
            if max(values, default=0.0) >= SMALL * longest:
                _part(panel, rows, wanted, column, n, scale)
        for at, (name, total) in enumerate(sums.items()):
            low, high = ends.get(name, (total, total))
            if name in ends:  # below the shares
                away = [[abs(total - low) * scale], [abs(high - total) * scale]]
                panel.errorbar(
                    total * scale, at + 0.27, xerr=away, fmt="none", color=INK, capsize=2.5, lw=1.2, zorder=4
                )
        panel.set_yticks(range(len(rows)), names)
        panel.invert_yaxis()
        panel.set_xlim(0, reach * scale * 1.2)
        panel.xaxis.set_major_formatter(FuncFormatter(thousands))
        whose = "Share of the time" if shares else "Time of the step"
        panel.set_xlabel(f"{whose} ({label.rpartition('(')[2]}" if "(" in label else label)
        panel.grid(axis="y", visible=False)
        handles, shown = panel.get_legend_handles_labels()
        legend_below(figure, handles, shown, 10)
        headline(figure, heading, _finding(rows, wanted, sums) + ("; whiskers: 80 % interval" if ends else ""))
        _write_sums(panel, texts, [max(total, ends.get(name, (0, 0))[1]) * scale for name, total in sums.items()])
        _write_shares(panel, rows, wanted, scale)
    return figure


def _write_sums(panel: Axes, texts: Sequence[str], places: Sequence[float]) -> None:
    """Write texts behind bars that end at `places`, with room for the widest of them."""
    laid_out(panel.figure)  # type: ignore[arg-type]
    room = panel.get_window_extent().width * 72 / panel.figure.dpi
    far = max(at / (1 - (width_of(text, 11) + 14) / room) for at, text in zip(places, texts, strict=True))
    panel.set_xlim(0, far)
    for row, (at, text) in enumerate(zip(places, texts, strict=True)):
        panel.annotate(
            text, (at, row), (6, 0), textcoords="offset points", va="center", fontsize=11, color=INK, zorder=5
        )


def _write_shares(panel: Axes, rows: Mapping[str, Mapping[str, Any]], wanted: Sequence[str], scale: float) -> None:
    """Write the share of each part in it, where it is wide enough."""
    from matplotlib.colors import to_rgb

    points = panel.get_window_extent().width * 72 / panel.figure.dpi / panel.get_xlim()[1]
    for at, row in enumerate(rows.values()):
        values = [(row.get(column) or 0.0) * scale for column in wanted]
        start = 0.0
        for n, (column, value) in enumerate(zip(wanted, values, strict=True)):
            text = f"{100 * value / (sum(values) or 1.0):.0f} %"
            colour, hatch = _LOOKS.get(column, (COLOURS[n % len(COLOURS)], ""))
            if width_of(text, 9) + 5 < value * points:
                box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"} if hatch else None
                ink = INK if hatch else readable_on(to_rgb(colour))
                place = start + value / 2
                panel.text(place, at, text, ha="center", va="center", fontsize=9, color=ink, bbox=box)
            start += value


def _is_step(row: Mapping[str, Any], total: float) -> bool:
    """True if the columns are all of the step."""
    return bool(abs(total - row.get("step_s", 0.0)) <= 5e-3 * total)


def _at_the_end(row: Mapping[str, Any], wanted: Sequence[str], total: float, whole: bool) -> str:
    """The text behind a bar: the sum, for a whole step the utilisation, and whether it does not fit."""
    text = cell(wanted[0] if wanted else "step_s", total)
    mfu = row.get("mfu")
    text += f", MFU {100 * mfu:.0f} %" if mfu is not None and whole else ""
    return text + (", does not fit" if too_large(row) else "")


def _finding(rows: Mapping[str, Mapping[str, Any]], wanted: Sequence[str], sums: Mapping[str, float]) -> str:
    """A sentence on the shortest of the bars that fit, and on its largest part."""
    fitting = [name for name in rows if not too_large(rows[name])] or list(rows)
    if not fitting or not wanted:
        return ""
    if is_share(wanted[0]):
        most, least = (of(fitting, key=lambda name: rows[name].get(wanted[0]) or 0.0) for of in (max, min))
        said = [f"{cell(wanted[0], rows[name].get(wanted[0]))} ({name})" for name in dict.fromkeys((least, most))]
        return f"{title(wanted[0])} {' to '.join(said)}"
    best = min(fitting, key=lambda name: sums[name])
    part = max(wanted, key=lambda column: rows[best].get(column) or 0.0)
    share = (rows[best].get(part) or 0.0) / (sums[best] or 1.0)
    which = "shortest" + (" that fits" if len(fitting) < len(rows) else "") if len(rows) > 1 else "step"
    return (
        f"{which}: {best}, {cell(part, sums[best])}, of which {PART_NAMES.get(part, title(part))} {100 * share:.0f} %"
    )


def _part(
    panel: Axes, rows: Mapping[str, Mapping[str, Any]], wanted: Sequence[str], column: str, n: int, scale: float
) -> None:
    """Draw one column on top of those before it."""
    colour, hatch = _LOOKS.get(column, (COLOURS[n % len(COLOURS)], ""))
    values = [(row.get(column) or 0.0) * scale for row in rows.values()]
    left = [sum(row.get(c) or 0.0 for c in wanted[: wanted.index(column)]) * scale for row in rows.values()]
    panel.barh(
        range(len(rows)), values, 0.7, left=left, color=colour, hatch=hatch,
        label=PART_NAMES.get(column, title(column)),
        edgecolor="#8A8A8A" if hatch else "white", linewidth=0.6,
    )  # fmt: skip
