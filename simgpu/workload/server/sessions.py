"""The requests of sessions: a chain, or branches that come together again, each behind what was said before.

What a later prompt shares with an earlier request are its tokens from the start on that are the same: all of them,
where nothing is dropped; its prompt alone, where its reasoning is, since what stands behind moves to other places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, log, sqrt
from random import Random

from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.requests import Path, Request, follow
from simgpu.workload.server.session import Session
from simgpu.workload.server.session_keys import Sessions

Length = tuple[int, int, Path]
"""Tokens of a message and its answer, and prefixes of the message."""

Draw = Callable[[], Length]


class Maker:
    """Makes the sessions of a job, one after the other; `number` is that of the next request.

    `draw` has the lengths of one message after the other, `same` makes those of a first one that of a data set.
    """

    def __init__(self, job: Traffic, images: int, draw: Draw, same: Callable[[int, int], Length] | None = None) -> None:
        self.job, self.images, self._draw, self._same = job, images, draw, same
        self.keys = job.session or Sessions()
        self.number = 0
        self._random = Random(f"pauses {job.seed}")

    def session(self, sent: float, turns: int, path: Path) -> Request:
        """The first request of a session behind a prefix; all others follow it."""
        keys = self.keys
        self._made: list[Request] = []
        held = path[-1][1] if path else 0
        last: list[Request] = []
        for turn in range(turns):
            new, output, known = self._draw()
            if not turn:
                if self._same is not None:
                    new, output, known = self._same(new, output)
                new = self._as_long(new, keys.first_prompt)
            start = self._send(sent, (*path, *behind(path, known)), held + new + self.images, output)
            follow(last, start, self._thinks() if last else 0.0)
            path, held, last = self._work(start)
        first = self._made[0]
        if len(self._made) > 1 or self.job.session is not None:
            session = Session(len(self._made))
            for place, one in enumerate(self._made):
                one.session, one.turn = session, place
        return first

    def _work(self, start: Request) -> tuple[Path, int, list[Request]]:
        """What an agent does with a message: branches, then tools; returns the context of the next message."""
        keys, sent = self.keys, start.sent
        path, held = self._after(start)
        last, said = start, _seen(start)
        if keys.branches > 1:
            branches = []
            for _ in range(keys.branches):
                new, output, _ = self._draw()
                one = self._send(sent, path, held + self._as_long(new, keys.tool_tokens), output)
                follow([start], one, 0.0)
                branches.append(one)
            told = sum(map(_seen, branches))
            last = self._send(sent, path, held + told, self._draw()[1])
            follow(branches, last, 0.0)
            said += told + _seen(last)
            path, held = self._after(last)
        for _ in range(keys.tools):
            new, output, _ = self._draw()
            new = self._as_long(new, keys.tool_tokens)
            one = self._send(sent, path, held + new, output)
            follow([last], one, self._scattered(keys.tool_s))
            last, said = one, said + new + _seen(one)
            path, held = self._after(last)
        if keys.reasoning and keys.reasoning_kept == "turn":
            return start.path, start.prompt + said, [last]
        return path, held, [last]

    def _send(self, sent: float, path: Path, prompt: int, output: int) -> Request:
        """A request behind what has been said; its prompt has a name where its answer will not stand behind it."""
        number, keys = self.number, self.keys
        self.number += 1
        if keys.reasoning and keys.reasoning_kept != "always":
            path = (*path, (("said", number), prompt))
        made = Request(number, sent, prompt, output, path)
        made.hidden = min(int(keys.reasoning * output), output - 1)
        self._made.append(made)
        return made

    def _after(self, one: Request) -> tuple[Path, int]:
        """The context behind an answer, and its tokens."""
        if one.hidden and self.keys.reasoning_kept == "never":
            return one.path, one.prompt + _seen(one)
        return (*one.path, (one.number, one.longest)), one.prompt + one.output

    def _as_long(self, drawn: int, mean: int | None) -> int:
        """A drawn length of a message as one of another mean."""
        return drawn if mean is None else max(round(drawn * mean / (self.job.prompt or mean)), 1)

    def _thinks(self) -> float:
        keys = self.keys
        if keys.away_share and self._random.random() < keys.away_share:
            return keys.away_s
        return self._scattered(self.job.think_s)

    def _scattered(self, mean: float) -> float:
        """A pause with a mean."""
        if self.keys.pauses == "fixed" or not mean:
            return mean
        if self.keys.pauses == "exponential":
            return self._random.expovariate(1 / mean)
        wide = log(2.0)
        return mean * exp(self._random.gauss(0.0, sqrt(wide)) - wide / 2)


def behind(prefix: Path, path: Path) -> Path:
    """A path behind a prefix: what an equal name stands for is equal only behind the same one."""
    if not prefix or not path:
        return path
    name, held = prefix[-1]
    return tuple(((name, one), held + end) for one, end in path)


def _seen(one: Request) -> int:
    """Tokens of an answer that its user sees."""
    return one.output - one.hidden


def linked(before: Request, one: Request, shared: Path, pause: float) -> None:
    """Put a request of a trace behind another of its session, with what its prompt has in common with still others."""
    ends = tuple(((before.number, name), end) for name, end in shared if end > before.longest)
    one.path = (*before.path, (before.number, before.longest), *ends)
    follow([before], one, pause)


def joined_to(session: Sequence[Request]) -> None:
    """Make some requests one session."""
    whole = Session(len(session))
    for place, one in enumerate(session):
        one.session, one.turn = whole, place
