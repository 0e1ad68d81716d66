"""Output of a comparison of two scenarios. Functions take the document of `simgpu diff --format json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from simgpu.render.columns import cell, cell_of, title
from simgpu.render.table import grid, print_notes
from simgpu.units import format_seconds, format_si

Document = Mapping[str, Any]
LONG = 44
"""Letters of a source that a table shows."""

_PARTS = {
    "rest_s": "rest",
    "given_s": "given times",
    "gemm_s": "matrix products",
    "memory_bound_s": "memory-bound kernels",
}


def verdict_text(document: Document) -> str:
    """The verdict in words: 'B is 1.23x faster (80 %: 1.10 to 1.35): beyond the error bars'."""
    verdict, column = document["verdict"], document["column"]
    ratio, low, high = verdict["ratio"], verdict["p10"], verdict["p90"]
    if abs(ratio - 1) < 1e-9 and (low is None or high - low < 1e-9):
        return f"No difference: {title(column)} {cell(column, document['value_a'])} in both"
    winner = "B" if ratio >= 1 else "A"
    if ratio < 1:
        ratio, low, high = 1 / ratio, high and 1 / high, low and 1 / low
    word = "faster" if column.endswith(("_s", "_per_s", "_per_s_per_gpu", "_per_s_per_user")) else "better"
    word = word if document["better"] else "larger"
    digits = 3 if low is None or high - low >= 0.02 else 5  # a narrow interval is one all the same
    text = f"{winner} is {ratio:.{digits}g}x {word}"
    if low is None:
        return f"{text}; {title(column)} has no error bars"
    chance = verdict["chance"] if winner == "B" else 1 - verdict["chance"]
    sure = "more than 99.9" if chance > 0.999 else f"{100 * chance:.3g}"
    text += f" (80 %: {low:.{digits}g} to {high:.{digits}g}; {winner} {word} with {sure} % probability)"
    if verdict["sure"]:
        return f"{text}: beyond the error bars"
    small = ratio - 1 <= document["repeatable"]
    why = f", a difference below run-to-run noise ({100 * document['repeatable']:g} %)" if small else ""
    return f"No clear winner: {text}{why}"


def print_difference(document: Document, everything: bool, out: IO[str]) -> None:
    """Print the tables of inputs, parts of the time and what explains the difference; then the verdict."""
    _print_inputs(document, everything, out)
    _print_parts(document, out)
    _print_explained(document, out)
    bars = document["verdict"]["p10"] is not None and document["verdict"]["p90"] > document["verdict"]["p10"]
    shared = "errors common to both cancel" if document["verdict"]["shared"] else "errors taken as independent"
    ends = [f"{name.upper()[-1]} {_answer(document, name)}" for name in ("value_a", "value_b")]
    print_notes([f"{title(document['column'])}: {ends[0]}, {ends[1]}", *document["notes"]], out)
    print_notes([verdict_text(document) + (f"; {shared}" if bars else "")], out)


def _answer(document: Document, name: str) -> str:
    column = document["column"]
    return cell_of(
        column, {column: document[name], **{f"{column}_{end}": document[f"{name}_{end}"] for end in ("p10", "p90")}}
    )


def _print_inputs(document: Document, everything: bool, out: IO[str]) -> None:
    rows = [row for row in document["inputs"] if row["asked"] or everything]
    hidden = len(document["inputs"]) - len(rows)
    heading = f"A is {document['a']}; B is {document['b']}"
    if not rows:
        print_notes(
            [
                heading,
                "The two scenarios ask for the same." if not hidden else f"{hidden} figures differ (--all shows them)",
            ],
            out,
        )
        return
    lines = [[row["title"], _value(row, "a"), _value(row, "b"), _sources(row)] for row in rows]
    grid(heading, ["input", "A", "B", "source"], lines, out)
    if hidden:
        print_notes(
            [f"... and {hidden} more that follow from these, or details of the hardware (--all shows them)", ""], out
        )


def _value(row: Mapping[str, Any], side: str) -> str:
    value = row[side]
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return format_si(value, row["unit"]) if row["unit"] else f"{value:,.10g}"
    text = str(value)
    return text if len(text) <= LONG else text[: LONG - 3] + "..."


def _sources(row: Mapping[str, Any]) -> str:
    one, other = (_short(str(row[key] or "")) for key in ("source_a", "source_b"))
    return one if one == other else "; ".join(f"{name}: {text}" for name, text in (("A", one), ("B", other)) if text)


def _short(source: str) -> str:
    """A source in few letters: of a file its name and line."""
    text = source.rpartition("/")[2] if ".yaml:" in source else source
    return text if len(text) <= LONG else text[: LONG - 3] + "..."


def _print_parts(document: Document, out: IO[str]) -> None:
    lines = [
        [
            _PARTS.get(row["part"], title(row["part"])),
            format_seconds(row["a_s"]),
            format_seconds(row["b_s"]),
            _signed(row["difference_s"]),
            _share(row["share_of_difference"]),
        ]
        for row in document["parts"]
    ]
    heading = f"Parts of {title(document['time'])}"
    grid(heading, ["part", "A", "B", "B - A", "of the difference"], lines, out, (1, 2, 3, 4))


def _print_explained(document: Document, out: IO[str]) -> None:
    rows = document["explained"]
    if not rows:
        return
    whole = document["value_b"] - document["value_a"]
    shown = [row for row in rows if abs(row["explains"]) >= 5e-4 * abs(document["value_a"])]
    lines = [
        [row["what"], _moved(document, row["explains"]), _share(row["share"]), _moved(document, row["alone"])]
        for row in shown
    ]
    heading = f"What explains {title(document['column'])} {_moved(document, whole)}"
    if lines:
        grid(heading, ["difference", "explains", "share", "alone"], lines, out, (1, 2, 3))
    orders = "all orders" if document["explained_over_all_orders"] else "one order and its reverse"
    left = whole - sum(row["alone"] for row in rows)
    notes = [
        f"explains: average effect over {orders} of making the changes (Shapley); alone: effect if only this is changed"
    ]
    if len(rows) > 1:
        notes.append(f"The effects alone do not add up: {_moved(document, left)} comes from changes acting together.")
    still = [row["what"] for row in rows if row not in shown]
    notes += [f"Below 0.05 %: {', '.join(still)}"] if still else []
    print_notes([*notes, ""], out)


def _moved(document: Document, difference: float) -> str:
    column = document["column"]
    text = cell(column, abs(difference))
    return f"{'-' if difference < 0 else '+'}{text}"


def _signed(seconds: float) -> str:
    return f"{'-' if seconds < 0 else '+'}{format_seconds(abs(seconds))}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{round(100 * share)} %"
