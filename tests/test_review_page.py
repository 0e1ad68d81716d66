"""The page of six review tasks runs as it stands: its files, its commands, its Python."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "review.md").read_text()
FILES = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(r"^    \$ simgpu (.*)$", PAGE, re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_command_of_the_page_answers(folder):
    assert len(FILES) == 4 and len(COMMANDS) == 7
    for command in COMMANDS:
        more = [] if re.search(r"\b(new|show|diff)\b", command) else ["--no-plots"]
        said = CliRunner().invoke(main, [*shlex.split(command), *more])
        assert said.exit_code == 0, (command, said.output)
        assert said.output.strip()


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
