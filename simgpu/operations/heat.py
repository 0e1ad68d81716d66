"""A GPU that is held by its temperature: what it may draw with a kind of cooling at an inlet, and its clock then.

    T = inlet + rise x P / rated,    P = rated x (hold - inlet) / rise

`rise` is how much hotter than the inlet a GPU gets at its rated power. It is not predicted but read from runs that
somebody measured (`hardware/cooling/`): coolers are sized for their boards, so that the rise at rated power carries
over to others better than the thermal resistance. Nobody of them gives the inlet, so that each run stands for the
inlets that ASHRAE recommends, and the rise has a band.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any, Literal, Self
from weakref import WeakKeyDictionary

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.derive import MARK
from simgpu.hardware.power import held_clock, tensor_demand
from simgpu.operations.quantities import parsed
from simgpu.schema_errors import validate

INLETS = (18.0, 27.0)
"""C of air at the inlet of machines that ASHRAE recommends (TC 9.9, Thermal Guidelines for Data Processing
Environments); of runs whose inlet nobody gives, and `USUAL_INLET` between them."""

USUAL_INLET = sum(INLETS) / 2

ENDS = ("least", "likely", "most")
"""Ends of the band of a rise."""

LEAST_POWER = 0.3
"""Share of the rated power below which the law of clocks is not followed: memory and links alone take 0.2."""

SOURCES = {
    "inlet": "assumption: the middle of the 18 to 27 C that ASHRAE TC 9.9 recommends",
    "hold": "the target temperature that nvidia-smi prints, as the file of the cooling says",
    "rise": "runs with watts and temperature, as the file of the cooling says",
}
"""Why a default of `HeatFields` is what it is."""


def _celsius(given: Any) -> Any:
    if given is None:
        return None
    value = parsed(given, {"C": 1.0, "°C": 1.0}, "25 C")
    if not -50 <= value <= 150:
        raise ValueError(f"{shown(given)} is out of range; expected a temperature of a machine, such as '25 C'")
    return value


def _rise(given: Any) -> Any:
    if isinstance(given, str) and not any(letter.isdigit() for letter in given):
        if given not in ENDS:
            raise ValueError(f"{shown(given)} is not known{nearest(given, ENDS)}; or kelvin at rated power, '60 K'")
        return given
    value = parsed(given, {"K": 1.0}, "60 K")
    if value <= 0:
        raise ValueError(f"{shown(given)} is out of range; expected above 0 K")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class HeatFields(_Strict):
    """How the GPUs of a scenario are cooled.

    cooling
        A file of `hardware/cooling/`: liquid, server-air, desktop-air, packed.
    inlet
        C of the air, or the coolant, that reaches them.
    hold
        C that the GPU is held at; default: as the file says.
    rise
        least, likely or most of what was measured with such a cooling; or K at rated power.
    """

    cooling: Annotated[str, Field(min_length=1)]
    inlet: Annotated[float, BeforeValidator(_celsius)] = USUAL_INLET
    hold: Annotated[float | None, BeforeValidator(_celsius)] = None
    rise: Annotated[Literal["least", "likely", "most"] | float, BeforeValidator(_rise)] = "likely"


class Run(_Strict):
    """A run that somebody measured: W of one GPU and its lowest and highest temperature, C."""

    gpu: str
    rated: Annotated[float, Field(gt=0)]
    watts: Annotated[float, Field(gt=0)]
    temperature: Annotated[list[float], Field(min_length=2, max_length=2)]
    source: str

    @model_validator(mode="after")
    def _hotter_than_its_inlet(self) -> Self:
        low, high = self.temperature
        if not INLETS[1] < low <= high <= 150:
            problem = f"temperature {shown(self.temperature)} is out of range; expected lowest and highest, C, above "
            raise ValueError(f"{problem}the {INLETS[1]:g} C that an inlet may have")
        return self

    def rise(self, inlet: float, end: int | None = None) -> float:
        """K above `inlet` at rated power, by the lowest (0) or the highest temperature (1), or the middle."""
        found = sum(self.temperature) / 2 if end is None else self.temperature[end]
        return (found - inlet) * self.rated / self.watts


class Hold(_Strict):
    """The temperature that a GPU is held at, C."""

    value: Annotated[float, Field(gt=0, le=150)]
    source: str


class CoolingFile(_Strict):
    """A kind of cooling: the runs that were measured with it."""

    name: str
    title: str
    sources: dict[str, Annotated[str, Field(min_length=1)]]
    hold: Hold
    measured: Annotated[list[Run], Field(min_length=1)]

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        for source in (self.hold.source, *(run.source for run in self.measured)):
            if source not in self.sources:
                hint = nearest(source, self.sources)
                raise ValueError(f"{shown(source)} is not one of the file's sources{hint}")
        return self

    @property
    def band(self) -> Mapping[str, float]:
        """K at rated power: least, likely, most, by the runs and the inlets that they may have had."""
        return {
            "least": min(run.rise(INLETS[1], 0) for run in self.measured),
            "likely": median(run.rise(USUAL_INLET) for run in self.measured),
            "most": max(run.rise(INLETS[0], 1) for run in self.measured),
        }


@dataclass(frozen=True)
class Held:
    """What a GPU may draw, W, and why; `ends` are the same by the most and the least rise."""

    watts: float
    ends: tuple[float, float]
    words: str


def cooling_of(catalogue: Catalogue, name: str) -> CoolingFile:
    """A kind of cooling by name. Raises `InputError`."""
    known = _READ.setdefault(catalogue, {})
    if name not in known:
        file = catalogue.find("cooling", name)
        if file is None:
            names = catalogue.names("cooling")
            raise InputError(f"unknown cooling {shown(name)}{nearest(name, names)}", key="heat.cooling")
        document = catalogue.document(file)
        known[name] = validate(CoolingFile, document.data, lambda path, problem: document.error(problem, path))
    return known[name]


_READ: WeakKeyDictionary[Catalogue, dict[str, CoolingFile]] = WeakKeyDictionary()
"""The kinds of cooling that a catalogue has read."""


def held_by_heat(fields: HeatFields, cluster: Cluster, catalogue: Catalogue) -> Held:
    """What the GPUs of a cluster may draw before their temperature holds them, at most their limit.

    Raises `InputError` (key only) for an inlet that leaves no room below the temperature they are held at.
    """
    kind, gpu = cooling_of(catalogue, fields.cooling), cluster.gpu
    if MARK in gpu.name:
        problem = f"'{gpu.name}' is derived already, and heat holds whole GPUs; set gpu.power.tdp for a power cap"
        raise InputError(problem, key="heat.cooling")
    hold = fields.hold if fields.hold is not None else kind.hold.value
    limit, rated = gpu.power.tdp.si, (gpu.power.rated_tdp or gpu.power.tdp).si
    rises = kind.band if isinstance(fields.rise, str) else dict.fromkeys(ENDS, fields.rise)
    rise = rises[fields.rise] if isinstance(fields.rise, str) else fields.rise
    watts = rated * (hold - fields.inlet) / rise
    if watts < LEAST_POWER * rated:
        problem = f"an inlet of {fields.inlet:g} C leaves {max(watts, 0):.0f} of {rated:g} W below {hold:g} C"
        raise InputError(f"{problem}: expected a cooler one, or another cooling", key="heat.inlet")
    low, high = (max(min(limit, rated * (hold - fields.inlet) / rises[end]), 0.0) for end in ("most", "least"))
    words = f"{kind.name}, {rise:.0f} K at rated power, inlet {fields.inlet:g} C, held at {hold:g} C"
    return Held(min(watts, limit), (low, high), words)


def heat_columns(fields: HeatFields, cold: Cluster, catalogue: Catalogue) -> dict[str, Any]:
    """Columns of the power and the clock that temperature leaves; `cold` is the cluster without it."""
    held = held_by_heat(fields, cold, catalogue)
    ends = {"": held.watts, "_p10": held.ends[0], "_p90": held.ends[1]}
    found: dict[str, Any] = {"heat_used": held.words}
    for end, watts in ends.items():
        found[f"held_power_w{end}"] = watts
        found[f"held_clock{end}"] = clock_at(cold, watts)
    return found


def clock_at(cluster: Cluster, watts: float) -> float:
    """The clock of busy tensor cores when the GPU may draw `watts`, over that at its limit; at most 1."""
    gpu = cluster.gpu
    products = cluster.kernel.group("gemm", "default")
    demand = tensor_demand(gpu, products["energy_per_flop"], products["compute_fraction"])
    whole = gpu.power.rated_tdp or gpu.power.tdp
    tdp = gpu.power.tdp.model_copy(update={"value": gpu.power.tdp.value * watts / gpu.power.tdp.si})
    power = gpu.power.model_copy(update={"tdp": tdp, "rated_tdp": whole})
    return min(held_clock(gpu.model_copy(update={"power": power}), demand)[0] / held_clock(gpu, demand)[0], 1.0)
