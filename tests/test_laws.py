"""Laws that hold for every scenario, held against random ones (`scenarios.py`).

More of any hardware is never slower, more work never quicker, an interval holds its value, nothing is faster than the
datasheet allows, and equal ranks may trade places.
"""

from __future__ import annotations

from dataclasses import replace
from math import isclose

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scenarios import CATALOGUE, KINDS, Scene, laws, scenes

from simgpu.plan.parallelism import ORDER
from simgpu.result import UNCERTAIN
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


def test_the_scenes_are_of_all_kinds() -> None:
    seen: dict[str, int] = {}
    for kind in KINDS:

        @laws(10)
        @given(scenes(kind))
        def count(scene: Scene) -> None:
            seen[scene.job.kind] = seen.get(scene.job.kind, 0) + 1

        count()
    assert seen.keys() == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_holds_its_value_and_no_number_is_impossible(kind: str) -> None:
    @laws(15)
    @given(scenes(kind))
    def law(scene: Scene) -> None:
        row = scene.run().row
        for name in UNCERTAIN:
            if f"{name}_p10" in row:
                low, value, high = (row[key] for key in (f"{name}_p10", name, f"{name}_p90"))
                assert 0 <= low <= value * (1 + SAME) and value <= high * (1 + SAME) < float("inf"), name
        assert all(value >= 0 for value in row.values() if isinstance(value, (int, float)))

    law()


@pytest.mark.parametrize("kind", KINDS)
def test_faster_memory_cores_and_launches_are_never_slower(kind: str) -> None:
    @laws(12)
    @given(scenes(kind, machines=ALONE), st.sampled_from(["hbm_bandwidth", "tensor_peak", "kernel_latency"]))
    def law(scene: Scene, name: str) -> None:
        faster = 0.5 if name == "kernel_latency" else 2.0
        before, after = times_of(scene), times_of(scene, **{name: faster})
        for key, seconds in after.items():
            assert seconds <= before[key] * (1 + SAME), key
            assert seconds >= before[key] / 2 * (1 - SAME), key  # one input of several, twice as good

    law()


def test_twice_the_batch_takes_longer_and_at_most_twice_as_long() -> None:
    @laws(25)
    @given(scenes("training"))
    def law(scene: Scene) -> None:
        once, twice = scene.run().step_s, scene.but(batch=2 * scene.job.batch).run().step_s
        assert once < twice <= 2 * once * (1 + SAME)

    law()


@pytest.mark.parametrize("kind", ["prefill", "inference"])
def test_more_sequences_take_longer(kind: str) -> None:
    @laws(15)
    @given(scenes(kind, machines=ALONE))
    def law(scene: Scene) -> None:
        once, many = times_of(scene), times_of(scene.but(batch=4 * scene.job.batch))
        assert all(many[key] >= once[key] * (1 - SAME) for key in once)

    law()


@pytest.mark.parametrize("kind", ["prefill", "training", "operators"])
def test_no_step_multiplies_faster_than_the_peaks(kind: str) -> None:
    """FLOPs at the highest peak of the GPU: it holds whatever precision a kernel runs in."""

    @laws(20)
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
    @laws(20)
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


def test_axes_of_one_rank_may_stand_anywhere_in_the_order() -> None:
    @laws(20)
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
