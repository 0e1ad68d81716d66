"""Requests that wait for a place: in the order in which they came, or by class."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator

from simgpu.workload.server.requests import Request


class ByClass:
    """A queue whose first request is the first to come of the most urgent class (vLLM's PriorityRequestQueue)."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, float, int, Request]] = []

    def append(self, request: Request) -> None:
        """Add a request at its place."""
        insort(self._rows, (request.rank, request.arrival, request.number, request))

    appendleft = append

    def popleft(self) -> Request:
        """Take the first."""
        return self._rows.pop(0)[3]

    def remove(self, request: Request) -> None:
        """Take one out."""
        self._rows.remove((request.rank, request.arrival, request.number, request))

    def clear(self) -> None:
        """Take all out."""
        self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Request:
        return self._rows[place][3]

    def __iter__(self) -> Iterator[Request]:
        return (row[3] for row in self._rows)


def queue_of(policy: str) -> deque[Request] | ByClass:
    """An empty queue of a policy."""
    return ByClass() if policy == "priority" else deque()
