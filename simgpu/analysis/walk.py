"""A walk from one row to another: what was changed, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Move:
    """One step of a walk: what was changed, the compared value before and after, and the step's row after."""

    what: str
    before: float
    after: float
    step_before: float
    step_after: float


@dataclass(frozen=True)
class Walk:
    """The steps from one row to another, and what each moves. `match` holds the labels that both share."""

    match: Mapping[str, Any]
    value: str
    start: float
    end: float
    moves: Sequence[Move]
