"""docs/supported.md lists what the code takes: families, architectures, units, sources. A newcomer starts there."""

import re
from pathlib import Path

import pytest

from simgpu.catalog import Catalogue
from simgpu.documents import read_json
from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec
from simgpu.model.families import _KNOWN_TYPES
from simgpu.units import UNITS

PAGE = (Path(__file__).parents[1] / "docs/supported.md").read_text()


def table(heading):
    """Rows of the table under a heading: lists of cells."""
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in part.split("\n") if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_page_lists_the_model_types_that_are_read():
    assert [row[0].strip("`") for row in table("Model families")] == sorted(_KNOWN_TYPES)


def test_the_models_it_names_are_of_that_type():
    catalogue = Catalogue()
    known = {name: read_json(catalogue.find("models", name)).data["model_type"] for name in catalogue.names("models")}
    for kind, models in table("Model families"):
        for name in re.findall(r"[a-z0-9.-]*\d[a-z0-9.-]*", models):
            named = [one for one in known if one == name or one.startswith(f"{name}-")]
            assert named or "llama4" in models, name
            assert {known[one] for one in named} <= {kind.strip("`")}, name
    assert set(known.values()) <= {row[0].strip("`") for row in table("Model families")}


def test_the_page_lists_the_architectures_and_where_their_constants_come_from():
    catalogue = Catalogue()
    told = {row[0].strip("`"): row[2].strip("`") for row in table("GPU architectures")}
    assert told == {
        name: catalogue.spec("architectures", name).parent or "" for name in catalogue.names("architectures")
    }


@pytest.mark.parametrize("text", sorted(set(re.findall(r"`([^`\n]+@[^`\n]+)`", PAGE))))
def test_names_with_settings_are_read(text):
    catalogue = Catalogue()
    made = catalogue.model(text) if "=" in text else catalogue.spec("gpus", text)
    assert made.name == text


def test_every_unit_that_it_names_is_one():
    part = PAGE.partition("| of | units |")[2].partition("\n## ")[0]
    named = [unit for unit in re.findall(r"`([^`]+)`", part) if unit != "/s"]
    assert len(named) > 20
    assert [unit for unit in named if unit not in UNITS] == []
    assert {UNITS[unit][0] for unit in named} | {"B/s", "FLOP"} == {dimension for dimension, _ in UNITS.values()}


def test_its_example_of_sources_is_a_part_of_a_file(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
    whole = Catalogue().find("gpus", "l4").read_text()
    (tmp_path / "gpus").mkdir()
    file = tmp_path / "gpus/mine.yaml"
    whole = re.sub(r"  datasheet: .*\n", "", whole)
    mine = whole.replace("name: l4", "name: mine").replace("sources:\n", example.partition("memory:")[0], 1)
    file.write_text(mine)
    spec = Catalogue(tmp_path).spec("gpus", "mine")
    assert isinstance(spec, GPUSpec) and "measured" in spec.sources
    file.write_text(mine.replace("unit: GB/s, source: datasheet", "unit: GB/s, source: datashet"))
    with pytest.raises(
        InputError, match=r"mine.yaml:\d+: memory.bandwidth: source 'datashet' is not among .* did you mean"
    ):
        Catalogue(tmp_path).spec("gpus", "mine")
