"""What people read of checked claims: a terminal's tables, Markdown, HTML, JSON; and the files of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import IO, Any

from simgpu.claims.check import Claims
from simgpu.claims.finding import COLOURS, PLAUSIBLE, REPRODUCED, Checked, Finding, Survival
from simgpu.render.data import print_csv, print_json
from simgpu.render.files import save, written_whole
from simgpu.render.table import grid, print_names, print_notes
from simgpu.version import __version__

FINE = (REPRODUCED, PLAUSIBLE)
CELLS = ("entry", "row", "of", "quantity", "claimed", "verdict", "computed", "simulated", "measured", "reason")
"""Columns of a table of cells."""
CONCLUSIONS = ("entry", "row", "conclusion", "as printed", "corrected", "holds", "simulated", "holds, simulated")
ENTRIES = ("entry", "kind", "verdict", "cells")
RULES = ("entry", "rule", "scenarios", "holds on", "counter-examples")


def document(claims: Claims) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "simgpu": __version__,
        "entries": [
            {
                "entry": one.entry, "kind": one.kind, "title": one.title, "source": one.source, "comment": one.comment,
                "verdict": one.verdict, "counts": one.counts,
                "cells": [finding.row_of_table for finding in one.findings],
                "conclusions": [survival.row_of_table for survival in one.survivals],
                "rules": [{**vars(rule), "counter_examples": list(rule.counter_examples)} for rule in one.rules],
            }
            for one in claims.entries
        ],
    }  # fmt: skip


def show(claims: Claims, style: str, every: bool, out: IO[str]) -> None:
    """Print claims as a table, as JSON, CSV or Markdown."""
    if style == "json":
        print_json(document(claims), out)
    elif style == "csv":
        print_csv(claims.rows, out)
    elif style == "markdown":
        out.write(markdown(claims))
    else:
        _terminal(claims, every, out)


def _terminal(claims: Claims, every: bool, out: IO[str]) -> None:
    if len(claims.entries) > 1:
        grid(headline(claims), ENTRIES, [_entry_row(one) for one in claims.entries], out)
    findings = [one for entry in claims.entries for one in entry.findings]
    shown = findings if every or len(claims.entries) == 1 else [one for one in findings if one.verdict not in FINE]
    title = (
        "Every cell"
        if len(shown) == len(findings)
        else "Cells that are not reproduced or plausible (--all shows the others)"
    )
    if shown and len(claims.entries) > 1:
        grid(title, CELLS[:-1], [_cell_row(one)[:-1] for one in shown], out)
        out.write("Why\n\n")
        print_names([(f"{one.entry}, {one.column} {one.claimed.text}", one.reason) for one in shown], out, "  ")
        out.write("\n")
    elif shown:
        grid(title, CELLS, [_cell_row(one) for one in shown], out)
    survivals = [row for entry in claims.entries for row in conclusion_rows(entry)]
    if survivals:
        grid("Does the conclusion survive? Ratios are first over second", CONCLUSIONS, survivals, out)
    rules = [row for entry in claims.entries for row in rule_rows(entry)]
    if rules:
        grid("Decision rules over their grids", RULES, rules, out)
    comments = [f"{entry.entry}: {entry.comment}" for entry in claims.entries if entry.comment]
    print_notes(comments, out)


def headline(claims: Claims) -> str:
    """How many entries have each verdict, in one line."""
    counts = ", ".join(f"{number} {verdict}" for verdict, number in claims.counts.items())
    cells = sum(len(one.findings) for one in claims.entries)
    return f"{len(claims.entries)} claims with {cells} cells, by their worst: {counts}"


def _entry_row(one: Checked) -> tuple[str, ...]:
    return one.entry, one.kind, one.verdict, ", ".join(f"{number} {verdict}" for verdict, number in one.counts.items())


def _cell_row(one: Finding) -> tuple[str, ...]:
    return (
        one.entry, one.row, one.subject, one.column, one.claimed.text, one.verdict,
        one.shown(one.computed or one.bound), one.shown(one.simulated), one.shown(one.measured), one.reason,
    )  # fmt: skip


def _conclusion_row(one: Survival) -> tuple[str, ...]:
    return (
        one.entry, one.row, one.claim, one.printed, one.corrected, _percent(one.corrected_probability), one.simulated,
        _percent(one.simulated_probability),
    )  # fmt: skip


def conclusion_rows(entry: Checked) -> list[tuple[str, ...]]:
    """Rows of the table of conclusions of an entry."""
    return [_conclusion_row(one) for one in entry.survivals]


def rule_rows(entry: Checked) -> list[tuple[str, ...]]:
    """Rows of the table of decision rules of an entry."""
    return [
        (one.entry, one.rule, str(one.scenarios), _percent(one.held), "; ".join(one.counter_examples))
        for one in entry.rules
    ]


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return "> 99 %" if 0.995 < share < 1 else "< 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


# ---- pages -------------------------------------------------------------------------------------------


def markdown(claims: Claims) -> str:
    """A page in Markdown: all entries, every cell, conclusions, rules."""
    lines = [headline(claims) + ".", "", *pipes(ENTRIES, [_entry_row(one) for one in claims.entries])]
    for one in claims.entries:
        lines += ["", f"## {one.entry}: {one.verdict}", "", f"{one.title}. Source: {one.source}.".lstrip(". ")]
        if one.comment:
            lines += ["", one.comment]
        for columns, rows in _tables(one):
            lines += ["", *pipes(columns, rows)]
    return "\n".join(lines) + "\n"


def _tables(one: Checked) -> Iterator[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """The tables of an entry, without its name in each row."""
    yield CELLS[1:], [_cell_row(finding)[1:] for finding in one.findings]
    if one.survivals:
        yield CONCLUSIONS[1:], [row[1:] for row in conclusion_rows(one)]
    if one.rules:
        yield RULES[1:], [row[1:] for row in rule_rows(one)]


def pipes(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Claims</title><style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; color: #222 }}
table {{ border-collapse: collapse; margin: .6em 0 1.6em; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .25em .6em; border-bottom: 1px solid #ddd }}
th {{ border-bottom: 2px solid #888 }} .v {{ font-weight: 600; white-space: nowrap }}
img {{ max-width: 100% }} p.source {{ color: #666 }}
</style></head><body><h1>Published claims</h1><p>{headline}</p>
{picture}{body}</body></html>
"""


def page(claims: Claims, picture: str = "") -> str:
    """A page in HTML that needs nothing else but the picture of that name beside it."""
    body = [_html(ENTRIES, [_entry_row(one) for one in claims.entries])]
    for one in claims.entries:
        body.append(f"<h2>{escape(one.entry)}: {_verdict(one.verdict)}</h2>")
        body.append(f'<p>{escape(one.title)}</p><p class="source">{escape(one.source)}</p>')
        body += [f"<p>{escape(one.comment)}</p>"] if one.comment else []
        body += [_html(columns, rows) for columns, rows in _tables(one)]
    image = f'<img src="{escape(picture)}" alt="claimed over computed, by kind">' if picture else ""
    return _PAGE.format(headline=escape(headline(claims)), picture=image, body="\n".join(body))


def _verdict(verdict: str) -> str:
    return f'<span class="v" style="color: {COLOURS[verdict]}">{escape(verdict)}</span>'


def _html(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    at = columns.index("verdict") if "verdict" in columns else -1
    lines = []
    for row in rows:
        cells = [_verdict(cell) if n == at else escape(cell) for n, cell in enumerate(row)]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def write(claims: Claims, folder: Path, plots: bool, formats: Sequence[str]) -> list[tuple[str, Path]]:
    """Write claims.md, claims.html, rows.csv, claims.json and the picture into a folder."""
    from simgpu.claims.picture import claims_figure, has_points

    kinds = (tuple(formats) or ("png", "svg")) if plots and has_points(claims) else ()
    written: list[tuple[str, Path]] = []
    for kind in kinds:
        written += [("plot", file) for file in save(claims_figure(claims), folder / f"claimed_over_computed.{kind}")]
    with written_whole(folder / "claims.md") as stream:
        stream.write("# Published claims\n\n" + markdown(claims))
    with written_whole(folder / "claims.html") as stream:
        stream.write(page(claims, written[0][1].name if written else ""))
    with written_whole(folder / "rows.csv") as stream:
        print_csv(claims.rows, stream)
    with written_whole(folder / "claims.json") as stream:
        print_json(document(claims), stream)
    return [("data", folder / name) for name in ("claims.md", "claims.html", "rows.csv", "claims.json")] + written
