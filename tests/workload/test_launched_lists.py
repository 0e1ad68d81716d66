"""Lists of operators whose host launches each kernel."""

import pytest

import simgpu
from simgpu.workload.networks.stacks import stack

LAUNCH = stack("pytorch").launch


def run(count, size, **more):
    product = {"op": "matmul", "m": size, "n": size, "k": size}
    return simgpu.simulate("h100-sxm", simgpu.OperatorList(operators=[product] * count, **more), dtype="bf16")


def test_short_kernels_wait_for_their_launches():
    alone, launched = run(100, 256), run(100, 256, stack="pytorch")
    last = alone.step_s / 100
    assert launched.step_s == pytest.approx(100 * LAUNCH + last, rel=1e-9)
    assert launched.idle_s == pytest.approx(launched.step_s - alone.step_s, rel=1e-9)
    assert (launched.compute_s, launched.communication_s) == (pytest.approx(alone.compute_s), 0)


def test_a_host_that_runs_ahead_costs_its_first_launch():
    alone, launched = run(20, 8192), run(20, 8192, stack="pytorch")
    assert launched.step_s == pytest.approx(alone.step_s + LAUNCH, rel=1e-9)


def test_stacks_with_cuda_graphs_wait_for_none():
    assert run(50, 256, stack="compiled").step_s == run(50, 256).step_s


def test_launches_of_repeated_lists_go_on():
    assert run(1, 256, repeat=2000, stack="pytorch").step_s == pytest.approx(2000 * LAUNCH, rel=1e-2)


def test_ranks_wait_for_the_launch_of_a_collective():
    operators = [{"op": "all_reduce", "bytes": 1024.0}] * 10
    one = {"op": "matmul", "m": 256, "n": 256, "k": 256, "split": "none"}
    job = simgpu.OperatorList(operators=[one, *operators], stack="pytorch")
    found = simgpu.simulate("dgx-h100", job, dtype="bf16", plan={"tp": 4})
    assert found.step_s >= 11 * LAUNCH


def test_an_unknown_stack_is_one_line():
    with pytest.raises(simgpu.InputError, match=r"workload\.stack: unknown stack 'torch'"):
        run(1, 256, stack="torch")
