"""The documentation as a site: built without a warning, with every page, and nothing fetched from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"}
    assert pages <= {path.stem for path in (tmp_path / "site").glob("*.html")}
    fetched = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["']?(?:https?:)?//""")
    for path in (tmp_path / "site").glob("*.html"):
        assert not fetched.search(path.read_text()), path.name
    assert "plan_capacity" in (tmp_path / "site/api.html").read_text()
    assert (tmp_path / "site/notebooks/tour.ipynb").is_file()
    assert len((tmp_path / "site/search/search_index.json").read_text()) > 100_000


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert set(re.findall(r": (\S+)\.md$", menu, flags=re.MULTILINE)) == {
        *(path.stem for path in (ROOT / "docs").glob("*.md")), "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"
    }  # fmt: skip


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md"))])
def test_links_between_pages_lead_somewhere(page):
    """Files that a page links to are there, and so are the headings."""
    path = ROOT / page
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)(?:#([^)\s]+))?\)", path.read_text()):
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", there.read_text(), flags=re.MULTILINE)
            names = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in names, f"{target}#{anchor}"
