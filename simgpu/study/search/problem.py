"""The problem of a search: the scenario, the space of its plans, the objective. Workers build it anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from simgpu.analysis.power import Board
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import ACCUMULATE
from simgpu.operations.money import priced
from simgpu.plan.memory import GIB, Memory, Room, fullest
from simgpu.plan.numerics import scaling_of
from simgpu.plan.parallelism import Plan
from simgpu.plan.space import ALL, USUAL, Space, Structure
from simgpu.scenario import PlanFields, Scenario
from simgpu.simulation.training import kernels_of
from simgpu.study.experiment.conditions import Condition, all_hold
from simgpu.study.experiment.search_fields import SearchFields
from simgpu.study.search.limits import TRAINING, StepLimits, limits_of, plain, within
from simgpu.timing.kernels import KernelModel
from simgpu.workload.frameworks import Framework
from simgpu.workload.jobs import Training
from simgpu.workload.training.bound import Bounds
from simgpu.workload.training.job import Job

TRAINING_OBJECTIVES = {
    "step_s": "time of a step, the less the better",
    "tokens_per_s_per_gpu": "throughput of a GPU, the more the better",
    "energy_j_per_step": "energy of all GPUs in a step, the less the better",
}
LEVELS = 10
"""Budgets of memory, in equal parts of a GPU's, for each of which the best plan is found."""

MOST_CHECKED = 100_000
"""Plans that are looked at for the smallest, where none fits."""

Group = tuple[int, int, int, int]
"""GPUs, tp, cp and ep: structures that share blocks."""


@dataclass(frozen=True)
class Leaf:
    """A plan that fits: the lower bound of its cost, the bytes of its fullest stage."""

    bound: float
    order: int  # among the plans of its group
    memory: float
    plan: Plan

    @property
    def place(self) -> tuple[float, int]:
        """The place of the plan in the order of leaves: cost first."""
        return self.bound, self.order


class Problem:
    """A search for training plans."""

    def __init__(
        self, scenario: Scenario, search: SearchFields, cluster: Cluster, model: TransformerConfig,
        framework: Framework,
    ) -> None:  # fmt: skip
        """Check and prepare. Raises `InputError` (key only) for a scenario that cannot be searched."""
        assert isinstance(scenario.workload, Training)
        self.scenario, self.search, self.cluster = scenario, search, cluster
        self.job: Training = scenario.workload
        self.config = self.job.with_mtp(model)
        self.conditions: Sequence[Condition] = ()
        self.numerics = self.job.numerics(scenario.dtype, framework=framework)
        self.stack = framework
        self.accumulate = scenario.accumulate or ACCUMULATE[scenario.dtype]
        self.scaling = self.job.scaling(self.stack.fp8_scaling)
        self.capacity = cluster.gpu.memory.capacity.si * search.memory
        self.price = search.price_on(scenario.cluster)
        cheapest = self.price is not None  # at one price most throughput of a GPU costs least
        self.objective = search.objective or ("tokens_per_s_per_gpu" if cheapest else "step_s")
        self.room = Room.of(cluster)
        self._check()
        self.limits = self._limits()
        self.base = scenario.plan.plan()
        self.gpus = tuple(dict.fromkeys(search.gpus or (cluster.gpu_count,)))
        choices = dict(search.space) or dict.fromkeys(USUAL, ALL)
        if "sequence_parallel" not in scenario.plan.model_fields_set:  # nobody said whether: both are tried
            choices.setdefault("sequence_parallel", ALL)
        self.space = Space(model, self.job.batch, self.job.row_tokens, self.gpus, self.base, choices)
        self._kernels: dict[int, KernelModel] = {}

    def _check(self) -> None:
        if self.objective not in TRAINING_OBJECTIVES:
            hint = nearest(self.objective, TRAINING_OBJECTIVES)
            raise InputError(f"{shown(self.objective)} cannot be searched for{hint}", key="search.objective")
        for gpus in self.search.gpus or ():
            if gpus > self.cluster.gpu_count:
                problem = f"{gpus} GPUs, but '{self.cluster.name}' has {self.cluster.gpu_count}"
                raise InputError(problem, key="search.gpus")

    def _limits(self) -> StepLimits:
        search, job = self.search, self.job
        limits = limits_of(search.limits, TRAINING, self.price)
        for column in limits:
            if plain(column) in ("training_days", "gpu_hours", "usd_per_run") and job.train_tokens is None:
                problem = f"{shown(search.limits[column])}: the length of the run is not known"
                problem += "; expected workload.train_tokens too"
                raise InputError(problem, key=f"search.limits.{column}")
        return StepLimits(limits, job.batch, job.real_tokens, job.train_tokens, self.price)

    # ---- the space -----------------------------------------------------------------------------------

    def groups(self) -> dict[Group, list[Structure]]:
        """Structures that share blocks; groups whose blocks are cheap and often good come first."""
        found: dict[Group, list[Structure]] = {}
        for at in self.space.structures():
            found.setdefault((at.gpus, at.tp, at.cp, at.ep), []).append(at)
        return dict(sorted(found.items(), key=lambda item: (item[0][2], abs(item[0][1] - 8), item[0])))

    def nothing(self) -> str:
        """Text that says why no structure is left."""
        for key in ("tp", "pp", "cp", "ep", "dp"):
            wanted = self.search.space.get(key)
            if wanted is not None and wanted != ALL:
                freed = {**self.space.choices, key: ALL}
                if next(replace(self.space, choices=freed).structures(), None) is not None:
                    return (
                        f"no plan in the search space uses {self._counts} GPUs; other values of {key} would allow some"
                    )
        return f"no plan in the search space uses {self._counts} GPUs and divides batch {self.job.batch} and the model"

    def why_none(self, plans: int) -> str:
        """Text that says why not one plan could be simulated: the job, the conditions, or memory and by how much."""
        structures = [at for group in self.groups().values() for at in group]
        first_plan = next((some[0] for at in structures for some in self.space.families(at)), None)
        if first_plan is None:
            return f"no plan in the search space divides batch {self.job.batch} and the layers of '{self.config.name}'"
        if not plans:
            try:
                self.job.check(self.config, first_plan)
            except InputError as error:
                return f"no plan in the search space can be run; {error.key}: {error.problem}"
            return f"no plan satisfies the conditions: {' and '.join(self.search.where)}"
        every = (some[0] for at in structures for some in self.space.families(at))
        least = min((self.memory(plan) for plan in islice(every, MOST_CHECKED)), key=lambda memory: memory.total)
        held, room = least.total / GIB, self.capacity / GIB
        return (
            f"nothing of {plans:,} plans fits: the smallest needs {held:.1f} GiB of {room:.1f} GiB on its fullest stage"
        )

    @property
    def _counts(self) -> str:
        return " or ".join(f"{gpus:,}" for gpus in self.gpus)

    def holds(self, plan: Plan) -> bool:
        """True if the conditions allow a plan."""
        return not self.conditions or all_hold(self.conditions, self.names(plan), "search.where")

    def names(self, plan: Plan) -> Mapping[str, Any]:
        """The names that conditions may use."""
        again = (plan.recompute_layers or self.config.layers) if plan.recompute == "full" else 0
        sizes = {"gpus": plan.world, "world": plan.world, "recompute_layers": again}
        return {**self._fixed, **vars(plan), **plan.filled(self.job.batch), **sizes}

    def known_names(self) -> list[str]:
        """Names that conditions may use."""
        return [name for name in self.names(Plan()) if not name.startswith("_")]

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        shape = {key: value for key, value in vars(self.config).items() if key != "name"}
        job = {key: getattr(self.job, key) for key in ("batch", "tokens")}
        return {**shape, **job, "gpus_per_node": self.cluster.gpus_per_node}

    # ---- one plan ------------------------------------------------------------------------------------

    def kernels(self, cp: int) -> KernelModel:
        """Times of kernels under `cp` context-parallel ranks."""
        if cp not in self._kernels:
            sustained = self.scenario.clocks != "burst"
            self._kernels[cp] = kernels_of(self.stack, self.cluster, sustained, self.scaling, cp)
        return self._kernels[cp]

    def step(self, plan: Plan) -> Job:
        """The inputs of a training step under a plan."""
        fp8 = scaling_of(self.scenario.dtype, self.scaling)
        return Job(
            self.config, plan, self.numerics, self.stack, self.job.batch, self.job.row_tokens, self.accumulate,
            self.job.routing, fp8, self.job.clip, self.job.length,
        )  # fmt: skip

    def allows(self, plan: Plan) -> bool:
        """True if the job can be split this way, by rules of the job beside those of the space."""
        try:
            self.job.check(self.config, plan)
        except InputError:
            return False
        return True

    def memory(self, plan: Plan) -> Memory:
        """Memory of the stage that needs most."""
        return fullest(
            self.config,
            plan,
            self.numerics,
            self.stack.memory,
            self.job.batch,
            self.job.fullest_tokens(plan),
            self.capacity,
            self.room,
        )

    def bounds(self) -> Bounds:
        """Lower bounds of steps."""
        return Bounds(self.cluster, self.scenario.algorithm, self.scenario.protocol)

    def cost(self, plan: Plan, seconds: float) -> float:
        """The value to minimise, of a step of `seconds`: these, GPU-seconds where throughput of a GPU counts; or J.

        Of energy it is the least that it can be: no GPU of a job draws less than one that waits.
        """
        if self.objective == "energy_j_per_step":
            return seconds * plan.world * self._waiting
        return seconds * plan.world if self.objective == "tokens_per_s_per_gpu" else seconds

    def cost_of(self, plan: Plan, row: Mapping[str, Any]) -> float:
        """The value to minimise of a simulated plan."""
        if self.objective == "energy_j_per_step":
            return float(row["energy_j_per_step"])
        return self.cost(plan, row["step_s"])

    @cached_property
    def _waiting(self) -> float:
        """W of a GPU that waits."""
        return Board.of(self.cluster).levels.waiting

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """True if a row is within the limits."""
        return within(priced(row, self.price), self.limits.limits)

    def level(self, plan: Plan, memory: float) -> int:
        """The smallest budget that a plan keeps; with several GPU counts: its count."""
        if len(self.gpus) > 1:
            return self.gpus.index(plan.world)
        return min(int(memory / self.capacity * LEVELS), LEVELS - 1)

    @property
    def levels(self) -> int:
        """Levels of the front: budgets of memory, or counts of GPUs."""
        return len(self.gpus) if len(self.gpus) > 1 else LEVELS

    @property
    def nested(self) -> bool:
        """True if a plan that keeps a level keeps those above."""
        return len(self.gpus) == 1

    def scenario_of(self, plan: Plan) -> Scenario:
        """The scenario with another plan."""
        fields = {key: value for key, value in vars(plan).items() if key in PlanFields.model_fields}
        return self.scenario.model_copy(update={"plan": PlanFields.model_validate(fields)})
