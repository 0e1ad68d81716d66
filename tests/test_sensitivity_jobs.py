"""Sensitivities run in any number of processes, with the same answers; what ends a run ends its workers."""

import pickle
from collections.abc import Sequence
from multiprocessing import get_context
from typing import Any

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.cli import main
from simgpu.documents import as_text
from simgpu.errors import InputError
from simgpu.study.experiment.running import load_experiment
from simgpu.study.pools import processes
from simgpu.study.pools.processes import ProcessPool
from simgpu.study.pools.spread import spread
from simgpu.study.whatif import runs
from simgpu.study.whatif.runs import Setup, Side

STUDY: dict[str, Any] = {
    "experiment": "small",
    "scenario": {
        "cluster": "dgx-h100",
        "workload": {
            "kind": "operators",
            "operators": [
                {"op": "matmul", "m": 512, "n": 512, "k": 512, "split": "n"},
                {"op": "all_reduce", "bytes": 1e6},
            ],
        },
    },
    "vary": {"plan.tp": [2, 4]},
}


@pytest.mark.slow
def test_answers_are_the_same_in_any_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    alone = [one.document() for one in simgpu.sensitivity(STUDY, jobs=1)]
    assert [one.document() for one in simgpu.sensitivity(STUDY, jobs=2)] == alone
    monkeypatch.setattr(runs, "QUICK_SECONDS", 1e9)
    monkeypatch.setattr(runs, "spread", lambda pool, *_: done.append(pool))
    assert [one.document() for one in simgpu.sensitivity(STUDY)] == alone and not done, "what is quick runs here"
    assert len(alone) == 2 and all(len(one["rows"]) > 10 for one in alone)


def test_a_worker_gets_scenarios_by_pickle_and_says_in_words_what_cannot_be() -> None:
    catalogue = simgpu.Catalogue()
    cases = load_experiment(as_text(STUDY), (), catalogue).cases
    setup = pickle.loads(pickle.dumps(Setup(cases, ())))
    tasks = [Side(1, {}), Side(0, {"gpu.memory.bandwidth": "1 TB/s"}), Side(0, {"gpu.memory.bandwith": 1.0})]
    plain, slow, wrong = setup.run(tasks)
    assert plain == setup.simulated(tasks[0], catalogue) and plain[1]
    assert slow[0]["step_s"] > setup.simulated(Side(0, {}), catalogue)[0]["step_s"]
    assert "bandwidth" in wrong


class Pool:
    """A pool that answers the newest first, loses some tasks once, and is interrupted if it shall be."""

    patience = 3
    capacity = 4

    def __init__(self, lost: Sequence[Any] = (), interrupted: bool = False, deadly: bool = False) -> None:
        self.lost, self.interrupted, self.deadly = list(lost), interrupted, deadly
        self.held: list[Any] = []
        self.closed = False

    @property
    def busy(self) -> int:
        return len(self.held)

    def submit(self, tasks: Sequence[Any]) -> None:
        assert self.busy < self.capacity
        self.held.append(tasks)

    def answers(self, seconds: float) -> list[Any]:
        if self.interrupted:
            raise KeyboardInterrupt
        tasks = self.held.pop()
        if self.deadly or tasks[0] in self.lost:
            if not self.deadly:
                self.lost.remove(tasks[0])
            return [(tasks, None, "was killed by signal 9")]
        return [(tasks, [2 * tasks[0][0]], "")]

    def close(self) -> None:
        self.closed = True


def test_tasks_are_answered_in_their_order_and_tried_again() -> None:
    tasks, told = [(n,) for n in range(20)], []
    pool = Pool(lost=[(3,), (3,), (7,)])
    assert spread(pool, tasks, lambda: told.append(1)) == [2 * n for n in range(20)]
    assert len(told) == 20 and pool.closed


def test_what_ends_a_run_ends_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        spread(pool, [(1,)], lambda: None)
    assert pool.closed
    pool = Pool(deadly=True)
    with pytest.raises(InputError, match="a worker was killed by signal 9 3 times"):
        spread(pool, [(1,)], lambda: None)
    assert pool.closed
    closed = []
    monkeypatch.setattr(ProcessPool, "answers", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(ProcessPool, "close", lambda pool: closed.append(pool) or [one.stop() for one in pool._workers])
    done = CliRunner().invoke(main, ["sensitivity", "what_matters", "--case", "1", "-j", "2", "--no-plots", "-q"])
    assert done.exit_code == 130 and "interrupted" in done.output and len(closed) == 1


def test_a_fault_of_a_worker_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    before = runs.run_case
    calls = []

    def broken(*given: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("broken")
        return before(*given)

    monkeypatch.setattr(runs, "run_case", broken)
    monkeypatch.setattr(processes, "way_to_start", lambda _: get_context("fork"))  # or workers do not see the fault
    with pytest.raises(RuntimeError, match="broken"):
        simgpu.sensitivity({**STUDY, "vary": {"plan.tp": [2]}}, jobs=2)
