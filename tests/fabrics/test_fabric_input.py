"""What cannot be, of fabrics, placements and faults, is one line that says where and what would do."""

import re

import pytest
from click.testing import CliRunner

from simgpu import Catalogue, InputError, load_cluster, simulate
from simgpu.cli import main

FABRICS = {
    "kind: fat_tree, link: infiniband-ndr, lanes: 1, radix: 4": r"radix 4 .*joins .*expected radix \d+",
    "kind: fat_trie, link: infiniband-ndr, lanes: 1, radix: 64": "kind 'fat_trie' is not known; did you mean",
    "kind: fat_tree, link: infiniband-ndr, lanes: 1": "has neither radix nor nodes_per_leaf",
    "kind: torus, link: infiniband-ndr, lanes: 1": "dims must be given for 'torus'",
    "kind: torus, link: infiniband-ndr, lanes: 1, dims: [3, 5]": "a torus of 3 x 5 joins 15 nodes, not 16",
    "kind: torus, link: infiniband-ndr, lanes: 1, dims: [4, 4], radix: 64": "radix and nodes_per_leaf are of fabrics",
    "kind: torus, link: infiniband-ndr, lanes: 1, dims: [4, 4], routing: ecmp": "has no equal ways for 'ecmp'",
    "kind: fat_tree, link: infiniband-ndr, lanes: 1, radix: 64, tiers: 4": "4 is not a whole number from 2 to 3",
    "kind: fat_tree, link: infiniband-ndr, lanes: 1, radix: 64, routing: {kind: ideal, seed: 1}": "are of 'ecmp'",
    "kind: fat_tree, topology: torus, link: infiniband-ndr, lanes: 1": "kind is 'fat_tree' and topology 'torus'",
    "kind: torus, link: infiniband-ndr, lanes: 1, dims: [4, 4], sharp: true": "switches of 'torus' do not reduce",
    "kind: rail, link: infiniband-ndr, lanes: 1, radix: 64, sharp: true, routing: ecmp": "sharp is of InfiniBand",
    "kind: rail_only, link: infiniband-ndr, lanes: 1, radix: 64, pxn: false": "has no other way from rail to rail",
}
REST = {
    "placement: {kind: listed, nodes: [3, 3]}": "node 3 is given twice",
    "placement: {kind: listed, nodes: [99]}": "node 99 is not among its 16 nodes",
    "placement: {kind: listed, nodes: 'rack[7-'}": "names no nodes; expected such as",
    "placement: scattered": "'scattered' is not known; expected one of listed",
    "degraded: [{node: 99, nic: 1}]": "node 99 is not among its 16 nodes",
    "degraded: [{node: 1, nic: 8}]": "nic 8 is not among the 8 of a node",
    "degraded: [{nic: 1}]": "node must be given for a nic",
    "degraded: [{node: 1, gpu: 1}]": "runs no job; expected rate",
    "degraded: [{leaf: 999}]": "leaf 999 is not among",
    "degraded: [{planes: 1}]": "1 planes lost leave none of 1",
    "degraded: [{node: 1, nic: 2, rate: 1.5}]": "less than 1",
    "degraded: [{node: 1, nic: 2, gpu: 3}]": "2 are given",
}


def refused(folder, fabric, more=""):
    (folder / "clusters").mkdir(exist_ok=True)
    text = "name: mine\ntitle: mine\nnode: dgx-h100\nsources: {plan: x}\nnodes: {value: 16, source: plan}\n"
    (folder / "clusters" / "mine.yaml").write_text(f"{text}fabric: {{{fabric}}}\n{more}\n")
    with pytest.raises(InputError) as caught:
        load_cluster("mine", Catalogue(folder))
    assert "\n" not in str(caught.value) and "mine.yaml:" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("fabric", FABRICS)
def test_a_fabric_that_cannot_be(tmp_path, fabric):
    assert re.search(FABRICS[fabric], refused(tmp_path, fabric))


@pytest.mark.parametrize("more", REST)
def test_a_placement_or_a_fault_that_cannot_be(tmp_path, more):
    assert REST[more] in refused(tmp_path, "kind: rail, link: infiniband-ndr, lanes: 1, radix: 64", more)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["what-breaks", "tp2_scaling"], "is no training step"),
        (["what-breaks", "lost_nic", "--case", "99"], "--case: 99"),
        (["share", "placement"], "both stand on node"),
        (["share", "tp2_scaling"], "is no training job"),
    ],
)
def test_commands_say_what_they_cannot_do(arguments, problem):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2 and problem in done.output and "Traceback" not in done.output
    assert done.output.strip().count("\n") == 0


def test_slow_gpus_are_of_training():
    slow = load_cluster("dgx-h100-ib", cluster__degraded=[{"node": 0, "gpu": 1, "rate": 0.5}])
    with pytest.raises(InputError, match="slow GPUs are of training steps, not of prefill"):
        simulate(slow, {"kind": "prefill", "batch": 1, "tokens": 128}, "llama-3.1-8b", {"tp": 8})
