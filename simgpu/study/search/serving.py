"""The best way to serve a model: every plan and load that fits is simulated, those within limits compared.

A step of an engine costs a millisecond, so nothing needs to be guessed: the search is exhaustive. Plans whose weights
and cache do not fit are found before anything is simulated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from time import perf_counter
from typing import Any, Protocol

from simgpu.catalog import Catalogue
from simgpu.columns import COLUMNS, COST
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.operations.money import priced
from simgpu.operations.quality import LIMIT, quality_columns
from simgpu.plan.checks import check_serves
from simgpu.plan.parallelism import Plan
from simgpu.plan.space import ALL, check_degrees
from simgpu.scenario import PlanFields, Scenario
from simgpu.schema_errors import validate
from simgpu.study.experiment.conditions import Condition, all_hold
from simgpu.study.experiment.search_fields import SearchFields
from simgpu.study.search.limits import ENERGY, SERVING, limits_of, within
from simgpu.workload.jobs import Traffic

DEGREES = ("tp", "pp", "dp", "ep")
LOADS = ("concurrency", "batch", "rate", "clients")
"""Keys of the workload that say how much is asked of a plan: of each plan the best load counts."""

OBJECTIVES = (
    "output_tokens_per_s_per_gpu", "output_tokens_per_s", "output_tokens_per_s_per_user", "requests_per_s",
    "total_tokens_per_s", "tokens_per_j", "slo_goodput",
)  # fmt: skip
"""Columns to search for; the last is of requests that are followed one by one."""


@dataclass(frozen=True)
class Point:
    """A plan under a load: the scenario, and the values that were chosen for it by key."""

    scenario: Scenario
    chosen: Mapping[str, Any]

    @property
    def plan_key(self) -> tuple[Any, ...]:
        """The chosen values without the load."""
        return tuple((key, value) for key, value in self.chosen.items() if key.removeprefix("workload.") not in LOADS)


class ServingProblem:
    """A search for plans of inference."""

    def __init__(
        self, scenario: Scenario, search: SearchFields, cluster: Cluster, model: TransformerConfig,
        catalogue: Catalogue, draft: TransformerConfig | None = None,
    ) -> None:  # fmt: skip
        """Check and prepare. Raises `InputError` (key only) for a scenario that cannot be searched."""
        self.scenario, self.search, self.cluster, self.config = scenario, search, cluster, model
        self.catalogue, self.draft = catalogue, draft
        self.conditions: tuple[Condition, ...] = ()
        self.objective = search.objective or OBJECTIVES[0]
        if self.objective not in (OBJECTIVES if isinstance(scenario.workload, Traffic) else OBJECTIVES[:-1]):
            raise InputError(
                f"{shown(self.objective)} cannot be searched for{nearest(self.objective, OBJECTIVES)}",
                key="search.objective",
            )
        costs = (COST["tokens"],)
        self.price = search.price_on(scenario.cluster)
        known = (
            *SERVING[scenario.workload.kind],
            *OBJECTIVES,
            *(name for name in ENERGY if name not in OBJECTIVES),
            *costs,
            LIMIT,
        )
        self.limits = limits_of(search.limits, known, self.price)
        if search.tolerance:
            raise InputError("is not supported for inference, where every plan is simulated", key="search.tolerance")
        if search.memory != 1:
            problem = "is not supported for inference: the runtime sets the fraction of memory that it uses"
            raise InputError(problem, key="search.memory")
        within = range(1, min(cluster.gpu_count, cluster.gpus_per_node) + 1)
        every = sorted({*within, *(n for n in range(1, cluster.gpu_count + 1) if cluster.gpu_count % n == 0)})
        self.gpus = tuple(dict.fromkeys(search.gpus or every))
        for gpus in self.gpus:
            if gpus > cluster.gpu_count:
                raise InputError(f"{gpus} GPUs, but '{cluster.name}' has {cluster.gpu_count}", key="search.gpus")
        self._check_space()

    def _check_space(self) -> None:
        job = self.scenario.workload
        known = [*DEGREES, *(f"workload.{key}" for key in type(job).model_fields if key != "kind")]
        for key, values in self.search.space.items():
            place = f"search.space.{key}"
            if key not in known:
                raise InputError(f"unknown key{nearest(key, known)}", key=place)
            if key in DEGREES:
                check_degrees(key, values)
            elif isinstance(values, str):
                raise InputError(f"'all' is not supported for {key}; expected a list", key=place)
            for value in () if key in DEGREES else values:
                data = {**job.model_dump(), key.removeprefix("workload."): value}
                validate(type(job), data, partial(_at, place))

    def points(self) -> Iterator[Point]:
        """Every plan that can split the model, under every load."""
        space, seen = self.search.space, set()
        loads = {key: values for key, values in space.items() if key not in DEGREES}
        plan = self.scenario.plan
        for gpus in self.gpus:
            ways = {key: self._values(key, gpus) for key in DEGREES}
            for tp, pp, dp, ep in product(*ways.values()):
                if tp * pp * dp != gpus or not self._splits(Plan(tp=tp, pp=pp, dp=dp, ep=ep, context=plan.context)):
                    continue
                for values in product(*loads.values()):
                    chosen = {"tp": tp, "pp": pp, "dp": dp, "ep": ep, **dict(zip(loads, values, strict=True))}
                    if tuple(chosen.items()) not in seen and self._holds(chosen):
                        seen.add(tuple(chosen.items()))
                        yield Point(self._scenario(chosen), chosen)

    def _values(self, key: str, gpus: int) -> list[int]:
        every = [n for n in range(1, gpus + 1) if gpus % n == 0]
        free = not self.search.space or (key == "dp" and self.search.gpus)  # copies of an engine fill what is asked for
        wanted = self.search.space.get(key, ALL if free else None)
        if wanted is None:
            return [getattr(self.scenario.plan, key)]
        return every if isinstance(wanted, str) else list(wanted)

    def _splits(self, plan: Plan) -> bool:
        try:
            check_serves(plan, self.config)
        except InputError:
            return False
        return plan.pp <= self.config.layers

    def _holds(self, chosen: Mapping[str, Any]) -> bool:
        return not self.conditions or all_hold(self.conditions, self._names(chosen), "search.where")

    def known_names(self) -> list[str]:
        """Names that conditions may use."""
        return list(self._names({**dict.fromkeys(DEGREES, 1), **dict.fromkeys(self.search.space, 1)}))

    def _names(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        plain = {key.removeprefix("workload."): value for key, value in chosen.items()}
        shape = {key: value for key, value in vars(self.config).items() if key != "name"}
        gpus = chosen["tp"] * chosen["pp"] * chosen["dp"]
        more = {"gpus": gpus, "world": gpus, "gpus_per_node": self.cluster.gpus_per_node}
        return {**shape, **self.scenario.workload.model_dump(), **chosen, **plain, **more}

    def _scenario(self, chosen: Mapping[str, Any]) -> Scenario:
        job = {k.removeprefix("workload."): v for k, v in chosen.items() if k.startswith("workload.")}
        workload = type(self.scenario.workload).model_validate({**self.scenario.workload.model_dump(), **job})
        given = self.scenario.plan.model_dump() | {key: chosen[key] for key in DEGREES}
        plan = PlanFields.model_validate(given)
        return self.scenario.model_copy(update={"plan": plan, "workload": workload, "require_fit": True})


def _at(place: str, _path: tuple[Any, ...], problem: str) -> InputError:
    """The error for a wrong value of the space."""
    return InputError(problem, key=place)


@dataclass
class Served:
    """The result of a search: rows within limits, best of each plan first; all rows; how it was done."""

    rows: list[dict[str, Any]]
    scenarios: list[Scenario]  # of these rows
    every: list[dict[str, Any]]
    plans: int
    misfits: int
    refused: dict[str, int]  # why some cannot be run, and how many
    over: int  # simulated, but beyond a limit
    seconds: float
    complete: bool = True


class Serves(Protocol):
    """A runner of scenarios (`simgpu.study.search.workers.Workers`)."""

    @property
    def jobs(self) -> int:
        """The number of tasks to hand out at a time."""

    def serve(self, scenario: Scenario) -> Any:
        """Hand out a scenario; `.result()` of the ticket is its row, or why there is none."""

    def first_of(self, tickets: Collection[Any]) -> Sequence[Any]:
        """The `tickets` from `serve` that are done; waits until one is."""


def search_serving(
    problem: ServingProblem, workers: Serves,
    tell: Callable[[int, int], None] = lambda _done, _points: None,
) -> Served:  # fmt: skip
    """Simulate every point; `workers` give a row, or the reason why there is none ('' where it does not fit)."""
    start, points = perf_counter(), list(problem.points())
    results: list[tuple[Point, Any]] = []
    pending: dict[Any, Point] = {}
    whole = True
    try:
        for n, point in enumerate(points):
            pending[workers.serve(point.scenario)] = point
            while len(pending) >= 4 * workers.jobs or (pending and n == len(points) - 1):
                results += [(pending.pop(done), done.result()) for done in workers.first_of(pending)]
                tell(len(results), len(points))
    except KeyboardInterrupt:
        whole = False
    model, known = problem.config, problem.catalogue
    rows = [(point, {**row, **quality_columns(row, model, known)}) for point, row in results if isinstance(row, dict)]
    every = [{**row, **_loads(point)} for point, row in rows]
    kept = [(point, row) for point, row in rows if within(priced(row, problem.price), problem.limits)]
    best: dict[tuple[Any, ...], tuple[dict[str, Any], Scenario]] = {}
    for point, row in sorted(kept, key=lambda one: (queues(one[1]), -one[1][problem.objective], str(one[0].chosen))):
        best.setdefault(point.plan_key, ({**row, **_loads(point)}, point.scenario))
    reasons = Counter(row for _, row in results if isinstance(row, str))
    misfits = reasons.pop("", 0)
    refused = dict(reasons.most_common())
    taken = perf_counter() - start
    ranked, scenarios = [row for row, _ in best.values()], [scenario for _, scenario in best.values()]
    return Served(ranked, scenarios, every, len(points), misfits, refused, len(rows) - len(kept), taken, whole)


def queues(row: Mapping[str, Any]) -> bool:
    """True if the server is saturated, or may be: such rows come after those that are not."""
    return bool(row.get("saturated")) or row.get("stationary") in ("no", "unsure")


def _loads(point: Point) -> dict[str, Any]:
    """Values of the load that the row has no column for."""
    plain = {key.removeprefix("workload."): value for key, value in point.chosen.items()}
    return {key: value for key, value in plain.items() if key not in COLUMNS}
