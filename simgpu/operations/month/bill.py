"""The bill of a month: an item for each interval in which a machine is used, and for what it costs to have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, fsum

from simgpu.operations.quantities import HOUR

Band = tuple[float, float, float]
"""A price, and what it is by the cheapest and the dearest quote."""


@dataclass(frozen=True)
class Session:
    """An interval of use: its day (from 0), when it begins, h of that day, and how long it is, h."""

    day: int
    start: float
    hours: float


@dataclass(frozen=True)
class Machine:
    """A machine and how it is had; USD of an hour of all its GPUs.

    rent
        Of a rented one: while it is used, or of a reserved one always.
    fixed, energy, idle
        Of an owned one: whether it is used or not; energy while it works, and while it waits.
    always
        True if the rent is paid for every hour of the month.
    rounded
        What a rented time is rounded up to, s.
    useful
        The share of a rented time in which nothing is lost to preemptions.
    """

    name: str
    gpus: int
    rent: Band | None = None
    fixed: Band = (0.0, 0.0, 0.0)
    energy: float = 0.0
    idle: float = 0.0
    always: bool = False
    rounded: float = 1.0
    useful: float = 1.0

    @property
    def kept(self) -> bool:
        """True if it is there all month."""
        return self.rent is None or self.always

    def paid(self, session: Session, start_up: float) -> float:
        """Hours that are paid for a session with a start of `start_up` s; a machine that is kept works so long."""
        seconds = (session.hours * HOUR + start_up) / self.useful
        if self.kept:
            return seconds / HOUR
        return ceil(seconds / self.rounded - 1e-9) * self.rounded / HOUR


@dataclass(frozen=True)
class Item:
    """A line of the bill: what for, its interval (None: all month), hours that are paid for, USD by each quote."""

    machine: Machine
    use: str
    session: Session | None
    hours: float
    usd: Band


@dataclass(frozen=True)
class Bill:
    """The lines of a month."""

    items: Sequence[Item]

    def usd(self, quote: int = 0) -> float:
        """USD of all lines, by the usual (0), the cheapest (1) or the dearest quote (2)."""
        return fsum(item.usd[quote] for item in self.items)

    def rent(self) -> float:
        """USD of the lines of rented machines."""
        return fsum(item.usd[0] for item in self.items if item.machine.rent is not None)

    def owned(self) -> float:
        """USD of the lines of owned machines."""
        return fsum(item.usd[0] for item in self.items if item.machine.rent is None)


HAD = "to have it"
"""What a line is for that is there whether the machine is used or not."""


def bill_of(uses: Sequence[tuple[Machine, str, Sequence[Session], float]], hours: float) -> Bill:
    """The bill of a month of `hours` for uses: (machine, use, its sessions, s of a start).

    Every session is a line, and so is every machine that is kept, once however many uses it has: an owned one costs
    its fixed part, and idle energy for the hours in which it waits.
    """
    items: list[Item] = []
    waiting: dict[Machine, float] = {}
    for machine, use, sessions, start_up in uses:
        waiting.setdefault(machine, hours)
        for session in sessions:
            paid = machine.paid(session, start_up)
            rate = machine.rent or (0.0, 0.0, 0.0)
            each = (machine.energy,) * 3 if machine.kept else rate
            items.append(Item(machine, use, session, paid, _times(each, paid)))
            waiting[machine] -= paid
    for machine, idle in waiting.items():
        if machine.always and machine.rent is not None:
            items.append(Item(machine, HAD, None, hours, _times(machine.rent, hours)))
        elif machine.rent is None:
            least, *ends = machine.fixed
            usd = [part * hours + machine.idle * max(idle, 0.0) for part in (least, *ends)]
            items.append(Item(machine, HAD, None, hours, (usd[0], usd[1], usd[2])))
    return Bill(items)


def break_even_hours(owned: Machine, rented: Machine, overhead: float, hours: float, ends: tuple[int, int]) -> float:
    """Hours of use a month from which on owning costs less: h* = H (F + I) / (r k - E + I).

    F, E, I are the fixed part, energy at work and idle energy of the owned machine, r the rent, k = `overhead` the
    hours that are paid over those that are used, H the `hours` of the month. `ends` say which quotes: of owning, of the
    rent. Infinite where energy alone costs the rent; above H it is never reached in a month.
    """
    assert rented.rent is not None
    left = rented.rent[ends[1]] * overhead - owned.energy + owned.idle
    return hours * (owned.fixed[ends[0]] + owned.idle) / left if left > 0 else float("inf")


def _times(band: Band, by: float) -> Band:
    return band[0] * by, band[1] * by, band[2] * by
