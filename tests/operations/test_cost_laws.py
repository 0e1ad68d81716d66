"""Laws of cost: sums, monotony, break-even, and what utilisation divides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgpu.operations.cost import (
    Hourly,
    Owned,
    break_even_utilisation,
    capital_usd_per_hour,
    over_years,
    payback_years,
    recovery_factor,
    usd_per_million,
)
from simgpu.operations.spot import Preempted

USD = st.floats(0.01, 1e6)
SHARE = st.floats(0.01, 1.0)


def owned(**changed):
    usual = {
        "prices": {"chips": 30000.0, "server": 8000.0, "network": 4000.0}, "life": 5.0, "rate": 0.08, "residual": 0.1,
        "hosting": 150.0, "booked_w": 1000.0, "electricity": 0.08, "pue": 1.3, "staff": 500.0, "spares": 0.02,
    }  # fmt: skip
    return Owned(**{**usual, **changed})


def test_a_loan_is_paid_off():
    """A balance that grows by the rate and falls by the yearly payment ends at the residual value."""
    for rate, years, residual in ((0.08, 5, 0.1), (0.2, 3, 0.0), (0.0, 4, 0.25)):
        yearly = capital_usd_per_hour(1000.0, rate, years, residual) * 8760
        balance = 1000.0
        for _ in range(years):
            balance = balance * (1 + rate) - yearly
        assert balance == pytest.approx(1000.0 * residual)


def test_the_recovery_factor_has_its_limits():
    assert recovery_factor(0.0, 4) == 0.25
    assert recovery_factor(1e-9, 4) == pytest.approx(0.25, rel=1e-6)
    assert recovery_factor(0.08, 1000) == pytest.approx(0.08)
    assert recovery_factor(0.1, 5) == pytest.approx(0.2637975, rel=1e-6)  # textbook table of capital recovery


@given(USD, USD, SHARE, USD)
def test_parts_add_up_and_energy_is_the_least(fixed, energy, used, more):
    hour = Hourly({"chips": fixed, "hosting": more}, energy, used)
    assert sum(hour.shares().values()) == pytest.approx(hour.used)
    assert hour.used >= hour.energy
    assert hour.used == pytest.approx((fixed + more) / used + energy)  # utilisation divides the fixed part alone


@given(USD, st.floats(0.0, 1e3), st.floats(1e-3, 1e6), st.floats(0.0, 1e2))
def test_at_break_even_both_sides_are_equal(fixed, energy, above, idle):
    rent = energy + above
    used = break_even_utilisation(fixed, energy, rent, idle)
    cost = fixed / used + energy + idle * (1 - used) / used
    assert cost == pytest.approx(rent, rel=1e-9)


def test_owning_never_pays_where_energy_alone_costs_the_rent():
    assert break_even_utilisation(1.0, 2.0, 2.0) == float("inf")


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("electricity", 0.1), ("hosting", 200.0), ("pue", 1.5), ("rate", 0.1), ("staff", 900.0), ("spares", 0.05),
        ("residual", 0.0), ("life", 4.0), ("prices", {"chips": 31000.0, "server": 8000.0, "network": 4000.0}),
    ],
)  # fmt: skip
def test_cost_rises_with_every_price(key, more):
    def hour(one):
        return Hourly(one.fixed(), one.energy(700.0)).used

    assert hour(owned(**{key: more})) > hour(owned())


def test_a_kilowatt_hour_is_the_energy_times_the_price_and_pue_one_adds_nothing():
    one = owned(pue=1.0, electricity=0.1)
    assert one.energy(1000.0) == pytest.approx(0.1)
    assert owned(pue=1.5, electricity=0.1).energy(1000.0) == pytest.approx(0.15)


def test_tokens_of_an_hour():
    assert usd_per_million(3.6, 1000.0) == pytest.approx(1.0)


def test_over_years_the_purchase_is_spread_and_rent_is_not():
    """Owning is paid at once, rent as it goes; at the end of a life the machine is sold, and bought anew after it."""
    start, end, after = (over_years(owned(), 900.0, 200.0, 3.0, 0.7, years) for years in (0.001, 5.0, 5.01))
    assert start.rented < 20 and start.owned == pytest.approx(42000, rel=1e-3)
    assert end.rented == pytest.approx(5 * 8760 * 3.0 * 0.7)
    assert end.owned < end.rented
    assert after.owned - end.owned == pytest.approx(42000, rel=2e-2)


def test_after_the_payback_both_have_taken_the_same_cash():
    years = payback_years(owned(), 900.0, 200.0, 3.0, 0.7)
    at = over_years(owned(), 900.0, 200.0, 3.0, 0.7, years)
    assert 1 < years < 5 and at.owned == pytest.approx(at.rented)
    assert payback_years(owned(), 900.0, 200.0, 0.3, 0.7) == float("inf")


def test_preemptions_cost_their_restarts():
    assert Preempted(0.0, 0.0, 300.0).useful() == 1.0
    assert Preempted(1 / 3600, 0.0, 360.0).useful() == pytest.approx(10 / 11)
