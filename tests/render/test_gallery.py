"""The gallery shows every kind of plot, with commands of experiments that ask for it and pictures that are there."""

import re
from pathlib import Path

import pytest
import yaml

import simgpu
from simgpu.render.fields import Kind, PlotFields
from simgpu.study.experiment.running import find_experiment, load_experiment

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/gallery.md").read_text()
SECTIONS = dict(part.split("\n", 1) for part in TEXT.split("\n## ")[1:])
KINDS = Kind.__args__


def test_every_kind_has_a_section():
    assert set(KINDS) <= set(SECTIONS)
    assert set(SECTIONS) - set(KINDS) <= {"From searches"}, "a section without a kind"


@pytest.mark.parametrize("kind", KINDS)
def test_a_section_shows_a_plot_that_its_command_makes(kind):
    section = SECTIONS[kind]
    (name,) = re.findall(r"^    simgpu run (\S+)$", section, flags=re.M)
    fields = load_experiment(find_experiment(name, catalogue := simgpu.Catalogue()), (), catalogue).fields
    (lines,) = re.findall(r"```yaml\n(.*?)```", section, flags=re.S)
    (asked,) = yaml.safe_load(lines)
    shown = PlotFields(**asked)
    assert shown.kind == kind
    there = [plot.model_copy(update={"title": ""}) for plot in fields.plots]
    assert shown in there, f"{name} asks for no such plot"


@pytest.mark.parametrize("picture", sorted(set(re.findall(r"\]\((images/[^)]+)\)", TEXT))))
def test_pictures_are_there_and_light(picture):
    file = ROOT / "docs" / picture
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size < 150_000
