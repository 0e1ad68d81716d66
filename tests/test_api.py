"""The short calls that `simgpu` offers beside `simulate`: they are the commands, without a terminal."""

import numpy as np
import pytest

import simgpu


def test_a_timer_takes_arrays_and_a_long_run_is_never_faster():
    burst, long = simgpu.load_timer("l40s"), simgpu.load_timer("l40s", sustained=True)
    shapes = ([1, 64, 8192], 8192, 8192)
    times = burst.gemm(*shapes).seconds
    assert times.shape == (3,)
    assert np.all(np.diff(times) > 0)
    assert np.all(long.gemm(*shapes).seconds >= times)
    square = (4096, 4096, 4096)  # the L40S is held by its power limit, but not at once
    assert long.gemm(*square).seconds > 1.1 * burst.gemm(*square).seconds


def test_a_collective_over_sizes():
    cluster = simgpu.load_cluster("dgx-h100")
    times = simgpu.time_collective(cluster, "all_reduce", [2**10, 2**20, 2**30])
    assert np.all(np.diff(times.seconds) > 0)
    assert times.algorithm[2] == "nvls"
    few = simgpu.time_collective(cluster, "all_reduce", [2**30], gpus=2, algorithm="ring")
    assert few.busbw[0] < cluster.port(cluster.gpu.nvlink).bandwidth


def test_explain_is_the_command():
    found = simgpu.explain("tp2_scaling")
    assert len(found) == 8
    assert all(one.operators for one in found)
    published, physical = found[0], found[1]
    assert not published.constants  # given times hang on no constant
    assert {row["source"] for row in physical.constants}


def test_validate_returns_the_document():
    document = simgpu.validate("collectives")
    assert {"source", "gpu", "op", "dtype", "rows", "median_ape", "mape", "p90_ape", "bias", "coverage80"} <= set(
        document["groups"][0]
    )
    assert all(group["op"] in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv")
               for group in document["groups"])  # fmt: skip


def test_unknown_names_are_one_line():
    with pytest.raises(simgpu.InputError, match="h100-sxm"):
        simgpu.load_timer("h100-sxn")
    with pytest.raises(simgpu.InputError, match="collective"):
        simgpu.time_collective(simgpu.load_cluster("dgx-h100"), "all_redduce", [1024])
