"""Pages that say where things are name things that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = (ROOT, ROOT / "simgpu", ROOT / "docs", ROOT / "hardware")


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/decisions.md"])
def test_every_path_of_a_page_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    paths = re.findall(r"`([a-z_.*]+/[a-z_/]*(?:\.(?:py|csv|md|yaml))?|[a-z_/]+\.(?:py|csv|md|toml|cfg))`", text)
    paths += [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert len(paths) > 5
    missing = [path for path in paths if not any((place / path).exists() for place in (*PLACES, (ROOT / page).parent))]
    missing = [path for path in missing if not any((ROOT / "simgpu").glob(f"*/{path}"))]  # named within its room
    assert not missing


def test_the_architecture_is_one_page() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 60
