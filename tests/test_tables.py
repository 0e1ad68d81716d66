"""Tables of measurements: what they may hold, and limits on what a small file unpacks to."""

import gzip
import tracemalloc

import pytest

from simgpu import InputError
from simgpu.lab.validation import cells, tables
from simgpu.lab.validation.cells import Cells, read_cells
from simgpu.lab.validation.tables import Columns, read_table

HEADER = b"gpu,m,latency_s\n"
ROW = b"h100-sxm,4096,0.001\n"
COLUMNS = Columns(positive=("m", "latency_s"), words=("gpu",))


def packed(tmp_path, content):
    file = tmp_path / "rows.csv.gz"
    file.write_bytes(gzip.compress(content, 9))
    return file


@pytest.fixture
def small_limits(monkeypatch):
    for name, limit in (("MAX_BYTES", 100_000), ("MAX_ROWS", 100), ("MAX_COLUMNS", 50), ("MAX_LETTERS", 1_000)):
        monkeypatch.setattr(tables if name == "MAX_LETTERS" else cells, name, limit)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (HEADER + ROW * 10_000, r"rows\.csv\.gz: unpacks to more than 100,000 bytes, expected a table"),
        (HEADER + ROW * 101, r"rows\.csv\.gz: holds more than 100 rows"),
        (b"\n" * 99_000, r"rows\.csv\.gz: holds more than 100 rows"),
        (b"," * 99_000, r"rows\.csv\.gz:1: has 99,001 cells, expected at most 50"),
        (HEADER + b"a," * 40_000, r"rows\.csv\.gz:2: has 40,001 cells, expected at most 50"),
    ],
)
def test_what_unpacks_to_too_much_is_one_line(tmp_path, small_limits, content, problem):
    with pytest.raises(InputError, match=problem):
        read_table("rows", packed(tmp_path, content), COLUMNS)


def test_a_word_that_would_widen_its_whole_column_costs_its_row_alone(tmp_path, small_limits):
    found = read_table("rows", packed(tmp_path, HEADER + ROW * 9 + b"h" * 200 + b",1,0.001\n"), COLUMNS)
    assert len(found) == 9
    ((line, key, problem),) = [(row.line, row.key, row.problem) for row in found.skipped]
    assert (line, key, problem) == (11, "gpu", "has 200 letters, expected a short word")


def test_a_table_within_the_limits_is_read(tmp_path, small_limits):
    found = read_table("rows", packed(tmp_path, HEADER + ROW * 100), COLUMNS)
    assert len(found) == 100 and found.lines[-1] == 101


def test_no_more_is_unpacked_than_the_limit(tmp_path, monkeypatch):
    """100 MB of one letter pack into 100 kB."""
    file = packed(tmp_path, b"a" * 50_000_000)
    monkeypatch.setattr(cells, "MAX_BYTES", 1_000_000)
    tracemalloc.start()
    with pytest.raises(InputError, match="unpacks to more than 1,000,000 bytes"):
        read_cells(file)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08", b"not packed", b""])
def test_what_is_no_gzip_is_one_line(tmp_path, content):
    file = tmp_path / "rows.csv.gz"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"rows\.csv\.gz: is not a complete gzip file|rows\.csv\.gz:1: is empty"):
        read_cells(file)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_marks_and_ends_of_lines_of_other_systems(tmp_path, mark, end):
    file = tmp_path / "rows.csv"
    file.write_bytes(mark + (HEADER + b'"a\xe2\x80\xa8b",1,1\n').replace(b"\n", end))
    assert read_cells(file) == Cells(["gpu", "m", "latency_s"], [2], [["a\u2028b", "1", "1"]])


def test_bytes_that_are_no_text_have_their_line(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(HEADER + ROW + b"\xff,1,1\n")
    (skipped,) = read_cells(file).skipped
    assert (skipped.line, skipped.problem) == (3, "is not text (byte 0xff)")
    file.write_bytes(b"\xff" + HEADER + ROW)
    with pytest.raises(InputError, match=r"rows\.csv:1: is not text \(byte 0xff\)"):
        read_cells(file)


def test_a_file_of_lines_that_are_no_csv_is_no_table(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(HEADER + ROW + b'"open\n' * 99)
    assert len(read_cells(file).skipped) == 99
    file.write_bytes(HEADER + ROW + b'"open\n' * 1001)
    with pytest.raises(InputError, match=r"rows\.csv:\d+: is not valid CSV"):
        read_cells(file)
