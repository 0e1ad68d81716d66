"""nccl-tests between nodes, 2 to 540, by their owners: public repositories, issues, documentation of clouds.

How it was measured: nccl-tests and rccl-tests as each page prints them; algorithm and environment where it says so.

Traps: rows in place repeat those out of place and are left out; so are sockets over TCP, and a machine whose small
messages were timed with a bad clock. Where the number of adapters is not said there is one for each GPU; where the
network is not said it is taken from the rates. Two nodes are a case of their own: trees send each byte once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from simgpu.lab.machines import BOARD, largest_node, network_cluster
from simgpu.lab.validation.adapters.collectives import NAMES
from simgpu.lab.validation.batches import Adapter, Batch, Machine, Part, Unpredicted, timed
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.timing.collectives import KINDS, bus_factor, collective_time
from simgpu.timing.collectives.between import measured_on

_GIGABITS = {"edr": 100, "hdr": 200, "ndr": 400, "xdr": 800}
_ALGORITHMS = {"ring": "ring", "tree": "tree", "nvlstree": "nvls"}

RINGS_ALONE = ("2.4",)
"""Versions of NCCL that ran rings alone on EFA: the guides of its plugin set NCCL_TREE_THRESHOLD=0."""

COLUMNS = Columns(
    positive=("gpus_per_node", "nodes", "size_bytes", "time_us"),
    words=("gpu", "collective", "in_place"),
    optional=("nic", "nics_per_node", "fabric", "dtype", "settings", "note", "source", "nccl_version"),
)


def gigabits(nic: str) -> float:
    """Rate of one adapter, Gb/s, from its name; 400 where none says."""
    words = nic.lower()
    named = next((rate for name, rate in _GIGABITS.items() if re.search(rf"\b{name}\b", words)), 0)
    stated = re.search(r"(\d+) ?g(b|\b)", words)
    return named or (float(stated[1]) if stated else 400.0)


def rows_between_nodes(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Rows by machine, collective and setting."""
    names = ("source", "nic", "nics_per_node", "fabric", "collective", "dtype", "settings", "note", "in_place")
    for (_, nic, nics, fabric, kind, dtype, settings, note, place, version), at in table.split(
        rows, *names, "nccl_version"
    ):
        op = NAMES.get(kind, "send_recv" if kind == "sendrecv" else kind)
        why = _left_out(fabric, nic, place)
        if why or op not in KINDS:
            yield Unpredicted(op, at, why or f"no model of {kind}", left_out=bool(why))
            continue
        if "bad clock" in note:
            small = table.number("size_bytes", at) < 2**20
            if small.any():
                yield Unpredicted(op, at[small], "a bad clock or other traffic, says the page", left_out=True)
            at = at[~small]
        shapes = table.number("nodes", at), table.number("gpus_per_node", at)
        for nodes, per_node in sorted(set(zip(*(shape.tolist() for shape in shapes), strict=True))):
            chosen = at[(shapes[0] == nodes) & (shapes[1] == per_node)]
            rate = gigabits(nic) / 8 * 1e9
            if version in RINGS_ALONE and "NCCL_ALGO" not in settings:
                settings += " NCCL_ALGO=Ring"
            words = f"{fabric} {nic} {settings if 'FI_CXI' in settings or 'SHARP' in settings else ''}"
            yield _batch(table, chosen, machine, op, dtype, (int(nodes), int(per_node)), (words, rate, nics), settings)


def _left_out(fabric: str, nic: str, place: str) -> str:
    """Why rows are no measurement of what is predicted; '' where they are."""
    if place == "1":
        return "in place: the same as out of place"
    if "TCP" in fabric:
        return "sockets over TCP"
    if "a GPU by rate" in nic:
        return "a network at a third of its rate that nobody describes"
    return ""


def _batch(
    table: Table,
    at: Rows,
    machine: Machine,
    op: str,
    dtype: str,
    shape: tuple[int, int],
    network: tuple[str, float, str],
    settings: str,
) -> Batch:
    """Rows over the same GPUs of a cluster."""
    (nodes, per_node), (words, rate, nics) = shape, network
    gpus = nodes * per_node
    room = largest_node(machine.bench.catalogue, machine.gpu.name)
    if room > BOARD:  # a rack is one node here; its trays are nodes in the table
        nodes = -(-gpus // room)
        share = gpus // nodes
        total = rate * room
    else:
        share = per_node
        full = 4 if per_node == 4 and "slingshot" in words.lower() else 8
        room = max(share, full)
        total = rate * (float(nics) if nics else full)
    key = ("network", machine.gpu.name, nodes, share, words, total)
    bench = machine.bench
    if key not in bench.clusters:
        cluster = network_cluster(bench.catalogue, machine.gpu.name, nodes, room, words, total)
        bench.clusters[key] = replace(cluster, kernel=bench.constants(cluster.gpu))
    cluster = bench.clusters[key]
    positions = [node * cluster.gpus_per_node + gpu for node in range(nodes) for gpu in range(share)]
    sizes = table.number("size_bytes", at)
    asked = re.search(r"NCCL_ALGO=(\w+)", settings)
    algorithm = _ALGORITHMS.get(asked[1].lower(), "auto") if asked else "auto"
    call = partial(timed, collective_time, 0.0, cluster, op, positions, sizes, dtype="fp32", algorithm=algorithm)
    wire = bus_factor(op, gpus) * sizes * share / total
    columns = ("gpus_per_node", "nodes", "size_bytes", "nic", "fabric", "settings", "source")
    measured = table.number("time_us", at) * 1e-6
    # the caveat keeps residuals of networks apart from those of NVLink
    return Batch(
        op,
        dtype,
        at,
        call,
        lambda: np.asarray(wire),
        "collective",
        "nccl",
        columns,
        measured_on(cluster),
        measured=measured,
    )


SOURCE = Source(
    "https://github.com/argonne-lcf/alcf-nccl-tests, xxrjun/nccl-tests-cluster, coreweave and oracle-quickstart "
    "repositories, NVIDIA/deepops, KeitaW/p5-nccl-test, issues of NVIDIA/nccl and nccl-tests, gists (`url`)",
    [Adapter("collectives", COLUMNS, rows_between_nodes, "time_us")],
    reasons=(
        Reason("flows that collide in the network; each is predicted a link of its own", "send_recv"),
        Reason(
            "hundreds of nodes that all send to all: the network matches their messages in software",
            "all_to_all",
            where=lambda n: n["nodes"] >= 256,
        ),
        Reason(
            "1 to 8 MiB over hundreds of nodes, three to five times slower than smaller and larger messages suggest: "
            "not explained",
            "all_reduce",
            where=lambda n: n["nodes"] >= 256 and 2**20 <= n["size_bytes"] <= 2**23,
        ),
        Reason(
            "a network that GPUs do not reach directly, with few cards for a node: its latencies are not known",
            "all_reduce",
            where=lambda n: n["nodes"] == 8 and n["size_bytes"] <= 4096 and n["slow"] < 1,
        ),
        Reason(
            "predicted in LL128 just below the size at which the library leaves it; what it ran is not stated",
            "all_reduce",
            where=lambda n: n["nodes"] == 2 and n["size_bytes"] == 2**20 and n["slow"] > 1,
        ),
        Reason(
            "one size three times slower than those on both sides of it: the log stumbled",
            "all_reduce",
            where=lambda n: n["nodes"] == 2 and n["size_bytes"] == 2**17 and n["slow"] < 1,
        ),
        Reason(
            "a few hundred bytes, faster than other logs of the same network: not explained",
            "all_gather",
            where=lambda n: n["nodes"] == 2 and n["size_bytes"] <= 512 and n["slow"] > 1,
        ),
    ),
)
