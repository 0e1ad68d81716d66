"""Experiments of machines that nobody had seen: their files state what `observe` learns, and rows come nearer by it."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

import simgpu
from simgpu.lab.logs.fitting import Given, learn
from simgpu.lab.logs.observed import TRAINING, Measurement, Observed
from simgpu.study.experiment.running import find_experiment, load_experiment, run_experiment

CATALOGUE = simgpu.Catalogue()
TAUGHT = (
    ({"tp": 4, "dp": 2, "sequence_parallel": True}, 8, "llama-3-70b@layers=12", 0.4098),
    ({"pp": 2, "dp": 4}, 32, "llama-3-70b@layers=12", 1.4768),
    ({"tp": 8, "sequence_parallel": True}, 4, "llama-3.1-405b@layers=4", 0.2588),
)
"""Plan, batch, model and published seconds of the three steps that your_machine's other thirteen learn from."""


def loaded(name):
    return load_experiment(find_experiment(name, CATALOGUE), (), CATALOGUE)


@pytest.mark.slow
def test_what_your_machine_states_is_what_three_steps_teach() -> None:
    cases = loaded("your_machine").cases
    given = []
    for plan, batch, model, seconds in TAUGHT:
        scenario = cases[0].scenario
        fields = scenario.plan.model_copy(update={"pp": 1, "dp": 1, **plan})
        job = scenario.workload.model_copy(update={"batch": batch})
        asked = scenario.model_copy(update={"model": model, "plan": fields, "workload": job})
        run = Observed(Path("step.log"), TRAINING, "Megatron-LM", (Measurement("step_s", seconds),))
        given.append(Given(run, asked, cases[0].origins))
    found = learn(given, CATALOGUE).overlay("three steps").stacks["megatron"]
    stated = cases[-1].scenario.hardware
    assert stated["gpu.kernel.step.megatron.slowdown"] == pytest.approx(found.slowdown, rel=0.01)
    assert stated["gpu.kernel.step.megatron.spread"] == pytest.approx(found.spread, rel=0.1)
    assert stated["gpu.kernel.step.megatron.runs"] == found.runs == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "column", "better"), [("your_machine", "step_s", 0.5), ("your_server", "tpot_s", 0.6)]
)
def test_rows_that_taught_nothing_are_nearer_and_inside(name: str, column: str, better: float) -> None:
    rows = run_experiment(loaded(name), CATALOGUE).rows
    known = list(dict.fromkeys(row["constants"] for row in rows))
    errors, inside, widths = {}, {}, {}
    for state in known:
        some = [row for row in rows if row["constants"] == state]
        errors[state] = fmean(abs(row[column] / row[f"claimed_{column}"] - 1) for row in some)
        inside[state] = fmean(row[f"{column}_p10"] <= row[f"claimed_{column}"] <= row[f"{column}_p90"] for row in some)
        widths[state] = fmean(row[f"{column}_p90"] / row[f"{column}_p10"] for row in some)
    before, after = known
    assert errors[after] < better * errors[before]
    assert inside[after] >= max(0.7, inside[before]) and widths[after] < widths[before]
