"""`simgpu doctor`: a line for each thing, exit code 1 where one is a fault."""

import pytest
from click.testing import CliRunner

from simgpu.cli import main
from simgpu.lab import health

LOOKED_AT = ["python", "simgpu", "packages", "catalogue", "measurements", "results", "store", "extras"]


def doctor(*before):
    done = CliRunner().invoke(main, [*map(str, before), "doctor"])
    return done.exit_code, {line.split()[1]: line for line in done.output.splitlines()}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMGPU_MEASUREMENTS", raising=False)
    monkeypatch.delenv("SIMGPU_STORE", raising=False)


@pytest.fixture
def no_files(monkeypatch):
    """Without reading the whole catalogue."""
    monkeypatch.setattr(health, "_catalogue", lambda folders: "not read")


def test_a_sound_installation_is_well():
    code, lines = doctor()
    assert code == 0 and list(lines) == LOOKED_AT and all(line.startswith("ok ") for line in lines.values())


def test_a_broken_file_of_ones_own_is_named(tmp_path):
    (tmp_path / "mine/gpus").mkdir(parents=True)
    (tmp_path / "mine/gpus/own.yaml").write_text("name: own\ntitle: Own\n")
    code, lines = doctor("--catalog", tmp_path / "mine")
    assert code == 1 and lines["catalogue"].startswith("FAULT") and "own.yaml" in lines["catalogue"]


def test_faults_are_told_by_what_they_are_of(tmp_path, monkeypatch, no_files):
    (tmp_path / "results").write_text("a file")
    monkeypatch.setenv("SIMGPU_MEASUREMENTS", str(tmp_path / "no"))
    monkeypatch.setattr(health, "NEEDED", {"numpy": (99, 0), "no-such-package": (1, 0)})
    code, lines = doctor()
    faults = {what for what, line in lines.items() if line.startswith("FAULT")}
    assert code == 1 and faults == {"packages", "measurements", "results", "store"}
    assert "no-such-package is missing" in lines["packages"] and "needs 99.0" in lines["packages"]


def test_what_is_needed_is_what_the_packaging_says():
    import configparser
    from pathlib import Path

    setup = configparser.ConfigParser(interpolation=None)
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    said = (line.split(" >= ") for line in setup["options"]["install_requires"].split("\n") if line)
    assert {name: tuple(map(int, oldest.split("."))) for name, oldest in said} == health.NEEDED
    extras = setup["options.extras_require"]
    assert all(extra in extras and package in extras[extra] for extra, (package, _) in health.EXTRAS.items())
