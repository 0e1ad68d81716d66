"""What collectives cost a step: inside blocks as seconds, between blocks as flows on links, for one rank or for all.

**Folding.** Ranks of a pipeline stage run the same program in the same surroundings, so one of them can stand for all.
Up to `EXACT` ranks the links are coloured (`folding.py`), so that the folded step takes what the unfolded one takes;
where the ranks of a stage are not alike, each is simulated. Beyond, classes of links are taken for alike: what belongs
to a GPU of the stage, by kind and rate; to a node that one stage fills; to a leaf switch, likewise; what several
stages share, link by link; each carries the mean of its class.

Inside a block the collectives of all groups of a stage on the same nodes share the links. Those of other stages on the
same node are not counted: they share no NVLink, but may share PCIe switches and host memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from math import inf
from typing import Any, NamedTuple

from simgpu.engine import Phase, Simulator
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import machine_of
from simgpu.hardware.topology import Topology
from simgpu.memo import Region, key_of
from simgpu.plan.parallelism import Plan
from simgpu.timing.collectives import Chosen, model_of
from simgpu.timing.collectives.ideal import CollectivePhase, Edge
from simgpu.timing.collectives.traffic import PAIRWISE, SEND, bus_factor
from simgpu.timing.kernels import NONE, KernelModel, Uncertainty
from simgpu.workload.afflicted import Afflicted
from simgpu.workload.classes import Surroundings
from simgpu.workload.copies import COPIES, copy_phase
from simgpu.workload.folding import Colours, Pattern, colours
from simgpu.workload.sharing import capacities_of, link_of, together, ways_of

Ranks = tuple[int, ...]

Demand = tuple[str, str, int, float]
"""Kind of a collective, group, stage, bytes; activations are ('send_recv', 'next' or 'back', stage, bytes)."""

REMEMBERED = 5000
"""Collectives that are remembered for groups in equal places, inside blocks and between them: some 2 kB each."""

GROUPS = 256
"""Places of groups whose collectives are remembered for a cluster."""

EXACT = 64
"""Ranks up to which folding is exact."""


@dataclass(frozen=True)
class Call:
    """Time of a collective, s, with its uncertainty, and what it takes from compute kernels beside it.

    Only equal collectives of the same stage share the links with it. `sol_s` is its time at the rate of the first
    route, s; `drag` the fraction of multiprocessors that its channels hold.
    """

    seconds: float
    uncertainty: Uncertainty
    sol_s: float
    chosen: Chosen | None
    drag: float

    def slower(self, factor: float) -> Call:
        """The same, longer by a factor."""
        return self if factor == 1 else replace(self, seconds=self.seconds * factor)


OFFLOAD = "offload"
"""The group of copies between a GPU and its host or its node's drives: each GPU is one of its own."""

FREE = Call(0.0, NONE, 0.0, None, 0.0)


@dataclass(frozen=True)
class Transfer:
    """A collective of some ranks as the engine runs it."""

    ranks: Ranks
    phases: tuple[Phase, ...]
    call: Call

    def slower(self, factor: float) -> Transfer:
        """The same, with everything longer by a factor."""
        phases = self.phases if factor == 1 else tuple(phase.slower(factor) for phase in self.phases)
        return Transfer(self.ranks, phases, self.call.slower(factor))


class _Alike(NamedTuple):
    """Groups that share links, a name that is equal for groups in equal places, and times by kind and size."""

    name: bytes
    groups: list[Ranks]
    known: Region[tuple[str, float], Call]


OUTSIDE_BLOCKS = ("cluster", "plan", "folded")
"""Fields of `Links` that the time of a collective inside a block does not depend on: the machine of its cluster has the
memory, groups of ranks stand for the plan, and folding is of what lies between blocks."""

NO_FLOWS = (*OUTSIDE_BLOCKS, "kernels", "custom", "custom_limits")
"""Fields that the flows of collectives between blocks, which are NCCL's, do not depend on."""


@dataclass(eq=False)
class Links:
    """The links of a plan on a cluster.

    With `custom`, all-reduces inside blocks run as the custom kernels of serving engines, where the GPUs reach each
    other directly. `custom_limits` are pairs of a number of GPUs and the largest message, bytes, that an engine runs
    in this way on so many GPUs; without a pair it runs every size.
    """

    cluster: Cluster
    plan: Plan
    kernels: KernelModel
    algorithm: str
    protocol: str
    folded: bool = True
    custom: bool = False
    custom_limits: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        cluster, plan = self.cluster, self.plan
        self.machine = machine_of(cluster)
        self.each = not self.folded  # each rank is simulated
        self._replayed = cluster.kernel.replayed("collective")
        self._inner: dict[str, _Alike] = {}
        self._transfers: dict[tuple[Any, ...], list[Transfer]] = {}
        self._numbers: dict[object, int] = {}
        self._sim: Simulator | None = None
        self._stage_of = plan.stage
        self._colours: Colours | None = None
        self._known = self.machine.memo.region("classes", REMEMBERED)  # of other plans too
        self._surroundings = Surroundings(cluster, plan, self._stage_of)
        self.afflicted = Afflicted(cluster, plan, self._stage_of)
        self.each = self.each or (bool(self.afflicted.times) and plan.world <= EXACT)

    def prepare(self, demands: Iterable[Demand]) -> None:
        """Find out which links and ranks are alike, given all collectives that will run between blocks."""
        if self.each or self._colours is not None or self.plan.world > EXACT:
            return
        topology = self._whole
        patterns: dict[object, Pattern] = {}
        capacity: dict[object, float] = {}
        for demand in dict.fromkeys(demands):
            for key, phase in self._at_once(topology, demand):
                if key not in patterns:
                    patterns[key] = [list(ways_of(topology, one)) for one in phase]
                    capacity |= capacities_of(topology, phase)
        self._colours = colours(list(patterns.values()), capacity)
        self.each = not self._colours.alike

    def _at_once(self, topology: Topology, demand: Demand) -> Iterator[tuple[object, tuple[CollectivePhase, ...]]]:
        """Each phase of a demand, of all its groups at once, after a key that is equal for equal phases."""
        kind, group, stage, size = demand
        if kind == "send_recv":
            kind, groups = SEND, self._pairs(stage, group)
        else:
            groups = self._of_stage(group, stage)
        if _moves_nothing(kind, groups, size):
            return
        for i, phase in enumerate(zip(*(self._phases(topology, kind, g, size) for g in groups), strict=True)):
            yield (kind, group, stage, i, self._choices(topology, kind, groups, size)), phase

    # ---- ranks ---------------------------------------------------------------------------------------

    def ranks(self, stage: int) -> list[int]:
        """Ranks of a stage that are simulated: the first, or all."""
        return self._members(stage) if self.each else [self.plan.rank(pp=stage)]

    def _stand_in(self, stage: int) -> int:
        """The rank whose surroundings stand for those of all ranks of a stage."""
        return self.afflicted.stands_for(stage, self.plan.rank(pp=stage))

    def _members(self, stage: int) -> list[int]:
        return [rank for rank in range(self.plan.world) if self._stage_of(rank) == stage]

    def _of_stage(self, kind: str, stage: int) -> list[Ranks]:
        """All groups of a stage."""
        return list(dict.fromkeys(self._group(kind, rank) for rank in self._members(stage)))

    def _group(self, kind: str, rank: int) -> Ranks:
        if kind == OFFLOAD:  # each for itself
            return (rank,)
        if kind == "embedding":  # the first stage and the last
            return self._peer(rank, 0), self._peer(rank, self.plan.pp - 1)
        return self.plan.group(kind, rank)

    def shown(self, stage: int) -> list[int]:
        """Ranks of a stage that stand for the others in what is shown; empty where every rank is shown."""
        return [self.plan.rank(pp=stage)] if self.folded else []

    def _pairs(self, stage: int, towards: str) -> list[Ranks]:
        """Every rank of a stage with its counterpart on the next stage ('next') or the one before ('back')."""
        other = (stage + (1 if towards == "next" else -1)) % self.plan.pp
        return [(rank, self._peer(rank, other)) for rank in self._members(stage)]

    def _groups(self, kind: str, rank: int) -> list[Ranks]:
        """The group of a rank, and those that use the same nodes as it."""
        per_node, plan = self.cluster.gpus_per_node, self.plan
        groups: dict[Ranks, None] = {self._group(kind, rank): None}
        nodes: set[int] = set()
        fresh = {r // per_node for r in next(iter(groups))}
        stage = self._stage_of(rank)
        while fresh:
            nodes |= fresh
            members = [r for n in sorted(fresh) for r in range(n * per_node, min((n + 1) * per_node, plan.world))]
            grouped = {r for group in groups for r in group}
            for r in members:
                if r not in grouped and self._stage_of(r) == stage:
                    group = self._group(kind, r)
                    groups[group] = None
                    grouped.update(group)
            fresh = {r // per_node for group in groups for r in group} - nodes
        return list(groups)

    def _place(self, groups: Sequence[Ranks]) -> tuple[Topology, dict[int, int]]:
        """A topology that holds the ranks of `groups`, and the GPU of each; leaf switches stay apart."""
        per_node = self.cluster.gpus_per_node
        number = self._surroundings.numbered({rank // per_node for group in groups for rank in group})
        where = {r: number[r // per_node] * per_node + r % per_node for group in groups for r in group}
        count = max(number.values()) + 1
        real = [-1] * count if self.cluster.spec.degraded else []
        if real:
            for node, small in number.items():
                real[small] = node
        return self.machine.topology(count, tuple(real)), where

    @property
    def _whole(self) -> Topology:
        return self.machine.topology(-(-self.plan.world // self.cluster.gpus_per_node))

    # ---- inside blocks -------------------------------------------------------------------------------

    def identity(self, groups: Iterable[str]) -> tuple[Any, ...]:
        """A key, equal for links of a cluster whose collectives of these groups take equal times inside blocks."""
        return tuple(self._shared(group).name for group in groups)

    def inner(self, kind: str, group: str, size: float) -> Call:
        """The time of a collective inside a block, with all groups of the stage on the same nodes at once."""
        alike = self._shared(group)
        found: Call = alike.known.known((kind, size), lambda: self._time(kind, alike.groups, size))
        return found.slower(self._replayed.get(group, 1.0))

    def _shared(self, group: str) -> _Alike:
        """The groups around the first rank's, and what is known of collectives of groups that lie like them."""
        if (shared := self._inner.get(group)) is not None:
            return shared
        groups = self._groups(group, self.afflicted.anywhere())
        name = _digest(key_of(self, OUTSIDE_BLOCKS, kernels=self.kernels.identity), groups)
        memo = self.machine.memo.region("collectives", GROUPS)
        made: _Alike = memo.known(name, lambda: _Alike(name, groups, Region(REMEMBERED)))
        self._inner[group] = made
        return made

    def _time(self, kind: str, groups: list[Ranks], size: float) -> Call:
        if len(groups[0]) == 1 or size == 0:
            return FREE
        if kind == "send_recv":  # of each to its successor: sends that start together
            kind, groups = SEND, [(g[i], g[(i + 1) % len(g)]) for g in groups for i in range(len(g))]
        topology, where = self._place(groups)
        placed = [tuple(where[r] for r in group) for group in groups]
        custom = self.custom and kind == "all_reduce" and self.protocol == "auto"
        custom = custom and size <= dict(self.custom_limits).get(len(groups[0]), inf)
        library = "custom" if custom else "nccl"
        model = model_of(topology, kind, placed[0], library)
        times = model.times(size, self._algorithm(kind), self._protocol(kind))
        seconds = float(times.seconds)
        if len(groups) > 1:
            phases = [self._phases(topology, kind, g, size) for g in placed]
            shared = together(topology, phases)
            if library == "custom":  # it is not NCCL's, but shares the same links: longer by as much
                shared *= seconds / together(topology, phases[:1])
            seconds = max(seconds, shared)
        chosen = model.chosen(size, self._algorithm(kind), self._protocol(kind))
        return self._call(topology, kind, placed[0], size, seconds, int(times.channels), chosen)

    def _protocol(self, kind: str) -> str:
        return self.protocol if kind not in PAIRWISE or self.protocol == "ideal" else "auto"

    def _phases(self, topology: Topology, kind: str, group: Ranks, size: float) -> list[CollectivePhase]:
        if kind in COPIES:
            ranks = min(self.plan.world, self.cluster.gpus_per_node)
            return [copy_phase(topology, kind, group[0], size, ranks)]
        return model_of(topology, kind, group).phases(size, self._algorithm(kind), self._protocol(kind))

    def _algorithm(self, kind: str) -> str:
        return self.algorithm if kind not in PAIRWISE else "auto"

    def _chosen(self, topology: Topology, kind: str, group: Ranks, size: float) -> Chosen:
        return model_of(topology, kind, group).chosen(size, self._algorithm(kind), self._protocol(kind))

    def _choices(
        self, topology: Topology, kind: str, groups: Iterable[Ranks], size: float
    ) -> tuple[tuple[str, str], ...]:
        """Algorithm and protocol of each group: one that spans more nodes than the others may choose differently."""
        if kind in COPIES:
            return (("copy", str(min(self.plan.world, self.cluster.gpus_per_node))),)
        return tuple(self._chosen(topology, kind, group, size)[:2] for group in groups)

    def _call(
        self, topology: Topology, kind: str, group: Ranks, size: float, seconds: float, channels: int,
        chosen: Chosen | None = None,
    ) -> Call:  # fmt: skip
        rate = topology.bandwidth(topology.route(group[0], group[1]))
        sol_s = bus_factor(kind, len(group)) * size / rate
        chosen = chosen or self._chosen(topology, kind, group, size)
        measured = "send_recv" if kind == SEND else kind
        ideal, n = self.protocol == "ideal", self.cluster.gpus_per_node
        leaves = kind not in COPIES and any(rank // n != group[0] // n for rank in group)
        uncertainty = (
            NONE if ideal else self.kernels.collective_uncertainty(measured, sol_s, chosen.measured_as, nodes=leaves)
        )
        drag = channels / self.cluster.gpu.compute.sm_count.si
        return Call(seconds, uncertainty, sol_s, chosen, min(drag, 0.5))

    # ---- between blocks ------------------------------------------------------------------------------

    def use(self, sim: Simulator) -> None:
        """Use a simulator, which numbers the links from now on."""
        self._sim, self._numbers, self._transfers = sim, {}, {}

    def collective(self, kind: str, group: str, stage: int, size: float) -> list[Transfer]:
        """A collective over all groups of a stage: a transfer for each group or, folded, one for all of them."""
        key = (kind, group, stage, size)
        transfers = self._transfers.get(key)
        if transfers is None:
            exact = self.each or self._colours is not None
            groups = self._of_stage(group, stage) if exact else self._groups(group, self._stand_in(stage))
            stages = (0, self.plan.pp - 1) if group == "embedding" else (stage,)
            transfers = self._all(kind, groups, size, stages)
            transfers = self._transfers[key] = [one.slower(self._replayed.get(group, 1.0)) for one in transfers]
        return transfers

    def between(self, stage: int, other: int, size: float, gather: float = 0.0) -> list[Transfer]:
        """Activations of every rank of a stage to its counterpart on stage `other`; then `gather` s of a gather."""
        key = ("p2p", stage, other, size, gather)
        transfers = self._transfers.get(key)
        if transfers is None:
            senders = self._members(stage) if self.each or self._colours is not None else self._neighbours(stage)
            groups: list[Ranks] = [(r, self._peer(r, other)) for r in senders]
            transfers = self._all(SEND, groups, size, (stage, other))
            transfers = [one.slower(self._replayed.get("pp", 1.0)) for one in transfers]
            if gather:
                transfers = [Transfer(t.ranks, (*t.phases, Phase(gather)), t.call) for t in transfers]
            self._transfers[key] = transfers
        return transfers

    def copy_rate(self, kind: str) -> float:
        """Bytes/s of a copy of the slowest rank when all ranks of a node copy at once."""
        topology = self.machine.topology(1)
        ranks = min(self.plan.world, self.cluster.gpus_per_node)
        ways = [copy_phase(topology, kind, gpu, 1.0, ranks) for gpu in range(ranks)]
        crossed = Counter(edge for way in ways for flow in way.flows for edge in flow.edges)
        rates = {edge: rate for way in ways for edge, rate in way.channels.items()}
        return min(
            (rates[edge] if edge in rates else topology.wires.edges[edge]["bandwidth"]) / count
            for edge, count in crossed.items()
        )

    def _neighbours(self, stage: int) -> list[int]:
        """Ranks of a stage on the node of its first."""
        per_node = self.cluster.gpus_per_node
        first = self._stand_in(stage) // per_node * per_node
        here = range(first, min(first + per_node, self.plan.world))
        return [r for r in here if self._stage_of(r) == stage]

    def _peer(self, rank: int, stage: int) -> int:
        return self.plan.rank(**{**self.plan.coordinates(rank), "pp": stage})

    def _all(self, kind: str, groups: list[Ranks], size: float, stages: tuple[int, ...]) -> list[Transfer]:
        if _moves_nothing(kind, groups, size):
            return []
        if self.each or self._colours is not None:
            topology, where = self._whole, {r: r for group in groups for r in group}
        else:
            topology, where = self._place(groups)
        placed = [tuple(where[r] for r in group) for group in groups]
        if kind in COPIES:
            call = FREE
        else:
            times = model_of(topology, kind, placed[0]).times(size, self._algorithm(kind), self._protocol(kind))
            call = self._call(topology, kind, placed[0], size, float(times.seconds), int(times.channels))
        if self.each:
            plain = [tuple(self._plain(topology, self._phases(topology, kind, group, size))) for group in placed]
            return [Transfer(ranks, phases, call) for ranks, phases in zip(groups, plain, strict=True)]
        if self._colours is not None:
            phases = tuple(self._coloured(topology, kind, placed, size))
        else:
            phases = tuple(self._classed(topology, kind, placed, size, where, stages))
        return [Transfer(tuple(self.plan.rank(pp=s) for s in stages), phases, call)]

    def _plain(self, topology: Topology, phases: Sequence[CollectivePhase]) -> Iterator[Phase]:
        for phase in phases:
            number = partial(self._numbered, topology, phase.channels)
            yield Phase(phase.latency, tuple(flow.numbered(number) for flow in phase.flows))

    def _numbered(self, topology: Topology, channels: Mapping[Edge, float], edge: Edge) -> int:
        return self._number(*link_of(topology, edge, channels))

    def _coloured(self, topology: Topology, kind: str, placed: Sequence[Ranks], size: float) -> Iterator[Phase]:
        """Equal collectives as one, on colours of links."""
        assert self._colours is not None
        for phase in zip(*(self._phases(topology, kind, group, size) for group in placed), strict=True):
            capacity = capacities_of(topology, phase)
            rate = {self._colours.of[key]: value for key, value in capacity.items()}
            flows = self._colours.folded(way for one in phase for way in ways_of(topology, one))
            yield Phase(
                phase[0].latency,
                tuple((tuple(self._number(c, rate[c]) for c in on), each, counts) for on, each, counts in flows),
            )

    def _classed(
        self, topology: Topology, kind: str, placed: Sequence[Ranks], size: float, where: Mapping[int, int],
        stages: tuple[int, ...],
    ) -> Iterator[Phase]:  # fmt: skip
        """Equal collectives as one, on classes of links. Stages that look alike are worked out once."""
        back = {gpu: rank for rank, gpu in where.items()}
        phases = self._phases(topology, kind, placed[0], size)
        # flows are in proportion to the size, but for ideal ones; rounded, the share is that of any size
        part = 1.0 if self.protocol == "ideal" else size
        chosen = size if self.protocol == "ideal" else self._choices(topology, kind, placed, size)
        # thousands of ranks: a digest of what they are, not they themselves, is remembered
        there = tuple(back.values()) if self.afflicted.any else ()
        key = _digest(key_of(self, NO_FLOWS), kind, placed, chosen, self._surroundings.around(back, stages[0]), there)

        def folded() -> list[list[Any]]:
            every = zip(*(self._phases(topology, kind, group, size) for group in placed), strict=True)
            folds = (self._surroundings.folded(topology, phase, back, stages[0]) for phase in every)
            return [[(route, float(f"{each / part:.13g}"), counts) for route, each, counts in flows] for flows in folds]

        for phase, flows in zip(phases, self._known.known(key, folded), strict=True):
            yield Phase(
                phase.latency,
                tuple((self._of_classes(route, stages[0]), share * part, counts) for route, share, counts in flows),
            )

    def _of_classes(self, route: Iterable[tuple[Any, ...]], first: int) -> tuple[int, ...]:
        """Numbers of the classes of links on a route, whose stages are counted from stage `first`."""
        absolute = ((tuple(first + offset for offset in offsets), *rest) for offsets, *rest in route)
        return tuple(self._number(key, key[-1]) for key in absolute)

    def _number(self, key: object, capacity: float) -> int:
        number = self._numbers.get(key)
        if number is None:
            assert self._sim is not None
            number = self._numbers[key] = self._sim.add_link(capacity)
        return number


def _moves_nothing(kind: str, groups: Sequence[Ranks], size: float) -> bool:
    return (len(groups[0]) == 1 and kind not in COPIES) or size == 0


def _digest(*parts: object) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=20).digest()
