"""A cluster that served one job gives the next what a fresh one gives, whatever field of job, plan or call differs."""

from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from sampling import sampled
from training_scenarios import CATALOGUE, MODELS, SMALL, cluster

from simgpu import Inference, MixedStep, OperatorList, Plan, Prefill, Serving, memo, simulate
from simgpu.hardware.cluster import Cluster
from simgpu.plan.checks import PLAN_KEYS
from simgpu.workload.inference.jobs import Apart, Images, Lora, Speculative
from simgpu.workload.jobs import JOBS
from simgpu.workload.options import RunOptions

MODELS = {**MODELS, "sees": replace(CATALOGUE.model("qwen3-vl-8b"), name="sees", **SMALL)}
SHARED = {name: cluster(name) for name in ("dgx-h100-ib", "rtx-4090-8x-ethernet")}

BASES: dict[str, Any] = {
    "prefill": Prefill(batch=4, tokens=512),
    "operators": OperatorList(
        operators=[{"op": "matmul", "m": 4096, "n": 4096, "k": 4096, "split": "m"}, {"op": "all_reduce", "bytes": 1e6}]  # type: ignore[list-item]
    ),
    "inference": Inference(batch=4, prompt=256, output=8),
    "mixed": MixedStep(prefill=64, past=64, decodes=4, context=512),
    "serving": Serving(concurrency=8, prompt=256, output=16),
}

_DEPLOYED = {
    "runtime": "sglang", "precision": "int4", "kv_cache": "fp8", "routing": "power_law_1.2", "offload": 0.5,
    "memory_share": 0.5, "sequences": 64, "lora": Lora(rank=8),
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
    "prefill": {"batch": 8, "tokens": 1024},
    "operators": {
        "repeat": 2,
        "operators": [{"op": "matmul", "m": 4096, "n": 4096, "k": 2048, "split": "m"}],
        "file": str(Path(__file__).parents[1] / "data/graph.json"), "stack": "pytorch",
    },
    "inference": {
        "batch": 8, "prompt": 512, "output": 16, "chunk": 128, "prefix_hit": 0.5,
        "speculative": Speculative(draft="mtp", acceptance=0.7), "images": Images(height=64, width=512), **_DEPLOYED,
    },
    "mixed": {
        "prefill": 128, "past": 1024, "decodes": 8, "context": 4096, "images": Images(height=64, width=512),
        "apart": Apart(gpus=2), **_DEPLOYED,
    },
    "serving": {
        "concurrency": 16, "rate": 4.0, "prompt": 512, "output": 32, "prefix_hit": 0.5, "chunk": 128,
        "images": Images(height=64, width=512), **_DEPLOYED, "sequences": 2, "lengths": "drawn", "waves": 4,
    },
}  # fmt: skip
"""Of each job: another value of each of its fields."""

PLANS: dict[str, tuple[dict[str, Any], Any]] = {
    "plan.tp": ({}, 4), "plan.dp": ({}, 1), "plan.pp": ({}, 2), "plan.ep": ({"plan.tp": 4, "model": "experts"}, 2),
    "plan.cp": ({}, 2), "plan.context": ({"plan.cp": 2}, "all_gather"),
    "plan.order": ({"plan.tp": 8, "plan.pp": 2, "plan.dp": 1}, ("pp", "tp", "cp", "ep", "dp")),
    "plan.dispatcher": ({"plan.tp": 1, "plan.dp": 4, "plan.ep": 4, "model": "experts"}, "deepep"),
    "plan.sequence_parallel": ({}, True),
    "plan.redundant_experts": ({"plan.tp": 4, "plan.ep": 4, "model": "experts", "routing": "zipf_1"}, 4),
}  # fmt: skip
"""Of each key of a plan that has a meaning outside of training: what else is asked for, another value."""

NOT_OF = {
    "prefill": {f"plan.{key}" for key in PLAN_KEYS} - {"plan.tp", "plan.dp"},
    "operators": {*PLANS, "model"} - {"plan.tp"},
    "inference": {"plan.sequence_parallel", "accumulate"},
    "mixed": {"plan.sequence_parallel", "accumulate", "plan.cp", "plan.context"},
    "serving": {"plan.sequence_parallel", "accumulate", "plan.cp", "plan.context"},
}
"""Keys that a kind of job refuses, or that mean nothing to it."""

HOW: dict[str, tuple[dict[str, Any], Any]] = {
    "dtype": ({}, "fp8"), "algorithm": ({"protocol": "simple", "plan.tp": 8}, "ring"),
    "accumulate": ({"dtype": "fp16", "cluster": "rtx-4090-8x-ethernet"}, "fp16"),
    "protocol": ({}, "ideal"), "clocks": ({"clocks": "burst"}, "sustained"),
    "model": ({}, "experts"),
}  # fmt: skip
"""Of each argument of `simulate`."""

OTHER_JOBS = {"training", "network", "traffic", "rl", "shared"}
"""Jobs whose fields are other tests'."""

ELSEWHERE = {"cluster", "workload", "plan", "framework", "folded", "require_fit", "draft", "catalogue"}
"""Arguments that are other tests', or of training alone."""


def test_every_field_of_every_job_is_compared() -> None:
    assert set(FIELDS) == set(JOBS) - OTHER_JOBS
    for kind, values in FIELDS.items():
        assert set(values) == set(JOBS[kind].model_fields) - {"kind"}, kind
    keys = {*PLAN_KEYS, "sequence_parallel"}
    assert set(PLANS) == {f"plan.{key}" for key in keys} and keys <= {one.name for one in fields(Plan)}
    said = {*signature(simulate).parameters, *RunOptions.__dataclass_fields__} - {"options", "settings"}
    assert set(HOW) | ELSEWHERE == said


def pairs() -> list[Any]:
    """(kind, what both have in common, the field that differs, its other value)."""
    found = []
    for kind, values in FIELDS.items():
        needs = {"routing": {"model": "experts"}, "images": {"model": "sees"}, "waves": {"lengths": "drawn"}}
        needs["apart"] = {"model": "experts", "prefill": 0, "past": 0}
        found += [(kind, needs.get(key, {}), key, one) for key, one in values.items()]
        more = ((key, *one) for key, one in {**PLANS, **HOW}.items() if key not in NOT_OF[kind])
        found += [(kind, given, key, value) for key, given, value in more]
    return [pytest.param(*one, id=f"{one[0]} {one[2]}") for one in found]


def outcome(kind: str, changes: dict[str, Any], on: Cluster) -> dict[str, Any]:
    """The row of a job that differs from its base."""
    plan = {"tp": 2, "dp": 1 if kind == "operators" else 2}
    plan |= {key.removeprefix("plan."): value for key, value in changes.items() if key in PLANS}
    own = {key: value for key, value in changes.items() if key in FIELDS[kind]}
    if "rate" in own:  # in place of clients
        own["concurrency"] = None
    if "file" in own:  # in place of a list
        own["operators"] = None
    how = {key: value for key, value in changes.items() if key in HOW}
    model = None if kind == "operators" else MODELS[how.pop("model", "dense")]
    job = JOBS[kind](**(BASES[kind].model_dump() | own))
    return dict(simulate(on, job, model, Plan(**plan), **how).row)


@pytest.mark.parametrize(("kind", "given", "field", "value"), sampled(pairs(), 3))
def test_a_used_cluster_gives_what_a_fresh_one_gives(kind: str, given: dict, field: str, value: Any) -> None:
    """Two jobs that differ in one field, in both orders."""
    both = (given, given | {field: value})
    found = []
    for order in (both, both[::-1]):
        memo.SHARED.clear()
        on = replace(SHARED[given.get("cluster", "dgx-h100-ib")])
        found.append([outcome(kind, one, on) for one in order])
    assert found[0] == found[1][::-1]
    assert found[0][0] != found[0][1], "the field decides nothing here"
