"""Many inputs at once, each process with limits of its own; one that dies costs the input it worked on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

from .inputs import Input, draw
from .trial import Outcome, limit_memory, trial

PATIENCE = 240.0
"""Seconds by the clock after which an input's process is ended: for what waits; what works is judged by its time."""
INPUTS = 500
"""Inputs of one process; then a fresh one goes on, so that no input meets what a thousand others left."""


class Worker:
    """A process that runs inputs by number."""

    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, seed, kinds))
        self.process.start()
        other.close()
        self.number = -1
        self.since = 0.0
        self.given = 0

    def give(self, number: int) -> None:
        self.number, self.since = number, time.monotonic()
        self.given += 1
        self.pipe.send(number)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def work(pipe: Connection, seed: int, kinds: tuple[str, ...]) -> None:
    """Of a process: answer numbers with outcomes until the other side is gone."""
    quiet()
    limit_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who counts
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        given = draw(seed, number, kinds)
        try:
            found = run(given)
        except MemoryError:  # where what was held still left no room to say so
            found = Outcome("too much memory", "MemoryError")
        pipe.send((given.kind, found))


def run(given: Input) -> Outcome:
    """An input in a folder of its own, three levels deep: `../..` is still within it."""
    with tempfile.TemporaryDirectory(prefix="simgpu-fuzz-") as base:
        folder = Path(base) / "a/b/c"
        folder.mkdir(parents=True)
        os.environ["HOME"] = base
        return trial(given, folder)


def quiet() -> None:
    """Nothing of the user's environment takes part."""
    for name in [name for name in os.environ if name.startswith("SIMGPU_")]:
        del os.environ[name]
    os.environ["MPLBACKEND"] = "agg"


def run_all(numbers: Iterator[int], seed: int, jobs: int, kinds: tuple[str, ...]) -> Iterator[tuple[int, str, Outcome]]:
    """(number, kind, outcome) of each, in the order in which they end."""
    workers: list[Worker] = []
    more = True
    try:
        while more or workers:
            while more and len(workers) < jobs:
                number = next(numbers, None)
                more = number is not None
                if number is not None:
                    workers.append(Worker(seed, kinds))
                    workers[-1].give(number)
            for worker in _ready(workers):
                number, done = worker.number, _outcome(worker, seed, kinds)
                yield (number, *done[:2])
                following = next(numbers, None) if done[2] and worker.given < INPUTS else None
                if following is not None:
                    worker.give(following)
                else:
                    worker.end()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.end()


def _ready(workers: list[Worker]) -> list[Worker]:
    """Those that answered, died or took too long."""
    answered = wait([worker.pipe for worker in workers], 1.0)
    late = time.monotonic() - PATIENCE
    return [worker for worker in workers if worker.pipe in answered or worker.since < late]


def _outcome(worker: Worker, seed: int, kinds: tuple[str, ...]) -> tuple[str, Outcome, bool]:
    """Kind and outcome of its input, and whether it lives."""
    try:
        if worker.pipe.poll():
            return (*worker.pipe.recv(), True)
        found = Outcome("too slow", f"more than {PATIENCE:.0f} s by the clock")
    except (EOFError, OSError):
        worker.process.join(5)
        found = Outcome("process died", f"exit code {worker.process.exitcode}")
    return draw(seed, worker.number, kinds).kind, found, False
