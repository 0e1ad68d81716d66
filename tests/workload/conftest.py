"""A training step on the engine, folded or not, from a plan."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from simgpu import Catalogue, Plan, load_cluster
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.plan.numerics import Numerics
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import Activity, Execution
from simgpu.workload.framework_files import framework
from simgpu.workload.links import Links
from simgpu.workload.training.step import Job, run_step

CATALOGUE = Catalogue()


@dataclass(frozen=True)
class Stage:
    """Runs training steps of small models."""

    dense: TransformerConfig
    moe: TransformerConfig

    def run(
        self, cluster: str | Cluster, plan: Plan, batch: int, tokens: int = 1024, model: Any = None,
        style: str = "megatron", folded: bool = True, numerics: Numerics | None = None, protocol: str = "auto",
        links: type[Links] = Links, **job: Any,
    ) -> Execution:  # fmt: skip
        found = CATALOGUE.cluster(cluster) if isinstance(cluster, str) else cluster
        kernels = KernelModel(found)
        ways = links(found, plan, kernels, "auto", protocol, folded)
        work = Job(model or self.dense, plan, numerics or Numerics(), framework(style), batch, tokens, "fp32", **job)
        return run_step(work, kernels, ways)

    def cluster(self, name: str, **overrides: Any) -> Cluster:
        return load_cluster(name, **{key.replace(".", "__"): value for key, value in overrides.items()})

    def labels(self, execution: Execution, rank: int = 0) -> list[Activity]:
        """What runs on a rank between blocks, once for each run."""
        return [span.label for span in execution.timeline.spans(execution.streams[rank].values())]


@pytest.fixture(scope="session")
def stage() -> Stage:
    dense = replace(CATALOGUE.model("llama-3-8b"), layers=8, name="small")
    moe = replace(CATALOGUE.model("mixtral-8x7b"), layers=4, name="small experts")
    return Stage(dense, moe)
