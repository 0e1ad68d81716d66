"""Blocks: one layer forward or backward of one microbatch on one rank, with the collectives inside it.

A block is run on the engine by itself, once for each different layer; a step is made of blocks. Kernels run on the
compute stream, collectives on the stream of their group, those in the background beside kernels, from which they take
the multiprocessors that their channels hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from simgpu.engine import Phase, Simulator
from simgpu.engine.timeline import outside, union
from simgpu.plan.program import Barrier, Collective, Step
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import Activity
from simgpu.workload.links import Call, Links


@dataclass(frozen=True)
class BlockPart:
    """All runs of one different kernel or collective in a block, s."""

    activity: Activity
    runs: int
    seconds: float
    exposed: float  # of a collective: while no kernel runs; of a kernel: all of it


@dataclass(frozen=True, eq=False)
class Block:
    """Seconds of a block, the parts that they are made of, and when each part runs (stream, start, end, label)."""

    name: str
    seconds: float
    kernels: int
    parts: tuple[BlockPart, ...]
    spans: tuple[tuple[str, float, float, Activity], ...] = field(repr=False, default=())
    flops: float = 0.0

    @property
    def compute(self) -> float:
        """Seconds in which a kernel runs, and the host's gaps between them."""
        return self.seconds - sum(part.exposed for part in self.parts if part.activity.category != "compute")

    def slowed(self, factor: float) -> Block:
        """The block with everything longer by a factor."""
        parts = (replace(one, seconds=one.seconds * factor, exposed=one.exposed * factor) for one in self.parts)
        spans = tuple((stream, start * factor, end * factor, label) for stream, start, end, label in self.spans)
        return replace(self, seconds=self.seconds * factor, parts=tuple(parts), spans=spans)


EMPTY = Block("nothing", 0.0, 0, ())

BlockCounts = tuple[tuple[Block, int], ...]
"""Blocks that an activity stands for, and how often."""


def counted(blocks: Iterable[Block]) -> BlockCounts:
    """Runs of equal neighbours, each with its count."""
    runs: list[tuple[Block, int]] = []
    for block in blocks:
        if runs and runs[-1][0] is block:
            runs[-1] = (block, runs[-1][1] + 1)
        else:
            runs.append((block, 1))
    return tuple(runs)


RECOMPUTATION = "recomputation"
"""Segment of what backward runs again of the forward pass."""


def run_block(
    name: str, steps: Sequence[Step], kernels: KernelModel, links: Links, each: float = 0.0, repeated: int = 0
) -> Block:
    """Run the steps of one rank, the first `repeated` of which are recomputation.

    The host launches a kernel in `each` s: a block takes at least that for each of its kernels.
    """
    sim = Simulator()
    streams = {"compute": sim.add_stream("compute")}
    _beside(sim, streams, steps, name, links)
    pending: dict[str, list[int]] = {}  # collectives in the background, by group
    waits: list[int] = []
    count, flops = 0, 0.0
    for i, step in enumerate(steps):
        segment = RECOMPUTATION if i < repeated else name
        if isinstance(step, Barrier):
            waits += pending.pop(step.group, [])
        elif isinstance(step, Collective):
            done = _collective(sim, streams, step, segment, links, waits)
            if step.background:
                pending.setdefault(step.group, []).append(done)
            else:
                waits = [done]
        else:
            time = kernels.time(step)
            label = Activity(
                step.name,
                "compute",
                step.kind,
                segment,
                step.flops,
                step.bytes,
                time.bound,
                time.uncertainty,
                time,
                time.sol_s,
                op=step,
            )
            sim.delay(streams["compute"], time.seconds, waits, label)
            waits, count, flops = [], count + 1, flops + step.flops
    return _finished(name, sim, streams, count, flops, each)


def _beside(sim: Simulator, streams: dict[str, int], steps: Sequence[Step], name: str, links: Links) -> None:
    """What transfers like those of this block, of another microbatch, do while its kernels run."""
    for step in steps:
        if isinstance(step, Collective) and step.beside:
            call = links.inner(step.kind, step.group, step.size)
            seconds = step.beside * _seconds(step, call)
            if not seconds:
                continue
            if step.group + BESIDE not in streams:
                streams[step.group + BESIDE] = sim.add_stream(step.group + BESIDE)
            held = call.drag if step.held is None else step.held
            drag = {streams["compute"]: held} if held else None
            sim.transfer([streams[step.group + BESIDE]], [Phase(seconds)], (), _label(step, name, call), drag)


BESIDE = " of another microbatch"
"""Behind the name of a group: the stream of transfers that are hidden."""


def _seconds(step: Collective, call: Call) -> float:
    """Of a collective with links to itself and its like; nothing where it has no partner."""
    return call.seconds * step.pace + (step.extra_s if call.seconds else 0.0)


def _label(step: Collective, name: str, call: Call) -> Activity:
    return Activity(
        step.name, "communication", step.kind, name, 0.0, step.size, "network", call.uncertainty, None, call.sol_s,
        call.chosen, step.group,
    )  # fmt: skip


def _collective(
    sim: Simulator, streams: dict[str, int], step: Collective, name: str, links: Links, waits: list[int]
) -> int:
    if step.group not in streams:
        streams[step.group] = sim.add_stream(step.group)
    call = links.inner(step.kind, step.group, step.size)
    label = _label(step, name, call)
    after = list(waits)
    last = sim.last_in(streams["compute"])
    if last is not None:
        after.append(last)
    drag = {streams["compute"]: call.drag} if call.drag else None
    seconds = _seconds(step, call) * (1 - step.hidden)
    return sim.transfer([streams[step.group]], [Phase(seconds)], dict.fromkeys(after), label, drag)


def _finished(name: str, sim: Simulator, streams: dict[str, int], count: int, flops: float, each: float) -> Block:
    timeline = sim.run()
    names = {number: stream for stream, number in streams.items()}
    spans = list(timeline.spans())
    busy = union((span.start, span.end) for span in spans if span.stream == streams["compute"])
    # a transfer of another microbatch is exposed where neither a kernel nor a transfer of this one runs
    others = union((span.start, span.end) for span in spans if not names[span.stream].endswith(BESIDE))
    times: dict[Activity, list[float]] = {}
    shown = []
    for span in spans:
        activity = span.label
        assert isinstance(activity, Activity)
        compute = activity.category == "compute"
        over = others if names[span.stream].endswith(BESIDE) else busy
        bare = span.duration if compute else outside([(span.start, span.end)], over) if span.duration else 0.0
        sums = times.setdefault(activity, [0, 0.0, 0.0])
        for i, value in enumerate((1, span.duration, bare)):
            sums[i] += value
        shown.append((names[span.stream], span.start, span.end, activity))
    parts = tuple(BlockPart(activity, int(n), seconds, bare) for activity, (n, seconds, bare) in times.items())
    return Block(name, max(timeline.makespan, count * each), count, parts, tuple(shown), flops)
