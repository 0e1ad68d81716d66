"""Adapters of tables of collectives. `simgpu.lab.machines` says which cluster a row ran on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.spec import Port
from simgpu.lab.machines import cluster_for
from simgpu.lab.validation.batches import DTYPES, Batch, Machine, Part, Unpredicted
from simgpu.lab.validation.gemm import timed
from simgpu.lab.validation.tables import Array, Rows, Table
from simgpu.timing.collectives import KINDS, bus_factor, collective_time

NAMES = {"alltoall": "all_to_all", "allreduce": "all_reduce", "allgather": "all_gather"}
"""Other names of collectives in tables."""


MOST_IN_A_NODE = 1024
"""No node has more GPUs (the largest, NVL72, has 72)."""


def nccl_tests(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Sizes and times as nccl-tests prints them."""
    yield from _collectives(table, rows, machine)


def served(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """All-reduce as inference servers run it: kernels of their own for small messages, NCCL for large ones."""
    graph = table.word("cuda_graph", rows) == "True"
    if not graph.all():
        reason = "eager: each includes a copy of the input and its launches"
        yield Unpredicted("all_reduce", rows[~graph], reason, left_out=True)
    yield from _collectives(table, rows[graph], machine, "custom")


UNSTATED = "on an unstated network"
EAGER = "timed eagerly"
IMPOSSIBLE = "the larger ones are faster than the full rate of the link: not times of transfers"


def profiled(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Durations of NCCL kernels by a profiler, eager calls one after another.

    They hold the wait for the launches of the other ranks, 30 to 60 us, which is not predicted. Durations shorter than
    the transfer at the full rate of the link cannot be those of transfers; they are left out, and with them all of
    the same two GPUs where the link is known.
    """
    for part in _collectives(table, rows, machine):
        if isinstance(part, Batch):
            part = replace(part, caveat=part.caveat or EAGER)
        if not isinstance(part, Batch) or part.op != "send_recv":
            yield part
            continue
        possible = table.number("latency_s", part.rows) >= part.roofline()
        if part.caveat == EAGER and not possible.all():  # the link is known: then none of them is a transfer
            possible[:] = False
        yield from _divided(part, possible, IMPOSSIBLE)


def _divided(part: Batch, kept: np.ndarray, reason: str) -> Iterator[Part]:
    """The rows of a batch that are kept, and the others left out."""
    if kept.all():
        yield part
        return
    yield Unpredicted(part.op, part.rows[~kept], reason, left_out=True)
    if kept.any():
        predict, baseline = part.predict, part.roofline
        yield replace(part, rows=part.rows[kept], predict=lambda: predict()[kept], roofline=lambda: baseline()[kept])


def _collectives(table: Table, rows: Rows, machine: Machine, library: str = "nccl") -> Iterator[Part]:
    for (link, network, kind, dtype), at in table.split(rows, "link", "network", "collective", "dtype"):
        op = NAMES.get(kind, kind)
        if op not in KINDS:
            yield Unpredicted(kind, at, f"no model of {kind}")
            continue
        nodes, gpus = _nodes(table, at), table.number("num_gpus", at)
        for count, size in sorted(set(zip(nodes.tolist(), gpus.tolist(), strict=True))):
            chosen = at[(nodes == count) & (gpus == size)]
            if size > MOST_IN_A_NODE * count:
                yield Unpredicted(op, chosen, f"more than {MOST_IN_A_NODE:,} GPUs in a node")
                continue
            try:
                cluster = _cluster(machine, int(size), -(-int(size) // int(count)), link, network)
            except InputError as error:
                yield Unpredicted(op, chosen, error.problem)
                continue
            caveat = "" if count == 1 or network else UNSTATED
            yield replace(_batch(table, chosen, cluster, op, dtype, library), caveat=caveat)


def _nodes(table: Table, rows: Rows) -> Array:
    """Number of nodes of each row; one where the table does not say."""
    found = table.numbers.get("num_nodes")
    return np.ones(len(rows)) if found is None else found[rows]


def _cluster(machine: Machine, gpus: int, per_node: int, link: str, network: str) -> Cluster:
    """The machine that rows ran on, with the constants that the regime of the validation allows."""
    bench = machine.bench
    key = (machine.gpu.name, gpus, per_node, link, network)
    if key not in bench.clusters:
        cluster = cluster_for(bench.catalogue, machine.gpu.name, gpus, per_node, link, network)
        bench.clusters[key] = replace(cluster, kernel=bench.constants(cluster.gpu))
    return bench.clusters[key]


def _batch(table: Table, at: Rows, cluster: Cluster, op: str, dtype: str, library: str) -> Batch:
    """Rows over the same GPUs of a cluster."""
    count, nodes = int(table.number("num_gpus", at[:1])[0]), int(_nodes(table, at[:1])[0])
    share = -(-count // nodes)
    positions = [node * cluster.gpus_per_node + gpu for node in range(nodes) for gpu in range(share)][:count]
    sizes = table.number("message_bytes", at)
    kind = DTYPES.get(dtype, "bf16")
    call = partial(timed, collective_time, 0.0, cluster, op, positions, sizes, dtype=kind, library=library)
    baseline = partial(_link_time, cluster, op, count, nodes, sizes)
    shape = ("num_gpus", "num_nodes", "message_bytes", "link", "network", "framework", "sku", "tool")
    return Batch(op, dtype, at, call, baseline, "collective", library, shape)


def _link_time(cluster: Cluster, op: str, count: int, nodes: int, sizes: Array) -> Array:
    """Bytes that each GPU sends, over the datasheet rate of its link in one direction, s."""
    own = cluster.gpu.nvlink if cluster.node.nvlink else None
    rate = _rate(cluster, own or cluster.gpu.host_link)
    if nodes > 1 and cluster.node.nic is not None:
        rate = min(rate, _rate(cluster, cluster.node.nic.port) * cluster.node.nic_count / cluster.gpus_per_node)
    return bus_factor(op, count) * sizes / rate


def _rate(cluster: Cluster, port: Port) -> float:
    """Raw rate of a port per direction, bytes/s."""
    return port.bandwidth.si if port.bandwidth else port.lanes.si * cluster.links[port.link].lane_bandwidth.si
