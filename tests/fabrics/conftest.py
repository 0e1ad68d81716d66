"""The training steps of `tests/workload`."""

from dataclasses import replace

import pytest

from simgpu import Catalogue
from tests.workload.conftest import Stage


@pytest.fixture(scope="session")
def stage() -> Stage:
    models = Catalogue()
    dense = replace(models.model("llama-3-8b"), layers=4, name="small")
    return Stage(dense, replace(models.model("mixtral-8x7b"), layers=4, name="small experts"))
