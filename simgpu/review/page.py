"""The page: one HTML file that holds everything it shows and asks no network for anything.

Its content security policy allows no address at all, and no script but those whose hash it names, so that even a name
that slipped through the escaping could run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simgpu.render.columns import cell_of, title
from simgpu.review.charts import charts_of, library, tornado_chart
from simgpu.review.markup import Markup, Part, data, tag
from simgpu.review.subject import Given, Picture, Row, Subject
from simgpu.review.words import CHANGE, HEADINGS, INTERVAL, change_rows, change_words, versions
from simgpu.terminal import plain

HERE = Path(__file__).parent
WIDE, WIDEST = 9, 14
"""Columns beyond which a table is printed across the long side of the paper, and in small letters."""
LONG = 60
"""Letters beyond which a cell has room of its own."""
LONG_WORD = 18
"""Letters of a word beyond which it may be broken anywhere."""


def page(subjects: Sequence[Subject]) -> str:
    """The whole document."""
    body = [_subject(one, f"s{n}") for n, one in enumerate(subjects, 1)]
    scripts = [(HERE / "page.js").read_text(encoding="utf-8")]
    if any("<script type=" in one for one in body) and (plotly := library()):
        scripts.insert(0, plotly.replace("</script", "<\\/script"))
    name = subjects[0].question if len(subjects) == 1 else f"{len(subjects)} studies"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{name} - simgpu"),
        tag("style", Markup((HERE / "page.css").read_text(encoding="utf-8"))),
    )
    whole = tag(
        "body",
        tag("a", "Skip to the first answer", href="#s1", class_="skip"),
        tag("header", tag("h1", name if len(subjects) > 1 else "Review"), _contents(subjects)),
        tag("main", *body),
        tag("footer", tag("p", INTERVAL), tag("p", ", ".join(versions()))),
        *(tag("script", Markup(one)) for one in scripts),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, whole, lang='en')}\n"


def _policy(scripts: Sequence[str]) -> str:
    """What the page may load and run: its own scripts, styles, and pictures that stand in it."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    own = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {hashes}; {own}"


def _contents(subjects: Sequence[Subject]) -> Markup | None:
    if len(subjects) < 2:
        return None
    entries = [tag("li", tag("a", one.question, href=f"#s{n}")) for n, one in enumerate(subjects, 1)]
    return tag("nav", tag("ul", *entries), aria_label="Studies")


def _subject(one: Subject, identity: str) -> Markup:
    """A study: a section with a heading for each part."""
    parts = [tag("h2", one.question, id=f"{identity}-h")]
    parts += [tag("p", one.description, class_="about")] if one.description else []
    parts.append(tag("p", tag("strong", "Answer: "), one.answer, class_="answer"))
    wide = " wide" if len(one.columns) > WIDE else ""
    parts.append(_section("table", _decision(one, identity), class_=f"table{wide}"))
    pictures = [_picture(picture, one, f"{identity}-f{n}") for n, picture in enumerate(one.pictures, 1)]
    parts += [_section("pictures", *pictures)] if pictures else []
    parts += [_section("distance", _list(one.distances))] if one.distances else []
    parts += [_section("change", _about(one), *_change(one.change, f"{identity}-c"))] if one.change else []
    parts += [_section("notes", _list(one.notes))] if one.notes else []
    parts += [_section("inputs", _about(one), *_inputs(one.inputs))] if one.inputs else []
    again = [tag("pre", "\n".join(one.commands))]
    again += [tag("details", tag("summary", "The file"), tag("pre", one.text))] if one.text else []
    parts.append(_section("again", *again))
    return tag("section", *parts, id=identity, aria_labelledby=f"{identity}-h")


def _about(one: Subject) -> Markup | None:
    """The row whose inputs are shown, where there are several."""
    return tag("p", f"Of the row {one.about}.", class_="dim") if one.about else None


def _section(kind: str, *parts: Part, class_: str = "") -> Markup:
    return tag("section", tag("h3", HEADINGS[kind]), *parts, class_=class_ or kind)


def _list(lines: Sequence[str]) -> Markup:
    return tag("ul", *(tag("li", line, class_="walk" if line.startswith(" ") else None) for line in lines))


# ---- tables ------------------------------------------------------------------------------------------


def _decision(one: Subject, identity: str) -> Markup:
    """The decision table: each cell as the terminal prints it, with the number itself beside it."""
    numbers = {column: _numeric(column, one.rows) for column in one.columns}
    heads = [tag("th", title(column), scope="col", class_="n" if numbers[column] else None) for column in one.columns]
    rows = [_row(one, n, numbers) for n in range(len(one.rows))]
    caption = f"{len(one.rows):,} row{'s' if len(one.rows) != 1 else ''}. In brackets: 80 % interval."
    caption += " Marked: the row of the answer." if one.chosen is not None and len(one.rows) > 1 else ""
    made = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", *heads)), tag("tbody", *rows),
        class_="decision", id=f"{identity}-t",
    )  # fmt: skip
    return _scroll(made, len(one.columns), f"Decision table of {one.name}")


def _scroll(table: Markup, columns: int, label: str) -> Markup:
    """A table in a box of its own, so that a wide one moves sideways on a narrow screen and turns on paper."""
    wide = "scroll widest" if columns > WIDEST else "scroll"
    return tag("div", table, class_=wide, role="region", aria_label=label, tabindex="0")


def _row(one: Subject, number: int, numbers: Mapping[str, bool]) -> Markup:
    row = one.rows[number]
    cells = [_cell(column, row, numbers[column], first=n == 0) for n, column in enumerate(one.columns)]
    return tag("tr", *cells, class_="chosen" if number == one.chosen and len(one.rows) > 1 else None)


def _cell(column: str, row: Row, numeric: bool, first: bool) -> Markup:
    value, shown = row.get(column), cell_of(column, row)
    number = repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    kind = "n" if numeric else _kind(shown)
    return tag("th" if first else "td", shown, scope="row" if first else None, class_=kind, data_value=number)


def _kind(shown: str) -> str | None:
    """The class of a cell of words: long ones, and those with words that must be broken to fit a page."""
    if len(shown) > LONG:
        return "long"
    return "break" if any(len(word) > LONG_WORD for word in shown.split()) else None


def _numeric(column: str, rows: Sequence[Row]) -> bool:
    return any(isinstance(row.get(column), (int, float)) and not isinstance(row.get(column), bool) for row in rows)


def _plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> Markup:
    body = [tag("tr", *(tag("td", text, class_=_kind(text)) for text in row)) for row in rows]
    made = tag("table", tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))), tag("tbody", *body))
    return _scroll(made, len(heads), label)


def _inputs(inputs: Sequence[Given]) -> Iterator[Markup]:
    """Inputs of the row of the answer: what was asked in sight, catalogue figures and defaults to open."""
    for how, words, opened in (
        ("asked", "Asked for in the file or the command", True),
        ("catalogue", "Figures of the catalogue, with their sources", False),
        ("default", "Defaults", False),
    ):
        found = [one for one in inputs if one.how == how]
        if not found:
            continue
        rows = [(one.key, one.value) if how == "default" else (one.key, one.value, one.source) for one in found]
        table = _plain_table(("input", "value", "source")[: len(rows[0])], rows, words)
        yield tag("details", tag("summary", f"{words} ({len(found):,})"), table, open=opened)


# ---- pictures ----------------------------------------------------------------------------------------


def _picture(picture: Picture, one: Subject, identity: str) -> Markup:
    """A picture: drawn, and where it shows rows interactive as well."""
    charts = charts_of(picture.rows or one.rows, picture.plot) if picture.plot is not None else []
    return figure_of(picture.words, picture.svg or drawn(picture.figure), charts, identity)


def figure_of(words: str, svg: str, charts: Sequence[Mapping[str, Any]], identity: str) -> Markup:
    """A figure that holds a drawn picture as data, and the data of its interactive form."""
    image = tag("img", src=as_address(svg), alt=words)
    block = data(identity, list(charts)) if charts and library() else None
    return tag("figure", image, tag("figcaption", words), block, id=identity)


def drawn(figure: Any) -> str:
    """A figure of matplotlib as SVG, the same each time."""
    from simgpu.render.style import style
    from simgpu.render.text import quiet

    with style(), quiet():
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return plain(written.getvalue().decode())


def as_address(svg: str) -> str:
    """A picture inside an address: nothing in it can run, and no address in it is followed."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _change(change: Mapping[str, Any], identity: str) -> Iterator[Markup]:
    """What would change the answer: a tornado, and its numbers."""
    from simgpu.render.sensitivity import tornado_heading, tornado_of
    from simgpu.render.tornado import tornado_figure

    figure = tornado_figure([tornado_of(change)], change["change"], tornado_heading([change], ""))
    yield tag("p", change_words(change))
    yield figure_of(change_words(change), drawn(figure), [tornado_chart(change)], identity)
    yield _plain_table(CHANGE, change_rows(change), HEADINGS["change"])
