"""Parts that the files of a cluster refer to: kinds of links, sources, and the host of a GPU that is named alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simgpu.documents import Document, dotted
from simgpu.errors import InputError, nearest
from simgpu.hardware.cluster_spec import DESIGN, ClusterSpec
from simgpu.hardware.figure import Quantity, figures
from simgpu.hardware.spec import CatalogueFile, GPUSpec, NodeSpec, PCIeSwitch, Port

ONE_NODE = Quantity(value=1, source="one node")
"""The number of nodes where a node or a GPU is named instead of a cluster."""

HOST = "a host of this project: one socket with eight channels of DDR5-4800"
"""The source of what a GPU without a node is plugged into."""


def links_of(
    cluster: ClusterSpec, node: NodeSpec, gpu: GPUSpec
) -> Iterator[tuple[CatalogueFile, str, tuple[Any, ...], str]]:
    """Every kind of link that is referred to: by which file, its root in overrides, at which path."""
    ports: list[tuple[CatalogueFile, str, tuple[Any, ...], Port | None]] = [
        (gpu, "gpu", ("nvlink",), gpu.nvlink),
        (gpu, "gpu", ("host_link",), gpu.host_link),
        (node, "node", ("inter_socket",), node.inter_socket),
        (cluster, "cluster", ("fabric",), cluster.fabric),
    ]
    if node.nic:
        ports += [
            (node, "node", ("nic", "port"), node.nic.port),
            (node, "node", ("nic", "host_link"), node.nic.host_link),
        ]
    for s, socket in enumerate(node.sockets):
        for d, entry in enumerate(socket.devices):
            if isinstance(entry, PCIeSwitch):
                ports.append((node, "node", ("sockets", s, "devices", d, "switch"), entry.switch))
    for owner, root, path, port in ports:
        if port is not None:
            yield owner, root, (*path, "link"), port.link


def host_of(gpu: str) -> NodeSpec:
    """A host with one GPU."""
    node = {
        "name": gpu,
        "title": f"1 x {gpu}",
        "gpu": gpu,
        "sources": {"host": HOST},
        "sockets": [{"memory_bandwidth": {"value": 307.2, "unit": "GB/s", "source": "host"}, "devices": ["gpu"]}],
        "peer_to_peer_scope": {"value": "switch", "source": "host"},
    }
    return NodeSpec.model_validate(node)


def check_sources(spec: CatalogueFile, document: Document) -> None:
    """Every figure must name a source that the file lists: no number without provenance enters the catalogue."""
    for path, figure in figures(spec, labels=False):
        if figure.source == DESIGN:
            continue
        if figure.source is None:
            raise InputError("has no source", file=document.file, line=document.line_of(path), key=dotted(path))
        if figure.source not in spec.sources:
            hint = nearest(figure.source, spec.sources)
            problem = f"source '{figure.source}' is not among the file's sources{hint}"
            raise InputError(problem, file=document.file, line=document.line_of(path), key=dotted(path))
