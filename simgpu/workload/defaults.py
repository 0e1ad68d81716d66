"""What absent values of a scenario come to: each rule once, for whoever simulates, shows, compares or keeps results.

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
from simgpu.workload.jobs import Inference, MixedStep, Serving, Training, Workload
from simgpu.workload.options import clocks_of
from simgpu.workload.runtimes import Runtime

Path = tuple[str, ...]
"""Place of a value in a scenario: ('plan', 'micro_batch')."""


def absent(path: Path, kind: str, dtype: str) -> Any:
    """What the value at `path` comes to by the kind of job and the dtype alone; None where they do not decide it."""
    if path == ("clocks",):
        return clocks_of(kind)
    return {"accumulate": ACCUMULATE[dtype], "dtype": dtype}.get(path[-1])


def filled(
    job: Workload, plan: Plan | None, dtype: str, framework: Framework | None, run: Runtime | None,
    model: TransformerConfig | None,
    clocks: str | None = None, accumulate: str | None = None,
) -> dict[Path, Any]:  # fmt: skip
    """What every value of a scenario comes to that may be absent and has an effect, by its place; given ones stand.

    `plan` is None where its keys contradict each other; `framework` is that of a training step, `run` the runtime of
    inference.
    """
    found: dict[Path, Any] = {("clocks",): clocks or clocks_of(job.kind)}
    if isinstance(job, (Inference, MixedStep, Serving)):
        return found | _served(job, run, dtype, model, accumulate)
    found["accumulate",] = accumulate or ACCUMULATE[dtype]
    if isinstance(job, Training) and plan is not None:
        found |= {("plan", key): value for key, value in plan.filled(job.batch).items()}
        if framework is not None and model is not None and model.experts > 1:
            known = vars(framework.experts.under(plan))
            found |= {("plan", key): known[key] for key in SETTINGS if key in known}
            found["plan", "expert_tp"] = plan.expert_tp or plan.tp
    if isinstance(job, Training):
        found |= _trained(job, dtype, framework, model)
    return found


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
    job: Inference | MixedStep | Serving, run: Runtime | None, dtype: str, model: TransformerConfig | None,
    accumulate: str | None,
) -> dict[Path, Any]:  # fmt: skip
    from simgpu.workload.inference.deploying import ACTIVATIONS
    from simgpu.workload.inference.deployment import ROUTING

    found: dict[Path, Any] = {}
    if dtype in ACTIVATIONS:
        found["accumulate",] = accumulate or ACCUMULATE[dtype]
        found["workload", "precision"] = job.precision or dtype
        if run is not None and run.style != "ggml":  # which may keep another type than it is asked for
            found["workload", "kv_cache"] = job.kv_cache or dtype
    if model is not None and model.experts > 1:
        found["workload", "routing"] = job.routing or ROUTING
    return found
