"""Which algorithm, protocol and channels the collectives of a run took, and where that differs from another run.

NCCL chooses by its own estimates (`simgpu.timing.collectives.tuner`), which are not what a collective takes. So a link
that is a little faster can make it choose what is slower: a fact of NCCL, but no property of the link.
"""

from __future__ import annotations

from collections.abc import Mapping

from simgpu.units import format_si
from simgpu.workload.execution import Activity, Execution

Choices = Mapping[tuple[str, str, float], tuple[str, str]]
"""Algorithm, protocol and channels, such as ('ring/ll', '24 channels'), by kind, group and bytes of a collective."""


def choices_of(execution: Execution) -> Choices:
    """The choices of every different collective of a run, including those inside blocks."""
    labels = [label for label in execution.timeline.labels if isinstance(label, Activity)]
    inside = (part.activity for blocks in execution.blocks.values() for block, _ in blocks for part in block.parts)
    return {
        (label.kind, label.group, label.bytes): (
            f"{label.chosen.algorithm}/{label.chosen.protocol}",
            f"{label.chosen.channels} channels",
        )
        for label in (*labels, *inside)
        if label.chosen is not None
    }


def switches(before: Choices, after: Choices) -> list[str]:
    """Collectives whose choice differs between two runs: 'all_reduce of 4.194 MB ring/ll -> nvls/simple'.

    Other algorithms and protocols come first, then other numbers of channels; the largest first.
    """
    changed = [key for key, way in after.items() if before.get(key, way) != way]
    switched = []
    for key in sorted(changed, key=lambda key: (before[key][0] == after[key][0], -key[2])):
        part = 1 if before[key][0] == after[key][0] else 0
        switched.append(f"{key[0]} of {format_si(key[2], 'B')} {before[key][part]} -> {after[key][part]}")
    return switched
