"""Predicts whole inference runs: deploys the model and simulates its step, batch or load.

The same run at the speed of light is `sol_s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simgpu.analysis.inference import speed_of_light
from simgpu.errors import InputError, MisfitError
from simgpu.lab.machines import cluster_for, one_node_holds, training_cluster
from simgpu.lab.validation.adapters.inference_runs import DECODE, E2E, PREFILL, TPOT, TTFT, Engine, MeasuredRun
from simgpu.lab.validation.batches import Machine
from simgpu.plan.checks import check_serves
from simgpu.plan.precision import precision_of
from simgpu.plan.serving_memory import most_sequences, serving_memory
from simgpu.workload.inference.deployment import Deployment, StepTime
from simgpu.workload.inference.disaggregation import serve_apart
from simgpu.workload.inference.generation import Run, decode_runs, pipelined, prefill_runs
from simgpu.workload.inference.open_load import serve_at_rate
from simgpu.workload.inference.serving import Load, Serving, serve
from simgpu.workload.runtime_files import bare_forward, runtime


@dataclass(frozen=True)
class PredictedRun:
    """A prediction, s, and the same at the speed of light.

    With it go the ends of the interval that its kernels alone would have over it.
    """

    seconds: float
    sol_s: float
    caveat: str = ""
    kernels: tuple[float, float] = (1.0, 1.0)


def predict(machine: Machine, run: MeasuredRun) -> PredictedRun:
    """Seconds of a quantity. Raises `InputError` for what cannot be deployed."""
    kept = machine.bench.steps
    key = (machine.gpu.name, "inference", run.op == PREFILL, replace(run, op="", measured=0.0))
    if key not in kept:
        try:
            kept[key] = _whole(machine, run)
        except InputError as error:
            kept[key] = error
    found = kept[key]
    if isinstance(found, InputError):
        raise found
    made: PredictedRun = found[run.op]
    return made


def _whole(machine: Machine, run: MeasuredRun) -> dict[str, PredictedRun]:
    """All quantities of a run."""
    deployment = deploy(machine, run.engine)
    if run.served:
        return _served(machine, deployment, run)
    held = max(serving_memory(deployment.served, 1, 2, 0.0), key=lambda one: one.weights).weights
    if held > machine.gpu.memory.capacity.si:
        raise MisfitError(f"{held / 1e9:.0f} GB of weights do not fit a GPU", key="plan")
    if run.op == PREFILL:
        runs = prefill_runs(deployment, run.batch, run.prompt)
        sol_s = sum(speed_of_light(part.step) * part.count for part in runs)
        return {PREFILL: PredictedRun(pipelined(runs, deployment.runtime.queue), sol_s, kernels=_kernels(runs))}
    decode = decode_runs(deployment, run.batch, run.prompt, run.output)
    sol_s = sum(speed_of_light(part.step) * part.count for part in decode)
    seconds = sum(part.seconds * part.count for part in decode)
    found = {DECODE: PredictedRun(seconds, sol_s, kernels=_kernels(decode))}
    if run.op == E2E:  # of one batch: its prompts before its tokens
        runs = prefill_runs(deployment, run.batch, run.prompt)
        seconds += pipelined(runs, deployment.runtime.queue)
        found[E2E] = PredictedRun(seconds, sol_s, kernels=_kernels([*runs, *decode]))
    return found


def _kernels(runs: Sequence[Run]) -> tuple[float, float]:
    """What the interval of some steps would be for their kernels alone, over their time."""
    from simgpu.simulation.inference import kernel_ends

    ends = kernel_ends(runs)
    return ends.p10, ends.p90


def _served(machine: Machine, deployment: Deployment, run: MeasuredRun) -> dict[str, PredictedRun]:
    """A load test: steady state in closed form."""
    load = Load(run.batch, run.prompt, run.output, run.cached, drawn=run.drawn, waves=run.waves, front=run.front)
    room = most_sequences(deployment.served, run.prompt + run.output, machine.gpu.memory.capacity.si)
    if room == 0:
        raise MisfitError("weights and the cache of one request do not fit", key="plan")
    if run.rate:
        done = serve_at_rate(deployment, run.rate, run.prompt, run.output, run.cached)
    elif run.apart is None:
        done = serve(deployment, load)
    else:
        done = serve_apart(deploy(machine, run.apart), deployment, load, *run.instances)
    sol_s = _speed_of_light_of_load(done, deployment, run)
    caveat = "saturated: requests queue for room in the cache" if done.saturated else ""
    whole = done.ttft + done.tpot * (run.output - 1)
    prompt = speed_of_light(_prompt(deployment, run))
    ends = _kernels([Run(step, share, done.tpot, 1.0) for step, share in done.decode])
    return {
        TTFT: PredictedRun(done.ttft, prompt, caveat, ends),
        TPOT: PredictedRun(done.tpot, sol_s, caveat, ends),
        E2E: PredictedRun(whole, prompt + sol_s * (run.output - 1), caveat, ends),
    }


def _prompt(deployment: Deployment, run: MeasuredRun) -> StepTime:
    runs = prefill_runs(deployment, 1, run.prompt, run.cached)
    return max((part.step for part in runs), key=speed_of_light)


def _speed_of_light_of_load(done: Serving, deployment: Deployment, run: MeasuredRun) -> float:
    """TPOT at the speed of light: reads and multiplications of a decode step, and of the prompts that come between."""
    found = sum(speed_of_light(step) * share for step, share in done.decode)
    if run.apart is None and deployment.runtime.mixes:
        alone = speed_of_light(_prompt(deployment, run))
        weights = speed_of_light(deployment.decode(1, 2))
        found += (done.batch - 1) * max(alone - weights, 0.0) / run.output
    return found


def deploy(machine: Machine, engine: Engine) -> Deployment:
    """The deployment of a row, on the machine with the constants that the regime of the validation allows."""
    bench, gpus = machine.bench, engine.plan.world
    key = (machine.gpu.name, engine)
    if key not in bench.steps:
        check_serves(engine.plan, engine.config)
        name = machine.gpu.name
        per_node = gpus if one_node_holds(bench.catalogue, name, gpus) else min(engine.per_node, gpus)
        where = (bench.catalogue, name, gpus, per_node, engine.link, engine.network)
        cluster = cluster_for(*where[:5]) if gpus <= per_node else training_cluster(*where)
        cluster = replace(cluster, kernel=bench.constants(cluster.gpu))
        served = runtime(engine.runtime)
        if served.style == "eager" and not engine.generates:
            served = bare_forward(served.name)
        if engine.experts:
            own = (cluster.gpu.architecture, engine.precision, engine.experts)
            served = replace(served, experts=(own, *served.experts))
        bench.steps[key] = Deployment(
            engine.config, cluster, engine.plan, precision_of(engine.precision), served, engine.dtype, engine.kv_dtype,
            limit=engine.chunk, sequences=engine.sequences,
        )  # fmt: skip
    made: Deployment = bench.steps[key]
    return made
