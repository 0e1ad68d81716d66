"""The review page: nothing of a stranger is markup, nothing is loaded, every number is that of the rows."""

import json
import re
from html.parser import HTMLParser

import pytest
from made_subjects import HOSTILE, rows_of, subject

import simgpu.review.page as page_module
from simgpu.errors import InputError
from simgpu.render.columns import cell_of
from simgpu.render.fields import PlotFields
from simgpu.review.charts import charts_of
from simgpu.review.markdown import markdown
from simgpu.review.page import page
from simgpu.review.report import Wanted
from simgpu.review.slide import slide
from simgpu.review.subject import Picture, answer_column, answer_of, best, row_words

KNOWN = {
    *("html", "head", "meta", "title", "style", "script", "body", "header", "main", "footer", "section", "div"),
    *("h1", "h2", "h3", "p", "a", "ul", "li", "pre", "figure", "figcaption", "img"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
}


class Read(HTMLParser):
    """Elements with their attributes, cells with their texts, and the blocks of JSON."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.cells, self.blocks, self._open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if any(tag in ("td", "th") for tag, _ in self._open):
            self.cells[-1][2] += data
        if self._open and self._open[-1][1].get("type") == "application/json":
            self.blocks.append(data)


@pytest.fixture(scope="module")
def html():
    return page([subject(), subject()])


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setattr(page_module, "library", lambda: "")


def test_the_page_is_valid_html(no_library):
    html5lib = pytest.importorskip("html5lib")
    parser = html5lib.HTMLParser(strict=True)
    parser.parse(page([subject(), subject()]))
    assert parser.errors == []


def test_no_name_of_a_stranger_becomes_markup(html):
    read = Read(html)
    known = KNOWN | {"details", "summary", "nav", "strong"}
    assert {tag for tag, _ in read.elements} <= known
    assert not any(key.startswith("on") for _, attributes in read.elements for key in attributes)
    assert sum(tag == "script" for tag, _ in read.elements) == sum(html.count(f"<script{end}") for end in (">", " "))
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html.split("<script>")[0])


def test_nothing_is_loaded_from_anywhere(html):
    read = Read(html)
    for tag, attributes in read.elements:
        for key in ("src", "href", "srcset", "action", "data", "poster", "background"):
            assert re.match("data:|#", attributes.get(key) or "#"), (tag, attributes)
    policy = next(one["content"] for tag, one in read.elements if one.get("http-equiv") == "Content-Security-Policy")
    assert "http" not in policy and policy.startswith("default-src 'none'") and "'unsafe-inline'; script" not in policy
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_scripts_are_those_that_the_policy_names_by_their_hash(html):
    import base64
    import hashlib

    policy = re.search('Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#x27;", "'")
    scripts = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    assert scripts
    for one in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" in policy


def test_every_cell_of_the_table_is_what_the_rows_say(no_library):
    one = subject(40, pictures=False)
    cells = [cell for cell in Read(page([one])).cells if cell[0] == "td" or cell[1].get("scope") == "row"]
    want = [(column, row) for row in one.rows for column in one.columns]
    for (column, row), (_, attributes, text) in zip(want, cells[: len(want)], strict=True):
        if column != "split":  # whose control characters are written out
            assert text == cell_of(column, row)
        value = row[column]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        assert (float(attributes["data-value"]) == value) if number else "data-value" not in attributes


def test_blocks_of_json_hold_the_numbers_of_the_rows_and_names_stay_text(html):
    pytest.importorskip("plotly")
    blocks = Read(html).blocks
    assert len(blocks) == 2
    trace = json.loads(blocks[0])[0]["data"][0]
    assert trace["y"] == [row["step_s"] for row in rows_of()]
    assert trace["error_y"]["array"] == pytest.approx([row["step_s_p90"] - row["step_s"] for row in rows_of()])
    assert not any(letter in blocks[0] for letter in "<>&")
    assert all("<" not in name for name in trace["x"])


@pytest.mark.parametrize("kind", ["bar", "line"])
def test_an_interactive_picture_marks_rows_that_do_not_fit(kind):
    rows = rows_of()
    rows[2]["memory_fits"] = False
    trace = charts_of(rows, PlotFields(kind=kind, x="n", y=["step_s"]))[0]["data"][0]
    marks = trace["marker"]["pattern"]["shape"] if kind == "bar" else trace["marker"]["symbol"]
    assert [n for n, mark in enumerate(marks) if mark == "x"] == [2]
    assert [n for n, words in enumerate(trace["text"]) if "does not fit" in words] == [2]


def test_the_answer_says_its_interval_and_takes_no_row_that_does_not_fit():
    rows = rows_of()
    rows[0] |= {"memory_fits": False}
    rows[1] = {key: value for key, value in rows[1].items() if not key.startswith("step_s_p")}
    chosen, weighed = best(rows, "step_s")
    assert chosen == 2 and weighed == [2, 3, 4, 5]
    said = answer_of(rows, ["split", "step_s"], "step_s", chosen)
    assert "80 % interval 1.17-1.47" in said and "1 more without an interval" in said and "overlap" in said
    assert best(rows, "mfu")[0] == 1


def test_an_answer_of_no_column_or_no_row_is_still_a_sentence():
    assert answer_of([], [], None, None) == "No row could be run."
    assert "none of its columns" in answer_of([{"a": "x"}], ["a"], None, None)
    assert "No row answers" in answer_of([{"step_s": 1.0, "memory_fits": False}], ["step_s"], "step_s", None)
    with pytest.raises(InputError, match=r"--value: no row has a number 'stp_s'.*'step_s'"):
        answer_column(rows_of(), (), "stp_s")


def test_rows_of_different_jobs_are_not_ranked():
    rows = [{**row, "model": f"m{n}"} for n, row in enumerate(rows_of(2))]
    said = answer_of(rows, ["model", "step_s"], "step_s", None)
    assert "no one figure ranks: m0: step 1 s (80 % interval 0.9-1.2); m1: step" in said


def test_rows_are_named_by_the_settings_that_differ():
    rows = [{"model": "m", "tp": n, "step_s": 1.0} for n in (1, 2)]
    assert row_words(rows, ["model", "tp", "step_s"], 1) == "TP 2"
    assert row_words(rows, ["model", "step_s"], 1) == "row 2"


def test_markdown_holds_the_same_and_no_markup_of_a_stranger():
    text = markdown([subject()])
    assert not re.search(r"(?<!\\)[<>]", text.replace("    " + HOSTILE[5], ""))
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables[:7]} == {6}
    assert all(cell_of("step_s", row) in text for row in rows_of())


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_slide_is_written_of_hostile_rows(tmp_path, ending):
    file = tmp_path / f"slide.{ending}"
    slide(subject(), file)
    assert file.stat().st_size > 10_000


def test_a_picture_of_an_earlier_run_is_data_that_cannot_run(no_library):
    svg = "<svg xmlns='http://www.w3.org/2000/svg' onload='window.hit=1'><script>window.hit=1</script></svg>"
    html = page([subject_with(svg)])
    assert "onload" not in html and "data:image/svg+xml;base64," in html


def subject_with(svg):
    from dataclasses import replace

    return replace(subject(pictures=False), pictures=[Picture("old", "old", svg=svg)])


def test_what_cannot_be_written_is_refused_before_anything_runs(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"expected [.]html"):
        Wanted(tmp_path / "a.txt").check(1)
    with pytest.raises(InputError, match=r"expected [.]png, [.]svg or [.]pdf"):
        Wanted(None, slide=tmp_path / "a.gif").check(1)
    with pytest.raises(InputError, match="of one study"):
        Wanted(None, slide=tmp_path / "a.png").check(2)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no browser is found"):
        Wanted(tmp_path / "a.html", pdf=True).check(1)


def test_ten_thousand_rows_stand_in_the_page_even_without_a_script(no_library):
    html = page([subject(10_000, pictures=False)])
    assert html.count("<tr") >= 10_000 and len(html) < 10_000_000
