"""Types of fields that jobs share."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from simgpu.arguments import plain
from simgpu.documents import dotted
from simgpu.errors import InputError, shown
from simgpu.field_pages import paged
from simgpu.schema_errors import validate
from simgpu.units import EXAMPLES, parse_quantity, to_si
from simgpu.workload.expert_loads import SUFFIXES, expert_loads

Dtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]
Accumulate = Literal["fp64", "fp32", "fp16", "int32"]
Size = Annotated[int, Field(strict=True, gt=0, le=10**12)]


Passes = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


def positive(dimension: str, zero: bool = False) -> Any:
    """A positive number in SI units, written as a number or with a unit ('128 MB'); `zero`: or 0."""

    def parse(given: object) -> float:
        try:
            value, unit = parse_quantity(given)
        except ValueError:
            raise ValueError(f"{shown(given)} is not a number with a unit, such as '{EXAMPLES[dimension]}'") from None
        try:
            value = to_si(value, unit, dimension)
        except ValueError as error:
            raise ValueError(f"{shown(given)}: {error}") from None
        if not (0 < value < 1e30 or (zero and value == 0)):
            raise ValueError(
                f"{shown(given)} is out of range; expected more than zero, such as '{EXAMPLES[dimension]}'"
            )
        return value

    return BeforeValidator(parse)


def routing_name(given: object) -> str:
    """'balanced', 'random', 'zipf_A', 'power_law_A' or 'popularity_A', A from 0 to 10, or loads: a list or a file."""
    if isinstance(given, (list, tuple)):
        return _shares(given)
    text = given if isinstance(given, str) else shown(given)
    if text.lower().endswith(SUFFIXES):
        return _shares(expert_loads(text))
    if text in ("balanced", "random") or re.fullmatch(r"shares(_[\d.e+-]+){2,}", text):
        return text
    if not re.fullmatch(r"(zipf|power_law|popularity)_\d+(\.\d+)?", text):
        known = (
            "balanced, random, or zipf_A, power_law_A or popularity_A with A from 0 to 10, or the load of each expert,"
            " as a list or a file (.csv, .json)"
        )
        raise ValueError(f"{shown(given)} is not known; expected {known}")
    if float(text.rpartition("_")[2]) > MOST_EXPONENT:
        raise ValueError(f"{shown(given)}: the exponent is not a number from 0 to {MOST_EXPONENT:g}")
    return text


def _shares(given: Sequence[object]) -> str:
    """Loads of experts as one word, over their mean. Raises `ValueError`."""
    numbers = [one for one in given if isinstance(one, (int, float)) and not isinstance(one, bool) and 0 <= one < 1e30]
    if len(numbers) < max(len(given), 2) or not any(numbers):
        raise ValueError(f"{shown(list(given)[:4])}: expected the load of each expert, numbers from 0 on")
    mean = sum(numbers) / len(numbers)
    return "shares_" + "_".join(f"{one / mean:.6f}" for one in numbers)


def check_shares(routing: str | None, experts: int) -> None:
    """Raise `InputError` (key only) for loads of another number of experts."""
    if routing and routing.startswith("shares_") and (count := routing.count("_")) != experts:
        raise InputError(f"{count} loads are not those of {experts} experts", key="workload.routing")


MOST_EXPONENT = 10
"""The largest exponent of a power law, equal to that of `simgpu.timing.routing` (whose import would load numpy)."""


class Strict(BaseModel, metaclass=paged(BaseModel)):  # type: ignore[metaclass]
    """The base of fields: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    if not TYPE_CHECKING:  # type checkers see the fields

        def __init__(self, /, **data: Any) -> None:
            """Check values given in Python; an error is one line here too (files are read by `model_validate`)."""
            data = plain(data)
            try:
                super().__init__(**data)
            except ValidationError:
                validate(type(self), data, lambda path, problem: InputError(problem, key=dotted(path)))

        __init__.__pydantic_base_init__ = True  # else pydantic would call it for files too

        def __dir__(self) -> list[str]:
            """Fields, methods and properties, without those of pydantic: what Tab completes."""
            return [*type(self).model_fields, *dir(type(self))]


Routing = Annotated[str, BeforeValidator(routing_name)]
"""The way in which tokens choose experts."""
