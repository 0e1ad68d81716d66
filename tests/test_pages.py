"""The pages: what they link to exists, and what they show is put back in where it belongs."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.fixture(scope="module")
def refresh():
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs/refresh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_exists(page):
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_a_line_of_a_page_becomes_the_like_line_of_the_output(refresh):
    shown = ["run   step", "A     1.0 s (0.9-1.1)", "...", "C     3.0 s (2.9-3.1) ..."]
    printed = ["title", "run   step", "A    1.25 s (1-1.5)", "B   2 s", "C   3.5 s (3.1-4) and more words"]
    assert refresh.refreshed(shown, printed, "page") == [
        "run   step", "A    1.25 s (1-1.5)", "...", "C 3.5 s (3.1-4) ...",
    ]  # fmt: skip


def test_a_line_that_resembles_nothing_stays_and_is_reported(refresh, capsys):
    assert refresh.refreshed(["Proven: no other plan is better"], ["xyz 1", "qqq"], "page") == [
        "Proven: no other plan is better"
    ]
    assert "nothing printed is like: Proven" in capsys.readouterr().out
