"""Sweeps: killed, stopped, doubled or failing, what was finished is there once and equals the uninterrupted run."""

import json
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

import simgpu
from simgpu import Catalogue, InputError
from simgpu.cli import main
from simgpu.study.pools.processes import ProcessPool
from simgpu.study.pools.where import Where
from simgpu.study.sweep import command, running, work
from simgpu.study.sweep.planning import plan
from simgpu.study.sweep.running import Runner
from simgpu.study.sweep.store import Finished, Store

BASE = """\
experiment: mine
scenario:
  cluster: h100-sxm
  workload: {kind: operators, operators: [{op: matmul, name: a, m: 64, n: 64, k: 64, split: n}]}
"""
MANY = BASE + "vary: {workload.operators.a.k: {range: [64, %d], step: 64}, gpu.memory.bandwidth: [1 TB/s, 2 TB/s]}\n"
MIXED = """\
experiment: mixed
scenario:
  cluster: dgx-h100
  model: llama-3.2-1b
  workload: {kind: prefill, batch: 4, tokens: 512}
vary: {plan.tp: [1, 2, 3, 0], workload.tokens: [512, 1024]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMGPU_STORE", "results/store.sqlite")
    return tmp_path


def written(text):
    Path("e.yaml").write_text(text)
    return Path("e.yaml")


def count(store):
    with closing(sqlite3.connect(store)) as db:
        return db.execute("SELECT count(*) FROM scenarios").fetchone()[0]


def kept(store):
    """Everything but when and how long."""
    with closing(sqlite3.connect(store)) as db:
        return db.execute("SELECT key, status, row, reason FROM scenarios ORDER BY key").fetchall()


def run(*arguments):
    """The real command in a process of its own."""
    code = "import simgpu.cli; simgpu.cli.main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(store, rows, process):
    """Until a store has so many rows."""
    for _ in range(3000):
        if Path(store).exists():
            try:
                if count(store) >= rows:
                    return
            except sqlite3.OperationalError:  # being made
                pass
        assert process.poll() is None, "it was over before it could be stopped"
        time.sleep(0.005)
    raise AssertionError("nothing was written")


def children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---- killed and stopped ------------------------------------------------------------------------------


def test_killed_twice_and_resumed_equals_the_uninterrupted_run(monkeypatch):
    written(MANY % (64 * 300))
    simgpu.sweep("e.yaml", store="whole.sqlite", jobs=1)
    before = 0
    for _ in range(2):
        process = run("sweep", "e.yaml", "--store", "killed.sqlite", "--jobs", "2", "--no-plots")
        wait_for("killed.sqlite", before + 100, process)
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for pid in workers:
            for _ in range(500):
                if not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text():
                    break
                time.sleep(0.01)
            else:
                raise AssertionError("a worker outlived the sweep")
        assert before + 100 <= count("killed.sqlite") < 600
        before = count("killed.sqlite")
    done = simgpu.sweep("e.yaml", store="killed.sqlite", jobs=2)
    assert done.before == before and done.ran == 600 - before, "what was finished is not run again"
    assert kept("killed.sqlite") == kept("whole.sqlite")
    assert done.rows == simgpu.sweep("e.yaml", store="whole.sqlite").rows


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on():
    written(MANY % (64 * 200))
    process = run("sweep", "e.yaml", "--jobs", "2")
    wait_for("results/store.sqlite", 50, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1].startswith("simgpu: interrupted: ") and "run the same command again" in err
    assert f"{count('results/store.sqlite'):,} scenarios are finished and kept" in err
    assert simgpu.sweep("e.yaml", jobs=2).left == 0


def test_rows_are_those_of_run():
    file = written(
        MIXED.replace("[1, 2, 3, 0]", "[1, 2]") + "cases: [{labels: {x: a}}, {labels: {x: b}, dtype: fp16}]\n"
    )
    swept = simgpu.sweep(file, jobs=2)
    assert swept.rows == simgpu.run_experiment(file).rows
    assert [row["x"] for row in swept.rows] == ["a"] * 4 + ["b"] * 4


@pytest.mark.slow
def test_two_sweeps_on_one_store_lose_nothing_and_write_nothing_twice():
    written(MANY % (64 * 60))
    Path("f.yaml").write_text((MANY % (64 * 100)).replace("mine", "other"))
    both = [
        run("sweep", name, "--store", "s.sqlite", "--jobs", "1", "--format", "csv") for name in ("e.yaml", "f.yaml")
    ]
    outs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert count("s.sqlite") == 200
    for name, out in zip(("e.yaml", "f.yaml"), outs, strict=True):
        alone = simgpu.sweep(name, store="alone.sqlite", jobs=1)
        assert len(out.splitlines()) == len(alone.rows) + 1
        assert simgpu.sweep(name, store="s.sqlite").rows == alone.rows


# ---- failures ----------------------------------------------------------------------------------------


def test_failures_are_kept_with_their_reason_and_not_tried_again():
    written(MIXED)
    first = simgpu.sweep("e.yaml", jobs=1)
    assert [row["tp"] for row in first.rows] == [1, 1, 2, 2]
    assert [(one.labels["workload.tokens"], one.reason) for one in first.failed] == [
        (512, "e.yaml:6: plan.tp: 3 does not divide the 32 attention heads of 'llama-3.2-1b'; "
              "expected one of 1, 2, 4, 8, 16, 32"),
        (1024, first.failed[0].reason),
        (512, "e.yaml:6: plan.tp: 0: input should be greater than 0"),
        (1024, first.failed[2].reason),
    ]  # fmt: skip
    again = simgpu.sweep("e.yaml", jobs=1)
    assert (again.ran, again.before, again.rows) == (0, 6, first.rows)
    assert simgpu.sweep("e.yaml", jobs=1, retry_failed=True).ran == 2


def test_limit_runs_so_many_and_the_rest_later():
    written(MANY % 640)
    some = simgpu.sweep("e.yaml", jobs=1, limit=7)
    assert (some.ran, some.left, len(some.rows)) == (7, 13, 7)
    assert simgpu.sweep("e.yaml", jobs=1).before == 7


@pytest.mark.parametrize(("text", "problem"), [
    (MIXED.replace("plan.tp:", "plan.tpp:"), "e.yaml:6: plan.tpp: unknown key; did you mean 'tp'"),
    (MIXED.replace("1b", "1x"), "e.yaml:4: model: unknown model 'llama-3.2-1x'; did you mean"),
    (MIXED + "table: [step_ss]\n", "e.yaml:7: table.0: no column 'step_ss' in the rows; did you mean 'step_s'"),
    (MIXED + "plots: [{kind: bar, x: tp, y: [mfuu]}]\n", "plots.0.y.0: no column 'mfuu' in the rows"),
    (MIXED.replace("vary: {", "vary: {gpu.memory.bandwith: [1, 2], "), "e.yaml:6: gpu.memory.bandwith: unknown key"),
    (MIXED + "where: [tp > 9]\n", "e.yaml:7: where: none of 8 scenarios satisfies the conditions"),
])  # fmt: skip
def test_what_is_wrong_with_every_point_is_one_line_before_anything_runs(text, problem):
    written(text)
    result = CliRunner().invoke(main, ["sweep", "e.yaml"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and problem in result.stderr, result.stderr
    assert not Path("results").exists()


class DyingPool:
    """A pool whose process dies over one scenario: always, or so many times."""

    patience = 3
    capacity = 2

    def __init__(self, culprit, times):
        self.culprit, self.left, self.groups = culprit, times, []
        self.alone = []

    @property
    def busy(self):
        return len(self.groups)

    def submit(self, tasks):
        self.groups.append(tasks)

    def answers(self, seconds):
        tasks = self.groups.pop(0)
        if self.left and any(task.key == self.culprit for task in tasks):
            self.left -= 1
            self.alone.append(len(tasks) == 1 and not self.groups)
            return [(tasks, None, "was killed by signal 9")]
        return [(tasks, work.Setup().run(tasks), "")]

    def close(self):
        pass


@pytest.mark.parametrize(("times", "failed"), [(2, 0), (9, 1)])
def test_a_scenario_that_kills_its_process_costs_only_itself(times, failed):
    planned = plan(written(MANY % 6400), (), Catalogue())
    tasks = list(planned.tasks.values())
    pool = DyingPool(tasks[150].key, times)
    with Store(Path("s.sqlite")) as store:
        runner = Runner(pool, store, planned.provenance, 0, 0)
        runner.run(tasks)
        statuses = store.statuses(planned.tasks)
        (culprit,) = store.scenario(tasks[150].key)
    assert len(statuses) == 200
    assert list(statuses.values()).count("failed") == failed == runner.failed
    assert pool.alone[-1] == bool(failed), "the last try is alone"
    if failed:
        assert culprit["reason"] == "its process was killed by signal 9 (3 times; out of memory?)"


def test_killed_workers_are_replaced():
    written(MANY % (64 * 300))
    killed = []

    def kill(progress):
        if progress.ran > 60 * (len(killed) + 1) and len(killed) < 3:
            victim = next(one for one in multiprocessing.active_children() if one.pid not in killed)
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)

    done = command.run(Path("e.yaml"), (), Catalogue(), command.SweepOptions(Path("s.sqlite"), Where(2)), kill)
    assert len(killed) == 3
    assert (len(done.rows), len(done.failed), done.ran) == (600, 0, 600)


def test_an_error_of_simgpu_itself_is_a_failed_scenario(monkeypatch):
    planned = plan(written(BASE), (), Catalogue())
    (task,) = planned.tasks.values()
    monkeypatch.setattr(work, "run_scenario", lambda *_: 1 / 0)
    found = work.Bench(work.Setup()).run(task)
    assert (found.status, found.reason) == ("failed", "ZeroDivisionError: division by zero (a fault of simgpu)")


def test_workers_that_see_another_catalogue_end_the_sweep_in_one_line(folder):
    file = written(BASE)
    planned = plan(file, (), Catalogue())
    own = folder / "own" / "gpus" / "h100-sxm.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(Catalogue().find("gpus", "h100-sxm").read_text().replace("value: 3.35", "value: 3.36", 1))
    pool = ProcessPool(work.Setup((str(folder / "own"),)), 1)
    try:
        with Store(Path("s.sqlite")) as store, pytest.raises(InputError, match="its catalogue or its simgpu differs"):
            Runner(pool, store, planned.provenance, 0, 0).run(list(planned.tasks.values()))
        assert count("s.sqlite") == 0
    finally:
        pool.close()


def test_a_disk_that_fills_up_loses_nothing_that_is_finished(monkeypatch):
    written(MANY % (64 * 300))
    before = Store.keep

    def keep(self, finished, provenance):
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        if len(finished) and not hasattr(self, "limited"):
            self.limited = True
            self._db.execute(f"PRAGMA max_page_count = {pages + 200}")
        return before(self, finished, provenance)

    monkeypatch.setattr(Store, "keep", keep)
    with pytest.raises(InputError, match="the disk is full; what was finished before is kept"):
        simgpu.sweep("e.yaml", store="s.sqlite", jobs=1)
    monkeypatch.setattr(Store, "keep", before)
    there = count("s.sqlite")
    assert 0 < there < 600
    done = simgpu.sweep("e.yaml", store="s.sqlite", jobs=1)
    assert (done.before, done.ran, len(done.rows)) == (there, 600 - there, 600)
    assert not multiprocessing.active_children()


# ---- what is shown and written -----------------------------------------------------------------------


def test_files_and_table_of_a_sweep():
    written(
        MIXED + "plots:\n  - {kind: line, x: workload.tokens, y: [step_s], series: tp, name: steps}\n"
        "  - {kind: roofline, x: tp}\n"
    )
    result = CliRunner().invoke(main, ["sweep", "e.yaml", "--jobs", "1", "--store", "s.sqlite"])
    assert result.exit_code == 0, result.stderr
    assert "8 points: 4 ok, 4 failed, 0 left to do." in result.stdout
    assert "failed, 2 x: e.yaml:6: plan.tp: 0" in result.stdout
    assert "Not drawn, because a store keeps only rows: roofline" in result.stdout
    folder = Path("results/mixed")
    assert {file.name for file in folder.iterdir()} == {"result.json", "rows.csv", "steps.png", "steps.svg"}
    document = json.loads((folder / "result.json").read_text())
    assert (document["points"], document["ok"], len(document["failed"])) == (8, 4, 4)
    again = CliRunner().invoke(main, ["sweep", "e.yaml", "--format", "json", "--store", "s.sqlite", "-q"])
    assert json.loads(again.stdout) == document
    assert again.stderr == ""


def test_the_best_rows_of_many_are_shown_those_that_fit_first():
    result = CliRunner().invoke(main, ["sweep", "plan_sweep", "--jobs", "1", "--no-plots"])
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if re.search(r" (yes|no|tight, \d+ %)$", line.rstrip())]
    assert len(lines) == 20 and "most tokens/s/GPU of 38, plans that fit first" in result.stdout
    fits = [not line.rstrip().endswith("no") for line in lines]
    assert fits == sorted(fits, reverse=True) and any(fits)
    rows = simgpu.results(experiment="plan_sweep").rows
    assert all(row["tp"] * row["pp"] * row["dp"] == row["gpus"] == 64 for row in rows)
    assert {(row["recompute"], row["micro_batch"]) for row in rows} == {("none", 1), ("full", 2)}


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    from simgpu.render import progress

    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.ProgressLine(sys.stderr, "sweep") as line:
        line.update(done=500, total=1000, failed=2, ran=300, seconds=3.0)
    assert capsys.readouterr().err == "sweep: 500 of 1,000, 2 failed, 100/s, 5 s left\n"


def test_groups_are_small_where_scenarios_are_slow():
    class Idle(DyingPool):
        capacity = 1

        def answers(self, seconds):
            tasks = self.groups.pop(0)
            sizes.append(len(tasks))
            found = [Finished(one.key, "ok", {}, None, {}, {}, "", "", self.slow, "", "") for one in tasks]
            return [(tasks, found, "")]

    planned = plan(written(MANY % (64 * 200)), (), Catalogue())
    for slow, most in ((10.0, 1), (running.GROUP_SECONDS / 8, 8), (1e-5, running.GROUP_MOST)):
        sizes = []
        pool = Idle("", 0)
        pool.slow = slow
        with Store(Path(f"{slow}.sqlite")) as store:
            Runner(pool, store, planned.provenance, 0, 0).run(list(planned.tasks.values()))
        assert max(sizes) == most and sum(sizes) == 400
