"""Preemptions with their notice, and jobs that shrink in place of waiting: closed forms against simulated runs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue
from simgpu.operations.failures import plan_of, reliability_of
from simgpu.operations.fields import CheckpointFields, CostFields, ReliabilityFields
from simgpu.operations.goodput import Saving
from simgpu.operations.run import ACCOUNTS, Plan, simulate_run, simulate_runs
from simgpu.operations.spares import expected_share, waiting_share
from simgpu.operations.spot import Preempted

CATALOGUE = Catalogue()
HOUR, DAY = 3600.0, 86400.0
ROW = {"workload": "training", "gpus": 512, "dp": 64, "step_s": 5.0, "exposed_communication_s": 0.0}
CLUSTER = CATALOGUE.cluster("dgx-h100-ib")


def found(cost=None, **fields):
    usual = {"length": "40 days", "checkpoint": CheckpointFields(save="30 s", interval="10 min"), "planned": 0}
    fields = ReliabilityFields(**{**usual, **fields})
    return fields, reliability_of(fields, 70e9, ROW, CLUSTER, CATALOGUE, cost)


def simulated(fields, one, runs=12):
    return simulate_runs(plan_of(fields, one, wall=40 * DAY), runs)


def spot(rate="0.01/h", **more):
    return CostFields(price="spot", preemptions=rate, preemption_restart="5 min", **more)


@pytest.mark.parametrize("notice", ["0 s", "2 min"])
@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
def test_the_closed_form_of_preemptions_is_that_of_the_runs(notice, kind):
    saves = CheckpointFields(kind=kind, save="30 s", stall="5 s" if kind == "asynchronous" else None, interval="10 min")
    fields, one = found(spot(notice=notice), checkpoint=saves)
    done = simulated(fields, one)
    mean, half = done.mean("goodput")
    assert mean == pytest.approx(one.goodput(), abs=half + 0.015)
    assert done.of("preempted").mean() == pytest.approx(40 * 24 * 0.01 * 64, rel=0.1)


def test_preemptions_cost_goodput_and_a_notice_that_covers_a_save_gives_some_back():
    without, short, long = (found(cost)[1].goodput() for cost in (None, spot(), spot(notice="2 min")))
    assert short < long < without
    assert found(spot(notice="29 s"))[1].goodput() == short  # a save takes 30 s
    assert found(spot("0.02/h"))[1].goodput() < short


def test_a_job_that_shrinks_loses_less_than_one_that_waits():
    shared = {"spares": 1, "repair": "5.5 days", "factor": 3.0}
    waiting, elastic = (found(**shared, elastic=one) for one in (False, True))
    stuck, small = (simulated(*one) for one in (waiting, elastic))
    assert small.mean("goodput")[0] > stuck.mean("goodput")[0] + 0.1
    assert stuck.of("shrunk").sum() == 0 and small.of("shrunk").min() > 0
    assert small.mean("goodput")[0] == pytest.approx(elastic[1].goodput(), abs=0.02)
    fields, one = found(**shared, length="4000 days")  # waits are weeks apart
    long = simulate_runs(plan_of(fields, one, wall=4000 * DAY), 3)
    assert long.mean("goodput")[0] == pytest.approx(one.goodput(), abs=0.03) and one.goodput() < waiting[1].goodput()


def test_a_job_with_spares_enough_never_shrinks():
    one, other = (simulated(*found(spares=500, elastic=elastic), runs=2) for elastic in (False, True))
    assert [run.seconds() for run in one.ledgers] == [run.seconds() for run in other.ledgers]
    assert expected_share(0.0, 0, 10) == 1.0 and expected_share(2.0, 100, 10) == pytest.approx(1.0)
    assert waiting_share(0.0, 0) == 0.0 and waiting_share(0.7, 1) == pytest.approx(0.245 / 1.945)
    assert waiting_share(2.0, 4) < waiting_share(2.0, 3) < waiting_share(3.0, 3)
    assert expected_share(2.0, 1, 10) > expected_share(2.0, 0, 10) > expected_share(2.0, 0, 10, 5)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 2 / HOUR), st.floats(0, 1 / HOUR), st.floats(0, 600), st.sampled_from([0, 1, 4]), st.integers(0, 3),
    st.floats(0, 300), st.integers(0, 100), st.booleans(),
)  # fmt: skip
def test_every_second_is_in_one_account(failures, preemptions, notice, replica, spares, persist, seed, by_work):
    plan = Plan(
        Saving("asynchronous", 10.0, persist, 300.0), 600.0, {"GPU": failures},
        **({"useful": 5 * DAY} if by_work else {"wall": 5 * DAY}),
        silent=failures / 20, delay=HOUR, replaced=0.8, repair=0.5 * DAY, spares=spares, nodes=8,
        taken=Preempted(preemptions, notice, 200.0), nodes_of_replica=replica,
    )  # fmt: skip
    book = simulate_run(plan, seed)
    assert min(book.seconds().values()) >= 0
    assert sum(book.seconds()[name] for name in ACCOUNTS) == pytest.approx(book.wall, abs=1e-9 * book.wall)
    if not by_work:
        assert book.wall == pytest.approx(5 * DAY)
    elif book.failures + book.preempted < 100_000:
        assert book.useful == pytest.approx(5 * DAY)
