"""Experiments: what is varied is a column, what is set by hand is said, big traces say what they leave out."""

import json

import pytest
from click.testing import CliRunner

from simgpu import Catalogue, InputError, run_experiment
from simgpu.cli import main

BASE = """\
scenario:
  cluster: dgx-h100-ib
  model: llama-2-7b
  workload: {kind: training, batch: 128, tokens: 64}
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "e.yaml").write_text(BASE + text)
        return tmp_path / "e.yaml"

    return write


def test_varied_keys_are_columns_in_si_units(experiment):
    file = experiment("vary: {workload.tokens: [64, 128], gpu.memory.bandwidth: [1 TB/s, 2 TB/s], plan.tp: [1]}\n")
    rows = run_experiment(file).rows
    assert [(row["workload.tokens"], row["gpu.memory.bandwidth"]) for row in rows] == [
        (64, 1e12), (64, 2e12), (128, 1e12), (128, 2e12),
    ]  # fmt: skip
    assert "plan.tp" not in rows[0], "the column tp says it already"


def test_a_line_has_one_value_at_each_x(experiment):
    text = "vary: {workload.tokens: [64, 128], plan.tp: [1, 2]}\nplots:\n  - {kind: line, x: tp, y: [step_s]%s}\n"
    undrawn = run_experiment(experiment(text % "")).undrawn
    assert "several rows have tp = 1 on one line" in str(undrawn[0])
    assert not run_experiment(experiment(text % ", series: workload.tokens")).undrawn


def test_setting_a_varied_key_takes_the_place_of_its_axis(experiment):
    rows = run_experiment(experiment("vary: {plan.tp: [1, 2, 4]}\n"), "plan.tp=8").rows
    assert [row["tp"] for row in rows] == [8]


def test_what_is_set_by_hand_is_said(experiment):
    result = CliRunner().invoke(main, ["run", str(experiment("")), "--set", "plan.tp=2", "--no-plots"])
    assert "Changed in every row by --set: plan.tp=2" in result.stdout


def test_large_traces_say_what_they_leave_out(experiment):
    file = experiment("vary: {plan.dp: [128], workload.kind: [prefill]}\n")
    result = CliRunner().invoke(main, ["trace", str(file), "-o", "t.json"])
    assert result.exit_code == 0
    assert "the first 8 ranks of each row" in result.stderr, "replicas on other nodes do the same"
    events = json.loads((file.parent / "t.json").read_text())["traceEvents"]
    assert {event["pid"] for event in events} == set(range(8))


NODE = """\
name: box
title: A box of the tests
gpu: {gpu}
sources: {{guide: a made-up guide}}
sockets:
  - {{count: 2, memory_bandwidth: {{value: 100, unit: GB/s, source: guide}}, devices: [gpu]}}
peer_to_peer_scope: {{value: none, source: guide}}
"""


def own(tmp_path, **files):
    for name, text in files.items():
        kind = "clusters" if name == "cluster" else "nodes"
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"{'boxes' if name == 'cluster' else 'box'}.yaml").write_text(text)
    return Catalogue(tmp_path)


def test_sockets_must_be_joined(tmp_path):
    with pytest.raises(InputError, match=r"box\.yaml:5: sockets: several sockets need an inter_socket link"):
        own(tmp_path, node=NODE.format(gpu="l4")).cluster("box")


def test_wiring_needs_links_to_wire(tmp_path):
    node = NODE.format(gpu="l4") + "nvlink: {topology: nvswitch}\n"
    with pytest.raises(InputError, match=r"box\.yaml:8: nvlink: 'l4' has no links of its own"):
        own(tmp_path, node=node).cluster("box")


def test_several_nodes_need_a_fabric_and_nics(tmp_path):
    node = NODE.format(gpu="h100-sxm") + "nvlink: {topology: nvswitch}\n"
    cluster = "name: boxes\ntitle: Boxes\nnode: box\nsources: {a: b}\nnodes: {value: 4, source: a}\n"
    with pytest.raises(InputError, match=r"boxes\.yaml:5: nodes: several nodes need a fabric"):
        own(tmp_path, node=node, cluster=cluster).cluster("boxes")
    one = "{value: 1, source: a}"
    cluster += f"fabric: {{topology: fat-tree, link: ethernet-25g, lanes: {one}, nodes_per_leaf: {one}, "
    with pytest.raises(InputError, match=r"boxes\.yaml:3: node: 'box' has no nic"):
        own(tmp_path, node=node, cluster=cluster + f"oversubscription: {one}}}\n").cluster("boxes")


def test_a_missing_neighbour_of_a_parameter_is_named():
    from simgpu.overrides import Override

    with pytest.raises(InputError, match=r"gpu\.nvlink\.lanes: nvlink\.link: this key is missing"):
        Catalogue().cluster("l40s-pcie-8x", [Override("gpu.nvlink.lanes", 9, "--set")])


@pytest.mark.parametrize("key", ["gpu.name", "gpu.sources.datasheet", "node.title"])
def test_names_and_sources_are_no_parameters(key):
    from simgpu.overrides import Override

    with pytest.raises(InputError, match="cannot be set"):
        Catalogue().cluster("dgx-h100", [Override(key, "x", "--set")])


def test_a_folder_that_holds_nothing_is_no_catalogue(tmp_path):
    with pytest.raises(InputError, match="holds no gpus"):
        Catalogue(tmp_path)
