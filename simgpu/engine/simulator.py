"""The discrete-event core: activities in streams, dependencies between them, one event loop.

Two kinds of activity exist. A **delay** holds its stream for a known time. A **transfer** holds one or more
streams while bytes flow over shared links (`network.py`), and may slow down the delays of other streams
(`drag.py`). A stream runs its activities in the order in which they were submitted; `after` makes an activity
wait for others. Because an activity can only wait for activities submitted before it, a program cannot deadlock.

Streams carry the meaning the caller gives them: a compute queue of a GPU, a communicator, a copy engine.
Overlap, exposed communication and pipeline bubbles come out of streams and dependencies; nothing here knows
about GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from simgpu.engine.loop import Loop, Phase, Program
from simgpu.engine.network import FluidNetwork
from simgpu.engine.timeline import Timeline


class Simulator:
    """Collects activities, then runs them once.

    Examples
    --------
    >>> sim = Simulator()
    >>> gpu, copy = sim.add_stream("compute"), sim.add_stream("copy")
    >>> link = sim.add_link(10e9)
    >>> kernel = sim.delay(gpu, 2e-3, label="matmul")
    >>> sent = sim.transfer([copy], [Phase(1e-6, (((link,), 10e6),))], after=[kernel], label="send")
    >>> timeline = sim.run()
    >>> round(timeline.end[sent], 9)
    0.003001
    """

    def __init__(self) -> None:
        self.network = FluidNetwork()
        self.streams: list[str] = []
        self._alone: list[tuple[int]] = []  # (stream,) for each stream, shared by all its activities
        self._last_in: list[int] = []  # last activity submitted to each stream, -1 for none
        # One entry per activity:
        self._lead: list[float] = []  # seconds of a delay; latency before the first flows of a transfer
        self._streams_of: list[tuple[int, ...]] = []
        self._labels: list[object] = []
        self._follower: list[int] = []  # an activity that waits for this one, -1 for none
        # What most activities do not have:
        self._phases: dict[int, Sequence[Phase]] = {}  # of a transfer
        self._drags: dict[int, dict[int, float]] = {}  # fractions by stream of a transfer that drags some
        self._waits_for: dict[int, int] = {}  # how many activities stand before this one, where it is not one
        self._followers: dict[int, list[int]] = {}  # further activities that wait for it
        self._checked: dict[
            int, Phase
        ] = {}  # phases that were looked at, by their identity; kept, so that it is theirs

    def add_link(self, capacity: float) -> int:
        """Add a directed link of `capacity` bytes/s and return its number."""
        return self.network.add_link(capacity)

    def add_stream(self, name: str) -> int:
        """Add a stream and return its number."""
        self._alone.append((len(self.streams),))
        self.streams.append(name)
        self._last_in.append(-1)
        return len(self.streams) - 1

    def last_in(self, stream: int) -> int | None:
        """The activity submitted last to `stream`; None where there is none."""
        last = self._last_in[stream]
        return last if last >= 0 else None

    def delay(self, stream: int, seconds: float, after: Iterable[int] = (), label: object = None) -> int:
        """Hold `stream` for `seconds` (>= 0) once all of `after` are done. Returns the activity's number."""
        if not 0 <= seconds < inf:
            raise ValueError(f"a delay must be finite and not negative, not {seconds!r}")
        if not 0 <= stream < len(self._alone):
            raise self._unknown(stream)
        if after:
            return self._submit(self._alone[stream], seconds, None, after, label)
        # What `_submit` does for one stream and no dependencies, written out: this is the most frequent call.
        number = len(self._lead)
        before = self._last_in[stream]
        self._last_in[stream] = number
        if before < 0:
            self._waits_for[number] = 0
        elif self._follower[before] < 0:
            self._follower[before] = number
        else:
            self._let_follow(before, number)
        self._lead.append(seconds)
        self._streams_of.append(self._alone[stream])
        self._labels.append(label)
        self._follower.append(-1)
        return number

    def sequence(
        self, stream: int, seconds: Sequence[float], after: Iterable[int] = (), labels: Sequence[object] | None = None
    ) -> int:
        """Submit delays that follow one another on `stream`; `after` holds back the first. Returns the last's number.

        This does the same as calling `delay` for each, at a fraction of the cost.
        """
        if not 0 <= stream < len(self._alone):
            raise self._unknown(stream)
        if not seconds:
            raise ValueError("a sequence must have at least one delay")
        for delay in seconds:
            if not 0 <= delay < inf:
                raise ValueError(f"a delay must be finite and not negative, not {delay!r}")
        if labels is not None and len(labels) != len(seconds):
            raise ValueError(f"a sequence of {len(seconds)} delays cannot have {len(labels)} labels")
        first = self._submit(self._alone[stream], seconds[0], None, after, labels[0] if labels else None)
        more = len(seconds) - 1
        if more:
            last = first + more
            self._lead.extend(seconds[1:])
            self._streams_of.extend([self._alone[stream]] * more)
            self._labels.extend(labels[1:] if labels else [None] * more)
            self._follower[first] = first + 1
            self._follower.extend(range(first + 2, last + 1))
            self._follower.append(-1)
            self._last_in[stream] = last
            return last
        return first

    def transfer(
        self,
        streams: Iterable[int],
        phases: Sequence[Phase],
        after: Iterable[int] = (),
        label: object = None,
        drag: Mapping[int, float] | None = None,
    ) -> int:
        """Run `phases` one after another, holding all of `streams`. Returns the activity's number.

        From its start to its end, latencies included, it takes the fraction `drag[s]` of the speed of the delays
        in stream `s`. Speed is 1 - the sum of the fractions of all transfers that drag the stream at the time, but
        at least `drag.SLOWEST`; a delay of w seconds ends when the integral of speed over time is w.

        >>> sim = Simulator()
        >>> gpu, network = sim.add_stream("compute"), sim.add_stream("network")
        >>> sent = sim.transfer([network], [Phase(1.0)], drag={gpu: 0.25})
        >>> kernel = sim.delay(gpu, 2.0)  # 0.75 s of its work is done when the transfer ends
        >>> sim.run().end[kernel]
        2.25
        """
        for phase in phases:
            if id(phase) not in self._checked:
                self._check(phase)
        held = tuple(streams)
        if len(set(held)) != len(held):
            raise ValueError(f"a transfer must not hold a stream twice, as {held!r} does")
        if held and not 0 <= min(held) <= max(held) < len(self._alone):
            raise self._unknown(min(held) if min(held) < 0 else max(held))
        if not drag:
            return self._submit(held, phases[0].latency if phases else 0.0, phases, after, label)
        for stream, fraction in drag.items():
            if not 0 <= stream < len(self.streams):
                raise ValueError(f"a transfer can only drag streams that were added, not {stream!r}")
            if not 0 <= fraction <= 1:
                raise ValueError(f"a transfer drags a stream by a fraction from 0 to 1, not {fraction!r}")
        # Between two phases that take no time: at the first it begins to drag, at the last it stops.
        number = self._submit(held, 0.0, [Phase(0.0), *phases, Phase(0.0)], after, label)
        self._drags[number] = {stream: fraction for stream, fraction in drag.items() if fraction > 0}
        return number

    def _unknown(self, stream: int) -> ValueError:
        return ValueError(f"an activity can only hold streams that were added, not {stream!r}")

    def _check(self, phase: Phase) -> None:
        if not 0 <= phase.latency < inf:
            raise ValueError(f"a latency must be finite and not negative, not {phase.latency!r}")
        for flow in phase.flows:
            self.network.check(*flow)
        self._checked[id(phase)] = phase

    def _submit(
        self,
        streams: tuple[int, ...],
        lead: float,
        phases: Sequence[Phase] | None,
        after: Iterable[int],
        label: object,
    ) -> int:
        number = len(self._lead)
        last_in = self._last_in
        waits = 0
        after = tuple(after)
        for before in after:
            if not 0 <= before < number:
                raise ValueError(f"activity {number} cannot wait for {before!r}: it was not submitted before")
        for stream in streams:
            if last_in[stream] >= 0:
                waits += self._let_follow(last_in[stream], number)
            last_in[stream] = number
        for before in after:
            waits += self._let_follow(before, number)
        self._lead.append(lead)
        self._streams_of.append(streams)
        self._labels.append(label)
        self._follower.append(-1)
        if phases is not None:
            self._phases[number] = phases
        if waits != 1:
            self._waits_for[number] = waits
        return number

    def _let_follow(self, before: int, number: int) -> int:
        """Make activity `number` wait for `before`. Returns 1, or 0 where it already does."""
        follower = self._follower[before]
        if follower < 0:
            self._follower[before] = number
            return 1
        if follower == number:
            return 0
        others = self._followers.setdefault(before, [])
        if others and others[-1] == number:
            return 0
        others.append(number)
        return 1

    def run(self) -> Timeline:
        """Run everything that was submitted and return when each activity started and ended.

        Ties are broken by the order of submission, so the same program always gives the same timeline.
        """
        program = Program(
            self._lead, self._streams_of, self._follower, self._followers, self._waits_for, self._phases, self._drags
        )
        loop = Loop(program, self.network)
        loop.run()
        return Timeline(self.streams, self._streams_of, self._labels, loop.start, loop.end)
