"""Prices are dated quotes: which one is taken, what is refused, and that every GPU's price has one home."""

import datetime
from pathlib import Path

import pytest

from simgpu import Catalogue, InputError
from simgpu.operations.prices import Wanted, date_of, first_day, last_day, price_book, read_prices

CATALOGUE = Catalogue()
BOOK = price_book(CATALOGUE)
ROOT = Path(__file__).parents[2]


def test_every_price_has_a_date_a_vendor_and_a_source_and_is_of_something():
    known = {*CATALOGUE.names("gpus"), *CATALOGUE.names("nodes"), "hosting", "electricity", "network"}
    assert len(BOOK.known) > 80
    for one in BOOK.known:
        assert date_of(one.quote.date) and one.quote.vendor and one.source, one.quote
        assert one.quote.of in known, one.quote.of


def test_prices_left_the_files_of_gpus():
    for file in (ROOT / "hardware").rglob("*.yaml"):
        if file.parent.name != "prices":
            assert "USD" not in file.read_text(), file


def test_the_middle_of_the_newest_half_year_is_taken():
    found = BOOK.find("h100-sxm", Wanted("on_demand"))
    quotes = sorted(one.value for one in BOOK.known if (one.quote.of, one.quote.kind) == ("h100-sxm", "on_demand"))
    assert found.value == quotes[(len(quotes) - 1) // 2] == 3.29
    assert (found.least, found.most, found.among) == (quotes[0], quotes[-1], len(quotes))
    assert "2025-02-28" in found.words and "Lambda Labs" in found.words and "middle of 8" in found.words
    assert BOOK.find("h100-sxm", Wanted("on_demand", vendor="RunPod")).value == 2.99
    assert BOOK.find("h100-sxm", Wanted("purchase", date="2024")).value == 30000
    assert BOOK.find("h100-sxm", Wanted("purchase", date="2025-02")).quote.date == "2025-01-31"


def test_a_month_and_a_year_end_on_their_last_day():
    assert (first_day("2024"), last_day("2024")) == (datetime.date(2024, 1, 1), datetime.date(2024, 12, 31))
    assert last_day("2024-02") == datetime.date(2024, 2, 29) and last_day("2024-12") == datetime.date(2024, 12, 31)


FILE = """name: mine
title: Mine
currency: USD
sources: {page: a page}
prices:
  - {of: l4, kind: on_demand, vendor: Somebody, region: EU, date: 2026-11-01, value: 0.5, unit: USD/h, source: page}
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("date: 2026-11-01, ", "", "6: prices.0.date: this key is missing"),
        ("2026-11-01", "2026-13-01", "6: prices.0.date: '2026-13-01'"),
        ("2026-11-01", "today", "6: prices.0.date: 'today' is not a date"),
        ("value: 0.5", "value: -0.5", "6: prices.0.value: -0.5"),
        ("USD/h", "EUR/h", "all prices are in USD, and currencies are not mixed"),
        ("unit: USD/h", "unit: USD", "unit 'USD' does not fit a price of kind on_demand; expected USD/h"),
        ("kind: on_demand", "kind: ondemand", "6: prices.0.kind: 'ondemand'"),
        ("source: page}", "source: pge}", "6: prices.0.source: 'pge' is not one of the file's sources"),
        ("currency: USD", "currency: EUR", "3: currency: 'EUR': all prices are in USD"),
        ("vendor: Somebody, ", "", "6: prices.0.vendor: this key is missing"),
    ],
)  # fmt: skip
def test_a_bad_price_is_one_line(tmp_path, old, new, problem):
    file = tmp_path / "mine.yaml"
    file.write_text(FILE.replace(old, new, 1))
    with pytest.raises(InputError) as found:
        read_prices(file)
    assert str(found.value).startswith(str(file)) and problem in str(found.value), str(found.value)


def test_files_of_ones_own_take_the_place_of_the_catalogue(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(FILE)
    book = price_book(CATALOGUE, [str(file)])
    assert book.find("l4", Wanted("on_demand")).value == 0.5 and book.find("h100-sxm", Wanted("on_demand")) is None
    own = tmp_path / "hardware" / "prices"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(FILE)
    assert price_book(Catalogue(tmp_path)).find("l4", Wanted("on_demand")).value == 0.5  # newer than those that come


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (Wanted("spot"), "cost.price: no price (spot) of 'h100-sxm'; there are on_demand, purchase"),
        (Wanted("on_demand", vendor="Runpod"), "cost.vendor: no price of 'h100-sxm' by 'Runpod'; did you mean"),
        (Wanted("on_demand", date="2020"), "cost.date: no price of 'h100-sxm' up to 2020; the first is of 2025"),
        (Wanted("on_demand", region="Mars"), "cost.region: no price of 'h100-sxm' in 'Mars'"),
    ],
)  # fmt: skip
def test_a_missing_price_says_what_there_is(wanted, line):
    with pytest.raises(InputError) as found:
        BOOK.of("h100-sxm", wanted, "cost.price")
    assert str(found.value).startswith(line), str(found.value)


def test_a_gpu_without_a_price_names_its_like():
    with pytest.raises(InputError, match=r"cost.price: no price \(on demand\) of 'p4'"):
        BOOK.of("p4", Wanted("on_demand"), "cost.price")
