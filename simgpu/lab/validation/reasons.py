"""Why some rows are far off: what the modules of `simgpu.lab.validation.sources` say, looked up by what a row is."""

from __future__ import annotations

import math

from simgpu.lab.validation.score import Row
from simgpu.lab.validation.source import Numbers
from simgpu.lab.validation.sources import known


class _Numbers(dict[str, float]):
    """Numbers of a row. One that the row does not have is NaN, so that no comparison with it holds."""

    def __missing__(self, name: str) -> float:
        return math.nan


def numbers(row: Row) -> Numbers:
    """The numbers of a row's description, and `slow`: predicted over measured time."""
    found = _Numbers(slow=row.predicted_s / row.measured_s)
    for word in row.what.split():
        name, _, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found


def reason(row: Row) -> str:
    """Why a row is off; '' where nobody has said."""
    reasons, values = known()[row.source].reasons, numbers(row)
    return next((one.text for one in reasons if one.explains(row.op, row.gpu, row.library, values)), "")
