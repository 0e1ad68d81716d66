"""A share of the fuzz: what is drawn is answered or refused as it should be. `make fuzz` runs the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from fuzz import trial, workers
from fuzz.inputs import KINDS, Input, draw

SHARE = 60
SLOW_TO_START = ("sweep", "search")  # `make fuzz` runs them: each starts processes of its own


def test_a_share_of_the_inputs_is_answered_or_refused_in_one_line() -> None:
    workers.quiet()
    seen: dict[str, int] = {}
    for number in range(SHARE):
        given = draw(0, number)
        if any(command in given.arguments or command in given.call for command in SLOW_TO_START):
            continue
        found = workers.run(given)
        assert not found.defect, f"python -m tests.fuzz --seed 0 --only {number}: {found.name}: {found.detail}"
        seen[found.name] = seen.get(found.name, 0) + 1
    assert seen[trial.ANSWERED] > 6 and seen[trial.REFUSED] > 16  # neither is all that comes back


@pytest.mark.slow
def test_inputs_stay_within_time_and_memory() -> None:
    """In processes of their own, sweeps and searches too."""
    for number, _, found in workers.run_all(iter(range(SHARE, 10 * SHARE)), 0, 2, ()):
        assert not found.defect, f"python -m tests.fuzz --seed 0 --only {number}: {found.name}: {found.detail}"


def test_an_input_depends_on_seed_and_number_alone() -> None:
    for number in range(40):
        assert draw(3, number) == draw(3, number)
    assert len({(*draw(seed, 7).arguments, draw(seed, 7).call) for seed in range(20)}) > 10
    assert {draw(3, number, ("options",)).kind for number in range(20)} == {"options"}
    assert {draw(0, number).kind for number in range(400)} == set(KINDS)


def _falls() -> None:
    raise KeyError("tp")


def _talks() -> None:
    click.echo("simgpu: one\ntwo", err=True)
    sys.exit(2)


def _leaves() -> None:
    Path("half.json").write_text("{")
    click.echo("simgpu: a problem", err=True)
    sys.exit(2)


def _never_ends() -> None:
    while True:
        pass


def _says_nothing() -> None:
    click.echo("simgpu: ", err=True)
    sys.exit(2)


def _answers(text: str) -> Callable[[], None]:
    return lambda: click.echo(text)


ROW = '{"rows": [{"gpus": 1, "cluster": "l4", "step_s": %s, "step_s_p10": 1, "step_s_p90": %s}]}'
JUDGED = {
    "traceback": _falls,
    "message": _talks,
    "file left": _leaves,
    "too slow": _never_ends,
    "exit code": lambda: sys.exit(3),
    "not JSON": _answers(ROW % ("NaN", 2)),
    "impossible number": _answers(ROW % (-1, 2)),
    "answered": _answers(ROW % (1, 2)),
}


@pytest.mark.parametrize("name", JUDGED)
def test_every_defect_is_recognised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(JUDGED[name])
    monkeypatch.setattr("simgpu.cli.main", command)
    monkeypatch.setattr(trial, "SECONDS", 0.2)
    assert workers.run(Input("made up", ("run", "--format", "json"))).name == name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("simgpu: 1 of 2 rows left out; row 2 cannot run: e.yaml:3: plan.tp: too many", "answered"),
        ("simgpu: 1 of 2 rows left out; row 2 cannot run: a\nb", "message"),
        ("simgpu: plan.tp: too many", "answer and error"),
    ],
)
def test_an_answer_of_some_rows_names_the_others(line: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers() -> None:
        click.echo(ROW % (1, 2))
        click.echo(line, err=True)
        sys.exit(2)

    command = click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(answers)
    monkeypatch.setattr("simgpu.cli.main", command)
    assert workers.run(Input("made up", ("run", "--format", "json"))).name == name


def test_an_empty_message_and_swapped_ends_of_an_interval_are_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simgpu.cli.main", click.command()(_says_nothing))
    assert workers.run(Input("made up")).name == "message"
    assert trial.impossible({"step_s": 1.0, "step_s_p10": 2.0, "step_s_p90": 1.5})
    assert trial.impossible({"mfu": float("inf")})
    assert not trial.impossible({"step_s": 1.0, "label": -1})


def test_a_process_that_dies_costs_one_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(given: Input) -> trial.Outcome:
        if given == draw(0, 1):
            raise SystemExit(5)
        return trial.Outcome(trial.ANSWERED)

    monkeypatch.setattr(workers, "run", dies)
    monkeypatch.setattr(workers, "limit_memory", lambda: None)
    found = {number: outcome.name for number, _, outcome in workers.run_all(iter(range(6)), 0, 2, ())}
    assert found == {number: "process died" if number == 1 else "answered" for number in range(6)}
