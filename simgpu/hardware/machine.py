"""A cluster at work: its graph, and what was worked out on it. A `Cluster` itself is a pure specification.

Clusters that are equal in every figure and word are one machine, however often they are loaded.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.inherit import WHOSE
from simgpu.hardware.topology import Topology, build_topology
from simgpu.memo import SHARED, Memo, Region, content, fields_of

MACHINES = 32
"""Machines that are remembered; the one that was not asked for longest is forgotten first."""

KEYS = 256
"""Clusters whose keys are remembered."""

TOPOLOGIES = 16
"""Graphs, each of another number of nodes, that are remembered for a machine."""


@dataclass(frozen=True, eq=False)
class Machine:
    """The graph of a cluster, and the memory of what was worked out on it, forgotten with it."""

    cluster: Cluster
    identity: tuple[Hashable, ...]
    """A key, equal for equal clusters: digests of all that they hold."""

    memo: Memo = field(default_factory=Memo)

    def topology(self, nodes: int | None = None, real: tuple[int, ...] | None = None) -> Topology:
        """The graph of the first `nodes` nodes (default: all), with the leaf and spine switches that they need.

        With `real`, nodes side by side that stand for those of these numbers; see `build_topology`. It is built once
        and remembered.
        """
        count = int(self.cluster.spec.nodes.si) if nodes is None else nodes
        if real is not None:
            real = real if self.cluster.spec.degraded else ()
        known = self.memo.region("topologies", TOPOLOGIES)
        made: Topology = known.known((count, real), lambda: build_topology(self.cluster, count, real))
        return made


def machine_of(cluster: Cluster) -> Machine:
    """The machine of a cluster: equal clusters share it.

    >>> from simgpu import load_cluster
    >>> machine_of(load_cluster("dgx-h100")) is machine_of(load_cluster("dgx-h100"))
    True
    >>> machine_of(load_cluster("dgx-h100")) is machine_of(load_cluster("dgx-h100", gpu__memory__bandwidth="3 TB/s"))
    False
    """
    key, known = _key(cluster), SHARED.region("machines", MACHINES)
    found: Machine | None = known.get(key)
    if found is None:
        found = known[key] = Machine(cluster, key)
    elif next(reversed(known)) != key:  # the newest goes last
        known[key] = known.pop(key, found)
    return found


_keys: Region[int, tuple[Cluster, tuple[Hashable, ...]]] = SHARED.region("keys of clusters", KEYS)


def _key(cluster: Cluster) -> tuple[Hashable, ...]:
    """Digests of everything that a cluster holds, but for where its constants come from, which follows from its GPU."""
    found = _keys.get(id(cluster))
    if found is None or found[0] is not cluster:
        parts = [content(getattr(cluster, name), ()) for name in fields_of(Cluster, ("links", "kernel"))]
        links = [(name, content(link, ())) for name, link in sorted(cluster.links.items())]
        found = _keys[id(cluster)] = cluster, (*parts, *links, content(cluster.kernel, WHOSE))
    return found[1]


def topology_of(cluster: Cluster, nodes: int | None = None) -> Topology:
    """The graph of the first `nodes` nodes of a cluster (default: all); see `Machine.topology`."""
    return machine_of(cluster).topology(nodes)
