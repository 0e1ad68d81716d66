"""More to do never takes less time, anywhere in the catalogue: a sample in every run, all models behind `slow`."""

from __future__ import annotations

from random import Random

import pytest
from corners import CATALOGUE, MODELS, Pair, falls, quickened, served, trained


def test_falls_are_found() -> None:
    pairs = [Pair("equal", 1.0, 1.0, "here"), Pair("longer", 1.0, 1.1, "here"), Pair("shorter", 1.0, 0.9, "there")]
    assert falls(iter(pairs)) == ["shorter falls by 0.1: there"]


def test_a_step_of_inference_never_gets_shorter_with_more_of_anything() -> None:
    assert not falls(served(Random(23), 8))


@pytest.mark.slow
def test_a_step_of_training_never_gets_shorter_with_more_of_anything() -> None:
    assert not falls(trained(Random(23), 8))


def test_a_better_gpu_is_never_slower() -> None:
    assert not falls(quickened(Random(23), 4))


@pytest.mark.slow
def test_no_step_of_inference_of_any_model_gets_shorter() -> None:
    assert not falls(served(Random(1), len(MODELS), tuple(MODELS)))


@pytest.mark.slow
def test_no_step_of_training_of_any_model_gets_shorter() -> None:
    decoders = tuple(name for name in MODELS if CATALOGUE.model(name).causal)
    assert not falls(trained(Random(1), len(decoders), decoders))
