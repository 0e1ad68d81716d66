"""Words that the page, the Markdown and the slide share."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from simgpu.render.columns import cell, title
from simgpu.version import __version__

HEADINGS = {
    "table": "Decision table",
    "pictures": "Pictures",
    "distance": "How far from calibration",
    "change": "What would change the answer",
    "notes": "Notes",
    "inputs": "Assumptions and their sources",
    "again": "To get this again",
}
"""Headings of the parts of a study."""

INTERVAL = (
    "80 % interval: 8 of 10 measurements should fall in it, judging by past errors on such kernels, "
    "collectives and whole runs."
)
"""What an interval means."""

CHANGE = ("input", "with less of it", "with more of it", "remark")
"""Columns of the table of what would change the answer."""
MOST_CHANGES = 12


def versions() -> list[str]:
    """What made the page: simgpu, Python, and the libraries that its numbers and pictures come from."""
    said = [f"simgpu {__version__}", f"Python {platform.python_version()}"]
    for name in ("numpy", "scipy", "matplotlib", "plotly"):
        try:
            said.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return said


def change_words(change: Mapping[str, Any]) -> str:
    """The input that matters most, in a sentence."""
    rows = change["rows"]
    value = f"{title(change['column'])} {cell(change['column'], change['value'])}"
    if not rows:
        return f"{value}: no input of the hardware changes it."
    first = change_rows(change)[0]
    varied = f"{value}, each input {100 * change['change']:g} % less and more"
    return f"{varied}: {first[0]} matters most ({first[1]}; {first[2]})."


def change_rows(change: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The inputs with the largest effect, with the answer on each side of them."""
    return [
        (
            str(row.get("title") or row["input"]),
            _end(change, row, "less"),
            _end(change, row, "more"),
            str(row.get("remark") or ""),
        )
        for row in change["rows"][:MOST_CHANGES]
    ]


def _end(change: Mapping[str, Any], row: Mapping[str, Any], side: str) -> str:
    end = row.get(f"value_{side}")
    if end is None:
        return "cannot be simulated"
    return f"{cell(change['column'], end)} ({100 * (end / row['value'] - 1):+.2f} %)"
