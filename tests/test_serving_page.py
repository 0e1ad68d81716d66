"""The page on servers: its examples run, its keys and tools exist."""

import re
from pathlib import Path

import pytest

from simgpu import Traffic
from simgpu.workload.server.like import LOADS, SERVERS, load_like

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "serving.md").read_text(encoding="utf-8")
TOOLS = (DOCS / "serving-tools.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_short_examples_run(capsys):
    exec(compile(EXAMPLES[0], "serving.md", "exec"), {})
    assert "yes" in capsys.readouterr().out


def test_a_scheduler_a_router_and_arrivals_of_ones_own_do_what_the_page_says(capsys):
    """The shortest prompt first: half of the requests, the short ones, have their first token sooner."""
    found = {}
    exec(compile(EXAMPLES[1], "serving.md", "exec"), found)
    lines = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    halves = {name: float(re.findall(r"[\d.]+", text)[0]) for name, text in lines.items()}
    assert halves["ShortestFirst"] < halves["Replica"]
    assert found["done"].requests == 400


def test_keys_of_the_page_are_keys_of_the_job():
    section = PAGE[PAGE.index("## What comes\n") : PAGE.index("## The server")]
    keys = set(re.findall(r"`([a-z]+_[a-z_]+)(?:: [^`]*)?`", section))
    known = {*Traffic.model_fields, "session_id", "hash_ids", "input_toks", "output_toks", "arrival_time_ns",
             "input_length", "output_length"}  # fmt: skip
    assert keys and keys <= known, keys - known


@pytest.mark.parametrize("tool", (*LOADS, *SERVERS), ids=lambda tool: tool.name)
def test_flags_that_the_page_names_are_flags(tool):
    name = tool.name.strip("'").split()[0].replace("python", "sglang")
    loads, servers = TOOLS.split("## Servers")
    lines = (loads if tool in LOADS else servers).splitlines()
    row = next((line for line in lines if line.startswith("|") and name in line.split("|")[1]), None)
    assert row is not None, name
    flags = {flag.replace("[no-]", "") for flag in re.findall(r"(?<![\w-])--[\w\[\]-]+", row)}
    known = {*tool.kinds, *tool.nothing.split(), *tool.switches.split(), *tool.short}
    assert flags <= known, flags - known


def test_command_lines_of_the_page_are_understood():
    texts = re.findall(r'--like "(.*?)"', TOOLS, re.DOTALL)
    assert len(texts) == 4
    for text in texts[:3]:
        load_like(" ".join(text.split()))
