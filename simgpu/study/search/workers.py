"""Work of a search, in a pool of workers or at once in this process: groups are decided, plans are run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simgpu.catalog import Catalogue
from simgpu.columns import COST
from simgpu.errors import InputError, MisfitError, shown
from simgpu.hardware.cluster import Cluster
from simgpu.operations.hourly import BY_HAND, listed_hour, priced_hour
from simgpu.plan.parallelism import Plan
from simgpu.plan.space import Structure
from simgpu.scenario import Origins, Scenario, draft_of, framework_of, resolve_cluster
from simgpu.simulation.call import simulate
from simgpu.study.experiment import conditions
from simgpu.study.experiment.search_fields import SearchFields
from simgpu.study.pools.pool import Pool
from simgpu.study.pools.where import Where
from simgpu.study.search.deciding import GroupDecision, Limits, Place, decide
from simgpu.study.search.limits import plain
from simgpu.study.search.problem import Problem
from simgpu.study.search.serving import ServingProblem
from simgpu.workload.jobs import Training

T = TypeVar("T")

MOMENT_SECONDS = 0.5
"""Answers are waited for so long at a time, so that Ctrl-C is heard."""

FEWER = "fewer may do: --jobs 1. What was simulated is kept"


@dataclass(frozen=True)
class SearchInputs:
    """The inputs from which a worker builds the problem again."""

    scenario: Scenario
    search: SearchFields
    folders: tuple[str, ...]

    def problem(self) -> Problem | ServingProblem:
        """Build the problem. Raises `InputError` (key only, 'search.' before keys of the section)."""
        catalogue = Catalogue(*self.folders)
        cluster = resolve_cluster(self.scenario, catalogue, Origins())
        if self.scenario.model is None:
            raise InputError("this key is missing; a search needs one", key="model")
        try:
            model = catalogue.model(self.scenario.model)
        except InputError as error:
            raise error if error.file else InputError(error.problem, key="model") from None
        problem: Problem | ServingProblem
        search = priced_search(self.search, self.scenario, cluster, catalogue)
        if isinstance(self.scenario.workload, Training):
            framework = framework_of(self.scenario, catalogue, Origins())
            problem = Problem(self.scenario, search, cluster, model, framework)
        else:
            draft = draft_of(self.scenario, catalogue)
            problem = ServingProblem(self.scenario, search, cluster, model, catalogue, draft)
        problem.conditions = tuple(self._condition(n, text, problem) for n, text in enumerate(self.search.where))
        return problem

    @staticmethod
    def _condition(number: int, text: str, problem: Problem | ServingProblem) -> conditions.Condition:
        try:
            return conditions.parse(text, problem.known_names())
        except InputError as error:
            raise InputError(error.problem, key=f"search.where.{number}") from None


def by_cost(search: SearchFields, scenario: Scenario) -> bool:
    """True if plans are ranked by what they cost: a cost is the objective, or there is a price and no objective."""
    if search.objective is not None:
        return search.objective in COSTS
    return search.price is not None or scenario.cost is not None


COSTS = (*COST.values(), "usd_per_run")
"""Objectives that are a cost: at one price of a GPU-hour, most throughput of a GPU."""


def asked_hour(
    search: SearchFields, scenario: Scenario, cluster: Cluster, catalogue: Catalogue
) -> tuple[float | None, str]:
    """USD of a GPU-hour and whose price it is: the search's, the scenario's, or the listed one on demand.

    None, and why, without any. Raises `InputError` (key only) for a price that is not there.
    """
    given = search.price_on(scenario.cluster)
    if given is not None:
        return given, f"{given:g} USD/h, {BY_HAND}"
    if scenario.cost is None:
        return listed_hour({}, cluster, catalogue)
    job = scenario.workload
    batch = getattr(job, "batch", None) or getattr(job, "concurrency", None)
    about = {"workload": job.kind, "gpus": (search.gpus or [cluster.gpu_count])[0], "batch": batch}
    found = priced_hour(scenario.cost, about, cluster, catalogue, scenario.power.pue)
    return found.hourly.used, found.words


def priced_search(search: SearchFields, scenario: Scenario, cluster: Cluster, catalogue: Catalogue) -> SearchFields:
    """The search with the price of a GPU-hour that the scenario's `cost` comes to, where it gives none itself.

    A cost as objective or limit without any is at the listed price on demand. Raises `InputError` (key only) where
    there is no such price.
    """
    if search.price is None and scenario.cost is not None:
        search = search.model_copy(update={"price": asked_hour(search, scenario, cluster, catalogue)[0]})
    costs = [name for name in (search.objective, *map(plain, search.limits)) if name and name.startswith("usd_")]
    if costs and search.price is None:
        price, words = listed_hour({}, cluster, catalogue)
        if price is None:
            problem = f"{shown(costs[0])} needs a price: {words.removeprefix('none: ')}, or search.price"
            raise InputError(problem, key="search.objective" if search.objective in COSTS else "search.limits")
        search = search.model_copy(update={"price": price})
        if search.objective is None:  # a limit of cost does not change what is best
            step = "step_s" if isinstance(scenario.workload, Training) else None
            search = search.model_copy(update={"objective": step})
    if search.objective not in COSTS:
        return search
    return search.model_copy(update={"objective": None})


_problems = threading.local()


@dataclass(frozen=True)
class Call:
    """Work on a problem: `decide`, `run`, `serve` or `peak`, with what it takes."""

    what: str
    arguments: tuple[Any, ...] = ()

    def on(self, problem: Problem | ServingProblem) -> Any:
        """Do the work on a problem and return its answer; raises what the work raises."""
        return _WORK[self.what](problem, *self.arguments)


@dataclass(frozen=True)
class Failed:
    """The exception of a call, on its way back from a worker."""

    error: Exception


@dataclass(frozen=True)
class Team:
    """The setup of a search's worker: the problem, which it builds once."""

    inputs: SearchInputs

    def run(self, tasks: Sequence[Call]) -> list[Any]:
        """Do calls; returns their answers, or their exceptions."""
        made = getattr(_problems, "made", None)
        if made is None or made[0] != self.inputs:
            made = _problems.made = self.inputs, self.inputs.problem()
        return [_answer(call, made[1]) for call in tasks]


def _answer(call: Call, problem: Problem | ServingProblem) -> Any:
    try:
        return call.on(problem)
    except Exception as error:
        return Failed(error)


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_plan(problem: Problem, plan: Plan) -> dict[str, Any]:
    """The row of a plan, simulated in full. Raises `InputError` for what cannot be simulated."""
    asked = problem.scenario
    how = asked.options(framework=problem.stack, require_fit=False)
    return dict(simulate(problem.cluster, asked.workload, problem.config, plan, how).row)


def run_served(problem: ServingProblem, scenario: Scenario) -> dict[str, Any] | str:
    """The row of a scenario; '' where it does not fit the memory; a reason in words where it cannot run."""
    how = scenario.options(require_fit=True)
    try:
        result = simulate(
            problem.cluster, scenario.workload, problem.config, scenario.plan.plan(), how,
            catalogue=problem.catalogue, draft=problem.draft,
        )  # fmt: skip
        return dict(result.row)
    except InputError as error:
        return "" if isinstance(error, MisfitError) else error.problem


_WORK: dict[str, Callable[..., Any]] = {
    "decide": lambda problem, *given: decide(problem, *given),
    "run": lambda problem, plan: run_plan(problem, plan),
    "serve": lambda problem, scenario: run_served(problem, scenario),
    "peak": lambda _: _peak(),
}


class Ticket(Generic[T]):
    """Work that was handed out. `result` waits for it, and raises what it raised."""

    def __init__(self, workers: Workers, call: Call) -> None:
        self._workers, self.call = workers, call
        self.done, self.lost = False, 0
        self.answer: Any = None

    def result(self) -> T:
        """The answer of the work."""
        while not self.done:
            self._workers.collect()
        if isinstance(self.answer, Failed):
            raise self.answer.error
        answer: T = self.answer
        return answer


class Workers:
    """Runs work in a pool of workers; with one process in this one, at once."""

    def __init__(self, inputs: SearchInputs, problem: Problem | ServingProblem, where: Where) -> None:
        self.problem, self.where = problem, where
        self._pool: Pool | None = where.pool(Team(inputs)) if where.on_dask or where.processes > 1 else None
        self._waiting: deque[Ticket[Any]] = deque()
        self._away: dict[int, Ticket[Any]] = {}

    @property
    def jobs(self) -> int:
        """The number of tasks to hand out at a time."""
        return self._pool.capacity if self._pool is not None else 1

    def decide(self, structures: Sequence[Structure], limits: Limits, keep: int, after: Place) -> Ticket[GroupDecision]:
        """Hand out structures: their plans, see `simgpu.study.search.deciding.decide`."""
        return self._ask(Call("decide", (structures, limits, keep, after)))

    def run(self, plan: Plan) -> Ticket[dict[str, Any]]:
        """Hand out a plan of training: its row."""
        return self._ask(Call("run", (plan,)))

    def serve(self, scenario: Scenario) -> Ticket[dict[str, Any] | str]:
        """Hand out a scenario of serving: its row, or why there is none."""
        return self._ask(Call("serve", (scenario,)))

    def first_of(self, tickets: Collection[Ticket[Any]]) -> list[Ticket[Any]]:
        """The tasks among some that are done; waits until one is. Empty for none."""
        while tickets:
            done = [ticket for ticket in tickets if ticket.done]
            if done:
                return done
            self.collect()
        return []

    def collect(self) -> None:
        """Hand out waiting work, and take in answers that come back within a moment."""
        assert self._pool is not None
        self._hand_out()
        for tasks, answers, end in self._pool.answers(MOMENT_SECONDS):
            ticket = self._away.pop(id(tasks[0]))
            if answers is not None:
                ticket.done, ticket.answer = True, answers[0]
                continue
            ticket.lost += 1
            if ticket.lost >= self._pool.patience:
                raise InputError(f"a worker {end} {ticket.lost} times (out of memory?); {FEWER}")
            self._waiting.appendleft(ticket)
        self._hand_out()

    def _ask(self, call: Call) -> Ticket[Any]:
        ticket: Ticket[Any] = Ticket(self, call)
        if self._pool is None:
            ticket.done, ticket.answer = True, _answer(call, self.problem)
        else:
            self._waiting.append(ticket)
            self._hand_out()
        return ticket

    def _hand_out(self) -> None:
        assert self._pool is not None
        while self._waiting and self._pool.busy < self._pool.capacity:
            ticket = self._waiting.popleft()
            self._away[id(ticket.call)] = ticket
            self._pool.submit([ticket.call])

    def peak_memory(self) -> int:
        """Bytes of the largest process that has worked, where the system tells."""
        if self._pool is None:
            return _peak()
        return int(max(ticket.result() for ticket in [self._ask(Call("peak")) for _ in range(4 * self.jobs)]))

    def close(self) -> None:
        """Stop without waiting for what is under way."""
        if self._pool is not None:
            self._pool.close()
