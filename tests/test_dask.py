"""Sweeps and searches on a Dask cluster: workers die and join, and the rows are those of one machine."""

import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import simgpu
from simgpu import Catalogue, InputError
from simgpu.study.pools import dask_pool
from simgpu.study.pools.where import Where
from simgpu.study.sweep import command

pytestmark = pytest.mark.filterwarnings("ignore")  # of distributed about its own ways

TEXT = """\
scenario:
  cluster: h100-sxm
  workload: {kind: operators, operators: [{op: matmul, name: a, m: 64, n: 64, k: 64}]}
vary: {workload.operators.a.k: {range: [64, 12800], step: 64}, dtype: [bf16, fp64, fp4]}
"""


@pytest.mark.slow
def test_a_cluster_whose_worker_is_killed_gives_the_rows_of_one_machine(tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(TEXT)
    killed = []
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:

        def kill(progress):
            if progress.ran > 60 and not killed:
                killed.append(next(iter(cluster.workers.values())).process.pid)
                os.kill(killed[0], signal.SIGKILL)
                cluster.scale(3)

        asked = command.SweepOptions(Path("dask.sqlite"), Where(scheduler=cluster.scheduler_address))
        done = command.run(Path("e.yaml"), (), Catalogue(), asked, kill)

        monkeypatch.setattr("simgpu.study.pools.versions.__version__", "9.9")  # here, not on the workers
        with pytest.raises(InputError, match=r"--scheduler: the worker at tcp://\S+ has simgpu .* here is 9\.9"):
            command.run(Path("e.yaml"), ("dtype=fp16",), Catalogue(), asked)
    assert killed
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    serial = simgpu.sweep("e.yaml", store="serial.sqlite", jobs=1)
    assert done.rows == serial.rows and len(done.rows) == 400
    assert [one.reason for one in done.failed] == [one.reason for one in serial.failed] and len(done.failed) == 200
    assert done.ran == 600
    again = command.run(
        Path("e.yaml"), (), Catalogue(), command.SweepOptions(Path("dask.sqlite"), Where(dask_workers=1))
    )
    assert (again.ran, again.rows) == (0, done.rows), "nothing is left to do, so no cluster is made"


@pytest.mark.slow
def test_a_cluster_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(TEXT)
    done = simgpu.sweep("e.yaml", "dtype=bf16", dask_workers=1, limit=20)
    assert (done.ran, len(done.rows), done.left) == (20, 20, 180)


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dask_pool, "CONNECT_SECONDS", 0.5)
    Path("e.yaml").write_text(TEXT)
    with pytest.raises(InputError, match=r"--scheduler: 'tcp://127\.0\.0\.1:9' cannot be reached"):
        simgpu.sweep("e.yaml", scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 5000])
def test_what_is_no_scheduler_is_one_line(answer, tmp_path, monkeypatch):
    """Told before a client is made: it could not even be closed again."""
    monkeypatch.setattr(dask_pool, "CONNECT_SECONDS", 1)
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(TEXT)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with suppress(OSError):
                while True:
                    other, _ = server.accept()
                    with other:
                        other.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("distributed.Client", None)
        with pytest.raises(InputError, match=f"--scheduler: '{address}' cannot be reached"):
            simgpu.sweep("e.yaml", scheduler=address)


@pytest.mark.slow
def test_a_search_on_a_cluster_finds_what_one_process_finds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = {
        "scenario": {
            "model": "llama-3.1-70b",
            "cluster": "dgx-h100",
            "workload": {"kind": "serving", "concurrency": 8, "prompt": 1024, "output": 128},
        },
        "search": {"space": {"tp": "all", "workload.concurrency": [8, 32]}},
    }
    alone, there = (simgpu.search(text, **where) for where in ({"jobs": 1}, {"dask_workers": 1}))
    assert there.rows == alone.rows and there.every == alone.every


@pytest.mark.slow
def test_a_scheduler_that_goes_is_one_line_and_what_is_finished_is_kept(tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(TEXT)
    monkeypatch.setattr(dask_pool, "CONNECT_SECONDS", 4)
    gone = []
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:

        def go(progress):
            if progress.ran and not gone:
                gone.append(progress.ran)
                cluster.close()

        asked = command.SweepOptions(where=Where(scheduler=cluster.scheduler_address))
        with pytest.raises(InputError, match="--scheduler: the scheduler of the cluster has gone"):
            command.run(Path("e.yaml"), ("dtype=bf16",), Catalogue(), asked, go)
    assert 0 < len(simgpu.results().rows) < 200


def test_without_dask_the_way_to_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(TEXT)
    with pytest.raises(InputError, match=r"pip install 'simgpu\[dask\]'"):
        simgpu.sweep("e.yaml", dask_workers=1)
