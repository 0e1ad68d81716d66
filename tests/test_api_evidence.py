"""Calls about real machines answer what the commands of their names print in JSON."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.cli import main
from simgpu.lab.nccl_tests import predict

STUDY = """
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100-ib
  workload: {kind: training, batch: 16, tokens: 128}
  plan: {dp: 16, zero: 1}
"""
H100 = simgpu.load_cluster("dgx-h100")


def printed(*words):
    done = CliRunner().invoke(main, [*map(str, words), "--format", "json"])
    assert done.exit_code in (0, 1), done.output
    return json.loads(done.stdout)


def same(told, document):
    assert json.loads(json.dumps(told.document, default=str)) == document
    assert len(told.to_pandas()) == len(told.rows) > 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY)
    lines = ["# nThread 1 nGpus 8", "# Collective test starting: all_reduce_perf"]
    lines += [f"#  Rank {rank:2d} Group  0 Pid 1 on a device {rank:2d} [0x1b] NVIDIA H100" for rank in range(8)]
    lines.append("#       size         count      type   redop    root     time   algbw   busbw #wrong")
    for row in predict(H100, "all_reduce", 8, [2**10, 2**30]):
        slow = 3 * row.time_s
        block = f"{slow * 1e6:.2f} {row.size / slow / 1e9:.2f} {row.busbw / 3e9:.2f} 0"
        lines.append(f"{row.size:12d} {row.count:12d} float {row.redop} {row.root} {block} {block}")
    Path("nccl.log").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_logs_and_a_new_machine(folder):
    same(simgpu.observe("nccl.log"), printed("observe", "nccl.log"))
    held = simgpu.accept("dgx-h100", logs="nccl.log", page="vendor.md")
    same(held, printed("accept", "dgx-h100", "--log", "nccl.log"))
    assert held.document["below"] and Path("vendor.md").read_text()
    with pytest.raises(simgpu.InputError, match="of=EXPERIMENT"):
        simgpu.observe("nccl.log", out="mine.yaml")
    with pytest.raises(simgpu.InputError, match="the experiment has 1"):
        simgpu.compare("study.yaml", logs="nccl.log", case=2)


@pytest.mark.slow
def test_what_breaks_place_and_share(folder):
    settings = ["cluster.nodes=4"]
    same(simgpu.what_breaks("study.yaml", *settings), printed("what-breaks", "study.yaml", "--set", settings[0]))
    same(
        simgpu.place("study.yaml", *settings, tries=2),
        printed("place", "study.yaml", "--set", settings[0], "--tries", 2),
    )
    same(simgpu.share("two_jobs"), printed("share", "two_jobs"))


def test_a_recorded_step_and_a_claim(folder):
    done = simgpu.run_experiment("study.yaml")
    simgpu.save_trace(done.results[0], "step.json")
    told = simgpu.replay("step.json", "workload.batch=32", of="study.yaml")
    same(told, printed("replay", "step.json", "--of", "study.yaml", "--set", "workload.batch=32"))
    assert told.document["ratio"] > 1
    Path("claim.yaml").write_text(
        "id: a\nkind: decode\nsource: {article: b}\ncolumns: [label, {is: tokens_per_s, gpu: rtx-4090}]\n"
        "inputs: {model: llama-2-7b, precision: fp16}\nrows: [[one stream, 130]]\n"
    )
    assert [row["verdict"] for row in simgpu.check_claims("claim.yaml").rows] == ["impossible"]
