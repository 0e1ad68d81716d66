"""Tables fit the terminal: whole words, no column lost, no cell cut; in every experiment of the catalogue."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from sampling import sampled

from simgpu.catalog import Catalogue
from simgpu.render.columns import cell_of, columns_of, title
from simgpu.render.layout import EDGES, GAP, Column, parts_of, words_of, wrapped
from simgpu.render.table import print_notes, print_table
from simgpu.study.experiment.running import load_experiment, run_case
from simgpu.study.experiment.shown import shown_columns

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))

WORDS = st.text(st.sampled_from("abcde0123456789.,%()-"), min_size=1, max_size=14)
TEXTS = st.lists(WORDS, max_size=5).map(" ".join)


def columns_in(most=9):
    """Columns of a table: as many cells in each."""
    return st.integers(1, 8).flatmap(
        lambda rows: st.lists(
            st.builds(Column, TEXTS, st.tuples(*[TEXTS] * rows), st.booleans()), min_size=1, max_size=most
        )
    )


def words_in(texts):
    return sorted(word for text in texts for word in text.split())


@given(TEXTS, st.integers(1, 60))
def test_a_line_is_broken_between_words_alone(text, width):
    lines = wrapped(text, width)
    assert " ".join(lines).split() == text.split()
    for line in lines:
        assert cell_len(line) <= width or len(words_of(line)) == 1


def test_a_number_keeps_its_unit():
    assert wrapped("1.38 ms (1.31-1.57)", 12) == ("1.38 ms", "(1.31-1.57)")
    assert wrapped("64.9 % (57.2-74.4)", 4) == ("64.9 %", "(57.2-74.4)")


def test_lines_that_go_on_stand_deeper():
    assert wrapped("  -3.7 points of packet overhead", 24) == ("  -3.7 points of packet", "    overhead")


@given(columns_in(), st.integers(20, 200))
def test_no_word_of_a_table_is_lost_and_no_line_is_wider_than_its_words_force(columns, width):
    parts = parts_of(columns, width)
    shown = words_in(text for part in parts for column in part for text in (column.heading, *column.cells))
    for word in set(words_in(text for column in columns for text in (column.heading, *column.cells))):
        assert word in shown
    for part in parts:
        wide = sum(column.width for column in part) + GAP * (len(part) - 1) + EDGES
        if wide > width:  # then one column and what names its rows cannot be narrower
            assert all(column.within(1).width == column.width for column in part)
        assert len({len(column.cells) for column in part}) == 1


@given(columns_in(most=4))
def test_a_table_that_fits_stays_as_it_is(columns):
    wide = sum(column.width for column in columns) + GAP * (len(columns) - 1) + EDGES
    assert parts_of(columns, wide) == [columns]


def whole_at(width, rows, columns, monkeypatch):
    """The text of a table of `width`, in which every word of its cells and headings stands and no line is too long."""
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    print_table(rows, columns, "", [], out)
    printed = out.getvalue()
    assert "\u2026" not in printed  # the sign for "cut"
    for line in printed.split("\n"):
        assert cell_len(line.rstrip()) <= width, line
    standing = set(re.split(r"\s{2,}|\n| \u2500", printed))
    known = {words for text in standing for words in words_of(text)}
    for column in columns_of(rows, columns):
        for text in (title(column), *(cell_of(column, row) for row in rows)):
            for word in words_of(text):
                assert word in known, f"{word!r} of {text!r}"
    return printed


def shorter(workload):
    """Settings that leave a server a few requests, which have the same columns as many."""
    if stages := getattr(workload, "stages", None):
        return (f"workload.stages={[[rate, seconds / 20] for rate, seconds in stages]}",)
    return ("workload.requests=100",) if (getattr(workload, "requests", 0) or 0) > 100 else ()


def table_of(file, most):
    """Rows of an experiment (its first, its last, that of the longest label, and others up to `most`), and columns."""
    catalogue = Catalogue()
    experiment = load_experiment(file, (), catalogue)
    experiment = load_experiment(file, shorter(experiment.cases[0].scenario.workload), catalogue)
    cases = experiment.cases
    longest = max(cases, key=lambda case: max(map(len, map(str, case.labels.values())), default=0))
    some = list({id(case): case for case in (cases[0], cases[-1], longest, *cases)}.values())[:most]
    rows = [run_case(case, catalogue).row for case in some]
    return rows, shown_columns(experiment.fields, rows)


@pytest.mark.parametrize("file", sampled(EXPERIMENTS, 6), ids=lambda file: file.stem)
def test_columns_and_cells_of_an_experiment_stand_whole_at_any_width(file, monkeypatch):
    rows, columns = table_of(file, 1)
    for n in (1, 5, 12):  # few rows are turned on their side, more are not
        for width in (80, 120, 200):
            whole_at(width, rows * n, columns, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_all_rows_of_an_experiment_stand_whole_in_80_columns(file, monkeypatch):
    whole_at(80, *table_of(file, 12), monkeypatch)


def test_a_table_of_few_rows_is_turned_on_its_side_and_one_of_many_comes_in_parts(monkeypatch):
    long = {f"a column with number {n}": f"value{n:_>12}" for n in range(12)}
    few = whole_at(80, [long] * 3, list(long), monkeypatch)
    assert few.count("\u2500 ") == 1
    assert re.search(r"a column with +value_+3 +value_+3 +value_+3 *\n number 3", few)
    many = whole_at(80, [{"name": f"n{n}"} | long for n in range(9)], ["name", *long], monkeypatch)
    assert len(re.findall(r"^ name ", many, re.MULTILINE)) >= 2  # each part says whose row it is
    assert len(re.findall(r"^ n8 ", many, re.MULTILINE)) == len(re.findall(r"^ name ", many, re.MULTILINE))


def test_a_row_of_a_file_or_pipe_is_one_line(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    out = io.StringIO()
    print_table([{f"column {n}": "x" * 20 for n in range(20)}], [], "A title", [], out)
    assert len(re.findall("x{20}", out.getvalue())) == 20
    assert max(map(len, out.getvalue().split("\n"))) > 400


def test_notes_are_broken_between_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out = io.StringIO()
    note = "a note of rather many words, which does not fit into a line of forty"
    print_notes([note], out)
    assert all(len(line) <= 40 for line in out.getvalue().split("\n"))
    assert out.getvalue().split() == note.split()
