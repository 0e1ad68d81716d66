"""What is asked of a machine: to fine-tune or to serve, and how; one model at a time, simulated as any scenario is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import SimgpuError
from simgpu.hardware.cluster import Cluster
from simgpu.simulation.call import simulate

FINETUNE = ("full", "lora", "qlora")
FITS = 0.5
"""Probability from which a training step counts as fitting where it is tight."""


@dataclass(frozen=True)
class Asked:
    """A machine and what it is to do.

    cluster
        A GPU alone, a node or a cluster; all of its GPUs are used: sharded copies to fine-tune (ZeRO-3), tensor
        parallelism to serve.
    finetune
        full, lora or qlora; empty: the model is served.
    tokens
        Of a sequence in training; of prompt and answer together in serving.
    batch
        Sequences: of a microbatch on each GPU in training, at a time in serving.
    precision
        Of the weights in serving; None: that of the checkpoint.
    workload, plan, options
        Further keys of each.
    """

    cluster: Cluster
    finetune: str
    tokens: int
    batch: int = 1
    precision: str | None = None
    framework: str = "hf-trainer"
    runtime: str = "vllm"
    workload: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gpus(self) -> int:
        """All GPUs of the machine."""
        return self.cluster.gpu_count

    def under(self, workload: Mapping[str, Any] | None = None, plan: Mapping[str, Any] | None = None) -> Asked:
        """The same with further keys."""
        return replace(self, workload={**self.workload, **(workload or {})}, plan={**self.plan, **(plan or {})})

    def job(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The workload and the plan of a simulation."""
        if not self.finetune:
            answer = max(1, min(128, self.tokens // 2))
            job: dict[str, Any] = {"kind": "inference", "batch": self.batch, "prompt": self.tokens - answer,
                                   "output": answer, "runtime": self.runtime}  # fmt: skip
            job |= {"precision": self.precision} if self.precision else {}
            return {**job, **self.workload}, {"tp": self.gpus, **self.plan}
        job = {"kind": "training", "batch": self.batch * self.gpus, "tokens": self.tokens, "finetune": self.finetune}
        plan: dict[str, Any] = {"dp": self.gpus, "micro_batch": self.batch}
        plan |= {"zero": 3} if self.gpus > 1 else {}
        return {**job, **self.workload}, {**plan, **self.plan}

    def run(self, model: str, catalogue: Catalogue) -> dict[str, Any] | str:
        """The row of a model, or in words why there is none."""
        job, plan = self.job()
        try:
            result = simulate(self.cluster, job, catalogue.model(model), plan, framework=self.framework,
                              catalogue=catalogue)  # fmt: skip
        except SimgpuError as error:
            return str(error)
        return dict(result.row)


def fits(row: Mapping[str, Any]) -> bool:
    """True for a row that fits: with a probability of a half or more where it is tight."""
    chance = row.get("fit_probability")
    return bool(row["memory_fits"]) and (chance is None or chance >= FITS)
