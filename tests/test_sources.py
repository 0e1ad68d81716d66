"""One published table is one module: what each must say, and that adding a table is adding a file."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from lab_samples import TABLES

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.lab.validation import adapters, sources
from simgpu.lab.validation.command import PUBLISHED
from simgpu.lab.validation.run import validate
from simgpu.lab.validation.source import TARGETS, Reason
from simgpu.lab.validation.sources import known

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/measurements.md").read_text()
NAME = "example_gemm"


def block(language):
    """The one block of code in a language on the page."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    return text


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Put a module among the sources, for one test."""
    folder = tmp_path / "sources"
    folder.mkdir()
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(folder)])

    def added(name, text):
        (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        known.cache_clear()

    yield added
    for file in folder.glob("*.py"):
        sys.modules.pop(f"{sources.__name__}.{file.stem}", None)
        vars(sources).pop(file.stem, None)
    known.cache_clear()


def run(*options):
    return CliRunner().invoke(main, [*map(str, options)])


def document(folder, target="kernels"):
    result = run("validate", target, "--data", folder, "--format", "json", "-q")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def example(tmp_path):
    """The folder of the page, with its table."""
    folder = tmp_path / "my-tables"
    folder.mkdir()
    (folder / f"{NAME}.csv").write_text(block("csv"))
    return folder


def test_a_table_is_added_as_the_page_says(add, example):
    assert run("validate", "kernels", "--data", example).exit_code == 2  # nobody knows it yet
    add(NAME, block("python"))
    found = document(example)
    (group,) = found["groups"]
    assert (group["source"], group["op"], group["dtype"], group["rows"]) == (NAME, "gemm", "bfloat16", 2)
    assert group["mape"] < 0.5 and not found["not_predicted"] and not found["not_read"]
    assert [entry["reason"] for entry in found["left_out"]] == ["suspicious: first call: compiled"]


def test_what_the_way_of_measuring_adds_is_part_of_each_time(add, example):
    add(NAME, block("python"))
    whole = document(example)["worst"]
    add("host", block("python").replace("OVERHEAD = 25e-6", "OVERHEAD = 0.0"))
    (example / f"{NAME}.csv").rename(example / "host.csv")
    bare = document(example)["worst"]
    seconds = {row["line"]: row["predicted_s"] for row in bare}
    assert [row["predicted_s"] - seconds[row["line"]] for row in whole] == pytest.approx([25e-6, 25e-6])


def test_an_added_table_is_calibrated_against_too(add, example):
    add(NAME, block("python"))
    result = run("calibrate", example / f"{NAME}.csv", "--gpu", "a100-sxm-80gb", "--format", "json")
    assert result.exit_code == 0 and json.loads(result.stdout)["groups"], result.output


def test_reasons_of_a_table_explain_its_rows_alone(add, example):
    far = "a100-sxm-80gb,bfloat16,{},4096,4096,0.001,\n"
    (example / f"{NAME}.csv").write_text(block("csv") + far.format(16) + far.format(512))
    (example / "mlengineering_mamf.csv").write_text(block("csv").splitlines()[0] + "\n" + far.format(16))
    add(NAME, block("python"))
    page = example / "page.md"
    assert run("validate", "all", "--data", example, "--page", page, "-q").exit_code == 0
    lines = [line for line in page.read_text().splitlines() if "too fast" in line]
    why = {(line.split(" | ")[0].strip("| "), "m=16 " in line): line.rsplit(" | ", 1)[-1] for line in lines}
    assert why[NAME, True].startswith("padding: the library rounds m up to 64")
    assert why[NAME, False].startswith("not explained") and why["mlengineering_mamf", True].startswith("not explained")


def test_a_row_that_an_adapter_drops_is_no_silent_loss(add, example):
    add(NAME, block("python").replace('table.split(rows, "dtype")', 'table.split(rows[:1], "dtype")'))
    with pytest.raises(AssertionError, match=f"adapter of {NAME} accounts for 1 of 2 rows"):
        validate("kernels", example, Catalogue())


@pytest.mark.parametrize("name", sorted(known()))
def test_each_table_says_who_measured_and_how(name):
    source, module = known()[name], importlib.import_module(f"{sources.__name__}.{name}")
    assert source.citation.startswith("https://") or (PUBLISHED / f"{name}.csv").is_file()  # rows name their pages
    assert {adapter.target for adapter in source.adapters} | set(source.also) <= set(TARGETS)
    assert len({adapter.target for adapter in source.adapters}) == len(source.adapters)
    assert all(isinstance(one, Reason) and one.text for one in source.reasons)
    assert re.search("Traps:|How it was measured:|comes with simgpu", module.__doc__)
    assert (TABLES / f"{name}.csv").is_file() or (PUBLISHED / f"{name}.csv").is_file()


def test_nothing_but_a_page_of_goals_knows_a_table_by_name():
    """What tables share, reads and scores is told nothing of one of them."""
    folder = Path(adapters.__file__).parents[1]
    files = [file for file in folder.rglob("*.py") if file.parent.name not in ("sources", "pages")]
    assert len(files) > 15
    for file in files:
        words = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
        assert not words & set(known()), file


def test_the_page_names_modules_that_are_there():
    table = PAGE[PAGE.index("| measured |") : PAGE.index("**3.")]
    named = [word for line in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", line.rsplit("|", 2)[0])]
    assert len(named) >= 6 and set(named) <= set(known())
    for word in re.findall(r"`adapters\.(\w+)`", table):
        importlib.import_module(f"{adapters.__name__}.{word}")
