"""Defaults of a scenario: the rule for each absent value, once, for all who simulate, show, compare or keep results.

Those of a plan are rules of its keys (`simgpu.plan.parallelism.Key.rule`), dtypes of training `Training.numerics`.
"""

from __future__ import annotations

from typing import Any

from simgpu.errors import InputError
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import ACCUMULATE
from simgpu.plan.experts import SETTINGS
from simgpu.plan.parallelism import Plan
from simgpu.workload.frameworks import Framework
from simgpu.workload.inference.jobs import Deployed
from simgpu.workload.jobs import Training, Workload
from simgpu.workload.options import clocks_of
from simgpu.workload.runtimes import Runtime

Path = tuple[str, ...]
"""Place of a value in a scenario: ('plan', 'micro_batch')."""


def absent(path: Path, kind: str, dtype: str) -> Any:
    """The default of the value at `path` that the kind of job and the dtype decide; None where they do not."""
    if path == ("clocks",):
        return clocks_of(kind)
    return {"accumulate": ACCUMULATE[dtype], "dtype": dtype}.get(path[-1])


def filled(
    job: Workload, plan: Plan | None, dtype: str, framework: Framework | None, run: Runtime | None,
    model: TransformerConfig | None,
    clocks: str | None = None, accumulate: str | None = None,
) -> dict[Path, Any]:  # fmt: skip
    """The value of every field of a scenario that may be absent and has an effect, by its place; given values stand.

    `plan` is None where its keys contradict each other; `framework` is that of a training step, `run` the runtime of
    inference.
    """
    values: dict[Path, Any] = {("clocks",): clocks or clocks_of(job.kind)}
    if isinstance(job, Deployed):
        return values | _served(job, run, dtype, model, accumulate)
    values["accumulate",] = accumulate or ACCUMULATE[dtype]
    if isinstance(job, Training) and plan is not None:
        values |= {("plan", key): value for key, value in plan.filled(job.batch).items()}
        if framework is not None and model is not None and model.experts > 1:
            settings = vars(framework.experts.under(plan))
            values |= {("plan", key): settings[key] for key in SETTINGS if key in settings}
            values["plan", "expert_tp"] = plan.expert_tp or plan.tp
    if isinstance(job, Training):
        values |= _trained(job, dtype, framework, model)
    return values


def _trained(
    job: Training, dtype: str, framework: Framework | None, model: TransformerConfig | None
) -> dict[Path, Any]:
    try:
        kept = dict(vars(job.numerics(dtype, model, framework)))
    except InputError:  # it will be told where it runs
        return {}
    kept["master_weights"] = kept.pop("master") is not None
    del kept["dtype"]
    if dtype == "fp8" and framework is not None:
        kept["fp8_scaling"] = job.scaling(framework.fp8_scaling)
    return {("workload", key): value for key, value in kept.items()}


def _served(
    job: Deployed, run: Runtime | None, dtype: str, model: TransformerConfig | None,
    accumulate: str | None,
) -> dict[Path, Any]:  # fmt: skip
    from simgpu.workload.inference.deploying import ACTIVATIONS, own_cache, own_precision
    from simgpu.workload.inference.deployment import ROUTING

    values: dict[Path, Any] = {}
    if dtype in ACTIVATIONS:
        values["accumulate",] = accumulate or ACCUMULATE[dtype]
        own = own_precision(model, dtype, run) if model is not None and run is not None else None
        values["workload", "precision"] = job.precision or own or dtype
        if run is not None and run.style != "ggml":  # which may keep another type than it is asked for
            kept = own_cache(model, job.precision or own, run) if model is not None else ""
            values["workload", "kv_cache"] = job.kv_cache or kept or dtype
    if model is not None and model.experts > 1:
        values["workload", "routing"] = job.routing or ROUTING
    return values
