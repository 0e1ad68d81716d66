"""What links, kernels and traces of a machine say to `observe`, and what logs of links add to a fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from traces_by_hand import step

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.lab.logs.reading import read
from simgpu.lab.nccl_tests import predict
from simgpu.overlay import Overlay, overrides_of

NVBANDWIDTH = """nvbandwidth Version: v0.8
Running host_to_device_memcpy_ce.
memcpy CE CPU(row) <-> GPU(column) bandwidth (GB/s)
           0         1
 0     55.00     54.00
SUM host_to_device_memcpy_ce 109.00

Running device_to_device_memcpy_read_ce.
memcpy CE GPU(row) -> GPU(column) bandwidth (GB/s)
           0         1
 0       N/A    340.00
 1    330.00       N/A
SUM device_to_device_memcpy_read_ce 670.00
"""
LATE = """Running device_to_device_latency_sm.
Device to Device Latency SM GPU(row) <-> GPU(column) (ns)
           0         1
 0       N/A    860.00
 1    840.00       N/A
"""
NVBANDWIDTH_JSON = json.dumps({"nvbandwidth": {
    "CUDA Runtime Version": 12080, "Driver Version": "570.86.10", "git_version": "v0.8", "version": "v0.8",
    "testcases": [
        {"name": "host_to_device_memcpy_ce", "status": "Passed", "sum": 109.0,
         "bandwidth_description": "memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)",
         "bandwidth_matrix": [["55", "54"]]},
        {"name": "device_to_device_memcpy_read_ce", "status": "Passed", "sum": 670.0,
         "bandwidth_description": "memcpy CE GPU(row) -> GPU(column) bandwidth (GB/s)",
         "bandwidth_matrix": [["N/A", "340"], ["330", "N/A"]]},
        {"name": "device_to_device_latency_sm", "status": "Passed", "sum": 1700.0,
         "bandwidth_description": "Device to Device Latency SM GPU(row) <-> GPU(column) (ns)",
         "bandwidth_matrix": [["N/A", "860"], ["840", "N/A"]]},
        {"name": "multinode_device_to_device_memcpy_read_ce", "status": "Waived"},
    ]}}, indent=3)  # fmt: skip
P2P = """Unidirectional P2P=Enabled Bandwidth (P2P Writes) Matrix (GB/s)
   D\\D     0      1
     0 1521.42 274.00
     1 272.00 1591.14
P2P=Enabled Latency (P2P Writes) Matrix (us)
   GPU     0      1
     0   1.33   2.50
     1   2.50   1.31

   CPU     0      1
     0   2.51   8.12
"""
PERFTEST = """                    RDMA_Write BW Test
 #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]
Conflicting CPU frequency values detected: 1500.000000 != 3300.016000. CPU Frequency is not max.
 65536      560845           0.00               98.00                0.186950
 8388608    5000           394.72             392.00
"""
ROWS = "what,dtype,m,n,k,time_us\ngemm,bf16,4096,4096,4096,200\ngemm,bf16,8192,4096,4096,400\nstream,,,,,oops\n"


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (NVBANDWIDTH, [("algbw", 54.5e9, 2), ("algbw", 335e9, 2)]),
        (NVBANDWIDTH_JSON, [("algbw", 54.5e9, 2), ("algbw", 335e9, 2), ("time_s", 850e-9, 2)]),
        (LATE, [("time_s", 850e-9, 2)]),
        (P2P, [("algbw", 273e9, 2), ("time_s", 2.5e-6, 2)]),
        (PERFTEST, [("algbw", 49e9, 1)]),
        (PERFTEST.replace("Gb/sec", "MiB/sec"), [("algbw", 392 * 2**20, 1)]),
        (ROWS, [("time_s", 300e-6, 2)]),
    ],
)
def test_links_and_kernels_are_read_in_si_units(tmp_path: Path, text: str, found: list[tuple[str, float, int]]) -> None:
    said = [run.measurements[0] for run in read(written(tmp_path, "a.log", text))]
    assert [(one.column, one.value, one.count) for one in said] == [(c, pytest.approx(v), n) for c, v, n in found]


def test_a_trace_names_its_operators(tmp_path: Path) -> None:
    (found,) = read(step().write(tmp_path / "step.json"))
    assert found.of("communication_s").value == pytest.approx(200e-6)
    assert found.notes[0].startswith("most time: aten::mm 67 %") and found.facts["operators"] == 8
    assert any(note.startswith("by class: matmul 67 %, attention 23 %") for note in found.notes)


def test_a_trace_of_several_ranks_is_refused(tmp_path: Path) -> None:
    made = step()
    made.events += [{**one, "pid": 1001} if one["cat"] != "kernel" else one for one in made.events]
    with pytest.raises(InputError, match="expected the trace of one rank"):
        read(made.write(tmp_path / "step.json"))


def test_a_trace_whose_clock_jumped_is_refused(tmp_path: Path) -> None:
    made = step()
    next(event for event in made.events if event["cat"] == "kernel")["dur"] = -3.6e9
    with pytest.raises(InputError, match="the clock jumped"):
        read(made.write(tmp_path / "step.json"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"nvbandwidth": {"error": "CUDA_ERROR_NO_DEVICE"}}', "no test of nvbandwidth that passed.*NO_DEVICE"),
        (NVBANDWIDTH_JSON.replace('"860"', '"fast"'), "'fast' of device_to_device_latency_sm is no number"),
        (PERFTEST.splitlines()[1] + "\n", "a header of perftest and no rows"),
        ("m,n,k,dtype,time_us\n1,2,3,bf16,zero\n", "no time in 'time_us'"),
        ("# nThread 1 nGpus 8\n#  size count type\n 1048576 262144 float\n", "not a row of nccl-tests"),
    ],
)
def test_damaged_logs_of_links_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(written(tmp_path, "a.log", text))


# ---- what logs of links teach ----------------------------------------------------------------------------


def nccl_log(folder: Path, factor: float, noise: float = 1.0, size: int = 1 << 28) -> Path:
    """The log of an all-reduce over eight GPUs of a made-up machine, whose links carry `factor` of what is known."""
    mine = Overlay(machine="dgx-h100", source="made up", links={"nvlink-4": factor})
    cluster = Catalogue().cluster("dgx-h100", list(overrides_of(mine)))
    lines = ["# nccl-tests version 2.13.11 all_reduce_perf", "# Using devices"]
    lines += [f"#  Rank {rank} Group 0 Pid 1 on host device {rank} NVIDIA H100" for rank in range(8)]
    lines += ["#       size         count      type   redop    root     time   algbw   busbw #wrong"]
    for row in predict(cluster, "all_reduce", 8, [size // 4, size]):
        seconds = row.time_s * noise
        rate = row.size / seconds / 1e9
        lines.append(f"{row.size} {row.count} float sum -1 {1e6 * seconds:.2f} {rate:.2f} {rate * 1.75:.2f} 0")
    return written(folder, f"nccl-{factor:.4f}-{noise:.4f}.log", "\n".join(lines) + "\n")


JOB = """
experiment: one
scenario:
  model: llama-3.1-8b@layers=4
  cluster: dgx-h100
  workload: {kind: training, batch: 16, tokens: 4096}
  plan: {tp: 8, micro_batch: 1, sequence_parallel: true}
"""


def learned(folder: Path, *logs: Path) -> dict[str, dict[str, Any]]:
    asked = ["observe", *map(str, logs), "--of", str(written(folder, "job.yaml", JOB)), "--format", "json"]
    done = CliRunner().invoke(main, [*asked, "-o", str(folder / "mine.yaml"), "-q"])
    assert done.exit_code == 0, done.output
    return {one["factor"]: one for one in json.loads(done.stdout)["factors"]}


def test_logs_of_links_say_what_links_carry(tmp_path: Path) -> None:
    found = learned(tmp_path, nccl_log(tmp_path, 0.9))
    assert set(found) == {"payload of nvlink-4"}  # of kernels they say nothing
    links = found["payload of nvlink-4"]
    assert links["p10"] <= 0.9 <= links["p90"] < 1 and links["told"] > 0.3
    assert "stacks: {}" in (tmp_path / "mine.yaml").read_text()


def test_a_log_of_more_gpus_than_there_are_is_refused(tmp_path: Path) -> None:
    text = nccl_log(tmp_path, 0.9).read_text()
    ranks = "\n".join(f"#  Rank {rank} Group 0 Pid 1 on host" for rank in range(8, 100_000 // 1000))
    file = written(tmp_path, "many.log", text.replace("# Using devices", f"# Using devices\n{ranks}"))
    asked = ["observe", str(file), "--of", str(written(tmp_path, "job.yaml", JOB.replace("dgx-h100", "h100-sxm")))]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
