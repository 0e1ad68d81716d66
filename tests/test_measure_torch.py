"""`simgpu measure` through PyTorch's calls, on a stand-in with a clock of its own (`fake_torch`)."""

import csv
import io
import os

import pytest
from fake_torch import COST, OutOfMemoryError, install

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.lab.measurement import command, ranks, torch_backend
from simgpu.lab.measurement.backend import MeasurementError, Operation
from simgpu.lab.measurement.operations import plan
from simgpu.lab.measurement.torch_backend import TorchBackend

CATALOGUE = Catalogue()


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(torch_backend, "PAUSE_S", 0.0)
    monkeypatch.setattr(torch_backend, "SUSTAIN_S", 0.0)
    return install(monkeypatch)


def test_rows_have_the_time_of_one_execution(machine, tmp_path):
    out, messages = tmp_path / "rows.csv", io.StringIO()
    outcome = command.run(CATALOGUE, out, command.MeasureOptions(quick=True), False, messages)
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    assert outcome.measured == len(rows) > 10 and not outcome.failed
    cost = {"gemm": "mm", "attention": "attention"}
    for row in rows:
        name = cost.get(row["what"], "copy_" if row["op"] == "copy" else "sum")
        assert float(row["latency_s"]) == pytest.approx(COST[name], rel=1e-6)
        assert (row["gpu"], row["device"], row["tool"]) == ("l40s", "NVIDIA L40S", "torch 0.fake, CUDA 0.1")
    assert f"measured: {len(rows)} rows: {out}" in messages.getvalue()
    assert f"next: simgpu calibrate {out} --gpu l40s" in messages.getvalue()
    again = io.StringIO()
    command.run(CATALOGUE, out, command.MeasureOptions(quick=True), False, again)
    assert f"measured: 0 rows, {len(rows)} were there" in again.getvalue()


def test_sustained_products_are_timed_after_a_run(machine):
    backend = TorchBackend()
    (operation,) = plan(backend.device(), ["gemm"], ["bfloat16"], quick=True, sustained=True)[:1]
    assert operation.word("regime") == "sustained"
    assert backend.run(operation) == pytest.approx(COST["mm"])
    assert backend.run(operation) == pytest.approx(COST["mm"])  # kept ready: no second graph
    assert machine.calls.count("mm") == torch_backend.WARM_UP + max(operation.number("rotation"), torch_backend.CALLS)


def test_what_fails_is_told_and_the_others_go_on(machine, tmp_path):
    machine.fails = {"attention": OutOfMemoryError("too much"), "sum": RuntimeError("no kernel\nfor this")}
    messages = io.StringIO()
    outcome = command.run(CATALOGUE, tmp_path / "rows.csv", command.MeasureOptions(quick=True), False, messages)
    assert outcome.measured and {reason for _, reason in outcome.failed} == {"out of GPU memory", "no kernel"}
    assert "not measured: stream op=read" in messages.getvalue()


def test_chunks_and_unknown_operations_are_refused(machine):
    backend = TorchBackend()
    shape = {"attn_dtype": "float16", "batch_size": 1, "num_heads": 4, "num_kv_heads": 4, "head_dim": 64}
    for operation, problem in (
        (Operation("attention", shape | {"q_len": 8, "past_kv_len": 8}), "aligns the causal mask"),
        (Operation("sorting", {}), "is nothing that this can measure"),
    ):
        with pytest.raises(MeasurementError, match=problem):
            backend.run(operation)


def test_torch_without_its_libraries_is_one_line(monkeypatch):
    def broken(name):
        raise OSError("libcudart.so is missing")

    monkeypatch.setattr(torch_backend, "import_module", broken)
    with pytest.raises(InputError, match="does not load"):
        TorchBackend()


# ---- several GPUs ------------------------------------------------------------------------------------


def test_ranks_run_a_collective_together_and_take_as_long_as_the_slowest(monkeypatch, tmp_path):
    monkeypatch.setattr(ranks, "MOST", 5)
    machine = install(monkeypatch, gpus=2)
    backend = TorchBackend()
    operations = plan(backend.device(), ["nccl"], ["bfloat16"])
    by_kind = {operation.word("collective"): operation for operation in operations}
    assert len(by_kind) == 4
    for operation in by_kind.values():
        # both ranks are on one clock, so each sees its own calls and at most those of the other
        assert COST["collective"] * 0.5 <= backend.run(operation) <= COST["collective"] * 3
    assert machine.calls.count("collective") > 8
    with pytest.raises(MeasurementError, match="unknown collective 'gossip'"):
        backend.run(Operation("nccl", {"collective": "gossip", "num_gpus": 2, "message_bytes": 1024}))
    backend.close()
    backend.close()


def test_ranks_that_end_or_are_stuck_are_told(monkeypatch):
    install(monkeypatch, gpus=1)
    monkeypatch.setattr(ranks, "PATIENCE_S", 0.05)
    stuck = ranks.Ranks(1, "gloo")
    monkeypatch.setattr(ranks, "_timed", lambda *_: ranks.time.sleep(0.5))
    with pytest.raises(MeasurementError, match="no answer from a rank"):
        stuck.run("all_reduce", 1024)
    ended = ranks.Ranks(1, "gloo")
    ended._pipes[0].close()  # as a process that died
    ended._pipes[0] = ended._pipes[0].__class__(os.open(os.devnull, os.O_RDWR))
    with pytest.raises(MeasurementError, match="a rank ended"):
        ended.run("all_reduce", 1024)


def test_a_mean_on_processors_is_of_the_calls_asked_for():
    calls = []
    distributed = type("distributed", (), {"barrier": staticmethod(lambda: None)})
    assert ranks._mean(None, distributed, "cpu", lambda: calls.append(1), 4) >= 0 and len(calls) == 4
