"""A step of very many microbatches takes what simulating each of them takes, at the cost of a few."""

import random

import pytest

from simgpu import Catalogue, InputError, Plan
from simgpu.analysis.critical import critical_path, shares_of
from simgpu.analysis.loads import calls_of
from simgpu.analysis.power import Board, energy_of
from simgpu.analysis.training import anatomy
from simgpu.analysis.uncertainty import parts_of
from simgpu.memo import SHARED
from simgpu.plan.schedule import TAKES_TURNS
from simgpu.workload import steady
from simgpu.workload.execution import PeriodicExecution
from simgpu.workload.steady import Run
from simgpu.workload.training.step import REMEMBERED

CATALOGUE = Catalogue()
SCHEDULES = (None, "1f1b", "gpipe", "zb-h1", "zb-v", "dualpipe-v", "interleaved")
CLUSTERS = ("dgx-h100", "dgx-h100-ib", "l40s-pcie-8x", "rtx-4090-8x-ethernet")


def drawn(draw, schedule, cluster, many=True):
    """A plan of up to 16 GPUs with a schedule, and how many microbatches it runs: hundreds, or dozens."""
    pp = 1 if schedule is None else draw.choice((2, 4))
    vp = 2 if schedule in TAKES_TURNS else 1
    tp, dp = draw.choice((1, 2)), draw.choice((1, 2, 4))
    while tp * dp * pp > (16 if cluster in CLUSTERS[1::2] else 8):
        dp //= 2
    plan = Plan(
        tp=tp, dp=dp, pp=pp, vp=vp, schedule=schedule, micro_batch=1, zero=draw.choice((0, 1, 2, 3)),
        sequence_parallel=tp > 1 and draw.random() < 0.5, overlap_gradients=draw.random() < 0.7,
        overlap_weights=draw.random() < 0.7, recompute=draw.choice(("none", "full")),
    )  # fmt: skip
    return plan, draw.randrange(33 * pp, 50 * pp) // pp * pp + 32 if many else draw.randrange(24, 96) // pp * pp


def simulated_one_by_one(stage, monkeypatch, *args, **options):
    with monkeypatch.context() as patch:
        for least in ("FEWEST", "LEAST"):
            patch.setattr(steady, least, 10**9)
        return stage.run(*args, **options)


@pytest.mark.parametrize("many", [True, False], ids=["hundreds", "dozens"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_periods_equal_microbatches_one_by_one(stage, monkeypatch, schedule, many):
    draw, periodic = random.Random(str((schedule, many))), 0
    for cluster in CLUSTERS:
        plan, microbatches = drawn(draw, schedule, cluster, many)
        model = stage.moe if plan.pp * plan.vp <= 4 and draw.random() < 0.3 else stage.dense
        case = (cluster, plan, microbatches * plan.dp, draw.choice((256, 1024)), model)
        found, whole = stage.run(*case), simulated_one_by_one(stage, monkeypatch, *case)
        periodic += isinstance(found, PeriodicExecution)
        assert found.step == pytest.approx(whole.step, rel=1e-9), case
        close = {"rel": 1e-9, "abs": 1e-9 * whole.step}
        one, other = anatomy(found), anatomy(whole)
        assert one.rank == other.rank
        for name in ("classes", "communication", "exposed"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), **close), (name, case)
        assert (one.host, one.bubble) == pytest.approx((other.host, other.bubble), **close), case
        assert shares_of(found) == pytest.approx(shares_of(whole), **close), case
        assert calls_of(found, plan) == calls_of(whole, plan), case
        board = Board.of(CATALOGUE.cluster(cluster))
        assert energy_of(found, board) == pytest.approx(energy_of(whole, board), rel=1e-9), case
        parts = {part.activity: part.runs for part in parts_of(found, one.rank)}
        assert parts == {part.activity: part.runs for part in parts_of(whole, one.rank)}, case
    assert periodic or not many, "some steps repeat"


@pytest.mark.parametrize(("schedule", "chunks"), [("1f1b", 1), ("zb-h1", 1), ("interleaved", 2)])
def test_a_period_is_put_into_one_run(stage, monkeypatch, schedule, chunks):
    """One run of a few microbatches stands for a hundred; what it is asked for is as if all had run."""
    plan, counts = Plan(pp=8 // chunks, vp=chunks, schedule=schedule, micro_batch=1), []
    kept = Run.__init__

    def count(run, execution, ends, microbatches, order):
        counts.append(microbatches)
        kept(run, execution, ends, microbatches, order)

    monkeypatch.setattr(Run, "__init__", count)
    found = stage.run("dgx-h100", plan, 100, 512)
    assert isinstance(found, PeriodicExecution) and len(counts) == 1 and counts[0] < 50
    assert len(found.more.timeline.end) > len(found.few.timeline.end)
    whole = simulated_one_by_one(stage, monkeypatch, "dgx-h100", plan, 100, 512)
    assert found.step == pytest.approx(whole.step, rel=1e-12)
    assert found.activities == len(whole.timeline.end)


def test_what_is_put_in_hangs_together(stage):
    """Every activity after the first starts when one before it ends, to the last bit, where the longer run was made."""
    found = stage.run("dgx-h100", Plan(tp=2, pp=4, micro_batch=1), 100)
    path = critical_path(found.more)
    assert path[0].start == 0.0
    assert sum(link.seconds for link in path) == pytest.approx(found.more.step, rel=1e-12)
    assert len(path) > len(critical_path(found.few))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_cost_does_not_grow_with_microbatches(stage, schedule):
    """Counted in simulated activities."""
    chunks = 2 if schedule in TAKES_TURNS else 1
    plan = Plan(pp=1 if schedule is None else 2, vp=chunks, schedule=schedule, dp=2, micro_batch=1)
    counts, steps = [], []
    for microbatches in (10**3, 10**6, 10**9):
        found = stage.run("dgx-h100", plan, microbatches * plan.dp)
        assert isinstance(found, PeriodicExecution)
        counts.append(len(found.few.timeline.end) + len(found.more.timeline.end))
        steps.append(found.step / microbatches)
        assert found.activities > microbatches
    assert max(counts) < 1.2 * min(counts) < 5000
    assert steps[0] > steps[1] > steps[2] > 0.95 * steps[1], "fill and drain weigh less and less"


def test_traces_have_every_microbatch(stage):
    plan = Plan(pp=2, micro_batch=1)
    found = stage.run("dgx-h100", plan, 100)
    assert isinstance(found, PeriodicExecution)
    assert len(found.timeline.end) == found.activities
    assert found.timeline.makespan == pytest.approx(found.step, rel=1e-9)
    assert len({label.task[0] for label in stage.labels(found) if label.task}) == 100


def test_what_does_not_repeat_has_a_limit(stage, monkeypatch):
    """Gradients of each microbatch that are slower than compute lag behind further and further."""
    plan = Plan(dp=4, zero=2, micro_batch=1)
    monkeypatch.setattr(steady, "MOST_TRIED", 1000)
    with pytest.raises(InputError, match=r"^workload.batch: 400,000 microbatches of a replica are too many .* at most"):
        stage.run("rtx-4090-8x-ethernet", plan, 400_000 * plan.dp)


def test_a_trace_of_millions_of_microbatches_is_refused(stage):
    found = stage.run("dgx-h100", Plan(pp=2, micro_batch=1), 10**6)
    with pytest.raises(InputError, match="too many to be simulated one by one"):
        found.timeline  # noqa: B018


def test_another_batch_asks_for_the_same_run(stage):
    """What is remembered of a step gives what a fresh run gives, and a repeated call simulates nothing."""
    plan, region = Plan(tp=2, pp=4, micro_batch=1), SHARED.region("steps", REMEMBERED, Run.size)
    region.clear()
    first = stage.run("dgx-h100", plan, 96, 640)
    held = region.held
    later = stage.run("dgx-h100", plan, 120, 640)
    assert isinstance(first, PeriodicExecution) and isinstance(later, PeriodicExecution)
    assert later.few is first.few and region.held == held > 0
    anatomy(first)
    region.clear()
    fresh = stage.run("dgx-h100", plan, 120, 640)
    assert fresh.few is not later.few
    assert fresh.step == later.step and shares_of(fresh) == shares_of(later)
    assert anatomy(fresh).exposed == anatomy(later).exposed
    assert stage.run("dgx-h100-ib", plan, 96, 640).few is not first.few, "another machine"
    assert stage.run("dgx-h100", plan, 96, 320).few is not first.few, "another length"
