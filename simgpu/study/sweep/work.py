"""Work in a worker: run scenarios one after another with a warm catalogue, and report each."""

from __future__ import annotations

import platform
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.scenario import Origins, Scenario, run_scenario
from simgpu.study.experiment.resolver import Resolver
from simgpu.study.sweep.identity import Identities
from simgpu.study.sweep.store import Finished, now

FOREIGN = "foreign"
"""Status of a scenario that is another one here: the worker's catalogue or simgpu differs. Nothing was run."""


@dataclass(frozen=True)
class Task:
    """A scenario to run, under its key."""

    key: str
    scenario: Scenario
    origins: Origins


@dataclass(frozen=True)
class Setup:
    """The setup of a worker: folders of specifications beside those that come with simgpu."""

    folders: tuple[str, ...] = ()

    def run(self, tasks: Sequence[Task]) -> list[Finished]:
        """Run tasks on this thread's bench."""
        bench = getattr(_benches, "bench", None)
        if bench is None or bench.setup != self:
            bench = _benches.bench = Bench(self)
        return [bench.run(task) for task in tasks]


class Bench:
    """A catalogue with the objects made from it, for one thread of one process."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.resolver = Resolver(Catalogue(*setup.folders))
        self.identities = Identities(self.resolver)

    def run(self, task: Task) -> Finished:
        """Simulate a scenario; an error becomes part of its result."""
        started, clock = now(), time.perf_counter()
        inputs: Any = {}
        parts: Any = {}
        row, reason, status = None, None, "ok"
        try:
            identity = self.identities.of(task.scenario, task.origins)
            self.identities.contents()  # the client has them
            names = task.scenario.model_dump(mode="json", include={"model", "cluster", "hardware"})
            inputs, parts = {**names, **identity.asked}, identity.parts
            if identity.key == task.key:
                cluster = self.resolver.cluster(task.scenario.cluster, task.scenario.hardware)
                row = dict(run_scenario(task.scenario, self.resolver.catalogue, task.origins, cluster).row)
            else:
                status = FOREIGN
        except InputError as error:
            status, reason = "failed" if inputs else FOREIGN, str(error)
        except Exception as error:
            status, reason = "failed", f"{type(error).__name__}: {error} (a fault of simgpu)"
            reason = " ".join(reason.split())[:600]
        seconds = time.perf_counter() - clock
        host, python = socket.gethostname(), platform.python_version()
        return Finished(task.key, status, row, reason, inputs, parts, started, now(), seconds, host, python)


_benches = threading.local()
