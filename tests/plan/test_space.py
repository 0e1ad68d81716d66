"""The space of plans holds every plan that a training step can have, once, and no other."""

from __future__ import annotations

from itertools import product

import pytest

import simgpu
from simgpu.errors import InputError
from simgpu.plan.parallelism import Plan
from simgpu.plan.space import KEYS, USUAL, Space, Structure


def plans(space: Space) -> list[Plan]:
    return [plan for at in space.structures() for family in space.families(at) for plan in family]


@pytest.mark.parametrize(("model", "experts"), [("llama-3.1-8b", [1]), ("mixtral-8x7b", [1, 2, 4, 8])])
def test_it_is_what_brute_force_finds(model: str, experts: list[int]) -> None:
    config, job = simgpu.load_model(model), simgpu.Training(batch=16, tokens=1024)
    degrees = (1, 2, 4)
    found = set()
    every = product(
        degrees, degrees, degrees, degrees, experts, range(1, 18), (1, 2, 4, 8, 16), (False, True),
        ("none", "full"), (0, 1),
    )  # fmt: skip
    for tp, pp, dp, cp, ep, vp, size, sequence, recompute, zero in every:
        if tp * pp * dp * cp != 4 or (tp == 1 and sequence) or (dp * cp == 1 and zero) or 16 % (dp * size):
            continue
        try:
            plan = Plan(
                tp=tp, pp=pp, dp=dp, cp=cp, ep=ep, vp=vp, micro_batch=size, sequence_parallel=sequence,
                recompute=recompute, zero=zero,
            )  # fmt: skip
            job.check(config, plan)
        except InputError:
            continue
        found.add(plan)
    listed = {**dict.fromkeys(("tp", "pp", "dp", "cp", "ep", "vp", "micro_batch", "sequence_parallel"), "all")}
    mine = plans(Space(config, 16, 1024, (4,), Plan(), {**listed, "recompute": ["none", "full"], "zero": [0, 1]}))
    assert len(mine) == len(set(mine))
    assert set(mine) == found


@pytest.mark.parametrize(("batch", "gpus", "replicas"), [(12, 8, {1, 2, 4}), (5, 10, {1, 5}), (9, 6, {3})])
def test_replicas_divide_the_batch(batch: int, gpus: int, replicas: set[int]) -> None:
    config, job = simgpu.load_model("gpt2-xl"), simgpu.Training(batch=batch, tokens=512)
    mine = plans(Space(config, batch, 512, (gpus,), Plan(), {"tp": "all", "cp": "all", "dp": "all"}))
    assert {plan.dp for plan in mine} == replicas
    for plan in mine:
        job.check(config, plan)


def test_layers_to_recompute_and_ranks_to_a_copy_are_all_but_all() -> None:
    """All layers of a stage, and all ranks, are the plain choice."""
    config, asked = simgpu.load_model("llama-3.2-1b"), {"recompute": ["full"], "recompute_layers": "all"}
    mine = plans(Space(config, 8, 512, (2,), Plan(), {"pp": [2], "micro_batch": [1], **asked}))
    assert {plan.recompute_layers for plan in mine} == {None, *range(1, 8)}
    mine = plans(Space(config, 8, 512, (8,), Plan(), {"dp": [8], "zero": [1], "shard": "all"}))
    assert {plan.shard for plan in mine} == {None, 2, 4}


@pytest.mark.slow
def test_every_choice_is_gone_through() -> None:
    config, job = simgpu.load_model("mixtral-8x7b"), simgpu.Training(batch=4, tokens=1024)
    space = Space(config, 4, 1024, (2, 4), Plan(), dict.fromkeys(KEYS, "all"))
    mine = plans(space)
    assert len(mine) == len(set(mine)) > 10_000
    for key in KEYS:
        assert len({getattr(plan, key) for plan in mine}) > 1, key
    for plan in mine[::97]:
        job.check(config, plan)
    assert {plan.world for plan in mine} == {2, 4}


def test_what_is_not_named_is_as_the_base_says() -> None:
    base = Plan(tp=2, sequence_parallel=True, recompute="selective", zero=1)
    space = Space(simgpu.load_model("llama-3.1-8b"), 16, 1024, (8,), base, {"pp": [1, 2], "micro_batch": [1]})
    assert {(p.tp, p.pp, p.dp, p.recompute, p.zero) for p in plans(space)} == {
        (2, 1, 4, "selective", 1),
        (2, 2, 2, "selective", 1),
    }
    assert Structure(2, 2, 2, 1, 1).gpus == 8
    assert set(USUAL) <= set(KEYS)


def test_unknown_keys_and_values_are_errors() -> None:
    config = simgpu.load_model("llama-3.1-8b")
    with pytest.raises(InputError, match=r"search\.space\.micro_batches.*micro_batch"):
        Space(config, 16, 1024, (8,), Plan(), {"micro_batches": "all"})
    with pytest.raises(InputError, match="'each' is not 'all'"):
        Space(config, 16, 1024, (8,), Plan(), {"tp": "each"})
