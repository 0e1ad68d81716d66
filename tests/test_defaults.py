"""What absent values come to stands in one place: whoever is asked says the same."""

from typing import Any

import pytest

import simgpu
from simgpu.plan.experts import SETTINGS
from simgpu.plan.keys import STACK
from simgpu.plan.parallelism import KEYS, RULES
from simgpu.scenario import Origins, Scenario, resolve, resolve_cluster, run_scenario
from simgpu.study.experiment.names import PointValues
from simgpu.study.experiment.resolver import Resolver
from simgpu.study.experiment.search_fields import SearchFields
from simgpu.study.search.problem import Problem
from simgpu.study.sweep.identity import Identities
from simgpu.workload.jobs import JOBS
from simgpu.workload.options import SERVED

CATALOGUE = simgpu.Catalogue()
KNOWN = Resolver(CATALOGUE)
PLANS: list[dict[str, Any]] = [
    {"dp": 4}, {"dp": 2, "cp": 2}, {"pp": 2, "dp": 2, "micro_batch": 1}, {"pp": 2, "vp": 2, "micro_batch": 1},
    {"dp": 4, "zero": 3, "shard": 2}, {"pp": 2, "schedule": "gpipe", "micro_batch": 2},
]  # fmt: skip
WORKLOAD = {"kind": "training", "batch": 8, "tokens": 1024}


def scenario(**changes: Any) -> dict[str, Any]:
    return {"model": "llama-3.2-1b", "cluster": "dgx-h100", "workload": WORKLOAD, **changes}


def facts(data: dict[str, Any]) -> PointValues:
    return PointValues(data, {}, KNOWN)


def test_what_none_comes_to_is_said_in_words_and_by_a_rule() -> None:
    absent = {name for name, key in KEYS.items() if getattr(simgpu.Plan, name) is None}
    assert absent == {name for name, key in KEYS.items() if key.absent}
    of_stack = {name for name in absent if KEYS[name].absent == STACK}
    others = {"recompute_layers", "recompute_modules", "stage_layers", "offload_layers", "expert_tp", "capacity_factor"}
    others |= {"redundant_experts"}
    assert absent - set(RULES) - of_stack == others, "of which a plan does not know, or which mean nothing more"
    assert of_stack | {"capacity_factor"} == set(SETTINGS)


@pytest.mark.parametrize("plan", PLANS)
def test_conditions_searches_stores_and_results_agree_on_a_plan(plan: dict[str, Any]) -> None:
    data = scenario(plan=plan)
    asked = Scenario.model_validate(data)
    cluster, model = CATALOGUE.cluster("dgx-h100"), CATALOGUE.model("llama-3.2-1b")
    row = run_scenario(asked, CATALOGUE).row
    names = Problem(asked, SearchFields(), cluster, model, CATALOGUE.framework(asked.framework)).names(
        asked.plan.plan()
    )
    stored = Identities(KNOWN).of(asked).asked["plan"]
    said = asked.plan.plan().filled(8)
    assert list(said) == list(RULES)
    for key, value in said.items():
        assert value == facts(data)[key] == names[key] == stored[key] == row.get(key, value), key
        assert value == plan.get(key, value), "what is given stands"


@pytest.mark.parametrize("kind", JOBS)
def test_clocks_and_sums_are_the_same_for_all(kind: str) -> None:
    jobs = {"operators": {"operators": [{"op": "matmul", "m": 64, "n": 64, "k": 64}]}, "mixed": {"decodes": 2}}
    jobs["traffic"] = {"concurrency": None, "rate": 2.0}
    jobs["shared"] = {"parts": [{"name": "see", "model": "yolov8n", "workload": {"kind": "network"}}]}
    jobs["rl"] = {"prompts": 1, "output_spread": 0.0, "tokens": 128}
    own = {"prompt": 64, "output": 8, "tokens": 64, "concurrency": 2, **jobs.get(kind, {})}
    job = {"kind": kind} | {key: value for key, value in own.items() if key in JOBS[kind].model_fields}
    data = scenario(workload=job)
    if kind in ("operators", "shared"):
        del data["model"]
    if kind == "network":
        data |= {"model": "minilm-l6", "workload": {"kind": kind, "tokens": 64}}
    asked = Scenario.model_validate(data)
    shown = resolve(asked, resolve_cluster(asked, CATALOGUE, Origins()), CATALOGUE, Origins())
    stored = Identities(KNOWN).of(asked).asked
    clocks = "burst" if kind in SERVED else "sustained"
    assert facts(data)["clocks"] == shown["clocks"]["value"] == stored["clocks"] == clocks
    assert shown["accumulate"]["value"] == stored["accumulate"] == "fp32"
    given = Scenario.model_validate({**data, "clocks": clocks, "accumulate": "fp32"})
    assert Identities(KNOWN).of(given).key == Identities(KNOWN).of(asked).key
    assert run_scenario(given, CATALOGUE).row == run_scenario(asked, CATALOGUE).row


def test_a_plan_that_contradicts_itself_has_an_identity_still() -> None:
    """It is told where it runs, as one of the rows that cannot."""
    asked = Scenario.model_validate(scenario(plan={"shard": 2}))
    assert Identities(KNOWN).of(asked).asked["plan"]["micro_batch"] is None
