"""The store: keys that say what a scenario is, nothing lost or written twice, and one line for what is no store."""

import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from click.testing import CliRunner

import simgpu
from simgpu import Catalogue, InputError
from simgpu.cli import main
from simgpu.scenario import run_scenario
from simgpu.study.experiment.loading import load
from simgpu.study.experiment.resolver import Resolver
from simgpu.study.sweep import identity, store
from simgpu.study.sweep.identity import Identities
from simgpu.study.sweep.store import Finished, Store

# ---- keys --------------------------------------------------------------------------------------------


def keys_of(tmp_path, *texts, catalogue=None):
    identities = Identities(Resolver(catalogue or Catalogue()))
    found = []
    for text in texts:
        (tmp_path / "e.yaml").write_text(text)
        _, _, cases = load(tmp_path / "e.yaml", (), catalogue or Catalogue())
        found += [(identities.of(case.scenario, case.origins).key, case) for case in cases]
    return found


TRAINING = "scenario: {cluster: dgx-h100, model: llama-3.2-1b, workload: {kind: training, batch: 8, tokens: 512}%s}\n"
SERVING = "scenario: {cluster: dgx-h100, model: %s, workload: {kind: inference, batch: 8, prompt: 64, output: 8%s}%s}\n"

SAME = {
    "nested and dotted": (
        TRAINING % ", plan: {dp: 2}",
        "scenario:\n  model: llama-3.2-1b\n  plan.dp: 2\n  workload.kind: training\n  workload.tokens: 512\n"
        "  workload.batch: 8\n  cluster: dgx-h100\n",
    ),
    "defaults": (
        TRAINING % "",
        TRAINING.replace("tokens: 512", "tokens: 512, weights: bf16, master_weights: true, gradients: fp32, clip: true")
        % ", dtype: bf16, accumulate: fp32, clocks: sustained, plan: {micro_batch: 8, schedule: 1f1b, tp: 1}",
    ),
    "shards": (TRAINING % ", plan: {dp: 4, zero: 3}", TRAINING % ", plan: {dp: 4, zero: 3, shard: 4, micro_batch: 2}"),
    "fp8": (TRAINING % ", dtype: fp8", TRAINING.replace("512", "512, fp8_scaling: delayed") % ", dtype: fp8"),
    "units": (
        TRAINING % ", gpu.memory.bandwidth: 3 TB/s",
        TRAINING % ", hardware: {gpu.memory.bandwidth: 3000 GB/s}",
    ),
    "figures of the catalogue": (TRAINING % "", TRAINING % ", gpu.memory.bandwidth: 3.35 TB/s"),
    "inference": (
        SERVING % ("llama-3.2-1b", "", ""),
        SERVING % ("llama-3.2-1b", ", precision: bf16, kv_cache: bf16, runtime: vllm", ", clocks: burst"),
    ),
    "experts": (
        SERVING % ("gpt-oss-20b", "", ""),
        SERVING % ("gpt-oss-20b", ", routing: popularity_3, offload: 0", ", plan: {tp: 1}"),
    ),
    "ids": (SERVING % ("llama-3.2-1b", "", ""), SERVING % ("meta-llama/Llama-3.2-1B", "", "")),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_in_other_words_has_the_same_key_and_result(tmp_path, name):
    (key, case), (other, another) = keys_of(tmp_path, *SAME[name])
    assert key == other
    rows = [run_scenario(one.scenario, Catalogue(), one.origins).row for one in (case, another)]
    assert rows[0] == rows[1], "one key must mean one result"


@pytest.mark.parametrize("change", [
    ", dtype: fp16", ", plan: {dp: 2}", ", plan: {micro_batch: 4}", ", gpu.memory.bandwidth: 3 TB/s", ", clocks: burst",
    ", gpu.kernel.launch_overhead: 9 us", ", link.nvlink-4.latency: 1 us", ", framework: pytorch-eager",
    ", require_fit: true", ", node.inter_socket.lanes: 2",
])  # fmt: skip
def test_another_scenario_has_another_key(tmp_path, change):
    (key, _), (other, _) = keys_of(tmp_path, TRAINING % "", TRAINING % change)
    assert key != other


def test_a_figure_of_the_catalogue_changes_the_key_its_title_does_not(tmp_path):
    text = "scenario: {cluster: h100-sxm, model: llama-3.2-1b, workload: {kind: prefill, tokens: 64}}\n"
    file = Catalogue().find("gpus", "h100-sxm")
    own = tmp_path / "own" / "gpus" / "h100-sxm.yaml"
    own.parent.mkdir(parents=True)
    found = []
    for old, new in (("", ""), ("title: ", "title: My "), ("value: 3.35", "value: 3.36")):
        changed = file.read_text().replace(old, new, 1)
        assert changed != file.read_text() or not old
        own.write_text(changed)
        found.append(keys_of(tmp_path, text, catalogue=Catalogue(tmp_path / "own"))[0][0])
    assert found[0] == keys_of(tmp_path, text)[0][0] == found[1]
    assert found[2] != found[0]


def test_a_version_and_other_code_change_the_key(tmp_path, monkeypatch):
    ((key, _),) = keys_of(tmp_path, TRAINING % "")
    monkeypatch.setattr(identity, "__version__", "9.9")
    ((other, _),) = keys_of(tmp_path, TRAINING % "")
    monkeypatch.setattr(identity, "code_digest", lambda: "another")
    ((third, _),) = keys_of(tmp_path, TRAINING % "")
    assert len({key, other, third}) == 3


# ---- keeping -----------------------------------------------------------------------------------------

PROVENANCE = {"experiment": "e", "file": "e.yaml", "simgpu": "0", "code": "c"}


def finished(key, status="ok", **row):
    reason = None if status == "ok" else "it did not work"
    return Finished(key, status, row or None, reason, {"asked": key}, {}, "2026", "2026", 0.1, "here", "3")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "deep" / "store.sqlite"


def test_what_is_finished_is_written_once_and_failures_give_way(file):
    with Store(file) as one:
        assert one.keep([finished("a", step_s=1.0), finished("b", "failed")], PROVENANCE) == 2
        assert one.keep([finished("a", step_s=2.0)], PROVENANCE) == 0
        assert one.statuses(["a", "b", "c"]) == {"a": "ok", "b": "failed"}
        assert one.keep([finished("b", step_s=3.0)], PROVENANCE) == 1
        assert one.keep([finished("b", "failed")], PROVENANCE) == 0, "what succeeded stays"
        assert one.scenario("a")[0]["row"] == {"step_s": 1.0}


def test_a_scenario_belongs_to_many_sweeps_under_its_labels_there(file):
    with Store(file) as one:
        one.keep([finished("a", step_s=1.0), finished("b", step_s=2.0)], PROVENANCE)
        first = one.begin("first", "f", "text", [], [("a", {"box": "x"}), ("b", {"box": "y"})], {})
        second = one.begin("second", "g", "text", [], [("b", {"n": 1}), ("a", {"n": 2}), ("c", {"n": 3})], {})
        assert [point.whole_row for point in one.members(first)] == [
            {"box": "x", "step_s": 1.0}, {"box": "y", "step_s": 2.0},
        ]  # fmt: skip
        assert [point.whole_row for point in one.members(second)] == [{"n": 1, "step_s": 2.0}, {"n": 2, "step_s": 1.0}]
        assert one.begin("first", "f", "text", [], [("a", {"box": "x"})], {}) == first, "again is the same"
        other = one.begin("first", "f", "text", ["plan.tp=2"], [("b", {"box": "z"})], {})
        assert [point.key for point in one.members(experiment="first")] == ["a", "b"], "settings stand side by side"
        one.begin("first", "f", "edited", [], [("b", {"box": "w"})], {})
        assert [point.labels for point in one.members(experiment="first")] == [{"box": "w"}], "as the file last was"
        assert other != first


def test_a_store_that_another_makes_at_this_moment_is_waited_for(file):
    file.parent.mkdir()
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA user_version = 0")
        other.execute("BEGIN IMMEDIATE")  # SQLite itself would not wait for this one
        other.execute(f"PRAGMA application_id = {store.APPLICATION}")
        later = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        later.start()
        with Store(file) as one:
            assert one.keep([finished("a", step_s=1.0)], PROVENANCE) == 1
        later.join()


def test_a_full_disk_is_one_line_and_loses_nothing(file):
    with Store(file) as one:
        one.keep([finished("a", step_s=1.0)], PROVENANCE)
        pages = one._db.execute("PRAGMA page_count").fetchone()[0]
        one._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        many = [finished(f"k{n}", text="x" * 2000) for n in range(20)]
        with pytest.raises(InputError, match=r"store\.sqlite: cannot be written: the disk is full"):
            one.keep(many, PROVENANCE)
        assert one.statuses(["a", "k0", "k19"]) == {"a": "ok"}, "all of a group or nothing"
        one._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
        assert one.keep(many, PROVENANCE) == 20


def test_reading_works_where_nothing_can_be_written(file, monkeypatch):
    with Store(file) as one:
        one.keep([finished("a", step_s=1.0)], PROVENANCE)
    before = sqlite3.connect

    def refusing(database, *args, **options):
        if "mode=ro" in str(database):
            raise sqlite3.OperationalError("unable to open database file")
        return before(database, *args, **options)

    monkeypatch.setattr(sqlite3, "connect", refusing)
    with Store(file, create=False) as one:
        assert one.statuses(["a"]) == {"a": "ok"}
        with pytest.raises(InputError, match="cannot be written"):
            one.keep([finished("b")], PROVENANCE)


def bad_text(file):
    file.write_text("hello, I am a text\n")


def bad_foreign(file):
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE birds (name TEXT)")


def bad_newer(file):
    Store(file).close()
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {store.VERSION + 1}")


def bad_damaged(file):
    with Store(file) as one:
        members = [(f"k{n}", {"n": n}) for n in range(2000)]
        one.begin("e", "f", "t", [], members, {})
        one.keep([finished(key, text="x" * 50) for key, _ in members], PROVENANCE)
    raw = bytearray(file.read_bytes())
    raw[4096:-4096] = b"\x55" * (len(raw) - 8192)
    file.write_bytes(raw)


def bad_letters(file):
    Store(file).close()
    raw = file.read_bytes()
    assert b"CREATE TABLE parts" in raw
    file.write_bytes(raw.replace(b"CREATE TABLE parts", b"CREATE TABLE\xa0parts"))


BAD = {
    bad_text: "is not a simgpu results store (not an SQLite database)",
    bad_foreign: "is an SQLite database, but not a simgpu results store",
    bad_newer: "is a store of a newer simgpu (version 2, this one reads 1); upgrade",
    bad_damaged: "is damaged; move it away",
    bad_letters: "is damaged; move it away",
    Path.mkdir: "is a folder, expected a file for the store",
    os.mkfifo: "is a pipe, expected a file for the store",
}
SMALL = """\
scenario:
  cluster: h100-sxm
  workload: {kind: operators, operators: [{op: matmul, m: 64, n: 64, k: 64}]}
"""


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["sweep", "results"])
def test_what_is_no_store_is_one_line_and_left_alone(make, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(SMALL)
    make(Path("s.sqlite"))
    before = Path("s.sqlite").read_bytes() if Path("s.sqlite").is_file() else b""
    arguments = ["sweep", "e.yaml"] if command == "sweep" else ["results"]
    result = CliRunner().invoke(main, [*arguments, "--store", "s.sqlite"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("simgpu: s.sqlite: "), result.stderr
    assert BAD[make] in result.stderr
    assert not Path("s.sqlite").is_file() or Path("s.sqlite").read_bytes() == before


NOT_WRITTEN_BY_SIMGPU = [
    *("[1]", "5", "NaN", "null", "", "{", '"x"', "1" + "0" * 400, "[" * 5000 + "]" * 5000),
    *(f'{{"step_s": {value}}}' for value in ("NaN", "1e999", "1" + "0" * 400, "1" + "0" * 5000)),
    *('{"\\ud800": 1}', b"\xff", b"abc"),
]
"""What a column of JSON could hold after an accident."""
NOT_A_ROW = (
    *('{"step_s": [1]}', '{"step_s": {"a": 1}}', '{"step_s": -1}'),
    '{"step_s_p10": 2, "step_s": 1.5, "step_s_p90": 1}',
)
HELD = {"row": "scenarios", "asked": "scenarios", "parts": "scenarios", "labels": "members", "content": "parts"}


@pytest.mark.parametrize("column", [*HELD, "seconds", "host"])
def test_what_simgpu_would_not_have_written_is_damage(swept, column):
    """Told in one line by whoever reads it."""
    key, table = simgpu.results().rows[0]["key"], HELD.get(column, "scenarios")
    values = {"seconds": [b"abc", float("inf")], "host": [b"abc"]}.get(column, NOT_WRITTEN_BY_SIMGPU)
    values = [*values, *NOT_A_ROW] if column == "row" else values
    for n, value in enumerate(values):
        with closing(sqlite3.connect("mine.sqlite")) as db:
            db.execute(f"UPDATE {table} SET {column} = ?", (value,))
            db.commit()
        arguments = [key] if column in ("asked", "parts", "content") or n % 2 else ["--status", "all"]
        result = CliRunner().invoke(main, ["results", *arguments])
        assert result.exit_code == 2, (value, arguments)
        assert result.stderr.count("\n") == 1 and "mine.sqlite: is damaged (" in result.stderr, result.stderr


@pytest.mark.parametrize(("arguments", "problem"), [
    (["sweep", "e.yaml", "--store", "e.yaml/s.sqlite"], "e.yaml/s.sqlite: cannot be read as a store (Not a directory)"),
    (["results", "--store", "none.sqlite"], "none.sqlite: no such store; `simgpu sweep FILE` makes one"),
    (["results", "--where", "step_ss > 1"], "--where: unknown name 'step_ss'; did you mean 'step_s'"),
    (["results", "--where", "step_s +"], "--where: 'step_s +' is not understood"),
    (["results", "--experiment", "f"], "no experiment 'f' in the store; expected one of e"),
    (["results", "--sort", "step"], "--sort: no column 'step' in the rows"),
    (["results", "--columns", "gpus,stepp"], "--columns: no column 'stepp' in the rows"),
    (["results", "--export", "x.xlsx"], "--export: 'x.xlsx' ends with none of .csv, .parquet, .json"),
    (["results", "--export", "e.yaml/x.csv"], "e.yaml/x.csv: cannot be written"),
    (["results", "zz"], "'zz': no such scenario"),
    (["sweep", "e.yaml", "--jobs", "0"], "--jobs: 0 is not a whole number above zero"),
    (["sweep", "e.yaml", "--jobs", "2", "--dask-workers", "2"], "--jobs and --dask-workers exclude each other"),
    (["sweep", "e.yaml", "--scheduler", "here"], "--scheduler: 'here' is not the address of a scheduler"),
])  # fmt: skip
def test_a_wrong_call_is_one_line(arguments, problem, swept):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and problem in result.stderr, result.stderr


# ---- results -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A sweep and its store, made once; each test that asks for `swept` has a copy of its own."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("e.yaml").write_text(
            SMALL + "vary: {workload.repeat: [1, 2, 4, 0], gpu.memory.bandwidth: [1 TB/s, 3 TB/s]}\n"
        )
        return folder, simgpu.sweep("e.yaml", store="mine.sqlite", jobs=1)


@pytest.fixture
def swept(once, tmp_path, monkeypatch):
    folder, done = once
    for name in ("e.yaml", "mine.sqlite"):
        shutil.copy(folder / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMGPU_STORE", str(tmp_path / "mine.sqlite"))
    return done


def test_results_are_filtered_sorted_and_a_frame_in_one_line(swept):
    frame = simgpu.results(
        where="workload.repeat >= 2 and gpu.memory.bandwidth == '1 TB/s'", sort="-step_s"
    ).to_pandas()
    assert list(frame["workload.repeat"]) == [4, 2]
    assert frame["step_s"].is_monotonic_decreasing
    assert len(simgpu.results()) == 6
    assert {row["reason"] for row in simgpu.results(status="failed").rows} == {
        "e.yaml:4: workload.repeat: 0: input should be greater than 0"
    }
    assert len(simgpu.results(status="all").rows) == 8
    assert swept.to_pandas().shape[0] == 6


def test_exports_hold_what_the_store_holds(swept):
    rows = simgpu.results().rows
    for name in ("x.csv", "x.json", "x.parquet"):
        result = CliRunner().invoke(main, ["results", "--export", name])
        assert result.exit_code == 0 and f"written (6 rows): {name}" in result.stderr
    assert json.loads(Path("x.json").read_text()) == rows
    for frame in (pandas.read_parquet("x.parquet"), pandas.read_csv("x.csv")):
        assert list(frame.columns) == list(rows[0])
        assert list(frame["step_s"]) == [row["step_s"] for row in rows]


def test_everything_of_one_scenario_can_be_had_back(swept):
    key = simgpu.results(where="workload.repeat == 4").rows[1]["key"]
    result = CliRunner().invoke(main, ["results", key[:8]])
    one = json.loads(result.stdout)
    assert one["status"] == "ok" and one["row"]["step_s"] > 0
    assert one["scenario"]["workload"]["repeat"] == 4 and one["scenario"]["cluster"] == "h100-sxm"
    assert one["scenario"]["hardware"] == {"gpu.memory.bandwidth": "3 TB/s"}
    assert one["parts"]["gpu"]["memory"]["bandwidth"] == {"value": 3e12, "unit": "B/s", "source": "e.yaml:4"}
    assert one["parts"]["constants"]["gemm.default.wave_latency"]["source"]
    assert one["simgpu"] == simgpu.__version__ and one["host"] and one["started"] <= one["finished"]
    assert one["members"][0]["experiment"] == "e"


def test_the_table_lists_rows_and_experiments(swept):
    result = CliRunner().invoke(main, ["results", "--columns", "workload.repeat,step_s", "--limit", "2"])
    assert len([line for line in result.stdout.splitlines() if line.strip()]) == 5  # title, line, two rows, the note
    assert "e: 8 scenarios, 6 ok, 2 failed" in result.stderr
    failed = CliRunner().invoke(main, ["results", "--status", "failed"])
    assert "input should be greater than 0" in failed.stdout


def test_a_task_of_another_catalogue_is_not_run(tmp_path):
    from simgpu.study.sweep.work import FOREIGN, Bench, Setup, Task

    ((key, case),) = keys_of(tmp_path, TRAINING % "")
    task = Task(key, case.scenario, case.origins)
    assert Bench(Setup()).run(task).status == "ok"
    assert Bench(Setup()).run(replace(task, key="0" * 64)).status == FOREIGN
