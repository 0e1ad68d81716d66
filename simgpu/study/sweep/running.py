"""Handing out tasks to workers, keeping what comes back, and going on when workers die."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simgpu.errors import InputError
from simgpu.study.pools.pool import Pool
from simgpu.study.sweep.store import Finished, Store, now
from simgpu.study.sweep.work import FOREIGN, Task

GROUP_SECONDS = 0.25
"""Tasks are handed out in groups that take about so long: what a kill can cost, and how often the store is written."""

GROUP_MOST = 64
PATIENT_SECONDS = 3.0
"""After Ctrl-C, how long scenarios in hand may take to finish."""


@dataclass(frozen=True)
class Progress:
    """The progress of a sweep: scenarios finished of all, how many of them failed, how many ran here, in how long."""

    done: int
    total: int
    failed: int
    ran: int
    seconds: float


class Runner:
    """One sweep at work, of which `done` scenarios were finished before, `failed` of them with a reason."""

    def __init__(
        self, pool: Pool, store: Store, provenance: Mapping[str, str], done: int, failed: int,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:  # fmt: skip
        self.pool, self.store, self.provenance = pool, store, provenance
        self.done, self.failed, self.ran, self.total = done, failed, 0, done
        self.progress = progress or (lambda _: None)
        self.interrupted, self._pressed = False, 0.0
        self._deaths: Counter[str] = Counter()
        self._alone: deque[Task] = deque()
        self._todo: deque[Task] = deque()
        self._retry = False
        self._seconds = 0.0
        self._began = time.perf_counter()

    def run(self, tasks: Sequence[Task], retry: bool = False) -> None:
        """Run tasks until none is left or Ctrl-C was pressed. Raises `InputError` where the store cannot be written."""
        self._todo, self._retry = deque(tasks), retry
        self.total = self.done + len(tasks)
        self._tell()
        with _interrupts(self._interrupt):
            while (self._todo or self._alone or self.pool.busy) and not self.interrupted:
                self._hand_out()
                self._collect(0.2)
            until = time.perf_counter() + PATIENT_SECONDS
            while self.interrupted and self.pool.busy and time.perf_counter() < until:
                self._collect(0.1)

    def _interrupt(self) -> None:
        """End the sweep in good order at the first Ctrl-C, at once at another one a while later."""
        now = time.perf_counter()
        if self.interrupted and now - self._pressed > 0.5:
            raise KeyboardInterrupt
        if not self.interrupted:
            self.interrupted, self._pressed = True, now

    def _hand_out(self) -> None:
        while self._todo and self.pool.busy < self.pool.capacity:
            group = self._group()
            if group:
                self.pool.submit(group)
        if self._alone and not self._todo and not self.pool.busy:
            self.pool.submit([self._alone.popleft()])

    def _group(self) -> list[Task]:
        """The next tasks, without those that another sweep has finished meanwhile."""
        size = 1
        if self.ran:
            mean = self._seconds / self.ran
            share = len(self._todo) // (2 * max(self.pool.capacity, 1)) + 1
            size = max(1, min(int(GROUP_SECONDS / max(mean, 1e-6)), GROUP_MOST, share))
        if self._todo and self._deaths[self._todo[0].key]:
            size = 1
        group = [self._todo.popleft() for _ in range(min(size, len(self._todo)))]
        there = self.store.statuses(task.key for task in group)
        theirs = [task.key for task in group if there.get(task.key) == "ok" or (task.key in there and not self._retry)]
        if theirs:
            self._elsewhere({key: there[key] for key in theirs})
        return [task for task in group if task.key not in theirs]

    def _elsewhere(self, there: Mapping[str, str]) -> None:
        """Go on from the other end of the tasks, where another sweep works on the same ones from this end."""
        self.done += len(there)
        self.failed += sum(status == "failed" for status in there.values())
        self._todo.reverse()
        self._tell()

    def _collect(self, seconds: float) -> None:
        finished: list[Finished] = []
        for tasks, done, end in self.pool.answers(seconds):
            if done is None:
                finished += self._died(tasks, end)
            else:
                finished += done
        for one in finished:
            if one.status == FOREIGN:
                raise InputError(_foreign(one))
        if not finished:
            return
        new = self.store.keep(finished, self.provenance)
        if new < len(finished) and not self._retry:  # another sweep was as fast
            self._todo.reverse()
        self.ran += len(finished)
        self.done += len(finished)
        self._seconds += sum(one.seconds for one in finished)
        self.failed += sum(one.status == "failed" for one in finished)
        self._tell()

    def _died(self, tasks: Sequence[Task], end: str) -> list[Finished]:
        """Give tasks another chance whose worker died, at last alone; a task that kills its worker again has failed."""
        lost: list[Finished] = []
        for task in tasks:
            self._deaths[task.key] += 1
            deaths = self._deaths[task.key]
            if deaths >= self.pool.patience:
                times = f"{deaths} times; out of memory?" if deaths > 1 else "out of memory?"
                lost.append(_failed(task, f"its process {end} ({times})"))
            elif deaths == self.pool.patience - 1:
                self._alone.append(task)
            else:
                self._todo.appendleft(task)
        return lost

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._began

    def _tell(self) -> None:

        self.progress(Progress(self.done, self.total, self.failed, self.ran, self.elapsed))


def _failed(task: Task, reason: str) -> Finished:
    import platform
    import socket

    inputs: dict[str, Any] = task.scenario.model_dump(mode="json")
    time, host, python = now(), socket.gethostname(), platform.python_version()
    return Finished(task.key, "failed", None, reason, inputs, {}, time, time, 0.0, host, python)


def _foreign(finished: Finished) -> str:
    why = f" ({finished.reason})" if finished.reason else ""
    problem = (
        f"a worker on {finished.host} builds a different scenario from the same file{why}: its catalogue or its simgpu"
    )
    return f"{problem} differs from this one's, or files changed while the sweep ran; what is finished is kept"


@contextmanager
def _interrupts(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at Ctrl-C, and at SIGTERM of a batch system, instead of stopping in the middle of something.

    This needs the main thread; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, lambda *_: act()) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
