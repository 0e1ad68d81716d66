"""The page in a real browser: it sorts, filters, pages, prints whole tables, and asks no network for anything."""

import shutil

import pytest
from made_subjects import HOSTILE, subject

from simgpu.review.browser import browser, print_pdf
from simgpu.review.page import page

pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser() is None, reason="no browser is installed")]
WIDTHS = {"A4": (794, 1123), "Letter": (816, 1056)}
"""Pixels of a sheet at 96 a inch."""


@pytest.fixture(scope="module")
def chrome():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(chrome, tmp_path):
    """A function that opens subjects, and what the page asked for or complained about."""
    contexts = []

    def open_page(subjects, **how):
        file = tmp_path / "page.html"
        file.write_text(page(subjects), encoding="utf-8")
        context = chrome.new_context(**how)
        contexts.append(context)
        tab, heard = context.new_page(), []
        tab.on("console", lambda said: heard.append(said.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda asked: heard.append(asked.url) if asked.url.startswith(("http", "ws")) else None)
        tab.goto(file.as_uri())
        tab.wait_for_load_state("load")
        return tab, heard

    yield open_page
    for context in contexts:
        context.close()


def firsts(tab):
    return tab.eval_on_selector_all("table.decision tbody tr", "rows => rows.map(row => row.cells[1].textContent)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_names_stay_text_and_nothing_is_asked_for(opened, scheme):
    tab, heard = opened([subject(), subject()], color_scheme=scheme)
    assert heard == [] and tab.evaluate("window.hit") is None
    assert HOSTILE[3] in tab.inner_text("body")
    assert tab.locator("a[href^='http']").count() == 0


def test_a_table_is_sorted_by_click_and_by_key_and_filtered(opened):
    tab, heard = opened([subject(40, pictures=False)])
    button = tab.locator("table.decision thead button").nth(1)
    button.click()
    assert firsts(tab) == [str(n) for n in range(40)]
    button.press("Enter")
    assert firsts(tab) == [str(n) for n in reversed(range(40))]
    assert tab.locator("table.decision thead th").nth(1).get_attribute("aria-sort") == "descending"
    tab.get_by_label("Filter rows").fill("onerror")
    assert firsts(tab) == [str(n) for n in reversed(range(1, 40, 6))] and heard == []


def test_ten_thousand_rows_are_paged_and_all_of_them_are_there_without_a_script(opened):
    tab, heard = opened([subject(10_000, pictures=False)])
    assert len(firsts(tab)) == 100
    tab.get_by_role("button", name="Next").click()
    assert firsts(tab)[0] == "100" and "101 to 200 shown" in tab.get_by_role("status").inner_text()
    tab.locator("table.decision thead button").nth(1).click()
    tab.locator("table.decision thead button").nth(1).click()
    assert firsts(tab)[0] == "9999" and heard == []
    plain, _ = opened([subject(10_000, pictures=False)], java_script_enabled=False)
    assert plain.locator("table.decision tbody tr").count() == 10_000


def test_a_picture_is_interactive_and_can_be_turned_back(opened):
    pytest.importorskip("plotly")
    tab, heard = opened([subject()])
    assert tab.locator(".chart .main-svg").count() > 0 and not tab.locator("figure img").is_visible()
    tab.get_by_role("button", name="Show the drawn picture").click()
    assert tab.locator("figure img").is_visible() and not tab.locator(".chart").is_visible() and heard == []
    assert tab.locator(".chart a").count() == 0
    without, _ = opened([subject()], java_script_enabled=False)
    assert without.locator("figure img").is_visible()


@pytest.mark.parametrize("paper", WIDTHS)
@pytest.mark.parametrize("columns", [5, 9, 13, 20])
def test_no_table_is_cut_on_paper(opened, paper, columns):
    one = subject(8, pictures=False)
    extra = [f"label_{n}" for n in range(columns - 5)]
    rows = [{**row, **dict.fromkeys(extra, f"longer words of a label {n}")} for n, row in enumerate(one.rows)]
    tab, _ = opened([subject(8, pictures=False, rows=rows, columns=[*one.columns, *extra])])
    tab.emulate_media(media="print")
    sides = WIDTHS[paper]
    room = (max(sides) if tab.locator("section.wide").count() else min(sides)) - 106  # both margins
    tab.set_viewport_size({"width": room, "height": 800})
    widths = tab.eval_on_selector_all("table", "all => all.map(one => one.getBoundingClientRect().right)")
    assert all(width <= room + 1 for width in widths), widths


def test_the_page_is_printed(tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page([subject()]), encoding="utf-8")
    print_pdf(file, tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF") and shutil.which(browser())
