"""A session: requests of one user or agent that follow each other, and what is counted of all sessions of a run."""

from __future__ import annotations

from typing import Any

from simgpu.workload.server.tally import Sample

MOST_TURNS = 1000
"""Requests of a session that are counted each by its place; those beyond stand with the last."""

TURN = ("request", "requests", "prompt", "hit", "hit_rate", "ttft_s", "output")
"""What is counted of the requests of all sessions that have the same place: its number, from 1 on, how many there are,
means of the tokens of their prompts and of those found in the cache, their share, and means of TTFT and output."""


class Session:
    """A session, and what became of it. Times are in s.

    sent
        When its first request was sent; below 0: it was not.
    left, inside
        Requests that have not been answered, and those of them that are on their way or about to be.
    prompts, hits, outputs
        Tokens of its answered requests.
    server_s
        Seconds from the sending of a request to its answer, summed over its requests.
    """

    __slots__ = ("hits", "inside", "left", "outputs", "prompts", "sent", "server_s")

    def __init__(self, left: int) -> None:
        self.left, self.inside, self.sent = left, 1, -1.0
        self.prompts = self.hits = self.outputs = 0
        self.server_s = 0.0


class Sessions:
    """What is counted of sessions: of those that ended the seconds from first to last, and of requests by their place.

    seen
        Seconds from the sending of a request to the first token that its user sees.
    """

    def __init__(self) -> None:
        self.seconds, self.seen = Sample(), Sample()
        self.server_s, self.begun = 0.0, 0
        self.turns: list[list[float]] = []

    @property
    def ended(self) -> int:
        """Sessions all of whose requests were answered."""
        return self.seconds.number

    def count(self, one: Any) -> None:
        """Count an answered request (`simgpu.workload.server.requests.Request`) of a session."""
        session: Session = one.session
        if session.sent < 0:
            session.sent = one.sent
            self.begun += 1
        ttft = one.first - one.sent
        each = (one.last - one.first) / (one.output - 1) if one.output > 1 else 0.0
        self.seen.add(ttft + one.hidden * each)
        place = min(one.turn, MOST_TURNS - 1)
        while len(self.turns) <= place:
            self.turns.append([0.0] * 5)
        row = self.turns[place]
        for i, value in enumerate((1, one.prompt, one.hit, ttft, one.output)):
            row[i] += value
        session.prompts += one.prompt
        session.hits += one.hit
        session.outputs += one.output
        session.server_s += one.last - one.sent
        session.left -= 1
        if not session.left:
            self.seconds.add(one.last - session.sent)
            self.server_s += session.server_s

    def join(self, other: Sessions) -> None:
        """Add what was counted elsewhere."""
        self.seconds.join(other.seconds)
        self.seen.join(other.seen)
        self.server_s += other.server_s
        self.begun += other.begun
        while len(self.turns) < len(other.turns):
            self.turns.append([0.0] * 5)
        for mine, more in zip(self.turns, other.turns, strict=False):
            mine[:] = [a + b for a, b in zip(mine, more, strict=True)]

    def rows(self) -> list[dict[str, float]]:
        """A row of `TURN` for each place in a session."""
        found = []
        for place, (number, prompt, hit, ttft, output) in enumerate(self.turns, 1):
            if number:
                values = (
                    place,
                    int(number),
                    prompt / number,
                    hit / number,
                    hit / prompt,
                    ttft / number,
                    output / number,
                )
                found.append(dict(zip(TURN, values, strict=True)))
        return found
