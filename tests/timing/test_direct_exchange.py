"""Rows that go to experts by writes into the memory of other GPUs, against the latencies that DeepEP publishes."""

from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simgpu
from simgpu import Inference, Plan, simulate
from simgpu.timing.direct_exchange import DIRECT_S, SCALE_BYTES, Lanes, direct_time
from simgpu.workload.inference.direct import lanes_of

PUBLISHED = {8: (77, 114), 16: (118, 195), 32: (155, 273), 64: (173, 314), 128: (192, 369), 256: (194, 360)}
"""us of dispatch and combination among so many H800 (deepseek-ai/DeepEP, docs/legacy.md, low-latency kernels)."""
ROWS = 128 * 8 * 7168


def test_published_latencies_are_met():
    errors = []
    for ranks, measured in PUBLISHED.items():
        lanes = Lanes(ranks, 8, 164.8e9, 48.5e9)
        for bytes_each, us in zip((1 + SCALE_BYTES, 2), measured, strict=True):
            errors.append(abs(1e6 * direct_time(lanes, ROWS * bytes_each) / us - 1))
    assert max(errors) < 0.1 and median(errors) < 0.03 and mean(errors) < 0.035


@given(st.integers(1, 64), st.floats(1.0, 1e10), st.floats(1.0, 4.0))
def test_no_transfer_is_faster_than_its_links_or_for_more_bytes(nodes, sent, more):
    lanes = Lanes(8 * nodes, 8, 450e9, 50e9)
    seconds = direct_time(lanes, sent)
    assert seconds >= max(DIRECT_S, sent * (1 - 1 / nodes) / lanes.remote, sent * 7 / (8 * nodes) / lanes.local)
    assert direct_time(lanes, more * sent) >= seconds
    assert direct_time(lanes, sent, sent / 4) <= max(seconds, direct_time(Lanes(8, 8, 450e9, 0.0), sent))


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
    low = layers * 2 * DIRECT_S
    assert low < rows[2]["exposed_ep_s"]
