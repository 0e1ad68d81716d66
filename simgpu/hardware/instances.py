"""Machines that clouds rent by a name, such as p5.48xlarge: a node of the catalogue, and what differs from it.

A file of `hardware/instances/` holds those of one cloud. The board and the host are those of the node that an entry
names; the cloud's network, and how many of its GPUs are rented, are the entry's own.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from simgpu.hardware.figure import Flag, Spec
from simgpu.hardware.spec import CatalogueFile, NodeSpec, PCIeSwitch, Port, Socket


class Instance(Spec):
    """One kind of machine. `network` is the port of each of `nics` adapters; both are the node's where not given."""

    node: str
    gpus: int = Field(gt=0)
    gpu: str | None = None
    nics: int | None = Field(default=None, gt=0)
    network: Port | None = None
    gpudirect_rdma: Flag | None = None
    note: str = ""  # what is not as in the node
    source: str

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, given: Any) -> Any:
        """The source of the entry is that of its figures."""
        if not isinstance(given, dict):
            return given
        source = {"source": given.get("source")}
        port, flag = given.get("network"), given.get("gpudirect_rdma")
        figures = {key: source | {"value": value} for key, value in port.items()
                   if key == "lanes" and not isinstance(value, dict)} if isinstance(port, dict) else {}  # fmt: skip
        made = {"network": port | figures} if isinstance(port, dict) else {}
        return given | made | ({"gpudirect_rdma": source | {"value": flag}} if isinstance(flag, bool) else {})


class InstancesSpec(CatalogueFile):
    """The machines of one cloud, by name."""

    instances: dict[str, Annotated[Instance, Field()]]


def node_of(name: str, instance: Instance, cloud: InstancesSpec, node: NodeSpec) -> NodeSpec:
    """The node that an instance is: `node` with the GPUs, adapters and network of the entry."""
    sockets = [_with_nics(socket, node, instance) for socket in node.sockets]
    if len(sockets) == 1 and instance.gpus < node.gpu_count:  # part of a rack
        each = node.gpu_count // sockets[0].count
        sockets = [sockets[0].model_copy(update={"count": max(1, instance.gpus // each)})]
    nic = node.nic
    if nic is not None and instance.network is not None:
        nic = nic.model_copy(update={"port": instance.network})
    if nic is not None and instance.gpudirect_rdma is not None:
        nic = nic.model_copy(update={"gpudirect_rdma": instance.gpudirect_rdma})
    changed = {
        "name": name, "title": f"{cloud.title} {name}: {node.title}", "gpu": instance.gpu or node.gpu,
        "sources": {**node.sources, **cloud.sources}, "sockets": sockets, "nic": nic,
    }  # fmt: skip
    return node.model_copy(update=changed)


def _with_nics(socket: Socket, node: NodeSpec, instance: Instance) -> Socket:
    """A socket with as many of its adapters as the entry has of the node's."""
    if instance.nics is None or instance.nics >= node.nic_count:
        return socket
    share = instance.nics / node.nic_count

    def fewer(devices: list[Any]) -> list[Any]:
        kept = round(devices.count("nic") * share)
        listed: list[Any] = []
        for device in devices:
            if device == "nic" and listed.count("nic") >= kept:
                continue
            inner = isinstance(device, PCIeSwitch)
            listed.append(device.model_copy(update={"devices": fewer(device.devices)}) if inner else device)
        return listed

    return socket.model_copy(update={"devices": fewer(list(socket.devices))})
