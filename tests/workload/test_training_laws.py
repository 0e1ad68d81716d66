"""Laws of every training step: parts add up, values lie in their intervals, a used cluster equals a fresh one."""

from dataclasses import fields, replace
from inspect import signature

import pytest
from hypothesis import given, settings
from memory_by_name import memory_of
from sampling import sampled
from scenarios import fresh
from training_scenarios import BASE, CATALOGUE, CLUSTERS, MODELS, PAIRS, Scenario, cluster, scenarios

from simgpu import InputError, Plan, Training, memo, simulate
from simgpu.analysis.training import GROUPS
from simgpu.hardware.cluster import Cluster
from simgpu.model.operators import BYTES
from simgpu.plan.numerics import DTYPES, FINETUNE
from simgpu.plan.states import parameters_of
from simgpu.workload.framework_files import built_in
from simgpu.workload.framework_files import framework as framework_named
from simgpu.workload.options import RunOptions

repeatable = settings(derandomize=True, deadline=None, database=None)
SHARED = {name: cluster(name) for name in (*CLUSTERS, "rtx-4090-8x-ethernet")}
KERNELS = ("gemm_s", "attention_s", "memory_bound_s", "experts_s", "optimizer_s")


@settings(repeatable, max_examples=60)
@given(scenarios())
@pytest.mark.slow
def test_parts_add_up_to_the_step_and_values_lie_in_their_intervals(scenario: Scenario) -> None:
    row = scenario.run(SHARED[scenario.cluster]).row
    exposed = sum(row[f"exposed_{group}_s"] for group in GROUPS)
    near = lambda seconds: pytest.approx(seconds, rel=1e-9, abs=1e-9 * row["step_s"])  # noqa: E731
    assert row["compute_s"] + exposed + row["host_s"] + row["bubble_s"] == near(row["step_s"])
    assert row["compute_s"] + row["exposed_communication_s"] + row["idle_s"] == near(row["step_s"])
    assert sum(row[kernels] for kernels in KERNELS) == near(row["compute_s"])
    assert exposed == near(row["exposed_communication_s"])
    for low in (name for name in row if name.endswith("_p10")):
        column = low.removesuffix("_p10")
        assert row[low] <= row[column] <= row[f"{column}_p90"], column


# ---- what a cluster remembers ------------------------------------------------------------------------


def outcome(scenario: Scenario, on: Cluster) -> tuple:
    """All that a run says: every column, and when everything runs."""
    found = scenario.run(on)
    return found.row, [(span.start, span.end) for span in found.timeline.spans()]


NO_TIME = {
    "catalogue",
    "kind",
    "train_tokens",
    "sharded_copy",
    "loss_chunks",
    "use_cache",
    "loss",
    "dropout",
    "cluster",
    "workload",
    "plan",
    "folded",
    "require_fit",
    "draft",
    "redundant_experts",  # of inference
    "data",  # beside the step: tests of samples
    "pools",  # steps of several groups: tests of unequal pools
}
"""Fields that a step's time does not depend on, or that are others' to compare."""


def test_every_field_that_decides_the_time_of_a_step_is_compared() -> None:
    known = {one.name for one in fields(Plan)} | set(Training.model_fields) | set(signature(simulate).parameters)
    known |= RunOptions.__dataclass_fields__.keys()
    assert known - NO_TIME - {"options", "settings"} == set(PAIRS)


@pytest.mark.parametrize("field", sampled(PAIRS, 4))
def test_a_used_cluster_gives_what_a_fresh_one_gives(field: str) -> None:
    """Two scenarios that differ in one field, in both orders: what one leaves behind does not change the other."""
    given, value = PAIRS[field]
    first = BASE
    for key, changed in given.items():
        first = first.but(key, changed)
    second = first.but(field, value)
    found = []
    for order in ((first, second), (second, first)):
        memo.SHARED.clear()
        on = fresh(SHARED[first.cluster])
        found.append([outcome(scenario, on) for scenario in order])
    assert found[0] == found[1][::-1]
    assert found[0][0][0]["step_s"] != found[0][1][0]["step_s"], "the field decides nothing here"


@settings(repeatable, max_examples=25)
@given(scenarios())
@pytest.mark.slow
def test_a_cluster_that_ran_many_steps_gives_what_a_fresh_one_gives(scenario: Scenario) -> None:
    used = outcome(scenario, SHARED[scenario.cluster])
    assert used == outcome(scenario, fresh(SHARED[scenario.cluster]))


LARGE = replace(
    BASE, cluster="gb200-nvl72-ib", job=Training(batch=32, tokens=512), plan=Plan(tp=4, dp=32, zero=2, shard=8)
)  # fmt: skip


@pytest.mark.parametrize(
    ("first", "field", "value"),
    [
        # a group of eight replicas that spans two racks chooses another protocol for some sizes than those in one
        (LARGE.but("framework", "pytorch-compiled"), "tokens", 1024),
        (LARGE.but("framework", "pytorch-compiled"), "model", "tied"),
        (LARGE.but("shard", None).but("zero", 0).but("protocol", "ideal"), "algorithm", "tree"),
    ],
)
def test_a_used_cluster_beyond_what_is_folded_exactly(first: Scenario, field: str, value: object) -> None:
    second, on = first.but(field, value), cluster("gb200-nvl72-ib")
    first.run(on)
    assert outcome(second, on) == outcome(second, fresh(on))


# ---- what a rank holds -------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", built_in().names)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("finetune", FINETUNE)
@pytest.mark.parametrize("model", ["llama-3-70b", "mixtral-8x7b"])
def test_sharded_states_shrink_with_the_replicas(model: str, finetune: str, dtype: str, stack: str) -> None:
    """ZeRO-3: weights, gradients and states are those of one GPU over all; what stands beside them is of a few layers,
    whatever the replicas. Lower stages shrink less, and none grows."""
    config, numerics = CATALOGUE.model(model), Training(tokens=4096, finetune=finetune).numerics(dtype)
    held: dict[tuple[int, int], float] = {}
    beside = []
    for zero in (0, 1, 2, 3):
        for dp in (1, 8, 64, 512):
            plan = Plan(dp=dp, zero=zero, micro_batch=1, recompute="full")
            one = memory_of(config, plan, numerics, dp, 4096, framework=stack)
            held[zero, dp] = one.weights + one.gradients + one.optimizer
            if zero == 3 and dp > 1:
                beside.append(one.communication)
        assert all(held[zero, dp] <= held[max(zero - 1, 0), dp] for dp in (1, 8, 64, 512))
    for dp in (8, 64, 512):  # a lone rank may cast weights that several cast as they gather them
        assert held[3, dp] * dp == pytest.approx(held[3, 8] * 8, rel=1e-9)
        assert held[3, dp] * dp <= held[3, 1] * (1 + 1e-9)
    few = 4 * parameters_of(config, Plan(), numerics).largest + 2 * parameters_of(config, Plan(), numerics).ends
    assert max(beside) == min(beside) <= few * BYTES["fp32"]


def held(framework: str, **job: object) -> dict:
    """Memory of a sharded step as a user asks for it."""
    found = simulate(
        SHARED["dgx-h100-ib"], Training(batch=8, tokens=1024, **job), MODELS["dense"], Plan(dp=8, zero=3),
        framework=framework,
    )  # fmt: skip
    return dict(found.row)


@pytest.mark.parametrize("framework", built_in().names)
def test_a_user_says_what_is_kept_sharded(framework: str) -> None:
    """FSDP casts the shards of the master weights; others keep shards of 2 bytes a weight beside them."""
    kept, cast, plain = (held(framework, sharded_copy=copy) for copy in (True, False, None))
    assert kept["weights_bytes_per_gpu"] == pytest.approx(2 * MODELS["dense"].parameters / 8)
    assert cast["weights_bytes_per_gpu"] == 0 and cast["optimizer_memory_bytes"] == kept["optimizer_memory_bytes"]
    assert kept["step_s"] == cast["step_s"]
    assert plain == (kept if framework_named(framework).memory.sharded_copy else cast)


@pytest.mark.parametrize(
    ("zero", "job"),
    [
        (2, {}), (3, {"finetune": "lora"}), (3, {"master_weights": False}), (3, {"optimizer": "none"}),
        (3, {"weights": "fp32"}),
    ],
)  # fmt: skip
def test_what_is_kept_sharded_is_refused_where_it_means_nothing(zero: int, job: dict) -> None:
    asked, plan = Training(batch=8, tokens=512, sharded_copy=True, **job), Plan(dp=8, zero=zero)
    with pytest.raises(InputError, match=r"sharded_copy: true (is supported only|needs fp32)"):
        simulate(SHARED["dgx-h100-ib"], asked, MODELS["dense"], plan)
