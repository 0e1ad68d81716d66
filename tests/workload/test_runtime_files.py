"""Runtimes in a folder of the user: they run, are listed, decide keys of stores, and leak into no other catalogue."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import simgpu
from simgpu import Catalogue, Inference, InputError
from simgpu.cli import main
from simgpu.reading import built_in_folder
from simgpu.scenario import Scenario
from simgpu.study.experiment.resolver import Resolver
from simgpu.study.sweep.identity import Identities

NEXT = """\
name: vllm@0.30
title: vLLM of this test
version: 0.30 and later
base: vllm@0.21
sources:
  here: a load test of this test
step_s: {value: 5, unit: ms, source: here}
"""
OWN = NEXT.replace("vllm@0.30", "mine@1.0").replace("vLLM of this test", "An engine of this test")
JOB = {"kind": "inference", "prompt": 64, "output": 8}


def folder(at: Path, **files: str) -> Path:
    """A user's catalogue; a file is named by its stem, with _ for @."""
    (at / "runtimes").mkdir(parents=True, exist_ok=True)
    for text in files.values():
        (at / "runtimes" / f"{text.splitlines()[0].removeprefix('name: ')}.yaml").write_text(text)
    return at


def run(name: str, at: Path | None, cluster: object = "h100-sxm") -> dict:
    catalogue = Catalogue(at) if at else None
    return dict(simgpu.simulate(cluster, {**JOB, "runtime": name}, "llama-3.2-1b", catalogue=catalogue).row)


def test_adding_a_runtime_is_adding_a_file(tmp_path: Path) -> None:
    at = folder(tmp_path, a=NEXT, b=OWN)
    before, after = run("vllm@0.21", at), run("vllm@0.31", at)
    gpu = before["tpot_s"] - 0.1e-3  # of one sequence, whose host the GPU hides: not 5 ms of it
    assert after["tpot_s"] == pytest.approx(5e-3 + 40e-6 + 0.1e-3) and 0.6e-3 < gpu < 5e-3
    assert after["runtime"] == "vllm@0.30" and run("mine", at)["tpot_s"] == after["tpot_s"]
    assert run("mine", at)["tpot_s_p10"] < after["tpot_s"] < run("mine", at)["tpot_s_p90"]
    assert run("vllm@0.31", None)["runtime"] == "vllm@0.21"
    with pytest.raises(InputError, match="unknown runtime 'mine'") as refused:
        run("mine", None)
    assert refused.value.key == "workload.runtime"


def test_commands_read_the_folder_of_the_user(tmp_path: Path) -> None:
    here = ["--catalog", str(folder(tmp_path / "catalogue", b=OWN))]
    file = tmp_path / "e.yaml"
    job = {"model": "llama-3.2-1b", "cluster": "l4", "workload": {**JOB, "runtime": "mine"}}
    file.write_text(f"scenario: {json.dumps(job)}")

    def cli(*words: object) -> str:
        found = CliRunner().invoke(main, [*here, *map(str, words)])
        assert found.exit_code == 0, found.output
        return " ".join(found.stdout.split())

    assert "mine@1.0 An engine of this test" in cli("list", "runtimes")
    assert "step_s 5 ms a load test of this test" in cli("show", "mine")
    assert "mine: An engine of this test" in cli("run", file, "--no-plots", "-q")
    (scenario,) = json.loads(cli("resolve", file))["scenarios"]
    assert scenario["runtime.step_s"] == {"value": 5e-3, "unit": "s", "source": "a load test of this test"}
    assert "mine" in cli("fit", "llama-3.2-1b", "--gpu", "l4", "--runtime", "mine", "--format", "csv")
    assert "workload.runtime mine vllm" in cli("diff", file, file, "--set-b", "workload.runtime=vllm")
    for words in (["run", str(file), "-q", "--no-plots"], ["fit", "llama-3.2-1b", "--runtime", "mine"]):
        refused = CliRunner().invoke(main, words)
        assert refused.exit_code == 2 and "runtime: unknown runtime 'mine'" in refused.stderr


def test_a_catalogue_does_not_leak_into_another(tmp_path: Path) -> None:
    cluster = simgpu.load_cluster("h100-sxm")
    places = [folder(tmp_path / f"{n}", b=OWN.replace("value: 5", f"value: {n}")) for n in (5, 6, 7)]
    fresh = [run("mine", at)["tpot_s"] for at in places]
    assert sorted(fresh) == fresh and len(set(fresh)) == 3
    for order in (1, -1, 1):
        assert [run("mine", at, cluster)["tpot_s"] for at in places[::order]] == fresh[::order]


def test_pytorch_runs_the_framework_of_the_same_folder(tmp_path: Path) -> None:
    """Its kernels and its part of the key of a store."""
    (tmp_path / "frameworks").mkdir()
    text = (built_in_folder() / "frameworks/pytorch-eager.yaml").read_text()
    text = text.replace(
        "{kind: elementwise, reads: 2, writes: 2, does: square}", "{kind: elementwise, reads: 90, writes: 90}", 1
    )
    (tmp_path / "frameworks/pytorch-eager.yaml").write_text(text)
    scenario = Scenario(
        model="llama-3.2-1b", cluster="h100-sxm", workload=Inference(prompt=64, output=8, runtime="eager")
    )
    rows, keys = [], set()
    for catalogue in (Catalogue(tmp_path), Catalogue()):
        job = {**JOB, "batch": 512, "runtime": "eager"}
        rows.append(simgpu.simulate("h100-sxm", job, "llama-3.2-1b", catalogue=catalogue).row)
        keys.add(Identities(Resolver(catalogue)).of(scenario).key)
    assert rows[0]["ttft_s"] > rows[1]["ttft_s"] and len(keys) == 2


def test_the_key_of_a_store_follows_the_content_of_the_file(tmp_path: Path) -> None:
    scenario = Scenario(model="gpt2", cluster="l4", workload=Inference(prompt=64, output=8, runtime="mine"))

    def key(n: int, text: str) -> str:
        return Identities(Resolver(Catalogue(folder(tmp_path / f"{n}", a=text)))).of(scenario).key

    plain = key(0, OWN)
    assert plain == key(1, OWN.replace("An engine", "The engine").replace("a load test", "one load test"))
    assert plain != key(2, OWN.replace("value: 5", "value: 6"))


FAULTS = [
    ("base: vllm@0.21", "base: vllm@0.22", "4: base: unknown runtime 'vllm@0.22'"),
    ("base: vllm@0.21", "base: mine@1.0", "4: base: 'mine@1.0' inherits from itself"),
    ("base: vllm@0.21", "base: [1]", "4: base: unknown runtime"),
    ("base: vllm@0.21", "default: 3", "4: default: 3 is not true or false"),
    ("step_s: {value: 5, unit: ms", "style: {value: eager", "1: framework: is missing; a runtime of style eager names"),
    ("step_s: {value: 5, unit: ms", "style: {value: lazy", "7: style: 'lazy' is not known; expected one of"),
    ("step_s: {value: 5, unit: ms", "step_s: {value: -5, unit: ms", "7: step_s: -5 is out of range"),
    ("step_s: {value: 5, unit: ms", "memory_share: {value: 2", "7: memory_share: 2 is out of range; expected 0 to 1"),
    ("step_s: {value: 5, unit: ms", "vectors: {value: 2.5", "7: vectors: 2.5 is out of range; expected a whole number"),
    ("step_s: {value: 5, unit: ms", "chunks: {value: [[1 GiB, 9]]", "7: chunks: [['1 GiB', 9]]: expected memory that"),
    ("step_s: {value: 5, unit: ms", "framework: {value: pytorch-eagr", "7: framework: unknown framework"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "problem"), FAULTS)
def test_faults_are_named_with_their_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    at = folder(tmp_path, b=OWN.replace(old, new))
    with pytest.raises(InputError) as refused:
        run("mine", at)
    assert str(refused.value).startswith(f"{at}/runtimes/mine@1.0.yaml:{problem}")


def test_files_that_are_no_version_or_a_second_default_are_refused(tmp_path: Path) -> None:
    at = folder(tmp_path / "a", b=OWN)
    (at / "runtimes/mine.yaml").write_text(OWN)
    with pytest.raises(InputError, match=r"mine.yaml: is not the name of a runtime; expected ENGINE@VERSION.yaml"):
        run("mine", at)
    with pytest.raises(InputError, match=r"vllm@0.30.yaml: default: is the default of vllm, and so is vllm@0.14"):
        run("vllm", folder(tmp_path / "b", a=NEXT.replace("base:", "default: true\nbase:")))
