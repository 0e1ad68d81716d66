"""docs/claims.md lists every quantity, equation and entry."""

from pathlib import Path

import pytest

from simgpu.claims.check import Claims
from simgpu.claims.reading import files_of
from simgpu.claims.sections import equations, put_in, quantities
from simgpu.errors import InputError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/claims.md").read_text()


@pytest.mark.parametrize("lines", [quantities(), equations()], ids=["quantities", "equations"])
def test_the_tables_of_the_page_are_those_of_the_code(lines):
    missing = "the page is old: simgpu claims experiments/claims experiments/claims/more --page docs/claims.md"
    assert "\n".join(lines) in PAGE, missing


def test_every_entry_stands_on_the_page():
    files = [*files_of(ROOT / "experiments/claims"), *files_of(ROOT / "experiments/claims/more")]
    assert [file.stem for file in files if f"### {file.stem}: " not in PAGE] == []


def test_a_page_without_marks_is_left_alone(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("nothing\n")
    with pytest.raises(InputError, match="has no part"):
        put_in(file, Claims([]))
    assert file.read_text() == "nothing\n"
