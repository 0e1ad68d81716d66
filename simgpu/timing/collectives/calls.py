"""The calls: phases for the engine, times over many sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import machine_of, topology_of
from simgpu.hardware.topology import Topology
from simgpu.timing.collectives.gloo import GLOO, GLOO_ALGORITHMS, GlooModel
from simgpu.timing.collectives.ideal import CollectivePhase, Edge, ideal_phases
from simgpu.timing.collectives.large import can_stand, large_model
from simgpu.timing.collectives.model import ALGORITHMS, PROTOCOLS, CollectiveModel, CollectiveTimes
from simgpu.timing.collectives.traffic import kind_of
from simgpu.timing.parts import ArrayLike

REMEMBERED = 20_000
"""Ranks of all collectives that are remembered for a topology: some kB each."""


MOST_GPUS = 8192
"""GPUs of one collective at most where every one has its flows, some milliseconds each."""

WHOLE_GPUS = 2048
"""GPUs beyond which a few nodes stand for all where these are alike."""

LARGEST = 64
"""Collectives of so many GPUs that are remembered for a machine."""


def check_ranks(count: int) -> None:
    """Raise `InputError` where a collective has more ranks than are worked out."""
    if count > MOST_GPUS:
        raise InputError(f"{count:,} GPUs are too many in one collective; expected at most {MOST_GPUS:,}", key="gpus")


def model_of(
    topology: Topology, kind: str, gpus: Sequence[int], library: str = "nccl", dtype: str = "bf16"
) -> CollectiveModel:
    """The model of a collective; equal ones are made once for a topology."""
    check_ranks(len(gpus))
    narrow = dtype if dtype in ("int8", "fp8", "fp4") else "wide"
    key = (kind, tuple(gpus), library, narrow)
    known = topology.memo.region("collectives", REMEMBERED, _ranks_of)
    found: CollectiveModel = known.known(
        key,
        lambda: (
            GlooModel(topology, kind, gpus, dtype)
            if library == GLOO
            else CollectiveModel(topology, kind, gpus, library, dtype)
        ),
    )
    return found


def _ranks_of(model: CollectiveModel) -> int:
    return model.n


def collective_phases(
    topology: Topology,
    kind: str,
    gpus: Sequence[int],
    size: float,
    algorithm: str = "auto",
    protocol: str = "auto",
    library: str = "nccl",
    dtype: str = "bf16",
) -> list[CollectivePhase]:
    """The phases of one collective of `size` bytes over `gpus` (positions in the topology, in ring order).

    `algorithm` 'auto' is the library's choice; 'ring', 'tree', 'nvls' and 'direct' force one. `protocol` likewise
    ('ll', 'll128', 'simple'); 'ideal' takes links at their plain rates, see `simgpu.timing.collectives.ideal`.
    """
    return model_of(topology, kind, gpus, library, dtype).phases(size, algorithm, protocol)


def traffic(topology: Topology, kind: str, gpus: Sequence[int], algorithm: str) -> list[tuple[tuple[Edge, ...], float]]:
    """What crosses which edges in one collective: (edges, payload bytes for each byte of its size).

    What protocols add does not count. `algorithm` is one that a library chose, 'auto' that of ideal links.
    """
    if algorithm == "auto":
        phases = ideal_phases(topology, kind, gpus, 1.0, 0.0)
        return [(edges, share * count) for phase in phases for edges, share, count in phase.flows]
    schedule = model_of(topology, kind, gpus).schedule(algorithm)
    return [(route.edges, share * count) for route, share, count in schedule.flows]


def collective_time(
    cluster: Cluster,
    kind: str,
    gpus: int | Sequence[int],
    sizes: ArrayLike,
    dtype: str = "bf16",
    algorithm: str = "auto",
    protocol: str = "auto",
    library: str = "nccl",
) -> CollectiveTimes:
    """Seconds of a collective over many sizes, with the links to itself: what the engine simulates, as a closed form.

    Parameters
    ----------
    cluster
        From `load_cluster`.
    kind
        One of `KINDS` in any spelling (`all_to_all`, `alltoall`), or 'send' of one GPU to another.
    gpus
        How many of its GPUs, from the first; or which (positions, node by node).
    sizes
        Payload in bytes as nccl-tests count it; a number or an array.
    dtype
        Of the elements: in-switch reduction knows floats only.
    algorithm, protocol, library
        As for `collective_phases`. Of `gloo` the algorithms are `GLOO_ALGORITHMS`, see `gloo`.

    Examples
    --------
    >>> import simgpu
    >>> times = collective_time(simgpu.load_cluster("dgx-h100"), "all_reduce", 8, [1e3, 1e9])
    >>> times.algorithm.tolist(), times.protocol.tolist()
    (['ring', 'nvls'], ['ll', 'simple'])
    """
    ways = GLOO_ALGORITHMS if library == GLOO else ALGORITHMS
    for what, given, known in (("algorithm", algorithm, ways), ("protocol", protocol, PROTOCOLS)):
        if given not in known:
            raise InputError(f"unknown {what} '{given}'{nearest(given, known)}", key=what)
    return _model(cluster, kind, gpus, library, dtype).times(sizes, algorithm, protocol)


def collective_notes(
    cluster: Cluster, kind: str, gpus: int | Sequence[int], sizes: Iterable[float], dtype: str = "bf16"
) -> list[str]:
    """For each size a word where NCCL chooses, by its own estimates, what is not the fastest way; else ''."""
    model = _model(cluster, kind, gpus, "nccl", dtype)
    return [model.note(float(size)) for size in sizes]


def _model(cluster: Cluster, kind: str, gpus: int | Sequence[int], library: str, dtype: str) -> CollectiveModel:
    chosen = range(min(gpus, cluster.gpu_count + 1)) if isinstance(gpus, int) else gpus  # 10**30 are not listed
    if not chosen or max(chosen) >= cluster.gpu_count:
        count = gpus if isinstance(gpus, int) else len(chosen)
        raise InputError(f"{shown(count)} GPUs do not fit '{cluster.name}', which has {cluster.gpu_count}", key="gpus")
    machine = machine_of(cluster)
    if len(chosen) > WHOLE_GPUS and library == "nccl" and can_stand(machine, chosen):
        key = ("large", kind_of(kind) or kind, len(chosen), dtype)
        known = machine.memo.region("large collectives", LARGEST)
        found: CollectiveModel = known.known(
            key, lambda: large_model(machine, kind_of(kind) or kind, len(chosen), dtype)
        )
        return found
    check_ranks(len(chosen))  # before a graph of them is built
    topology = topology_of(cluster, max(chosen) // cluster.gpus_per_node + 1)
    return model_of(topology, kind_of(kind) or kind, list(chosen), library, dtype)
