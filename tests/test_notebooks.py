"""Notebooks run, show pictures, and say today what their committed outputs say."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
FILES = sorted(NOTEBOOKS.glob("*.ipynb"))

_spec = importlib.util.spec_from_file_location("execute", NOTEBOOKS / "execute.py")
assert _spec and _spec.loader
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)


def outputs(document):
    return [output for cell in document.cells for output in cell.get("outputs", [])]


def pictures(document):
    return sum("image/png" in output.get("data", {}) for output in outputs(document))


def test_they_are_there():
    assert {"tour", "cluster_sizing", "interconnect_what_if", "reading_a_timeline"} <= {file.stem for file in FILES}


QUICK = "reading_a_timeline"  # `make test-slow` runs the others too


@pytest.mark.parametrize(
    "file", [pytest.param(file, marks=[pytest.mark.slow] * (file.stem != QUICK), id=file.stem) for file in FILES]
)
@pytest.mark.filterwarnings("ignore")
def test_a_run_says_what_is_committed(file, tmp_path):
    committed, now = nbformat.read(file, as_version=4), execute.executed(file, tmp_path)
    assert execute.printed(now) == execute.printed(committed), "the notebook says something else now: make notebooks"
    assert pictures(now) == pictures(committed)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_committed_is_small_clean_and_complete(file):
    assert file.stat().st_size < 300_000
    document = nbformat.read(file, as_version=4)
    nbformat.validate(document)
    assert document.metadata == {"kernelspec": execute.KERNEL, "language_info": {"name": "python"}}
    assert all(cell.metadata == {} for cell in document.cells)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert pictures(document) >= 2
    assert not [output for output in outputs(document) if output.output_type == "error" or "stderr" in output.values()]
    said = "\n".join(execute.printed(document))
    assert not re.search(r"/(tmp|home|work|root|usr)/", said)
    assert not re.search(r"\bnan\b|\binf\b|None", said)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_links_of_notebooks_lead_somewhere(file):
    document = nbformat.read(file, as_version=4)
    text = "\n".join(cell.source for cell in document.cells)
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("https://") or (NOTEBOOKS / target).exists(), target
