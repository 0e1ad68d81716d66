"""What reaches a terminal or a picture: text, and nothing that moves the cursor or renames the window."""

import unicodedata
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from simgpu import Catalogue
from simgpu.cli import main
from simgpu.terminal import plain

EVIL = "\\e]0;owned\\a\\x9b2J\\u202e [red]x[/red]"
"""As YAML writes them: rename the window, clear the screen, write from right to left, markup of rich."""
FILE = f'''\
title: "{EVIL} title"
scenario:
  cluster: h100-sxm
  workload: {{kind: operators, operators: [{{op: matmul, name: "{EVIL} op", m: 64, n: 64, k: 64}}]}}
cases:
  - {{labels: {{"{EVIL} label": "{EVIL} one"}}}}
  - {{labels: {{"{EVIL} label": "{EVIL} two"}}, gpu.memory.bandwidth: 2 TB/s}}
plots: [{{kind: bar, x: "{EVIL} label", y: [step_s], title: "{EVIL}"}}]
'''


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text):
    shown = plain(text)
    left = {unicodedata.category(letter) for letter in shown if letter not in "\n\u200c\u200d"}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert plain(shown) == shown


@pytest.mark.parametrize(
    "text", ["Llama 3.1 8B", "größer → 2×", "表", "a\nb", "\u0645\u06cc\u200c\u062e", "👩\u200d💻"]
)
def test_words_stay_as_they_are(text):
    assert plain(text) == text


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(FILE, encoding="utf-8")
    own = Path("own\x1b[2J/models")
    own.mkdir(parents=True)
    config = Catalogue().find("models", "llama-3.2-1b").read_text()
    (own / "mine.json").write_text(config)
    (own / "SOURCES.yaml").write_text("")
    for kind, name in (("gpus", "h100-sxm"), ("nodes", "dgx-h100")):
        text = Catalogue().find(kind, name).read_text()
        title = next(line for line in text.splitlines() if line.startswith("title:"))
        (own.parent / kind).mkdir()
        (own.parent / kind / f"{name}.yaml").write_text(text.replace(title, f'title: "{EVIL}"'), encoding="utf-8")
    return str(own.parent)


@pytest.mark.parametrize("arguments", [
    ["run", "e.yaml", "-o", "out\x1b[2J"], ["run", "e.yaml", "--set", "workload.repeat=2", "--no-plots"],
    ["resolve", "e.yaml"], ["explain", "e.yaml"], ["trace", "e.yaml", "-o", "t\x1b[2J.json"],
    ["sweep", "e.yaml", "-j", "1", "--no-plots"], ["sensitivity", "e.yaml", "--no-plots"],
    ["diff", "e.yaml:1", "e.yaml:2"], ["diff", "e.yaml:1", "e.yaml:2", "--all"],
    ["list"], ["show", "h100-sxm"], ["show", "dgx-h100", "-o", "d\x1b[2J.png"], ["nccl-tests", "dgx-h100"],
    ["fit", "mine", "--gpu", "h100-sxm"], ["run", "\x1b[2J.yaml"], ["show", "\x1b[2J"],
    ["run", "e.yaml", "--set", "\x1b[2J=1"],
])  # fmt: skip
def test_no_command_passes_control_characters_on(here, arguments):
    result = CliRunner().invoke(main, ["--catalog", here, *arguments])
    assert result.exit_code in (0, 2) and "Traceback" not in result.output
    for text in (result.stdout, result.stderr):
        assert plain(text) == text
    assert "x[/red]" in result.stdout or "[2J" in result.output or arguments[0] == "fit"


def test_pictures_hold_no_control_characters(here):
    """SVG with one is no XML."""
    assert CliRunner().invoke(main, ["run", "e.yaml", "-o", "out"]).exit_code == 0
    text = Path("out/plot1.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert "\\x1b]0;owned" in text
