"""A request: what a client sends, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simgpu.workload.server.session import Session

Path = tuple[tuple[Any, int], ...]
"""Prefixes that a prompt shares with others, outermost first: the name of each, and the token at which it ends."""


class Request:
    """A request of a client. Times are in s.

    number, sent
        Its place in the load, and when its client sends it.
    prompt, output
        Tokens.
    path
        Prefixes that it shares with others.
    follows
        The requests of the same session that its answer lets go, each with the pause before it; none at the end.
    awaits
        Answers for which it waits: one, or those of all branches that it brings together again.
    session, turn
        The session that it is part of, None if it stands alone, and its place in that.
    hidden
        Of its output the first tokens, which its user does not see.
    adapter
        The adapter that it names; -1: none.
    arrival, admitted, first, last
        When it reaches the engine, joins a step for the first time, has its first and its last token.
    made, hit, again, preempted
        Output tokens it has, prompt tokens found in the cache, tokens computed once more, how often it lost its place.
    ready, moves
        True if its cache is elsewhere, with another engine or in the host's memory; if its cache goes elsewhere when
        its prompt is computed.
    left, offset, blocks, extra, lost
        Of the replica that it runs on: prompt tokens yet to compute, tokens in the cache less the tick, blocks of its
        own, the replica's seconds of other prompts when it began to decode, and when it lost its place.
    interfered
        Seconds in which its decodes waited for prompts of others.
    rank, tried, attempt, failures, fate
        Its class (0 is the most urgent), when its client sent it the last time, how often before, how many engines
        failed with it, and why it was not answered (empty: it was, or may be yet).
    place
        Where the farthest of its tokens that were not computed lay: '' (none), 'gpu', or the kind of a tier.
    at
        The replica that has it; None at the client, at the router and on the way between engines.
    """

    __slots__ = (
        "adapter", "admitted", "again", "arrival", "at", "attempt", "awaits", "blocks", "extra", "failures", "fate",
        "first", "follows", "hidden", "hit", "interfered", "last", "left", "lost", "made", "moves", "number", "offset",
        "output", "path", "place", "preempted", "prompt", "rank", "ready", "sent", "session", "tried", "turn",
    )  # fmt: skip

    def __init__(
        self, number: int, sent: float, prompt: int, output: int, path: Path = (),
        follows: tuple[tuple[Request, float], ...] = (),
    ) -> None:  # fmt: skip
        self.number, self.sent, self.prompt, self.output = number, sent, prompt, output
        self.path, self.follows = path, follows
        self.session: Session | None = None
        self.turn = self.hidden = 0
        self.awaits, self.adapter = 1, -1
        self.arrival = self.tried = sent
        self.rank = self.attempt = self.failures = 0
        self.fate = self.place = ""
        self.at: Any = None
        self.admitted = self.first = self.last = -1.0
        self.made = self.hit = self.again = self.preempted = 0
        self.offset = self.blocks = self.left = 0
        self.extra = self.interfered = self.lost = 0.0
        self.ready = self.moves = False

    @property
    def tokens(self) -> int:
        """Tokens that have to be in the cache before it makes its next one: the prompt, and after a loss its output."""
        return self.prompt + self.made

    @property
    def longest(self) -> int:
        """Tokens of it that the cache ever holds: its last token is never written."""
        return self.prompt + self.output - 1

    def anew(self) -> None:
        """Begin from the start: what was computed is lost."""
        self.admitted = self.first = self.last = -1.0
        self.made = self.hit = self.again = self.offset = self.blocks = self.left = 0
        self.extra = self.interfered = self.lost = 0.0
        self.ready, self.at = False, None


def family_of(first: Request) -> Iterator[Request]:
    """A request and all that follow it, each once."""
    seen, next_ones = {first.number}, [first]
    while next_ones:
        one = next_ones.pop()
        yield one
        for following, _ in one.follows:
            if following.number not in seen:
                seen.add(following.number)
                next_ones.append(following)


def follow(before: Sequence[Request], one: Request, pause: float) -> None:
    """Let a request wait for the answers to all of some, and a pause after them."""
    one.awaits = len(before)
    for each in before:
        each.follows = (*each.follows, (one, pause))


def copy_of(request: Request) -> Request:
    """The same request before it is sent, dealt to the same replica."""
    made = Request(request.number, request.sent, request.prompt, request.output, request.path)
    made.rank, made.at, made.adapter = request.rank, request.at, request.adapter
    return made


def again_of(request: Request, number: int, tried: float) -> Request:
    """The same request sent again by its client, which counts from when it sent it first."""
    made = Request(number, request.sent, request.prompt, request.output, request.path, request.follows)
    made.tried, made.attempt, made.rank = tried, request.attempt + 1, request.rank
    made.session, made.turn = request.session, request.turn
    made.hidden, made.adapter = request.hidden, request.adapter
    return made
