"""What tables of collectives share. `simgpu.lab.machines` says which cluster a row ran on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.spec import Port
from simgpu.lab.machines import cluster_for
from simgpu.lab.validation.batches import DTYPES, Batch, Machine, Part, Unpredicted, timed
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.timing.collectives import KINDS, bus_factor, collective_time

NAMES = {"alltoall": "all_to_all", "allreduce": "all_reduce", "allgather": "all_gather"}
"""Other names of collectives in tables."""

MOST_IN_A_NODE = 1024
"""No node has more GPUs (the largest, NVL72, has 72)."""

UNSTATED = "on an unstated network"


def columns(link: str = "", *words: str, optional: tuple[str, ...] = (), nodes: bool = True) -> Columns:
    """Columns of a table of collectives; `link` names the one that says what joins the GPUs of a node."""
    return Columns(
        positive=("num_gpus", "message_bytes", "latency_s", *(("num_nodes",) if nodes else ())),
        words=("gpu", "collective", *words),
        optional=("suspicious", "dtype", *optional),
        renamed={"link": link, "network": "inter_node_link"},
    )


def nccl_tests(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Sizes and times as nccl-tests prints them."""
    yield from collectives(table, rows, machine)


def collectives(table: Table, rows: Rows, machine: Machine, library: str = "nccl") -> Iterator[Part]:
    """Rows by link, collective, data type and size of the group; `library` names the kernels that ran."""
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
