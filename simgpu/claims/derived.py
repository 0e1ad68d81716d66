"""What simulations say of quantities that follow from simulated ones, such as the cost of tokens from their rate."""

from __future__ import annotations

from dataclasses import replace

from simgpu.claims.answers import Answer, Simulated
from simgpu.claims.bench import Bench
from simgpu.claims.entry import Record
from simgpu.claims.evidence import implied
from simgpu.claims.finding import Number
from simgpu.claims.printed import Printed
from simgpu.claims.relations import RELATIONS
from simgpu.claims.simulated import simulated

DRIVERS = ("tokens_per_s", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "images_per_s")
"""Simulated quantities that others follow from."""


def derived(bench: Bench, record: Record, name: str, kind: str) -> Answer | None:
    """The simulator's answer; of a quantity that follows from a simulated one, by its equation."""
    direct = simulated(bench, record, name, kind)
    if direct is not None and (direct.corners or direct.refused):
        return direct
    for relation in RELATIONS.values():
        if relation.target != name or (relation.kinds and kind not in relation.kinds):
            continue
        for driver in relation.inputs:
            answer = simulated(bench, record, driver, kind) if driver in DRIVERS else None
            if answer is None:
                continue
            if not answer.corners:
                return answer
            made = [_through(bench, record, name, kind, driver, corner) for corner in answer.corners]
            found = [corner for corner in made if corner is not None]
            if found:
                return Answer(tuple(found), answer.missing)
    return None


def _through(bench: Bench, record: Record, name: str, kind: str, driver: str, corner: Simulated) -> Simulated | None:
    """What an equation gives for `name` with the simulated `driver` in it."""
    cells = {key: cell for key, cell in {**record.shared, **record.cells}.items() if key not in (name, driver)}
    ends = []
    for value in (corner.low, corner.value, corner.high):
        figure = (Printed("", value, value, value),)
        inputs = {**record.inputs, driver: figure}
        found = implied(bench, replace(record, cells=cells, shared={}, inputs=inputs), name, kind)
        found = [one for one in found if driver in one.relation.inputs]
        if not found:
            return None
        ends.append(Number.of(found[0].interval).value)
    return Simulated(min(ends), ends[1], max(ends), corner.words)
