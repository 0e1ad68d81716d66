"""Streams that are closed, full or gone, and `-o` as hands type it: the installed command from outside."""

import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from simgpu.cli import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the shell's ways of closing a stream")

SMALL = """\
scenario:
  cluster: h100-sxm
  workload: {kind: operators, operators: [{op: matmul, m: 64, n: 64, k: 64}]}
"""


def shell(words: str, streams: str) -> subprocess.CompletedProcess[str]:
    """A command in the current folder, with its streams as a shell writes them."""
    line = f"{shlex.quote(sys.executable)} -m simgpu.cli {words} {streams}"
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(SMALL)


@pytest.mark.parametrize(
    ("words", "streams", "code", "message"),
    [
        ("list gpus", ">&-", 2, "simgpu: stdout: cannot be written (it is closed)\n"),
        ("list gpus", ">&- 2>&-", 2, ""),
        ("run e.yaml --no-plots", "2>&-", 0, ""),
        ("run nofile.yaml", "2>/dev/full", 2, ""),
        ("trace e.yaml", ">&-", 0, "trace: trace.json\n"),
        ("--help", ">/dev/full", 2, "simgpu: stdout: cannot be written (No space left on device)\n"),
    ],
)
def test_a_stream_that_cannot_be_used_is_one_line_or_silence(words: str, streams: str, code: int, message: str) -> None:
    if "/dev/full" in streams and not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    done = shell(words, streams)
    assert (done.returncode, done.stderr) == (code, message)
    assert bool(done.stdout) == words.startswith("run e")


def test_a_closed_stream_is_not_taken_by_a_file() -> None:
    """Without a stdout the next file opened would get its number, and what is printed."""
    done = shell("trace e.yaml -q", ">&- 2>&- <&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("trace.json").read_text().startswith('{"traceEvents":[')


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_that_writes_knows_the_option_by_its_short_and_its_long_name(name: str) -> None:
    spellings = [option.opts for option in main.commands[name].params if isinstance(option, click.Option)]
    for names in spellings:
        if {"-o", "--out", "--output", "--export"} & set(names):
            assert {"-o", "--out"} <= set(names), names


def test_a_list_is_printed_whole_or_not_at_all() -> None:
    Path("own/nodes").mkdir(parents=True)
    Path("own/nodes/broken.yaml").write_text("title: [")
    result = CliRunner().invoke(main, ["--catalog", "own", "list"])
    assert result.exit_code == 2 and "broken.yaml" in result.stderr
    assert result.stdout == ""
