"""Rows that go to experts by writes into the memory of other GPUs, against the latencies that DeepEP publishes."""

import csv
import gzip
import os
from math import log
from pathlib import Path
from statistics import mean, median
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simgpu
from simgpu import Inference, Plan, simulate
from simgpu.model.operators import ExpertLayer
from simgpu.plan.experts import sent_once
from simgpu.plan.program import Collective
from simgpu.timing.direct_exchange import (
    BETWEEN_S,
    COUNTS_S,
    INSIDE_S,
    SCALE_BYTES,
    Lanes,
    low_latency_time,
    normal_time,
)
from simgpu.workload.inference.direct import directly, lanes_of

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[3] / "shared/measurements"))
TABLE = FOLDER / "kernels2026/deepep.csv.gz"

PUBLISHED = {8: (77, 114), 16: (118, 195), 32: (155, 273), 64: (173, 314), 128: (192, 369), 256: (194, 360)}
"""us of dispatch and combination among so many H800 (deepseek-ai/DeepEP, docs/legacy.md, low-latency kernels)."""
ROWS = 128 * 8 * 7168


def test_published_latencies_are_met():
    errors = []
    for ranks, measured in PUBLISHED.items():
        lanes = Lanes(ranks, 8, 164.8e9, 48.5e9)
        for bytes_each, us in zip((1 + SCALE_BYTES, 2), measured, strict=True):
            errors.append(abs(1e6 * low_latency_time(lanes, ROWS * bytes_each) / us - 1))
    assert max(errors) < 0.18 and median(errors) < 0.03 and mean(errors) < 0.045


@given(st.integers(1, 64), st.floats(1.0, 1e10), st.floats(1.0, 4.0))
def test_no_transfer_is_faster_than_its_links_or_for_more_bytes(nodes, sent, more):
    lanes = Lanes(8 * nodes, 8, 450e9, 50e9)
    seconds = low_latency_time(lanes, sent)
    assert seconds >= max(INSIDE_S, sent * (1 - 1 / nodes) / lanes.remote, sent * 7 / (8 * nodes) / lanes.local)
    assert low_latency_time(lanes, more * sent) >= seconds
    assert normal_time(lanes, sent, sent) <= normal_time(lanes, more * sent, sent)
    assert normal_time(lanes, sent, sent) <= normal_time(lanes, sent, more * sent)


def test_lanes_are_those_of_the_machine():
    cluster = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=4)
    two = lanes_of(cluster, range(16))
    assert (two.ranks, two.here) == (16, 8)
    assert two.local == pytest.approx(450e9, rel=0.2) and two.remote == pytest.approx(50e9, rel=0.05)
    assert lanes_of(cluster, range(8, 16)) == two._replace(ranks=8, remote=0.0)


def test_decode_over_nodes_is_faster_with_kernels_of_low_latency():
    cluster = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=4)
    job = Inference(batch=32 * 32, prompt=1024, output=16, precision="fp8-block", runtime="sglang")
    rows = [
        simulate(cluster, job, "deepseek-v3", Plan(dp=32, ep=32, dispatcher=name)).row
        for name in (None, "alltoall", "deepep")
    ]
    assert rows[0]["tpot_s"] == rows[1]["tpot_s"] > rows[2]["tpot_s"] > 0.5 * rows[0]["tpot_s"]
    layers = 58
    low = layers * 2 * BETWEEN_S
    assert low < rows[2]["exposed_ep_s"]


def test_the_host_waits_for_counts_before_a_dispatch_of_prompts_alone():
    lanes, pairs = Lanes(8, 8, 450e9, 0.0), {}
    layer = Mock(spec=ExpertLayer, topk=8, dtype="bf16")
    for decode in (False, True):
        out, back = (Collective(name, "all_to_all", "experts", 1e6) for name in ("dispatch", "combine"))
        made = [one.extra_s for one in directly((out, layer, back), lanes, decode) if isinstance(one, Collective)]
        pairs[decode] = made
    assert pairs[False][0] - pairs[False][1] == pytest.approx(COUNTS_S)
    assert pairs[True][0] == pairs[True][1]


@pytest.mark.skipif(not TABLE.is_file(), reason=f"no measurements in {FOLDER}")
@pytest.mark.parametrize(("gpu", "most"), [("h100-sxm", 0.2), ("b200-sxm", 0.22)])
def test_kernels_inside_a_node_take_what_was_measured(gpu, most):
    lanes = lanes_of(simgpu.load_cluster({"h100-sxm": "dgx-h100", "b200-sxm": "dgx-b200"}[gpu]), range(8))
    errors = {"ll": [], "normal": []}
    with gzip.open(TABLE, "rt") as stream:
        for row in csv.DictReader(stream):
            if row["gpu"] != gpu or row["sms"] not in ("0", "20"):
                continue
            experts, wide = int(row["topk"]), 1 + SCALE_BYTES if row["phase"] == "dispatch" else 2
            sent = int(row["num_tokens"]) * experts * int(row["hidden_size"]) * wide
            low = row["mode"] == "ll"
            seconds = low_latency_time(lanes, sent) if low else normal_time(lanes, sent * sent_once(8, experts), 0.0)
            errors[row["mode"]].append(abs(log(seconds / float(row["latency_s"]))))
    assert all(len(found) > 100 and median(found) < most for found in errors.values())
