"""Multi-token prediction: a layer and a loss more, beside a model in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import simgpu
from simgpu.errors import InputError
from simgpu.model.transformer import training_graph
from simgpu.plan.parallelism import Plan
from simgpu.simulation.training import kernels_of
from simgpu.workload.framework_files import framework
from simgpu.workload.links import Links
from simgpu.workload.training.bound import Bounds
from simgpu.workload.training.step import Job, run_step

MODEL = replace(simgpu.load_model("llama-3.1-8b"), layers=4)
DEEPSEEK = simgpu.load_model("deepseek-v3")


def ran(modules: int, model: Any = MODEL, **plan: Any) -> Any:
    job = simgpu.Training(batch=plan.get("dp", 1) * 4, tokens=512, mtp_layers=modules)
    return simgpu.simulate("dgx-h100", job, model, Plan(micro_batch=1, **plan), framework="megatron")


def test_a_module_of_deepseek_v3_has_the_published_parameters() -> None:
    """14 billion with the shared table and head (README_WEIGHTS.md of deepseek-ai/DeepSeek-V3: 11.5 without)."""
    own = replace(DEEPSEEK, trained_mtp=1).parameters - DEEPSEEK.parameters
    assert own == pytest.approx(11.5e9, rel=0.01)
    assert own + 2 * DEEPSEEK.vocab * DEEPSEEK.hidden == pytest.approx(14e9, rel=0.05)


@pytest.mark.parametrize("modules", [1, 2])
def test_flops_are_those_of_a_layer_a_projection_and_a_head_more(modules: int) -> None:
    c, tokens = MODEL, 2 * 512
    more, plain = (training_graph(replace(c, trained_mtp=n), 2, 512, "bf16", "fp32").flops for n in (modules, 0))
    layer = training_graph(replace(c, layers=5), 2, 512, "bf16", "fp32").flops - plain
    products = 6.0 * tokens * (2 * c.hidden * c.hidden + c.vocab * c.hidden)
    assert more - plain == pytest.approx(modules * (layer + products), rel=2e-3), "norms and the loss are what is left"


@pytest.mark.parametrize("plan", [{}, {"pp": 2}, {"tp": 2, "pp": 2}, {"pp": 2, "vp": 2}, {"dp": 2, "zero": 3}])
def test_they_stand_on_the_stage_of_the_head(plan: dict[str, Any]) -> None:
    off, on, two = (ran(n, **plan) for n in (0, 1, 2))
    assert off.row["step_s"] < on.row["step_s"] < two.row["step_s"]
    assert off.row["flop"] < on.row["flop"]
    for stage, (before, after) in enumerate(zip(off.memory, on.memory, strict=True)):
        assert (after.weights > before.weights) == (stage == plan.get("pp", 1) - 1)
    if plan.get("zero"):
        return
    c, tp = MODEL, plan.get("tp", 1)
    layer = 2 * c.hidden**2 + 2 * c.hidden * c.kv_heads * c.head_dim + 3 * c.hidden * c.ffn
    table = c.vocab * c.hidden if plan.get("pp", 1) > 1 else 0  # of the embedding, for the shifted tokens
    expected = 2 * (layer / tp + 2 * c.hidden**2 + table / tp)
    assert on.memory[-1].weights - off.memory[-1].weights == pytest.approx(expected, rel=1e-3)
    assert on.memory[-1].activations > off.memory[-1].activations


def test_a_table_on_two_stages_is_summed_between_them() -> None:
    assert "tied embedding" in names(ran(1, pp=2))
    assert "tied embedding" not in names(ran(0, pp=2))


def names(found: Any) -> set[str]:
    return {span.label.name for span in found.execution.timeline.spans()}


def test_what_predicts_no_next_token_is_refused() -> None:
    with pytest.raises(InputError, match="predicts no next token") as error:
        ran(1, simgpu.load_model("bert-large"))
    assert error.value.key == "workload.mtp_layers"
    job = simgpu.Training(batch=1, tokens=128, mtp_layers=1, finetune="lora")
    with pytest.raises(InputError, match="finetune lora"):
        simgpu.simulate("dgx-h100", job, MODEL)


@pytest.mark.parametrize("plan", [{"dp": 8, "zero": 3}, {"dp": 4, "pp": 2}, {"tp": 2, "pp": 2, "dp": 2, "zero": 1}])
@pytest.mark.parametrize("said", [{"mtp_layers": 1}, {"mean_tokens": 300, "lengths": "packed"}])
def test_no_step_is_faster_than_the_bound_of_a_search(plan: dict[str, Any], said: dict[str, Any]) -> None:
    box, how = simgpu.load_cluster("dgx-h100"), framework("megatron")
    asked = simgpu.Training(batch=16, tokens=1024, **said)
    config, split = asked.with_mtp(MODEL), Plan(micro_batch=1, **plan)
    job = Job(config, split, asked.numerics("bf16"), how, 16, 1024, "fp32", length=asked.length)
    kernels = kernels_of(how, box, True, "tensorwise")
    step = run_step(job, kernels, Links(box, split, kernels, "auto", "auto")).step
    assert 0.5 * step < Bounds(box).seconds(job, kernels) <= step * (1 + 1e-9)
