"""A figure of the catalogue: a value with its unit and the source it was read from."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator, model_validator

from simgpu.errors import shown
from simgpu.schema_errors import TrueFalse
from simgpu.units import EXAMPLES, parse_quantity, to_si

_SMALLEST, _LARGEST = 1e-30, 1e30
"""Limits of a figure in SI units: beyond them sums and quotients leave the range of floats."""


class Spec(BaseModel):
    """Base of everything read from the catalogue: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)


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
        """Accept a string such as '3.35 TB/s', in the form of overrides; 'SI' stands for the SI unit."""
        if isinstance(given, (bool, int, float)):
            return {"value": given}
        if isinstance(given, str):
            try:
                value, unit = parse_quantity(given)
            except ValueError:
                raise ValueError(f"{shown(given)} is not a number with a unit, such as '3.35 TB/s'") from None
            return {"value": value, "unit": unit}
        return given


class Quantity(Figure):
    """A number in SI units after validation (`unit` is then the SI unit)."""

    value: float

    @field_validator("value", mode="before")
    @classmethod
    def _number(cls, given: Any) -> Any:
        if isinstance(given, bool):
            raise ValueError(f"{given} is not a number")
        return given

    @property
    def si(self) -> float:
        """The value in SI units."""
        return self.value


class Switch(Figure):
    """A figure that is true or false."""

    value: TrueFalse

    @model_validator(mode="before")
    @classmethod
    def _from_scalar(cls, given: Any) -> Any:
        """Accept true and false, in the form of overrides."""
        return given if isinstance(given, dict) else {"value": given}


def in_unit(dimension: str, *, zero: bool = False, most: float | None = None) -> AfterValidator:
    """Convert a `Quantity` to the SI unit `dimension`; it must lie in (0, most], with `zero` in [0, most]."""

    def check(figure: Quantity) -> Quantity:
        value = to_si(figure.value, figure.unit or "SI", dimension)
        if not ((zero and value == 0) or _SMALLEST <= value <= (most if most is not None else _LARGEST)):
            expected = "zero or more" if zero else "more than zero"
            expected += f" and at most {most:g}" if most is not None else f", such as '{EXAMPLES[dimension]}'"
            given = repr(figure.value).removesuffix(".0")
            raise ValueError(f"{given}{figure.unit and ' ' + figure.unit} is out of range; expected {expected}")
        if dimension and not figure.unit and value:
            raise ValueError(f"{figure.value:g} has no unit; expected one, such as '{EXAMPLES[dimension]}'")
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
Power = Annotated[Quantity, in_unit("W")]
Watts = Annotated[Quantity, in_unit("W", zero=True)]
EnergyPerFlop = Annotated[Quantity, in_unit("J/FLOP")]
Number = Annotated[Quantity, in_unit("")]
Ratio = Annotated[Quantity, in_unit("", zero=True)]
Fraction = Annotated[Quantity, in_unit("", most=1.0)]
Count = Annotated[Quantity, in_unit(""), AfterValidator(_whole)]
Whole = Annotated[Quantity, in_unit("", zero=True), AfterValidator(_whole)]
Flag = Switch


def figures(spec: BaseModel, labels: bool = True, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Figure]]:
    """Every figure of a specification with its path, in the order of the file.

    Items of lists are named by their label (the dtype of a peak, the name of a profile) if `labels`, else by position.
    """
    listed: list[tuple[tuple[Any, ...], Figure]] = []
    for name in type(spec).model_fields:
        listed += _figures_in(getattr(spec, name), labels, (*path, name))
    return listed


def _figures_in(value: Any, labels: bool, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Figure]]:
    if isinstance(value, Figure):
        return [(path, value)]
    if isinstance(value, BaseModel):
        return figures(value, labels, path)
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in _figures_in(item, labels, (*path, name))]
    if isinstance(value, (list, tuple)):
        names = [getattr(item, "key", i) if labels else i for i, item in enumerate(value)]
        return [
            found for name, item in zip(names, value, strict=True) for found in _figures_in(item, labels, (*path, name))
        ]
    return []


__all__ = [
    "Bandwidth",
    "Bytes",
    "Count",
    "EnergyPerFlop",
    "Figure",
    "Flag",
    "Fraction",
    "Frequency",
    "Number",
    "Power",
    "Quantity",
    "Rate",
    "Ratio",
    "Seconds",
    "Spec",
    "Watts",
    "Whole",
    "figures",
    "in_unit",
]
