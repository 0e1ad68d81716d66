"""Processes that decide groups and run plans; or the same in this process, for one job."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, MisfitError, shown
from simgpu.plan.parallelism import Plan
from simgpu.plan.space import Structure
from simgpu.scenario import Origins, Scenario, draft_of, resolve_cluster
from simgpu.simulation import simulate
from simgpu.study import conditions
from simgpu.study.search.deciding import Limits, Part, Place, decide
from simgpu.study.search.fields import SearchFields
from simgpu.study.search.problem import Problem
from simgpu.study.search.serving import ServingProblem
from simgpu.study.sweep.processes import way_to_start
from simgpu.workload.jobs import Training


@dataclass(frozen=True)
class Asked:
    """All that a worker needs to make the problem anew."""

    scenario: Scenario
    search: SearchFields
    folders: tuple[str, ...]

    def problem(self) -> Problem | ServingProblem:
        """Raises `InputError` (key only, 'search.' before what the section says)."""
        catalogue = Catalogue(*self.folders)
        cluster = resolve_cluster(self.scenario, catalogue, Origins())
        if self.scenario.model is None:
            raise InputError("this key is missing; a search needs one", key="model")
        try:
            model = catalogue.model(self.scenario.model)
        except InputError as error:
            raise error if error.file else InputError(error.problem, key="model") from None
        made: Problem | ServingProblem
        if isinstance(self.scenario.workload, Training):
            made = Problem(self.scenario, self.search, cluster, model)
        else:
            made = ServingProblem(self.scenario, self.search, cluster, model, draft_of(self.scenario, catalogue))
        made.conditions = tuple(self._condition(n, text, made) for n, text in enumerate(self.search.where))
        return made

    @staticmethod
    def _condition(number: int, text: str, problem: Problem | ServingProblem) -> conditions.Condition:
        try:
            return conditions.parse(text, problem.known_names())
        except InputError as error:
            raise InputError(error.problem, key=f"search.where.{number}") from None


WATCH_SECONDS = 1.0
CLOSE_SECONDS = 10.0
"""What a pool is given to end in; it takes milliseconds once its processes are gone."""

_problem: Problem | ServingProblem | None = None


def _start(asked: Asked, parent: int) -> None:
    global _problem
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when to stop
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _problem = asked.problem()


def _end_with(parent: int) -> None:
    """End when the parent has gone: a pool's workers would wait for ever for one that was killed."""
    while True:
        try:
            os.kill(parent, 0)
        except OSError:
            os._exit(1)
        time.sleep(WATCH_SECONDS)


def _decide(structures: Sequence[Structure], limits: Limits, keep: int, after: Place) -> Part:
    assert isinstance(_problem, Problem)
    return decide(_problem, structures, limits, keep, after)


def _run(plan: Plan) -> dict[str, Any]:
    assert isinstance(_problem, Problem)
    return run_plan(_problem, plan)


def _serve(scenario: Scenario) -> dict[str, Any] | str:
    assert isinstance(_problem, ServingProblem)
    return run_served(_problem, scenario)


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_plan(problem: Problem, plan: Plan) -> dict[str, Any]:
    """The row of a plan, simulated in full. Raises `InputError` for what cannot be simulated."""
    asked = problem.scenario
    return dict(
        simulate(
            problem.cluster, asked.workload, problem.config, plan, asked.dtype, asked.accumulate, asked.algorithm,
            asked.protocol, asked.clocks, asked.framework,
        ).row
    )  # fmt: skip


def run_served(problem: ServingProblem, asked: Scenario) -> dict[str, Any] | str:
    """The row of a scenario; '' where it does not fit the memory; in words why it cannot be."""
    try:
        return dict(
            simulate(
                problem.cluster, asked.workload, problem.config, asked.plan.plan(), asked.dtype, asked.accumulate,
                asked.algorithm, asked.protocol, asked.clocks, asked.framework, require_fit=True, draft=problem.draft,
            ).row
        )  # fmt: skip
    except InputError as error:
        return "" if isinstance(error, MisfitError) else error.problem


class Workers:
    """Runs work in `jobs` processes; with one job in this process, at once."""

    def __init__(self, asked: Asked, problem: Problem | ServingProblem, jobs: int) -> None:
        self.problem, self.jobs = problem, jobs
        self._pool: ProcessPoolExecutor | None = None
        if jobs > 1:
            way = way_to_start([__name__])
            self._pool = ProcessPoolExecutor(jobs, way, initializer=_start, initargs=(asked, os.getpid()))

    def decide(self, structures: Sequence[Structure], limits: Limits, keep: int, after: Place) -> Future[Part]:
        if self._pool is not None:
            return self._pool.submit(_decide, structures, limits, keep, after)
        assert isinstance(self.problem, Problem)
        problem = self.problem
        return _done(lambda: decide(problem, structures, limits, keep, after))

    def run(self, plan: Plan) -> Future[dict[str, Any]]:
        if self._pool is not None:
            return self._pool.submit(_run, plan)
        assert isinstance(self.problem, Problem)
        problem = self.problem
        return _done(lambda: run_plan(problem, plan))

    def serve(self, scenario: Scenario) -> Future[dict[str, Any] | str]:
        if self._pool is not None:
            return self._pool.submit(_serve, scenario)
        assert isinstance(self.problem, ServingProblem)
        problem = self.problem
        return _done(lambda: run_served(problem, scenario))

    def peak_memory(self) -> int:
        """Bytes of the largest process that has worked, where the system tells."""
        if self._pool is None:
            return _peak()
        return max(self._pool.submit(_peak).result() for _ in range(4 * self.jobs))

    def close(self) -> None:
        """Stop without waiting for what is under way. The pool's own thread is waited for: at the end of Python it
        would be woken over a pipe that it may just have closed (`OSError: Bad file descriptor`)."""
        if self._pool is None:
            return
        running = list((self._pool._processes or {}).values())
        manager: threading.Thread | None = getattr(self._pool, "_executor_manager_thread", None)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()
        if manager is not None:
            manager.join(CLOSE_SECONDS)


def _done(work: Callable[[], Any]) -> Future[Any]:
    found: Future[Any] = Future()
    try:
        found.set_result(work())
    except Exception as error:
        found.set_exception(error)
    return found


def jobs_of(asked: int | None) -> int:
    """Processes to use: as asked, else one for each core that this process may use."""
    if asked is not None:
        if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
            raise InputError(f"{shown(asked)} is not a positive whole number", key="jobs")
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
