"""docs/supported.md lists what the code takes: families, architectures, units, sources. A newcomer starts there."""

import re
from pathlib import Path

import pytest

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec
from simgpu.units import UNITS

DOCS = Path(__file__).parents[1] / "docs"
PAGE, MODELS = (DOCS / "supported.md").read_text(), (DOCS / "models.md").read_text()


def table(heading, page=PAGE):
    """Rows of the table under a heading: lists of cells."""
    part = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in part.split("\n") if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_page_of_models_lists_every_family_with_its_types_and_counts():
    catalogue = Catalogue()
    rows = table("Families", MODELS)
    assert [row[0].strip("`") for row in rows] == catalogue.families.names
    for name, types, example, counted, published in rows:
        assert re.findall(r"`([^`]+)`", types) == list(catalogue.families.of(name.strip("`")).model_types)
        if example:
            assert float(counted.replace(",", "")) * 1e9 == pytest.approx(catalogue.model(example).parameters, rel=1e-3)
            known = catalogue.model_source(example).published_parameters
            assert float(published.replace(",", "")) * 1e9 == pytest.approx(known, rel=1e-3)


def test_its_families_are_as_many_as_the_page_says():
    families = Catalogue().families
    said = re.search(r"lists the (\d+) families that are read, (\d+) values", PAGE)
    assert (int(said[1]), int(said[2])) == (len(families.names), len(families.types))


def test_its_example_of_a_family_is_one(tmp_path):
    (tmp_path / "families").mkdir()
    text = re.search(r"```yaml\n(name: qwen3_next.*?)```", MODELS, re.DOTALL)[1]
    text = text.replace("name: qwen3_next", "name: mine").replace("[qwen3_next]", "[mine]")
    (tmp_path / "families/mine.yaml").write_text(text)
    assert Catalogue(tmp_path).families.of("mine").state


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
