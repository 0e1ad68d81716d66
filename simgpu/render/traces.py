"""Traces of others for the terminal: what ran, and how it compares with predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from simgpu.render.table import INTERVALS, grid, print_notes
from simgpu.units import format_seconds


def print_listed(document: Mapping[str, Any], top: int, out: IO[str]) -> None:
    """Operators and collectives by shape, those that took longest first."""
    rows = document["rows"]
    whole = sum(row["total_s"] or 0.0 for row in rows)
    cells = [
        (
            row["operator"], row["shape"], row["dtype"], f"{row['count']:,}", _time(row["total_s"]),
            _time(row["measured_s"]), f"{100 * row['total_s'] / whole:.1f} %" if whole and row["total_s"] else "",
        )
        for row in rows[:top]
    ]  # fmt: skip
    if len(rows) > top:
        rest = sum(row["total_s"] or 0.0 for row in rows[top:])
        share = f"{100 * rest / whole:.1f} %" if whole else ""
        count = sum(row["count"] for row in rows[top:])
        cells.append((f"{len(rows) - top} more", "", "", f"{count:,}", _time(rest), "", share))
    heads = ("operator", "shapes", "type", "count", "total", "each", "share")
    grid(_heading(document), heads, cells, out, right=(3, 4, 5, 6))
    print_notes(document["notes"], out)


def print_compared(
    document: Mapping[str, Any], missing: Mapping[str, tuple[int, float, str]], top: int, out: IO[str]
) -> None:
    """Measured and predicted times by class, then by operator and shape; what has no prediction, and why."""
    classes = [
        (row["class"], str(row["shapes"]), f"{row['count']:,}", _time(row["measured_s"]), *_predicted(row))
        for row in document["classes"]
    ]
    heads: tuple[str, ...] = ("class", "shapes", "count", "measured", "predicted", "predicted / measured")
    grid(f"{_heading(document)}, predicted on {document['gpu']}", heads, classes, out, right=(1, 2, 3, 4, 5))
    rows = [row for row in document["rows"] if row["predicted_s"] is not None]
    cells: list[tuple[str, ...]] = [
        (row["operator"], row["shape"], row["dtype"], f"{row['count']:,}", _time(row["measured_s"]), *_predicted(row),
         {True: "yes", False: "no", None: ""}[row["in_interval"]])
        for row in rows[:top]
    ]  # fmt: skip
    if len(rows) > top:
        cells.append((f"{len(rows) - top} more", "", "", "", "", "", "", ""))
    heads = ("operator", "shapes", "type", "count", "measured", "predicted", "predicted / measured", "inside")
    grid("By operator and shape, each run", heads, cells, out, right=(3, 4, 5, 6))
    print_notes([*_summary(document["summary"]), *document["notes"], *_missing(missing), INTERVALS], out)


def _heading(document: Mapping[str, Any]) -> str:
    devices = f" on {', '.join(document['devices'])}" if document["devices"] else ""
    return f"{document['file']}: {document['what']}{devices}"


def _predicted(row: Mapping[str, Any]) -> tuple[str, str]:
    """A predicted time with its interval, and its ratio to the measured one."""
    if row["predicted_s"] is None:
        return "", ""
    ends = f"({format_seconds(row['predicted_s_p10'])} - {format_seconds(row['predicted_s_p90'])})"
    return f"{format_seconds(row['predicted_s'])} {ends}", f"{row['ratio']:.2f}" if row["ratio"] else ""


def _summary(found: Mapping[str, Any]) -> Sequence[str]:
    if not found:
        return ["no operator has both a measured and a predicted time"]
    return [
        f"{100 * found['share']:.0f} % of the measured time has a prediction; in sum predicted / measured is "
        f"{found['ratio']:.2f}. Error by shape: median {100 * found['median_error']:.0f} %, mean "
        f"{100 * found['mean_error']:.0f} %; {found['inside']} of {found['shapes']} in the 80 % interval"
    ]


def _missing(missing: Mapping[str, tuple[int, float, str]]) -> Sequence[str]:
    """Operators without prediction, those that took longest first."""
    texts = [
        f"{name} ({count:,}, {_time(seconds) or 'no time'}: {why})" for name, (count, seconds, why) in missing.items()
    ]
    more = f"; {len(texts) - 8} more" if len(texts) > 8 else ""
    return [f"not predicted: {'; '.join(texts[:8])}{more}"] if texts else []


def _time(seconds: float | None) -> str:
    return format_seconds(seconds) if seconds else ""
