"""The command line: `list` and `show`, and where files of the catalogue are found."""

# ruff: noqa: F811 - fixtures are imported, and are arguments too

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from command_line import (  # noqa: F401 - fixtures
    GPU,
    LLAMA,
    ROOT,
    TINY_MODEL,
    TP2,
    _elsewhere,
    _file,
    document,
    everything_below,
    own,
    prefill,
    simgpu,
)

from simgpu.catalog import Catalogue
from simgpu.cli import LISTED, main

# ---- list and show -----------------------------------------------------------------------------------

FOLDERS = {
    "models": ROOT / "models",
    "networks": ROOT / "models",
    "runtimes": ROOT / "runtimes",
    "frameworks": ROOT / "frameworks",
    "families": ROOT / "families",
    "gpus": ROOT / "hardware/gpus",
    "nodes": ROOT / "hardware/nodes",
    "clusters": ROOT / "hardware/clusters",
    "experiments": ROOT / "experiments",
    "links": ROOT / "hardware" / "links",
    "architectures": ROOT / "hardware" / "architectures",
    "reliability": ROOT / "hardware" / "reliability",
    "cooling": ROOT / "hardware" / "cooling",
}


OF_FIGURES = {"prices": ["h100-sxm", "electricity"], "quality": ["fp8", "q4_k_m"]}
"""Kinds whose files hold figures of things, by which they are listed."""


def _names(kind: str) -> list[str]:
    if kind == "instances":  # a file holds those of a cloud
        return list(Catalogue().instances)
    ending = ".json" if kind == "models" else ".yaml"
    return sorted(path.stem for path in FOLDERS[kind].iterdir() if path.suffix == ending and path.stem != "SOURCES")


def test_list_of_prices_names_every_quote_that_is_taken() -> None:
    text = simgpu("list", "prices").stdout
    assert "h100-sxm" in text and "3.29 USD/h, on demand, Lambda Labs, 2025-02-28 (middle of 8, 2.45 to 12.29)" in text


@pytest.mark.parametrize("kind", [kind for kind in LISTED if kind not in OF_FIGURES])
def test_list_shows_every_name_with_a_title(kind: str) -> None:
    lines = simgpu("list", kind).stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert (sorted(names) if kind == "runtimes" else names) == _names(kind)  # versions stand by age: 0.4 before 0.12
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines), "an entry has no title"


def test_list_without_a_kind_shows_all_kinds() -> None:
    text = simgpu("list").stdout
    for kind in LISTED:
        assert f"{kind}:\n" in text
        for name in OF_FIGURES.get(kind) or _names(kind):
            assert f"\n  {name} " in text


def test_show_gpu_has_units_sources_and_inherited_constants(tmp_path: Path) -> None:
    text = simgpu("show", "h100-sxm").stdout
    assert "3.35 TB/s" in text and "80 GiB" in text and "989.4 TFLOP/s" in text
    assert "NVIDIA H100 Tensor Core GPU datasheet" in text
    assert text.count("energy_per_flop 9.2e-13 J/FLOP") == 1
    assert "kernel.gemm.weight-only" in text and "kernel.gemm.default.energy_per_flop" not in text
    every = simgpu("show", "h100-sxm", "--constants").stdout
    assert every.count("kernel.compute_fraction ") == 1 and every.count("kernel.gemm.default.energy_per_flop ") == 1
    assert len(text.splitlines()) < 0.5 * len(every.splitlines())
    assert everything_below(tmp_path) == []


def test_show_applies_settings() -> None:
    assert "1.5 TB/s" in simgpu("show", "h100-sxm", "--set", "gpu.memory.bandwidth=1.5 TB/s").stdout
    assert "100 GB/s" in simgpu("show", "dgx-h100", "--set", "gpu.nvlink.bandwidth=121.359 GB/s").stdout


def test_show_model_counts_its_parameters(tmp_path: Path) -> None:
    text = simgpu("show", "llama-2-7b").stdout
    assert "6,738,415,616" in text
    assert everything_below(tmp_path) == []


def test_show_link_and_architecture() -> None:
    assert "25 GB/s" in simgpu("show", "nvlink-4").stdout
    assert "kernel.memory_fraction" in simgpu("show", "hopper").stdout


@pytest.mark.parametrize("name", ["dgx-h100", "rtx-3090-nvlink-8x", "dgx-h100-ib"])
def test_show_draws_nodes_and_clusters(tmp_path: Path, name: str) -> None:
    result = simgpu("show", name, "--out", f"{name}.png")
    assert "Edges, per direction" in result.stdout and "GB/s" in result.stdout
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert f"{name}.png" in result.stderr
    assert len(everything_below(tmp_path)) == 1


def test_show_draws_where_it_is_told_to(tmp_path: Path) -> None:
    simgpu("show", "dgx-h100", "--out", "box.svg")
    assert everything_below(tmp_path) == ["box.svg"]
    ElementTree.parse("box.svg")


def test_show_writes_nothing_that_was_not_asked_for(tmp_path: Path) -> None:
    assert "4 of 128 nodes" in simgpu("show", "dgx-h100-ib", "--nodes", 4).stdout
    assert everything_below(tmp_path) == []


def test_help_cuts_no_sentence_and_has_an_example_of_every_command() -> None:
    lines = simgpu("--help").stdout.splitlines()
    commands = lines[lines.index("Commands:") + 1 : -2]  # an example of all stands below them
    assert [line.split()[0] for line in commands] == sorted(main.commands)
    assert all(line.endswith(".") and not line.endswith("...") and len(line) <= 80 for line in commands)
    for name in main.commands:
        *_, last = simgpu(name, "--help").stdout.splitlines()
        assert last.startswith(f"  Example: simgpu {name}") and len(last) <= 80, name


# ---- where things are found --------------------------------------------------------------------------


def test_an_experiment_by_name_is_the_one_by_path() -> None:
    by_name, by_path = document("tp2_scaling"), document(TP2)
    assert by_name["rows"] == by_path["rows"]
    assert document(os.path.relpath(TP2))["rows"] == by_path["rows"]


@pytest.mark.parametrize("layout", [".", "hardware"], ids=["flat", "hardware/"])
@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_catalogue_of_the_users_own(own: Path, monkeypatch: pytest.MonkeyPatch, way: str, layout: str) -> None:
    if layout == "hardware":
        (own / "hardware").mkdir()
        for kind in ("gpus", "nodes"):
            (own / kind).rename(own / "hardware" / kind)
    option = ["--catalog", str(own)] if way == "option" else []
    if way == "environment":
        monkeypatch.setenv("SIMGPU_CATALOG", os.pathsep.join(["", str(own)]))
    row = json.loads(simgpu(*option, "run", "mine", "--format", "json", "--no-plots").stdout)["rows"][0]
    assert (row["model"], row["cluster"], row["gpu"], row["tp"]) == ("tiny-llama", "tiny-box", "tiny", 2)
    for kind, name in {"gpus": "tiny", "nodes": "tiny-box", "models": "tiny-llama", "experiments": "mine"}.items():
        names = [line.split()[0] for line in simgpu(*option, "list", kind).stdout.splitlines()]
        assert name in names and set(_names(kind)) < set(names)
    assert "a made-up datasheet" in simgpu(*option, "show", "tiny").stdout
    assert "gpu0" in simgpu(*option, "show", "tiny-box").stdout
    assert "256" in simgpu(*option, "show", "tiny-llama").stdout
    experiment = own / "experiments" / "mine.yaml"
    assert json.loads(simgpu(*option, "run", experiment, "--format", "json", "--no-plots").stdout)["rows"] == [row]


def test_a_users_file_goes_before_the_built_in_one(own: Path, prefill: Path) -> None:
    changed = (ROOT / "hardware/gpus/h100-sxm.yaml").read_text().replace("value: 3.35,", "value: 1.25,")
    _file(own / "gpus/h100-sxm.yaml", changed)
    text = simgpu("--catalog", own, "resolve", prefill).stdout
    assert json.loads(text)["scenarios"][0]["gpu.memory.bandwidth"]["value"] == 1.25e12
    assert json.loads(simgpu("resolve", prefill).stdout)["scenarios"][0]["gpu.memory.bandwidth"]["value"] == 3.35e12


def test_several_catalogues_are_searched_in_order(own: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    _file(first / "gpus/tiny.yaml", GPU.replace("A GPU of the tests", "The nearer one"))
    assert "The nearer one" in simgpu("--catalog", first, "--catalog", own, "show", "tiny").stdout
    assert "A GPU of the tests" in simgpu("--catalog", own, "--catalog", first, "show", "tiny").stdout


@pytest.mark.parametrize("given", ["config.json", "folder", "other.json"])
def test_a_model_is_found_by_path(tmp_path: Path, given: str) -> None:
    name = "mine" if given != "other.json" else "other"
    file = _file(tmp_path / "mine" / ("other.json" if given == "other.json" else "config.json"), json.dumps(TINY_MODEL))
    path = file.parent if given == "folder" else file
    found = document(LLAMA, "--set", f"model={path}")
    assert len(found["rows"]) == 20
    assert {row["model"] for row in found["rows"]} == {name}
    scenario = found["scenarios"][0]
    assert scenario["model.hidden"]["value"] == 256 and str(path) in scenario["model.hidden"]["source"]
    assert scenario["model"] == {"value": str(path), "source": "--set"}
