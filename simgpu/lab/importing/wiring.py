"""How a node's GPUs are joined, as `nvlink` of a node file says it, from the number of links between each two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.importing.joining import pairs

Wires = Mapping[tuple[int, int], int]
MESHED = "infinity"
"""Start of the name of links whose collectives go straight from each GPU to each: Infinity Fabric."""


def wiring(
    gpu: GPUSpec, count: int, wires: Wires, switched: bool, source: str
) -> tuple[dict[str, Any] | None, list[str]]:
    """The `nvlink` block of a node, None where no links are; and notes.

    A pair on a switch shows all links of its GPUs; GPUs that show more links together than they have are on a switch.
    Raises `InputError` for links that the GPU does not have.
    """
    wires = {pair: links for pair, links in wires.items() if pair[1] < count}
    if not wires:
        return None, []
    if gpu.nvlink is None:
        raise InputError(f"shows links between GPUs; '{gpu.name}' has none of its own", file=source)
    lanes = int(gpu.nvlink.lanes.si)
    if not any(wires.values()):
        wires = _shared(wires, lanes, switched)
    most = max(wires.values())
    if most > lanes:
        raise InputError(f"shows {most} links between two GPUs; '{gpu.name}' has {lanes} (is it another GPU?)",
                         file=source)  # fmt: skip
    each = [sum(links for pair, links in wires.items() if i in pair) for i in range(count)]
    if switched or max(each) > lanes or (count == 2 and most == lanes and _on_module(gpu)):
        return _on_switch(gpu, count, wires, lanes, source)
    if gpu.nvlink.link.startswith(MESHED) and len(wires) == len(pairs(count)) and len(set(wires.values())) == 1:
        return {"topology": "full-mesh"}, []
    partners = Counter(i for pair in wires for i in pair)
    if max(partners.values()) == 1 and set(wires.values()) == {lanes}:
        return {"topology": "bridge", "pairs": [list(pair) for pair in wires]}, []
    figure = {"source": "links"}
    return {"topology": "mesh", "links": [{"gpus": list(pair), "lanes": {"value": links, **figure}}
                                          for pair, links in wires.items()]}, []  # fmt: skip


def _shared(wires: Wires, lanes: int, switched: bool) -> dict[tuple[int, int], int]:
    """Links of pairs of which a file says that they are joined and not how: all to a switch, or equal parts."""
    partners = Counter(i for pair in wires for i in pair)
    part = lanes if switched else lanes // max(partners.values())
    return dict.fromkeys(wires, max(1, part))


def _on_module(gpu: GPUSpec) -> bool:
    """True for GPUs on modules, of which a board joins all: a pair of them is a part of such a board."""
    words = set(gpu.name.split("-"))
    return bool({"sxm"} & words) or (gpu.nvlink is not None and not gpu.host_link.link.startswith("pcie"))


def _on_switch(gpu: GPUSpec, count: int, wires: Wires, lanes: int, source: str) -> tuple[dict[str, Any], list[str]]:
    """All GPUs on switches with all of their links; anything less is a fault, or another GPU."""
    alike = set(wires.values())
    if len(wires) == len(pairs(count)) and len(alike) == 1 and alike != {lanes}:
        raise InputError(f"shows {alike.pop()} links between all GPUs; '{gpu.name}' has {lanes} (is it another GPU?)",
                         file=source)  # fmt: skip
    lost = faults(count, wires, lanes)
    if lost:
        raise InputError(f"{'; '.join(lost)}: a fault, which a node file cannot hold; --as-built writes the machine as"
                         " it was built", file=source)  # fmt: skip
    return {"topology": "nvswitch"}, []


def faults(count: int, wires: Wires, lanes: int) -> list[str]:
    """GPUs on a switch that have fewer links than they should, in words."""
    best = [
        max((wires.get((min(i, j), max(i, j)), 0) for j in range(count) if j != i), default=0) for i in range(count)
    ]
    found = []
    for i in range(count):
        mine = [wires.get((min(i, j), max(i, j)), 0) for j in range(count) if j != i]
        if max(mine, default=0) == 0:
            found.append(f"GPU{i} has lost all of its {lanes} links")
        elif (fewer := Counter(mine).most_common(1)[0][0]) < lanes and fewer < max(best):
            found.append(f"GPU{i} has {fewer} of its {lanes} links")
    return found
