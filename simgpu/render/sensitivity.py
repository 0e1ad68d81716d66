"""Output of a sensitivity: a table of inputs, the notes below it, its tornado.

Functions take documents of sensitivities, as `simgpu sensitivity --format json` prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from simgpu.render.columns import cell, cell_of, title
from simgpu.render.table import grid, print_notes
from simgpu.render.tornado import SEEN, Tornado, TornadoBar, sides_in_words
from simgpu.units import format_si

Document = Mapping[str, Any]
CLASSES = {
    "gemm": "matrix products",
    "attention": "attention",
    "vector": "memory-bound kernels",
    "moe": "experts",
    "scan": "scans over states",
    "collective": "collectives",
    "stack": "the stack around the kernels",
    "runs": "whole runs",
}
"""Classes of errors in words."""


def answer(document: Document) -> str:
    """The answer in words: 'step 5.966 s (5.6-6.82)'."""
    column = document["column"]
    row = {column: document["value"], f"{column}_p10": document["p10"], f"{column}_p90": document["p90"]}
    return f"{title(column)} {cell_of(column, row)}"


def named(document: Document) -> str:
    """The name of the row, after the model and the cluster where it does not say them itself."""
    row, gpus = document["scenario"], document["gpus"]
    if document["model"] == "operators":
        return str(row)
    words = [] if document["model"] in row else [document["model"]]
    known = document["cluster"] in row or "GPU" in row
    words += [] if known else [f"on {gpus:,} GPU{'s' if gpus > 1 else ''} of {document['cluster']}"]
    return ", ".join([" ".join(words), row] if words else [row])


def effect(row: Mapping[str, Any], better: int) -> str:
    """The effect on the answer of the side of an input that betters it: '10 % more: 1.3 % better'."""
    side, gain = row["better_side"], row["gain"]
    amount = f"{100 * abs(row[side] - 1):.3g} % {side}"
    if better and gain < SEEN:
        return f"{amount}: no gain"
    return f"{amount}: {percent(gain)} better" if better else f"{amount}: {percent(gain, signed=True)}"


def percent(share: float, signed: bool = False) -> str:
    """A relative change with a digit that can be trusted."""
    digits = 1 if abs(share) >= 9.5e-3 else 2
    rounded = round(100 * share, digits) + 0.0  # no negative zero
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f} %"


def swing(row: Mapping[str, Any]) -> float:
    """The larger relative change of the answer of both sides."""
    ends = [end for end in (row["value_less"], row["value_more"]) if end is not None]
    return max((abs(end / row["value"] - 1) for end in ends), default=0.0)


def print_sensitivity(document: Document, out: IO[str]) -> None:
    """Print a table of the inputs that move the answer, and notes."""
    less, more = sides_in_words(document["change"])
    seen = [row for row in document["rows"] if swing(row) >= SEEN]
    lines = [
        [
            row["title"],
            _value(row),
            _changed(row, "less"),
            _changed(row, "more"),
            _elasticity(row),
            effect(row, document["better"]),
        ]
        for row in seen
    ]
    heading = f"{named(document)}: {answer(document)}"
    columns = ["input", "is", less, more, "elasticity", "effect"]
    grid(heading, columns, lines, out, (1, 2, 3, 4))
    print_notes([*notes(document), ""], out)


def _value(row: Mapping[str, Any]) -> str:
    count = len(row["figures"].split())
    constants = row["figures"].startswith("gpu.kernel.")
    return f"{count} constant{'s' if count > 1 else ''}" if constants else format_si(row["input_value"], row["unit"])


def _elasticity(row: Mapping[str, Any]) -> str:
    if row["elasticity"] is None:
        return "NCCL switches"
    return f"{row['elasticity']:+.3f}" + ("" if row["smooth"] else " *")


def _changed(row: Mapping[str, Any], side: str) -> str:
    end = row[f"value_{side}"]
    return "not possible" if end is None else percent(end / row["value"] - 1, signed=True)


def notes(document: Document) -> list[str]:
    """Notes below the table: the sum, inputs without effect, non-linear ones, side effects, the error bars."""
    rows = document["rows"]
    lines = [_sum(document)] if document["sum_expected"] is not None else []
    bent = [row["title"] for row in rows if not row["smooth"] and row["elasticity"] is not None and swing(row) >= SEEN]
    if bent:
        lines.append(
            f"* {', '.join(bent)}: the effect differs between less and more "
            "(for example where a limit binds on one side only). Read both columns."
        )
    lines += [f"{row['title']}: {_remark(row['remark'])}" for row in rows if row["remark"]]
    still = [row["title"] for row in rows if swing(row) < SEEN]
    if still:
        lines.append(f"Below {100 * SEEN:g} %: {', '.join(still)}")
    if document["not_varied"]:
        lines.append(f"Not varied, because this job does not use them: {', '.join(document['not_varied'])}")
    if document["interval_shares"]:
        parts = ", ".join(
            f"{CLASSES.get(name, name)} {100 * share:.0f} %"
            for name, share in document["interval_shares"].items()
            if share >= 0.005
        )
        runs = "The interval is that of whole runs, wider than that of their kernels, whose squared width comes from"
        own = "What the interval comes from (shares of its squared width)"
        lines.append(f"{runs if document['interval_of'] == 'runs' else own}: {parts}")
    return lines


def _sum(document: Document) -> str:
    total, expected = document["sum_of_elasticities"], document["sum_expected"]
    host = document["host_share"]
    why = f" (the CPU delays the GPUs {percent(host)} of the time)" if host else ""
    return (
        f"Check: the listed inputs together explain {percent(total / expected)} of the result. The rest is "
        f"non-linear response and constants that were not varied{why}."
    )


def _remark(text: str) -> str:
    """A remark with columns in words."""
    for column in ("memory_fits", "weights_fit", "most_sequences", "longest_context", "smallest_gpus"):
        text = text.replace(f"{column} ", f"{title(column)} (less / as is / more) ")
    return text


def tornado_of(document: Document) -> Tornado:
    """The tornado of an answer.

    Inputs that change others too, and the price, to which cost is proportional, are not ranked.
    """
    bars = []
    for row in document["rows"]:
        ends = [row[f"value_{side}"] and row[f"value_{side}"] / row["value"] - 1 for side in ("less", "more")]
        price = "cost is proportional to it" if row["input"] == "price" else ""
        aside = "changes other inputs too" if row["compound"] else price
        bars.append(TornadoBar(row["title"], ends[0], ends[1], _value(row), aside))
    column = document["column"]
    return Tornado(
        document["scenario"], f"{title(column)}, {cell(column, document['value'])} as it is", title(column), bars
    )


def tornado_heading(panels: Sequence[Document], heading: str) -> str:
    """The title of a tornado figure: the given one, or the row and its answer."""
    if heading or len(panels) > 1:
        return heading
    return f"{named(panels[0])}: {answer(panels[0])}"
