"""Running a sharded program on the engine: streams for every rank, flows on the cluster's links."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

from simgpu.engine import Phase, Simulator, Timeline
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import machine_of, topology_of
from simgpu.hardware.topology import Topology
from simgpu.memo import SHARED, Region
from simgpu.plan.parallelism import Plan
from simgpu.plan.program import Barrier, Collective, Program, ProgramSegment, Step
from simgpu.timing.collectives import Chosen, collective_phases, model_of
from simgpu.timing.collectives.ideal import Edge
from simgpu.timing.collectives.traffic import bus_factor
from simgpu.timing.kernels import NONE, KernelModel, KernelTime, Uncertainty

T = TypeVar("T")


@dataclass(frozen=True)
class Activity:
    """The label of a span of the timeline, which the engine carries along."""

    name: str
    category: str  # compute or communication
    kind: str  # matmul, attention, all_reduce ...
    segment: str
    flops: float = 0.0
    bytes: float = 0.0  # moved through memory by a kernel; payload of a collective
    bound: str = ""
    uncertainty: Uncertainty = NONE
    time: KernelTime | None = None  # of a kernel: what it was timed as
    sol_s: float = 0.0  # s at the speed of light: datasheet peak and bandwidth; rate of the first route
    chosen: Chosen | None = None  # of a collective over several GPUs: how it runs
    group: str = ""  # of a collective: over which ranks (tp, cp, ep, shard, replica, grad, pp)
    task: tuple[int, int] | None = None  # of a pass of a microbatch through a chunk: microbatch and chunk
    op: Any = field(default=None, compare=False, repr=False)  # of a kernel: the operator
    ranks: int = field(default=0, compare=False)  # of a collective: how many it goes over, where one run knows it

    def __hash__(self) -> int:
        # of what tells activities apart; of every field it took most of the time of taking a step apart
        return hash((self.name, self.kind, self.segment, self.flops, self.bytes, self.group, self.task))


@dataclass(frozen=True)
class Execution:
    """A finished run: its timeline, and the streams of each rank by name ('compute', 'tp', 'dp')."""

    timeline: Timeline
    streams: Sequence[Mapping[str, int]]
    blocks: Mapping[Activity, tuple[tuple[Any, int], ...]] = field(default_factory=dict)
    """The blocks that an activity for whole layers is made of, and how often each runs."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.streams)} ranks, {self.step:.6g} s)"

    @property
    def step(self) -> float:
        """Seconds from the first kernel to the end of the last activity."""
        return self.timeline.makespan

    def remembered(self, what: Hashable, make: Callable[[], T]) -> T:
        """What follows from this run, worked out once: runs are remembered themselves, and do not change."""
        known: dict[Hashable, T] = self.__dict__.setdefault("_remembered", {})
        if what not in known:
            known[what] = make()
        return known[what]


class PeriodicExecution(Execution):
    """A run whose middle repeats: two short runs that differ by one period, and how often the period comes.

    Everything that adds up over a run (seconds, counts, FLOPs) grows by the same amount with every period, so it
    follows from the two short runs (`grown`). What needs every activity, such as a trace, asks `timeline`: then the
    whole run is simulated.
    """

    def __init__(self, few: Execution, more: Execution, periods: int, whole: Callable[[], Execution]) -> None:
        """`more` is `few` with one period more; the run has `periods` more than `few`."""
        own = {"few": few, "more": more, "periods": periods, "_whole": whole, "streams": few.streams}
        self.__dict__.update(own)  # frozen like its parent

    few: Execution
    more: Execution
    periods: int

    def grown(self, few: float, more: float) -> float:
        """A sum over the whole run from the same sums over `few` and `more`."""
        return few + self.periods * (more - few)

    @property
    def step(self) -> float:
        """Seconds of the whole run."""
        return self.grown(self.few.step, self.more.step)

    @property
    def activities(self) -> int:
        """Activities of the whole run."""
        return round(self.grown(len(self.few.timeline.end), len(self.more.timeline.end)))

    @cached_property
    def whole(self) -> Execution:
        """The run with every period simulated. Raises `InputError` where they are too many."""
        run: Callable[[], Execution] = self.__dict__["_whole"]
        return run()

    @property
    def timeline(self) -> Timeline:
        """Every activity of the whole run, which is simulated for it. Raises `InputError` where they are too many."""
        return self.whole.timeline

    @property
    def blocks(self) -> Mapping[Activity, tuple[tuple[Any, int], ...]]:
        """Blocks of the whole run once it was simulated; before that, of its first periods, which later ones repeat."""
        known: Execution = self.__dict__.get("whole", self.few)
        return known.blocks


MOST_ACTIVITIES = 200_000
"""Activities of a run that are simulated one by one: ten to twenty seconds."""

CLOSE = 4e-12
"""Times that differ by less than this share of a run are equal: sums of thousands of times are not exact."""


def repeats(few: Execution, more: Execution, couples: bool = True) -> bool:
    """True if two runs differ by one period of a run that goes on for ever.

    The later half of every stream that has more to do in `more` must shift by one time; by the same for all streams
    where everything waits for everything else again and again (`couples`).
    """
    import numpy as np

    def ends(execution: Execution, numbers: Sequence[int]) -> Any:
        return np.array([execution.timeline.end[number] for number in numbers])

    close = CLOSE * more.step
    shifts = []
    for stream in range(len(few.timeline.streams)):
        one, other = few.timeline.of(stream), more.timeline.of(stream)
        if len(one) == len(other):
            continue
        half = -(len(one) // 2)
        shift = ends(more, other[half:]) - ends(few, one[half:])
        if np.ptp(shift) > close:
            return False
        shifts.append(float(shift[-1]))
    return not couples or not shifts or max(shifts) - min(shifts) <= close


MOST_REPEATS = 16
"""Runs of a segment, such as a model's layers, that are simulated one by one."""


def execute(
    program: Program,
    plan: Plan,
    cluster: Cluster,
    kernels: KernelModel,
    algorithm: str = "auto",
    protocol: str = "auto",
    launch: float = 0.0,
) -> Execution:
    """Run `program` on the first GPUs of `cluster`, rank r on GPU r.

    Every rank has a compute stream and one stream for each group it communicates in. A collective starts when
    all its ranks have reached it, and the kernels after it wait for it. Of very many replicas those of the first node
    are run, of very many runs of a segment a few. Where the host takes `launch` seconds for each kernel or collective,
    it runs ahead of the GPU, and no kernel starts before its launch is done. Raises `InputError` (key only) for more
    than can be simulated.
    """
    plan = _first_replicas(program, plan, cluster)
    known: Region[Any, Execution] = SHARED.region("runs", REMEMBERED, lambda run: len(run.timeline.end))
    where = machine_of(cluster).identity, kernels.identity, algorithm, protocol, launch

    def run(most: int) -> Execution:
        """A run with so many of each segment at most, remembered: another question asks for the same."""
        key = (program, plan, most, where)
        found = known.get(key)
        if found is None:
            found = simulated(most)
            if len(found.timeline.end) <= REMEMBERED // 4:
                known[key] = found
        return found

    def simulated(most: int) -> Execution:
        each = sum(len(segment.steps) * min(segment.repeat, most) for segment in program.segments)
        if plan.world * each > MOST_ACTIVITIES:
            problem = f"{plan.world:,} ranks with {each:,} operators each are too many to simulate"
            raise InputError(f"{problem}; expected at most {MOST_ACTIVITIES:,} together", key="plan")
        some = tuple(replace(segment, repeat=min(segment.repeat, most)) for segment in program.segments)
        nodes = -(-plan.world // cluster.gpus_per_node)
        topology = topology_of(cluster, nodes) if plan.world > 1 else None
        return _Execution(replace(program, segments=some), plan, topology, kernels, algorithm, protocol, launch).run()

    counts = sorted(segment.repeat for segment in program.segments)
    longest = max(counts, default=0)
    if longest > MOST_REPEATS and sum(count > SOME_REPEATS for count in counts) == 1:
        few, more = run(SOME_REPEATS), run(SOME_REPEATS + 1)
        if repeats(few, more):
            return PeriodicExecution(few, more, longest - SOME_REPEATS, lambda: run(longest))
    return run(longest)


REMEMBERED = 40_000
"""Activities of all runs together that are remembered, some 300 bytes each."""

SOME_REPEATS = 6
"""Runs of a segment that are simulated to stand for many."""


def _first_replicas(program: Program, plan: Plan, cluster: Cluster) -> Plan:
    """The plan with no more replicas than the first node holds, where the others do the same on nodes of their own."""
    whole = cluster.gpus_per_node % plan.tp == 0 and plan.order[0] == "tp"
    alone = {step.group for step, _ in program.collectives()} <= {"tp"}
    if plan.world <= ALL_RANKS or plan.world != plan.tp * plan.dp or not whole or not alone:
        return plan
    return replace(plan, dp=min(plan.dp, cluster.gpus_per_node // plan.tp))


HOST = "host"
"""The stream of a rank on which its host launches kernels."""

SEQUENCES = "work for each sequence"
"""Name of the part of the host's time that grows with the sequences of a step, in which the GPU works too."""

LAUNCH = Activity("launch", "host", "host", "host")

ALL_RANKS = 64
"""Number of ranks up to which each is simulated."""


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
        launch: float = 0.0,
    ) -> None:
        self.launch = launch
        self.program, self.plan, self.topology = program, plan, topology
        self.kernels, self.algorithm, self.protocol = kernels, algorithm, protocol
        self.sim = Simulator()
        groups = dict.fromkeys(step.group for step, _ in program.collectives())
        names = ["compute", *groups, *([HOST] if launch else [])]
        self.streams = [{name: self.sim.add_stream(f"rank {r}/{name}") for name in names} for r in range(plan.world)]
        self._link_numbers: dict[Edge, int] = {}
        self._phases: dict[tuple[Any, ...], list[Phase]] = {}
        self._uncertainties: dict[tuple[Any, ...], tuple[Uncertainty, None, float, Chosen | None]] = {}

    def run(self) -> Execution:
        # the collective that each rank's next kernel waits for
        pending: list[list[int]] = [[] for _ in self.streams]
        for segment in self.program.segments:
            parts = list(self._parts(segment))
            for _ in range(segment.repeat):
                for part in parts:
                    if isinstance(part, _Kernels):
                        for rank, streams in enumerate(self.streams):
                            self._launched(streams, part, pending[rank])
                            pending[rank] = []
                    else:
                        self._collective(part, pending)
        return Execution(self.sim.run(), self.streams)

    def _launched(self, streams: Mapping[str, int], part: _Kernels, after: Sequence[int]) -> None:
        """Kernels of a rank one after another, each behind its launch where the host takes time."""
        if not self.launch:
            self.sim.sequence(streams["compute"], part.seconds, after, part.labels)
            return
        waits = list(after)
        for seconds, label in zip(part.seconds, part.labels, strict=True):
            launched = self.sim.delay(streams[HOST], self.launch, [], LAUNCH)
            self.sim.delay(streams["compute"], seconds, [*waits, launched], label)
            waits = []

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
            yield _Collective(
                step, {ranks: replace(Activity(*label, *self._sure(step, ranks)), ranks=len(ranks)) for ranks in groups}
            )
        if batch:
            yield self._kernels(batch, segment.name)

    def _kernels(self, batch: Sequence[Step], segment: str) -> _Kernels:
        seconds, labels = [], []
        for op in batch:
            assert not isinstance(op, (Collective, Barrier))
            time = self.kernels.time(op)
            seconds.append(time.seconds)
            label = (
                op.name,
                "compute",
                op.kind,
                segment,
                op.flops,
                op.bytes,
                time.bound,
                time.uncertainty,
                time,
                time.sol_s,
            )
            labels.append(Activity(*label, op=op))
        return _Kernels(seconds, labels)

    def _collective(self, part: _Collective, pending: list[list[int]]) -> None:
        for ranks, label in part.labels.items():
            after = [last for r in ranks if (last := self.sim.last_in(self.streams[r]["compute"])) is not None]
            after += [waiting for r in ranks for waiting in pending[r]]
            if self.launch:
                after += [self.sim.delay(self.streams[r][HOST], self.launch, [], LAUNCH) for r in ranks]
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
                Phase(p.latency, tuple(flow.numbered(partial(self._link, channels=p.channels)) for flow in p.flows))
                for p in planned
            ]
        return phases

    def _sure(self, step: Collective, ranks: tuple[int, ...]) -> tuple[Uncertainty, None, float, Chosen | None]:
        """The last fields of the label of a collective: uncertainty, no kernel, speed-of-light time (s), how it runs.

        An ideal collective has no uncertainty.
        """
        if len(ranks) == 1:
            return NONE, None, 0.0, None
        key = (step.kind, step.size, ranks)
        found = self._uncertainties.get(key)
        if found is None:
            assert self.topology is not None
            rate = self.topology.bandwidth(self.topology.route(ranks[0], ranks[1]))
            sol_s = bus_factor(step.kind, len(ranks)) * step.size / rate
            per_node = self.kernels.cluster.gpus_per_node
            leaves = any(rank // per_node != ranks[0] // per_node for rank in ranks)
            uncertainty = (
                NONE
                if self.protocol == "ideal"
                else self.kernels.collective_uncertainty(step.kind, sol_s, nodes=leaves)
            )
            chosen = model_of(self.topology, step.kind, ranks).chosen(step.size, self.algorithm, self.protocol)
            found = self._uncertainties[key] = (uncertainty, None, sol_s, chosen)
        return found

    def _link(self, edge: Edge, channels: Mapping[Edge, float]) -> int:
        number = self._link_numbers.get(edge)
        if number is None:
            assert self.topology is not None
            capacity = channels[edge] if edge in channels else self.topology.wires.edges[edge]["bandwidth"]
            number = self._link_numbers[edge] = self.sim.add_link(capacity)
        return number
