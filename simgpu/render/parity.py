"""Predicted against measured: the diagonal, bands of 10 and 20 %, intervals, and how far off in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import axis, interval_of, is_share, title
from simgpu.render.series import Rows, line_look, members, numbers_of, series_name, series_of
from simgpu.render.style import FAINT, INK, style
from simgpu.render.text import heading, legend_below, name_points, short_number, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BANDS = (0.2, 0.1)
"""Relative errors at the edges of the bands, widest first."""
_SHADES = ("#EFEFEF", "#DCDCDC")


def diagonal(panel: Axes, ends: Sequence[float], factors: Sequence[float] = ()) -> None:
    """Draw the line where predicted and measured are equal, and dotted lines where they differ by `factors`.

    Lines go from end to end of `ends`; both axes get these ends.
    """
    panel.plot(ends, ends, color=INK, lw=1.4)
    for factor in factors:
        panel.plot(ends, [factor * end for end in ends], color=INK, lw=1.0, ls=":")
    panel.set_xlim(*ends)
    panel.set_ylim(*ends)


def errors_in_words(errors: Sequence[float], near: float = 0.1) -> str:
    """Median and mean of absolute errors (fractions) and how many are within `near`: 'median error 3.1 %, ...'."""
    off = [abs(error) for error in errors]
    within = sum(one <= near for one in off)
    middle, average = (f"{100 * pick(off):.1f} %" for pick in (median, mean))
    return f"median error {middle}, mean {average}, {within} of {len(off)} within {100 * near:.0f} %"


def parity_figure(
    rows: Rows, measured: str, predicted: str, series: str | None = None, label: str | None = None, words: str = ""
) -> Figure:
    """Column `predicted` over column `measured` of the rows that have both, with their 80 % intervals.

    label: column whose value names the rows; without it those outside the wider band are named by their series.
    """
    from matplotlib.figure import Figure

    shown = [row for row in numbers_of(rows, measured, predicted) if row[measured] and row[predicted]]
    _, scale = axis(predicted, [row[name] for row in shown for name in (measured, predicted)])
    unit = axis(predicted, [row[predicted] for row in shown])[0]
    points = [(row[measured] * scale, row[predicted] * scale) for row in shown]
    errors = [y / x - 1 for x, y in points]
    covered = [low <= row[measured] <= high for row in shown for low, high in [interval_of(predicted, row) or (1, 0)]]
    known = [interval_of(predicted, row) is not None for row in shown]
    with style():
        figure = Figure(figsize=(8.6, 8.0), layout="constrained")
        panel = figure.subplots()
        ends = _ends(shown, measured, predicted, scale)
        for band, shade in zip(BANDS, _SHADES, strict=True):
            below, above = ([(1 + sign * band) * end for end in ends] for sign in (-1, 1))
            panel.fill_between(ends, below, above, color=shade, lw=0, zorder=0, label=f"within {100 * band:.0f} %")
        diagonal(panel, ends)
        for s, name in enumerate(series_of(shown, series)):
            _points(panel, members(shown, series, name), measured, predicted, scale, s, series_name(series, name))
        _axes(panel, measured, predicted, unit, ends)
        legend_below(figure, *panel.get_legend_handles_labels())
        about = errors_in_words(errors)
        if any(known):
            about += f"; the 80 % interval (bars) covers {sum(covered)} of {sum(known)}"
        heading(figure, words, about)
        _named(panel, shown, points, errors, label or series)
    return figure


def _ends(rows: Rows, measured: str, predicted: str, scale: float) -> list[float]:
    values = [row[name] * scale for row in rows for name in (measured, predicted)]
    values += [end * scale for row in rows for end in interval_of(predicted, row) or ()]
    if is_share(predicted):
        return [0.0, max(100.0, 1.05 * max(values))]
    if max(values) > 4 * min(values):
        return [min(values) / 1.35, max(values) * 1.35]
    reach = max(values) - min(values) or max(values)
    return [min(values) - 0.15 * reach, max(values) + 0.15 * reach]


def _points(panel: Axes, rows: Rows, measured: str, predicted: str, scale: float, s: int, name: str | None) -> None:
    look: dict[str, Any] = line_look(s) | {"ls": "none"}
    for row in rows:
        ends = interval_of(predicted, row)
        if ends is not None:
            away = [[abs(row[predicted] - end) * scale] for end in ends]
            at = row[measured] * scale, row[predicted] * scale
            panel.errorbar(*at, away, fmt="none", ecolor=look["color"], capsize=2, lw=1.2, alpha=0.7, zorder=2)
    xs, ys = ([row[column] * scale for row in rows] for column in (measured, predicted))
    panel.plot(xs, ys, ms=9, mec="white", mew=0.8, zorder=3, label=name, **look)


def _axes(panel: Axes, measured: str, predicted: str, unit: str, ends: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if ends[0] > 0 and ends[1] > 4 * ends[0]:
        panel.set_xscale("log")
        panel.set_yscale("log")
        for line in (panel.xaxis, panel.yaxis):
            line.set_major_locator(LogLocator(subs=(1, 2, 5)))
            line.set_minor_formatter(NullFormatter())
        panel.minorticks_off()
    for line in (panel.xaxis, panel.yaxis):
        line.set_major_formatter(FuncFormatter(short_number))
    panel.set_aspect("equal")
    name = title(measured)
    name = name.removesuffix(", claimed") + ", published" if name.endswith(", claimed") else name
    end = f" ({unit.rpartition('(')[2]}" if "(" in unit else f" ({unit})" if "/s" in unit else ""
    panel.set_xlabel(f"{name[0].upper()}{name[1:]}{end}")
    panel.set_ylabel(f"{title(predicted)[0].upper()}{title(predicted)[1:]}, predicted{end}")
    panel.grid(color=FAINT, lw=0.6)


def _named(
    panel: Axes, rows: Rows, points: Sequence[tuple[float, float]], errors: Sequence[float], label: str | None
) -> None:
    """Name the rows farthest off first; of many only those outside the wider band."""
    if label is None:
        return
    order = sorted(range(len(rows)), key=lambda i: -abs(errors[i]))
    wanted = [i for i in order if len(rows) <= 12 or abs(errors[i]) > BANDS[0]]
    texts = [wrapped(f"{rows[i].get(label)} ({100 * errors[i]:+.0f} %)", 9, 190, 2) for i in wanted]
    bars = [
        (point[0], point[1] * (1 + step * part))
        for point, row in zip(points, rows, strict=True)
        for part, step in ((0.04, 1), (-0.04, 1), (0.08, 1), (-0.08, 1))
        if _has(row)
    ]
    low, high = panel.get_xlim()
    line = [(low * (high / low) ** (n / 80),) * 2 if low > 0 else (high * n / 80,) * 2 for n in range(1, 80)]
    name_points(panel, [points[i] for i in wanted], texts, [*points, *bars, *line], size=9, away=7)


def _has(row: Mapping[str, Any]) -> bool:
    return any(name.endswith("_p10") for name in row)
