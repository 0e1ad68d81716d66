"""Leave one source out: the intervals of a stranger's whole runs, from components that never saw the stranger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simgpu.lab.validation.components import first_looks, run_components
from simgpu.lab.validation.run import Scored
from simgpu.lab.validation.standing import ends_of
from simgpu.timing.distance import OF, Component, class_of_run, components, instead


def left_out(scored: Sequence[Scored]) -> list[Scored]:
    """Rows of whole runs of sources, or of their GPUs, on which no constant was chosen.

    Each has the intervals that components from all other rows and first looks make. Of a class without any other rows
    they are as shipped.
    """
    runs = [part for part in scored if part.batch.op in OF]
    friends = {class_of_run(part.batch.op, one.load) for part in runs if part.seen for one in part.batch.details}
    found = []
    for source in sorted({part.source for part in runs if not part.seen}):
        mine = [part for part in runs if part.source == source and not part.seen]
        looks = [look for look in first_looks() if look.component or not look.source.startswith(source)]
        others = run_components([part for part in runs if part.seen or part.source != source], looks)
        table = {key: Component(sd, freedom) for key, (sd, freedom, _, _) in others.items() if key[0] in friends}
        with instead({**components(), **table}):
            for part in mine:
                low, high = ends_of(part.batch, part.predicted, part.architecture, part.regime, part.seen)
                found.append(replace(part, low=low, high=high))
    return found
