"""The `power:` section of a scenario: the site that its machines stand in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from simgpu.documents import read_yaml
from simgpu.errors import nearest, shown
from simgpu.memo import remembered
from simgpu.workload.fields import positive

USUAL_PUE = 1.3
"""Power of a site over that of its machines, the one default of cost, capacity, choice and CO2: what new facilities
reach or beat; the mean of all is 1.56 (Uptime Institute, global data center survey 2024)."""

USUAL_GRID = "USA"

SOURCES = {
    "pue": "Uptime Institute, global survey 2024: new facilities 1.3 or better, mean 1.56",
    "grid": "assumption: a site in the United States",
}
"""Why a default of `PowerFields` is what it is."""

_RATE = re.compile(r"(\d+(?:\.\d*)?)\s*(\S.*)?")
MOST_CARBON = 2000.0
"""g/kWh that no grid passes: lignite in an old plant makes 1,200."""


@remembered(1)
def grids() -> dict[str, Any]:
    """The file of grids: `source`, and by ISO code `country`, `year`, `g_per_kwh`."""
    return dict(read_yaml(Path(__file__).with_name("grids.yaml")).data)


def carbon_of(grid: str) -> float:
    """G of CO2 for a kWh of a grid: by its country, or as written, '120 g/kWh'."""
    known = grids()["grids"].get(grid)
    return float(known["g_per_kwh"]) if known is not None else float(_RATE.fullmatch(grid)[1])  # type: ignore[index]


def _grid(given: Any) -> str:
    """A country's ISO code, or g/kWh with the unit."""
    if not isinstance(given, str):
        raise ValueError(f"{shown(given)} has no unit; expected a country such as 'FRA', or a rate such as '120 g/kWh'")
    text = given.strip()
    found = _RATE.fullmatch(text)
    if found is None:
        if text.upper() not in grids()["grids"]:
            raise ValueError(f"no grid {shown(given)}{nearest(text.upper(), grids()['grids'])}, or a rate in g/kWh")
        return text.upper()
    if found[2] != "g/kWh":
        problem = "has no unit" if not found[2] else f"is in {shown(found[2])}"
        raise ValueError(f"{shown(given)} {problem}; expected g/kWh, such as '120 g/kWh'")
    if float(found[1]) > MOST_CARBON:
        raise ValueError(f"{shown(given)} is out of range; expected at most {MOST_CARBON:g} g/kWh")
    return f"{float(found[1]):g} g/kWh"


def _pue(given: Any) -> Any:
    """PUE is at least 1: a site draws what its machines draw."""
    if isinstance(given, (int, float)) and not isinstance(given, bool) and given < 1:
        raise ValueError(f"{given:g} is less than the machines draw; expected a PUE of 1 or more, such as 1.3")
    return given


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class RackFields(_Given):
    """A rack: what its circuits carry, its height, its cooling."""

    power: Annotated[float, positive("W")]
    """Rating of its circuits, of which `derating` may be drawn for hours."""
    units: Annotated[int, Field(strict=True, gt=0, le=1000)] = 42
    """Units of height for nodes."""
    node_units: Annotated[int, Field(strict=True, gt=0, le=1000)] = 8
    """Units of height of a node: 8 of a DGX H100 (its datasheet), 10 of a DGX B200."""
    cooling: Annotated[float, positive("W")] | None = None
    """Heat that it gets rid of; default: what its circuits carry."""
    switches: Annotated[float, positive("W")] | None = None
    """What its switches draw."""
    derating: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.8
    """Share of the rating that may be drawn for hours (National Electrical Code, 210.20: continuous loads)."""


class PowerFields(_Given):
    """The site: its PUE, the grid that its CO2 is reckoned with, the power that it may draw, its racks."""

    pue: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False), BeforeValidator(_pue)] = USUAL_PUE
    grid: Annotated[str, BeforeValidator(_grid)] = USUAL_GRID
    budget: Annotated[float, positive("W")] | None = None
    """W at the meter, for the machines of a fleet that all do this job."""
    rack: RackFields | None = None

    @property
    def carbon(self) -> float:
        """G of CO2 for a kWh."""
        return carbon_of(self.grid)

    @property
    def words(self) -> str:
        """What energy and CO2 were reckoned with."""
        known = grids()["grids"].get(self.grid)
        of = f"{known['country']} {known['year']}, {known['g_per_kwh']:g} g/kWh" if known else self.grid
        return f"PUE {self.pue:g}, {of}"
