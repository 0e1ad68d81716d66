"""`simgpu new`: commented files to start from, and what a file lacks is told at once."""

import json

import pytest
from click.testing import CliRunner
from sampling import sampled

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.study.experiment.templates import TEMPLATES

EXPERIMENTS = ("training", "inference", "traffic", "search")
FOLDERS = {"gpu": "gpus/own.yaml", "node": "nodes/own.yaml", "cluster": "clusters/own.yaml", "model": "models/own.json"}


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_template_is_a_valid_part_under_the_name_of_its_file(tmp_path, kind):
    file = tmp_path / FOLDERS[kind]
    assert run("new", kind, "-o", file).exit_code == 0
    shown = run("--catalog", tmp_path, "show", "own")
    assert shown.exit_code == 0, shown.output
    if kind == "model":
        assert Catalogue(tmp_path).model("own").parameters == 8_030_261_248
    else:
        job = tmp_path / "job.yaml"
        workload = "{kind: prefill, batch: 1, tokens: 256}"
        job.write_text(f"scenario: {{model: llama-3.1-8b, cluster: own, workload: {workload}}}\n")
        ran = run("--catalog", tmp_path, "run", job, "--no-plots", "--out", tmp_path / "out")
        assert ran.exit_code == 0 and "check a figure" not in ran.output, ran.output


@pytest.mark.parametrize("kind", sampled(EXPERIMENTS, 2))
def test_an_experiment_that_is_started_runs_and_has_the_name_of_its_file(tmp_path, kind):
    file = tmp_path / "own.yaml"
    assert run("new", kind, "-o", file).exit_code == 0
    command = "search" if kind == "search" else "run"
    done = run(command, file, "--no-plots", "--out", tmp_path / "out", "--format", "json", "-q")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    rows = document["rows"]
    assert document["search" if kind == "search" else "experiment"] == "own"
    assert len(rows) >= 2 and all(row["memory_fits"] for row in rows if "memory_fits" in row)
    assert file.read_text().count("#") > 5  # what there is to choose is said


def test_every_kind_is_a_choice_of_the_command():
    (kind,) = (one for one in main.commands["new"].params if one.name == "kind")
    assert sorted(kind.type.choices) == sorted(TEMPLATES) == sorted([*FOLDERS, *EXPERIMENTS])


def test_a_file_is_not_written_over(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("mine")
    refused = run("new", "gpu", "-o", file)
    assert refused.exit_code == 2 and "exists already" in refused.output
    assert file.read_text() == "mine"
    assert run("new", "gpu").output.startswith("# A GPU of your own")


@pytest.mark.parametrize("kind", ["gpus", "nodes", "clusters"])
def test_all_missing_keys_are_told_at_once(tmp_path, kind):
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "own.yaml").write_text("name: own\ntitle: Own\n")
    said = run("--catalog", tmp_path, "show", "own")
    assert said.exit_code == 2 and len(said.output.splitlines()) == 1
    needed = {
        "gpus": ("vendor", "architecture", "compute", "peak", "memory", "host_link", "power"),
        "nodes": ("gpu", "sockets", "peer_to_peer_scope"),
        "clusters": ("node", "nodes"),
    }
    for key in needed[kind]:
        assert key in said.output
    assert f"simgpu new {kind[:-1]}" in said.output
