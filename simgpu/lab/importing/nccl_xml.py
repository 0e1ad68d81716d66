"""NCCL's XML: topologies of `NCCL_TOPO_DUMP_FILE` or that clouds ship, and graphs of `NCCL_GRAPH_DUMP_FILE`.

Attributes as NCCL's src/graph/xml.cc and topo.cc read them: `class` 0x0300xx, 0x0302xx and 0x1200xx are GPUs, 0x0200xx
and 0x0207xx adapters, 0x0604xx bridges; `nvlink` names its target and how many links lead there; `net` its Mb/s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from simgpu.errors import InputError, shown
from simgpu.lab.importing.parts import Device, Found, Group, Lane, Links, Place

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TOPOLOGY, GRAPH = "NCCL topology XML", "NCCL graph XML"
_GPUS = ("0x0300", "0x0302", "0x0380", "0x1200")
_NICS = ("0x0200", "0x0207", "0x0280")
_BRIDGES = ("0x0604",)
_SWITCH = "0x0680"
"""Class of NVSwitch as the target of a link."""
_VENDORS = ("0x10de", "0x1002")


def read_topology(file: Path, root: Element) -> Found:
    """Sockets, PCIe switches, GPUs with their links and adapters with their speeds."""
    notes: list[str] = []
    unknown = [one.get("busid", "?") for one in root.iter("pci") if not one.get("class") and one.find("gpu") is None
               and one.find("nic") is None and len(one) == 0]  # fmt: skip
    places = tuple(_place(cpu) for cpu in root.iter("cpu"))
    places = tuple(place for place in places if place.groups)
    gpus = [one for place in places for one in place.devices if one.kind == "gpu"]
    if not gpus:
        why = f"{len(unknown)} PCI devices have no class ({', '.join(unknown[:3])} ...)" if unknown else "no GPU in it"
        raise InputError(
            f"shows no GPU: {why}; expected a dump, or with it the output of nvidia-smi topo -m", file=file
        )
    if unknown:
        notes.append(f"PCI devices without class, left out: {', '.join(unknown[:4])}")
    return Found(str(file), TOPOLOGY, places, _links(root, file), order=_order(root, gpus), notes=tuple(notes))


def _order(root: Element, gpus: list[Device]) -> tuple[str, ...]:
    """GPUs by the number that NCCL gives them; of a file that does not say, by PCI address as the driver counts."""
    told = {pci.get("busid", "").lower(): gpu.get("dev", "") for pci in root.iter("pci") for gpu in pci.findall("gpu")}
    names = [one.name for one in gpus]
    numbers = [told.get(name, "") for name in names]
    if all(number.isdigit() for number in numbers) and len(set(numbers)) == len(numbers):
        return tuple(sorted(names, key=lambda name: int(told[name])))
    return tuple(sorted(names))


def _place(cpu: Element) -> Place:
    numa = cpu.get("numaid", "")
    vendor = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}.get(cpu.get("vendor", ""), "")
    groups = tuple(group for one in cpu if one.tag == "pci" and (group := _group(one)) is not None)
    return Place((int(numa),) if numa.isdigit() else (), vendor, groups)


def _group(pci: Element) -> Group | None:
    """What hangs below one port of a CPU: a device, or a switch with all devices below it at whatever depth."""
    devices = tuple(_devices(pci))
    if not devices:
        return None
    shared = len(devices) > 1
    return Group(devices, shared, _lane(pci) if shared or _is_bridge(pci) else Lane())


def _devices(pci: Element) -> Iterator[Device]:
    kind = pci.get("class", "").lower()[:6]
    pci_id = ":".join(pci.get(key, "").lower().removeprefix("0x") for key in ("vendor", "device")).strip(":")
    name = pci.get("busid", "").lower()
    own = pci.find("gpu")
    nets = [net for nic in pci.findall("nic") for net in nic.findall("net")]
    if own is not None or (kind in _GPUS and pci.get("vendor", "0x10de").lower() in _VENDORS):
        yield Device("gpu", name, _lane(pci), pci=pci_id)
    elif nets or pci.find("nic") is not None or kind in _NICS:
        speeds = [float(net.get("speed", "0") or 0) for net in nets]
        family = {"0x0207": "infiniband", "0x0200": "ethernet"}.get(kind, "")
        yield Device("nic", nets[0].get("name", name) if nets else name, _lane(pci), pci=pci_id,
                     speed=sum(speeds) * 1e6 / 8, family=family)  # fmt: skip
    else:
        below = [device for one in pci if one.tag == "pci" for device in _devices(one)]
        yield from sorted(below, key=lambda one: one.kind != "gpu")


def _is_bridge(pci: Element) -> bool:
    return pci.get("class", "").lower()[:6] in _BRIDGES


def _lane(pci: Element) -> Lane:
    """Width and rate, of texts such as '32.0 GT/s PCIe' and '16'; some say 'Unknown speed' or width 255."""
    rate = re.match(r"\s*([\d.]+)\s*GT/s", pci.get("link_speed", ""))
    width = pci.get("link_width", "")
    lanes = int(width) if width.isdigit() and 0 < int(width) <= 32 else 0
    return Lane(lanes, float(rate[1]) if rate else 0.0)


def _links(root: Element, file: Path) -> Links:
    """Links between GPUs; to a switch, as many between any two as the one of them with fewer has."""
    counts: dict[tuple[str, str], int] = {}
    to_switch: dict[str, int] = {}
    owners = [(pci.get("busid", "").lower(), gpu) for pci in root.iter("pci") for gpu in pci.findall("gpu")]
    known = {name for name, _ in owners}
    for name, gpu in owners:
        for link in [*gpu.findall("nvlink"), *gpu.findall("xgmi")]:
            count, target = link.get("count", "1"), link.get("target", "").lower()
            if not count.isdigit() or not 0 < int(count) <= 64:
                raise InputError(f"{name}: count {shown(count)}; expected a number of links", file=file, key="nvlink")
            if link.get("tclass", "").lower().startswith(_SWITCH) or target not in known:
                to_switch[name] = to_switch.get(name, 0) + int(count)
            else:
                pair = (name, target)
                other = counts.get((target, name))
                if other is not None and other != int(count):
                    told = f"{target} has {other} links to {name}, which has {count} back"
                    raise InputError(f"{told}; expected the same", file=file, key="nvlink")
                counts[pair] = int(count)
    once = {
        pair: count for pair, count in counts.items() if pair < (pair[1], pair[0]) or (pair[1], pair[0]) not in counts
    }
    order = [name for name, _ in owners]
    once = {(a, b) if order.index(a) < order.index(b) else (b, a): count for (a, b), count in once.items()}
    if to_switch:
        for i, a in enumerate(order):
            once |= {(a, b): min(to_switch.get(a, 0), to_switch.get(b, 0)) for b in order[i + 1 :]}
    shown_any = any(gpu.findall("nvlink") or gpu.findall("xgmi") for _, gpu in owners)
    return Links(once, whole=shown_any or bool(owners), switched=bool(to_switch))


def read_graph(file: Path, root: Element) -> Found:
    """What NCCL chose: how many GPUs, rings and trees; nothing of the wiring itself."""
    graphs = list(root.iter("graph"))
    if not graphs:
        raise InputError("has no graph in it; is it cut?", file=file)
    gpus = {gpu.get("dev", "") for graph in graphs for gpu in graph.iter("gpu")}
    names = {"0": "ring", "1": "tree", "2": "collnet chain", "3": "nvls", "4": "collnet direct"}
    chosen = [f"{names.get(one.get('id', ''), 'graph')} {one.get('nchannels', '?')} channels of"
              f" {one.get('speedintra', '?')} GB/s" for one in graphs]  # fmt: skip
    notes = (f"NCCL's graphs over {len(gpus)} GPUs: {'; '.join(chosen)}", "a graph does not show the wiring itself")
    return Found(str(file), GRAPH, gpus=len(gpus), notes=notes)
