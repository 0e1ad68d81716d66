"""From logs of first tests to checks: what each measured, where, and what simgpu predicts for that place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import topology_of
from simgpu.lab.acceptance import burning, kernels, wires
from simgpu.lab.acceptance.checks import Check
from simgpu.lab.launchers import bare
from simgpu.lab.logs.links import Matrix, Transfer, matrices, tool_of, transfers
from simgpu.lab.logs.text import lines_of
from simgpu.lab.nccl_logs import DTYPES, Log, Measured, misfit, read_logs
from simgpu.lab.nccl_tests import interval
from simgpu.model.operators import BYTES
from simgpu.timing.collectives import collective_time
from simgpu.timing.collectives.traffic import KINDS, SEND, bus_factor, kind_of

GIGA = 1e9
COPY = 2**30
"""Bytes of a copy that stands for the large ones of the tools."""
KNOWN = (
    "a log of nccl-tests, p2pBandwidthLatencyTest, nvbandwidth, ib_write_bw, BabelStream, gpu_burn or mamf-finder, a"
    " table of kernels (CSV) as `simgpu measure` writes it, or the output of nvidia-smi topo -m"
)


@dataclass(frozen=True)
class Asked:
    """What a user says of logs that do not say it."""

    collective: str | None = None
    gpus: int | None = None


def checks_of(file: Path, cluster: Cluster, asked: Asked, catalogue: Catalogue) -> list[Check]:
    """The checks of a log. Raises `InputError` for one that is of none of the tools, or of another machine."""
    tool = tool_of(file)
    if tool == "nccl-tests":
        return [check for log in read_logs(file) for check in _collective(log, cluster, asked)]
    if tool == "perftest":
        found = [check for run in transfers(file) for check in _transfer(file, run, cluster)]
        if not found:
            raise InputError("holds a header of perftest and no rows", file=file)
        return found
    if tool:
        found = [check for matrix in matrices(file) for check in _matrix(file, matrix, cluster)]
        if not found:
            raise InputError(f"holds no matrix of {tool} that simgpu predicts", file=file)
        return found
    text = "\n".join(line for _, line in zip(range(400), (line for _, line in lines_of(file)), strict=False))
    for knows, read in ((wires.is_matrix, wires.checks), (kernels.is_stream, kernels.stream),
                        (burning.is_burn, burning.checks), (kernels.is_table, kernels.table)):  # fmt: skip
        if knows(text):
            return list(read(file, cluster, catalogue))
    raise InputError(f"holds nothing that is known; expected {KNOWN}", file=file)


# ---- collectives -----------------------------------------------------------------------------------------


def _collective(log: Log, cluster: Cluster, asked: Asked) -> Iterator[Check]:
    """The largest message, as bandwidth, and the smallest, as time.

    Times of small messages are predicted for a process of its own for each GPU: one that drives several launches
    their kernels one after another.
    """
    kind = _kind(log, asked)
    gpus = _gpus(log, kind, cluster, asked)
    rows = [row for row in log.rows if row.size]
    if not rows:
        raise InputError("holds rows of size 0 alone", file=log.file)
    largest, least = max(rows, key=lambda row: row.size), min(rows, key=lambda row: row.size)
    n, nodes = len(gpus), len({gpu // cluster.gpus_per_node for gpu in gpus})
    place = f"{n} GPUs" + (f" of {nodes} nodes" if nodes > 1 else "")
    for row in [largest] if largest.size == least.size else [largest, least]:
        seconds, low, high = _predicted(row, kind, gpus, cluster)
        name = f"{kind} of {_size(row.size)}"
        if row is largest:
            factor = bus_factor(kind, n) * row.size
            yield Check(log.file, name, place, factor / row.out_of_place, "B/s", factor / seconds, factor / high,
                        factor / low, note=f"line {row.line}")  # fmt: skip
        elif row.size <= 2**20 and log.threads == 1:
            yield Check(log.file, name, place, row.out_of_place, "s", seconds, low, high, note=f"line {row.line}")


def _size(size: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.4g} {unit}"
    return f"{size} B"


def _predicted(row: Measured, kind: str, gpus: Sequence[int], cluster: Cluster) -> tuple[float, float, float]:
    """Seconds, and the ends of their interval."""
    dtype = DTYPES[row.dtype]
    whole = row.size // BYTES[dtype] * BYTES[dtype]
    times = collective_time(cluster, kind, list(gpus), [max(whole, 1)], dtype)
    far = len({gpu // cluster.gpus_per_node for gpu in gpus}) > 1
    low, high = interval(cluster, kind, times.seconds, "auto", "nccl", far)
    seconds = float(times.seconds[0])
    return seconds, seconds * float(low[0]), seconds * float(high[0])


def _kind(log: Log, asked: Asked) -> str:
    """The collective: as the log says, as asked, or by the name of the file."""
    if log.collective is not None:
        return log.collective
    if asked.collective is not None:
        found = kind_of(asked.collective)
        if found is None:
            raise InputError(f"unknown '{asked.collective}'; expected one of {', '.join(KINDS)}", key="--collective")
        return found
    plain = "".join(letter for letter in Path(log.file).stem.lower() if letter.isalpha())
    named = sorted((kind for kind in KINDS if kind.replace("_", "") in plain), key=len)
    if named:
        return named[-1]
    raise InputError("does not say which collective it is of; expected --collective, such as all_reduce", file=log.file)


def _gpus(log: Log, kind: str, cluster: Cluster, asked: Asked) -> list[int]:
    """Positions of the GPUs: where the ranks stand that the log lists, else the first ones."""
    ranks = asked.gpus or log.ranks
    factors = [row.bus for row in log.rows if row.bus is not None]
    if (
        factors
        and kind == "all_reduce"
        and (ranks is None or ranks < 2 or any(misfit(row, kind, ranks) for row in log.rows))
    ):
        ranks = _by_factor(median(factors), cluster)
    if ranks is None:
        raise InputError("does not list its ranks; expected --gpus N", file=log.file)
    if ranks < 2:
        raise InputError(f"is of {ranks} GPU; expected two or more", file=log.file)
    wrong = next((wrong for row in log.rows if (wrong := misfit(row, kind, ranks))), None)
    if wrong:
        raise InputError(f"{wrong}; say which it is with --collective and --gpus", file=log.file)
    if ranks > cluster.gpu_count:
        more = (
            "--set cluster.nodes=N"
            if cluster.spec.fabric is not None
            else "simgpu import with --nodes writes a cluster"
        )
        raise InputError(f"is of {ranks} GPUs; '{cluster.name}' has {cluster.gpu_count} ({more})", file=log.file)
    each = cluster.gpus_per_node
    if len(log.places) == ranks:
        hosts = {host: i for i, host in enumerate(dict.fromkeys(host for host, _ in log.places.values()))}
        listed = [hosts[host] * each + device for _, (host, device) in sorted(log.places.items())]
        if (
            len(set(listed)) == ranks
            and max(listed) < cluster.gpu_count
            and all(d < each for _, d in log.places.values())
        ):
            return listed
    return list(range(ranks))


def _by_factor(factor: float, cluster: Cluster) -> int | None:
    """How many ranks an all-reduce had, by busbw over algbw = 2 (n - 1) / n: of several nodes, all GPUs of each."""
    if not 1 <= factor < 2:
        return None
    n = 2 / (2 - factor)
    each = cluster.gpus_per_node
    return max(2, round(n) if n <= each else round(n / each) * each)


def warnings(file: Path) -> list[str]:
    """What does not fit together in a log of nvbandwidth: more columns than it lists devices."""
    devices: set[int] = set()
    most = 0
    if tool_of(file) != "nvbandwidth":
        return []
    for _, raw in lines_of(file):
        if listed := re.match(r"^Device (\d{1,4}): ", bare(raw)):
            devices.add(int(listed[1]))
    for matrix in matrices(file):
        most = max([most, *(max(pair) + 1 if matrix.pair else pair[1] + 1 for pair in matrix.cells)])
    if devices and most > len(devices):
        return [f"{file.name} lists {len(devices)} devices and has matrices of {most}: was it edited?"]
    return []


# ---- copies ----------------------------------------------------------------------------------------------


def _matrix(file: Path, matrix: Matrix, cluster: Cluster) -> Iterator[Check]:
    """Each pair of GPUs one way, or each GPU and its host; other matrices have no prediction."""
    name = matrix.name.removeprefix("Running ")
    test = name.partition(" (")[0]
    if matrix.late or ("idirectional" in name and not name.startswith("Unidirectional")):
        return
    if matrix.pair and ("read" in name or "write" in name or "P2P" in name):
        yield from _pairs(file, matrix, test, cluster)
    elif name in ("host_to_device_memcpy_ce", "device_to_host_memcpy_ce"):
        for (_, gpu), value in sorted(matrix.cells.items()):
            yield _host_copy(file, matrix, test, cluster, gpu, value)


def _pairs(file: Path, matrix: Matrix, test: str, cluster: Cluster) -> Iterator[Check]:
    off = "P2P=Disabled" in test
    for (i, j), value in sorted(matrix.cells.items()):
        if i == j or value <= 0:
            continue
        _check_gpu(max(i, j), matrix.line, file, cluster)
        predicted, low, high, via = _sent(cluster, i, j)
        devices = (f"GPU{i}", f"GPU{j}")
        group = f"{file}|{matrix.line}|{via} {predicted:.4g}"
        told = None if off and via != "host" else predicted
        yield Check(str(file), test, f"GPU{i} > GPU{j}", value * GIGA, "B/s", told, low, high, group, devices,
                    note=via)  # fmt: skip


def _sent(cluster: Cluster, i: int, j: int) -> tuple[float, float, float, str]:
    """Rate of a large copy from one GPU to another, its interval, and the way that it takes."""
    times = collective_time(cluster, SEND, [i, j], [COPY], "fp32")
    low, high = interval(cluster, "send_recv", times.seconds, "auto", "nccl", False)
    rate = COPY / float(times.seconds[0])
    return rate, rate / float(high[0]), rate / float(low[0]), topology_of(cluster, 1).route(i, j).via


def _host_copy(file: Path, matrix: Matrix, test: str, cluster: Cluster, gpu: int, value: float) -> Check:
    """A copy between a GPU and the memory of its socket: the payload of the narrowest link on the way."""
    _check_gpu(gpu, matrix.line, file, cluster)
    graph = topology_of(cluster, 1)
    rate = min(graph.wires.edges[edge]["bandwidth"] for edge in graph.to_host(gpu))
    low, high = interval(cluster, "send_recv", np.asarray([COPY / rate]), "auto", "nccl", False)
    return Check(str(file), test, f"GPU{gpu} and its host", value * GIGA, "B/s", rate, rate / float(high[0]),
                 rate / float(low[0]), f"{file}|{matrix.line}", (f"GPU{gpu}",))  # fmt: skip


def _check_gpu(gpu: int, line: int, file: Path, cluster: Cluster) -> None:
    if gpu >= cluster.gpus_per_node:
        raise InputError(f"has GPU {gpu}; a node of '{cluster.name}' has {cluster.gpus_per_node}", file=file, line=line)


# ---- between nodes ---------------------------------------------------------------------------------------


def _transfer(file: Path, run: Transfer, cluster: Cluster) -> Iterator[Check]:
    """The largest message of one adapter against what its port carries."""
    nic = cluster.node.nic
    if nic is None:
        raise InputError(f"'{cluster.node.name}' has no network adapter", file=file, line=run.line)
    size, rate = run.largest
    ports = [cluster.port(nic.port).bandwidth, cluster.port(nic.host_link).bandwidth]
    if cluster.spec.fabric is not None:
        ports.append(cluster.port(cluster.spec.fabric).bandwidth)
    expected = min(ports)
    low, high = interval(cluster, "send_recv", np.asarray([size / expected]), "auto", "nccl", True)
    name = run.device or "an adapter"
    ends = (name,) if run.gpu is None else (name, f"GPU{run.gpu}")
    yield Check(str(file), f"{run.test} of {_size(size)}", " and ".join(ends), rate, "B/s", expected,
                expected / float(high[0]), expected / float(low[0]), f"{run.test} {size}", ends,
                note=f"line {run.line}")  # fmt: skip
