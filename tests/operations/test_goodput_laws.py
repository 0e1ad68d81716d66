"""Goodput: closed forms, their optimum, and the simulation that must cover them."""

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgpu.operations.goodput import (
    Saving,
    asynchronous_goodput,
    daly_interval,
    exact_goodput,
    first_order_goodput,
    optimum_interval,
    straggler_slowdown,
    young_interval,
)
from simgpu.operations.run import ACCOUNTS, Plan, simulate_run, simulate_runs

HOURS = st.floats(0.05, 100.0).map(lambda hours: hours * 3600)
SECONDS = st.floats(0.1, 600.0)
INF = float("inf")


def test_without_failures_saves_alone_cost():
    assert exact_goodput(600.0, 30.0, 300.0, INF) == pytest.approx(600 / 630)
    assert exact_goodput(1e-9, 0.0, 0.0, 3600.0) == pytest.approx(1.0)
    assert optimum_interval(30.0, INF) == INF


@given(HOURS, SECONDS)
def test_the_optimum_is_a_maximum(mttf, save):
    best = optimum_interval(save, mttf)
    at = exact_goodput(best, save, 300.0, mttf)
    assert at >= exact_goodput(best * 1.01, save, 300.0, mttf)
    assert at >= exact_goodput(best * 0.99, save, 300.0, mttf)
    assert at >= exact_goodput(young_interval(save, mttf), save, 300.0, mttf) * (1 - 1e-12)


@given(HOURS, SECONDS, SECONDS, st.floats(10.0, 7200.0))
def test_goodput_falls_with_what_fails_and_costs(mttf, save, restart, interval):
    at = exact_goodput(interval, save, restart, mttf)
    assert 0 <= at <= 1
    assert exact_goodput(interval, save * 1.1, restart, mttf) <= at
    assert exact_goodput(interval, save, restart * 1.1, mttf) <= at
    assert exact_goodput(interval, save, restart, mttf * 1.1) >= at


def test_young_and_daly_tend_to_the_optimum():
    for save, close in ((100.0, 0.08), (1.0, 0.008), (0.01, 0.0008)):
        best = optimum_interval(save, 36000.0)
        assert young_interval(save, 36000.0) == pytest.approx(best, rel=close)
        assert abs(daly_interval(save, 36000.0) / best - 1) < abs(young_interval(save, 36000.0) / best - 1)
    assert optimum_interval(1e-6, 3600.0) == pytest.approx(sqrt(2e-6 * 3600), rel=1e-4)  # no digit is lost


# the study's table: M (h), w (s), optimum, Daly, Young (min), goodput at R = 5 min
TABLE = [(3.09, 20, 10.9, 10.8, 11.1, 0.916), (1.8, 300, 29.6, 27.9, 32.9, 0.693), (0.23, 60, 4.61, 4.25, 5.25, 0.464)]


@pytest.mark.parametrize(("hours", "save", "exact", "daly", "young", "goodput"), TABLE)
def test_intervals_of_a_published_range(hours, save, exact, daly, young, goodput):
    mttf = hours * 3600
    found = [of(save, mttf) / 60 for of in (optimum_interval, daly_interval, young_interval)]
    assert found == pytest.approx([exact, daly, young], rel=6e-3)
    assert exact_goodput(found[0] * 60, save, 300, mttf) == pytest.approx(goodput, abs=6e-4)


RSC = [(1024, 0.903), (2048, 0.884), (4096, 0.846)]


@pytest.mark.parametrize(("gpus", "goodput"), RSC)
def test_the_form_that_rsc_publishes(gpus, goodput):
    """An interval of an hour, five minutes for saves and restarts, 6.5 failures of 1,000 node-days: about .9 to .85."""
    mttf = 1000 / 6.5 / (gpus / 8) * 86400
    assert exact_goodput(3600, 300, 300, mttf) == pytest.approx(goodput, abs=1e-3)
    assert first_order_goodput(3600, 300, 300, mttf) == pytest.approx(goodput, abs=3e-3)


def test_asynchronous_saves_lose_what_is_not_safe_yet():
    assert asynchronous_goodput(600, 2, 0, 300, 36000) == exact_goodput(600, 2, 300, 36000)
    assert asynchronous_goodput(600, 2, 60, 300, 36000) < exact_goodput(600, 2, 300, 36000)
    first_order = (1 - (300 + 301 + 60) / 360000) / (1 + 2 / 600)
    assert asynchronous_goodput(600, 2, 60, 300, 360000) == pytest.approx(first_order, abs=1e-5)


PLANS = {
    "blocking": (Saving("blocking", 20.0, 0.0, 600.0), 3.09),
    "many failures": (Saving("blocking", 60.0, 0.0, 600.0), 0.5),
    "asynchronous": (Saving("asynchronous", 2.0, 60.0, 300.0), 0.5),
    "in memory": (Saving("in_memory", 1.0, 5.0, 200.0, 0.05, 500.0, 30), 3.09),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_simulation_covers_the_closed_form(name):
    saving, hours = PLANS[name]
    mttf = hours * 3600
    interval = saving.optimum(mttf)
    done = simulate_runs(Plan(saving, interval, {"any": 1 / mttf}, wall=27 * 86400), 20 if hours < 1 else 60)
    mean, half = done.mean("goodput")
    assert saving.goodput(interval, mttf) == pytest.approx(mean, abs=1.6 * half + 5e-4)


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 20.0), st.floats(0, 0.5), st.integers(0, 3), st.floats(0.6, 1.5))
def test_every_second_is_in_one_account(seed, hours, silent, spares, shape):
    mttf = hours * 3600
    plan = Plan(
        Saving("asynchronous", 5.0, 40.0, 200.0), 600.0, {"gpu": (1 - silent) / mttf}, wall=10 * 86400.0,
        silent=silent / mttf, delay=900.0, planned=1 / 200000, replaced=0.6, repair=86400.0, spares=spares, nodes=64,
        lemons=2.6, shape=shape,
    )  # fmt: skip
    book = simulate_run(plan, seed)
    assert sum(book.seconds().values()) == pytest.approx(plan.wall, rel=1e-9)
    assert set(book.seconds()) == set(ACCOUNTS) and min(book.seconds().values()) >= 0
    assert book.failures == sum(book.by_cause.values())
    assert book == simulate_run(plan, seed)


def test_work_that_is_asked_for_is_done():
    plan = Plan(Saving("blocking", 10.0, 0.0, 60.0), 500.0, {"any": 1 / 7200}, useful=5e5)
    book = simulate_run(plan, 3)
    assert book.useful == pytest.approx(5e5)
    calm = simulate_run(Plan(Saving("blocking", 10.0, 0.0, 60.0), 500.0, {}, useful=5e5), 3)
    assert calm.wall == pytest.approx(5e5 + 10.0 * 999) and calm.failures == 0


def test_lost_work_tends_to_half_an_interval():
    plan = Plan(Saving("blocking", 1.0, 0.0, 60.0), 400.0, {"any": 1 / 40000}, wall=400 * 86400.0)
    book = simulate_run(plan, 1)
    assert book.lost / book.failures == pytest.approx(200.5, rel=0.1)


def test_enough_spares_leave_no_waiting_and_none_wait_often():
    def waits(spares):
        plan = Plan(
            Saving("blocking", 10.0, 0.0, 300.0), 600.0, {"any": 1 / 10000}, wall=60 * 86400.0, replaced=0.7,
            repair=2 * 86400.0, spares=spares, nodes=1000,
        )  # fmt: skip
        return simulate_run(plan, 5).waiting

    assert waits(None) == waits(1000) == 0
    assert waits(0) > waits(5) > 0


def test_lucky_and_unlucky_runs_scatter_as_published():
    """One 54-day run at 16,384 GPUs scatters by .3 points either way, P10 to P90."""
    mttf = 3.09 * 3600
    saving = Saving("blocking", 10.0, 0.0, 300.0)
    low, high = simulate_runs(Plan(saving, saving.optimum(mttf), {"any": 1 / mttf}, wall=54 * 86400), 60).ends(
        "goodput"
    )
    assert 0.002 < high - low < 0.012


def test_a_quarter_of_100_000_gpus_takes_less_than_a_second():
    from time import perf_counter

    mttf = 3.093 * 3600 * 16384 / 100_000
    saving = Saving("blocking", 10.0, 0.0, 300.0)
    start = perf_counter()
    book = simulate_run(Plan(saving, saving.optimum(mttf), {"any": 1 / mttf}, wall=90 * 86400.0))
    assert perf_counter() - start < 1.0
    assert 3500 < book.failures < 5000
    assert book.goodput == pytest.approx(0.763, abs=0.012)


def test_stragglers_multiply_the_step():
    assert straggler_slowdown(1, 0.05, 0.0, 2.0) == 1.0
    assert straggler_slowdown(10_000, 0.0, 0.001, 1.34) == pytest.approx(1.34, rel=1e-4)
    assert straggler_slowdown(8, 0.0, 0.01, 1.34) == pytest.approx(1 + 0.34 * (1 - 0.99**8))
    assert straggler_slowdown(10_000, 0.01) == pytest.approx(1 + 0.01 * 4.2919, rel=1e-3)


def test_failures_that_cluster_leave_more_work():
    """Gaps of the 400-node trace have a coefficient of variation of 1.76: Weibull shape .6, goodput .902 for .891."""
    from math import gamma

    shape = 0.6
    assert sqrt(gamma(1 + 2 / shape) / gamma(1 + 1 / shape) ** 2 - 1) == pytest.approx(1.76, abs=0.01)
    mttf = 3.09 * 3600
    saving = Saving("blocking", 20.0, 0.0, 600.0)
    for shape, goodput in ((0.6, 0.902), (1.0, 0.891), (1.5, 0.889)):
        plan = Plan(saving, saving.optimum(mttf), {"any": 1 / mttf}, wall=54 * 86400, shape=shape)
        assert simulate_runs(plan, 40).mean("goodput")[0] == pytest.approx(goodput, abs=2.5e-3)
