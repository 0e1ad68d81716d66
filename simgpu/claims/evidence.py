"""What there is to hold a cell against: equations, readings of the catalogue, cited measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from simgpu.catalog import Catalogue
from simgpu.claims.bench import Bench
from simgpu.claims.entry import Cell, Entry, Record
from simgpu.claims.facts import facts, gpu_of
from simgpu.claims.printed import Printed, printed
from simgpu.claims.quantities import quantity_of
from simgpu.claims.readings import Reading, readings, slice_readings
from simgpu.claims.relations import RELATIONS, Interval, Relation

CONSTANTS = 0.03
"""Slack (relative) of equations: 365 or 365.25 days, 30 days or a twelfth of a year."""
DATASHEET = 0.02
"""Slack (relative) of figures of datasheets."""
ROUNDS = 3
"""How many equations may be put one into another."""


@dataclass(frozen=True)
class Implied:
    """What an equation gives for a quantity; `own` if every figure in it is printed in the row."""

    relation: Relation
    interval: Interval
    own: bool
    given: Mapping[str, Interval]


def meets(figure: Printed, interval: Interval, slack: float) -> bool:
    """True if the printed figure and an interval, widened by `slack`, have a value in common."""
    low, high = sorted(interval)
    return figure.low <= high + slack * abs(high) and low - slack * abs(low) <= figure.high


def implied(bench: Bench, record: Record, name: str, kind: str) -> list[Implied]:
    """What equations give for quantity `name` of a record, from printed figures and from facts."""
    known, own = _known(bench, record, name)
    _close(known, own, name, kind, record)
    return list(_solved(known, own, name, kind))


def _known(bench: Bench, record: Record, name: str) -> tuple[dict[str, Interval], set[str]]:
    known = dict(facts(bench, record))
    own: set[str] = set()
    figures = {one: options[0] for one, options in record.inputs.items() if len(options) == 1}
    figures |= {one: cell.figure for one, cell in {**record.shared, **record.cells}.items()}
    for one, figure in figures.items():
        if one != name and figure.flag is None:
            known[one] = (figure.low, figure.high)
            own.add(one)
    for one, options in record.inputs.items():
        if len(options) > 1 and one != name:
            known[one] = (min(figure.low for figure in options), max(figure.high for figure in options))
    known.pop(name, None)
    return known, own


def _close(known: dict[str, Interval], own: set[str], name: str, kind: str, record: Record) -> None:
    """Put equations one into another, forwards, for what is not printed."""
    for _ in range(ROUNDS):
        for relation in _of_kind(kind, record):
            target = relation.target
            if target != name and target not in known and set(relation.inputs) <= set(known):
                known[target] = relation.solved(target, known)
                if set(relation.inputs) <= own:
                    own.add(target)


def _solved(known: Mapping[str, Interval], own: set[str], name: str, kind: str) -> Iterator[Implied]:
    for relation in RELATIONS.values():
        if (
            relation.target == name
            and set(relation.inputs) <= set(known)
            and (not relation.kinds or kind in relation.kinds)
        ):
            yield Implied(
                relation, relation.solved(name, known), set(relation.inputs) <= own,
                {one: known[one] for one in relation.inputs},
            )  # fmt: skip


def missing_inputs(bench: Bench, record: Record, name: str, kind: str) -> list[list[str]]:
    """For each equation for `name`: the quantities that neither the row nor the words give."""
    known, own = _known(bench, record, name)
    _close(known, own, name, kind, record)
    found = [one for one in _of_kind(kind, record) if one.target == name]
    return [[key for key in one.inputs if key not in known] for one in found]


def _of_kind(kind: str, record: Record) -> Iterator[Relation]:
    methods = record.words.get("method", ())
    for relation in RELATIONS.values():
        if not relation.kinds or kind in relation.kinds or set(methods) & set(relation.kinds):
            yield relation


def alternatives(record: Record, found: Implied, target: Cell) -> dict[str, Interval]:
    """What each printed figure of an equation would have to be, the others as printed."""
    known: dict[str, Interval] = {**found.given, target.quantity.name: (target.figure.low, target.figure.high)}
    made = {}
    for name in found.relation.inputs:
        if name in record.cells or name in record.shared:
            made[name] = found.relation.solved(name, {one: value for one, value in known.items() if one != name})
    return made


# ---- the catalogue -----------------------------------------------------------------------------------


def readings_of(catalogue: Catalogue, entry: Entry, record: Record, name: str) -> Sequence[Reading]:
    """Readings of a quantity of the record's GPU, or of a slice of it; 'usual' as the entry's label says."""
    gpu = gpu_of(catalogue, record)
    if gpu is None:
        return ()
    profile = record.word("profile")
    found = (
        slice_readings(catalogue, gpu.name, profile).get(name, ()) if profile else readings(catalogue, gpu.name, name)
    )
    label = record.word("convention") or _label(entry, name)
    if label is None:
        return found
    return [Reading(one.convention, one.value, label in one.convention) for one in found]


def _label(entry: Entry, name: str) -> str | None:
    for key, label in entry.fields.convention.items():
        if quantity_of(key)[0].name == name:
            return label
    return None


# ---- measurements that others published --------------------------------------------------------------


def cited(entry: Entry, record: Record, name: str) -> tuple[Printed, str] | None:
    """A cited measurement of a quantity for this record, SI, with its source."""
    for one in entry.fields.cited:
        quantity, scale = quantity_of(one.quantity)
        figure = printed(one.value)
        if (
            quantity.name == name
            and figure is not None
            and all(_agrees(record, key, value) for key, value in one.where.items())
        ):
            return figure.scaled(scale), one.source
    return None


def _agrees(record: Record, key: str, value: object) -> bool:
    if key == "label":
        return str(value) in record.label
    return str(value) in record.words.get(key, ())
