"""Jobs that do not fit the memory: they have no cost and no energy, and say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISFIT = "none: it does not fit the memory"
"""What stands for the price, the rates and the grid of a job that cannot run."""


def fits(row: Mapping[str, Any]) -> bool:
    """True unless the row says that its job, or its weights alone, do not fit the memory."""
    return row.get("memory_fits", row.get("weights_fit", True)) is not False
