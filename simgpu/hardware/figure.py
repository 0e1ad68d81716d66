"""A figure of the catalogue: a value with its unit and the source it was read from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from simgpu.errors import shown
from simgpu.units import EXAMPLES, parse_quantity, to_si


class Spec(BaseModel):
    """Base of everything read from the catalogue: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Figure(Spec):
    """A number (or true/false) with unit and source. `si` is the value in SI units.

    `source` names an entry of the file's `sources`. It is None for a value that a user set by hand.
    """

    value: float | bool | str
    unit: str = ""
    source: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_scalar(cls, given: Any) -> Any:
        """Accept a bare number or a string such as '3.35 TB/s', as users write in overrides."""
        if isinstance(given, (bool, int, float)):
            return {"value": given}
        if isinstance(given, str):
            if given.lower() in ("true", "false"):
                return {"value": given.lower() == "true"}
            try:
                value, unit = parse_quantity(given)
            except ValueError:
                raise ValueError(f"{shown(given)} is not a number with a unit, such as '3.35 TB/s'") from None
            return {"value": value, "unit": unit}
        return given


class Quantity(Figure):
    """A number in SI units after validation (`unit` is then the SI unit)."""

    value: float

    @property
    def si(self) -> float:
        return self.value


class Switch(Figure):
    """True or false."""

    value: bool


def in_unit(dimension: str, *, zero: bool = False, most: float | None = None) -> AfterValidator:
    """Convert a `Quantity` to the SI unit `dimension`; it must lie in (0, most], with `zero` in [0, most]."""

    def check(figure: Quantity) -> Quantity:
        value = to_si(figure.value, figure.unit, dimension)
        if not ((value >= 0 if zero else value > 0) and value <= (most if most is not None else 1e30)):
            expected = "zero or more" if zero else "more than zero"
            expected += f" and at most {most:g}" if most is not None else f", such as '{EXAMPLES[dimension]}'"
            raise ValueError(f"{f'{figure.value:g} {figure.unit}'.strip()} is out of range; expected {expected}")
        return figure.model_copy(update={"value": value, "unit": dimension})

    return AfterValidator(check)


def _whole(figure: Quantity) -> Quantity:
    if figure.value != int(figure.value):
        raise ValueError(f"{figure.value:g} is not a whole number")
    return figure


Bandwidth = Annotated[Quantity, in_unit("B/s")]
Bytes = Annotated[Quantity, in_unit("B")]
Rate = Annotated[Quantity, in_unit("FLOP/s")]
Frequency = Annotated[Quantity, in_unit("Hz")]
Seconds = Annotated[Quantity, in_unit("s", zero=True)]
Watts = Annotated[Quantity, in_unit("W", zero=True)]
Dollars = Annotated[Quantity, in_unit("USD", zero=True)]
DollarsPerHour = Annotated[Quantity, in_unit("USD/h", zero=True)]
Number = Annotated[Quantity, in_unit("")]
Fraction = Annotated[Quantity, in_unit("", most=1.0)]
Count = Annotated[Quantity, in_unit(""), AfterValidator(_whole)]
Flag = Switch


def figures(spec: BaseModel, path: tuple = ()) -> list[tuple[tuple, Figure]]:
    """Every figure of a specification with its path, in the order of the file."""
    found: list[tuple[tuple, Figure]] = []
    for name in type(spec).model_fields:
        found += _figures_in(getattr(spec, name), (*path, name))
    return found


def _figures_in(value: Any, path: tuple) -> list[tuple[tuple, Figure]]:
    if isinstance(value, Figure):
        return [(path, value)]
    if isinstance(value, BaseModel):
        return figures(value, path)
    if isinstance(value, (list, tuple)):
        return [found for i, item in enumerate(value) for found in _figures_in(item, (*path, getattr(item, "key", i)))]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _figures_in(item, (*path, key))]
    return []


__all__ = [
    "Bandwidth",
    "Bytes",
    "Count",
    "Dollars",
    "DollarsPerHour",
    "Figure",
    "Flag",
    "Fraction",
    "Frequency",
    "Number",
    "Quantity",
    "Rate",
    "Seconds",
    "Spec",
    "Watts",
    "figures",
    "in_unit",
]
