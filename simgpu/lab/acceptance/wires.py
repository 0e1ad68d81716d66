"""`nvidia-smi topo -m` of a new machine against its wiring: links that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.acceptance.checks import BELOW, OK, Check
from simgpu.lab.importing import drawing, matrix
from simgpu.lab.importing.text import text_of

is_matrix = matrix.is_matrix


def checks(file: Path, cluster: Cluster, catalogue: Catalogue) -> Iterator[Check]:
    """A check of each GPU: how many links it shows to the others, of those that it should."""
    del catalogue
    found = matrix.read(file, text_of(file))
    count = len(found.names)
    if count != cluster.gpus_per_node:
        raise InputError(f"shows {count} GPUs; a node of '{cluster.name}' has {cluster.gpus_per_node}", file=file)
    assert found.links is not None
    if not found.links.whole:
        raise InputError("hides the links between GPUs (-mp); expected the output of nvidia-smi topo -m", file=file)
    wanted = _wanted(cluster)
    for i, name in enumerate(found.names):
        pairs = [(min(i, j), max(i, j)) for j in range(count) if j != i]
        shown = {pair: found.links.counts.get((found.names[pair[0]], found.names[pair[1]]), 0) for pair in pairs}
        least = [pair for pair in pairs if shown[pair] < wanted.get(pair, 0)]
        lost = 3 * len(least) >= 2 * len(pairs)  # of a GPU that lost its links each other shows one pair less
        status = BELOW if lost else OK
        got, should = sum(shown.values()), sum(wanted.get(pair, 0) for pair in pairs)
        note = f"shows {got} of {should} links to the others" if status == BELOW else ""
        yield Check(str(file), matrix.KIND, name, float(got), "", None, devices=(name,), status=status, note=note)


def _wanted(cluster: Cluster) -> dict[tuple[int, int], int]:
    """Links between GPUs as the node file has them, by the matrix that it would print."""
    from simgpu.lab.importing.parts import Links

    text = drawing.matrix_text(cluster)
    own = matrix.read(Path(f"{cluster.name}"), text).links or Links()
    return {(int(a[3:]), int(b[3:])): count for (a, b), count in own.counts.items()}
