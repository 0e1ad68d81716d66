"""Pictures of cost: bars of what an hour, a token or a run is made of, and curves of owning over utilisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.columns import COST_PARTS, cost_column
from simgpu.render.columns import cell, title
from simgpu.render.style import COLOURS, INK, readable_on, style
from simgpu.render.text import heading, legend_below, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

_LOOKS = {
    "chips": COLOURS[0], "server": COLOURS[4], "network": "#003F66", "storage": "#7FCDB5", "hosting": COLOURS[2],
    "staff": COLOURS[3], "software": "#D8C08A", "spares": COLOURS[5], "rent": "#9A9A9A", "energy": COLOURS[1],
}  # fmt: skip
_NAMES = {"chips": "GPUs", "server": "rest of the servers", "hosting": "hosting", "energy": "energy", "rent": "rent"}


def parts_of(row: Mapping[str, Any], column: str) -> dict[str, float]:
    """USD of each part of a cost: the parts of the GPU-hour in the proportion that the cost has to it."""
    hour = row.get("usd_per_gpu_hour")
    if not hour or row.get(column) is None:
        return {}
    scale = row[column] / hour
    found = {part: row.get(f"{part}_usd_per_gpu_hour") for part in COST_PARTS}
    return {part: usd * scale for part, usd in found.items() if usd} or {"rent": row[column]}  # at the listed price


def cost_of(rows: Rows, column: str | None) -> str:
    """The cost that a picture of rows is about."""
    return column or next((name for row in rows if (name := cost_column(row))), "usd_per_gpu_hour")


def cost_figure(rows: Mapping[str, Mapping[str, Any]], column: str | None, words: str) -> Figure:
    """A bar for each row, made of the parts of its cost; a row that does not fit the memory has none and says so."""
    from matplotlib.figure import Figure

    name = cost_of(list(rows.values()), column)
    bars = {label: parts_of(row, name) for label, row in rows.items()}
    sums = {label: sum(parts.values()) for label, parts in bars.items()}
    longest = max(sums.values(), default=0.0) or 1.0
    with style():
        figure = Figure(figsize=(11.0, max(3.6, 2.0 + 0.5 * len(rows))), layout="constrained")
        panel = figure.add_subplot()
        for part in COST_PARTS:
            if any(part in parts for parts in bars.values()):
                _part(panel, bars, part, longest)
        for at, total in enumerate(sums.values()):
            text = f" {cell(name, total)}" if total else " no cost: it does not fit the memory"
            panel.text(total, at, text, va="center", fontsize=11, color=INK)
        panel.set_yticks(range(len(rows)), [wrapped(label, 12, 260.0, 2) for label in rows])
        panel.invert_yaxis()
        panel.set_xlim(0, longest * 1.16)
        panel.set_xlabel(title(name))
        panel.grid(axis="y", visible=False)
        legend_below(figure, *panel.get_legend_handles_labels(), 10)
        known = {label: total for label, total in sums.items() if total}
        heading(figure, words, _cheapest(known, bars, name))
    return figure


def _part(panel: Axes, bars: Mapping[str, Mapping[str, float]], part: str, longest: float) -> None:
    """Draw one part of all bars behind those before it, with its share where there is room."""
    from matplotlib.colors import to_rgb

    before = COST_PARTS[: COST_PARTS.index(part)]
    values = [parts.get(part, 0.0) for parts in bars.values()]
    left = [sum(parts.get(one, 0.0) for one in before) for parts in bars.values()]
    look: dict[str, Any] = {"color": _LOOKS[part], "edgecolor": "white", "linewidth": 0.6}
    panel.barh(range(len(bars)), values, 0.7, left=left, label=_NAMES.get(part, part), **look)
    for at, (parts, value, start) in enumerate(zip(bars.values(), values, left, strict=True)):
        if longest * 0.055 < value < sum(parts.values()):
            share = f"{100 * value / sum(parts.values()):.0f} %"
            ink = readable_on(to_rgb(_LOOKS[part]))
            panel.text(start + value / 2, at, share, ha="center", va="center", fontsize=9, color=ink)


def _cheapest(sums: Mapping[str, float], bars: Mapping[str, Mapping[str, float]], name: str) -> str:
    """A sentence on the cheapest bar and its largest part."""
    if not sums:
        return "nothing fits the memory"
    best = min(sums, key=lambda label: sums[label])
    part = max(bars[best], key=lambda one: bars[best][one])
    share = bars[best][part] / sums[best]
    return f"cheapest: {best}, {cell(name, sums[best])} {title(name)}, of which {_NAMES.get(part, part)} {share:.0%}"


def at_utilisation(row: Mapping[str, Any], column: str, used: float) -> float:
    """What a row costs if its owned machine is used for another share of its hours."""
    fixed, energy, idle = (row[f"{what}_usd_per_h"] / row["gpus"] for what in ("fixed", "energy", "idle"))
    hour = fixed / used + energy + idle * (1.0 - used) / used
    return float(row[column] / row["usd_per_gpu_hour"] * hour)


def breakeven_figure(rows: Mapping[str, Mapping[str, Any]], column: str | None, words: str) -> Figure:
    """Cost over utilisation: a curve for each owned machine, a level line for each rented one, a dot where they meet.

    An owned machine has beside it the rent that it is compared with.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    name = cost_of(list(rows.values()), column)
    known = {label: row for label, row in rows.items() if row.get(name) is not None}
    places = [0.05 + 0.95 * n / 190 for n in range(191)]
    tops, found = [], []
    compared = [
        row[name] / row["usd_per_gpu_hour"] * row["rent_compared_usd_per_gpu_hour"]
        for row in known.values()
        if row.get("rent_compared_usd_per_gpu_hour") is not None
    ]
    with style():
        figure = Figure(figsize=(10.5, 6.0), layout="constrained")
        panel = figure.add_subplot()
        for n, (label, row) in enumerate(known.items()):
            colour = COLOURS[n % len(COLOURS)]
            if not row.get("energy_usd_per_h"):
                if any(abs(row[name] / level - 1) < 1e-6 for level in compared):
                    continue  # it stands there already, beside the machine that is owned
                panel.axhline(row[name], color=colour, ls=":", lw=2.0, label=label)
                tops.append(row[name])
                continue
            panel.plot(places, [at_utilisation(row, name, used) for used in places], color=colour, label=label)
            tops.append(at_utilisation(row, name, 0.25))
            rent, even = row.get("rent_compared_usd_per_gpu_hour"), row.get("break_even_utilisation")
            if rent is not None:
                level = row[name] / row["usd_per_gpu_hour"] * rent
                panel.axhline(level, color=colour, ls="--", lw=1.3, label=f"the same, rented ({row['rent_compared']})")
                tops.append(level)
                if even is not None and even <= 1:
                    panel.plot([even], [level], "o", color=colour, ms=9, zorder=5)
                    panel.annotate(
                        f"{even:.0%}", (even, level), (7, 7), textcoords="offset points", fontsize=11, color=INK
                    )
                found.append(f"{label} {'above ' + format(even, '.0%') if even is not None and even <= 1 else 'never'}")
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.15 * max(tops, default=1.0))
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("Utilisation: share of its hours that a machine is used")
        panel.set_ylabel(title(name))
        legend_below(figure, *panel.get_legend_handles_labels(), 10)
        heading(figure, words, f"owning pays: {'; '.join(found)}" if found else "")
    return figure


def ranked_figure(rows: Rows, objective: str, against: str, words: str) -> Figure:
    """A ranked table as a picture: bars of the objective with their 80 % interval, and why each machine loses."""
    from matplotlib.figure import Figure

    from simgpu.render.columns import interval_of

    with style():
        figure = Figure(figsize=(12.5, max(3.2, 1.9 + 0.62 * len(rows))), layout="constrained")
        panel, beside = figure.subplots(1, 2, width_ratios=(5, 4))
        longest = max((row.get(objective) or 0.0 for row in rows), default=0.0) or 1.0
        for at, row in enumerate(rows):
            value = row.get(objective)
            keeps = row["why"] == "first" or row.get("sure") is not None
            colour = COLOURS[2] if at == 0 and row["why"] == "first" else COLOURS[0] if keeps else "#BBBBBB"
            if value is None:
                panel.text(0.01 * longest, at, "no figure", va="center", fontsize=11, color=INK)
            else:
                panel.barh(at, value, 0.6, color=colour)
                ends = interval_of(objective, row) or (value, value)
                away = [[max(value - ends[0], 0.0)], [max(ends[1] - value, 0.0)]]
                panel.errorbar(value, at, xerr=away, fmt="none", color=INK, capsize=3, lw=1.2)
            said = [cell(objective, value)] if value is not None else []
            said += [f"{title(against)} {cell(against, row[against])}"] if row.get(against) is not None else []
            said += ["on the front"] if row.get("front") else []
            sure = f", first is better with {row['sure']:.0%}" if row.get("sure") is not None else ""
            lines = f"{', '.join(said)}\n{wrapped(row['why'] + sure, 10, 400.0, 2)}"
            beside.text(0.0, at, lines, va="center", fontsize=10, color=INK)
        names = [f"{row['rank']}  {wrapped(str(row['machine']), 12, 200.0, 2)}" for row in rows]
        panel.set_yticks(range(len(rows)), names)
        panel.set_xlabel(title(objective))
        panel.grid(axis="y", visible=False)
        for one in (panel, beside):
            one.set_ylim(len(rows) - 0.5, -0.5)
        beside.set_xlim(0, 1)
        beside.axis("off")
        heading(figure, words, "green: the first; grey: breaks a limit; whiskers: 80 % interval")
    return figure
