"""The pages that a newcomer copies run as they stand: six review tasks, tutorials; files, commands, Python."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "review.md").read_text()
MACHINES = Path(__file__).parent / "data" / "machines"
GPUS = "name, memory.total [MiB], clocks.max.sm [MHz], power.limit [W]\n" + 8 * (
    "NVIDIA H100 80GB HBM3, 81559 MiB, 1980 MHz, 700.00 W\n"
)


def files_of(page):
    return dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", page, re.DOTALL))


def answers(page):
    """The commands of a page whose output it shows; each is run."""
    commands = re.findall(r"^    \$ simgpu (.*)$", page, re.MULTILINE)
    for command in commands:
        drawn = re.match(r"(run|search|sweep|sensitivity) ", re.sub(r"--catalog \S+ ", "", command))
        said = CliRunner().invoke(main, [*shlex.split(command), *(["--no-plots"] if drawn else [])])
        assert said.exit_code == 0, (command, said.output)
        assert said.output.strip()
    return commands


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in files_of(PAGE).items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_page_answers(folder):
    assert len(files_of(PAGE)) == 4
    assert len(answers(PAGE)) == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("training-cluster", 4), ("server", 4), ("article", 3), ("new-machine", 1)]
)
def test_every_command_of_a_tutorial_answers(name, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (DOCS / f"tutorial-{name}.md").read_text()
    (tmp_path / "topo.txt").write_text((MACHINES / "topo-dgx-h100.txt").read_text())
    (tmp_path / "gpus.csv").write_text(GPUS)
    for file, text in files_of(page).items():
        (tmp_path / file).write_text(text)
    assert len(answers(page)) == count
    named = set(re.findall(r"simgpu (?:run|search|diff|capacity|claims|sensitivity) (\w+\.yaml)", page))
    assert named - {"theirs.yaml", "my-run.yaml"} <= set(files_of(page))


@pytest.mark.slow
def test_the_python_of_the_page_says_the_same(folder, capsys):
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    exec(compile(code[1], "review.md", "exec"), {})
    said = capsys.readouterr().out
    found = re.findall(r"'([\w -]+)', ([\d.]+)", said)
    assert len(found) == 4
    for split, seconds in found:
        printed = re.search(rf"^     {split} +([\d.]+) s ", PAGE, re.MULTILINE)
        assert printed is not None and float(printed[1]) == pytest.approx(float(seconds), abs=0.006), split
