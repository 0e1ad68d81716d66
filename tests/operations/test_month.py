"""A month of use: the bill of a calendar is the sum of its intervals, and nothing finer costs more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simgpu
from simgpu import InputError
from simgpu.operations.month.bill import HAD, Machine, Session, bill_of, break_even_hours
from simgpu.operations.month.columns import sessions_of, start_up_of
from simgpu.operations.month.fields import SOURCES, MonthFields, StartUpFields

HOURS = 720.0
RENTED = Machine("r", 1, rent=(2.0, 1.5, 4.0))
OWNED = Machine("o", 1, fixed=(0.8, 0.7, 1.1), energy=0.05, idle=0.01)
lengths = st.lists(st.floats(0.01, 24), min_size=1, max_size=20)
seconds = st.floats(0, 3600)


def in_a_row(hours):
    return [Session(day, 0.0, each) for day, each in enumerate(hours)]


def month(**keys):
    scenario = {
        "model": "llama-3.2-1b", "cluster": keys.pop("cluster", "rtx-4090"), "cost": keys.pop("cost", {"price": 0.55}),
        "workload": {"kind": "inference", "batch": 1, "prompt": 64, "output": 8},
        "month": {"start_up": {"provision": 0, "image": 0}, **keys},
    }  # fmt: skip
    return simgpu.run_experiment({"scenario": scenario}).rows[0]


@given(lengths, seconds, st.sampled_from([1.0, 60.0, 3600.0]))
def test_the_bill_of_a_calendar_is_the_sum_of_its_intervals(hours, start_up, rounded):
    machine = Machine("r", 1, rent=(2.0, 1.5, 4.0), rounded=rounded)
    whole = bill_of([(machine, "serving", in_a_row(hours), start_up)], HOURS)
    alone = [bill_of([(machine, "serving", [one], start_up)], HOURS).usd() for one in in_a_row(hours)]
    assert whole.usd() == pytest.approx(sum(alone), rel=1e-12)
    assert len(whole.items) == len(hours) and whole.usd() == pytest.approx(whole.rent() + whole.owned())
    assert whole.usd(1) <= whole.usd() <= whole.usd(2)


@given(lengths, seconds)
def test_finer_billing_and_shorter_starts_never_cost_more(hours, start_up):
    bills = [
        bill_of(
            [(Machine("r", 1, rent=(2.0, 2.0, 2.0), rounded=step), "serving", in_a_row(hours), start_up)], HOURS
        ).usd()
        for step in (1.0, 60.0, 3600.0)
    ]
    assert bills == sorted(bills)
    assert bill_of([(RENTED, "serving", in_a_row(hours), 0.0)], HOURS).usd() <= bills[0] + 1e-12
    together = bill_of([(RENTED, "serving", [Session(0, 0.0, sum(hours))], start_up)], HOURS).usd()
    assert together <= bills[0] + 2.0 * len(hours) / 3600  # each second that is begun


@given(st.floats(1, 700))
def test_an_owned_machine_costs_its_fixed_part_and_energy_however_it_is_used(hours):
    bill = bill_of([(OWNED, "serving", [Session(0, 0.0, hours)], 0.0)], HOURS)
    assert bill.usd() == pytest.approx(0.8 * HOURS + 0.05 * hours + 0.01 * (HOURS - hours))
    halves = [Session(0, 0.0, hours / 2), Session(1, 0.0, hours / 2)]
    two_uses = bill_of([(OWNED, "serving", halves[:1], 0.0), (OWNED, "training", halves[1:], 0.0)], HOURS)
    assert two_uses.usd() == pytest.approx(bill.usd())
    assert sum(item.use == HAD for item in two_uses.items) == 1


@given(st.floats(0.2, 5), st.floats(1, 1.5))
def test_break_even_makes_both_sides_equal(rent, overhead):
    rented = Machine("r", 1, rent=(rent, rent, rent))
    hours = break_even_hours(OWNED, rented, overhead, HOURS, (0, 0))
    owning = 0.8 * HOURS + 0.05 * hours + 0.01 * (HOURS - hours)
    assert owning == pytest.approx(rent * overhead * hours, rel=1e-9)


def test_the_hybrid_of_the_article_costs_what_it_says():
    also = [{"use": "training", "hours": 20, "on": "h100-sxm", "price": 3.84}]
    row = month(hours=160, session="8 h", also=also, start_up={"provision": 0, "image": 0, "launch": 0})
    weights = row["weights_bytes_per_gpu"] / 1.3e9 / 3600 * 3.84
    assert row["usd_per_month"] == pytest.approx(0.55 * 160 + 3.84 * 20 + weights, abs=0.002)
    assert row["hours_per_month"] == 180 and row["start_ups_per_month"] == 21
    always = month(cluster="h100-sxm", cost={"price": 3.84}, days="all", a_day=24)
    assert always["usd_per_month"] == pytest.approx(3.84 * 24 * 30) and always["start_ups_per_month"] == 1


def test_days_are_those_of_the_month():
    fields = MonthFields.model_validate({"of": "2026-11", "days": "mon-fri", "a_day": 8, "start": "09:00"})
    sessions = sessions_of(fields, fields.weekdays, {}, "month")  # the first of November 2026 is a Sunday
    assert [one.day for one in sessions][:6] == [1, 2, 3, 4, 5, 8] and len(sessions) == 21
    assert {(one.start, one.hours) for one in sessions} == {(9.0, 8.0)}
    assert len(MonthFields.model_validate({"of": "2028-02", "days": "all", "a_day": 1}).weekdays) == 29


def test_a_start_is_the_sum_of_its_parts_and_each_default_has_a_source():
    fields, row = StartUpFields(), {"weights_bytes_per_gpu": 16e9}
    serving = start_up_of("serving", fields, RENTED, row)
    assert serving == pytest.approx(60 + 48 + 16 / 1.3 + 19.4 + 15)
    assert start_up_of("serving", fields, OWNED, row) == pytest.approx(serving - 108)
    assert start_up_of("development", fields, OWNED, row) == 0
    slow = StartUpFields.model_validate({"weights": "network_disk"})
    assert start_up_of("serving", slow, RENTED, row) > serving
    assert set(StartUpFields.model_fields) - {"launch"} <= set(SOURCES)


def test_ways_to_have_a_card_over_a_month():
    hours = {"hours": 100, "session": 5}
    owned, hourly = month(cost={"price": "owned"}, **hours), month(cost={}, billed="hour", **hours)
    secondly = month(cost={}, start_up={}, **hours)
    reserved = [month(cluster="h100-sxm", cost={"price": "reserved_3y"}, hours=n) for n in (10, 500)]
    assert owned["rent_usd_per_month"] == 0 == hourly["owned_usd_per_month"]
    assert secondly["start_up_usd_per_month"] == pytest.approx(20 * 108 / 3600 * 0.64, rel=0.01)
    assert hourly["usd_per_month"] == pytest.approx(64) and hourly["paid_hours_per_month"] == 100
    assert reserved[0]["usd_per_month"] == reserved[1]["usd_per_month"] == pytest.approx(4.86 * 720)
    spot = month(cost={"price": 2.0, "preemptions": "0.1/h"}, cluster="h100-sxm", hours=100)
    assert spot["paid_hours_per_month"] > 100
    assert owned["break_even_hours_per_month"] == pytest.approx(hourly["break_even_hours_per_month"])
    assert owned["break_even_hours_per_month_p10"] <= owned["break_even_hours_per_month"]


def test_hours_of_a_server_follow_from_its_tokens():
    row = month(use="serving", tokens=1e6)
    assert row["hours_per_month"] == pytest.approx(1e6 / row["output_tokens_per_s"] / 3600)
    assert row["usd_per_month_p10"] < row["usd_per_month"] < row["usd_per_month_p90"]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({}, "expected one of hours, tokens, and days with a_day; none given"),
        ({"hours": 8, "tokens": 5}, "hours and tokens given"),
        ({"hours": -8}, "above 0"),
        ({"days": "mon-fri"}, "days and a_day go together"),
        ({"days": "mon-fry", "a_day": 8}, "'fry' is no day of the week; did you mean 'fri'"),
        ({"days": "all", "a_day": 20, "start": "09:00"}, "passes midnight"),
        ({"days": "all", "a_day": 2, "start": "25:00"}, "not a time of the day"),
        ({"hours": 8, "of": "2026-13"}, "not a month"),
        ({"hours": "run"}, "'run' is of training with workload.train_tokens"),
        ({"hours": 8, "billed": "week"}, "second"),
        ({"hours": 8, "start_up": {"weights": "flopy"}}, "'flopy' holds no weights"),
        ({"hours": 8, "price": "renting"}, "no kind of price"),
        ({"hours": 900, "cost": {"price": "owned"}}, "900 h of a rtx-4090 that is there once; a month has 720"),
        ({"hours": 8, "also": [{"hours": 2, "on": "h100-smx"}]}, "h100-smx"),
        ({"hours": 8, "also": [{"hours": 2, "on": "mi210"}]}, "no price"),
        (
            {"cost": {"price": "owned"}, "days": "all", "a_day": 8, "start": "09:00",
             "also": [{"use": "training", "days": "all", "a_day": 2, "start": "10:00"}]},
            "development and training overlap on day 1",
        ),
    ],
)  # fmt: skip
def test_a_month_that_cannot_be_is_refused_in_one_line(keys, problem):
    with pytest.raises(InputError, match="month") as error:
        month(**keys)
    assert problem in str(error.value) and "\n" not in str(error.value)
