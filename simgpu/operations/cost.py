"""Cost of a GPU-hour: owned or rented, its fixed part and the energy, and what follows from it.

Utilisation divides the fixed part alone: an idle machine costs its purchase and its place, but little energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, inf

from simgpu.operations.quantities import MONTH_HOURS, YEAR_HOURS

PARTS = ("chips", "server", "network", "storage", "hosting", "staff", "software", "spares", "rent")
"""The parts of the fixed cost of a GPU-hour; energy stands beside them."""


def recovery_factor(rate: float, years: float) -> float:
    """The share of a price that is due each year: CRF = r (1 + r)^n / ((1 + r)^n - 1), 1/n at r = 0.

    `rate` is the interest of a year, `years` the life n (F. Kreith, R. Krumdieck, "Principles of Sustainable Energy
    Systems", 2013, eq. 2.8).
    """
    if rate == 0.0:
        return 1.0 / years
    grown: float = (1.0 + rate) ** years
    return rate * grown / (grown - 1.0)


def capital_usd_per_hour(price: float, rate: float, years: float, residual: float) -> float:
    """USD an hour of a price that is paid off over a life, less what is left of it at the end.

    `residual` is the share of the price that the machine still sells for after `years`; it is worth
    residual / (1 + rate)^years today.
    """
    today: float = price * (1.0 - residual / (1.0 + rate) ** years)
    return today * recovery_factor(rate, years) / YEAR_HOURS


@dataclass(frozen=True)
class Owned:
    """What owning one GPU takes, beside its power; USD and W are of one GPU.

    prices
        chips, server, network and storage, USD to buy.
    life
        years until it is replaced; `rate` interest a year; `residual` the share of the price that is left then.
    hosting
        USD for each kW of the machines and month; power is booked at `booked_w`, W.
    electricity
        USD/kWh; `pue` power of the facility over that of the machines.
    staff, software
        USD a year.
    spares
        the share of the chips' price that is replaced in a year, not covered by a warranty.
    """

    prices: Mapping[str, float]
    life: float
    rate: float
    residual: float
    hosting: float
    booked_w: float
    electricity: float
    pue: float
    staff: float = 0.0
    software: float = 0.0
    spares: float = 0.0

    def fixed(self) -> dict[str, float]:
        """USD of a GPU and hour by part, whether the GPU is used or not."""
        parts = {
            part: capital_usd_per_hour(price, self.rate, self.life, self.residual)
            for part, price in self.prices.items()
        }
        parts["hosting"] = self.booked_w / 1e3 * self.hosting / MONTH_HOURS
        parts["staff"] = self.staff / YEAR_HOURS
        parts["software"] = self.software / YEAR_HOURS
        parts["spares"] = self.spares * self.prices.get("chips", 0.0) / YEAR_HOURS
        return parts

    def energy(self, watts: float) -> float:
        """USD of an hour at a power of `watts` (of one GPU with its part of the node, before the facility's PUE)."""
        return watts / 1e3 * self.pue * self.electricity


@dataclass(frozen=True)
class Hourly:
    """What an hour of one GPU costs: the fixed part by its parts, energy of a used hour and of an idle one.

    idle
        USD of energy of an hour in which the GPU waits; 0 where rent holds it.
    useful
        the share of the paid time in which nothing is lost to preemptions.
    """

    parts: Mapping[str, float]
    energy: float
    utilisation: float = 1.0
    idle: float = 0.0
    useful: float = 1.0

    @property
    def fixed(self) -> float:
        """USD of an hour, used or not."""
        return sum(self.parts.values())

    @property
    def used(self) -> float:
        """USD of an hour that is used: the fixed part over the share of hours that are, and energy.

        Idle hours draw idle power, which the used ones carry too.
        """
        waiting = self.idle * (1.0 - self.utilisation) / self.utilisation
        return (self.fixed / self.utilisation + self.energy + waiting) / self.useful

    def shares(self) -> dict[str, float]:
        """USD of a used hour by part, energy among them; they add up to `used`."""
        parts = {part: usd / self.utilisation / self.useful for part, usd in self.parts.items() if usd}
        waiting = self.idle * (1.0 - self.utilisation) / self.utilisation
        return {**parts, "energy": (self.energy + waiting) / self.useful}


def break_even_utilisation(fixed: float, energy: float, rent: float, idle: float = 0.0) -> float:
    """The share of its hours that an owned GPU must be used for to cost what a rented one does: u*.

        fixed / u + energy + idle (1 - u) / u = rent,   u* = (fixed + idle) / (rent - energy + idle)

    All are USD an hour. It is above 1 where owning never pays, and infinite where energy alone costs the rent.
    """
    left = rent - energy + idle
    return (fixed + idle) / left if left > 0 else inf


def usd_per_million(usd_per_hour: float, per_second: float) -> float:
    """USD of a million things, of which so many come in a second, at USD an hour for all GPUs."""
    return usd_per_hour / (per_second * 3600.0) * 1e6


@dataclass(frozen=True)
class Years:
    """What owning and renting come to after some years, USD of one GPU, by how many of its hours are used."""

    years: float
    owned: float
    rented: float


def over_years(owned: Owned, watts: float, idle_watts: float, rent: float, utilisation: float, years: float) -> Years:
    """Cash spent by the end of `years` either way: the price at once and running cost, or rent of the used hours.

    A machine is bought anew at the end of each life, when the old one is sold for its residual value. Interest is left
    out: it is cash, not cost.
    """
    hours = years * YEAR_HOURS
    running = {part: usd for part, usd in owned.fixed().items() if part not in owned.prices}
    bought = sum(owned.prices.values())
    lives = max(ceil(years / owned.life - 1e-9), 1)
    sold = floor(years / owned.life + 1e-9) * owned.residual * bought
    energy = owned.energy(watts) * utilisation + owned.energy(idle_watts) * (1.0 - utilisation)
    return Years(years, lives * bought - sold + hours * (sum(running.values()) + energy), hours * rent * utilisation)


def payback_years(owned: Owned, watts: float, idle_watts: float, rent: float, utilisation: float) -> float:
    """Years after which the cash of `over_years` is the same either way, within a life; infinite where it never is."""
    running = sum(usd for part, usd in owned.fixed().items() if part not in owned.prices)
    energy = owned.energy(watts) * utilisation + owned.energy(idle_watts) * (1.0 - utilisation)
    saved = rent * utilisation - running - energy
    years = sum(owned.prices.values()) / (saved * YEAR_HOURS) if saved > 0 else inf
    return years if years <= owned.life else inf
