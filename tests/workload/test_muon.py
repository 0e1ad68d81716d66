"""Muon: products that make momenta orthogonal, one state of matrices, momenta gathered where states are sharded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import simgpu
from simgpu.errors import InputError
from simgpu.plan.parallelism import Plan
from simgpu.timing.kernels import KernelModel
from simgpu.workload.training.muon import Matrix, dealt_s, elements, flops, gathers, orthogonal_s

MODEL = replace(simgpu.load_model("llama-3.1-8b"), layers=4)
EXPERTS = replace(simgpu.load_model("qwen3-30b-a3b"), layers=2)
H, F, KV = MODEL.hidden, MODEL.ffn, MODEL.kv_heads * MODEL.head_dim
PARAMETERS = 2 * H * H + 2 * H * KV + 3 * H * F  # of the matrices of a layer
KERNELS = KernelModel(simgpu.load_cluster("dgx-h100"))


def ran(optimizer: str, model: Any = MODEL, **plan: Any) -> Any:
    job = simgpu.Training(batch=plan.get("dp", 1) * 2, tokens=512, optimizer=optimizer)
    return simgpu.simulate("dgx-h100", job, model, Plan(micro_batch=1, **plan), framework="megatron")


def test_a_step_of_newton_and_schulz_is_three_products() -> None:
    """2 m^2 n for X X^T, 2 m^3 for its square, 2 m^2 n to multiply X by; five times, whichever side is shorter."""
    for rows, columns in ((64, 256), (256, 64), (128, 128)):
        m, n = min(rows, columns), max(rows, columns)
        assert flops(Matrix(rows, columns, False)) == 5 * (2 * m * m * n + 2 * m**3 + 2 * m * m * n)
    large = Matrix(8192, 28672, False)
    rate = flops(large) / orthogonal_s(KERNELS, large)
    assert 4e14 < rate < 8.5e14, "of an H100, as large products have"


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_ranks_deal_the_matrices_among_them(shards: int) -> None:
    some = ((Matrix(4096, 4096, False), 64), (Matrix(4096, 1024, False), 64))
    plan = Plan(dp=shards, zero=1)
    assert dealt_s(KERNELS, plan, some) * shards == pytest.approx(dealt_s(KERNELS, Plan(), some))
    assert dealt_s(KERNELS, Plan(dp=shards), some) == dealt_s(KERNELS, Plan(), some), "whole copies: all do all"
    one = ((Matrix(4096, 4096, False), 1),)
    assert dealt_s(KERNELS, plan, one) == orthogonal_s(KERNELS, one[0][0]), "a matrix is not cut"
    assert dict(gathers(plan, some)) == {"shard": 2 * elements(some, False)} and not list(gathers(Plan(), some))


@pytest.mark.parametrize("plan", [{}, {"dp": 4, "zero": 1}, {"tp": 2}, {"tp": 2, "dp": 2, "zero": 1}, {"pp": 2}])
def test_matrices_keep_one_state_and_all_else_those_of_adam(plan: dict[str, Any]) -> None:
    adam, muon = ran("adam", **plan), ran("muon", **plan)
    ranks = plan.get("tp", 1) * plan.get("pp", 1) * plan.get("dp", 1)
    saved = adam.memory[0].optimizer - muon.memory[0].optimizer
    assert saved == pytest.approx(4.0 * MODEL.layers * PARAMETERS / ranks)
    assert adam.memory[0].weights == muon.memory[0].weights


@pytest.mark.parametrize("plan", [{"dp": 4}, {"dp": 4, "zero": 1}, {"dp": 4, "zero": 3}, {"dp": 2, "pp": 2, "zero": 1}])
def test_momenta_are_gathered_where_states_are_sharded(plan: dict[str, Any]) -> None:
    muon, adam = ran("muon", **plan), ran("adam", **plan)
    spans = [span.label for span in muon.execution.timeline.spans()]
    moved = sum(one.bytes for one in spans if one.name == "gather momenta")
    gathered = 2.0 * MODEL.layers * PARAMETERS if plan.get("zero") else 0.0
    simulated = len(muon.execution.streams) / plan.get("pp", 1)
    assert moved == pytest.approx(gathered * simulated)
    assert muon.row["step_s"] > adam.row["step_s"]
    assert any(one.name == "orthogonal momenta" for one in spans)


def test_experts_are_matrices_of_their_own() -> None:
    """Their momenta stay where no other rank holds them; with copies they are gathered among those."""
    alone, shared = ran("muon", EXPERTS, dp=8, ep=8, zero=1), ran("muon", EXPERTS, dp=8, ep=2, zero=1)

    def groups(found: Any) -> set[str]:
        return {span.label.group for span in found.execution.timeline.spans() if span.label.name == "gather momenta"}

    assert groups(alone) == {"shard"} and groups(shared) == {"shard", "expert"}
    saved = ran("adam", EXPERTS, dp=8, ep=8, zero=1).memory[0].optimizer - alone.memory[0].optimizer
    assert saved > 4.0 * EXPERTS.layers * EXPERTS.experts / 8 * 3 * EXPERTS.hidden * EXPERTS.expert_width


@pytest.mark.parametrize(("plan", "job"), [({"offload": "optimizer"}, {}), ({}, {"finetune": "lora"})])
def test_what_muon_cannot_do_is_said(plan: dict[str, Any], job: dict[str, Any]) -> None:
    asked = simgpu.Training(batch=2, tokens=512, optimizer="muon", **job)
    with pytest.raises(InputError, match=r"'muon' is not supported with .*; expected adam") as caught:
        simgpu.simulate("dgx-h100", asked, MODEL, Plan(micro_batch=1, **plan), framework="megatron")
    assert caught.value.key == "workload.optimizer"
