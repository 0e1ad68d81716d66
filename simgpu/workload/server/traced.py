"""A trace as a job replays it: cut, thinned, stretched, its equal times spread, its sessions put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from random import Random

from simgpu.errors import InputError
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.trace import Row, read_rows

MOST_SESSIONS = 5_000_000
"""Rows of a trace with sessions, whose rows stand anywhere in the file, at most."""

Session = list[Row]


def replayed(job: Traffic) -> Iterator[Session]:
    """Sessions of a trace in the order of their first requests, each a list of requests that follow each other."""
    assert job.trace is not None
    rows = read_rows(job.trace, job.trace_block)
    first = next(rows, None)
    if first is None:
        return
    rows = _chained(first, rows)
    if job.trace_sessions:
        sessions = _by_prefix(rows, job)
    else:
        sessions = _by_session(rows, job.trace) if first.session is not None else ([row] for row in rows)
    if job.spread_times:
        sessions = _spread(sessions)
    random, whole = Random(f"share {job.seed}"), job.duration_s or inf
    for session in sessions:
        sent = (session[0].sent - job.trace_start_s) * job.time_scale
        if sent > whole:
            return
        if sent >= 0 and (job.trace_share == 1 or random.random() < job.trace_share):
            yield [
                row._replace(sent=sent + (row.sent - session[0].sent) * job.time_scale,
                             pause=row.pause * job.time_scale)
                for row in session
            ]  # fmt: skip


def _chained(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _by_session(rows: Iterator[Row], file: str) -> Iterator[Session]:
    """Rows of equal sessions together; rows without one stand alone."""
    found: dict[str | int, Session] = {}
    for number, row in enumerate(rows):
        if number >= MOST_SESSIONS:
            raise InputError(f"more than {MOST_SESSIONS:,} rows with sessions; expected fewer", file=file)
        found.setdefault(row.line if row.session is None else row.session, []).append(row)
    yield from sorted(found.values(), key=lambda session: session[0].sent)


def _by_prefix(rows: Iterator[Row], job: Traffic) -> Iterator[Session]:
    """Rows whose prompts begin with the prompt and leave room for the answer of an earlier one are of its session.

    A row is known by the last whole block of its prompt that no row before it had; the longest prompt that another one
    begins with is what it continues. Two that continue the same one are branches.
    """
    assert job.trace is not None
    found: list[Session] = []
    owners: dict[object, tuple[int, int]] = {}  # the place of a session, and of a row in it
    seen: set[object] = set()
    for number, row in enumerate(rows):
        if number >= MOST_SESSIONS:
            raise InputError(f"more than {MOST_SESSIONS:,} rows with sessions; expected fewer", file=job.trace)
        if not row.path:
            raise InputError("has no hash_ids, by which rows of a session are known", file=job.trace, line=row.line)
        names = [name for name, end in row.path if end % job.trace_block == 0]
        known = (owners[name] for name in reversed(names) if name in owners)
        before = next((one for one in known if _goes_on(found, one, row)), None)
        if before is None:
            place = len(found), 0
            found.append([row])
        else:
            session = found[before[0]]
            place = before[0], len(session)
            session.append(row._replace(parent=before[1]))
        if names and names[-1] not in seen:
            owners[names[-1]] = place
        seen.update(names)
    yield from found


def _goes_on(found: Sequence[Session], place: tuple[int, int], row: Row) -> bool:
    """True if a prompt has room for the whole of an earlier request and its answer."""
    before = found[place[0]][place[1]]
    return row.prompt >= before.prompt + before.output


def _spread(sessions: Iterator[Session]) -> Iterator[Session]:
    """Sessions that come at one time, spread evenly until the next time; the last ones as those before them."""
    group: list[Session] = []
    gap = 0.0
    for session in sessions:
        if group and session[0].sent > group[0][0].sent:
            gap = session[0].sent - group[0][0].sent
            yield from _apart(group, gap)
            group = []
        group.append(session)
    yield from _apart(group, gap)


def _apart(group: list[Session], gap: float) -> Iterator[Session]:
    for i, session in enumerate(group):
        yield [session[0]._replace(sent=session[0].sent + gap * i / len(group)), *session[1:]]
