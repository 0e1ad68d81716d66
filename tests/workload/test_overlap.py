"""Communication beside computing: hidden, but not for nothing; slower links never help."""

from dataclasses import replace

import pytest
from sampling import sampled

from simgpu import Plan, Training, simulate
from simgpu.analysis.training import anatomy
from simgpu.analysis.uncertainty import parts_of
from simgpu.engine import Phase
from simgpu.engine.timeline import outside, union
from simgpu.plan.numerics import Numerics
from simgpu.timing.kernels import NONE
from simgpu.workload.links import Call, Links
from simgpu.workload.training.update import _host_share

FORWARD_ONLY = Numerics(optimizer="none")


class Free(Links):
    def _all(self, *given):
        call = Call(0.0, NONE, 0.0, None, 0.0)
        return [replace(one, phases=(Phase(0.0),), call=call) for one in super()._all(*given)]


def moved(execution):
    """Seconds in which a rank's collectives between blocks run."""
    return sum(execution.timeline.end[i] - execution.timeline.start[i]
               for i in execution.timeline.of(execution.streams[0]["grad"]))  # fmt: skip


@pytest.mark.parametrize("plan", [Plan(dp=16), Plan(dp=16, zero=3), Plan(tp=2, dp=8, zero=1)])
def test_an_overlapped_step_lies_between_the_longest_part_and_the_sum(stage, plan):
    style = "pytorch-eager" if plan.zero == 3 else "megatron"
    some = replace(plan, micro_batch=1)
    run, free = (
        stage.run("dgx-h100-ib", some, 32, numerics=FORWARD_ONLY, style=style, links=links) for links in (Links, Free)
    )
    assert max(free.step, moved(run)) < run.step < free.step + moved(run)


def test_a_hidden_reduction_takes_multiprocessors_from_kernels(stage):
    """Beside an all-reduce the same kernels take longer, by less than the share of multiprocessors it holds."""
    run, free = (
        stage.run("dgx-h100", Plan(dp=8, micro_batch=1, cuda_graphs="full"), 16, numerics=FORWARD_ONLY, links=links)
        for links in (Links, Free)
    )
    busy = [anatomy(one).classes for one in (run, free)]
    beside, alone = (sum(classes.values()) for classes in busy)
    reduction = next(part for part in parts_of(run, 0) if part.activity.group == "grad")
    share = reduction.activity.chosen.channels / 132
    hidden = moved(run) - anatomy(run).exposed["data"]
    assert hidden > 0
    assert beside - alone == pytest.approx(hidden * share, rel=0.02)


def test_without_overlap_reductions_wait_for_the_end_of_backward(stage):
    late = stage.run("dgx-h100-ib", Plan(dp=16, micro_batch=1, overlap_gradients=False), 16, numerics=FORWARD_ONLY)
    soon = stage.run("dgx-h100-ib", Plan(dp=16, micro_batch=1), 16, numerics=FORWARD_ONLY)
    assert anatomy(late).exposed["data"] == pytest.approx(moved(late), rel=1e-9)
    assert soon.step < late.step


def spans(execution, stream):
    timeline = execution.timeline
    return [(timeline.labels[i], timeline.start[i], timeline.end[i]) for i in timeline.of(execution.streams[0][stream])]


@pytest.mark.parametrize("zero", [2, 3])
def test_without_overlap_nothing_is_computed_beside_sharded_weights_and_gradients(stage, zero):
    """FSDP without prefetch: a unit's weights come when the unit before it is done; reductions hold up the next."""
    names = {"gather weights": "overlap_weights", "reduce gradients": "overlap_gradients"}
    steps = {}
    for off in ((), *((name,) for name in names), tuple(names)):
        plan = Plan(dp=16, zero=zero, micro_batch=1, **{names[name]: False for name in off})
        run = stage.run("dgx-h100-ib", plan, 32, style="pytorch-eager")
        steps[off] = run.step
        busy = union((start, end) for label, start, end in spans(run, "compute"))
        for name in off:
            moves = [(start, end) for label, start, end in spans(run, "grad") if label.name == name]
            assert moves
            assert sum(outside([one], busy) for one in moves) == pytest.approx(sum(b - a for a, b in moves), rel=1e-9)
    both = steps.pop(tuple(names))
    assert steps[()] < min(steps[name,] for name in names)
    # gathers without prefetch queue behind the reductions before them, which then hide beside nothing either
    assert max(steps.values()) <= both and steps["reduce gradients",] < both


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_cutting_up_collectives_never_hides_less_than_weight_gradients_do(stage, sequence_parallel):
    plan = Plan(tp=8, sequence_parallel=sequence_parallel, micro_batch=1)
    plain, cut = (stage.run("dgx-h100", replace(plan, async_tp=flag), 1).step for flag in (False, True))
    assert cut < plain if sequence_parallel else cut == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("name", ["dgx-h100", "gb200-nvl72"])
def test_offloaded_states_have_the_memory_of_the_ranks_sockets(stage, name):
    """All sockets of a server are joined, however few ranks share them; a superchip has its own processor's."""
    cluster = stage.cluster(name)
    sockets = cluster.node.sockets
    each, count = sockets[0].memory_bandwidth.si, sum(one.count for one in sockets)
    for ranks in (1, 4, cluster.gpus_per_node):
        expected = each * count / ranks if name == "dgx-h100" else each / min(2, ranks)
        assert _host_share(cluster, ranks) == pytest.approx(expected)


PLANS = [Plan(dp=32), Plan(dp=32, zero=3), Plan(tp=4, pp=2, dp=4, micro_batch=1), Plan(cp=2, dp=16, zero=1),
         Plan(pp=4, vp=2, dp=8, micro_batch=1, zero=1), Plan(dp=32, zero=3, shard=8)]  # fmt: skip


@pytest.mark.parametrize("plan", sampled(PLANS, 3))
def test_throughput_never_rises_when_links_get_slower(stage, plan):
    rates = []
    for speed in (0.1, 0.3, 1, 3, 10):
        cluster = stage.cluster("dgx-h100-ib", **{"link.infiniband-ndr.lane_bandwidth": f"{speed * 12.5} GB/s"})
        result = simulate(cluster, Training(batch=64, tokens=1024), stage.dense, plan, algorithm="ring")
        rates.append(result.row["tokens_per_s_per_gpu"])
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_the_same_program_gives_the_same_timeline(stage):
    plan = Plan(tp=2, pp=2, dp=4, zero=1, vp=2, micro_batch=1)
    first, second = (stage.run("dgx-h100-ib", plan, 16) for _ in range(2))
    assert list(first.timeline.end) == list(second.timeline.end)


def test_gathers_of_sharded_weights_stay_two_units_ahead(stage):
    """The weights of a unit are gathered only once the unit two before it is done (PyTorch FSDP, limit_all_gathers)."""
    run = stage.run("dgx-h100", Plan(dp=8, zero=3, micro_batch=1), 8, style="pytorch-eager")
    timeline, streams = run.timeline, run.streams[0]
    passes = [i for i in timeline.of(streams["compute"]) if timeline.labels[i].kind == "forward"]
    gathers = [i for i in timeline.of(streams["grad"]) if timeline.labels[i].name == "gather weights"][: len(passes)]
    assert len(passes) == stage.dense.layers + 2  # embedding and head
    for n in range(2, len(passes)):
        assert timeline.start[gathers[n]] >= timeline.end[passes[n - 2]]
        assert timeline.start[passes[n]] >= timeline.end[gathers[n]]


def test_copies_of_shards_are_summed_beside_the_next_shards(stage):
    """HSDP: the all-reduce between nodes has a communicator of its own and does not hold up the next gather."""
    run = stage.run("dgx-h100-ib", Plan(dp=16, zero=3, shard=8, micro_batch=1), 16, style="pytorch-eager")
    timeline, streams = run.timeline, run.streams[0]
    copies = timeline.of(streams["replica"])
    inside = timeline.of(streams["grad"])
    assert len(copies) == stage.dense.layers + 2
    assert any(
        timeline.start[a] < timeline.end[b] and timeline.start[b] < timeline.end[a] for a in copies for b in inside
    )


def test_the_overlap_is_never_negative(stage):
    """Where all communication is exposed, sums of many parts differ by rounding alone."""
    plan = Plan(tp=8, sequence_parallel=True, micro_batch=1)
    cluster = stage.cluster("dgx-h100")
    rows = [simulate(cluster, Training(batch=1, tokens=1024), stage.dense, plan, framework=style).row
            for style in ("megatron-2021", "pytorch-eager", "pytorch-compiled")]  # fmt: skip
    assert all(0 <= row["overlap"] < 0.01 for row in rows)
