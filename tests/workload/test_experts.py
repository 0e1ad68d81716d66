"""Experts in training: host and GPU beside each other, dispatchers, balance, whole experts, versions of a framework."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_scenarios import MODELS

import simgpu
from simgpu import InputError, Plan, Training, simulate
from simgpu.plan.expert_stack import ExpertStack
from simgpu.plan.experts import BALANCES, CUDA_GRAPHS, DISPATCHERS, sent_once
from simgpu.plan.stages import layer_ranges
from simgpu.workload.framework_files import framework
from simgpu.workload.host_code import HostTimes, launched, together

CLUSTER = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=2)
JOB = Training(batch=16, tokens=512)
EXPERTS = replace(MODELS["experts"], layers=2, experts=16, experts_per_token=4)
STACK, HOST = framework("megatron").experts, framework("megatron").host


def row(job: Training = JOB, name: str = "megatron", cluster: object = CLUSTER, **plan: object) -> dict:
    given = {"dp": 8, "ep": 8, "micro_batch": 1, "zero": 1, **plan}
    return dict(simulate(cluster, job, EXPERTS, Plan(**given), framework=name).row)


def host(stack: ExpertStack = STACK, times: HostTimes = HOST, here: int = 16, kind: str = "moe") -> float:
    return times.layer(EXPERTS, kind, stack, here)


# ---- the host ----------------------------------------------------------------------------------------


def test_blocks_of_code_add_up_to_what_was_published() -> None:
    """Per layer of 16 experts a rank with NCCL, fused: 9.2 ms; with graphs of router and preprocessing 7.4."""
    fused = replace(STACK, permute_fusion=True, router_fusion=True)
    assert host(fused) == pytest.approx((1.6 + 2.1 + 2.4 + 1.0 + 16 * 0.13) * 1e-3)
    assert host(replace(fused, cuda_graphs="router")) == pytest.approx((1.6 + 2.4 + 1.0 + 16 * 0.13 + 0.3) * 1e-3)
    assert host(replace(fused, cuda_graphs="layer")) == pytest.approx(0.3e-3)
    assert host(replace(fused, cuda_graphs="full")) == 0
    slower = replace(HOST, slowdown=0.82)
    assert host(fused, slower) == pytest.approx(0.82 * host(fused))


def test_more_graphs_and_fusions_take_the_host_less_time() -> None:
    by_graphs = [host(replace(STACK, cuda_graphs=graphs)) for graphs in CUDA_GRAPHS]
    assert by_graphs == sorted(by_graphs, reverse=True) and len(set(by_graphs)) == len(by_graphs)
    assert host(replace(STACK, permute_fusion=True)) < host()
    assert host(replace(STACK, router_fusion=True)) < host()
    assert host(replace(STACK, grouped="fused")) < host() < host(replace(STACK, grouped="loop"))
    assert host(here=1) < host(here=2)
    assert host(replace(STACK, expert_overlap=True)) > host()


def test_host_and_gpu_are_a_smooth_maximum() -> None:
    assert together(3.0, 0.0) == together(0.0, 3.0) == 3.0 and together(0.0, 0.0) == 0.0
    assert together(1.0, 10.0) == pytest.approx(10, rel=1e-4)
    assert together(2.0, 2.0) == pytest.approx(2 * 2**0.25) and together(1e-300, 1e-300) > 0


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=4), st.booleans())
def test_a_host_that_runs_ahead_is_waited_for_no_longer_than_pass_by_pass(passes, again) -> None:
    host, gpu = zip(*passes, strict=True)
    seconds = launched(host, gpu, again)
    alone = [max(both) for both in passes]
    assert all(one <= other + 1e-9 for one, other in zip(gpu, seconds, strict=True))
    assert all(one <= other + 1e-9 for one, other in zip(seconds, alone, strict=True))
    longest = max(sum(host), sum(gpu))
    assert sum(seconds) >= longest - 1e-9
    if again and len(passes) == 2:  # forward and backward in turns: the longer of both, and no more
        assert sum(seconds) == pytest.approx(longest)


def test_a_dense_layer_that_the_gpu_takes_longer_for_hides_its_host() -> None:
    plan = Plan(tp=8, sequence_parallel=True, zero=1, micro_batch=1)

    def step(tokens: int, **more: str) -> float:
        asked = Training(batch=2, tokens=tokens)
        return simulate("dgx-h100", asked, "llama-2-7b", replace(plan, **more), framework="megatron").step_s

    assert step(4096) == pytest.approx(step(4096, cuda_graphs="full"), rel=1e-6)
    assert step(2048) > 1.3 * step(2048, cuda_graphs="full")


def test_a_small_microbatch_waits_for_the_host_and_a_graph_does_not() -> None:
    eager, whole = row(), row(cuda_graphs="full")
    assert whole["host_exposed_s"] < 0.02 * eager["host_exposed_s"]
    assert eager["step_s"] > 2 * whole["step_s"]
    assert 0 < eager["host_exposed_s"] < eager["host_s"]
    layers, microbatches = EXPERTS.layers, 2
    least = layers * microbatches * host(here=2)
    assert eager["step_s"] > least


def test_a_slow_processor_is_a_figure_of_the_node() -> None:
    slow = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=2, node__sockets__0__cpu_slowdown=2)
    assert row(cluster=slow)["host_exposed_s"] > 1.7 * row()["host_exposed_s"]
    assert row(cluster=slow, cuda_graphs="full")["step_s"] == row(cuda_graphs="full")["step_s"]


# ---- dispatchers and balance -------------------------------------------------------------------------


@pytest.mark.parametrize(("places", "visits", "share"), [(8, 8, 0.66), (16, 8, 0.81), (2, 8, 0.25), (4, 8, 0.45)])
def test_a_row_goes_once_to_a_place(places: int, visits: int, share: float) -> None:
    assert sent_once(places, visits) == pytest.approx(share, abs=0.01)
    assert sent_once(1, visits) == 1 / visits and sent_once(10**6, visits) == pytest.approx(1, rel=1e-5)


def test_dispatchers_send_what_they_say() -> None:
    """Bytes of the exchange of one step, over those of NCCL; whole iterations, so that nothing else differs."""
    sent = {one: row(cuda_graphs="full", dispatcher=one)["communication_bytes"] for one in DISPATCHERS}
    assert sent["deepep"] == sent["hybridep"] < sent["alltoall"] < sent["allgather"]


def test_the_busiest_rank_sets_the_pace() -> None:
    long = Training(batch=16, tokens=4096)
    steps = [row(long, cuda_graphs="full", balance=name)["step_s"] for name in BALANCES]
    assert steps == sorted(steps) and steps[0] < steps[-1]
    capped = row(long, cuda_graphs="full", balance="none", capacity_factor=1.0)
    assert capped["step_s"] == row(long, cuda_graphs="full", balance="even")["step_s"]
    assert row(ep=1, cuda_graphs="full", balance="none")["step_s"] == row(ep=1, cuda_graphs="full")["step_s"]


def test_waits_are_those_of_the_dispatcher() -> None:
    fused = replace(STACK, permute_fusion=True)
    plain, capped = Plan(dp=8, ep=8), Plan(dp=8, ep=8, capacity_factor=1)
    assert fused.waits(plain) == 1 and STACK.waits(plain) == 3
    assert replace(fused, dispatcher="allgather").waits(plain) == 2
    assert fused.waits(capped) == 0 == replace(fused, cuda_graphs="full").waits(plain)


def test_overlap_hides_a_share_and_takes_multiprocessors() -> None:
    long = Training(batch=16, tokens=4096)
    apart, beside = (row(long, cuda_graphs="full", expert_overlap=on) for on in (False, True))
    assert beside["exposed_ep_s"] < 0.5 * apart["exposed_ep_s"]
    assert apart["exposed_ep_s"] > apart["step_s"] - beside["step_s"] > 0
    assert beside["compute_s"] > apart["compute_s"]


# ---- what a plan can say -----------------------------------------------------------------------------


def test_whole_experts_go_over_tensor_ranks_too() -> None:
    plan = Plan(tp=2, dp=4, ep=8, expert_tp=1, sequence_parallel=True)
    assert plan.group("ep", 0) == tuple(range(8)) and plan.group("expert", 0) == (0,)
    found = simulate(CLUSTER, JOB, EXPERTS, replace(plan, zero=1, micro_batch=1)).row
    split = simulate(CLUSTER, JOB, EXPERTS, Plan(tp=2, dp=4, ep=4, sequence_parallel=True, zero=1, micro_batch=1)).row
    assert found["weights_bytes_per_gpu"] == pytest.approx(split["weights_bytes_per_gpu"], rel=1e-6)
    assert found["flop"] == split["flop"]
    with pytest.raises(InputError, match=r"with plan\.expert_tp 1 experts go over tp too"):
        simulate(CLUSTER, JOB, EXPERTS, Plan(tp=2, dp=4, ep=8, sequence_parallel=True))
    with pytest.raises(InputError, match="sequence_parallel true"):
        simulate(CLUSTER, JOB, EXPERTS, replace(plan, sequence_parallel=False))
    with pytest.raises(InputError, match="expected 4 or 1"):
        Plan(tp=4, expert_tp=2)


def test_one_rank_stands_for_all_where_whole_experts_go_over_tensor_ranks() -> None:
    plan = Plan(
        tp=2, dp=4, pp=2, ep=4, expert_tp=1, sequence_parallel=True, zero=1, micro_batch=1, dispatcher="hybridep"
    )  # fmt: skip
    whole, each = (simulate(CLUSTER, JOB, EXPERTS, plan, folded=folded).row["step_s"] for folded in (True, False))
    assert whole == pytest.approx(each, rel=1e-9)


def test_stages_hold_the_layers_that_are_listed() -> None:
    deep = simgpu.load_model("deepseek-v3")
    plan = Plan(pp=16, dp=1, stage_layers=(4,) * 15 + (1,))
    assert [len(chunk) for stage in layer_ranges(deep.layers, plan) for chunk in stage] == [4] * 15 + [1]
    with pytest.raises(InputError, match="60 layers are listed; the model has 61"):
        layer_ranges(deep.layers, Plan(pp=4, stage_layers=(15,) * 4))
    with pytest.raises(InputError, match="2 chunks, where pp 4 x vp 1 = 4"):
        Plan(pp=4, stage_layers=(30, 31))
    cut = {"pp": 2, "dp": 1, "micro_batch": 1, "cuda_graphs": "full", "ep": 1}
    even, same = row(**cut), row(**cut, stage_layers=(1, 1))
    assert even["step_s"] == same["step_s"] < row(**cut, stage_layers=(2, 0))["step_s"]


def test_a_version_falls_to_the_last_file_before_it() -> None:
    assert framework("megatron-bridge@26.02") is framework("megatron-bridge@25.11")
    assert framework("megatron-bridge@26.04.01") is framework("megatron-bridge@26.04")
    assert framework("megatron-bridge") is framework("megatron-bridge@26.06")
    for name in ("megatron-bridge@25.07", "megatron-brigde@26.04", "megatron-bridge@new", "megatron@25.09"):
        with pytest.raises(InputError, match="unknown framework"):
            framework(name)


def test_unknown_settings_name_the_nearest() -> None:
    with pytest.raises(InputError, match="hybridep"):
        Plan(dispatcher="hybridpe")
    with pytest.raises(InputError, match="dispatcher"):
        Plan.of({"dispatchers": "deepep"})


def test_biases_and_clamped_gates_stream_until_they_are_fused() -> None:
    """Up to 26.04: some 80 passes over the output of the first product, 2 bytes each, forward and backward."""
    for name, passes in (("megatron-bridge@26.04", 80), ("megatron-bridge@26.06", 4)):
        stack = framework(name)
        kernels = (*stack.forward["clamped"], *stack.backward["clamped"])
        assert sum(one.reads + one.writes for one in kernels) / 2 == pytest.approx(passes, rel=0.1), name
