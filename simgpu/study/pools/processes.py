"""Worker processes of this machine, each with a pipe of its own.

`concurrent.futures` would do, but a pool of it breaks as a whole when one process is killed, without saying what that
process worked on; here it is known, so one task that eats all memory costs only itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from simgpu.study.pools.pool import Answer, Setup


class ProcessPool:
    """`jobs` processes that run tasks. They end with this one, however it ends."""

    patience = 3
    """Times that a task may lose its process before it counts as failed; the last time it runs alone."""

    def __init__(self, setup: Setup, jobs: int) -> None:
        self.setup = setup
        self._context = way_to_start([__name__])
        self._workers = [_Worker(self._context, setup) for _ in range(jobs)]

    @property
    def capacity(self) -> int:
        """The number of tasks, or groups of them, that run at a time."""
        return len(self._workers)

    @property
    def busy(self) -> int:
        """The number of processes at work."""
        return sum(worker.tasks is not None for worker in self._workers)

    def submit(self, tasks: Sequence[Any]) -> None:
        """Hand tasks to an idle process."""
        idle = next(worker for worker in self._workers if worker.tasks is None)
        idle.give(tasks)

    def answers(self, seconds: float) -> list[Answer]:
        """Answers that are finished, after waiting for at most `seconds`."""
        working = {worker.pipe: worker for worker in self._workers if worker.tasks is not None}
        answers = []
        for pipe in wait(list(working), seconds):
            worker = working[pipe]  # type: ignore[index]
            tasks, done = worker.tasks, worker.take()
            assert tasks is not None
            if done is None:
                self._workers[self._workers.index(worker)] = _Worker(self._context, self.setup)
            answers.append((tasks, done, worker.end))
        return answers

    def close(self) -> None:
        """End all processes; their work is lost."""
        for worker in self._workers:
            worker.stop()


class _Worker:
    """One process, and the tasks it has."""

    def __init__(self, context: BaseContext, setup: Setup) -> None:
        self.pipe, inside = context.Pipe()
        self.tasks: Sequence[Any] | None = None
        self.end = ""
        self._process: BaseProcess = context.Process(target=_work, args=(inside, setup), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        inside.close()

    def give(self, tasks: Sequence[Any]) -> None:
        """Send tasks to the process."""
        self.tasks = tasks
        with contextlib.suppress(OSError):  # it is dead, as `take` will find
            self.pipe.send(tasks)

    def take(self) -> Sequence[Any] | None:
        """The answer of the process; None where it died instead."""
        self.tasks = None
        try:
            answers: Sequence[Any] = self.pipe.recv()
            return answers
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            killed = code is not None and code < 0
            self.end = f"was killed by signal {-code}" if killed and code is not None else f"ended with code {code}"
            self.stop()
            return None

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()


def way_to_start(preload: list[str]) -> Any:
    """The context to start processes in.

    Forking is quick and asks nothing of the main module; it is used where that is safe (Linux, no other threads). Else
    processes start from one that does nothing but load `preload`.
    """
    methods = multiprocessing.get_all_start_methods()
    if sys.platform == "linux" and threading.active_count() == 1:
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(preload)
    return context


def _work(pipe: Connection, setup: Setup) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(setup.run(pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
