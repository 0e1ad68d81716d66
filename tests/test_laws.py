"""Laws that hold for every scenario, held against random ones (`scenarios.py`).

More of any hardware is never slower, more work never quicker, an interval holds its value, nothing is faster than the
datasheet allows, and equal ranks may trade places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isclose
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scenarios import CATALOGUE, KINDS, Scene, fresh, laws, scenes, small

from simgpu import Inference, InputError, OperatorList, Plan, Serving, Training
from simgpu.analysis.training import anatomy, weighted
from simgpu.columns import FOLLOWS, UNCERTAIN, time_of
from simgpu.plan.parallelism import ORDER
from simgpu.timing.collectives import collective_time

SAME = 1e-9
"""Sums in another order."""
ALONE = ("h100-sxm", "l4", "rtx-4090", "a100-sxm-80gb")


def times_of(scene: Scene, **factors: float) -> dict[str, float]:
    """The times that a scene's job is asked for. Of a server a whole request: its first token may come later where
    the others come sooner."""
    row = scene.run(**factors).row
    if scene.job.kind == "serving":
        return {"request": row["concurrency"] / row["requests_per_s"]}
    return {name: row[name] for name in (("ttft_s", "tpot_s") if scene.job.kind == "inference" else ("step_s",))}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_holds_its_value_and_no_number_is_impossible(kind: str) -> None:
    @laws(12)
    @given(scenes(kind))
    def law(scene: Scene) -> None:
        assert scene.job.kind == kind
        row = scene.run().row
        for name in UNCERTAIN:
            if f"{name}_p10" in row:
                low, value, high = (row[key] for key in (f"{name}_p10", name, f"{name}_p90"))
                assert 0 <= low <= value * (1 + SAME) and value <= high * (1 + SAME) < float("inf"), name
        for name, (_, power) in FOLLOWS.items():
            time = time_of(name, row)
            if row.get(name) and f"{time}_p10" in row:
                wide = [(row[f"{of}_p90"] / row[f"{of}_p10"]) for of in (name, time)]
                assert isclose(*wide, rel_tol=1e-6), name
                assert isclose(row[f"{name}_{'p10' if power > 0 else 'p90'}"] / row[name],
                               (row[f"{time}_p10"] / row[time]) ** power, rel_tol=1e-6), name  # fmt: skip
        assert all(value >= 0 for value in row.values() if isinstance(value, (int, float)))

    law()


@pytest.mark.parametrize("kind", KINDS)
def test_faster_memory_cores_and_launches_are_never_slower(kind: str) -> None:
    @laws(10)
    @given(scenes(kind, machines=ALONE), st.sampled_from(["hbm_bandwidth", "tensor_peak", "kernel_latency"]))
    def law(scene: Scene, name: str) -> None:
        faster = 0.5 if name == "kernel_latency" else 2.0
        before, after = times_of(scene), times_of(scene, **{name: faster})
        for key, seconds in after.items():
            assert seconds <= before[key] * (1 + SAME), key
            assert seconds >= before[key] / 2 * (1 - SAME), key  # one input of several, twice as good

    law()


def test_faster_memory_speeds_a_server_up_whose_prompts_fill_its_steps() -> None:
    """64 clients with short outputs, to experts: 16 prompts share each step with 64 decodes."""
    model = small("mixtral-8x7b")
    scene = Scene("h100-sxm", Serving(concurrency=64, prompt=128, output=4), model, Plan())
    assert times_of(scene, hbm_bandwidth=2.0)["request"] < times_of(scene)["request"]


def test_twice_the_batch_takes_longer_and_at_most_twice_as_long() -> None:
    @laws(12)
    @given(scenes("training"))
    def law(scene: Scene) -> None:
        once, twice = scene.run().step_s, scene.but(batch=2 * scene.job.batch).run().step_s
        assert once < twice <= 2 * once * (1 + SAME)

    law()


@pytest.mark.parametrize("kind", ["prefill", "inference"])
def test_more_sequences_take_longer(kind: str) -> None:
    @laws(10)
    @given(scenes(kind, machines=ALONE))
    def law(scene: Scene) -> None:
        once, many = times_of(scene), times_of(scene.but(batch=4 * scene.job.batch))
        assert all(many[key] >= once[key] * (1 - SAME) for key in once)

    law()


@pytest.mark.parametrize("kind", ["prefill", "training", "operators"])
def test_no_step_multiplies_faster_than_the_peaks(kind: str) -> None:
    """FLOPs at the highest peak of the GPU: it holds whatever precision a kernel runs in."""

    @laws(10)
    @given(scenes(kind))
    def law(scene: Scene) -> None:
        cluster = scene.cluster()
        row = scene.run(cluster).row
        peak = max(one.si for one in cluster.gpu.peak)
        assert row["step_s"] >= row["flop"] / peak / row["gpus"]
        assert row["mfu"] <= row.get("hfu", row["mfu"]) * (1 + SAME)

    law()


@pytest.mark.parametrize("kind", ["inference", "serving", "mixed"])
def test_no_token_comes_before_the_dense_weights_are_read(kind: str) -> None:
    @laws(10)
    @given(scenes(kind))
    def law(scene: Scene) -> None:
        assert scene.model is not None
        assume(scene.model.experts == 1 and not scene.model.tied_embeddings)
        cluster = scene.cluster()
        row = scene.run(cluster).row
        table = 2 * scene.model.vocab * scene.model.hidden / scene.plan.tp  # of the embedding few rows are read
        least = (row["weights_bytes_per_gpu"] - table) / cluster.gpu.memory.bandwidth.si
        for key, seconds in times_of(scene).items():
            assert seconds >= least or (key == "tpot_s" and row.get("output") == 1), key

    law()


CHANGES: dict[str, Callable[[Scene], Scene]] = {
    "clip": lambda scene: scene.but(clip=not scene.job.clip),
    "reduce": lambda scene: scene.but(reduce="fp16"),
    "optimizer": lambda scene: scene.but(optimizer="momentum"),
    "flash": lambda scene: scene.but(flash=False),
    "dtype": lambda scene: replace(scene, how={**scene.how, "dtype": "fp16" if scene.how["dtype"] == "fp8" else "fp8"}),
    "framework": lambda scene: replace(scene, how={**scene.how, "framework": "pytorch-eager"}),
    "protocol": lambda scene: replace(scene, how={**scene.how, "protocol": "ideal"}),
    "clocks": lambda scene: replace(scene, how={**scene.how, "clocks": "burst"}),
    "async_tp": lambda scene: planned(scene, async_tp=True, sequence_parallel=True),
    "sequence_parallel": lambda scene: planned(
        scene, sequence_parallel=not scene.plan.sequence_parallel, async_tp=False
    ),
    "zero": lambda scene: planned(scene, zero=3 - scene.plan.zero),
    "recompute": lambda scene: planned(scene, recompute="full" if scene.plan.recompute == "none" else "none"),
}
"""What two steps on one cluster may differ by."""


def planned(scene: Scene, **changes: Any) -> Scene:
    """The same scene with another plan."""
    return replace(scene, plan=replace(scene.plan, **changes))


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_cluster_remembers_of_one_step_is_no_part_of_another(name: str) -> None:
    """Two scenes that differ in one thing, one after the other on one cluster: the second as on a fresh one."""
    seen = 0

    @laws(4)
    @given(scenes("training", machines=("dgx-h100",)))
    def law(scene: Scene) -> None:
        nonlocal seen
        try:
            other = CHANGES[name](scene)
            alone = other.run(fresh(other.cluster()))
        except InputError:
            assume(False)
            raise
        shared = fresh(scene.cluster())
        scene.run(shared)
        assert other.run(shared).row == alone.row
        seen += alone.row != scene.run().row

    law()
    assert seen, "no example felt the change"


SERVED: dict[str, dict[str, Any]] = {
    "runtime": {"runtime": "eager", "precision": None},
    "custom all-reduces": {"runtime": "compiled", "precision": None},
    "precision": {"runtime": "vllm", "precision": "int4"},
    "cache": {"kv_cache": "fp8"},
    "offload": {"offload": 0.5},
}


@pytest.mark.parametrize("name", SERVED)
def test_what_a_cluster_remembers_of_one_deployment_is_no_part_of_another(name: str) -> None:
    plain = Scene("dgx-h100", Inference(batch=4, prompt=128, output=9), small("llama-3.1-8b"), Plan(tp=4))
    shared, other = plain.cluster(), plain.but(**SERVED[name])
    plain.run(shared)
    assert other.run(shared).row == other.run().row
    assert other.run().tpot_s != plain.run().tpot_s


def test_products_in_fp8_are_remembered_with_how_they_are_scaled() -> None:
    """Casts differ, kernels of products do not."""
    job = Training(batch=2, tokens=1024, fp8_scaling="tensorwise")
    plain = Scene("h100-sxm", job, small("llama-3.1-8b"), Plan(micro_batch=1), {"dtype": "fp8"})
    shared, other = plain.cluster(), plain.but(fp8_scaling="delayed")
    plain.run(shared)
    assert other.run(shared).row == other.run().row
    assert other.run().step_s != plain.run().step_s


def test_collectives_are_remembered_with_the_links_of_their_ranks_and_the_algorithm() -> None:
    """Tensor groups within a node, or over both nodes; rings where NCCL would reduce in the switch. All are equal
    within a layer but for that."""
    plan = Plan(tp=8, dp=2, micro_batch=1)
    plain = Scene("dgx-h100-ib", Training(batch=2, tokens=1024), small("llama-3.1-8b"), plan, nodes=2)
    shared = plain.cluster()
    plain.run(shared)
    for other in (planned(plain, order=("dp", "cp", "ep", "tp", "pp")), replace(plain, how={"algorithm": "ring"})):
        assert other.run(shared).row == other.run().row
        assert other.run().step_s != plain.run().step_s


@pytest.mark.parametrize("plan", [Plan(tp=4), Plan(pp=2), Plan(dp=4), Plan(cp=2, dp=2), Plan(tp=2, pp=2, dp=2)])
def test_what_runs_again_is_counted_for_all_ranks_and_days_are_tokens_over_rates(plan: Plan) -> None:
    """FLOPs beyond those of the model are the same for any split, and for one rank that stands for all."""
    job = Training(batch=8, tokens=512, train_tokens=1e9)
    again = []
    for split in (Plan(), plan):
        whole = replace(split, recompute="full", micro_batch=1)
        row = Scene("dgx-h100", job, small("llama-3.1-8b"), whole).run().row
        again.append(row["flop"] * (row["hfu"] / row["mfu"] - 1))
        assert isclose(row["training_days"] * 86_400, 1e9 / row["tokens_per_s"], rel_tol=SAME)
        assert isclose(row["gpu_hours"], row["training_days"] * 24 * row["gpus"], rel_tol=SAME)
    assert again[0] > 0 and isclose(*again, rel_tol=1e-9)


def test_the_weights_of_an_interval_fill_the_step_but_for_its_host() -> None:
    @laws(6)
    @given(scenes("training"))
    def law(scene: Scene) -> None:
        found = anatomy(scene.run().execution)
        assert isclose(sum(seconds for seconds, _ in weighted(found)) + found.host, found.step, rel_tol=SAME)

    law()


@pytest.mark.parametrize("repeat", [1, 3])
def test_bytes_that_are_sent_count_once_for_each_time(repeat: int) -> None:
    made = [{"op": "all_reduce", "bytes": 1e6}, {"op": "all_to_all", "bytes": 2e6}]
    job = OperatorList(operators=made, repeat=repeat)  # type: ignore[arg-type]
    assert Scene("dgx-h100", job, None, Plan(tp=4)).run().communication_bytes == repeat * 3e6


def test_axes_of_one_rank_may_stand_anywhere_in_the_order() -> None:
    @laws(10)
    @given(scenes("training"), st.permutations(ORDER))
    def law(scene: Scene, order: tuple[str, ...]) -> None:
        plan = scene.plan
        wide = [name for name in ORDER if name != "ep" and getattr(plan, name) > 1]
        assume(plan.ep == 1 and [name for name in order if name in wide] == wide)
        moved = replace(scene, plan=replace(plan, order=tuple(order)))
        assert isclose(moved.run().step_s, scene.run().step_s, rel_tol=SAME)

    law()


@laws(20)
@given(
    st.permutations(range(8)), st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]),
    st.sampled_from([1e3, 1e6, 1e9]),
)  # fmt: skip
def test_gpus_of_a_switch_may_trade_places(order: list[int], kind: str, size: float) -> None:
    cluster = CATALOGUE.cluster("dgx-h100")
    plain, mixed = (float(collective_time(cluster, kind, ranks, size).seconds) for ranks in (range(8), order))
    assert isclose(plain, mixed, rel_tol=SAME)
