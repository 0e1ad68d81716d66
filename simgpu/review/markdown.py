"""The same as the page, as Markdown: for a wiki, a mail or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from simgpu.render.columns import cell_of, title
from simgpu.review.subject import Subject
from simgpu.review.words import CHANGE, HEADINGS, INTERVAL, change_rows, change_words, versions
from simgpu.terminal import plain

MOST_ROWS = 200
"""Rows of a table beyond which the rest is counted."""
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$&!])")


def escaped(text: object) -> str:
    r"""Text of strangers as Markdown in one line: no letter of it is markup.

    >>> escaped("a|<b>*c*")
    'a\\|\\<b\\>\\*c\\*'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(plain(str(text)).split()))


def markdown(subjects: Sequence[Subject]) -> str:
    """The document: a heading for each study, one below it for each part."""
    lines = [line for one in subjects for line in _subject(one)]
    return "\n".join([*lines, "---", "", INTERVAL, "", escaped(", ".join(versions())), ""])


def _subject(one: Subject) -> Iterator[str]:
    yield from (f"# {escaped(one.question)}", "")
    if one.description:
        yield from (escaped(one.description), "")
    yield from (f"**Answer:** {escaped(one.answer)}", "", f"## {HEADINGS['table']}", "")
    shown = [[cell_of(column, row) for column in one.columns] for row in one.rows[:MOST_ROWS]]
    yield from table([title(column) for column in one.columns], shown)
    if len(one.rows) > MOST_ROWS:
        yield from (f"... and {len(one.rows) - MOST_ROWS:,} more rows", "")
    if one.pictures:
        yield from (f"## {HEADINGS['pictures']}", "", *(f"- {escaped(picture.words)}" for picture in one.pictures), "")
    for kind, notes in (("distance", one.distances), ("notes", one.notes)):
        if notes:
            yield from (f"## {HEADINGS[kind]}", "", *(f"- {escaped(note)}" for note in notes), "")
    if one.change:
        yield from (f"## {HEADINGS['change']}", "", escaped(change_words(one.change)), "")
        yield from table(CHANGE, change_rows(one.change))
    asked = [(given.key, given.value, given.source) for given in one.inputs if given.how == "asked"]
    if one.inputs:
        yield from (f"## {HEADINGS['inputs']}", "")
        yield from (f"Of the row {escaped(one.about)}.", "") if one.about else ()
        yield from table(("input", "value", "source"), asked)
        yield from (f"{len(one.inputs) - len(asked):,} figures of the catalogue and defaults stand on the page.", "")
    yield from (f"## {HEADINGS['again']}", "", *(f"    {plain(line)}" for line in one.commands), "")


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """A table of pipes."""
    yield f"| {' | '.join(escaped(head) for head in heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows)
    yield ""
