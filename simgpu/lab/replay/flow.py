"""A recorded step as a graph that can be timed again: kernels, what each waits for, and what the host takes.

A kernel starts after the kernel before it on its stream, after what it waits for on other streams, and after the host
launched it; what is left of the recorded start is a gap that stays. So a step with its own times is the recorded step.

What a kernel waits for on other streams is read from the recording: a collective for all that was launched before it
(c10d's streams wait for the current one, torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp, `syncStream`); any kernel
that could have run, since its own stream was idle and its launch was longer ago than a launch takes, for what ended
last before it. How long a launch takes the trace says itself: the median time from call to kernel where the GPU was
idle. The host launches in the recorded order and pace; where it waited while a kernel ended it does so again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from simgpu.lab.traces.records import COLLECTIVE, Ran, Record


@dataclass(frozen=True)
class Node:
    """A kernel of a record: what it waits for, by number, its launch on the host, and its gap after all these, s."""

    record: int
    ran: Ran
    after: tuple[int, ...]
    launch: int | None
    gap: float


@dataclass(frozen=True)
class Host:
    """Something of the host, in its order: `pause` s after what came before it, but not before these kernels end."""

    pause: float
    waits_for: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Kernels in the order of their recorded starts, and the host's launches and waits in theirs."""

    nodes: Sequence[Node]
    host: Sequence[Host]
    begin: float

    def play(self, factors: Sequence[float]) -> list[Ran]:
        """When each kernel runs if those of record `i` take `factors[i]` times as long; from 0, s."""
        ends: list[float] = []
        runs: list[Ran] = []
        host: list[float] = []
        for node in self.nodes:
            ready = [ends[i] for i in node.after]
            if node.launch is not None:
                self._launch(node.launch, host, ends)
                ready.append(host[node.launch])
            start = max(ready, default=0.0) + node.gap
            seconds = node.ran.seconds * factors[node.record]
            ends.append(start + seconds)
            runs.append(Ran(start, seconds, node.ran.stream, host[node.launch] if node.launch is not None else None))
        return runs

    def _launch(self, number: int, host: list[float], ends: Sequence[float]) -> None:
        """Go on with the host up to something it does."""
        while len(host) <= number:
            one = self.host[len(host)]
            before = host[-1] if host else 0.0
            host.append(max([before, *(ends[i] for i in one.waits_for)]) + one.pause)


def graph_of(records: Sequence[Record], waits: Sequence[tuple[float, float]]) -> Graph:
    """The graph of a recording. Records without times of kernels run one after another."""
    found = _in_order(records)
    begin = min((ran.start for _, ran in found), default=0.0)
    events = sorted({ran.launched for _, ran in found if ran.launched is not None} | {end for _, end in waits})
    begin = min([begin, *events[:1]])
    at = {time: i for i, time in enumerate(events)}
    host = _host(events, waits, found, begin)
    nodes: list[Node] = []
    last: dict[str, int] = {}
    delay = launch_delay([ran for _, ran in found])
    for number, (record, ran) in enumerate(found):
        launch = at[ran.launched] if ran.launched is not None else None
        after = _after(number, records[record].kind == COLLECTIVE, found, last, delay)
        ready = [found[i][1].end - begin for i in after] + ([events[launch] - begin] if launch is not None else [])
        nodes.append(Node(record, ran, after, launch, ran.start - begin - max(ready, default=0.0)))
        last[ran.stream] = number
    return Graph(nodes, host, begin)


def _in_order(records: Sequence[Record]) -> list[tuple[int, Ran]]:
    """All kernels with the numbers of their records, by their starts."""
    found, at = [], 0.0
    for number, record in enumerate(records):
        if record.ran:
            found += [(number, ran) for ran in record.ran]
        elif record.seconds:
            found.append((number, Ran(at, record.seconds, "operators, one after another")))
            at += record.seconds
    return sorted(found, key=lambda one: one[1].start)


def launch_delay(runs: Sequence[Ran]) -> float:
    """Seconds from the call that launches a kernel to its start on an idle GPU, the median; `runs` by their starts.

    0 where no kernel was launched onto an idle GPU.
    """
    found, busy_until = [], float("-inf")
    for ran in runs:
        if ran.launched is not None and ran.launched >= busy_until:
            found.append(ran.start - ran.launched)
        busy_until = max(busy_until, ran.end)
    return median(found) if found else 0.0


def _after(
    number: int, collective: bool, found: Sequence[tuple[int, Ran]], last: dict[str, int], delay: float
) -> tuple[int, ...]:
    """What a kernel waits for: the last on its stream, and of other streams what the recording tells."""
    mine = found[number][1]
    before = [last[mine.stream]] if mine.stream in last else []
    ready = found[before[0]][1].end if before else float("-inf")
    if mine.launched is not None:
        ready = max(ready, mine.launched + delay)
    ended = [(found[i][1], i) for stream, i in last.items() if stream != mine.stream and found[i][1].end <= mine.start]
    for other, i in ended:
        if collective and mine.launched is not None and other.launched is not None and other.launched <= mine.launched:
            before.append(i)
    latest = max(ended, key=lambda one: one[0].end, default=None)
    if latest is not None and latest[0].end >= ready and latest[1] not in before:
        before.append(latest[1])
    return tuple(before)


def _host(
    events: Sequence[float], waits: Sequence[tuple[float, float]], found: Sequence[tuple[int, Ran]], begin: float
) -> list[Host]:
    """What the host does, each with the time since what came before it, less the time that it waited."""
    began = {end: start for start, end in waits}
    ended = sorted((ran.end, i) for i, (_, ran) in enumerate(found))
    ends = [end for end, _ in ended]
    host, before = [], begin
    for time in events:
        waits_for: tuple[int, ...] = ()
        idle = before
        last = bisect_right(ends, time) - 1
        if time in began and last >= 0 and ends[last] >= began[time]:
            waits_for, idle = (ended[last][1],), max(before, ends[last])
        host.append(Host(time - idle, waits_for))
        before = time
    return host


def length(runs: Sequence[Ran]) -> float:
    """Seconds from the first start to the last end."""
    return max((ran.end for ran in runs), default=0.0) - min((ran.start for ran in runs), default=0.0)
