"""The requests of a job `traffic`: when they come, how long they are, what they share.

Gaps, lengths and prefixes are drawn from streams of their own, so that a change of one leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

from simgpu.workload.server.arrivals import Start, sessions_of, span_of, times_of
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.lengths import lengths_at, lengths_of
from simgpu.workload.server.requests import Path, Request, follow
from simgpu.workload.server.sessions import Maker, behind, joined_to, linked
from simgpu.workload.server.trace import Row
from simgpu.workload.server.traced import replayed

__all__ = ["requests_of", "span_of"]

WARM = "warm-up"
"""The name of the prompt with which a server is warmed up."""


def requests_of(job: Traffic, image_tokens: int = 0, places: Iterator[int] | None = None) -> Iterator[Request]:
    """Requests in the order in which they are sent; each prompt has `image_tokens` beside those of its text.

    `places` are those where requests without further turns are served; those at a negative one are left out.
    """
    if job.trace is not None:
        return _traced(job, image_tokens)
    if places is not None:
        return _some(job, islice(times_of(job), job.count), image_tokens, places)
    return _warmed(job, _drawn(job, islice(sessions_of(job), job.count), image_tokens))


def _warmed(job: Traffic, requests: Iterator[Request]) -> Iterator[Request]:
    """Requests of which the first has been sent before, to warm the server up."""
    if job.warmups:
        first = next(requests, None)
        if first is not None:
            first.path = (*first.path, (WARM, first.prompt))
            yield first
    yield from requests


def _traced(job: Traffic, images: int) -> Iterator[Request]:
    """Requests of a trace; a session is its first request, which the others follow."""
    shared, number = Random(f"prefixes {job.seed}"), 0
    for session in islice(replayed(job), job.count):
        made: list[Request] = []
        for row in session:
            one = _request(number, row, _prefix(job, shared), images)
            number += 1
            if job.trace_sessions and made:
                linked(made[row.parent], one, one.path, 0.0)
            elif made:
                last = made[-1]
                one.sent = session[0].sent
                follow([last], one, row.pause)
                if job.trace_deltas:
                    one.prompt = last.prompt + last.output + row.prompt + images
                    one.path = (*last.path, (last.number, last.longest))
            made.append(one)
        if len(made) > 1:
            joined_to(made)
        yield made[0]


def _request(number: int, row: Row, prefix: Path, images: int) -> Request:
    """A request of a trace, behind a prefix that the job adds."""
    held = prefix[-1][1] if prefix else 0
    return Request(number, row.sent, row.prompt + images + held, row.output, (*prefix, *behind(prefix, row.path)))


def _drawn(job: Traffic, times: Iterator[Start], images: int) -> Iterator[Request]:
    shared, lengths = Random(f"prefixes {job.seed}"), lengths_of(job)
    prompts = _Prompts(job.distinct, bool(job.mix)) if job.distinct else None
    maker = Maker(job, images, lambda: next(lengths), prompts.same if prompts else None)
    for sent, turns in times:
        yield maker.session(sent, turns, _prefix(job, shared))


def _some(job: Traffic, times: Iterator[float], images: int, places: Iterator[int]) -> Iterator[Request]:
    """Those of the requests of one turn that have a place; what is drawn for the others is the same."""
    shared = Random(f"prefixes {job.seed}")
    for number, (sent, (place, (new, output, known))) in enumerate(zip(times, lengths_at(job, places), strict=False)):
        path = _prefix(job, shared) if job.prefix_tokens else ()
        if place >= 0:
            held = path[-1][1] if path else 0
            made = Request(number, sent, held + new + images, output, (*path, *behind(path, known)))
            made.at = place
            yield made


class _Prompts:
    """A data set of so many different prompts, which are sent in turn."""

    def __init__(self, distinct: int, pairs: bool) -> None:
        self.distinct, self._pairs = distinct, pairs
        self._tokens: list[tuple[int, int]] = []
        self._next = 0

    def same(self, drawn: int, output: int) -> tuple[int, int, Path]:
        """Tokens of the next prompt and its output, and its name: as drawn where it is sent for the first time.

        Of a prompt that is sent again the output is drawn again, but for pairs of lengths.
        """
        place = self._next
        self._next = (place + 1) % self.distinct
        if place == len(self._tokens):
            self._tokens.append((drawn, output))
        prompt, first = self._tokens[place]
        return prompt, first if self._pairs else output, ((f"prompt {place}", prompt),)


def _prefix(job: Traffic, random: Random) -> Path:
    if not job.prefix_tokens:
        return ()
    return ((f"prefix {int(random.random() * job.prefixes)}", job.prefix_tokens),)
