"""The job of several models that share a GPU: what a user asks of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simgpu.workload.fields import Dtype, Size, Strict, positive
from simgpu.workload.inference.jobs import Inference
from simgpu.workload.model_jobs import Prefill
from simgpu.workload.networks.job import Network

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)]

SHARINGS = ("separate", "in_turn", "time_slicing", "mps", "mig")
"""Ways to share: a GPU for each; one process that serves one call after another; processes that the driver runs in turn
by slices of time; kernels of all at once (CUDA MPS); slices of the GPU with memory of their own (MIG)."""


class Part(Strict):
    """One model that is resident: a call of it is a job of its own, on the GPU or its part of it."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    model: Annotated[str, Field(min_length=1)]
    workload: Annotated[Network | Inference | Prefill, Field(discriminator="kind")]
    dtype: Dtype | None = None
    share: Share = 1.0
    """With mps: share of the multiprocessors that its kernels may use (CUDA_MPS_ACTIVE_THREAD_PERCENTAGE)."""
    profile: str | None = None
    """With mig: the slice that it runs on, such as 1g.10gb."""
    slots: Annotated[int, Field(strict=True, gt=0, le=1024)] = 1
    """Calls that run at a time, as one batch."""
    host: Annotated[float, positive("s", zero=True)] = 0.0
    """Seconds of CPU work of a call before and after its kernels: resizing, tokenising, boxes, search of passages."""
    rate: Rate | None = None
    """Requests a second of its own, of models that stand apart; without, it is always busy."""


class Shared(Strict):
    """Models that share a GPU: a chain, each request through all of them in order, or apart, each with its own load."""

    kind: Literal["shared"] = "shared"
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=16)]
    sharing: Literal["separate", "in_turn", "time_slicing", "mps", "mig"] = "time_slicing"
    order: Literal["chain", "apart"] = "chain"
    rate: Rate | None = None
    """Requests a second of a chain, which come at random (Poisson); default: 0.7 of what it can serve."""
    requests: Annotated[Size, Field(le=200_000)] = 2000
    """Requests that are followed, of models apart those of the first."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63)] = 0

    @model_validator(mode="after")
    def _whole(self) -> Shared:
        names = [part.name for part in self.parts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"parts: two are called '{twice}'; expected names of their own")
        for i, part in enumerate(self.parts):
            if self.sharing == "mig" and part.profile is None:
                raise ValueError(f"parts.{i}.profile is missing; with mig each model needs a slice, such as 1g.10gb")
            if self.order == "chain" and part.rate is not None:
                raise ValueError(f"parts.{i}.rate: models of a chain have the rate of the chain; leave it out")
        if self.order == "apart" and self.rate is not None:
            raise ValueError("rate: models that stand apart have rates of their own; give parts.0.rate, ...")
        return self
