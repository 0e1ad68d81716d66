"""`lstopo --of xml` of hwloc 2: sockets by model, PCIe bridges with their link speeds, GPUs, adapters, NVLinks.

`pci_link_speed` is GB/s of the whole link after coding; `distances2` named NVLinkBandwidth holds MB/s between GPUs and
NVSwitches (hwloc, utils/lstopo and hwloc/topology-nvml.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simgpu.errors import InputError
from simgpu.lab.importing.parts import Device, Found, Group, Lane, Links, Place

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

KIND = "lstopo XML"
_TYPE = re.compile(r"([0-9a-f]{4})\s*(?:\(.*?\)\s*)?\[([0-9a-f]{4}):([0-9a-f]{4})\]", re.IGNORECASE)
_GPUS = ("0300", "0302", "0380", "1200")
_VERBS = re.compile(r"mlx\d+_|hfi\d|bnxt_re|efa_|rdmap|roce|ibp|irdma|hsi\d|cxi\d")
"""Names of adapters that carry RDMA: hwloc 3 writes kinds of devices as sums of flags, hwloc 2 as numbers."""
_GENERATIONS = ((0.25, 2.5), (0.5, 5.0), (0.985, 8.0), (1.969, 16.0), (3.938, 32.0), (7.563, 64.0))
"""GB/s of a lane after coding, and GT/s (PCI Express Base Specification 1.0 to 6.0)."""


def read(file: Path, root: Element) -> Found:
    """The machine that hwloc sees."""
    packages = [one for one in root.iter("object") if one.get("type") in ("Package", "Socket")] or [root]
    places, notes = [], []
    for package in packages:
        groups = tuple(_groups(package))
        numa = [int(one.get("os_index", "0")) for one in package.iter("object") if one.get("type") == "NUMANode"]
        places.append(Place(tuple(numa), _info(package, "CPUModel"), groups))
    inside = sum(len(place.devices) for place in places)
    if packages != [root]:
        loose = [group for group in _groups(root) if not any(group.devices[0].name == one.name
                 for place in places for one in place.devices)]  # fmt: skip
        if loose and not inside:  # bridges beside the packages, as on machines with one
            places[0] = Place(places[0].numa, places[0].cpu, tuple(loose))
        elif loose:
            notes.append(f"{len(loose)} PCIe ports hang at no socket, left out")
    gpus = [one for place in places for one in place.devices if one.kind == "gpu"]
    if not gpus:
        pci = any(one.get("type") == "PCIDev" for one in root.iter("object"))
        why = (
            "PCI class 0300, 0302 or 1200 of NVIDIA or AMD"
            if pci
            else "lists no PCI devices: lstopo --of xml lists them"
        )
        raise InputError(f"shows no GPU ({why})", file=file)
    machine = next((_info(one, "DMIProductName") for one in root.iter("object") if one.get("type") == "Machine"), "")
    links = _links(root, [one.name for one in gpus])
    if machine:
        notes.append(f"the machine calls itself {machine}")
    return Found(str(file), KIND, tuple(place for place in places if place.groups), links, notes=tuple(notes))


def _groups(above: Element) -> Iterator[Group]:
    """Root ports below an object: a device each, or a switch with what is below it."""
    for bridge in _hosts(above):
        for port in bridge:
            if port.tag == "object" and (devices := tuple(_devices(port))):
                switch = port.get("type") == "Bridge" and len(devices) > 1
                yield Group(tuple(sorted(devices, key=lambda one: one.kind != "gpu")), switch, _lane(port))


def _hosts(above: Element) -> Iterator[Element]:
    """Host bridges below an object, the outermost."""
    for one in above:
        if one.tag != "object":
            continue
        if one.get("type") == "Bridge" and one.get("bridge_type", "").startswith("0-"):
            yield one
        elif one.get("type") not in ("Package", "Socket") or above.get("type") in ("Package", "Socket"):
            yield from _hosts(one)


def _devices(one: Element) -> Iterator[Device]:
    if one.get("type") == "PCIDev":
        device = _device(one)
        if device is not None:
            yield device
        return
    for below in one:
        if below.tag == "object":
            yield from _devices(below)


def _device(one: Element) -> Device | None:
    told = _TYPE.match(one.get("pci_type", ""))
    if told is None:
        return None
    kind, vendor, product = (text.lower() for text in told.groups())
    inside = [below for below in one.iter("object") if below.get("type") == "OSDev"]
    bus = one.get("pci_busid", "").lower()
    if kind in _GPUS and vendor in ("10de", "1002"):
        model = next((text for below in inside if (text := _info(below, "GPUModel"))), "")
        return Device("gpu", bus, _lane(one), model, f"{vendor}:{product}")
    verbs = [name for below in inside if _VERBS.match(name := below.get("name", ""))]
    if kind in ("0200", "0207") and verbs:
        return Device("nic", verbs[0], _lane(one), pci=f"{vendor}:{product}")
    return None


def _info(one: Element, name: str) -> str:
    return next((info.get("value", "").strip() for info in one.findall("info") if info.get("name") == name), "")


def _lane(one: Element) -> Lane:
    """The width and rate whose product is the speed told: the widest that fits a known rate."""
    try:
        speed = float(one.get("pci_link_speed", "0"))
    except ValueError:
        return Lane()
    known = ((width, lane, rate) for width in (16, 8, 4, 2, 1) for lane, rate in _GENERATIONS)
    return next((Lane(width, rate) for width, lane, rate in known if abs(speed / (lane * width) - 1) < 0.03), Lane())


def _links(root: Element, gpus: list[str]) -> Links | None:
    """Links by the matrix of NVLink bandwidths: as many as its entries hold of the smallest rate told."""
    for matrix in root.iter():
        if not matrix.tag.startswith("distances2") or matrix.get("name") != "NVLinkBandwidth":
            continue
        indexes = " ".join(one.text or "" for one in matrix.findall("indexes")).split()
        values = [float(one) for part in matrix.findall("u64values") for one in (part.text or "").split()]
        n = len(indexes)
        if n * n != len(values) or n > 256:
            return None
        owner = _owners(root)
        names = [owner.get(index.partition(":")[2] or index, "") for index in indexes]
        return _counted(names, values, gpus)
    return None


def _owners(root: Element) -> Mapping[str, str]:
    """PCI addresses of devices by the number of the object that the system knows them by."""
    return {below.get("gp_index", ""): one.get("pci_busid", "").lower() for one in root.iter("object")
            if one.get("type") == "PCIDev" for below in one.iter("object")}  # fmt: skip


def _counted(names: list[str], values: list[float], gpus: list[str]) -> Links:
    n = len(names)
    positive = [value for i, value in enumerate(values) if value > 0 and i // n != i % n]
    if not positive:
        return Links()
    one = min(positive)
    counts = {}
    switched = any(name not in gpus for name in names)
    total = {names[i]: sum(values[i * n + j] for j in range(n) if j != i) for i in range(n)}
    for i in range(n):
        for j in range(i + 1, n):
            if names[i] in gpus and names[j] in gpus:
                count = values[i * n + j] if not switched else min(total[names[i]], total[names[j]])
                if count:
                    counts[names[i], names[j]] = round(count / one)
    return Links(counts, switched=switched)
