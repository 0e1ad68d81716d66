"""Machines that their owner takes back: how often, how long before that it says so, and what it costs the job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simgpu.hardware.cluster import Cluster
from simgpu.operations.fields import CostFields, RestartFields
from simgpu.operations.goodput import Saving


@dataclass(frozen=True)
class Preempted:
    """Preemptions of a job.

    rate
        1/s of the whole job: it stops with the first of its nodes that is taken.
    notice
        s from the warning until the machine is gone. A save that is safe by then loses no work.
    restart
        s from there until the job goes on, with another machine.
    """

    rate: float
    notice: float
    restart: float

    def announced(self, saving: Saving) -> bool:
        """True if the notice is long enough for a save."""
        return self.notice >= last_save(saving)

    def useful(self, saving: Saving | None = None) -> float:
        """The share of the time between the first and the last preemption that they leave: 1 / (1 + rate x lost).

        Lost are the restart and, with `saving`, a last save; not work, which is in `goodput`.
        """
        lost = self.restart + (last_save(saving) if saving is not None else 0.0)
        return 1.0 / (1.0 + self.rate * lost)


def last_save(saving: Saving) -> float:
    """Seconds until a save that starts now is safe."""
    return saving.stall + saving.persist


def preempted_of(
    cost: CostFields | None, row: Mapping[str, Any], cluster: Cluster, restart: RestartFields, load: float = 0.0
) -> Preempted | None:  # fmt: skip
    """The preemptions that a scenario's `cost` speaks of; None without any. `load` is the time to read a checkpoint."""
    if cost is None or not cost.preemptions:
        return None
    own = cost.preemption_restart
    nodes = -(-int(row["gpus"]) // cluster.gpus_per_node)
    return Preempted(cost.preemptions * nodes, cost.notice, restart.seconds + load if own is None else own)
