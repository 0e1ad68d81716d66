"""Reading what a user names: within limits, and never waiting for ever."""

import os
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu import InputError, reading
from simgpu.cli import main
from simgpu.reading import is_pipe, read_bytes

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reading, "UNOPENED_SECONDS", 0.2)
    os.mkfifo("pipe")


def later(*pieces, pause=0.0):
    """Write into the pipe from another thread."""

    def write():
        with Path("pipe").open("wb", buffering=0) as stream:
            for piece in pieces:
                time.sleep(pause)
                stream.write(piece)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_a_pipe_is_read_to_its_end():
    thread = later(b"a" * 200_000, b"b", b"c", pause=0.02)
    assert read_bytes(Path("pipe"), 10**6) == b"a" * 200_000 + b"bc"
    thread.join()


def test_who_writes_may_take_longer_than_who_does_not_come():
    later(b"a", pause=0.5)
    time.sleep(0.1)
    assert read_bytes(Path("pipe"), 100) == b"a"


def test_a_pipe_that_nobody_writes_is_told():
    with pytest.raises(InputError, match=r"pipe: is a pipe into which nobody wrote anything for 0\.2 s"):
        read_bytes(Path("pipe"), 100)


def test_a_writer_who_never_writes_is_told(monkeypatch):
    monkeypatch.setattr(reading, "SILENT_SECONDS", 0.1)
    other = os.open("pipe", os.O_RDWR)
    with pytest.raises(InputError, match=r"nobody wrote anything for 0\.1 s"):
        read_bytes(Path("pipe"), 100)
    os.close(other)


@pytest.mark.parametrize("file", ["pipe", "/dev/zero"])
def test_what_has_no_end_has_a_limit(file):
    if file == "pipe":
        later(b"a" * 5000)
    with pytest.raises(InputError, match=r"is larger than 1,000 bytes, expected a short text file"):
        read_bytes(Path(file), 1000)


EXPERIMENT = b"""\
scenario:
  cluster: h100-sxm
  workload: {kind: operators, operators: [{op: matmul, name: a, m: 64, n: 64, k: 64}]}
vary: {dtype: [bf16, fp16]}
"""


@pytest.mark.parametrize("arguments", [["run", "--no-plots"], ["sweep", "-j", "1", "--no-plots"], ["resolve"]])
def test_an_experiment_may_come_through_a_pipe(arguments):
    """It is read once, whatever asks for its text again."""
    later(EXPERIMENT)
    result = CliRunner().invoke(main, [*arguments, "pipe"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("arguments", [
    ["run", "pipe"], ["sweep", "pipe"], ["search", "pipe"], ["diff", "pipe", "single_stream:1"],
    ["results", "--store", "pipe"], ["nccl-tests", "dgx-h100", "--compare", "pipe"], ["calibrate", "rows.csv"],
])  # fmt: skip
def test_no_command_waits_for_ever_at_a_pipe(arguments):
    os.mkfifo("rows.csv")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and "is a pipe" in result.stderr, result.stderr


def test_what_is_a_pipe():
    assert is_pipe(Path("pipe")) and not is_pipe(Path()) and not is_pipe(Path("none")) and not is_pipe(Path("\0"))
