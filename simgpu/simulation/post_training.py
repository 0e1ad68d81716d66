"""A step of post-training, phase by phase: what each is made of, and what runs beside what.

Generation is a server whose requests are followed one by one (`simgpu.workload.server`), so that the longest answer
ends it; training is an optimizer step on packed rows. A forward pass of the trainer is a third of its forward and
backward (a product forward, two backward), a quarter where all layers are computed again. How states and weights move
between trainer and engine: `simgpu.simulation.post_training_moves`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, hypot
from typing import Any

from simgpu.analysis.power import Board, power_columns
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan
from simgpu.simulation.post_training_moves import check_refit, host_rate, refit_s, sleep_s
from simgpu.simulation.post_training_result import PostTrainingResult
from simgpu.simulation.result import Result
from simgpu.workload.post_training import FEW_ENGINES, PostTraining
from simgpu.workload.server.jobs import Traffic

SLOWER = 1.2
"""Factor on the upper end (P90) of a step that is generated: see docs/post-training.md."""

LOGPROB_S = 35e-6
"""Host time of a token whose log-probability the engine returns, in the loop of an engine that has no process of its
own: vllm-project/vllm pull request 9880, in which 131,550 tokens take 26.9 s with them and 22.3 s without."""

BALANCE = "early"
"""What balances experts unless a plan says it: a trained router on other data, whose loss is off, as NeMo RL has it
(`moe_router_load_balancing_type: none`); benchmarks of training force an even load."""

Simulate = Callable[..., Result]
"""`simgpu.simulation.call.simulate`, which is above this module."""


@dataclass(frozen=True)
class Phases:
    """Seconds of the phases of a step."""

    rollout: float
    tail: float
    busy: float  # share of the generation in which an engine runs a step
    logprob: float
    reference: float
    reward: float
    training: float
    refit: float
    sleep: float
    other: float
    lengths: tuple[float, float] = (0.0, 0.0)  # by which generation is shorter or longer where the spread is not known

    @property
    def trainer(self) -> float:
        """What the trainer does."""
        return self.logprob + self.reference + self.training


@dataclass(frozen=True)
class Done:
    """A step: its row, less what every result has, and the results of its training and, if any, its generation."""

    row: dict[str, Any]
    training: Result
    generation: Result | None


def post_trained(
    simulate: Simulate, asked: Callable[..., dict[str, Any]], cluster: Cluster, job: PostTraining,
    model: TransformerConfig | None, plan: Plan, how: Any, catalogue: Any,
) -> PostTrainingResult:  # fmt: skip
    """The result of a step; `asked` makes the columns of what was simulated. Raises `InputError`."""
    if model is None:
        raise InputError("this key is missing; a workload of kind 'rl' needs one", key="model")
    done = post_train(simulate, cluster, job, model, plan, how, catalogue)
    trained, served = done.training, done.generation
    row = {**asked(model.name, job.kind, cluster, how.dtype, plan), **done.row}
    generates = row["rollout_s"] * row["generation_gpus"] / row["gpus"]
    trains = (row["training_s"] + row["logprob_s"] + row["reference_s"]) * plan.world / row["gpus"]
    board = Board.of(cluster)
    waits = max(row["step_s"] - generates - trains, 0.0)
    joules = trains * trained.power_w_per_gpu + waits * board.levels.waiting
    joules += generates * served.power_w_per_gpu if served else 0.0
    watts = joules / max(row["step_s"], generates + trains)
    columns = power_columns(row, watts, board)
    return PostTrainingResult.of({**row, **columns}, trained.execution, trained.memory, board)


def post_train(
    simulate: Simulate, cluster: Cluster, job: PostTraining, model: TransformerConfig, plan: Plan, how: Any,
    catalogue: Any,
) -> Done:  # fmt: skip
    """Simulate a step. Raises `InputError` for GPUs that are not there, and for engines that do not fit beside it."""
    gpus, apart = _gpus(job, plan, cluster) if job.generates else (0, False)
    if plan.balance is None and plan.ep > 1:
        plan = replace(plan, balance=BALANCE)
    trained = simulate(cluster, job.trained(plan), model, plan, how, catalogue=catalogue)
    taught = _taught(simulate, cluster, job, plan, how, catalogue) if job.teacher is not None else None
    rollouts: list[Result] = []
    if job.generates:
        engines = job.generation.plan(gpus)
        engine = replace(how, clocks=None)  # `clocks` is of the training; an engine runs as engines do
        for end in (0, -1, 1) if isinstance(job.output_spread, tuple) else (0,):
            load, few = _followed(job.rollout(end), engines, job.steady)
            rollouts.append(simulate(cluster, load, model, few, engine, catalogue=catalogue))
        check_refit(trained, rollouts[0], apart)
    phases = _phases(job, plan, cluster, model, Runs(trained, taught, tuple(rollouts)))
    served = rollouts[0] if rollouts else None
    beside = job.staleness > 0
    step, low, high = _step(phases, beside, apart, trained, served)
    together = plan.world + (gpus if apart else 0)
    tokens = job.prompts * job.group * job.mean
    row = {
        "gpus": together, "pp": plan.pp, "cp": plan.cp, "ep": plan.ep,
        "framework": trained.row["framework"], "runtime": served.row["runtime"] if served else "",
        "generation_gpus": gpus, "answers": job.answers if job.generates else 0,
        "cut_share": job.cut_share if job.generates else 0.0, "updates": job.updates, "staleness": job.staleness,
        "step_s": step, "step_s_p10": low, "step_s_p90": high,
        **_parts(phases, trained, served),
        "idle_share": _idle(phases, step, plan.world, gpus, apart),
        "tokens_per_s": tokens / step, "tokens_per_s_per_gpu": tokens / step / together,
        **_work(job, phases, step, together, plan, trained),
        **_memory(trained, served, apart),
    }  # fmt: skip
    return Done(row, trained, served)


def _taught(simulate: Simulate, cluster: Cluster, job: PostTraining, plan: Plan, how: Any, catalogue: Any) -> Result:
    """The same step of the teacher. Raises `InputError` where it is unknown, or its weights do not fit."""
    try:
        taught = simulate(cluster, job.trained(plan), job.teacher, plan, how, catalogue=catalogue)
    except InputError as error:
        raise InputError(
            f"{job.teacher} under the plan of the trainer: {error.problem}", key="workload.teacher"
        ) from None
    weights, room = taught.row["weights_bytes_per_gpu"], taught.row["memory_capacity_bytes"]
    if weights > room:
        problem = f"{job.teacher} needs {weights / 2**30:.1f} GiB of a GPU under the plan of the trainer, which has"
        raise InputError(
            f"{problem} {room / 2**30:.1f} GiB; expected a larger plan.tp, or zero 3", key="workload.teacher"
        )
    return taught


def _followed(load: Traffic, engines: Plan, steady: bool) -> tuple[Traffic, Plan]:
    """A rollout, and its engines; in a steady state a few of them with their share, as all are alike."""
    few = min(engines.dp, FEW_ENGINES)
    if not steady or few == engines.dp or not load.clients or not load.requests:
        return load, engines
    share = {"clients": ceil(load.clients * few / engines.dp), "requests": ceil(load.requests * few / engines.dp)}
    return load.model_copy(update=share), replace(engines, dp=few)


def _gpus(job: PostTraining, plan: Plan, cluster: Cluster) -> tuple[int, bool]:
    """GPUs that generate, and whether they are others than those that train. Raises `InputError`."""
    own = job.generation.gpus
    if not own and job.staleness:
        problem = f"{job.staleness}: generation beside the training needs GPUs of its own"
        raise InputError(f"{problem}; expected workload.generation.gpus, or 0", key="workload.staleness")
    if plan.world + own > cluster.gpu_count:
        problem = f"{own} GPUs beside the {plan.world} of the plan are more than the {cluster.gpu_count} there are"
        raise InputError(problem, key="workload.generation.gpus")
    return (own or plan.world), bool(own)


# ---- seconds -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """What was simulated: training, a teacher's, and rollouts (the second and third at the ends of a spread)."""

    trained: Result
    taught: Result | None
    rollouts: tuple[Result, ...]


def _phases(job: PostTraining, plan: Plan, cluster: Cluster, model: TransformerConfig, runs: Runs) -> Phases:
    row = runs.trained.row
    forward = _forward(runs.trained, plan) * job.updates
    models = 2 if job.algorithm == "ppo" else 1  # the critic is trained beside the policy, and gives values before it
    host = host_rate(cluster)
    reference = 0.0
    for one, asked in ((runs.trained, job.has_reference), (runs.taught, True)):
        if one is not None and asked:
            reference += _forward(one, plan) * job.updates + 2 * one.row["weights_bytes_per_gpu"] / host
    logprob = forward * (job.computes_logprobs + (models - 1))
    training = models * job.updates * row["step_s"]
    other = job.other_s if job.generates or "other_s" in job.model_fields_set else 0.0
    if not runs.rollouts:
        return Phases(0.0, 0.0, 0.0, logprob, reference, 0.0, training, 0.0, 0.0, other)
    served, engines = runs.rollouts[0], job.generation.plan(job.generation.gpus or plan.world).dp
    most = served.row["e2e_90th_s" if job.turns == 1 else "session_99th_s"]
    tail = 0.0 if job.steady else max(served.row["duration_s"] - most, 0.0)
    took = [_rollout(job, one, engines) for one in runs.rollouts]
    lengths = (took[0] - min(took), max(took) - took[0])
    sleep = 0.0 if job.generation.gpus else sleep_s(row, served.row, host)
    return Phases(
        took[0], tail, min(served.row["busy"], 1.0), logprob, reference, job.reward_s, training,
        refit_s(plan, cluster, model, job), sleep, other, lengths,
    )  # fmt: skip


def _forward(trained: Result, plan: Plan) -> float:
    """Seconds of a forward pass over the rows of an optimizer step."""
    row = trained.row
    passes = 4.0 if plan.recompute == "full" else 3.0
    return float(max(row["step_s"] - row["optimizer_s"] - row["exposed_data_s"], 0.0) / passes)


def _rollout(job: PostTraining, served: Result, engines: int) -> float:
    """Seconds of a generation: of a burst to its last answer, in a steady state for the answers of a step."""
    row = served.row
    host = job.answers * job.output / engines * LOGPROB_S if job.generation.logprobs and not job.asynchronous else 0.0
    if not job.steady:
        return float(row["duration_s"]) + host
    return float(job.answers * job.turns / (row["requests_per_s"] * engines / row["dp"])) + host


def _step(
    phases: Phases, beside: bool, apart: bool, trained: Result, served: Result | None
) -> tuple[float, float, float]:
    """Seconds of a step with P10 and P90. Spreads of generation, of its lengths and of training are independent."""
    generation = phases.rollout + phases.reward + phases.refit
    training = phases.trainer + phases.other + (phases.refit if apart and beside else 0.0)
    step = max(generation, training) if beside else generation + training + phases.sleep
    ends = []
    for place, (end, sign) in enumerate((("p10", -1.0), ("p90", 1.0))):
        engine = phases.rollout * abs(_ratio(served.row, "tpot_s", end) - 1) if served else 0.0
        moved = (hypot(engine, phases.lengths[place]), phases.trainer * abs(_ratio(trained.row, "step_s", end) - 1))
        if beside:
            ends.append(max(generation + sign * moved[0], training + sign * moved[1]))
        else:
            ends.append(step + sign * hypot(*moved))
    return step, ends[0], ends[1] * (SLOWER if served else 1.0)


def _ratio(row: Any, column: str, end: str) -> float:
    return float(row[f"{column}_{end}"] / row[column]) if row[column] else 1.0


def _parts(phases: Phases, trained: Result, served: Result | None) -> dict[str, float]:
    """Columns of the phases."""
    found = {
        "rollout_s": phases.rollout, "rollout_tail_s": phases.tail, "logprob_s": phases.logprob,
        "reference_s": phases.reference, "reward_s": phases.reward, "training_s": phases.training,
        "refit_s": phases.refit, "sleep_s": phases.sleep, "other_s": phases.other,
    }  # fmt: skip
    for place, (end, sign) in enumerate((("p10", -1.0), ("p90", 1.0))):
        engine = phases.rollout * abs(_ratio(served.row, "tpot_s", end) - 1) if served else 0.0
        found[f"rollout_s_{end}"] = phases.rollout + sign * hypot(engine, phases.lengths[place])
        found[f"training_s_{end}"] = phases.training * _ratio(trained.row, "step_s", end)
    return found


def _idle(phases: Phases, step: float, trains: int, generates: int, apart: bool) -> float:
    """Share of the GPUs' time in which they neither generate nor train."""
    generation, training = phases.rollout * phases.busy, phases.trainer
    if not apart:
        return max(0.0, 1 - (generation + training) / step)
    used = generates * min(generation, step) + trains * min(training, step)
    return max(0.0, 1 - used / ((generates + trains) * step))


def _work(job: PostTraining, phases: Phases, step: float, gpus: int, plan: Plan, trained: Result) -> dict[str, float]:
    """FLOPs of training and of log-probabilities, and what of the peak they are; parts of the time."""
    row = trained.row
    times = phases.trainer / row["step_s"] if row["step_s"] else 0.0
    share = plan.world / gpus
    passes = 1 + (bool(phases.logprob) + job.has_reference) / 3
    flop = row["flop"] * job.updates * passes
    hidden = times * row["exposed_communication_s"]
    compute = min(phases.rollout * phases.busy + times * row["compute_s"], step)
    return {
        "flop": flop, "flop_per_s_per_gpu": flop / step / gpus,
        "mfu": row["mfu"] * row["step_s"] * job.updates * passes / step * share,
        "compute_s": compute, "exposed_communication_s": min(hidden, step - compute),
        "idle_s": max(step - compute - min(hidden, step - compute), 0.0),
    }  # fmt: skip


def _memory(trained: Result, served: Result | None, apart: bool) -> dict[str, Any]:
    """Memory of a GPU: of the one that needs more where both take turns, of a training GPU where they do not."""
    mine = trained.row
    its = served.row if served else mine
    names = ("weights_bytes_per_gpu", "memory_bytes_per_gpu")
    most = {name: mine[name] if apart else max(mine[name], its[name]) for name in names}
    return {**most, "memory_capacity_bytes": mine["memory_capacity_bytes"],
            "weights_fit": bool(mine["weights_fit"] and its["weights_fit"]),
            "memory_fits": bool(mine["memory_fits"] and its["memory_fits"]),
            "distance": mine["distance"]}  # fmt: skip
