"""A recorded step beside the same step elsewhere, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from simgpu.render.table import grid, print_notes
from simgpu.units import format_seconds


def print_replay(document: Mapping[str, Any], top: int, out: IO[str]) -> None:
    """The step, its classes, its operators, and what kept its time."""
    heading = f"{document['file']}: {document['what']}, recorded on {document['recorded_on']}"
    rows = [
        (row["class"], f"{row['count']:,}", *_times(row), _share(row["kept_s"], row["measured_s"]))
        for row in document["classes"]
    ]
    rows += [
        (f"no kernel: {row['cause']}", "", *_times(row), "")
        for row in document["gaps"]
        if row["measured_s"] or row["predicted_s"]
    ]
    ends = document["measured_s"], document["predicted_s"]
    rows.append(("step", "", format_seconds(ends[0]), format_seconds(ends[1]), f"{document['ratio']:.3f}", ""))
    heads: tuple[str, ...] = ("class", "count", "recorded", f"on {document['asked_on']}", "ratio", "kept as it was")
    grid(heading, heads, rows, out, right=(1, 2, 3, 4, 5))
    cells = [(row["operator"], row["shape"], f"{row['count']:,}", *_times(row)) for row in document["operators"][:top]]
    more = len(document["operators"]) - top
    if more > 0:
        cells.append((f"{more} more", "", "", "", "", ""))
    grid("By operator and shape", ("operator", "shapes", "count", "recorded", "asked for", "ratio"), cells, out,
         right=(2, 3, 4, 5))  # fmt: skip
    print_notes([_step(document), _most(document), *document["notes"], *_kept(document["kept"])], out)


def print_scaled(document: Mapping[str, Any], top: int, out: IO[str]) -> None:
    """The step at another scale by part, how far kernels were from their prediction, and what was kept."""
    rows: list[tuple[str, ...]] = [
        (row["part"], format_seconds(row["recorded_s"]), format_seconds(row["asked_s"]),
         _signed(row["asked_s"] - row["recorded_s"]))
        for row in document["parts"]
        if max(abs(row["recorded_s"]), abs(row["asked_s"])) > SHOWN * document["measured_s"]
    ]  # fmt: skip
    ends = document["measured_s"], document["predicted_s"]
    rows.append(("step", *map(format_seconds, ends), _signed(ends[1] - ends[0])))
    grid(f"{document['file']}: {document['what']}", ("part", "recorded", "asked for", "difference"), rows, out,
         right=(1, 2, 3))  # fmt: skip
    cells = [(one["name"], one["of"], f"{one['factor']:.3f}") for one in document["factors"]]
    cells = sorted(cells, key=lambda one: -abs(float(one[2]) - 1))[: min(top, MOST_FACTORS)]
    if any(one[2] != "1.000" for one in cells):
        grid("Farthest from their prediction", ("name", "of", "recorded / predicted"), cells, out, right=(2,))
    print_notes([_step(document), _most(document), *document["notes"], *_kept(document["kept"])], out)


MOST_FACTORS = 8
"""Kernels and collectives that are shown with how far they were from their prediction."""


SHOWN = 1e-6
"""Share of a step below which a part of it is no row."""

ROUNDING = 1e-12
"""Seconds of a difference that are those of the digits of a sum."""


def _signed(seconds: float) -> str:
    return f"{'-' if seconds < 0 else '+'}{format_seconds(abs(seconds))}" if abs(seconds) > ROUNDING else ""


def _times(row: Mapping[str, Any]) -> tuple[str, str, str]:
    before, after = row["measured_s"], row["predicted_s"]
    ratio = f"{after / before:.3f}" if before else ""
    return format_seconds(before) if before else "", format_seconds(after) if after else "", ratio


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if part and whole else ""


def _step(document: Mapping[str, Any]) -> str:
    low, high = format_seconds(document["predicted_s_p10"]), format_seconds(document["predicted_s_p90"])
    return (
        f"step: {format_seconds(document['measured_s'])} recorded, {format_seconds(document['predicted_s'])} asked for,"
        f" 80 % interval {low} to {high} (of the ratio: what both predictions are off by alike cancels)"
    )


def _most(document: Mapping[str, Any]) -> str:
    return f"most: {'; '.join(document['words'])}" if document["words"] else "nothing changes"


def _kept(kept: list[Mapping[str, Any]]) -> list[str]:
    """What kept its time, the largest share first."""
    if not kept:
        return []
    texts = [f"{one['operator'][:60]} ({100 * one['share']:.1f} %: {one['why']})" for one in kept[:6]]
    more = f"; {len(kept) - 6} more" if len(kept) > 6 else ""
    share = 100 * sum(one["share"] for one in kept)
    return [f"{share:.1f} % of the time of kernels is kept as it was: {'; '.join(texts)}{more}"]
