"""Memory of a training step: published formulas, published figures, measured peaks, and what makes a plan fit."""

import os
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_by_name import layer_activations, memory_of, memory_per_stage, suggestions

from simgpu import Catalogue
from simgpu.errors import InputError
from simgpu.lab.validation.run import validate
from simgpu.lab.validation.steps import step_rows
from simgpu.model.config import TransformerConfig
from simgpu.plan import schedule
from simgpu.plan.fit import fit_text
from simgpu.plan.memory import GIB, PARTS, in_flight, peak
from simgpu.plan.numerics import NF4_BITS, Numerics
from simgpu.plan.parallelism import V_SHAPED, Plan
from simgpu.plan.states import parameters_of
from simgpu.render.memory import memory_figure, print_memory

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[3] / "shared/measurements"))
CATALOGUE = Catalogue()
TORCHTITAN = Numerics(sharded_copy=False)
"""FSDP2 with mixed precision: sharded fp32 parameters and Adam states, gathered in bf16, reduced in fp32."""
KORTHIKANTI = Numerics(dtype="fp16", weights="fp16", flash=False)

GPT = TransformerConfig(
    name="gpt", layers=24, hidden=2048, heads=16, kv_heads=16, head_dim=128, ffn=8192, gated=False, vocab=51200,
    max_tokens=1024, tied_embeddings=True, rms_norm=False, rope=False, qkv_bias=True, bias=True, qk_norm=False,
)  # fmt: skip
LLAMA = replace(
    GPT, name="llama", kv_heads=4, ffn=5632, gated=True, tied_embeddings=False, rms_norm=True, rope=True,
    qkv_bias=False, bias=False,
)  # fmt: skip


def named(memory, name):
    """Bytes of a tensor of the peak by its name in the ledger."""
    return dict(memory.ledger).get(name, 0.0)


# ---- states: Rajbhandari et al. 2020, figure 1 and section 5 ------------------------------------------


@pytest.mark.parametrize(
    ("zero", "per_parameter"), [(0, 2 + 2 + 12), (1, 2 + 2 + 12 / 64), (2, 2 + 14 / 64), (3, 16 / 64)]
)
def test_states_follow_the_formulas_of_zero(zero, per_parameter):
    """(2 + 2 + K) Psi, 4 Psi + K Psi / N, 2 Psi + (2 + K) Psi / N and (2 + 2 + K) Psi / N."""
    numerics = Numerics(gradients="bf16", reduce="bf16")
    memory = memory_of(LLAMA, Plan(dp=64, zero=zero), numerics, 64, 1024)
    assert memory.weights + memory.gradients + memory.optimizer == pytest.approx(per_parameter * LLAMA.parameters)


def test_megatron_holds_18_bytes_and_its_distributed_optimizer_6_and_12_over_n():
    """Megatron-LM, docs/source/api-guide/dist_optimizer.md: fp16 or bf16 parameters, fp32 gradients."""
    for zero, each in ((0, 18), (1, 6 + 12 / 8)):
        memory = memory_of(LLAMA, Plan(dp=8, zero=zero), Numerics(), 8, 1024)
        assert memory.weights + memory.gradients + memory.optimizer == pytest.approx(each * LLAMA.parameters)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "gpt2", "qwen3-8b"])
def test_parameters_of_one_rank_are_those_of_the_model(model):
    config = CATALOGUE.model(model)
    assert parameters_of(config, Plan(), Numerics()).total == config.parameters


def test_stages_hold_the_model_between_them_and_a_tied_table_twice():
    whole = sum(parameters_of(LLAMA, Plan(pp=4), Numerics(), stage).total for stage in range(4))
    assert whole == LLAMA.parameters
    twice = sum(parameters_of(GPT, Plan(pp=4), Numerics(), stage).total for stage in range(4))
    assert twice == GPT.parameters + GPT.vocab * GPT.hidden


def test_experts_are_split_over_their_group_and_shared_out_over_its_copies_alone():
    config = CATALOGUE.model("mixtral-8x7b")
    one, eight = (parameters_of(config, Plan(dp=8, ep=ep), Numerics()) for ep in (1, 8))
    assert eight.experts == one.experts / 8
    assert eight.layers == one.layers
    memory = memory_of(config, Plan(dp=8, ep=8, zero=1), Numerics(), 8, 1024)
    # one copy of each expert in 8 ranks: nothing to share out; all else is shared out over 8
    assert memory.optimizer == pytest.approx(12 * (eight.experts + (one.layers + one.ends) / 8))


def test_offload_moves_states_to_the_host():
    near = memory_of(LLAMA, Plan(), Numerics(), 1, 1024)
    away = memory_of(LLAMA, Plan(offload="optimizer"), Numerics(), 1, 1024)
    assert (away.optimizer, away.host) == (0, near.optimizer)
    assert near.total - away.total == pytest.approx(near.optimizer)


def test_adapters_alone_have_gradients_and_states():
    numerics = Numerics(finetune="lora", rank=16, targets=("attention_out", "ffn_down"))
    adapters = LLAMA.layers * 16 * (2048 + 2048 + 5632 + 2048)
    memory = memory_of(LLAMA, Plan(), numerics, 1, 1024)
    assert memory.gradients == 4 * adapters
    assert memory.optimizer == 12 * adapters
    assert memory.weights == 2 * (LLAMA.parameters + adapters)
    full = memory_of(LLAMA, Plan(), Numerics(), 1, 1024)
    assert memory.activations < full.activations  # frozen matrices keep no inputs
    small = memory_of(LLAMA, Plan(), replace(numerics, finetune="qlora"), 1, 1024)
    matrices = LLAMA.layers * (2048 * (2048 + 2 * 512) + 2048 * 2048 + 3 * 2048 * 5632)
    assert memory.weights - small.weights == pytest.approx(matrices * (2 - NF4_BITS / 8))


# ---- activations: Korthikanti et al. 2022 --------------------------------------------------------------


@pytest.mark.parametrize(
    ("tp", "sequence_parallel", "recompute", "formula"),
    [
        (1, False, "none", lambda r, t: 34 + 5 * r),  # equation 1
        (8, False, "none", lambda r, t: 10 + 24 / t + 5 * r / t),  # 2
        (8, True, "none", lambda r, t: 34 / t + 5 * r / t),  # 4
        (8, True, "selective", lambda r, t: 34 / t),  # 6
        (8, False, "selective", lambda r, t: 10 + 24 / t),  # table 2
        (1, False, "full", lambda r, t: 2),  # table 2
    ],
)
def test_layers_of_a_gpt_keep_what_the_paper_says(tp, sequence_parallel, recompute, formula):
    plan = Plan(tp=tp, sequence_parallel=sequence_parallel, recompute=recompute)
    s, b, h, a = 1024, 2, GPT.hidden, GPT.heads
    kept = layer_activations(GPT, plan, KORTHIKANTI, b, s, framework="megatron-2022")
    assert kept == pytest.approx(GPT.layers * s * b * h * formula(a * s / h, tp), rel=1e-12)


def test_the_first_stage_keeps_all_layers_and_interleaving_more():
    """L s b h (34 + 5 a s/h)/t on the first of p stages, times 1 + (p - 1)/(p v) (section 4.2.3)."""
    one = layer_activations(GPT, Plan(micro_batch=1), KORTHIKANTI, 16, 1024, framework="megatron-2022")
    for vp, factor in ((1, 1.0), (2, 1 + 3 / 8), (3, 1 + 3 / 12)):
        plan = Plan(pp=4, vp=vp, micro_batch=1)
        first = layer_activations(GPT, plan, KORTHIKANTI, 16, 1024, framework="megatron-2022")
        assert first == pytest.approx(one * factor)


@given(st.sampled_from(schedule.SCHEDULES), st.integers(1, 6), st.integers(1, 9), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_microbatches_in_flight_are_those_of_the_schedule(name, stages, groups, chunks):
    chunks = {"interleaved": max(chunks, 2), **dict.fromkeys(V_SHAPED, 2)}.get(name, 1)
    if stages == 1:
        return
    plan = Plan(pp=stages, vp=chunks, schedule=name)
    microbatches = groups if name in schedule.ANY_NUMBER else stages * groups * (2 if name == "dualpipe-v" else 1)
    for stage in range(stages):
        counted = schedule.in_flight(name, stages, microbatches, chunks, stage)
        bound = in_flight(plan, microbatches, stage)
        assert counted <= bound if name in schedule.CUT else counted == bound


def test_the_last_stage_holds_one_loss_at_a_time_but_for_gpipe():
    """Inputs of the final norm and of the logits, 2 + 2 bytes; GPipe keeps fp32 probabilities of every microbatch."""
    rows, m = 1024, 8

    def beside_layers(name, vp=1):
        plan = Plan(pp=4, vp=vp, schedule=name, micro_batch=1)
        whole = memory_of(LLAMA, plan, Numerics(), m, rows, stage=3).activations
        return whole - layer_activations(LLAMA, plan, Numerics(), m, rows, stage=3)

    head = rows * (LLAMA.hidden * 4 + 4)  # and the norm's statistics
    assert beside_layers("1f1b") == beside_layers("interleaved", 2) == pytest.approx(head)
    assert beside_layers("zb-h1") == pytest.approx(4 * head)
    assert beside_layers("gpipe") == pytest.approx(m * head + (m - 1) * 4 * rows * LLAMA.vocab)


@pytest.mark.parametrize(("framework", "per_logit"), [("pytorch-eager", 14), ("megatron", 6)])
def test_a_loss_in_chunks_makes_the_logits_of_one(framework, per_logit):
    """Beside them, the gradient of the head's input, and where gradients are sharded that of the head's weights."""
    rows = 64 * 1024
    logits, wide, head = rows * LLAMA.vocab, 2 * rows * LLAMA.hidden, 2 * LLAMA.vocab * LLAMA.hidden

    def tensors(chunks):
        numerics = Numerics(loss_chunks=chunks)
        return memory_of(LLAMA, Plan(recompute="full"), numerics, 64, 1024, framework=framework)

    assert named(tensors(1), "logits and loss") == per_logit * logits
    for chunks in (2, 3):
        assert named(tensors(chunks), "logits and loss") == pytest.approx(per_logit * logits / chunks)
        assert named(tensors(chunks), "gradient of the head's input") == wide
    assert tensors(1024).event == "layer backward" and tensors(1024).total == tensors(512).total
    sharded = Numerics(loss_chunks=2)
    plan = Plan(dp=2, zero=3, micro_batch=64)
    found = memory_of(LLAMA, plan, sharded, 128, 1024, framework=framework)
    assert named(found, "gradient of the head's weights") == head


def test_a_pipeline_merges_outputs_before_a_head_in_chunks():
    """torch.distributed.pipelining keeps the outputs of the last stage of every microbatch: logits of 2 bytes, or what
    the head multiplies. Nothing of a loss that has run backward waits in GPipe."""
    rows, m = 8192, 8

    def last(chunks, framework, **plan):
        run = Plan(pp=4, micro_batch=1, recompute="full", **plan)
        return memory_of(LLAMA, run, Numerics(loss_chunks=chunks), m, rows, stage=3, framework=framework)

    whole, parts = (named(last(chunks, "pytorch-eager"), "outputs of the stage") for chunks in (1, 2))
    assert whole == pytest.approx(m * 2 * rows * LLAMA.vocab)
    assert parts == pytest.approx(m * 2 * rows * LLAMA.hidden)
    whole, parts = (last(chunks, "megatron", schedule="gpipe").activations for chunks in (1, 2))
    assert whole - parts == pytest.approx((m - 1) * 4 * rows * LLAMA.vocab)


def test_recomputing_some_layers_lies_between_none_and_all():
    def kept(recompute, layers=None):
        plan = Plan(recompute=recompute, recompute_layers=layers)
        return layer_activations(LLAMA, plan, Numerics(), 2, 1024)

    none, full = kept("none"), kept("full")
    assert full == LLAMA.layers * 2 * 1024 * 2048 * 2
    assert kept("full", 6) == pytest.approx(none - 6 / 24 * (none - full))
    # fused attention keeps no scores: there is nothing for selective recomputation to drop
    assert kept("selective") == none


def test_context_parallelism_cuts_tokens():
    whole, cut = (layer_activations(LLAMA, Plan(cp=cp), Numerics(), 2, 4096) for cp in (1, 4))
    assert cut == whole / 4


def test_grouped_heads_and_gates_are_counted_by_shape():
    """Llama, fused, no dropout, per token and hidden unit: norms 2 + 2, qkv input 2, q 2, k and v 2 x 2 x 4/16, output
    2, ffn input 2, gate, up and product 3 x 2 x 5632/2048; and 4 bytes per token and head, and of each norm."""
    expected = 2 * 1024 * (2048 * (4 + 2 + 2 + 1 + 2 + 2 + 6 * 5632 / 2048) + 4 * 16 + 2 * 4)
    assert layer_activations(LLAMA, Plan(), Numerics(), 2, 1024) == pytest.approx(LLAMA.layers * expected)


def test_experts_keep_the_rows_they_are_sent():
    """Two experts of each row: twice the dense layer's feed-forward and the copies sent, not their outputs, which come
    back weighed; two probabilities in fp32 of each copy; the router's three tables of 8 experts in fp32."""
    dense = CATALOGUE.model("mistral-7b")
    mixture = CATALOGUE.model("mixtral-8x7b")
    one, two = (layer_activations(c, Plan(), Numerics(), 1, 1024) / 32 for c in (dense, mixture))
    rows, h, f = 1024, 4096, 14336
    assert two - one == pytest.approx(rows * (2 * 3 * f + 2 * 2 * h + 2 * 8 + 3 * 4 * 8))


# ---- published figures and measured peaks ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "least", "largest", "mean"),
    [("megatron_memory", 16, 0.001, 0.001), ("torchtitan_training", 8, 0.05, 0.028)],
)
def test_measured_memory(table, least, largest, mean, tmp_path):
    """Korthikanti et al. 2022, figure 1, and peaks that TorchTitan prints."""
    if not (FOLDER / f"{table}.csv").is_file():
        pytest.skip(f"no measurements in {FOLDER}")
    (tmp_path / f"{table}.csv").symlink_to(FOLDER / f"{table}.csv")
    rows = [row for row in step_rows(validate("training", tmp_path, CATALOGUE)) if row["op"] == "memory"]
    errors = [abs(row["error"]) for row in rows]
    assert len(errors) >= least
    assert max(errors) < largest, rows
    assert sum(errors) / len(errors) < mean


def test_an_eager_run_without_recomputation():
    """Llama 3 8B, FSDP2 on 8 H100s, one sequence of 8,192 tokens each, eager: 77.29 GiB reserved from the second step
    on (pytorch pull request 129721, 'after')."""
    memory = memory_of(
        CATALOGUE.model("llama-3-8b"), Plan(dp=8, zero=3), TORCHTITAN, 8, 8192, framework="pytorch-eager"
    )
    assert memory.held / GIB == pytest.approx(77.29, rel=0.02)


# ---- totals, fit, and what people see --------------------------------------------------------------------


def test_parts_add_up_and_the_fullest_stage_is_found():
    stages = memory_per_stage(LLAMA, Plan(pp=4, micro_batch=1), Numerics(), 16, 1024, capacity=4 * GIB)
    assert [memory.stage for memory in stages] == [0, 1, 2, 3]
    for memory in stages:
        assert memory.total == sum(getattr(memory, part) for part in PARTS)
        assert memory.short_by == max(memory.total - 4 * GIB, 0)
        assert memory.fits == (memory.short_by == 0)
    assert peak(stages).total == max(memory.total for memory in stages)


@given(st.sampled_from([1, 2, 4]), st.booleans(), st.integers(0, 3), st.sampled_from(["none", "selective", "full"]))
@settings(max_examples=40, deadline=None)
def test_more_ranks_never_need_more_per_rank(tp, sequence_parallel, zero, recompute):
    plan = Plan(tp=tp, dp=2, sequence_parallel=sequence_parallel, zero=zero, recompute=recompute)
    wider = replace(plan, dp=4)
    for framework in ("megatron", "pytorch-eager", "pytorch-compiled"):
        small, large = (memory_of(LLAMA, p, Numerics(), 8, 1024, framework=framework) for p in (wider, plan))
        assert small.total - small.reserve <= large.total - large.reserve + 1
        assert small.weights <= large.weights
        assert all(getattr(small, part) >= 0 for part in PARTS)


def test_what_makes_a_plan_fit():
    config, capacity = CATALOGUE.model("llama-3.1-8b"), 80 * GIB
    plan = Plan(dp=8, micro_batch=1)
    stages = memory_per_stage(config, plan, Numerics(), 8, 8192, capacity=capacity)
    found = suggestions(config, plan, Numerics(), 8, 8192, capacity)
    words = [one.what for one in found]
    assert "zero: 2" in words or "zero: 3" in words
    assert "tp: 4" in words
    for one in found:
        again = memory_per_stage(config, one.plan, Numerics(), 8, 8192, capacity=capacity)
        assert peak(again).total == one.total <= capacity
        assert one.plan.world == plan.world
    text = fit_text(peak(stages), found)
    assert text.startswith(f"needs {peak(stages).total / GIB:.1f} GiB of 80.0 GiB on stage 0 (")
    assert text.endswith(f"or {words[-1]}")
    assert "\n" not in text


def test_two_changes_where_one_is_not_enough():
    config, plan = CATALOGUE.model("llama-3.1-70b"), Plan(tp=4, dp=16, micro_batch=2)
    found = suggestions(config, plan, Numerics(), 64, 8192, 80 * GIB)
    assert found
    assert all(" and " in one.what for one in found)


def test_nothing_makes_it_fit():
    memory = memory_of(CATALOGUE.model("llama-3.1-70b"), Plan(), Numerics(), 1, 8192, capacity=8 * GIB)
    assert fit_text(memory, []).endswith("no one or two changes of the plan make it fit")


def test_unknown_framework():
    with pytest.raises(InputError, match=r"unknown framework 'megatrn'.*megatron"):
        memory_of(LLAMA, Plan(), Numerics(), 1, 1024, framework="megatrn")


def test_table_and_figure_show_every_part_and_the_capacity():
    plan = Plan(pp=4, micro_batch=1, offload="optimizer")
    stages = memory_per_stage(LLAMA, plan, Numerics(), 16, 1024, capacity=4 * GIB)
    rows = {str(memory.stage): memory.as_dict() for memory in stages}
    out = StringIO()
    print_memory(rows, "Memory by stage", out)
    for word in (*PARTS, "total", "free", "host", f"{stages[0].total / GIB:.1f}"):
        assert word in out.getvalue()
    figure = memory_figure(rows, "Memory by stage", "stage")
    names = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {"weights", "activations", "capacity 4 GiB"} <= names
    assert "optimizer" not in names  # empty parts are left out
    bars = sum(patch.get_height() for patch in figure.axes[0].patches)
    assert bars == pytest.approx(sum(memory.total for memory in stages) / GIB)


def test_stages_of_zb_v_are_not_those_of_interleaving():
    """What is remembered of a stage is that of its own layers: here 4 + 1 on the first, and 4 + 3 interleaved."""
    plan = Plan(pp=2, vp=2, micro_batch=1, stage_layers=(4, LLAMA.layers - 8, 3, 1))
    for schedules in (("interleaved", "zb-v"), ("zb-v", "interleaved")):
        found = {}
        for name in schedules:
            run = replace(plan, schedule=name)
            found[name] = layer_activations(LLAMA, run, Numerics(), 8, 512, stage=0) / in_flight(run, 8, 0)
        assert found["interleaved"] / found["zb-v"] == pytest.approx(7 / 5)
