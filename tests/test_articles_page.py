"""docs/articles.md: each command is one, with files that are there; the slow test runs them all."""

import re
import shlex
from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner

from simgpu.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/articles.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
COMMANDS = sorted({command for row in ROWS for command in re.findall(r"`simgpu ([^`]+)`", row)})
BY_NAME = ("run", "recommend", "sensitivity", "plan-capacity")
"""Commands that take an experiment by its name."""


def parts(command):
    """The words of a command; skips the test where a file that it names is not there yet."""
    words = shlex.split(command)
    for word in words:
        if word.startswith(("experiments/", "hardware/")) and not (ROOT / word).is_file():
            pytest.skip(f"{word} is not there")
    return words


def test_every_subject_has_a_command_and_every_claim_a_file():
    assert len(ROWS) > 70 and len(COMMANDS) > 50
    for row in ROWS:
        subject, commands, claims = (cell.strip() for cell in row.strip()[1:-1].split("|"))
        assert subject and "`simgpu " in commands, row
        for name in re.findall(r"`([^`]+)`", claims):
            assert (ROOT / f"experiments/claims/{name}.yaml").is_file(), row


def test_every_entry_of_the_articles_is_on_the_page():
    named = set(re.findall(r"`([a-z0-9-]+)`", PAGE))
    assert {file.stem for file in (ROOT / "experiments/claims").glob("*.yaml")} <= named


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_read(command):
    name, *words = parts(command)
    made = main.get_command(Context(main), name)
    assert made is not None, name
    if "--help" in words:
        return
    given = made.make_context(name, words, obj=()).params
    if name in BY_NAME and "/" not in str(given["file"]):
        assert (ROOT / f"experiments/{given['file']}.yaml").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(command, tmp_path, monkeypatch):
    words = parts(command)
    monkeypatch.chdir(tmp_path)
    for folder in ("experiments", "hardware"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.output[-2000:]
