"""A step of post-training, phase by phase: what each is made of, and what runs beside what.

Generation is a server whose requests are followed one by one (`simgpu.workload.server`), so that the longest answer
ends it; training is an optimizer step on packed rows. A forward pass of the trainer is a third of its forward and
backward (a product forward, two backward), a quarter where all layers are computed again. New weights are gathered
from the ranks that hold a copy between them and handed to the engines, as trainers that share GPUs with an engine do
over CUDA IPC (NVIDIA-NeMo/RL, nemo_rl/models/policy, generation/vllm; verl, sharding managers). Time of Python for
each tensor, of data and of rewards is not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from simgpu.analysis.power import Board, power_columns
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan
from simgpu.simulation.post_training_result import PostTrainingResult
from simgpu.simulation.result import Result
from simgpu.timing.collectives import collective_time
from simgpu.workload.post_training import PostTraining

SLOWER = 1.9
"""Factor on the upper end (P90) of a step: nine published steps of NeMo RL v0.6 on H100, of which only the mean lengths
are known, took .75 to 2.8 times what their phases are predicted to take, 1.56 in the median (docs/post-training.md). It
was chosen with these rows in sight."""

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

    @property
    def trainer(self) -> float:
        """What the trainer does."""
        return self.logprob + self.reference + self.training


@dataclass(frozen=True)
class Done:
    """A step: its row, less what every result has, and the results of its training and its generation."""

    row: dict[str, Any]
    training: Result
    generation: Result


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
    joules = generates * served.power_w_per_gpu + trains * trained.power_w_per_gpu + waits * board.levels.waiting
    watts = joules / max(row["step_s"], generates + trains)
    columns = power_columns(row, watts, board)
    return PostTrainingResult.of({**row, **columns}, trained.execution, trained.memory, board)


def post_train(
    simulate: Simulate, cluster: Cluster, job: PostTraining, model: TransformerConfig, plan: Plan, how: Any,
    catalogue: Any,
) -> Done:  # fmt: skip
    """Simulate a step. Raises `InputError` for GPUs that are not there, and for engines that do not fit beside it."""
    gpus, apart = _gpus(job, plan, cluster)
    trained = simulate(cluster, job.trained(plan), model, plan, how, catalogue=catalogue)
    engine = replace(how, clocks=None)  # `clocks` is of the training; an engine runs as engines do
    served = simulate(cluster, job.rollout(), model, job.generation.plan(gpus), engine, catalogue=catalogue)
    _check_refit(trained, served, apart)
    phases = _phases(job, plan, cluster, model, trained, served)
    beside = job.staleness > 0
    step, low, high = _step(phases, beside, apart, trained, served)
    together = plan.world + (gpus if apart else 0)
    tokens = job.prompts * job.group * job.mean
    row = {
        "gpus": together, "pp": plan.pp, "cp": plan.cp, "ep": plan.ep,
        "framework": trained.row["framework"], "runtime": served.row["runtime"],
        "generation_gpus": gpus, "answers": job.answers, "updates": job.updates, "staleness": job.staleness,
        "step_s": step, "step_s_p10": low, "step_s_p90": high,
        **_parts(phases, trained, served),
        "idle_share": _idle(phases, step, plan.world, gpus, apart),
        "tokens_per_s": tokens / step, "tokens_per_s_per_gpu": tokens / step / together,
        **_work(job, phases, step, together, plan, trained),
        **_memory(trained, served, apart),
    }  # fmt: skip
    return Done(row, trained, served)


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


def _check_refit(trained: Result, served: Result, apart: bool) -> None:
    """Raise `InputError` where weights of both do not fit one GPU, as they must when the engine gets new ones."""
    if apart:
        return
    held = trained.row["weights_bytes_per_gpu"] + served.row["weights_bytes_per_gpu"]
    if held > trained.row["memory_capacity_bytes"]:
        problem = (
            f"the engine's weights ({served.row['weights_bytes_per_gpu'] / 2**30:.1f} GiB) and the trainer's do not"
        )
        problem += f" fit a GPU together ({held / 2**30:.1f} GiB), as they must when the engine gets new ones"
        raise InputError(f"{problem}; expected a larger tp, or GPUs of its own", key="workload.generation.tp")


# ---- seconds -----------------------------------------------------------------------------------------


def _phases(
    job: PostTraining, plan: Plan, cluster: Cluster, model: TransformerConfig, trained: Result, served: Result
) -> Phases:
    row = trained.row
    passes = 4.0 if plan.recompute == "full" else 3.0
    forward = max(row["step_s"] - row["optimizer_s"] - row["exposed_data_s"], 0.0) / passes * job.updates
    models = 2 if job.algorithm == "ppo" else 1  # the critic is trained beside the policy, and gives values before it
    host = _host_rate(cluster)
    weights = row["weights_bytes_per_gpu"]
    reference = forward + 2 * weights / host if job.has_reference else 0.0
    logprob = forward * (job.policy_logprobs + (models - 1))
    steady = job.partial or job.staleness > 1
    rollout = job.answers / served.row["requests_per_s"] if steady else served.row["duration_s"]
    tail = 0.0 if steady else max(served.row["duration_s"] - served.row["e2e_90th_s"], 0.0)
    states = row["optimizer_memory_bytes"] + row["gradients_memory_bytes"] + weights
    sleep = 0.0 if job.generation.gpus else 2 * states / host
    return Phases(
        rollout, tail, min(served.row["busy"], 1.0), logprob, reference, job.reward_s,
        models * job.updates * row["step_s"], _refit(plan, cluster, model, job), sleep,
    )  # fmt: skip


def _host_rate(cluster: Cluster) -> float:
    """Bytes a second between a GPU and its host, one way."""
    port = cluster.gpu.host_link
    return port.bandwidth.si if port.bandwidth else cluster.links[port.link].lane_bandwidth.si * port.lanes.si


def _refit(plan: Plan, cluster: Cluster, model: TransformerConfig, job: PostTraining) -> float:
    """Seconds for the weights, in 16 bits: gathered from the ranks of a copy, or sent to GPUs of their own."""
    size = 2.0 * model.parameters
    ranks = min(plan.tp * plan.pp * max(1, plan.ep // plan.tp if plan.ep > plan.tp else 1), plan.world)
    if job.generation.gpus:
        ranks = min(plan.world + job.generation.gpus, cluster.gpu_count)
    if ranks < 2:
        return size / cluster.gpu.memory.bandwidth.si * 2
    return float(collective_time(cluster, "all_gather", range(ranks), [int(size)]).seconds[0])


def _step(phases: Phases, beside: bool, apart: bool, trained: Result, served: Result) -> tuple[float, float, float]:
    """Seconds of a step with P10 and P90. Spreads of generation and of training are independent."""
    generation = phases.rollout + phases.reward + phases.refit
    training = phases.trainer + (phases.refit if apart and beside else 0.0)
    step = max(generation, training) if beside else generation + training + phases.sleep
    ends = []
    for end, sign in (("p10", -1.0), ("p90", 1.0)):
        moved = [phases.rollout * abs(_ratio(served.row, "tpot_s", end) - 1),
                 phases.trainer * abs(_ratio(trained.row, "step_s", end) - 1)]  # fmt: skip
        if beside:
            sides = (generation + sign * moved[0], training + sign * moved[1])
            ends.append(max(sides))
        else:
            ends.append(step + sign * sqrt(sum(one**2 for one in moved)))
    return step, ends[0], ends[1] * SLOWER


def _ratio(row: Any, column: str, end: str) -> float:
    return float(row[f"{column}_{end}"] / row[column]) if row[column] else 1.0


def _parts(phases: Phases, trained: Result, served: Result) -> dict[str, float]:
    """Columns of the phases."""
    found = {
        "rollout_s": phases.rollout, "rollout_tail_s": phases.tail, "logprob_s": phases.logprob,
        "reference_s": phases.reference, "reward_s": phases.reward, "training_s": phases.training,
        "refit_s": phases.refit, "sleep_s": phases.sleep,
    }  # fmt: skip
    for end in ("p10", "p90"):
        found[f"rollout_s_{end}"] = phases.rollout * _ratio(served.row, "tpot_s", end)
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


def _memory(trained: Result, served: Result, apart: bool) -> dict[str, Any]:
    """Memory of a GPU: of the one that needs more where both take turns, of a training GPU where they do not."""
    mine, its = trained.row, served.row
    names = ("weights_bytes_per_gpu", "memory_bytes_per_gpu")
    most = {name: mine[name] if apart else max(mine[name], its[name]) for name in names}
    return {**most, "memory_capacity_bytes": mine["memory_capacity_bytes"],
            "weights_fit": bool(mine["weights_fit"] and its["weights_fit"]),
            "memory_fits": bool(mine["memory_fits"] and its["memory_fits"]),
            "distance": mine["distance"]}  # fmt: skip
