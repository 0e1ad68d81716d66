"""Frameworks as files: adding one touches no code, every figure has a source, faults are named with their line."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import simgpu
from simgpu import Catalogue, InputError, Plan, Training
from simgpu.cli import main
from simgpu.reading import built_in_folder
from simgpu.scenario import Scenario
from simgpu.study.experiment.resolver import Resolver
from simgpu.study.sweep.identity import Identities
from simgpu.workload.framework_files import RANGES, SECTIONS, WORDS, Frameworks, built_in, framework
from simgpu.workload.frameworks import ALWAYS, KINDS, OPERATORS

MINE = """\
name: mine
title: A trainer of this test
base: megatron
sources:
  bench: a benchmark of this test
  code: mine/layers.py
forward:
  gated:
    source: code
    kernels:
      - {kind: elementwise, reads: 1, writes: 1, does: activation}
      - {kind: elementwise, reads: 2, writes: 1, does: product}
step:
  launch_s: {value: 7, unit: us, source: bench}
  stream_slowdown: {value: 2, source: bench}
memory:
  logit_bytes: {value: 40, unit: B, source: code}
"""
JOB = {"kind": "training", "batch": 8, "tokens": 1024}


def folder(at: Path, text: str = MINE, name: str = "mine") -> Path:
    """A user's catalogue with one framework."""
    (at / "frameworks").mkdir(parents=True, exist_ok=True)
    (at / "frameworks" / f"{name}.yaml").write_text(text)
    return at


def step(catalogue: Catalogue | None, name: str, cluster: object = "dgx-h100") -> dict:
    found = simgpu.simulate(
        cluster, JOB, "llama-3.1-8b", Plan(tp=2, dp=4, sequence_parallel=True), framework=name, catalogue=catalogue
    )  # fmt: skip
    return dict(found.row)


# ---- adding one --------------------------------------------------------------------------------------


def test_adding_a_framework_is_adding_a_file(tmp_path: Path) -> None:
    """It trains, is listed and shown, and differs from its base in what the file says: traffic twice over, with one
    more kernel, takes more time, and 40 bytes a logit instead of 6 more memory."""
    catalogue = Catalogue(folder(tmp_path))
    mine, base = step(catalogue, "mine"), step(catalogue, "megatron")
    assert mine["framework"] == "mine" and mine["step_s"] > base["step_s"]
    assert mine["memory_bound_s"] > 1.9 * base["memory_bound_s"]
    assert mine["gemm_s"] == pytest.approx(base["gemm_s"], rel=0.02), "but for what collectives beside it take"
    logits = JOB["batch"] / 4 * JOB["tokens"] * 128_256 / 2
    # of the base, the head's backward: gradients of the logits, of 2.5 times the rows, and a dummy of its weights
    rows, head = 2.5 * JOB["batch"] / 4 * JOB["tokens"] * 4096 * 2, 128_256 / 2 * 4096 * 2
    more = mine["temporary_memory_bytes"] - base["temporary_memory_bytes"]
    assert more == pytest.approx(40 * logits - (2 * logits + rows + head))
    made = catalogue.framework("mine")
    assert made.launch_s == 7e-6 and made.sources["launch_s"] == "a benchmark of this test"
    assert made.step_s == framework("megatron").step_s
    assert made.sources["step_s"] == framework("megatron").sources["step_s"]
    assert "mine" in catalogue.names("frameworks") and set(built_in().names) < set(catalogue.names("frameworks"))


def test_the_framework_of_the_docs_trains_as_copied(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (built_in_folder() / "docs/training.md").read_text(), flags=re.S)
    catalogue = Catalogue(folder(tmp_path, text, "my-trainer"))
    assert step(catalogue, "my-trainer")["memory_bound_s"] < step(catalogue, "pytorch-eager")["memory_bound_s"]


def test_commands_read_the_folder_of_the_user(tmp_path: Path) -> None:
    file, here = tmp_path / "e.yaml", ["--catalog", str(folder(tmp_path / "catalogue"))]
    file.write_text(f"scenario: {json.dumps({'model': 'gpt2', 'cluster': 'l4', 'workload': JOB, 'framework': 'mine'})}")

    def cli(*words: object) -> str:
        found = CliRunner().invoke(main, [*here, *map(str, words)])
        assert found.exit_code == 0, found.output
        return found.stdout

    assert "mine" in cli("list", "frameworks").split()
    shown = " ".join(cli("show", "mine").split())
    assert "launch_s 7 us a benchmark of this test" in shown and "forward.gated.2" in shown
    inputs = json.loads(cli("run", file, "-q", "--no-plots", "--format", "json"))
    assert inputs["rows"][0]["framework"] == "mine"
    assert '"source": "mine/layers.py"' in cli("resolve", file)
    refused = CliRunner().invoke(main, ["run", str(file), "-q", "--no-plots"])
    assert refused.exit_code == 2 and refused.stderr.startswith(
        f"simgpu: {file}:1: framework: unknown framework 'mine'"
    )


def test_a_catalogue_does_not_leak_into_another(tmp_path: Path) -> None:
    """Two folders that say otherwise of one name, on one cluster that remembers what it was asked; and the built-in."""
    heavy = folder(
        tmp_path / "heavy",
        MINE.replace("name: mine", "name: megatron").replace("base: megatron", "base: hf-trainer"),
        "megatron",
    )
    light = folder(tmp_path / "light", MINE.replace("value: 40", "value: 20"))
    same = folder(tmp_path / "same")
    cluster = simgpu.load_cluster("dgx-h100")
    fresh = {}
    for order in (1, -1):
        for name, asked, where in [
            ("plain", "megatron", None), ("heavy", "megatron", heavy), ("light", "mine", light), ("same", "mine", same),
        ][::order]:  # fmt: skip
            row = step(Catalogue(where) if where else None, asked, cluster)
            assert fresh.setdefault(name, row) == row, name
    assert fresh["plain"] == step(None, "megatron")
    assert len({row["memory_bytes_per_gpu"] for row in fresh.values()}) == 4


def test_a_call_without_a_catalogue_reads_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, cluster = step(None, "megatron"), simgpu.load_cluster("dgx-h100")
    monkeypatch.setenv("SIMGPU_CATALOG", str(folder(tmp_path)))
    assert step(None, "mine", cluster)["step_s"] > plain["step_s"] == step(None, "megatron", cluster)["step_s"]
    monkeypatch.delenv("SIMGPU_CATALOG")
    with pytest.raises(InputError, match="unknown framework 'mine'"):
        step(None, "mine", cluster)


def test_a_base_is_that_of_the_folder(tmp_path: Path) -> None:
    changed = Path(built_in_folder(), "frameworks", "pytorch-eager.yaml").read_text()
    at = folder(tmp_path, changed.replace("launch_s: {value: 13,", "launch_s: {value: 99,"), "pytorch-eager")
    assert Catalogue(at).framework("deepspeed").launch_s == 99e-6
    assert Catalogue().framework("deepspeed").launch_s == 13e-6


def test_the_key_of_a_store_follows_the_content_of_the_file(tmp_path: Path) -> None:
    def key(at: Path, name: str = "mine") -> str:
        scenario = Scenario(model="gpt2", cluster="l4", workload=Training(**JOB), framework=name)
        return Identities(Resolver(Catalogue(at))).of(scenario).key

    plain = key(folder(tmp_path / "a"))
    assert plain == key(folder(tmp_path / "b", MINE.replace("A trainer", "One").replace("bench:", "bench: not")))
    for i, (old, new) in enumerate(
        [("40", "41"), ("7, unit: us", "8, unit: us"), ("writes: 1, does: p", "writes: 2, does: p")]
    ):
        assert plain != key(folder(tmp_path / f"c{i}", MINE.replace(old, new)))
    base = Path(built_in_folder(), "frameworks", "megatron.yaml").read_text().replace("value: 160", "value: 161")
    assert plain != key(folder(folder(tmp_path / "d"), base, "megatron")), "what it inherits decides too"


def test_every_step_of_a_copied_folder_is_that_of_the_built_in(tmp_path: Path) -> None:
    shutil.copytree(built_in_folder() / "frameworks", tmp_path / "frameworks")
    copied = Catalogue(tmp_path)
    for name in built_in().names:
        assert copied.framework(name) is not framework(name) and copied.framework(name) == framework(name)
    assert step(copied, "deepspeed") == step(None, "deepspeed")


# ---- what files say ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", built_in().names)
def test_every_fact_has_a_source(name: str) -> None:
    made = framework(name)
    assert set(made.values()) == set(made.sources)
    assert all(len(source) > 20 for source in made.sources.values())
    for table in (made.forward, made.backward):
        assert set(ALWAYS) <= set(table) <= set(OPERATORS)
        assert {one.kind for kernels in table.values() for one in kernels} <= set(KINDS)


def test_figures_are_what_their_literals_say_to_the_last_digit() -> None:
    megatron, eager = framework("megatron"), framework("pytorch-eager")
    assert (megatron.launch_s, megatron.step_s, megatron.bucket_bytes) == (5e-6, 15e-3, 160e6)
    assert (eager.launch_s, eager.step_s, eager.bucket_bytes) == (13e-6, 8e-3, 25 * 2**20)
    assert (framework("deepspeed").memory.reduce_bucket, framework("hf-trainer").memory.reserved) == (5e8, 1.07)


def test_constants_with_words_or_ranges_are_constants() -> None:
    known = {key: kind for section in SECTIONS.values() for key, kind in section.items()}
    assert set(WORDS) == {key for key, kind in known.items() if kind == "str"}
    assert set(RANGES) <= {key for key, kind in known.items() if kind == "float"}


FAULTS = [
    ("name: mine", "name: yours", "1: name: 'yours' is not the name of the file, 'mine'"),
    ("title: A trainer of this test", "title: 3", "2: title: expected text"),
    ("base: megatron", "base: megatorn", "3: base: unknown framework 'megatorn'; did you mean 'megatron'?"),
    ("base: megatron", "base: mine", "3: base: 'mine' inherits from itself"),
    ("step:", "stepp:", "13: stepp: unknown key; did you mean 'step'?"),
    ("launch_s:", "lunch_s:", "14: step.lunch_s: unknown key; did you mean 'launch_s'?"),
    ("gated:", "gate:", "8: forward.gate: unknown key; did you mean 'gated'?"),
    ("source: bench}", "source: bank}", "14: step.launch_s: source 'bank' is not among the file's sources"),
    ("unit: us, ", "", "14: step.launch_s: 7 has no unit; expected one, such as"),
    ("unit: us", "unit: GB", "14: step.launch_s: unit 'GB' does not fit"),
    ("{value: 7, unit: us, source: bench}", "7 us", "14: step.launch_s: '7 us': expected value, unit and source"),
    ("value: 2, source", "value: 0, source", "15: step.stream_slowdown: 0 is out of range; expected 0.001 to 1000"),
    ("value: 2, source", "value: true, source", "15: step.stream_slowdown: true is not a number"),
    ("source: code\n    kernels", "source: cod\n    kernels", "9: forward.gated.source: source 'cod' is not among"),
    ("reads: 2", "read: 2", "12: forward.gated.kernels.1: "),
    ("kind: elementwise, reads: 2", "kind: elemntwise, reads: 2", "12: forward.gated.kernels.1.kind: 'elemntwise' is"),
    ("reads: 2", "reads: -2", "12: forward.gated.kernels.1.reads: -2: expected how many tensors"),
    ("base: megatron\n", "", "1: forward.normalization is missing, and no base that gives it; missing too: forward.a"),
    ("forward:", "forward:\n  rms_autocast: {source: code, kernels: [{kind: scores, reads: 1, writes: 1}]}\n", "1: ba"),
    ("stream_slowdown: {value: 2", "attention: {value: fa4", "15: step.attention: 'fa4' is not known"),
    ("stream_slowdown: {value: 2", "overlaps_tp: {value: maybe", "15: step.overlaps_tp: 'maybe' is not true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "problem"), FAULTS)
def test_faults_are_named_with_their_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    file = folder(tmp_path, MINE.replace(old, new, 1)) / "frameworks/mine.yaml"
    files = {name: built_in().files[name] for name in built_in().names} | {"mine": file}
    with pytest.raises(InputError) as refused:
        Frameworks(files).of("mine")
    assert str(refused.value).startswith(f"{file}:{problem}")


def test_two_files_cannot_be_based_on_each_other(tmp_path: Path) -> None:
    folder(tmp_path, MINE.replace("base: megatron", "base: other"))
    folder(tmp_path, MINE.replace("name: mine", "name: other").replace("base: megatron", "base: mine"), "other")
    with pytest.raises(InputError, match=r"other.yaml:3: base: 'mine' inherits from itself"):
        Catalogue(tmp_path).framework("mine")
