"""`nvidia-smi topo -m` of new machines against their wiring: links that are missing, adapters that are far away.

A file may hold the output of several nodes, with the host before every line as pdsh and clush print it; else each node
is a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.acceptance.checks import BROKEN, OK, Check
from simgpu.lab.importing import drawing, matrix
from simgpu.lab.importing.text import text_of
from simgpu.lab.launchers import by_host

FARTHER = ("PIX", "PXB", "PHB", "NODE", "SYS")
"""How far two devices are on PCIe, the nearest first."""
_BESIDE = FARTHER.index("PXB")
"""Up to here data between a GPU and an adapter stay clear of the CPU."""


def is_matrix(text: str) -> bool:
    """True if a text holds such a table, of one node or of several."""
    return any(matrix.is_matrix(said) for said in by_host(text).values())


def checks(file: Path, cluster: Cluster, catalogue: Catalogue) -> Iterator[Check]:
    """Checks of each GPU of each node: its links to the others, and its adapters."""
    del catalogue
    for host, text in by_host(text_of(file)).items():
        if not matrix.is_matrix(text):
            raise InputError(f"has no matrix of {host}; expected the output of {matrix.KIND}", file=file)
        yield from _links(file, f"{host} " if host else "", text, cluster)
        yield from _adapters(file, f"{host} " if host else "", text, cluster)


def _links(file: Path, host: str, text: str, cluster: Cluster) -> Iterator[Check]:
    """A check of each GPU: how many links it shows to the others, of those that it should."""
    found = matrix.read(file, text)
    count = len(found.names)
    if count != cluster.gpus_per_node:
        raise InputError(f"shows {count} GPUs{f' of {host.strip()}' if host else ''}; a node of '{cluster.name}' has "
                         f"{cluster.gpus_per_node}", file=file)  # fmt: skip
    assert found.links is not None
    if not found.links.whole:
        raise InputError("hides the links between GPUs (-mp); expected the output of nvidia-smi topo -m", file=file)
    wanted = _wanted(cluster)
    for i, name in enumerate(found.names):
        pairs = [(min(i, j), max(i, j)) for j in range(count) if j != i]
        shown = {pair: found.links.counts.get((found.names[pair[0]], found.names[pair[1]]), 0) for pair in pairs}
        least = [pair for pair in pairs if shown[pair] < wanted.get(pair, 0)]
        lost = 3 * len(least) >= 2 * len(pairs)  # of a GPU that lost its links each other shows one pair less
        status = BROKEN if lost else OK
        got, should = sum(shown.values()), sum(wanted.get(pair, 0) for pair in pairs)
        note = f"shows {got} of {should} links to the others" if status == BROKEN else ""
        place = f"{host}{name}"
        yield Check(
            str(file), matrix.KIND, place, float(got), "links", None, devices=(place,), status=status, note=note
        )


def _wanted(cluster: Cluster) -> dict[tuple[int, int], int]:
    """Links between GPUs as the node file has them, by the matrix that it would print."""
    from simgpu.lab.importing.parts import Links

    text = drawing.matrix_text(cluster)
    own = matrix.read(Path(f"{cluster.name}"), text).links or Links()
    return {(int(a[3:]), int(b[3:])): count for (a, b), count in own.counts.items()}


def _adapters(file: Path, host: str, text: str, cluster: Cluster) -> Iterator[Check]:
    """A check of each GPU that should have adapters on its own PCIe switch: whether it has, and how many.

    None where the table shows no adapter: clouds hide some (EFA), and a table may be cut. Adapters for storage stand
    there too, so that more of them are no fault.
    """
    found = matrix.nearness(file, text)
    if not any(found.values()):
        return
    wanted = matrix.nearness(file, drawing.matrix_text(cluster))
    for gpu, should in wanted.items():
        beside = _beside(should)
        if not beside or gpu not in found:
            continue
        has = _beside(found[gpu])
        nearest = min(found[gpu].values(), key=FARTHER.index)
        status = BROKEN if len(has) < len(beside) else OK
        note = ""
        if status == BROKEN and has:
            note = f"has {len(has)} of {len(beside)} adapters on its PCIe switch"
        elif status == BROKEN:
            note = f"has no adapter on its PCIe switch, the nearest is {nearest}; its data cross the CPU"
        place = f"{host}{gpu}"
        yield Check(str(file), f"{matrix.KIND}, adapters", place, float(len(has)), "adapters", None, devices=(place,),
                    status=status, note=note)  # fmt: skip


def _beside(adapters: Mapping[str, str]) -> list[str]:
    """Adapters that a GPU reaches without the CPU."""
    return [name for name, far in adapters.items() if far in FARTHER[: _BESIDE + 1]]
