"""Sockets and PCIe switches from distances between devices: which GPUs share a switch, which adapters are theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from simgpu.lab.importing.parts import Device, Group, Place

NEAR = ("PIX", "PXB")
"""Through PCIe switches alone."""
WITHIN = ("PIX", "PXB", "PHB", "NODE")
"""Within a socket."""

Maker = Callable[[Literal["gpu", "nic"], str], Device]


@dataclass(frozen=True)
class Seen:
    """Devices of a matrix, the levels between them in both orders ('' where not told), and where GPUs are bound to."""

    gpus: Sequence[str]
    nics: Sequence[str]
    level: Mapping[tuple[str, str], str]
    numa: Mapping[str, tuple[int, ...]]
    cpus: Mapping[str, str]

    def near(self, a: str, b: str) -> bool:
        """True if two devices are below one PCIe switch."""
        return self.level.get((a, b)) in NEAR


def places_of(seen: Seen, make: Maker) -> tuple[tuple[Place, ...], list[str]]:
    """Sockets in the order of their first GPU, and what was left out or cannot be told."""
    nics, notes = _of_the_fabric(seen)
    together = _joined([*seen.gpus, *nics], seen.near)
    sockets = _sockets(seen, together)
    places = []
    for members in sockets:
        groups = []
        for group in _groups(seen, together, members, nics):
            devices = tuple(make("gpu" if one in seen.gpus else "nic", one) for one in group)
            groups.append(Group(devices, shared=len(devices) > 1))
        alone = [nic for nic in nics if not any(nic in one and _has_gpu(one, seen) for one in together)]
        mine = [nic for nic in alone if _home(seen, nic, sockets) == sockets.index(members)]
        groups += [Group((make("nic", nic),), shared=False) for nic in mine]
        places.append(Place(_numa(seen, members), "", tuple(groups)))
    return tuple(places), notes


def _of_the_fabric(seen: Seen) -> tuple[list[str], list[str]]:
    """Adapters that serve GPUs, in the order of the GPUs that they are nearest to; and notes on the others.

    Where any adapter is beside a GPU, those that are nearest to none are of storage or the front end.
    """
    rank = {level: i for i, level in enumerate((*WITHIN, "SYS"))}

    def distance(gpu: str, nic: str) -> int:
        return rank.get(seen.level.get((gpu, nic), "SYS"), len(rank))

    best = {gpu: min((distance(gpu, nic) for nic in seen.nics), default=len(rank)) for gpu in seen.gpus}
    beside = [nic for nic in seen.nics
              if any(seen.near(gpu, nic) and distance(gpu, nic) == best[gpu] for gpu in seen.gpus)]  # fmt: skip
    within = [nic for nic in seen.nics if any(seen.level.get((gpu, nic)) in WITHIN for gpu in seen.gpus)]
    chosen, notes = beside or within, []
    left = [nic for nic in seen.nics if nic not in chosen]
    if beside and left:
        notes.append(f"{_some(left)} beside no GPU: taken for storage or the front end, left out")
    elif left:
        notes.append(f"no adapter is near a GPU ({_some(left)}): which GPU uses which cannot be told; left out")
    if chosen and not beside:
        notes.append(f"no adapter is below a PCIe switch with a GPU ({_some(chosen)}): rails cannot be told")
    if len(chosen) > len(seen.gpus):
        notes.append(f"{len(chosen)} adapters for {len(seen.gpus)} GPUs: ports, or functions of one adapter?")

    def served(nic: str) -> tuple[int, int]:
        nearest = min(distance(gpu, nic) for gpu in seen.gpus)
        return next(i for i, gpu in enumerate(seen.gpus) if distance(gpu, nic) == nearest), seen.nics.index(nic)

    return sorted(chosen, key=served), notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} ... {names[-1]} ({len(names)})"


def _joined(names: Sequence[str], alike: Callable[[str, str], bool]) -> list[list[str]]:
    """Names in sets of those that are alike, directly or through others; in order."""
    sets: list[list[str]] = []
    for name in names:
        touching = [one for one in sets if any(alike(name, other) for other in one)]
        merged = [other for one in touching for other in one] + [name]
        sets = [one for one in sets if one not in touching] + [merged]
    order = {name: i for i, name in enumerate(names)}
    return sorted((sorted(one, key=order.__getitem__) for one in sets), key=lambda one: order[one[0]])


def _sockets(seen: Seen, together: Sequence[Sequence[str]]) -> list[list[str]]:
    """GPUs by socket.

    NUMA nodes decide, else CPU affinity, else levels: some machines print SYS within a socket. Devices below one switch
    are never torn apart.
    """
    numa = {gpu: seen.numa.get(gpu, ())[:1] for gpu in seen.gpus}
    of: Mapping[str, object] = numa if all(numa.values()) else seen.cpus
    if all(of.get(gpu) for gpu in seen.gpus):
        return _joined(seen.gpus, lambda a, b: of[a] == of[b] or any(a in one and b in one for one in together))
    everything = [*seen.gpus, *seen.nics]
    sets = _joined(everything, lambda a, b: seen.level.get((a, b)) in WITHIN)
    if all(not seen.level.get((a, b)) for a in seen.gpus for b in seen.gpus if a != b):
        return [list(seen.gpus)] if not seen.nics else _with_gpus(sets, seen.gpus)
    return _with_gpus(sets, seen.gpus)


def _with_gpus(sets: Sequence[Sequence[str]], gpus: Sequence[str]) -> list[list[str]]:
    kept = [[one for one in group if one in gpus] for group in sets]
    return [group for group in kept if group]


def _groups(
    seen: Seen, together: Sequence[Sequence[str]], members: Sequence[str], nics: Sequence[str]
) -> list[list[str]]:
    """Devices of a socket by switch, GPUs first, adapters in the order of their GPUs."""
    found = []
    for one in together:
        gpus = [name for name in one if name in seen.gpus]
        if gpus and gpus[0] in members:
            found.append(gpus + [nic for nic in nics if nic in one])
    return found


def _has_gpu(group: Sequence[str], seen: Seen) -> bool:
    return any(one in seen.gpus for one in group)


def _home(seen: Seen, nic: str, sockets: Sequence[Sequence[str]]) -> int:
    """The socket of an adapter that is below no switch with a GPU."""
    for i, members in enumerate(sockets):
        if any(seen.level.get((gpu, nic)) in WITHIN for gpu in members):
            return i
    return 0


def _numa(seen: Seen, members: Sequence[str]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(node for gpu in members for node in seen.numa.get(gpu, ())[:1]))
