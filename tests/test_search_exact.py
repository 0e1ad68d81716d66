"""The search finds what simulating every plan finds."""

from __future__ import annotations

import heapq

import pytest

from simgpu.plan.memory import LIKELY
from simgpu.scenario import Scenario
from simgpu.study.experiment.search_fields import SearchFields
from simgpu.study.pools.where import Where
from simgpu.study.search.searching import Search
from simgpu.study.search.workers import SearchInputs, Workers, run_plan

EVERY = ("tp", "pp", "vp", "dp", "cp", "micro_batch", "recompute", "zero", "sequence_parallel", "schedule")
SPACES = {
    "llama-3.1-8b on a node, few keys": (
        {"model": "llama-3.1-8b", "cluster": "dgx-h100", "workload": {"kind": "training", "batch": 16, "tokens": 4096}},
        {**dict.fromkeys(("tp", "dp", "micro_batch", "zero", "sequence_parallel"), "all"), "pp": [1, 2, 4],
         "recompute": ["none", "full"]},
        None,
    ),
    "llama-3.1-8b on a node": (
        {"model": "llama-3.1-8b", "cluster": "dgx-h100", "workload": {"kind": "training", "batch": 16, "tokens": 4096}},
        {**dict.fromkeys(EVERY, "all"), "pp": [1, 2, 4], "vp": [1, 2], "cp": [1, 2], "recompute": ["none", "full"]},
        None,
    ),
    "mixtral over Ethernet, throughput of a GPU": (
        {
            "model": "mixtral-8x7b", "cluster": "dgx-h100-ethernet", "hardware": {"cluster.nodes": 2},
            "plan": {"sequence_parallel": False},
            "workload": {"kind": "training", "batch": 16, "tokens": 2048},
        },
        {"tp": [2, 4, 8], "pp": "all", "dp": "all", "ep": "all", "micro_batch": [1, 2], "zero": "all",
         "recompute": ["none", "full"]},
        [8, 16],
    ),
}  # fmt: skip


QUICK = "llama-3.1-8b on a node, few keys"  # the others have more keys or GPUs: for `make test-slow`


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != QUICK)) for name in SPACES])
@pytest.mark.slow
def test_nothing_is_missed(name: str) -> None:
    data, space, gpus = SPACES[name]
    objective = "tokens_per_s_per_gpu" if gpus else "step_s"
    search = SearchFields.model_validate({"space": space, "top": 7, "gpus": gpus, "objective": objective})
    asked = SearchInputs(Scenario.model_validate(data), search, ())
    problem = asked.problem()
    found = Search(problem, Workers(asked, problem, Where(1)), lambda progress: None).run()
    costs, levels, plans = [], {}, 0
    for structures in problem.groups().values():
        for at in structures:
            for family in problem.space.families(at):
                for plan in family:
                    plans += 1
                    row = run_plan(problem, plan)
                    if row["fit_probability"] < LIKELY:
                        continue
                    cost = problem.cost(plan, row["step_s"])
                    costs.append(cost)
                    level = problem.level(plan, row["memory_bytes_per_gpu"])
                    levels[level] = min(levels.get(level, cost), cost)
    assert found.progress.plans == plans > 200
    assert found.progress.simulated < len(costs) / 2  # most were decided by their bounds
    assert [run.cost for run in found.top(7)] == heapq.nsmallest(7, costs)
    if gpus:
        assert {run.level: run.cost for run in found.front} == levels
    else:
        best = [(level, min(cost for at, cost in levels.items() if at <= level)) for level in sorted(levels)]
        kept = [item for i, item in enumerate(best) if i == 0 or item[1] < best[i - 1][1]]
        assert [(run.level, run.cost) for run in found.front] == kept
    assert all(run.bound <= run.cost * (1 + 1e-9) for run in found.simulated)
