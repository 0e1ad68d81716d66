"""Which ranks of a plan sit where a cluster is broken or slow, and who stands for a stage that has such ranks."""

from __future__ import annotations

from collections.abc import Callable

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.faults import slow_gpus, touched_nodes
from simgpu.hardware.layout import Layout
from simgpu.plan.parallelism import Plan


class Afflicted:
    """The faults of a cluster by the ranks of a plan: rank r sits on GPU r, node by node.

    Ranks wait for each other in every collective, so that one that stands for a stage is as slow as the slowest of it.
    """

    def __init__(self, cluster: Cluster, plan: Plan, stage_of: Callable[[int], int]) -> None:
        self.any = bool(cluster.spec.degraded)
        self.per_node = cluster.gpus_per_node
        self.times: dict[int, float] = {}
        """What kernels of slow ranks take longer: a factor for each."""
        self.of_stage: dict[int, float] = {}
        """The same of the slowest rank of each stage."""
        self._first: dict[int, int] = {}
        if not self.any:
            return
        for fault in cluster.spec.degraded:
            if fault.gpu is None or fault.node is None:
                continue
            rank = fault.node * self.per_node + fault.gpu
            if rank < plan.world:
                self.times[rank] = max(self.times.get(rank, 1.0), 1 / fault.rate)
                stage = stage_of(rank)
                self.of_stage[stage] = max(self.of_stage.get(stage, 1.0), 1 / fault.rate)
        for node in self._nodes(cluster, plan):
            for rank in range(node * self.per_node, min((node + 1) * self.per_node, plan.world)):
                self._first.setdefault(stage_of(rank), rank)

    def _nodes(self, cluster: Cluster, plan: Plan) -> list[int]:
        """Nodes of the plan that something is broken in, or in the leaf switches above them."""
        spec, nodes = cluster.spec, -(-plan.world // self.per_node)
        found = set(touched_nodes(spec))
        leaves = {f"leaf{fault.leaf}" for fault in spec.degraded if fault.leaf is not None}
        if leaves and spec.fabric is not None:
            layout = Layout(spec, cluster.node.nic_count)
            for node, position in enumerate(layout.positions(nodes)):
                if any(layout.leaf(position, nic) in leaves for nic in range(layout.nics)):
                    found.add(node)
        return sorted(node for node in found if node < nodes)

    def slowness(self, rank: int, stage: int, each: bool) -> float:
        """What kernels of a simulated rank take longer: a factor. Unless `each` is simulated, that of its stage."""
        return self.times.get(rank, 1.0) if each else self.of_stage.get(stage, 1.0)

    def stands_for(self, stage: int, otherwise: int) -> int:
        """The rank whose surroundings stand for those of a stage: one where something is broken, else `otherwise`."""
        return self._first.get(stage, otherwise)

    def anywhere(self) -> int:
        """A rank where something is broken, else the first."""
        return min(self._first.values(), default=0)


def check_no_slow_gpu(cluster: Cluster, kind: str) -> str:
    """Why a job cannot run on a cluster with slow GPUs; '' where it can."""
    return f"slow GPUs are of training steps, not of {kind}" if slow_gpus(cluster.spec) else ""
