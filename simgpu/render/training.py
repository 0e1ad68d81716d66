"""Output on predicted training steps: every row beside its measurement, sources, the worst, and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from simgpu.render.parity import diagonal, errors_in_words
from simgpu.render.style import COLOURS, INK, MARKERS, style
from simgpu.render.text import heading, legend_below
from simgpu.render.validation import _print, percent
from simgpu.units import format_seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

StepRow = Mapping[str, Any]
RATIOS = (0.4, 1.8)
"""Range of predicted over measured times that is drawn; others stand at the edge, and the title counts them."""


def quantity(value: float, row: StepRow) -> str:
    """A value in words: seconds, gigabytes, or percent of an activation memory."""
    if row["op"] != "memory":
        return format_seconds(value)
    return f"{100 * value:.0f} %" if row["part"] == "relative" else f"{value / 1e9:.2f} GB"


def print_rows(rows: Sequence[StepRow], out: IO[str]) -> None:
    """Print every row: predicted and measured side by side."""
    cells = [
        [
            f"{row['source']}:{row['line']}",
            row["model"],
            row["gpu"],
            str(row["gpus"]),
            f"{row['plan']} {row['framework']}",
            quantity(row["measured"], row),
            quantity(row["predicted"], row),
            percent(row["error"], signed=True),
            f"{quantity(row['low'], row)} - {quantity(row['high'], row)}",
            str(row["rows"]) if row["rows"] > 1 else "",
        ]
        for row in rows
    ]
    columns = ["row", "model", "gpu", "GPUs", "plan", "measured", "predicted", "error %", "80 % interval", "times"]
    _print("Predicted and measured, row by row", columns, cells, 3, out)


def print_origins(origins: Sequence[Mapping[str, Any]], out: IO[str]) -> None:
    """Print errors by paper or page."""
    cells = [
        [entry["origin"], entry["gpu"], entry["op"], str(entry["rows"])]
        + [percent(entry[name], signed=name == "bias") for name in ("median_ape", "mape", "p90_ape", "max_ape")]
        + [percent(entry["bias"], signed=True), percent(entry["coverage80"])]
        for entry in origins
    ]
    names = ["origin", "gpu", "what", "rows", "median %", "mean %", "P90 %", "largest %", "bias %", "cover %"]
    _print("Whole steps by origin", names, cells, 3, out)


def print_farthest(rows: Sequence[StepRow], out: IO[str]) -> None:
    """Print the rows that are off most, and why."""
    cells = [
        [
            f"{row['source']}:{row['line']}",
            f"{row['model']} on {row['gpus']} {row['gpu']}",
            row["plan"],
            percent(row["error"], signed=True),
            row["why"] or row["caveat"] or "not explained yet",
        ]
        for row in rows
    ]
    _print("Farthest off", ["row", "what", "plan", "error %", "reason"], cells, 3, out)


def parity(rows: Sequence[StepRow], what: str = "Training steps", kind: str = "step") -> Figure:
    """Predicted against measured times, and their ratio, by origin; `what` names the times, `kind` one of them."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    shown = [dict(row) for row in rows if row["op"] != "memory"]
    for row in shown:
        if row["op"] != "step_time":
            row["origin"] = f"{row['origin']}, {row['op']}"
    origins = list(dict.fromkeys(row["origin"] for row in shown))
    with style():
        figure = Figure(figsize=(9.2, 8.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
        every = [value for row in shown for value in (row["measured"], row["predicted"])]
        ends = [min(every) / 1.5, max(every) * 1.5]
        diagonal(upper, ends)
        lower.axhline(1.0, color=INK, lw=1.4)
        faint = 0.5 if len(shown) <= 400 else 0.1  # thousands of bars would be a wall
        for edge in (0.9, 1.1):
            lower.axhline(edge, color=INK, lw=1.0, ls=":")
        for i, origin in enumerate(origins):
            members = [row for row in shown if row["origin"] == origin]
            x = [row["measured"] for row in members]
            look: dict[str, Any] = {
                "ls": "none", "ms": 6, "mew": 0, "alpha": 0.8,
                "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)], "color": COLOURS[i % len(COLOURS)],
            }  # fmt: skip
            upper.plot(x, [row["predicted"] for row in members], label=f"{origin} ({len(members)})", **look)
            ratio = [row["predicted"] / row["measured"] for row in members]
            ends_of = [
                [(row["predicted"] - row["low"]) / row["measured"] for row in members],
                [(row["high"] - row["predicted"]) / row["measured"] for row in members],
            ]
            lower.errorbar(x, ratio, yerr=ends_of, fmt="none", ecolor=look["color"], elinewidth=0.8, alpha=faint)
            lower.plot(x, [min(max(one, RATIOS[0]), RATIOS[1]) for one in ratio], **look)
        upper.set_xscale("log")
        upper.set_yscale("log")
        for axis in (upper.xaxis, upper.yaxis, lower.xaxis):
            axis.set_major_formatter(FuncFormatter(lambda seconds, _: format_seconds(seconds)))
            axis.set_minor_formatter(NullFormatter())
        lower.set_ylim(RATIOS[0] - 0.05, RATIOS[1] + 0.05)
        upper.set_ylabel(f"predicted {kind}")
        lower.set_ylabel("predicted / measured")
        lower.set_xlabel(f"measured {kind}")
        handles, names = upper.get_legend_handles_labels()
        legend_below(figure, handles, names, 9)
        title = f"{what}: {errors_in_words([row['error'] for row in shown])}"
        beyond = sum(not RATIOS[0] <= row["predicted"] / row["measured"] <= RATIOS[1] for row in shown)
        at_edge = f"; {beyond} of {len(shown)} rows lie beyond and are drawn at the edge" if beyond else ""
        heading(figure, title, f"bars: predicted 80 % interval; dotted: 10 % off{at_edge}")
    return figure
