"""The jobs a scenario can ask for."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from simgpu.arguments import plain
from simgpu.documents import dotted
from simgpu.errors import InputError, nearest, shown
from simgpu.schema_errors import validate
from simgpu.workload.fields import Accumulate, Dtype
from simgpu.workload.inference.jobs import Inference, InferenceJob, MixedStep, Serving
from simgpu.workload.model_jobs import Prefill, Training
from simgpu.workload.networks.job import Network
from simgpu.workload.operator_list import OperatorList
from simgpu.workload.post_training import PostTraining
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.shared.job import Shared

__all__ = [
    "Accumulate", "Dtype", "Inference", "MixedStep", "Network", "OperatorList", "PostTraining", "Prefill", "Serving",
    "Shared",
    "Traffic",
    "Training",
    "Workload",
]  # fmt: skip

Workload = Annotated[
    Prefill | Training | OperatorList | Inference | MixedStep | Serving | Traffic | Network | PostTraining | Shared,
    Field(discriminator="kind"),
]


def longest_sequence(job: Workload) -> int:
    """Tokens of the longest sequence of a job; 0 for a list of operators and networks of stages."""
    match job:
        case Prefill() | Training():
            return job.tokens
        case MixedStep():
            return max(job.past + job.prefill, job.context if job.decodes else 0)
        case Inference() | Serving():
            return job.prompt + job.output
        case Traffic():
            return job.longest
    return 0


def deployed_as(job: InferenceJob | Traffic) -> InferenceJob:
    """The job by which a deployment is made: of a load of requests, a server with the same limits."""
    return job.served() if isinstance(job, Traffic) else job


JOBS = {
    one.model_fields["kind"].default: one
    for one in (Prefill, Training, OperatorList, Inference, MixedStep, Serving, Traffic, Network, PostTraining, Shared)
}
"""Classes of jobs by their `kind`."""


def job_of(job: Mapping[str, Any] | Workload) -> Workload:
    """The job that a mapping of its keys describes; a job itself is returned. Raises `InputError` (key only)."""
    if not isinstance(job, Mapping):
        return job
    kind = job.get("kind")
    if not isinstance(kind, str) or kind not in JOBS:
        problem = f"{shown(kind)} is not known" if "kind" in job else "this key is missing"
        raise InputError(f"{problem}{nearest(kind or '', JOBS)}", key="workload.kind")

    def blame(path: tuple[Any, ...], problem: str) -> InputError:
        return InputError(problem, key=dotted(("workload", *path)))

    found: Any = validate(JOBS[kind], plain(dict(job)), blame)
    typed: Workload = found
    return typed
