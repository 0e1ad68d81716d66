"""What comes back from a simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from simgpu.analysis.critical import Link, critical_path
from simgpu.engine import Timeline
from simgpu.errors import ArgumentError, nearest, shown
from simgpu.plan.memory import Memory
from simgpu.plan.serving_memory import ServingMemory
from simgpu.tabular import Tabular
from simgpu.units import format_seconds
from simgpu.workload.execution import Execution


class Row(dict[str, Any]):
    """The numbers of a result by column: a dict that cannot be changed. `dict(row)` is a copy that can."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ArgumentError("the row of a result cannot be changed; dict(row) is a copy that can")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


@dataclass(frozen=True, repr=False)
class Result(Tabular):
    """One simulated scenario: the numbers (`row`), the timeline, and where every input came from (`resolved`).

    `row` is a dict that cannot be changed. Every key of it can be read as an attribute: `result.step_s`.
    """

    row: Mapping[str, Any]
    execution: Execution
    inputs: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    memory: Sequence[Memory] | Sequence[ServingMemory] = ()
    """Of training and inference: the memory of a rank of each pipeline stage."""

    def __post_init__(self) -> None:
        if not isinstance(self.row, Mapping):
            raise ArgumentError(f"{shown(self.row)} is not a mapping of columns", key="Result.row")
        object.__setattr__(self, "row", Row(self.row))

    def __repr__(self) -> str:
        job = " of ".join(str(self.row[name]) for name in ("workload", "model") if name in self.row)
        where = f" on {self.row['gpus']} x {self.row['gpu']}" if {"gpus", "gpu"} <= self.row.keys() else ""
        step = f": {format_seconds(self.row['step_s'])}" if "step_s" in self.row else ""
        return f"Result({job}{where}{step}, {len(self.row)} columns)"

    @cached_property
    def resolved(self) -> Mapping[str, Mapping[str, Any]]:
        """Every input, defaults and catalogue figures included: {key: {value, unit, source}}, SI."""
        return self.inputs()

    @property
    def timeline(self) -> Timeline:
        return self.execution.timeline

    @cached_property
    def critical_path(self) -> Sequence[Link]:
        """Activities that the step waits for, from its start to its end: `start` and `seconds`, `activity.name`."""
        return critical_path(self.execution)

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The one row, as other answers have several."""
        return [self.row]

    def interval(self, column: str) -> tuple[float, float] | None:
        """P10 and P90 of a column; None where it has no interval. Raises `ArgumentError` for what is no column."""
        if column not in self.row:
            raise ArgumentError(f"no column {shown(column)}{nearest(column, self.row)}", key="Result.interval")
        low, high = (self.row.get(f"{column}_{end}") for end in ("p10", "p90"))
        return None if low is None or high is None else (low, high)

    def __dir__(self) -> list[str]:
        """Attributes, and the columns of the row, for completion."""
        return [*super().__dir__(), *self.row]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.row[name]
        except KeyError:
            raise AttributeError(f"a result has no '{name}'; it has {', '.join(self.row)}") from None
