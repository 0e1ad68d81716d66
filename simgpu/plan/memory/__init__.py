"""Memory of a rank: a ledger over the events of a step, the peak of each pipeline stage, and whether it fits.

`ledger` has what is counted and its parts, `walk` one microbatch through the layers of a stage, `training` the events
of a step, `verdict` the interval around a count and the probability that it fits. Memory of a server:
`simgpu.plan.serving_memory`.
"""

from simgpu.plan.memory.ledger import (
    COMMUNICATOR_BYTES,
    CONTEXT_BYTES,
    GIB,
    MIB,
    PAIR_BYTES,
    PARTS,
    Memory,
    Room,
    peak,
)
from simgpu.plan.memory.training import fullest, in_flight, layer_activations, memory_per_stage
from simgpu.plan.memory.verdict import LIKELY

__all__ = [
    "COMMUNICATOR_BYTES", "CONTEXT_BYTES", "GIB", "LIKELY", "MIB", "PAIR_BYTES", "PARTS", "Memory", "Room", "fullest",
    "in_flight", "layer_activations", "memory_per_stage", "peak",
]  # fmt: skip
