"""Several files become one machine: the tree of one, the links of another, the names of a third."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.derive import MARK
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.importing import names
from simgpu.lab.importing.parts import Device, Fabric, Facts, Found, Group, Links, Place

TREES = ("NCCL topology XML", "lstopo XML", "nvidia-smi topo -m", "SimAI topology", "ASTRA-sim topology")
"""Kinds of files that show a tree of PCIe, the most exact first."""
LINKED = ("nvidia-smi topo -m", "lstopo XML", "NCCL topology XML", "SimAI topology", "ASTRA-sim topology")
"""Kinds of files that show links between GPUs, the most exact first."""
CLOSE = 0.02
"""How far a power limit may be from the card's own and still be it, relative."""


@dataclass(frozen=True)
class Joined:
    """A machine as its files show it. `wires` are links between GPUs by number, None where no file shows them."""

    gpu: GPUSpec
    gpu_from: str  # the file that names it, or '--gpu'
    count: int
    places: tuple[Place, ...]
    tree_from: str
    wires: Mapping[tuple[int, int], int] | None
    wires_from: str
    switched: bool
    fabric: Fabric | None
    fabric_from: str
    instance: str
    numbers: Mapping[str, int] = field(default_factory=dict)  # of GPUs, by the name that the tree's file gives them
    notes: tuple[str, ...] = ()


def join(found: Sequence[Found], gpu: str | None, catalogue: Catalogue) -> Joined:
    """One machine of what several files say. Raises `InputError` where they contradict each other or say too little."""
    notes = [f"{_short(one)}: {note}" for one in found for note in one.notes]
    hides = [one for one in found if one.links is not None and not one.links.whole]  # so that it shows PCIe alone
    tree = _first([*hides, *(one for one in found if one not in hides)], TREES, lambda one: bool(one.places))
    linked = _first(found, LINKED, lambda one: one.links is not None and one.links.whole)
    hidden = _first(found, LINKED, lambda one: one.links is not None and not one.links.whole)
    counts = _counts(found)
    spec, source = _gpu(found, gpu, linked, catalogue, notes)
    slices = _slices(found)
    places, numbers = _numbered(tree, spec) if tree else ((), {})
    wires, switched = None, False
    if linked is not None and linked.links is not None:
        order = {name: i for i, name in enumerate(linked.names)}
        in_tree = [numbers[name] for name in tree.names] if tree else list(range(len(order)))
        wires = _renumbered(linked.links, order, in_tree)
        switched = linked.links.switched
    elif hidden is not None:
        notes.append(f"{_short(hidden)} hides the links between GPUs")
    fabric = _first(found, (), lambda one: one.fabric is not None)
    instance = next((one.instance for one in found if one.instance), "")
    rented = catalogue.instance(instance).gpu_count if instance in catalogue.instances else 0
    return Joined(
        spec, source, slices or (counts[0][0] if counts else rented), places, tree.file if tree else "", wires,
        linked.file if linked else "", switched, fabric.fabric if fabric else None, fabric.file if fabric else "",
        instance, numbers, tuple(notes),
    )  # fmt: skip


def _short(one: Found) -> str:
    return one.file.rpartition("/")[2]


def _first(found: Sequence[Found], kinds: Sequence[str], holds: object) -> Found | None:
    """The first file for which something holds, in the order of `kinds`."""
    assert callable(holds)
    fitting = [one for one in found if holds(one)]
    return min(fitting, key=lambda one: kinds.index(one.kind) if one.kind in kinds else len(kinds), default=None)


def _counts(found: Sequence[Found]) -> list[tuple[int, str]]:
    """How many GPUs each file shows. Raises `InputError` where two files differ."""
    told = [(len(one.names) or len(one.facts) or one.gpus, one.file) for one in found]
    told = [one for one in told if one[0]]
    for count, file in told[1:]:
        if count != told[0][0]:
            wrong = f"shows {count} GPUs, {told[0][1]} shows {told[0][0]}"
            raise InputError(f"{wrong}; expected files of one machine", file=file)
    return told


# ---- which GPU -------------------------------------------------------------------------------------------


def _gpu(
    found: Sequence[Found], wanted: str | None, linked: Found | None, catalogue: Catalogue, notes: list[str]
) -> tuple[GPUSpec, str]:  # fmt: skip
    """The GPU, and which file names it."""
    if wanted is not None:
        return names.gpu_named(wanted, catalogue, "--gpu"), "--gpu"
    for one in found:
        if one.facts:
            return _of_facts(one, catalogue, notes), one.file
    for one in found:
        devices = [device for place in one.places for device in place.devices if device.kind == "gpu"]
        models = {device.model or device.pci for device in devices if device.model or device.pci}
        if len(models) > 1:
            raise InputError(
                f"shows GPUs of {len(models)} kinds ({', '.join(sorted(models))}); expected one", file=one.file
            )
        if models:
            return _of_device(devices[0], one, catalogue), one.file
        if one.model:
            return _printed(one.model, catalogue, one.file), one.file
    instance = next((one for one in found if one.instance), None)
    if instance is not None and instance.instance in catalogue.instances:
        return names.gpu_named(catalogue.instance(instance.instance).gpu, catalogue, "gpu"), instance.file
    raise InputError(f"which GPU it has is not in {' or '.join(_short(one) for one in found)}"
                     f"{_candidates(linked, catalogue)}", key="--gpu")  # fmt: skip


def _candidates(linked: Found | None, catalogue: Catalogue) -> str:
    """What to say of GPUs that have as many links as a file shows."""
    most = max(linked.links.counts.values(), default=0) if linked and linked.links else 0
    fitting = names.with_links(most, catalogue) if most else []
    which = f"; with {most} links: {', '.join(fitting)}" if fitting else ""
    return f"{which}; expected --gpu NAME, or the output of nvidia-smi -q with it"


def _printed(model: str, catalogue: Catalogue, file: str, memory: float = 0.0) -> GPUSpec:
    fitting = names.by_print(model, catalogue, memory)
    if len(fitting) == 1:
        return names.gpu_named(fitting[0], catalogue, "gpu")
    which = f"may be {', '.join(fitting)}" if fitting else "is not in the catalogue (simgpu new gpu writes a template)"
    raise InputError(f"'{model}' {which}; say which with --gpu NAME", file=file)


def _of_device(device: Device, one: Found, catalogue: Catalogue) -> GPUSpec:
    known = names.by_pci(device.pci) if device.pci else None
    if known is not None and catalogue.find("gpus", known):
        return names.gpu_named(known, catalogue, "gpu")
    if device.model:
        return _printed(device.model, catalogue, one.file)
    raise InputError(f"PCI device {device.pci} at {device.name} is no GPU that is known; say which with --gpu NAME",
                     file=one.file)  # fmt: skip


def _of_facts(one: Found, catalogue: Catalogue, notes: list[str]) -> GPUSpec:
    """The GPU of a list, with a power cap where all of its limits are below the card's own."""
    models = {fact.model for fact in one.facts}
    if len(models) > 1:
        raise InputError(
            f"lists GPUs of {len(models)} kinds ({', '.join(sorted(models))}); expected one", file=one.file
        )
    first = one.facts[0]
    spec = _printed(first.model, catalogue, one.file, first.memory)
    profiles = {fact.slices for fact in one.facts}
    if any(profiles - {()}):
        (parts, *others) = profiles
        if others or len(set(parts)) != 1:
            raise InputError("is cut into slices of several kinds; expected one kind", file=one.file)
        return names.gpu_named(f"{spec.name}{MARK}{parts[0]}", catalogue, "gpu")
    return _capped(spec, one.facts, catalogue, notes)


def _capped(spec: GPUSpec, facts: Sequence[Facts], catalogue: Catalogue, notes: list[str]) -> GPUSpec:
    limits = sorted({fact.limit for fact in facts if fact.limit})
    own = spec.power.tdp.si
    clock = next((fact.clock for fact in facts if fact.clock), 0.0)
    top = (spec.compute.max_clock or spec.compute.boost_clock).si
    if clock and abs(clock / top - 1) > CLOSE:
        notes.append(f"highest clock {clock / 1e6:g} MHz, in the catalogue {top / 1e6:g} MHz")
    if len(limits) > 1:
        said = ", ".join(f"{limit:g}" for limit in limits)
        notes.append(f"power limits differ ({said} W): the lowest is written")
    if not limits or limits[0] >= own * (1 - CLOSE):
        return spec
    notes.append(f"power limit {limits[0]:g} W of {own:g} W")
    return names.gpu_named(f"{spec.name}{MARK}{limits[0]:g}W", catalogue, "gpu")


def _slices(found: Sequence[Found]) -> int:
    """Devices of a machine whose GPUs are cut by MIG; 0 where none is."""
    return sum(len(fact.slices) for one in found for fact in one.facts)


# ---- numbers and sockets ---------------------------------------------------------------------------------


def _numbered(tree: Found, spec: GPUSpec) -> tuple[tuple[Place, ...], dict[str, int]]:
    """Sockets in the order of their GPUs, sub-NUMA nodes joined; and the number that each GPU gets by that order."""
    rank = {name: i for i, name in enumerate(tree.names)}

    def first(devices: Sequence[Device]) -> int:
        return min((rank[one.name] for one in devices if one.kind == "gpu"), default=len(rank))

    places = []
    for place in _sockets(tree.places, spec):
        groups = [replace(group, devices=_sorted(group, rank)) for group in place.groups]
        places.append(replace(place, groups=tuple(sorted(groups, key=lambda one: first(one.devices)))))
    places.sort(key=lambda place: first(place.devices))
    listed = [one.name for place in places for one in place.devices if one.kind == "gpu"]
    return tuple(places), {name: i for i, name in enumerate(listed)}


def _sorted(group: Group, rank: Mapping[str, int]) -> tuple[Device, ...]:
    gpus = sorted((one for one in group.devices if one.kind == "gpu"), key=lambda one: rank[one.name])
    return (*gpus, *(one for one in group.devices if one.kind == "nic"))


def _sockets(places: Sequence[Place], spec: GPUSpec) -> list[Place]:
    """Sockets: of more than two NUMA nodes the lower and the upper half, unless each GPU is one with its processor."""
    if len(places) <= 2 or not spec.host_link.link.startswith("pcie"):
        return list(places)
    if all(place.numa for place in places):
        most = max(node for place in places for node in place.numa)
        half = 1 << most.bit_length() >> 1
        sides = [int(place.numa[0] >= half) for place in places]
    else:
        sides = [int(2 * i >= len(places)) for i in range(len(places))]
    return [
        _merged([place for place, at in zip(places, sides, strict=True) if at == side]) for side in sorted(set(sides))
    ]


def _merged(places: Sequence[Place]) -> Place:
    return Place(tuple(node for place in places for node in place.numa), places[0].cpu,
                 tuple(group for place in places for group in place.groups))  # fmt: skip


def _renumbered(links: Links, order: Mapping[str, int], in_tree: Sequence[int]) -> dict[tuple[int, int], int]:
    """Links by the numbers that GPUs have in the tree: of one file the third GPU is the third of the other too."""
    wires = {}
    for (a, b), count in links.counts.items():
        i, j = in_tree[order[a]], in_tree[order[b]]
        wires[min(i, j), max(i, j)] = count
    return dict(sorted(wires.items()))


def pairs(count: int) -> list[tuple[int, int]]:
    """All pairs of `count` GPUs."""
    return list(combinations(range(count), 2))
