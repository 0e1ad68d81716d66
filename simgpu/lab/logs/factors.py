"""The factors of a machine that logs can speak of, how far each usually strays, and what they say of a machine.

Kernels take so many times as long, those of experts and those that arithmetic binds beside them, the host, and the
front end of a server; links carry a share of their rated payload. The prior of a factor is the spread between machines
(`simgpu/timing/components.csv`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from simgpu.lab.logs.observed import SERVER, TRAINING
from simgpu.overlay import Learned, Overlay
from simgpu.timing.distance import (
    ARCHITECTURE,
    EXPERTS,
    NODES,
    SOFTWARE,
    SOURCE,
    WORDS,
    class_of_run,
    component,
)

OPS = {TRAINING: "step_time", SERVER: "tpot"}
"""What whole runs of a kind of workload are of."""
ALONE = "inference"
"""The kind of workload that is one batch by itself: a prompt, which arithmetic binds, and tokens, which memory does."""
SLOWDOWN = "slowdown"
HOST_SPREAD = 0.5
"""Prior standard deviation (of the log) of the time of hosts and of front ends: other processors and tokenisers.

Nodes of the catalogue need 1 to 1.5 times as long (`cpu_slowdown`), front ends of engines 7, 15 and 70 ms (`first_s`).
"""
BELOW = 1 - 1e-6
"""Of a link's factor, so that no rounding makes it carry more than it is rated for."""


@dataclass(frozen=True)
class Factor:
    """A factor: its name in words, the stack or link that it is `of`, and its prior's standard deviation (of the log).

    `part` is what of a stack it is on (`simgpu.overlay.Learned`), '' for a link.
    """

    name: str
    of: str
    part: str
    prior: float

    @property
    def link(self) -> bool:
        """Whether it is on a link."""
        return not self.part


def op_of(kind: str) -> str:
    """What a whole run of a workload of a kind is of: a training step, or tokens of a server."""
    return OPS.get(kind, "tpot")


def factors_of(row: Mapping[str, Any], kind: str, stack: str, links: Mapping[str, Any]) -> list[Factor]:
    """The factors of a machine, each with the spread between machines as its prior; `row`: of a case on it."""
    op = op_of(kind)
    layers = [SOURCE, *(layer for layer in (ARCHITECTURE, SOFTWARE, EXPERTS) if WORDS[layer] in str(row["distance"]))]
    of = class_of_run(op, kind != ALONE)
    kernels = sqrt(sum(component(of, layer).sd ** 2 for layer in layers))
    made = [
        Factor(f"kernels of {stack}", stack, SLOWDOWN, kernels),
        Factor(f"experts of {stack}", stack, "experts", component(of, EXPERTS).sd),
        Factor(f"host of {stack}", stack, "host", HOST_SPREAD),
    ]
    if kind == ALONE:
        made.append(Factor(f"arithmetic of {stack}", stack, "arithmetic", component("prefill", SOURCE).sd))
    elif kind != TRAINING:
        made.append(Factor(f"front end of {stack}", stack, "front", HOST_SPREAD))
    return made + [Factor(f"payload of {name}", name, "", _carried(link)) for name, link in links.items()]


def _carried(link: Any) -> float:
    """How far what a link carries strays (sd of the log) between machines, and of a network between fabrics."""
    layers = (SOURCE, NODES) if getattr(link, "kind", "") == "network" else (SOURCE,)
    return sqrt(sum(component("collective", layer).sd ** 2 for layer in layers))


def overlay_of(
    machine: str, factors: Sequence[Factor], values: Sequence[float], runs: int, source: str, spread: float = 0.0
) -> Overlay:
    """What factors with these values (not logarithms) say of a machine, as a file says it.

    `runs` of a stack count where no factor of it was kept, too: they say that it is as predicted. `spread` is what they
    were off by when they were left out (sd of the logarithm), 0 where nothing is known.
    """
    links: dict[str, float] = {}
    stacks: dict[str, dict[str, float]] = {}
    for factor, value in zip(factors, values, strict=True):
        if factor.link:
            links[factor.of] = float(f"{value * BELOW:.7g}")
        else:
            stacks.setdefault(factor.of, {SLOWDOWN: 1.0})[factor.part] = float(f"{value:.5g}")
    known = {"runs": runs, **({"spread": float(f"{spread:.3g}")} if spread else {})}
    learned = {name: Learned.model_validate({**parts, **known}) for name, parts in stacks.items()}
    return Overlay(machine=machine, source=source, stacks=learned, links=links)


__all__ = ["Factor", "factors_of", "op_of", "overlay_of"]
