"""Files that cannot be written, wrong command lines, and input that would take for ever."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bad_input import (
    ENTRY,
    GPU,
    NODE,
    PREFILL,
    SMALL,
    _elsewhere,  # noqa: F401 - fixtures
    check,
    config_of,
    edited,
    limited,
    one_line,
    refused,
    wrote,
)
from click.testing import CliRunner

from simgpu.cli import main

# ---- where files go ------------------------------------------------------------------------------------

UNWRITABLE = ["file", "file/below", "/proc/simgpu-test", "x" * 300]


@pytest.mark.parametrize("folder", UNWRITABLE)
@pytest.mark.parametrize("style", ["table", "json"])
def test_out_that_cannot_be_written(folder: str, style: str) -> None:
    wrote("file", "x")
    wrote("e.yaml", SMALL)
    check(refused("run", "e.yaml", "--format", style, "--out", folder), folder[:200], ("cannot be written",))


@pytest.mark.parametrize("file", ["file/below.json", "/proc/simgpu-test/t.json", "folder", "x" * 300])
def test_trace_that_cannot_be_written(file: str) -> None:
    """The message names what the user gave, not a temporary file beside it."""
    wrote("file", "x")
    Path("folder").mkdir()
    wrote("e.yaml", SMALL)
    message = refused("trace", "e.yaml", "-o", file)
    place = message.partition(": ")[0]
    assert "cannot be written" in message
    assert file[:200].startswith(place) or place.startswith(file[:200]), message


def test_default_folder_that_cannot_be_written() -> None:
    wrote("results", "a file where the folder should be")
    wrote("e.yaml", SMALL)
    check(refused("run", "e.yaml"), "results", ("cannot be written",))


@pytest.mark.parametrize(
    "arguments",
    [["list", "gpu"], ["lst"], ["run"], ["run", "e.yaml", "--format", "xml"], ["show", "dgx-h100", "--nodes", "0"]],
)
def test_a_wrong_command_line_ends_with_two_and_says_how(arguments: list[str]) -> None:
    wrote("e.yaml", SMALL)
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr and "Traceback" not in result.stderr


def test_errors_go_to_stderr_of_the_installed_command() -> None:
    wrote("e.yaml", edited(SMALL, "    tp: 2", "    tp: 0")[0])
    done = subprocess.run([ENTRY, "run", "e.yaml"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    check(one_line(done.stderr), "e.yaml:6: plan.tp: 0", ())
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["e.yaml"]


# ---- input that must not take for ever ------------------------------------------------------------------


def test_a_model_of_a_billion_layers() -> None:
    wrote("e.json", config_of(num_hidden_layers=999_999_999))
    wrote("e.yaml", PREFILL.replace("llama-2-7b", "e.json"))
    check(one_line(limited("run", "e.yaml", "--no-plots").stderr), "e.json:7: num_hidden_layers: 999999999", ())


def test_axes_that_multiply_to_ten_billion_rows() -> None:
    names = ["power.tdp", "memory.bus_width", "memory.bandwidth", "memory.capacity", "compute.sm_count"]
    names += ["nvlink.lanes", "host_link.lanes", "peak.fp16", "peak.bf16", "memory.l2_cache"]
    text = SMALL[: SMALL.index("cases:")] + "vary:\n"
    wrote("e.yaml", text + "".join(f"  gpu.{name}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" for name in names))
    check(one_line(limited("run", "e.yaml", "--no-plots").stderr), f"e.yaml:{text.count(chr(10))}: vary", ())


def test_an_architecture_that_inherits_from_itself() -> None:
    wrote("own/gpus/tiny.yaml", GPU.replace("architecture: generic", "architecture: mine"))
    wrote("own/nodes/tiny-box.yaml", NODE)
    wrote("own/architectures/mine.yaml", "name: mine\ntitle: Mine\nparent: yours\n")
    wrote("own/architectures/yours.yaml", "name: yours\ntitle: Yours\nparent: mine\n")
    message = one_line(limited("--catalog", "own", "show", "tiny").stderr)
    check(message, "own/architectures/", ("parent", "mine"))


def test_a_number_of_many_digits_that_is_none() -> None:
    wrote("e.yaml", SMALL)
    done = limited("run", "e.yaml", "--set", f"gpu.memory.bandwidth={'1' * 50_000}!")
    check(one_line(done.stderr), "--set: gpu.memory.bandwidth: ", ("111",))
