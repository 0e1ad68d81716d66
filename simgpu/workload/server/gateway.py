"""The queue at a gateway: requests stay in front of the router until a replica has room for one more.

A replica has at most so many requests at a time, and the others wait in one queue, from which whoever has room first
takes the next one, a replica that starts late among them (max_ongoing_requests and max_queued_requests of Ray Serve,
docs.ray.io, "Configure Ray Serve deployments").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simgpu.workload.server.care import TIMED_OUT, TURNED_AWAY
from simgpu.workload.server.managed import Gateway
from simgpu.workload.server.queues import queue_of
from simgpu.workload.server.requests import Request


class Gate:
    """What lets requests to the router of a fleet."""

    def __init__(self, fleet: Any, rules: Gateway, policy: str) -> None:
        self.fleet, self.rules = fleet, rules
        self.queue = queue_of(policy)

    def free(self, replicas: Sequence[Any]) -> list[Any]:
        """Replicas that have room for one more request."""
        return [one for one in replicas if one.requests < self.rules.per_replica]

    def wait(self, request: Request, now: float) -> None:
        """Put a request into the queue, or turn it away."""
        rules = self.rules
        if rules.max_queue is not None and len(self.queue) >= rules.max_queue:
            self.fleet.lose(request, TURNED_AWAY, now)
            return
        request.at = None
        self.queue.append(request)
        if rules.timeout_s is not None:
            self.fleet.at(now + rules.timeout_s, lambda time: self._late(request, time))

    def drain(self, now: float) -> None:
        """Let requests go to replicas that have room."""
        queue, fleet = self.queue, self.fleet
        while queue:
            free = self.free(fleet.fitting(queue[0]))
            if not free:
                return
            fleet.place(queue.popleft(), free, now)

    def leave(self, request: Request) -> bool:
        """Take a request out whose client has given it up; True if it was here."""
        here = request in list(self.queue)
        if here:
            self.queue.remove(request)
        return here

    def _late(self, request: Request, now: float) -> None:
        if not request.fate and self.leave(request):
            self.fleet.lose(request, TIMED_OUT, now)
