"""Parts of docs/claims.md that are printed: quantities, equations, and every claim with its verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from simgpu.claims.check import Claims
from simgpu.claims.finding import Checked, Finding
from simgpu.claims.quantities import TABLE, UNITS
from simgpu.claims.relations import RELATIONS
from simgpu.claims.summary import CONCLUSIONS, conclusion_rows, headline, pipes, rule_rows
from simgpu.documents import read_text
from simgpu.errors import InputError
from simgpu.render.files import written_whole

ROWS = ("of", "quantity", "claimed", "verdict", "computed, bound or measured", "simulated")
"""Columns of the table of an entry."""


def put_in(file: Path, claims: Claims) -> None:
    """Replace the parts of a page between `<!-- NAME -->` and `<!-- /NAME -->`. Raises `InputError` without them."""
    text = read_text(file)
    for name, lines in sections(claims).items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise InputError(f"has no part '<!-- {name} -->' to '<!-- /{name} -->'", file=file)
        body = "\n" + "\n".join(lines) + "\n\n"
        text = pattern.sub(lambda found, body=body: found[1] + body + found[2], text)  # type: ignore[misc]
    with written_whole(file) as stream:
        stream.write(text)


def sections(claims: Claims) -> Mapping[str, Sequence[str]]:
    """Lines of each part, by its name."""
    return {"quantities": quantities(), "equations": equations(), "claims": every(claims)}


def quantities() -> list[str]:
    """The table of quantities."""
    rows = [
        (f"`{one.name}`", ", ".join(f"`{alias}`" for alias in one.aliases if alias),
         ", ".join(UNITS[one.dimension]) or "-", one.meaning)
        for one in TABLE.values()
    ]  # fmt: skip
    return list(pipes(("quantity", "also", "units", "meaning"), rows))


def equations() -> list[str]:
    """The table of equations."""
    rows = [(f"`{one.equation}`", ", ".join(one.kinds), one.meaning) for one in RELATIONS.values()]
    return list(pipes(("equation", "kinds", "meaning"), rows))


def every(claims: Claims) -> list[str]:
    """Every claim: a line of counts, then a table for each entry."""
    lines = [headline(claims) + ".", ""]
    for one in claims.entries:
        lines += [f"### {one.entry}: {one.verdict}", "", f"{one.title}. {one.source}. {_comment(one)}".rstrip(), ""]
        if one.findings:
            lines += [*pipes(ROWS, [_row(finding) for finding in one.findings]), ""]
        if one.survivals:
            lines += [*pipes(CONCLUSIONS[1:], [row[1:] for row in conclusion_rows(one)]), ""]
        if one.rules:
            lines += [
                *pipes(("rule", "scenarios", "holds on", "counter-examples"), [row[1:] for row in rule_rows(one)]),
                "",
            ]
    return lines[:-1]


def _comment(one: Checked) -> str:
    return f"{one.comment[0].upper()}{one.comment[1:].rstrip('.')}." if one.comment else ""


def _row(one: Finding) -> tuple[str, ...]:
    about = ", ".join(part for part in (one.row if one.row != one.column else "", one.subject) if part)
    number = one.measured or one.computed or one.bound
    return about, one.column, one.claimed.text, one.verdict, one.shown(number), one.shown(one.simulated)
