"""Bad catalogues of a user: a wrong specification is named with its own file and line."""

from __future__ import annotations

import pytest
from bad_input import (
    GPU,
    NODE,
    PREFILL,
    SMALL,
    _elsewhere,  # noqa: F401 - fixtures
    check,
    config_of,
    edited,
    one_line,
    refused,
    wrote,
)
from click.testing import CliRunner

from simgpu.cli import main

# ---- the user's own catalogue --------------------------------------------------------------------------

RATE = "bandwidth: {value: 1, unit: TB/s, source: sheet}"
SPECS: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    # id: (file, text, its replacement, key that the message names, what else it says)
    "negative": (
        "gpu",
        "{value: 1, unit: TB/s",
        "{value: -1, unit: TB/s",
        "memory.bandwidth",
        ("-1 TB/s", "more than zero"),
    ),
    "zero": ("gpu", "{value: 1, unit: TB/s", "{value: 0, unit: TB/s", "memory.bandwidth", ("0 TB/s", "more than zero")),
    "nan": ("gpu", "{value: 1, unit: TB/s", "{value: .nan, unit: TB/s", "memory.bandwidth", ("nan",)),
    "infinite": ("gpu", "{value: 1, unit: TB/s", "{value: .inf, unit: TB/s", "memory.bandwidth", ("inf",)),
    "true": ("gpu", "{value: 1, unit: TB/s", "{value: true, unit: TB/s", "memory.bandwidth", ("True", "number")),
    "text": ("gpu", "{value: 1, unit: TB/s", "{value: fast, unit: TB/s", "memory.bandwidth", ("'fast'", "number")),
    "400 digits": ("gpu", "{value: 1, unit: TB/s", f"{{value: {'9' * 400}, unit: TB/s", "memory.bandwidth", ("999",)),
    "wrong unit": ("gpu", "unit: TB/s", "unit: TB", "memory.bandwidth", ("'TB'", "a unit of B/s", "3.35 TB/s")),
    "unknown unit": ("gpu", "unit: TB/s", "unit: TBps", "memory.bandwidth", ("'TBps'", "a unit of B/s")),
    "no unit": ("gpu", ", unit: TB/s", "", "memory.bandwidth", ("unit", "3.35 TB/s")),
    "no source": ("gpu", "TB/s, source: sheet", "TB/s", "memory.bandwidth", ("source",)),
    "bare number": ("gpu", RATE, "bandwidth: 1 TB/s", "memory.bandwidth", ("source",)),
    "unknown source": ("gpu", "TB/s, source: sheet", "TB/s, source: shet", "memory.bandwidth", ("'shet'", "'sheet'")),
    "empty source": ("gpu", "TB/s, source: sheet", "TB/s, source: ''", "memory.bandwidth", ("source", "sheet")),
    "source says nothing": ("gpu", "sheet: a made-up datasheet", "sheet: ''", "sources.sheet", ()),
    "no value": ("gpu", "{value: 1, unit: TB/s", "{unit: TB/s", "memory.bandwidth", ("value", "missing")),
    "misspelt optional": ("gpu", "boost_clock", "bost_clock", "compute", ("bost_clock", "did you mean 'boost_clock'?")),
    "misspelt": ("gpu", "l2_cache", "l2_cach", "memory", ("l2_cach", "did you mean 'l2_cache'?")),
    "misspelt value": ("gpu", "{value: 1, unit: TB/s", "{valu: 1, unit: TB/s", "memory.bandwidth", ("valu", "'value'")),
    "unknown key": ("gpu", "vendor: nobody", "vendor: nobody\ncolour: red", "colour", ("unknown key",)),
    "fraction of a unit": (
        "gpu",
        "{value: 100, source: sheet}",
        "{value: 99.5, source: sheet}",
        "compute.sm_count",
        ("99.5",),
    ),
    "no lanes": ("gpu", "{value: 16, source", "{value: 0, source", "host_link.lanes", ("0", "more than zero")),
    "flag": (
        "gpu",
        "peer_to_peer: {value: true",
        "peer_to_peer: {value: maybe",
        "host_link.peer_to_peer",
        ("'maybe'",),
    ),
    "peak dtype": ("gpu", "{dtype: fp16,", "{dtype: fp17,", "peak.0.dtype", ("'fp17'", "fp16, fp32")),
    "peak twice": (
        *(
            "gpu",
            "  - {dtype: fp32, accumulate: fp32, engine: vector,",
            "  - {dtype: fp16, accumulate: fp32, engine: tensor,",
        ),
        *("peak", ("fp16",)),
    ),
    "unknown source in a list": (
        "gpu",
        "value: 10, unit: TFLOPS, source: sheet",
        "value: 10, unit: TFLOPS, source: shet",
        "peak",
        ("'shet'",),
    ),
    "wrong name": ("gpu", "name: tiny\n", "name: tinny\n", "name", ("'tinny'", "'tiny'")),
    "unknown architecture": (
        "gpu",
        "architecture: generic",
        "architecture: hoper",
        "architecture",
        ("'hoper'", "'hopper'"),
    ),
    "unknown link": ("gpu", "link: pcie-4", "link: pcie4", "host_link.link", ("'pcie4'", "'pcie-4'")),
    "slice without source": (
        "gpu",
        "instances: 2, source: sheet",
        "instances: 2",
        "mig_profiles.0.source",
        ("missing",),
    ),
    "slice of unknown source": (
        "gpu",
        "instances: 2, source: sheet",
        "instances: 2, source: shet",
        "mig_profiles",
        ("'shet'",),
    ),
    "unknown gpu": ("node", "gpu: tiny", "gpu: tinyy", "gpu", ("'tinyy'", "did you mean 'tiny'?")),
    "unknown device": ("node", "[gpu, gpu]", "[gpu, gpo]", "sockets.0.devices.1", ("'gpo'", "'gpu'")),
    "no gpu at all": ("node", "devices: [gpu, gpu]", "devices: [nic]", "", ("gpu",)),
    "no sockets": ("node", "count: 1", "count: 0", "sockets.0.count", ("0", "whole number from 1 to 128")),
    "scope": ("node", "{value: root", "{value: rot", "peer_to_peer_scope", ("'rot'",)),
    "scope without source": (
        "node",
        "{value: root, source: guide}",
        "{value: root}",
        "peer_to_peer_scope",
        ("source",),
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_bad_specification_names_its_own_file_and_line(name: str) -> None:
    which, old, new, key, words = SPECS[name]
    text, line = edited(GPU if which == "gpu" else NODE, old, new)
    line += new.count("\n") if name == "unknown key" else 0
    wrote("own/gpus/tiny.yaml", text if which == "gpu" else GPU)
    wrote("own/nodes/tiny-box.yaml", text if which == "node" else NODE)
    wrote("e.yaml", SMALL[: SMALL.index("cases:")].replace("dgx-h100", "tiny-box"))
    file = "own/gpus/tiny.yaml" if which == "gpu" else "own/nodes/tiny-box.yaml"
    message = refused("--catalog", "own", "run", "e.yaml")
    below = name in ("misspelt", "misspelt optional", "misspelt value", "no gpu at all", "peak twice")
    check(message, f"{file}:" if below else f"{file}:{line}: {key}", (key, *words))


def test_the_specifications_of_these_tests_are_fine() -> None:
    wrote("own/gpus/tiny.yaml", GPU)
    wrote("own/nodes/tiny-box.yaml", NODE)
    wrote("e.json", config_of())
    for text in (SMALL, PREFILL, SMALL.replace("dgx-h100", "tiny-box").replace("tp: 4", "tp: 1")):
        wrote("e.yaml", text.replace("llama-2-7b", "e.json"))
        result = CliRunner().invoke(main, ["--catalog", "own", "run", "e.yaml", "--no-plots"])
        assert result.exit_code == 0, (result.stderr, result.exception)


@pytest.mark.parametrize("content", ["", "- a\n", "name: [\n", "name: tiny\n", "\0", "name: tiny\nname: tiny\n"])
@pytest.mark.parametrize("command", ["show", "list"])
def test_a_broken_specification_is_named_by_show_and_list(command: str, content: str) -> None:
    wrote("own/gpus/tiny.yaml", content)
    if command == "list" and content == "name: tiny\n":
        assert CliRunner().invoke(main, ["--catalog", "own", "list", "gpus"]).exit_code == 0
    else:
        check(refused("--catalog", "own", command, "gpus" if command == "list" else "tiny"), "own/gpus/tiny.yaml:", ())


@pytest.mark.parametrize(
    "content",
    [
        *("- tiny\n", "tiny: [\n", "tiny: text\n", "tiny: [a]\n", "tiny: null\n", "tiny: {title: [a]}\n"),
        *("tiny: {source: 5}\n", "tiny: {published_parameters: many}\n", "tiny: {published_parameters: .inf}\n"),
    ],
)
@pytest.mark.parametrize("command", ["list", "show", "run"])
def test_a_broken_list_of_sources_of_models(command: str, content: str) -> None:
    """`list`, `show` and `run` may each need another part of it, so each may refuse or succeed, but not fall over."""
    wrote("own/models/tiny.json", config_of())
    wrote("own/models/SOURCES.yaml", content)
    wrote("e.yaml", PREFILL.replace("llama-2-7b", "tiny"))
    arguments = {"list": ["list", "models"], "show": ["show", "tiny"], "run": ["run", "e.yaml", "--no-plots"]}[command]
    result = CliRunner().invoke(main, ["--catalog", "own", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    if result.exit_code:
        check(one_line(result.stderr), "own/models/SOURCES.yaml:", ())


@pytest.mark.parametrize("given", ["nosuch", "e.yaml", "x" * 300])
@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_catalogue_that_is_no_folder(way: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote("e.yaml", SMALL)
    if way == "environment":
        monkeypatch.setenv("SIMGPU_CATALOG", given)
    for command in (["list"], ["run", "e.yaml"], ["show", "h100-sxm"]):
        message = refused(*(["--catalog", given] if way == "option" else []), *command)
        assert given[:200] in message
        assert ("SIMGPU_CATALOG" if way == "environment" else "catalog") in message


# ---- show ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["h100-sx"], ("'h100-sx'", "did you mean 'h100-sxm'?")),
        (["h100"], ("'h100'", "did you mean one of h100-nvl, h100-pcie, h100-sxm")),
        (["a100-80gb"], ("'a100-80gb'", "did you mean one of a100-pcie-80gb, a100-sxm-80gb?")),
        (["dgx-h10"], ("'dgx-h10'", "names like it: dgx-h100")),
        (["llama-2-7"], ("'llama-2-7'", "did you mean 'llama-2-7b'?")),
        (["tp2_scaling"], ("'tp2_scaling'",)),
        (["x" * 300], ("xxx",)),
        (["."], ("folder",)),
        (["h100-sxm", "--set", "gpu.memory.bandwith=1 TB/s"], ("--set: gpu.memory.bandwith: ", "'bandwidth'")),
        (["h100-sxm", "--set", "gpu.memory.bandwidth=-1"], ("--set: gpu.memory.bandwidth: ", "-1")),
        (["h100-sxm", "--set", "plan.tp=2"], ("--set: plan.tp: ", "hardware parameter")),
        (["h100-sxm", "--set", "node.memory.bandwidth=1 TB/s"], ("--set: node.memory.bandwidth: ",)),
        (["h100-sxm", "--out", "x.png"], ("x.png",)),
        (["llama-2-7b", "--set", "gpu.memory.bandwidth=1 TB/s"], ("--set: gpu.memory.bandwidth: ",)),
        (["llama-2-7b", "--set", "hidden=1"], ("--set: hidden: ",)),
        (["nvlink-4", "--set", "link.pcie-4.latency=1 us"], ("--set: link.pcie-4.latency: ",)),
        (["nvlink-4", "--set", "gpu.latency=1 us"], ("--set: gpu.latency: ",)),
        (["dgx-h100", "--set", "node.sockts=1"], ("--set: node.sockts: ", "did you mean 'sockets'?")),
        (["dgx-h100", "--set", "cluster.nodes=2"], ("--set: cluster.nodes: ", "single node")),
        (["dgx-h100", "--out", "x.jpeg"], ("x.jpeg", "expected .png, .svg or .pdf")),
        (["dgx-h100", "--out", "x"], ("expected .png, .svg or .pdf",)),
        (["dgx-h100", "--out", "file/x.png"], ("file", "cannot be written")),
    ],
)
def test_show_refuses(arguments: list[str], words: tuple[str, ...]) -> None:
    wrote("file", "x")
    message = refused("show", *arguments)
    for word in words:
        assert word in message
