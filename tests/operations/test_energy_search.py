"""Searches by energy: the least energy of all plans, and limits of power."""

import pytest

import simgpu
from simgpu import Catalogue, InputError

CATALOGUE = Catalogue()

TRAINING = """experiment: least
scenario:
  cluster: dgx-h100
  model: llama-3.2-1b
  workload: {kind: training, batch: 8, tokens: 1024}
search:
  gpus: [8]
  top: 3
  tolerance: 0
  objective: OBJECTIVE
  space: {tp: all, pp: [1, 2], micro_batch: [1, 2]}
"""

SERVING = """experiment: least
scenario:
  cluster: dgx-h100
  model: llama-3.2-1b
  workload: {kind: serving, prompt: 256, output: 64, concurrency: 8}
search:
  objective: tokens_per_j
  space: {tp: [1, 2, 4]}
  limits: {power_w_per_gpu: LIMIT}
"""


@pytest.mark.slow
def test_the_plan_of_least_energy_is_that_of_all_plans():
    found = simgpu.search(TRAINING.replace("OBJECTIVE", "energy_j_per_step"))
    every = simgpu.search(TRAINING.replace("OBJECTIVE", "step_s").replace("top: 3", "top: 1000"))
    least = min(row["energy_j_per_step"] for row in every.rows)
    assert found.rows[0]["energy_j_per_step"] == pytest.approx(least, rel=1e-9)


def test_a_server_with_the_most_tokens_for_a_joule_keeps_its_limit_of_power():
    free, held = (simgpu.search(SERVING.replace("LIMIT", limit)).rows for limit in ("700 W", "500 W"))
    energy = [row["tokens_per_j"] for row in free]
    assert energy == sorted(energy, reverse=True)
    assert held and all(row["power_w_per_gpu"] <= 500 for row in held)


def test_a_limit_in_another_unit_is_one_line():
    with pytest.raises(
        InputError, match="is not a limit of 'power_w_per_gpu'; expected a positive number, such as '600 W'"
    ):
        simgpu.search(SERVING.replace("LIMIT", "3 GB"))
