"""`simulate`: how long a workload takes with a parallel plan on a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from simgpu.analysis.breakdown import breakdown
from simgpu.analysis.power import Board, energy_of, power_columns, server_watts
from simgpu.arguments import MAPPING, TEXT, instance, takes
from simgpu.catalog import Catalogue, usual_catalogue
from simgpu.errors import InputError, shown
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import machine_of
from simgpu.model.config import TransformerConfig
from simgpu.model.networks.pipeline import Pipeline
from simgpu.plan.checks import PLAN_KEYS, check_fits_cluster
from simgpu.plan.parallelism import Plan
from simgpu.plan.program import shard
from simgpu.simulation.graph_columns import distance_over, intervals_of, rates_of, sizes_of, times_of
from simgpu.simulation.memory_use import MemoryUse
from simgpu.simulation.result import Result
from simgpu.timing.kernels import KernelModel
from simgpu.workload.afflicted import check_no_slow_gpu
from simgpu.workload.execution import Execution, execute
from simgpu.workload.frameworks import Framework
from simgpu.workload.host_code import cpu_slowdown
from simgpu.workload.inference.jobs import Deployed
from simgpu.workload.jobs import (
    Inference,
    MixedStep,
    OperatorList,
    PostTraining,
    Prefill,
    Serving,
    Shared,
    Traffic,
    Training,
    Workload,
    job_of,
)
from simgpu.workload.networks.job import Network
from simgpu.workload.options import RunOptions, Settings
from simgpu.workload.runtimes import Runtime

if TYPE_CHECKING:  # a run needs those of its own job alone
    from simgpu.simulation.inference_result import (
        BatchResult,
        InferenceResult,
        MixedStepResult,
        ServingResult,
        TrafficResult,
    )
    from simgpu.simulation.network_result import NetworkResult
    from simgpu.simulation.post_training_result import PostTrainingResult
    from simgpu.simulation.shared_result import SharedResult
    from simgpu.simulation.step_result import StepResult, TrainingResult
    from simgpu.workload.inference.deployment import Deployment

REMEMBERED = 32
"""Runs on one GPU that are remembered for each cluster."""

Model = TransformerConfig | Pipeline | str | None
"""A model from `load_model`, a network of a `Catalogue`, or its name."""

Split = Plan | Mapping[str, Any] | None
"""A plan, or a mapping of its keys."""

How = RunOptions | Mapping[str, Any] | None
"""Options, or a mapping of their keys."""


@overload
def simulate(
    cluster: Cluster | str, workload: Prefill | OperatorList, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> StepResult: ...  # fmt: skip
@overload
def simulate(  # type: ignore[overload-overlap]  # a kind of training with a result of its own
    cluster: Cluster | str, workload: PostTraining, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> PostTrainingResult: ...  # fmt: skip
@overload
def simulate(
    cluster: Cluster | str, workload: Training, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> TrainingResult: ...  # fmt: skip
@overload
def simulate(
    cluster: Cluster | str, workload: Inference, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> BatchResult: ...  # fmt: skip
@overload
def simulate(
    cluster: Cluster | str, workload: MixedStep, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> MixedStepResult: ...  # fmt: skip
@overload
def simulate(
    cluster: Cluster | str, workload: Serving, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> ServingResult: ...  # fmt: skip
@overload
def simulate(
    cluster: Cluster | str, workload: Traffic, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> TrafficResult: ...  # fmt: skip
@overload
def simulate(
    cluster: Cluster | str, workload: Network, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> NetworkResult: ...  # fmt: skip
@overload
def simulate(
    cluster: Cluster | str, workload: Shared, model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> SharedResult: ...  # fmt: skip
@overload
def simulate(
    cluster: Cluster | str, workload: Workload | Mapping[str, Any], model: Model = None, plan: Split = None,
    options: How = None, *, draft: Model = None, catalogue: Catalogue | None = None, **settings: Unpack[Settings],
) -> Result: ...  # fmt: skip
@takes(
    cluster=TEXT | instance("a Cluster", "simgpu.hardware.cluster.Cluster"),
    workload=MAPPING | instance("a job such as Prefill or Training", "simgpu.workload.fields.Strict"),
    model=TEXT
    | instance("a model from load_model", "simgpu.model.config.TransformerConfig")
    | instance("a network of a Catalogue", "simgpu.model.networks.pipeline.Pipeline"),
    plan=MAPPING | instance("a Plan", "simgpu.plan.parallelism.Plan"),
    options=MAPPING | instance("a RunOptions", "simgpu.workload.options.RunOptions"),
    draft=TEXT | instance("a model from load_model", "simgpu.model.config.TransformerConfig"),
    catalogue=instance("a Catalogue", "simgpu.catalog.Catalogue"),
)
def simulate(
    cluster: Cluster | str,
    workload: Workload | Mapping[str, Any],
    model: Model = None,
    plan: Split = None,
    options: How = None,
    *,
    draft: Model = None,
    catalogue: Catalogue | None = None,
    **settings: Unpack[Settings],
) -> Result:
    """Simulate a workload on a cluster: a training step, a batch of inference, a server or a list of operators.

    Parameters
    ----------
    cluster, model
        Names, or what `load_cluster` and `load_model` make of them: that is quicker for several calls. A workload that
        lists its operators needs no model.
    workload
        `Prefill`, `Training`, `Inference`, `MixedStep`, `Serving`, `Traffic`, `Network`, `PostTraining`,
        `Shared`, `OperatorList`, or a mapping
        with its `kind`.
    plan
        How it is split, as `Plan` or a mapping of its keys; one GPU by default.
    options, settings
        How it is run: a `RunOptions`, a mapping of its keys, or these as keyword arguments (`dtype="fp8"`,
        `framework="deepspeed"`, `require_fit=True`), which replace single ones.
    draft
        Of speculative decoding: the model that `workload.speculative.draft` names.
    catalogue
        Where names are found; default: that which comes with simgpu.

    Returns
    -------
    Result
        Of the class of the job: `StepResult`, `TrainingResult`, `BatchResult`, `MixedStepResult`, `ServingResult`,
        `TrafficResult`, `NetworkResult`, `PostTrainingResult`, `SharedResult`. Its figures
        are attributes, in SI units; `row` holds them by column.

    Raises
    ------
    InputError
        When the plan does not fit the model or the cluster, or the GPU lacks the dtype.
    """
    plan, workload = Plan.of(plan or {}), job_of(workload)
    if isinstance(cluster, str) or isinstance(model, str) or isinstance(draft, str):
        known = catalogue or Catalogue()
        cluster = known.cluster(cluster) if isinstance(cluster, str) else cluster
        model, draft = (_named(known, one, workload) if isinstance(one, str) else one for one in (model, draft))
    how = RunOptions.of(options, settings)
    check_fits_cluster(plan, cluster)
    if not isinstance(workload, Training) and (problem := check_no_slow_gpu(cluster, workload.kind)):
        raise InputError(problem, key="cluster.degraded")
    if isinstance(workload, Shared):
        from simgpu.simulation.shared import share

        return share(simulate, _asked, cluster, workload, model, plan, how, catalogue)
    if isinstance(workload, Network):
        return _run_network(cluster, workload, model, plan, how)
    if isinstance(model, Pipeline) or isinstance(draft, Pipeline):
        problem = f"'{model.name if model else ''}' is a network of stages; expected a workload of kind network"
        raise InputError(problem, key="workload.kind")
    if isinstance(workload, Deployed):
        run = runtime_of(workload, catalogue or usual_catalogue())
        others = pools_of(workload, model, how, run, catalogue) if isinstance(workload, Traffic) else ()
        return _infer(cluster, workload, model, plan, how, run, draft, others)
    if isinstance(workload, PostTraining):
        from simgpu.simulation.post_training import post_trained

        return post_trained(simulate, _asked, cluster, workload, model, plan, how, catalogue)
    if isinstance(workload, Training) and workload.pools:
        from simgpu.simulation.unequal import trained_together

        return trained_together(simulate, cluster, workload, model, plan, how, catalogue)
    if isinstance(workload, Training):
        stack = how.framework
        _kernels(cluster, workload, how)
        if isinstance(stack, str):
            stack = (catalogue or usual_catalogue()).framework(stack)
        return _train(cluster, workload, model, plan, how, stack)
    assert isinstance(workload, (Prefill, OperatorList))
    return _run_graph(cluster, workload, model, plan, how)


def _kernels(cluster: Cluster, workload: Workload, how: RunOptions) -> KernelModel:
    """The kernels of a job. Raises `InputError` for a dtype the GPU lacks, even where nothing would use it."""
    kernels = KernelModel(cluster, sustained=how.sustained(workload))
    kernels.peak(how.dtype, how.sums)
    return kernels


def _run_graph(
    cluster: Cluster, workload: Prefill | OperatorList, model: TransformerConfig | None, plan: Plan, how: RunOptions
) -> StepResult:
    """A prefill or a list of operators, once over all ranks."""
    from simgpu.simulation.step_result import StepResult

    dtype, sums, kernels = how.dtype, how.sums, _kernels(cluster, workload, how)
    software = workload.software() if isinstance(workload, OperatorList) else None
    launch = software.launch * cpu_slowdown(cluster) if software else 0.0
    if software and software.stream_slowdown != 1:
        kernels = KernelModel(cluster, how.sustained(workload), stream_slowdown=software.stream_slowdown)
    for key, own, own_sums in workload.own_dtypes() if isinstance(workload, OperatorList) else ():
        kernels.peak(own, own_sums, key=key)
    _check_plan(plan, workload.kind)
    graph = workload.graph(model, plan, dtype, sums)
    program = shard(graph, plan)
    execution = execute(program, plan, cluster, kernels, how.algorithm, how.protocol, launch)
    single = _alone(cluster, workload, model, dtype, sums, kernels, launch) if plan.world > 1 else execution
    if execution.step == 0:
        problem = "nothing to simulate: one GPU has no communication; at least 2 GPUs are needed"
        raise InputError(problem, key="workload")
    row = {
        **_asked(model.name if model else graph.name, workload.kind, cluster, dtype, plan),
        **(times := times_of(parts := breakdown(execution), single.step, plan.world)),
        **rates_of(graph, execution, plan.world),
        **sizes_of(program, dtype, cluster),
        **intervals_of(execution, parts.rank, single, times, plan.world),
        "distance": distance_over(execution, parts.rank, cluster),
    }
    weights = MemoryUse.of_weights(row["weights_bytes_per_gpu"], row["memory_capacity_bytes"])
    return _made(StepResult, row, execution, weights, cluster)


R = TypeVar("R", bound=Result)


def _made(
    kind: type[R], row: dict[str, Any], execution: Execution, memory: MemoryUse, cluster: Cluster,
    prompts: Execution | None = None,
) -> R:  # fmt: skip
    """A result with its columns of power and energy; of a server `prompts` is the prefill of one."""
    board = Board.of(cluster)
    watts = energy_of(execution, board).watts
    if row.get("data_wait_s") or row.get("video_wait_s"):
        from simgpu.simulation.feeding import watts_with_waits

        watts = watts_with_waits(row, watts, board.levels.waiting)
    if row["workload"] in ("serving", "traffic"):
        share = row["interference_s"] / row["tpot_s"] if row["tpot_s"] else 0.0
        busy = row.get("busy", min(row.get("concurrency", 1) / row["dp"], 1.0))
        first = energy_of(prompts, board).watts if prompts is not None else watts
        watts = server_watts(watts, first, board.levels.waiting, min(share, 1.0), min(busy, 1.0))
    return kind.of({**row, **power_columns(row, watts, board)}, execution, memory, board)


def _named(catalogue: Catalogue, name: str, job: Workload) -> TransformerConfig | Pipeline:
    """The model or the network that a job asks for by name."""
    return catalogue.network(name) if isinstance(job, Network) else catalogue.model(name)


def _run_network(
    cluster: Cluster, workload: Network, model: TransformerConfig | Pipeline | str | None, plan: Plan, how: RunOptions
) -> NetworkResult:
    from simgpu.simulation.network import run_network
    from simgpu.simulation.network_result import NetworkResult

    done = run_network(cluster, workload, model, plan, how)
    assert isinstance(model, Pipeline)
    row = {**_asked(model.name, workload.kind, cluster, how.dtype, plan), **done.row}
    row["distance"] = distance_over(done.execution, 0, cluster)
    if workload.data is not None:
        from simgpu.simulation.feeding import network_feed, with_data

        row = with_data(row, network_feed(workload, model, cluster, plan.world), workload.batch)
    if workload.video is not None:
        from simgpu.simulation.streaming import with_video

        row = with_video(row, workload, model, cluster)
    return _made(NetworkResult, row, done.execution, done.memory, cluster)


def runtime_of(job: Deployed, catalogue: Catalogue) -> Runtime:
    """The runtime of a job of inference. Raises `InputError` (key `workload.runtime`) where the catalogue lacks it."""
    try:
        return catalogue.runtime(job.runtime)
    except InputError as error:
        raise error if error.file else InputError(error.problem, key="workload.runtime") from None


def _infer(
    cluster: Cluster, workload: Any, model: TransformerConfig | None, plan: Plan, how: RunOptions, run: Runtime,
    draft: TransformerConfig | None, others: Sequence[Deployment] = (),
) -> InferenceResult:  # fmt: skip
    from simgpu.simulation.inference import infer
    from simgpu.simulation.inference_result import BatchResult, MixedStepResult, ServingResult

    if isinstance(workload, Traffic):
        return _follow(deploy_of(cluster, workload, model, plan, how, run), workload, how, draft, others)
    done = infer(cluster, workload, model, plan, how, run, draft)
    assert model is not None
    row = {**_asked(model.name, workload.kind, cluster, how.dtype, plan), **done.row}
    kinds: dict[str, type[InferenceResult]] = {
        "inference": BatchResult, "mixed": MixedStepResult, "serving": ServingResult,
    }  # fmt: skip
    kind, memory = kinds[workload.kind], MemoryUse.of_inference(done.memory)
    return _made(kind, row, done.execution, memory, cluster, done.prompts)


def deploy_of(
    cluster: Cluster, workload: Traffic, model: TransformerConfig | None, plan: Plan, how: RunOptions, run: Runtime
) -> Deployment:
    """The deployment of a server whose requests are followed."""
    from simgpu.workload.inference.deploying import deploy

    return deploy(cluster, workload.served(), model, plan, run, how)


def pools_of(
    workload: Traffic, model: TransformerConfig | None, how: RunOptions, run: Runtime, catalogue: Catalogue | None
) -> list[Deployment]:
    """The pools of other GPUs behind the same router. Raises `InputError` at the key of the pool."""
    found = []
    for place, pool in enumerate(workload.pools or ()):
        try:
            cluster = (catalogue or usual_catalogue()).cluster(pool.cluster)
            plan = Plan(tp=pool.tp, dp=pool.dp, pp=pool.pp, cp=pool.cp, ep=pool.ep)
            check_fits_cluster(plan, cluster)
            job = workload.model_copy(update={"precision": pool.precision or workload.precision})
            found.append(deploy_of(cluster, job, model, plan, how, run))
        except InputError as error:
            raise InputError(error.problem, key=f"workload.pools.{place}") from None
    return found


def _follow(
    deployment: Deployment, workload: Traffic, how: RunOptions, draft: TransformerConfig | None,
    others: Sequence[Deployment],
) -> TrafficResult:  # fmt: skip
    """A server under requests that are followed one by one."""
    from simgpu.simulation.inference_result import TrafficResult
    from simgpu.simulation.traffic import answer

    done = answer(deployment, workload, how.require_fit, draft, others)
    plan, model = deployment.plan, deployment.config
    row = {**_asked(model.name, workload.kind, deployment.cluster, how.dtype, plan), **done.row}
    if others:
        row["gpus"] += sum(one.plan.world for one in others)
        row["gpu"] = " + ".join(dict.fromkeys([row["gpu"], *(one.cluster.gpu.name for one in others)]))
    memory = MemoryUse.of_inference(done.memory)
    return _made(TrafficResult, row, done.execution, memory, deployment.cluster, done.prompts).followed(done.served)


def _asked(model: str, kind: str, cluster: Cluster, dtype: str, plan: Plan) -> dict[str, Any]:
    """What was simulated."""
    return {
        "model": model,
        "workload": kind,
        "cluster": cluster.name,
        "gpu": cluster.gpu.name,
        "dtype": dtype,
        "tp": plan.tp,
        "dp": plan.dp,
        "sequence_parallel": plan.sequence_parallel,
        "gpus": plan.world,
    }


def _train(
    cluster: Cluster, workload: Training, model: TransformerConfig | None, plan: Plan, how: RunOptions,
    framework: Framework,
) -> TrainingResult:  # fmt: skip
    from simgpu.simulation.step_result import TrainingResult
    from simgpu.simulation.training import train

    done = train(cluster, workload, model, plan, how, framework)
    assert model is not None
    row = {
        **_asked(model.name, workload.kind, cluster, how.dtype, plan),
        **{name: getattr(plan, name) for name in ("pp", "vp", "cp", "ep", "zero", "recompute")},
        "schedule": plan.pipeline,
        "micro_batch": plan.micro_batch or workload.batch // plan.dp,
        "microbatches": workload.batch // plan.dp // (plan.micro_batch or workload.batch // plan.dp),
        "framework": framework.name,
        **done.row,
    }
    if workload.data is not None:
        from simgpu.simulation.feeding import training_feed, with_data

        row = with_data(row, training_feed(workload, cluster, plan.world), workload.samples)
    return _made(TrainingResult, row, done.execution, MemoryUse.of_training(done.memory), cluster)


def _check_plan(plan: Plan, kind: str) -> None:
    """Raise `InputError` for keys of a plan that a prefill or a list of operators does not support."""
    for name, plain in vars(Plan()).items():
        if name not in ("tp", "dp", "sequence_parallel") and vars(plan).get(name, plain) != plain:
            others = "training, inference, mixed and serving" if name in PLAN_KEYS else "training"
            problem = f"{shown(vars(plan)[name])} is not supported for {kind}; expected {shown(plain)}"
            raise InputError(f"{problem}, or a workload of kind {others}", key=f"plan.{name}")


def _alone(
    cluster: Cluster, workload: Prefill | OperatorList, model: TransformerConfig | None, dtype: str, sums: str,
    kernels: KernelModel, launch: float,
) -> Execution:  # fmt: skip
    """The same work on one GPU. It is the same for every plan, so that it is remembered for each cluster."""
    content = workload.digest if isinstance(workload, OperatorList) else ""
    key = (workload.model_dump_json(), content, model, dtype, sums, kernels.identity, launch)

    def run() -> Execution:
        plan = Plan()
        return execute(shard(workload.graph(model, plan, dtype, sums), plan), plan, cluster, kernels, launch=launch)

    found: Execution = machine_of(cluster).memo.region("alone", REMEMBERED).known(key, run)
    return found
