"""Random valid training scenarios of small models, for laws that hold for all of them."""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

import simgpu
from simgpu import Catalogue, InputError, Plan, Training, simulate
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.simulation.result import Result
from simgpu.workload.framework_files import built_in

CATALOGUE = Catalogue()
SMALL = {"layers": 4, "hidden": 1024, "heads": 16, "kv_heads": 8, "head_dim": 64, "ffn": 2048, "vocab": 32000}
MODELS = {
    "dense": replace(CATALOGUE.model("llama-3-8b"), name="dense", **SMALL),
    "tied": replace(CATALOGUE.model("gpt2"), name="tied", **{**SMALL, "kv_heads": 16}),
    "experts": replace(CATALOGUE.model("mixtral-8x7b"), name="experts", expert_ffn=2048, **SMALL),
}
CLUSTERS = ("dgx-h100-ib", "l40s-8x-ethernet")

PLANS: dict[str, list[Any]] = {
    "tp": [1, 2, 4], "pp": [1, 1, 2, 4], "vp": [1, 1, 2], "cp": [1, 1, 2], "dp": [1, 2, 4, 8], "ep": [1, 1, 2, 4],
    "sequence_parallel": [True, True, False], "schedule": [None, None, "gpipe", "zb-h1"], "zero": [0, 1, 2, 3],
    "shard": [None, None, 2], "context": ["ring", "all_gather", "all_to_all"], "micro_batch": [None, 1, 2],
    "recompute": ["none", "selective", "full"], "recompute_layers": [None, None, 1],
    "recompute_modules": [None, None, ("layernorm", "mlp")],
    "overlap_gradients": [True, False], "overlap_weights": [True, False], "async_tp": [False, True],
    "offload": ["none", "none", "optimizer", "parameters"], "offload_to": ["host", "host", "nvme", "mixed"],
    "offload_layers": [None, None, 1], "order": [Plan().order, ("tp", "dp", "cp", "ep", "pp")],
    "stage_layers": [None, None, "uneven"], "expert_tp": [None, None, 1],
    "dispatcher": [None, "allgather", "alltoall", "deepep", "hybridep"],
    "cuda_graphs": [None, "router", "parts", "layer", "full"], "grouped": [None, "loop", "fused"],
    "permute_fusion": [None, True], "router_fusion": [None, True], "capacity_factor": [None, None, 1.0, 1.5],
    "expert_overlap": [None, True], "balance": [None, "even", "none"],
}  # fmt: skip
"""Values of each field of a plan."""
JOBS: dict[str, list[Any]] = {
    "tokens": [256, 512, 1024], "optimizer": ["adam", "adam", "momentum", "sgd", "none"],
    "master_weights": [None, True, False], "weights": [None, None, "fp32"], "gradients": [None, None, "bf16"],
    "reduce": [None, "bf16"], "states": ["fp32", "bf16"], "clip": [True, False], "flash": [True, True, False],
    "finetune": ["full", "full", "lora", "qlora"], "routing": ["balanced", "random", "power_law_1.2"],
}  # fmt: skip
"""Values of each field of a training job, but for the batch and what goes with a value of another field."""
HOW: dict[str, list[Any]] = {
    "dtype": ["bf16", "bf16", "fp16", "fp8", "tf32", "fp32"], "framework": list(built_in().names),
    "algorithm": ["auto", "auto", "ring", "tree"], "protocol": ["auto", "auto", "ideal", "simple"],
    "clocks": [None, "burst"],
}  # fmt: skip
"""Values of each argument of `simulate` beside job and plan."""


def cluster(name: str, nodes: int = 2) -> Cluster:
    """A cluster that nothing was simulated on."""
    return simgpu.load_cluster(name, cluster__nodes=nodes)


@dataclass(frozen=True)
class Scenario:
    """A training step by names, and how it is run."""

    cluster: str
    model: str
    job: Training
    plan: Plan
    how: dict[str, Any]

    def run(self, on: Cluster, **options: Any) -> Result:
        return simulate(on, self.job, self.config, self.plan, **self.how, **options)

    @property
    def config(self) -> TransformerConfig:
        return MODELS[self.model]

    def check(self, gpus: int = 16) -> None:
        """Raise `InputError` where the plan cannot split the job over so many GPUs."""
        self.job.check(self.config, self.plan)
        if self.plan.world > gpus:
            raise InputError("too few GPUs", key="plan")

    def but(self, field: str, value: Any) -> "Scenario":
        """The scenario with one field different."""
        if field in PLANS:
            return replace(self, plan=replace(self.plan, **{field: value}))
        if field in HOW or field == "accumulate":
            return replace(self, how=self.how | {field: value})
        if field in ("model", "cluster"):
            return replace(self, **{field: value})
        return replace(self, job=Training(**(self.job.model_dump() | {field: value})))


BASE = Scenario(
    "dgx-h100-ib", "dense", Training(batch=8, tokens=4096),
    Plan(tp=2, dp=2, sequence_parallel=True, zero=1, micro_batch=1), {},
)  # fmt: skip

ALL_GPU = {"cuda_graphs": "full"}
"""A step that waits for no host: in others kernels may be as long as they like."""

PAIRS: dict[str, tuple[dict, object]] = {
    "tp": ({}, 4), "dp": ({}, 4), "sequence_parallel": ({}, False), "pp": ({}, 2), "cp": ({}, 2), "zero": ({}, 3),
    "vp": ({"pp": 2}, 2), "schedule": ({"pp": 2}, "zb-h1"), "ep": ({"model": "experts"}, 2),
    "shard": ({"dp": 4, "zero": 3}, 2), "context": ({"cp": 2} | ALL_GPU, "all_gather"), "micro_batch": ({}, 2),
    "recompute": ({}, "full"), "recompute_layers": ({"recompute": "full"}, 1),
    "recompute_modules": ({"recompute": "selective"} | ALL_GPU, ("mlp",)), "async_tp": ({}, True),
    "overlap_gradients": ({"zero": 3}, False), "overlap_weights": ({"zero": 3}, False), "offload": ({}, "optimizer"),
    "offload_to": ({"offload": "optimizer"}, "nvme"), "offload_layers": ({}, 3),
    "order": ({"tp": 2, "dp": 8}, ("dp", "cp", "ep", "tp", "pp")), "stage_layers": ({"pp": 2}, (1, 3)),
    "expert_tp": ({"model": "experts", "ep": 2}, 1), "dispatcher": ({"model": "experts", "ep": 2}, "hybridep"),
    "cuda_graphs": ({"model": "experts"}, "layer"), "grouped": ({"model": "experts", "tokens": 256}, "loop"),
    "permute_fusion": ({"model": "experts", "tokens": 256}, True),
    "router_fusion": ({"model": "experts", "tokens": 256}, True),
    "capacity_factor": ({"model": "experts", "ep": 2}, 2.0), "balance": ({"model": "experts", "ep": 2}, "none"),
    "expert_overlap": ({"model": "experts", "ep": 2}, True),
    "batch": ({}, 16), "tokens": ({}, 1024), "optimizer": ({}, "sgd"), "master_weights": ({}, False),
    "weights": ({}, "fp32"), "gradients": ({}, "bf16"), "reduce": ({}, "bf16"), "states": ({}, "bf16"),
    "clip": ({}, False), "flash": (ALL_GPU, False), "fp8_scaling": ({"dtype": "fp8"} | ALL_GPU, "tensorwise"),
    "finetune": ({}, "lora"), "rank": ({"finetune": "lora"}, 64), "targets": ({"finetune": "lora"}, ("ffn_up",)),
    "routing": ({"model": "experts", "ep": 2}, "power_law_1.2"),
    "dtype": (ALL_GPU, "fp8"), "accumulate": ({"cluster": "rtx-4090-8x-ethernet", "dtype": "fp16"}, "fp16"),
    "algorithm": ({"tp": 8, "sequence_parallel": False}, "ring"), "protocol": ({}, "simple"), "clocks": ({}, "burst"),
    "framework": ({}, "pytorch-compiled"), "model": ({}, "experts"), "mtp_layers": ({}, 1),
    "mean_tokens": ({"mean_tokens": 256, "lengths": "packed"}, 128), "lengths": ({"mean_tokens": 256}, "packed"),
    "length_deviation": ({"mean_tokens": 256, "lengths": "packed"}, 0.5),
}  # fmt: skip
"""Of each field that decides the time of a step: a scenario where it does (what differs from `BASE`), another value."""


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """A scenario that can run."""

    def some(choices: dict[str, list[Any]]) -> dict[str, Any]:
        return {key: draw(st.sampled_from(values)) for key, values in choices.items()}

    plan, job, how = some(PLANS), some(JOBS), some(HOW)
    tp, cp = plan["tp"], plan["cp"]
    pp = plan["pp"] = min(plan["pp"], 16 // (tp * cp))
    plan["dp"] = min(plan["dp"], 16 // (tp * cp * pp))
    plan["vp"] = plan["vp"] if pp == 2 and plan["schedule"] is None else 1
    plan["shard"] = plan["shard"] if plan["zero"] and plan["dp"] * cp > 1 else None
    plan["recompute_layers"] = plan["recompute_layers"] if plan["recompute"] == "full" else None
    by_module = plan["recompute"] == "selective" and not built_in().of(how["framework"]).memory.saves_matmuls
    plan["recompute_modules"] = plan["recompute_modules"] if by_module else None
    plan["async_tp"] = plan["async_tp"] and (plan["sequence_parallel"] or tp == 1)
    plan["offload"] = plan["offload"] if job["optimizer"] != "none" else "none"
    if plan["offload"] == "parameters" and (plan["zero"] < 3 or pp > 1):
        plan["offload"] = "optimizer"
    uneven = {2: (3, 1), 4: (0, 2, 1, 1)}  # of four layers
    plan["stage_layers"] = uneven.get(pp * plan["vp"]) if plan["stage_layers"] else None
    plan["expert_tp"] = plan["expert_tp"] if plan["sequence_parallel"] else None
    job["flash"] = job["flash"] or cp > 1
    model = draw(st.sampled_from(sorted(MODELS)))
    if model != "experts":
        plan["ep"], job["routing"] = 1, "balanced"
    batch = plan["dp"] * draw(st.sampled_from([4, 8]))
    where = draw(st.sampled_from(CLUSTERS))
    if (
        where != CLUSTERS[0]
        or plan["offload"] == "none"
        or (plan["offload"], plan["offload_to"]) == ("optimizer", "mixed")
    ):
        plan["offload_to"] = "host"  # the others have no drives
    if plan["zero"] or tp > 1 or plan["context"] != "ring":
        how["algorithm"] = how["algorithm"].replace("tree", "auto")  # trees only add up
    try:
        found = Scenario(where, model, Training(batch=batch, **job), Plan(**plan), how)
        found.check()
    except InputError:
        assume(False)
    return found
