"""Cells of CSV: text that a spreadsheet would run is marked, and reads back as it was."""

import csv
import io
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu.lab.validation.cells import Cells, read_cells
from simgpu.render.data import cell_of, print_csv, text_of

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "=cmd|' /C calc'!A0")
TEXTS = st.text(st.sampled_from("=+-@'ab 1\t\n\r\",") | st.characters(exclude_categories=["Cs"]), max_size=6)


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_run_is_marked(text):
    assert cell_of(text) == "'" + text and text_of(cell_of(text)) == text


@given(TEXTS)
def test_text_reads_back_and_none_begins_a_formula(text):
    cell = cell_of(text)
    assert text_of(cell) == text
    assert not cell.startswith(tuple("=+-@\t\r\n"))


@pytest.mark.parametrize("number", [-1, -2.5e-9, 0, 10**30, True, None])
def test_numbers_stay_numbers(number):
    assert cell_of(number) is number


@pytest.mark.parametrize("foreign", ["-5", "=x", "'abc", "+", "a=b", ""])
def test_cells_of_other_programs_stay_as_they_are(foreign):
    assert text_of(foreign) == foreign


@given(st.lists(st.dictionaries(TEXTS, TEXTS | st.integers(), min_size=1), min_size=1, max_size=4))
@settings(max_examples=40)
def test_rows_read_back(rows):
    """Names of columns too: labels name them."""
    out = io.StringIO()
    print_csv(rows, out)
    header, *body = csv.reader(io.StringIO(out.getvalue(), newline=""))
    names = [text_of(cell) for cell in header]
    assert names == list(dict.fromkeys(name for row in rows for name in row))
    for row, cells in zip(rows, body, strict=True):
        assert {name: text_of(cell) for name, cell in zip(names, cells, strict=True)} == {
            name: str(row.get(name, "")) for name in names
        }


def test_tables_are_read_by_the_same_rule(tmp_path):
    file = tmp_path / "a.csv"
    with file.open("w", newline="") as stream:
        print_csv([{"op": "=gemm", "-x": -1.5, "note": "'tis"}], stream)
    assert read_cells(file) == Cells(["op", "-x", "note"], [2], [["=gemm", "-1.5", "'tis"]])


def test_a_terminal_gets_no_control_characters_a_file_gets_the_text():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    found = {}
    for out in (Terminal(), io.StringIO()):
        print_csv([{"a\x1b[2J": "b\x9b\u202e"}], out)
        found[type(out)] = out.getvalue()
    assert found[Terminal] == "a\\x1b[2J\nb\\x9b\\u202e\n"
    assert found[io.StringIO] == "a\x1b[2J\nb\x9b\u202e\n"
    assert set(found[Terminal]) <= set(string.printable)
