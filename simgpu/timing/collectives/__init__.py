"""Collectives as flows on the topology graph, timed as NCCL runs them.

`collective_phases` gives what the engine runs, `collective_time` the same as a closed form over many sizes. Files:
`traffic` (bytes and steps), `schedules` (who sends to whom), `tuner` (what NCCL chooses), `flows` and `lead` (bytes and
latencies), `between` (what a network adds), `model` (how long it takes), `calls` (what others call), `ideal` (links at
their plain rates and latencies, as back-of-the-envelope sums have it), `gloo` (PyTorch's other backend, for contrast).
"""

from simgpu.timing.collectives.calls import collective_notes, collective_phases, collective_time, model_of, traffic
from simgpu.timing.collectives.ideal import CollectivePhase, ideal_phases
from simgpu.timing.collectives.model import (
    ALGORITHMS,
    LIBRARIES,
    PROTOCOLS,
    Chosen,
    CollectiveModel,
    CollectiveTimes,
)
from simgpu.timing.collectives.traffic import KINDS, bus_factor

__all__ = [
    "ALGORITHMS",
    "KINDS",
    "LIBRARIES",
    "PROTOCOLS",
    "Chosen",
    "CollectiveModel",
    "CollectivePhase",
    "CollectiveTimes",
    "bus_factor",
    "collective_notes",
    "collective_phases",
    "collective_time",
    "ideal_phases",
    "model_of",
    "traffic",
]
