"""What a run costs grows with what is different, counted in simulated activities; a limit is one line."""

import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

import simgpu
from simgpu import InputError, Plan, Prefill, Training, simulate
from simgpu.cli import main
from simgpu.render.trace import trace_events
from simgpu.workload import execution
from simgpu.workload.execution import PeriodicExecution

CATALOGUE = simgpu.Catalogue()
MODEL = replace(CATALOGUE.model("llama-3.1-8b"), layers=2, name="small")
MANY = 10**6


def activities(result):
    return len(result.timeline.end)


@pytest.mark.parametrize("tp", [1, 2, 8])
def test_replicas_of_prefill_are_run_once(monkeypatch, tp):
    cluster = CATALOGUE.cluster("dgx-h100-ib")
    plan = Plan(tp=tp, dp=128 // tp)
    job = Prefill(batch=plan.dp, tokens=256)
    few = simulate(cluster, job, MODEL, plan)
    monkeypatch.setattr(execution, "ALL_RANKS", 10**9)
    every = simulate(cluster, job, MODEL, plan)
    assert few.row == every.row
    assert activities(every) == 16 * activities(few)


def test_replicas_of_prefill_cost_nothing():
    counts = set()
    for nodes in (100, 10_000):
        cluster = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=nodes)
        plan = Plan(tp=2, dp=4 * nodes)
        counts.add(activities(simulate(cluster, Prefill(batch=plan.dp, tokens=256), MODEL, plan)))
    assert len(counts) == 1


def operators(repeat):
    listed = [{"op": "matmul", "m": 128, "n": 128, "k": 128, "split": "n"}, {"op": "all_reduce", "bytes": 1000}]
    return simgpu.OperatorList(operators=listed, repeat=repeat)


def test_repeated_operators_equal_those_one_by_one(monkeypatch):
    cluster = CATALOGUE.cluster("dgx-h100")
    few = simulate(cluster, operators(1000), plan=Plan(tp=4))
    with monkeypatch.context() as patch:
        patch.setattr(execution, "MOST_REPEATS", 10**9)
        every = simulate(cluster, operators(1000), plan=Plan(tp=4))
    assert isinstance(few.execution, PeriodicExecution) and not isinstance(every.execution, PeriodicExecution)
    assert {name: value for name, value in few.row.items() if isinstance(value, float)} == pytest.approx(
        {name: value for name, value in every.row.items() if isinstance(value, float)}, rel=1e-9
    )
    assert few.timeline.end == every.timeline.end, "who asks for every activity gets every one"
    most = simulate(cluster, operators(100_000), plan=Plan(tp=4)).execution
    assert isinstance(most, PeriodicExecution)
    assert len(most.few.timeline.end) == len(few.execution.few.timeline.end) < 200
    with pytest.raises(InputError, match=r"^plan: 4 ranks with 200,000 operators each are too many to simulate"):
        most.timeline  # noqa: B018


def test_a_million_sequences_are_a_count():
    job = simgpu.Inference(batch=MANY, prompt=128, output=8)
    result = simulate("h100-sxm", job, MODEL)
    small = simulate("h100-sxm", simgpu.Inference(batch=MANY // 1000, prompt=128, output=8), MODEL)
    assert activities(result) <= activities(small) + 2
    assert len(trace_events(result.execution)) < 2 * 50_000
    assert result.evaluated_steps < 20


def test_a_trace_of_a_step_that_is_too_long_is_left_out(tmp_path):
    from simgpu.study.report import rows as report

    given = {"scenario": {"model": "gpt2", "cluster": "dgx-h100", "plan": {"pp": 2, "micro_batch": 1},
             "workload": {"kind": "training", "batch": MANY, "tokens": 64}}}  # fmt: skip
    (explained,) = simgpu.explain(given)
    assert max(one["runs"] for one in explained.operators) >= MANY
    outcome = simgpu.run_experiment(given)
    assert outcome.rows[0]["microbatches"] == MANY
    left_out = report.write_trace(outcome, tmp_path / "trace.json", empty=True)
    assert re.fullmatch(r"without .*: [\d,]{9,} activities, a trace holds 200,000", left_out)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"] == []
    with pytest.raises(InputError, match=r"trace: without .* activities"):
        report.write_trace(outcome, tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


def wide(**plan):
    cluster = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=MANY, catalogue=CATALOGUE)
    plan = Plan(**plan, micro_batch=1)
    return simulate(cluster, Training(batch=plan.dp * plan.pp, tokens=64), MODEL, plan)


LIMITS = [
    (lambda: wide(dp=65_536), r"^plan.dp: 65,536 ranks \(dp x cp\) are too many in one collective; .* 8,192$"),
    (lambda: wide(dp=8192, tp=8, pp=4), r"^plan: 262,144 ranks are too many to simulate; expected at most 131,072$"),
    (lambda: replace(MODEL, layers=10**9), r"^model: 1,000,000,000 layers are too many; expected at most 10,000$"),
    (lambda: replace(MODEL, experts=10**9), r"^model: 1,000,000,000 experts are too many; expected at most 10,000$"),
    (lambda: simulate("rtx-4090-8x-ethernet", Prefill(batch=1, tokens=1024), MODEL, Plan(tp=1, dp=10**5)),
     r"^plan: tp 1 x dp 100000 = 100000 ranks, but"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "line"), LIMITS)
def test_a_limit_is_one_line(call, line):
    with pytest.raises(InputError, match=line):
        call()


def test_prefill_over_nodes_of_their_own_has_a_limit():
    """Tensor groups of several nodes share switches, so that every rank is run."""
    cluster = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=4000)
    with pytest.raises(InputError, match=r"^plan: 32,000 ranks with \d+ operators each are too many to simulate"):
        simulate(cluster, Prefill(batch=2000, tokens=256), MODEL, Plan(tp=16, dp=2000))


def test_what_fit_is_asked_for_has_a_limit():
    for asked in ({"users": 10**400}, {"context": 10**12}):
        with pytest.raises(InputError, match=r"expected at most 1,000,000,000"):
            simgpu.fit("llama-3.2-1b", gpu="l4", precision="fp8", **asked)


def test_a_step_whose_trace_would_be_too_long_keeps_its_data(tmp_path):
    file = tmp_path / "long.yaml"
    file.write_text(
        "scenario: {model: llama-3.1-70b, cluster: dgx-h100-ib,"
        " workload: {kind: training, batch: 64000, tokens: 8192},"
        " plan: {tp: 8, pp: 2, dp: 4, micro_batch: 1, sequence_parallel: true, zero: 2}}\n"
    )
    said = CliRunner().invoke(main, ["run", str(file), "--no-plots", "--out", str(tmp_path / "out")])
    assert said.exit_code == 0, said.output
    assert "too many to be simulated one by one" in said.output
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"result.json", "rows.csv", "trace.json"}
