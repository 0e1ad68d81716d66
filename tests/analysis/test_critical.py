"""The critical path of a step covers it without a gap, and says what a longer activity would cost."""

from itertools import pairwise

import pytest

from simgpu import Catalogue, Plan, Training, simulate
from simgpu.analysis.critical import critical_path, shares

CATALOGUE = Catalogue()
MODEL = CATALOGUE.model("llama-3-8b")


@pytest.mark.parametrize(
    "plan",
    [
        Plan(micro_batch=1),
        Plan(dp=8, micro_batch=1),
        Plan(pp=4, micro_batch=1),
        Plan(pp=4, vp=2, dp=2, micro_batch=1, zero=1),
        Plan(dp=8, zero=3, micro_batch=1),
        Plan(pp=4, micro_batch=1, schedule="zb-h1"),
    ],
    ids=lambda plan: f"{plan.pipeline}-pp{plan.pp}-dp{plan.dp}-zero{plan.zero}",
)
def test_the_path_runs_from_start_to_end_without_a_gap(plan):
    run = simulate(CATALOGUE.cluster("dgx-h100"), Training(batch=16, tokens=2048), MODEL, plan)
    path = critical_path(run.execution)
    assert path[0].start == 0
    for before, after in pairwise(path):
        assert before.start + before.seconds == pytest.approx(after.start, rel=1e-12)
    assert sum(link.seconds for link in path) == pytest.approx(run.step_s, rel=1e-9)
    assert sum(shares(path).values()) == pytest.approx(run.step_s, rel=1e-9)
    assert run.critical_communication_s == shares(path)["communication"]


def test_one_gpu_is_never_waiting_for_communication():
    run = simulate(CATALOGUE.cluster("dgx-h100"), Training(batch=2, tokens=2048), MODEL, Plan(micro_batch=1))
    assert run.critical_communication_s == 0


def test_a_pipeline_passes_through_every_stage():
    run = simulate(CATALOGUE.cluster("dgx-h100"), Training(batch=8, tokens=2048), MODEL, Plan(pp=4, micro_batch=1))
    streams = {stream for link in critical_path(run.execution) for stream in run.timeline.streams_of[link.number]}
    names = {run.timeline.streams[stream].partition("/")[0] for stream in streams}
    assert len(names - {"all ranks"}) == 4, "fill and drain lead through all stages"
