"""The largest model that a machine takes: it grows with memory, an option never takes away, slips are one line."""

import pytest

import simgpu
from simgpu import InputError
from simgpu.study.largest.command import tokens_of
from simgpu.study.largest.finding import beside


def best(machine, **asked):
    return simgpu.largest(machine, **asked, family="llama-3.1-8b")


@pytest.mark.slow
def test_it_grows_with_the_memory_and_shrinks_with_the_bits():
    small, large = (best(one, finetune="qlora") for one in ("rtx-4090", "l40s"))
    whole = best("l40s", finetune="lora")
    assert small.best["parameters"] < large.best["parameters"]
    assert whole.best["parameters"] < large.best["parameters"]
    assert small.sizes[0]["parameters"] < large.sizes[0]["parameters"]
    assert all(row["gain"] >= 0 for row in large.sizes)
    assert next(row["gain"] for row in large.sizes if row["option"] == "all layers recomputed") > 0
    assert small.rows[0]["memory_bytes_per_gpu"] > 0


@pytest.mark.slow
def test_it_is_what_a_simulation_says():
    found = best("rtx-4090", finetune="qlora").best
    job = {"kind": "training", "batch": 1, "tokens": 2048, "finetune": "qlora"}
    row = simgpu.simulate("rtx-4090", job, found["model"], {"micro_batch": 1}, framework="hf-trainer").row
    assert row["memory_bytes_per_gpu"] == found["memory_bytes_per_gpu"]


@pytest.mark.slow
def test_a_server_holds_less_with_more_context():
    short, long = (best("rtx-4090", serve=tokens) for tokens in ("4k", "32k"))
    assert long.sizes[0]["parameters"] < short.sizes[0]["parameters"]


@pytest.mark.slow
def test_machines_stand_beside_each_other():
    found = [best(one, finetune="qlora", epoch="5M") for one in ("rtx-4090", "l40s")]
    rows = beside(found)
    assert [row["machine"] for row in rows] == ["rtx-4090", "l40s"]
    assert rows[0]["parameters"] < rows[1]["parameters"] and rows[0]["family_parameters"] < rows[1]["family_parameters"]
    for row, one in zip(rows, found, strict=True):
        assert row["gpus"] == one.gpus == 1 and row["model"] == one.best["model"]
        assert row["epoch_s"] == pytest.approx(5e6 / row["tokens_per_s"])
        assert row["option_parameters"] == max(size["parameters"] for size in one.sizes) >= row["family_parameters"]


def test_tokens_are_read_as_people_write_them():
    assert [tokens_of(one, "") for one in ("2048", "32k", "5M", 4096)] == [2048, 32768, 5_000_000, 4096]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"finetune": "qlor"}, "did you mean 'qlora'"),
        ({}, "expected one of"),
        ({"finetune": "full", "serve": "32k"}, "expected one of"),
        ({"serve": "-3"}, "expected tokens"),
    ],
)
def test_slips_are_one_line(asked, problem):
    with pytest.raises(InputError, match=problem):
        simgpu.largest("rtx-4090", **asked)
    with pytest.raises(InputError, match="is not asked here"):
        simgpu.largest("rtx-4090", "dtype=fp8", finetune="lora")
