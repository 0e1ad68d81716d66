"""Recorded steps, played again: as they were, elsewhere, and what a change may not do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from traces_by_hand import BF16, H100, Trace, step

from simgpu.cli import main
from simgpu.lab.replay.changes import Changes, UnclearError
from simgpu.lab.replay.flow import graph_of, launch_delay, length
from simgpu.lab.traces.records import COLLECTIVE, OPERATOR, Ran, Record

EXPERIMENT = """
experiment: own
scenario:
  dtype: bf16
  cluster: dgx-h100
  plan: {tp: 2}
  workload:
    kind: operators
    operators:
      - {op: matmul, name: gemm, m: 8192, n: 8192, k: 8192, split: k}
      - {op: all_reduce, name: sum, bytes: 134217728}
      - {op: attention, name: att, batch: 2, queries: 4096, heads: 32, head_dim: 128, split: heads}
"""


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)))


def played(*arguments: object) -> dict[str, Any]:
    done = run("replay", *arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return step().write(tmp_path / "step.json")


# ---- the graph -------------------------------------------------------------------------------------------

runs_of_kernels = st.lists(
    st.tuples(
        st.floats(0, 1), st.floats(1e-6, 0.1), st.sampled_from("abc"), st.floats(0, 1) | st.none(), st.booleans()
    ),
    min_size=1,
    max_size=25,
)


def records(rows: list[tuple[Any, ...]]) -> list[Record]:
    return [
        Record("x", COLLECTIVE if collective else OPERATOR, seconds,
               ran=(Ran(start, seconds, stream, None if host is None else host * start),))
        for start, seconds, stream, host, collective in rows
    ]  # fmt: skip


@given(runs_of_kernels, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.2)), max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_step_with_its_own_times_is_the_recorded_step(rows, waits) -> None:
    """Whatever a trace says, kernels that overlap on one stream included."""
    found = records(rows)
    graph = graph_of(found, sorted((start, start + more) for start, more in waits))
    for node, ran in zip(graph.nodes, graph.play([1.0] * len(found)), strict=True):
        assert ran.start + graph.begin == pytest.approx(node.ran.start, abs=1e-9)
        assert ran.seconds == node.ran.seconds


def kernels(*rows: tuple[float, float, float | None], stream: str = "a") -> list[Record]:
    return [Record("x", OPERATOR, seconds, ran=(Ran(start, seconds, stream, host),)) for start, seconds, host in rows]


def test_gaps_of_the_host_stay_and_hide_behind_slower_kernels() -> None:
    """Launches come every 10 ms: kernels of 1 ms take 10 ms each, kernels of 20 ms wait for one another."""
    graph = graph_of(kernels(*((0.01 * i + 1e-5, 1e-3, 0.01 * i) for i in range(10))), [])
    assert length(graph.play([0.5] * 10)) == pytest.approx(0.09 + 0.5e-3)
    slow = graph.play([20.0] * 10)
    assert length(slow) == pytest.approx(10 * 0.02, rel=1e-3)
    assert sum(ran.seconds for ran in slow) == pytest.approx(10 * 0.02)


def test_a_host_that_waits_for_the_gpu_waits_longer_for_a_slower_one() -> None:
    """Launch, wait for the end, 2 ms on the host, launch again."""
    graph = graph_of(kernels((0.0, 0.010, 0.0), (0.012, 0.010, 0.012)), [(0.001, 0.010)])
    for factor in (0.5, 1.0, 3.0):
        assert length(graph.play([factor] * 2)) == pytest.approx(0.02 * factor + 0.002)


def test_a_collective_hides_behind_kernels_that_do_not_wait_for_it() -> None:
    compute = kernels((0.0, 0.010, 0.0), (0.010, 0.010, 0.001))
    beside = Record("all_reduce", COLLECTIVE, 0.005, ran=(Ran(0.0100, 0.005, "nccl", 0.0005),))
    graph = graph_of([*compute, beside], [])
    assert length(graph.play([1, 1, 1.9])) == pytest.approx(0.020)
    assert length(graph.play([1, 1, 4])) == pytest.approx(0.030)
    assert length(graph.play([2, 1, 1])) == pytest.approx(0.030)  # it still starts after the first


# ---- the command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_the_same_scale_returns_the_measured_time(recorded: Path, packed: bool) -> None:
    if packed:
        recorded = recorded.with_suffix(".json.gz")
        recorded.write_bytes(gzip.compress(recorded.with_suffix("").read_bytes()))
    found = played(recorded)
    assert found["predicted_s"] == pytest.approx(found["measured_s"], rel=1e-12)
    assert found["predicted_s_p10"] == found["predicted_s"] == found["predicted_s_p90"] and not found["kept"]
    last = max(event["ts"] + event["dur"] for event in step().events if event["cat"] == "kernel")
    first = min(event["ts"] for event in step().events if event["cat"] == "kernel")
    assert found["measured_s"] == pytest.approx(1e-6 * (last - first))


@pytest.mark.parametrize("target", ["dgx-b200", "dgx-a100", "dgx-h100"])
def test_our_own_traces_rescaled_return_our_own_prediction(tmp_path: Path, target: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(EXPERIMENT)
    for name in ("dgx-h100", target):
        assert run("trace", "write", file, "-o", tmp_path / f"{name}.json", "--set", f"cluster={name}").exit_code == 0
    there = played(tmp_path / "dgx-h100.json", "--cluster", "dgx-h100", "--to-cluster", target)
    own = played(tmp_path / f"{target}.json", "--cluster", target)
    assert there["predicted_s"] == pytest.approx(own["measured_s"], rel=1e-6)
    assert not there["kept"]


def test_there_and_back_is_where_it_was(recorded: Path) -> None:
    there = {row["operator"]: row for row in played(recorded, "--to-gpu", "b200-sxm")["operators"]}
    back = played(recorded, "--gpu", "b200-sxm", "--to-gpu", "h100-sxm")["operators"]
    assert {row["operator"] for row in back} == set(there)
    for row in back:
        assert row["factor"] * there[row["operator"]]["factor"] == pytest.approx(1)


def test_what_has_no_model_keeps_its_time_and_is_named(recorded: Path) -> None:
    found = played(recorded, "--to-gpu", "b200-sxm")
    kept = {one["operator"]: one for one in found["kept"]}
    assert set(kept) == {"all_reduce", "lonely", "aten::magic", "Memcpy HtoD"}
    whole = 3 * 870 + 900 + 80 + 90 + 5 + 3 + 7 + 200
    assert kept["all_reduce"]["share"] == pytest.approx(200 / whole) and "--to-cluster" in kept["all_reduce"]["why"]
    rows = {row["operator"]: row for row in found["operators"]}
    assert rows["lonely"]["predicted_s"] == rows["lonely"]["measured_s"]
    assert "5.5 % of the time of kernels is kept" in run("replay", recorded, "--to-gpu", "b200-sxm").stdout
    links = played(recorded, "--cluster", "dgx-h100", "--to-cluster", "dgx-b200")
    assert {one["operator"] for one in links["kept"]} == {"lonely", "aten::magic", "Memcpy HtoD"}


def test_errors_that_both_predictions_have_cancel(recorded: Path) -> None:
    """On one GPU the ratio is surer than between two; and surer than either prediction."""
    here = {row["operator"]: row for row in played(recorded, "--set", "dtype=fp16")["operators"]}["aten::mm"]
    there = {row["operator"]: row for row in played(recorded, "--to-gpu", "b200-sxm")["operators"]}["aten::mm"]
    wide = [row["factor_p90"] / row["factor_p10"] for row in (here, there)]
    assert 1 < wide[0] < wide[1]


def test_a_larger_batch_of_longer_sequences_takes_longer(tmp_path: Path) -> None:
    trace = Trace(H100)
    trace.operator("aten::mm", [[8192, 1024], [1024, 3072]], [BF16, BF16], ("nvjet", 100.0))
    trace.operator("aten::mm", [[1024, 8192], [8192, 3072]], [BF16, BF16], ("nvjet", 100.0))
    trace.operator("aten::mm", [[8192, 1024], [1024, 8192]], [BF16, BF16], ("nvjet", 100.0))
    shape = [2, 16, 4096, 64]
    flash = ("aten::_scaled_dot_product_flash_attention", [shape] * 3, [BF16] * 3)
    trace.operator("aten::_flash_attention_forward", [shape] * 3, [BF16] * 3, ("flash", 900.0), around=[flash])
    trace.operator("aten::add_", [[1024, 1024], [1024, 1024]], [BF16, BF16], ("add", 5.0))
    file = trace.write(tmp_path / "a.json")

    def factors(*changes: str) -> list[float]:
        sets = [part for change in changes for part in ("--set", change)]
        rows = played(file, *sets)["operators"]
        order = ["8192x1024 1024x3072", "1024x8192 8192x3072", "8192x1024 1024x8192"]
        products = {row["shape"]: row["factor"] for row in rows if row["operator"] == "aten::mm"}
        rest = {row["operator"]: row["factor"] for row in rows}
        attention = next(value for name, value in rest.items() if "attention" in name)
        return [*(products[one] for one in order), attention, rest["aten::add_"]]

    batch = factors("batch=2:4", "tokens=4096:4096")
    assert batch[:2] == pytest.approx([2, 2], rel=0.15) and batch[3] == pytest.approx(2, rel=0.1)
    assert batch[4] == 1  # weights do not grow
    longer = factors("batch=2:2", "tokens=4096:8192")
    assert longer[:2] == pytest.approx([2, 2], rel=0.15) and longer[3] == pytest.approx(4, rel=0.15)
    assert factors("batch=2:2", "tokens=4096:4096") == [1] * 5


def test_a_size_that_may_mean_two_things_is_left(tmp_path: Path) -> None:
    changes = Changes(batch=(2, 4), tokens=(2048, 2048))
    square = Record("aten::mm", OPERATOR, 1.0, [[4096, 4096], [4096, 1024]], [BF16, BF16])
    with pytest.raises(UnclearError, match="4096 is its size in both directions"):
        changes.operators(square)


def test_both_timelines_are_written(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.json"
    assert run("replay", recorded, "--to-gpu", "b200-sxm", "-o", out).exit_code == 0
    events = [one for one in json.loads(out.read_text())["traceEvents"] if one["ph"] == "X"]
    before, after = ([one for one in events if one["pid"] == pid] for pid in (0, 1))
    assert [one["name"] for one in before] == [one["name"] for one in after]
    assert all(two["dur"] == pytest.approx(one["dur"] * two["args"]["factor"])
               for one, two in zip(before, after, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--to-gpu", "b200"], "--to-gpu: unknown GPU 'b200'"),
        (["--gpu", "h100-sxm", "--cluster", "dgx-h100"], "--gpu: --gpu and --cluster contradict"),
        (["--to-gpu", "h100-sxm", "--to-cluster", "dgx-h100"], "contradict each other"),
        (["--set", "batch=4"], "--set: batch: '4'; expected what it was and what is asked"),
        (["--set", "batch=0:4"], "expected what it was"),
        (["--set", "batc=1:4"], "unknown key 'batc'; did you mean 'batch'?"),
        (["--set", "dtype=bf61"], "did you mean 'bf16'?"),
        (["--set", "gpu.memory.bandwith=2x"], "did you mean 'bandwidth'?"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    recorded: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    done = run("replay", recorded, *more, "-o", tmp_path / "out.json")
    assert done.exit_code == 2 and said in done.stderr, done.output
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out.json").exists()


def test_traces_that_cannot_be_played_are_refused(recorded: Path, tmp_path: Path) -> None:
    whole = gzip.compress(recorded.read_bytes())
    (tmp_path / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    data = step().data()
    data["traceEvents"] += [{**one, "args": {**one["args"], "device": 1}}
                            for one in data["traceEvents"] if one["cat"] == "kernel"]  # fmt: skip
    (tmp_path / "mixed.json").write_text(json.dumps(data))
    inputs = {"shapes": [[8, 8], [8, 8]], "types": [], "values": []}
    nodes = {"schema": "1.1.1-chakra.0.0.4", "nodes": [{"id": 1, "name": "aten::mm", "inputs": inputs}]}
    (tmp_path / "nodes.json").write_text(json.dumps(nodes))
    args = {"segment": "s", "kind": "matmul", "bound": "x", "operator": {"type": "Matmul", "m": -1}}
    own = {"ph": "X", "name": "g", "cat": "compute", "pid": 0, "tid": 0, "ts": 0, "dur": 1, "args": args}
    (tmp_path / "own.json").write_text(json.dumps({"traceEvents": [own]}))
    data = step().data()
    data["traceEvents"] += [{**one, "pid": 2} for one in data["traceEvents"] if one["cat"] == "cuda_runtime"]
    (tmp_path / "ranks.json").write_text(json.dumps(data))
    for name, said in (
        ("ranks.json", "launches of several processes (1 and 2)"),
        ("cut.json.gz", "is cut off"),
        ("mixed.json", "kernels of 2 GPUs"),
        ("nodes.json", "has no times"),
        ("own.json", "damaged"),
        ("none.json", "none.json"),
    ):
        done = run("replay", tmp_path / name, "--gpu", "h100-sxm")
        assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.output


def test_a_clock_that_jumps_leaves_the_launch_out(recorded: Path) -> None:
    data = json.loads(recorded.read_text())
    for event in data["traceEvents"]:
        if event["cat"] == "cuda_runtime":
            event["ts"] += 1e9
            event["args"] = dict(event["args"])
    recorded.write_text(json.dumps(data))
    found = played(recorded)
    assert found["predicted_s"] == pytest.approx(found["measured_s"], rel=1e-12)


def test_the_trace_says_how_long_a_launch_takes() -> None:
    """A kernel on a second stream waits for the first where it could have run before, and for its launch elsewhere."""
    first = kernels((0.000008, 0.010, 0.0), (0.020008, 0.010, 0.020))
    assert launch_delay([record.ran[0] for record in first]) == pytest.approx(8e-6)
    held = kernels((0.010011, 0.001, 0.005), stream="b")  # launched long ago: the first kernel held it
    launched = kernels((0.030015, 0.001, 0.030007), stream="b")  # 8 us after its launch
    graph = graph_of([*first, *held, *launched], [])
    assert [node.after for node in graph.nodes] == [(), (0,), (0,), (1,)]


def test_nothing_is_told_where_nothing_was_launched_onto_an_idle_gpu() -> None:
    assert launch_delay([]) == 0
    assert launch_delay([Ran(0.0, 1.0, "a"), Ran(1.0, 1.0, "a", 0.5)]) == 0
