"""Running a sharded program on the engine: streams for every rank, flows on the cluster's links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from simgpu.engine import Phase, Simulator, Timeline
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.topology import Topology
from simgpu.plan.parallelism import Plan
from simgpu.plan.program import Barrier, Collective, Program, ProgramSegment, Step
from simgpu.timing.collectives import Chosen, collective_phases, model_of
from simgpu.timing.collectives.ideal import Edge
from simgpu.timing.collectives.traffic import bus_factor
from simgpu.timing.kernels import NONE, Doubt, KernelModel, KernelTime


@dataclass(frozen=True)
class Activity:
    """What a span of the timeline is: the label that the engine carries along."""

    name: str
    category: str  # compute or communication
    kind: str  # matmul, attention, all_reduce ...
    segment: str
    flops: float = 0.0
    bytes: float = 0.0  # moved through memory by a kernel; payload of a collective
    bound: str = ""
    doubt: Doubt = NONE
    time: KernelTime | None = None  # of a kernel: what it was timed as
    light: float = 0.0  # s at the speed of light: datasheet peak and bandwidth; rate of the first route
    chosen: Chosen | None = None  # of a collective over several GPUs: how it runs
    group: str = ""  # of a collective: over which ranks (tp, cp, ep, shard, replica, grad, pp)
    task: tuple[int, int] | None = None  # of a pass of a microbatch through a chunk: microbatch and chunk


@dataclass(frozen=True)
class Execution:
    """A finished run: its timeline, and the streams of each rank by name ('compute', 'tp', 'dp')."""

    timeline: Timeline
    streams: Sequence[Mapping[str, int]]
    blocks: Mapping[Activity, tuple[tuple[Any, int], ...]] = field(default_factory=dict)
    """Of an activity that stands for whole layers: the blocks it is made of, and how often."""

    @property
    def step(self) -> float:
        """Seconds from the first kernel to the end of the last activity."""
        return self.timeline.makespan


def execute(
    program: Program,
    plan: Plan,
    cluster: Cluster,
    kernels: KernelModel,
    algorithm: str = "auto",
    protocol: str = "auto",
) -> Execution:
    """Run `program` on the first GPUs of `cluster`, rank r on GPU r.

    Every rank has a compute stream and one stream for each group it communicates in. A collective starts when
    all its ranks have reached it, and the kernels after it wait for it.
    """
    nodes = -(-plan.world // cluster.gpus_per_node)
    topology = cluster.topology_of(nodes) if plan.world > 1 else None
    return _Execution(program, plan, topology, kernels, algorithm, protocol).run()


@dataclass(frozen=True)
class _Kernels:
    """Kernels that follow each other, with their seconds."""

    seconds: Sequence[float]
    labels: Sequence[Activity]


@dataclass(frozen=True)
class _Collective:
    """A collective, with its label for each group of ranks."""

    step: Collective
    labels: Mapping[tuple[int, ...], Activity]


class _Execution:
    def __init__(
        self,
        program: Program,
        plan: Plan,
        topology: Topology | None,
        kernels: KernelModel,
        algorithm: str,
        protocol: str,
    ) -> None:
        self.program, self.plan, self.topology = program, plan, topology
        self.kernels, self.algorithm, self.protocol = kernels, algorithm, protocol
        self.sim = Simulator()
        groups = dict.fromkeys(step.group for step, _ in program.collectives())
        names = ["compute", *groups]
        self.streams = [{name: self.sim.add_stream(f"rank {r}/{name}") for name in names} for r in range(plan.world)]
        self._link_numbers: dict[Edge, int] = {}
        self._phases: dict[tuple, list[Phase]] = {}
        self._doubts: dict[tuple, tuple[Doubt, None, float, Chosen | None]] = {}

    def run(self) -> Execution:
        # the collective that each rank's next kernel waits for
        pending: list[list[int]] = [[] for _ in self.streams]
        for segment in self.program.segments:
            parts = list(self._parts(segment))
            for _ in range(segment.repeat):
                for part in parts:
                    if isinstance(part, _Kernels):
                        for rank, streams in enumerate(self.streams):
                            self.sim.sequence(streams["compute"], part.seconds, pending[rank], part.labels)
                            pending[rank] = []
                    else:
                        self._collective(part, pending)
        return Execution(self.sim.run(), self.streams)

    def _parts(self, segment: ProgramSegment) -> Iterator[_Kernels | _Collective]:
        """What a segment is for the engine, each time it runs: kernels in a row, and collectives between them."""
        batch: list[Step] = []
        for step in segment.steps:
            if not isinstance(step, Collective):
                batch.append(step)
                continue
            if batch:
                yield self._kernels(batch, segment.name)
            batch = []
            label = (step.name, "communication", step.kind, segment.name, 0.0, step.size, "network")
            groups = dict.fromkeys(self.plan.group(step.group, rank) for rank in range(self.plan.world))
            yield _Collective(step, {ranks: Activity(*label, *self._sure(step, ranks)) for ranks in groups})
        if batch:
            yield self._kernels(batch, segment.name)

    def _kernels(self, batch: Sequence[Step], segment: str) -> _Kernels:
        seconds, labels = [], []
        for op in batch:
            assert not isinstance(op, (Collective, Barrier))
            time = self.kernels.time(op)
            seconds.append(time.seconds)
            label = (op.name, "compute", op.kind, segment, op.flops, op.bytes, time.bound, time.doubt, time, time.light)
            labels.append(Activity(*label))
        return _Kernels(seconds, labels)

    def _collective(self, part: _Collective, pending: list[list[int]]) -> None:
        for ranks, label in part.labels.items():
            after = [last for r in ranks if (last := self.sim.last_in(self.streams[r]["compute"])) is not None]
            after += [waiting for r in ranks for waiting in pending[r]]
            streams = [self.streams[r][part.step.group] for r in ranks]
            done = self.sim.transfer(streams, self._flows(part.step, ranks), dict.fromkeys(after), label)
            for r in ranks:
                pending[r] = [done]

    def _flows(self, step: Collective, ranks: tuple[int, ...]) -> list[Phase]:
        """Phases of a collective in the engine's terms; equal collectives are worked out once."""
        assert self.topology is not None
        key = (step.kind, step.size, ranks)
        phases = self._phases.get(key)
        if phases is None:
            planned = collective_phases(self.topology, step.kind, ranks, step.size, self.algorithm, self.protocol)
            phases = self._phases[key] = [
                Phase(p.latency, tuple(flow.numbered(partial(self._link, lanes=p.lanes)) for flow in p.flows))
                for p in planned
            ]
        return phases

    def _sure(self, step: Collective, ranks: tuple[int, ...]) -> tuple[Doubt, None, float, Chosen | None]:
        """What the label of a collective says of its time: how sure it is (an ideal one is what it is), no kernel, its
        time at the speed of light, how it runs."""
        if len(ranks) == 1:
            return NONE, None, 0.0, None
        key = (step.kind, step.size, ranks)
        found = self._doubts.get(key)
        if found is None:
            assert self.topology is not None
            rate = self.topology.bandwidth(self.topology.route(ranks[0], ranks[1]))
            light = bus_factor(step.kind, len(ranks)) * step.size / rate
            doubt = NONE if self.protocol == "ideal" else self.kernels.doubt_of_collective(step.kind, light)
            chosen = model_of(self.topology, step.kind, ranks).chosen(step.size, self.algorithm, self.protocol)
            found = self._doubts[key] = (doubt, None, light, chosen)
        return found

    def _link(self, edge: Edge, lanes: Mapping[Edge, float]) -> int:
        number = self._link_numbers.get(edge)
        if number is None:
            assert self.topology is not None
            capacity = lanes[edge] if edge in lanes else self.topology.graph.edges[edge]["bandwidth"]
            number = self._link_numbers[edge] = self.sim.add_link(capacity)
        return number
