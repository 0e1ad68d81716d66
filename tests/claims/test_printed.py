"""Printed numbers as intervals, equations solved for each of their quantities, conventions that explain a ratio."""

import math

import pytest

from simgpu.claims.conventions import explained
from simgpu.claims.printed import last_digit, printed
from simgpu.claims.quantities import COLUMNS, TABLE, quantity_of, show
from simgpu.claims.relations import RELATIONS


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("95", 94, 96),
        ("0.060", 0.059, 0.061),
        (0.0035, 0.0034, 0.0036),
        ("30000", 29_000, 31_000),
        ("2550", 2540, 2560),
        ("120-140", 120, 140),
        ("120 to 140", 120, 140),
        ("~50", 45, 55),
        ("<20", 0, 20),
        ("60+", 60, math.inf),
        ("60-80+", 60, math.inf),
        ("1,979", 1978, 1980),
        ("$1,800", 1700, 1900),
        ("8.0e-3", 7.9e-3, 8.1e-3),
        (0, 0, 0),
    ],
)
def test_a_printed_number_is_an_interval(text, low, high):
    figure = printed(text)
    assert (figure.low, figure.high) == pytest.approx((low, high))


def test_flags_and_empty_cells():
    assert printed("yes").flag is True and printed(False).flag is False
    assert [printed(one) for one in (None, "", "n/a", "-")] == [None] * 4


@pytest.mark.parametrize("text", ["yes, tight", "a lot", "12 GB of 24", "1e99", "nan", "--5", [1]])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"is (no|not|too|beyond)"):
        printed(text)


def test_trailing_zeros_beyond_two_digits_are_no_digits():
    assert [last_digit(one) for one in ("100", "120", "1000", "1008", "10", "7")] == [10, 10, 100, 1, 1, 1]


def test_counts_are_exact():
    assert printed(7, exact=True).low == 7


@pytest.mark.parametrize("relation", RELATIONS.values(), ids=RELATIONS)
def test_an_equation_solved_for_any_quantity_gives_what_went_in(relation):
    """Put values in, compute the left side, and solve for every quantity on the right."""
    values = {name: 0.3 + 0.05 * n for n, name in enumerate(relation.inputs)}
    known = {name: (value, value) for name, value in values.items()}
    known[relation.target] = relation.solved(relation.target, known)
    for name, value in values.items():
        others = {key: interval for key, interval in known.items() if key != name}
        assert relation.solved(name, others) == pytest.approx((value, value), rel=1e-9)


@pytest.mark.parametrize("relation", RELATIONS.values(), ids=RELATIONS)
def test_the_interval_of_an_equation_covers_every_point_of_its_box(relation):
    known = {name: (0.4 + 0.03 * n, 0.6 + 0.07 * n) for n, name in enumerate(relation.inputs)}
    low, high = relation.solved(relation.target, known)
    for share in (0.0, 0.25, 0.5, 1.0):
        point = {name: (a + share * (b - a),) * 2 for name, (a, b) in known.items()}
        value, _ = relation.solved(relation.target, point)
        assert low - 1e-12 <= value <= high + 1e-12


def test_every_quantity_of_an_equation_is_in_the_table():
    for relation in RELATIONS.values():
        assert {relation.target, *relation.inputs} <= set(TABLE)
        assert len(set(relation.inputs)) == len(relation.inputs)
    import csv
    from pathlib import Path

    import simgpu.claims

    with Path(simgpu.claims.__file__).with_name("relations.csv").open() as stream:
        assert [row["name"] for row in csv.DictReader(stream)] == list(RELATIONS)


def test_columns_end_in_units():
    assert quantity_of("memory_bandwidth_tb_per_s") == (TABLE["memory_bandwidth"], 1e12)
    assert quantity_of("usd_per_m") == (TABLE["usd_per_token"], 1e-6)
    assert quantity_of("memory_gib")[1] == 2**30
    assert len({id(pair[0]) for pair in COLUMNS.values()}) == len(TABLE)
    with pytest.raises(ValueError, match="memory can be in gb, gib"):
        quantity_of("memory_furlongs")


@pytest.mark.parametrize(
    ("ratio", "dimension", "word"),
    [
        (1000, "money_token", "thousand"),
        (1e-3, "money_token", "thousand"),
        (10, "money", "ten"),
        (2, "rate", "both directions"),
        (2, "flops", "sparsity"),
        (8, "rate", "bits"),
        (1 / 8, "bytes", "bits"),
        (1.0737, "bytes", "GiB"),
        (1.0737, "money", ""),
        (1.3, "rate", ""),
        (4, "flops", "tensor cores"),
        (12, "money_rate", "months"),
        (16, "rate", "bits"),
        (1, "rate", ""),
    ],
)
def test_a_ratio_is_explained_by_conventions_of_its_dimension(ratio, dimension, word):
    said = explained(ratio, dimension)
    assert word in said if word else said == ""


def test_values_are_shown_in_the_unit_of_their_column():
    assert show(3.35e12, TABLE["memory_bandwidth"], "tb_per_s") == "3.35 TB/s"
    assert show(0.0035e-6, TABLE["usd_per_token"]) == "0.0035 USD/M"
    assert show(1.0, TABLE["ecc"]) == "yes"
