"""Speculative decoding: guesses accepted by place, the defaults, and engines whose host waits for a draft."""

from itertools import pairwise

import pytest

import simgpu
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import precision_of
from simgpu.workload.inference.deploying import speculation_of
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.jobs import Speculative
from simgpu.workload.inference.speculation import ACCEPTED, Speculation
from simgpu.workload.runtime_files import runtime

CATALOGUE = Catalogue()
MODEL, DRAFT = CATALOGUE.model("llama-3.1-8b"), CATALOGUE.model("llama-3.2-1b")
MEASURED = {1: 1.83, 2: 2.43, 3: 2.88, 4: 3.24, 5: 3.46, 6: 3.62, 7: 3.71, 8: 3.77}
"""Accepted lengths of Kimi-K2.5 with its EAGLE3 draft by guesses (SemiAnalysisAI/InferenceX, coding prompts)."""


def target(engine="vllm"):
    return Deployment(MODEL, CATALOGUE.cluster("h100-sxm"), Plan(), precision_of("bf16"), runtime(engine))


ONE = target()


def test_a_list_by_place_adds_up_and_one_rate_is_the_geometric_law():
    rates = [0.8**place for place in (1, 2, 3, 4)]
    assert Speculation(4, tuple(rates), ONE).expected == pytest.approx(Speculation(4, 0.8, ONE).expected)
    assert Speculation(2, (0.8, 0.6, 0.4), ONE).expected == pytest.approx(2.4)


def test_defaults_fall_and_meet_a_measured_draft_where_one_rate_does_not():
    for rates in ACCEPTED.values():
        assert all(0 <= later <= one <= 1 for one, later in pairwise(rates))
    first = MEASURED[1] - 1
    for guesses, length in MEASURED.items():
        found = speculation_of(ONE, Speculative(draft="llama-3.2-1b", tokens=guesses), DRAFT)
        assert found.expected == pytest.approx(length, rel=0.06)
        constant = Speculation(guesses, first, ONE).expected
        assert constant >= length - 1e-9 and (guesses < 6 or constant > 1.15 * length)


@pytest.mark.parametrize(("task", "guesses", "length"), [("chat", 10, 3.64), ("mixed", 10, 3.40), ("mixed", 3, 2.69)])
def test_a_task_moves_the_curve(task, guesses, length):
    """Mean accepted lengths of an EAGLE-3 draft of Llama 3.1 8B (vllm-project/vllm #26498; of SpecBench, #29845)."""
    asked = Speculative(draft="llama-3.2-1b", tokens=guesses, task=task)
    assert speculation_of(ONE, asked, DRAFT).expected == pytest.approx(length, rel=0.05)
    code = Speculative(draft="llama-3.2-1b", tokens=guesses)
    assert speculation_of(ONE, asked, DRAFT).expected < speculation_of(ONE, code, DRAFT).expected
    for more in ({"acceptance": 0.7}, {"draft": "mtp"}):
        with pytest.raises(InputError, match="task"):
            Speculative(**{"draft": "llama-3.2-1b", "task": task, **more})


@pytest.mark.parametrize(
    ("acceptance", "problem"),
    [
        ([0.8, 0.6], "2 places, and 4 tokens are guessed; expected a rate for each"),
        ([0.5, 0.6, 0.4, 0.3], "0.6 at place 2 is more than 0.5 before it; expected rates of all drafts"),
    ],
)
def test_lists_that_are_no_rates_by_place_are_refused(acceptance, problem):
    with pytest.raises(InputError) as refused:
        speculation_of(ONE, Speculative(draft="llama-3.2-1b", tokens=4, acceptance=acceptance), DRAFT)
    assert refused.value.key == "workload.speculative.acceptance" and refused.value.problem.startswith(problem)


def test_the_host_waits_for_a_model_that_guesses_but_not_for_a_layer():
    draft = speculation_of(ONE, Speculative(draft="llama-3.2-1b", tokens=2), DRAFT)
    layer = speculation_of(ONE, Speculative(draft="mtp", tokens=2), None)
    longer = draft.verify(ONE, 8, 500).seconds - layer.verify(ONE, 8, 500).seconds
    assert longer == pytest.approx(0.6e-3 + 8 * 40e-6)
    old = target("vllm@0.12")
    steps = [speculation_of(old, Speculative(draft=name, tokens=2), model).verify(old, 8, 500).seconds
             for name, model in (("llama-3.2-1b", DRAFT), ("mtp", None))]  # fmt: skip
    assert steps[0] == steps[1]


def test_a_scenario_takes_a_list_and_leaves_it_out():
    def row(**more):
        asked = {"kind": "inference", "prompt": 256, "output": 64, "speculative": {"draft": "mtp", "tokens": 2, **more}}
        return simgpu.simulate("h100-sxm", asked, "llama-3.1-8b").row

    assert row(acceptance=[0.9, 0.7])["tokens_per_cycle"] == pytest.approx(2.6)
    assert row()["tokens_per_cycle"] == pytest.approx(1 + sum(ACCEPTED["mtp"][:2]))
    assert row(acceptance=[0.9, 0.7])["tpot_s"] < row()["tpot_s"]
