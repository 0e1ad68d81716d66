"""`simgpu import FILE...` of machines, and `simgpu.import_machine`: what is read, drawn, printed and written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, shown
from simgpu.hardware.machine import topology_of
from simgpu.lab.importing import drawing, writing
from simgpu.lab.importing.building import Built, Options, build
from simgpu.lab.importing.joining import join
from simgpu.lab.importing.parts import Found
from simgpu.lab.importing.reading import read

if TYPE_CHECKING:
    from simgpu.hardware.cluster import Cluster

ENDINGS = (".yaml", ".yml")
MOST_NODES = 100_000
"""Most nodes of a cluster that is written."""


@dataclass(frozen=True)
class Machine:
    """An imported machine: what its files show, and the cluster that it is in simgpu."""

    found: tuple[Found, ...]
    built: Built
    cluster: Cluster

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, left out or cannot be told, in words."""
        return self.built.notes

    def __repr__(self) -> str:
        return f"Machine({self.cluster.gpu_count} x {self.cluster.gpu.name}, {len(self.notes)} notes)"

    def save(self, out: str | Path) -> list[Path]:
        """Write the node file, or a cluster file and its node beside it; return the files."""
        path = Path(out)
        check_ending(path)
        return [file for _, file in writing.write(named(self.built, path), path)]


def name_of(out: Path | None) -> str:
    """The name of a machine whose file is `out`."""
    return re.sub(r"[^\w.+-]", "-", out.stem) if out is not None else "machine"


def check_ending(out: Path) -> None:
    """Raise `InputError` for a file that is no YAML by its name, or whose name a node cannot bear."""
    if out.suffix not in ENDINGS:
        raise InputError("expected a file named .yaml: a node of the catalogue", file=out)
    if name_of(out) != out.stem:
        raise InputError(
            f"expected a name of letters, digits, '.', '-' and '_', such as '{name_of(out)}.yaml'", file=out
        )


def named(built: Built, out: Path) -> Built:
    """The machine under the name of a file."""
    name = name_of(out)
    if built.cluster is None:
        return Built({**built.node, "name": name}, None, built.notes, built.joined)
    cluster = {**built.cluster, "name": name, "node": f"{name}-node"}
    return Built({**built.node, "name": f"{name}-node"}, cluster, built.notes, built.joined)


def import_machine(files: Sequence[str], options: Options, catalogue: Catalogue) -> Machine:
    """The machine that some files show. Raises `InputError`; nothing is written."""
    if not files:
        raise InputError("no file is named; expected FILE..., or a machine of a cloud such as p5.48xlarge", key="FILE")
    if options.nodes is not None and not 1 <= options.nodes <= MOST_NODES:
        raise InputError(f"{shown(options.nodes)}: expected 1 to {MOST_NODES:,}", key="nodes")
    found = [read(name, catalogue) for name in files]
    if all(one.instance and not one.fabric and not one.model for one in found):
        built = _of_instance(found[0].instance, options, catalogue)
    else:
        built = build(found, join(found, options.gpu, catalogue), options, catalogue)
    return Machine(tuple(found), built, writing.checked(built, catalogue))


def _of_instance(name: str, options: Options, catalogue: Catalogue) -> Built:
    """The node of a machine that a cloud rents, or a cluster of some: its adapters' network, one leaf switch."""
    node = catalogue.instance(name)
    data: dict[str, Any] = node.model_dump(exclude_none=True, exclude_defaults=True)
    data["name"] = options.name
    entry = catalogue.instances[name].instances[name]
    notes = [f"{name}: the board and the host of {entry.node}", *([f"{name}: {entry.note}"] if entry.note else [])]
    if options.gpu or options.network:
        raise InputError(f"is known of {name}; expected it without", key="--gpu" if options.gpu else "--network")
    if not options.nodes or options.nodes == 1:
        return Built(data, None, tuple(notes))
    if node.nic is None:
        raise InputError(f"{name} has no adapter in the catalogue; expected one node", key="--nodes")
    port = node.nic.port.model_dump(exclude_none=True, exclude_defaults=True)
    asked = {"source": "asked"}
    notes.append("what is above the nodes is not published: one leaf switch for up to 32 nodes, nothing oversubscribed")
    cluster = {
        "name": options.name, "title": f"{options.nodes} x {name}", "node": f"{options.name}-node",
        "sources": {**data.get("sources", {}), "asked": f"--nodes {options.nodes}, as asked for",
                    "assumed": "not published; assumed"},
        "nodes": {"value": options.nodes, **asked},
        "fabric": {"topology": "rail-fat-tree", **port,
                   "nodes_per_leaf": {"value": min(options.nodes, 32), "source": "assumed"},
                   "oversubscription": {"value": 1, "source": "assumed"}},
    }  # fmt: skip
    return Built(data, cluster, tuple(notes))


# ---- what is shown ---------------------------------------------------------------------------------------


def document(machine: Machine) -> dict[str, Any]:
    """The machine for programs."""
    return {
        "files": [{"file": one.file, "kind": one.kind} for one in machine.found],
        "node": machine.built.node, "cluster": machine.built.cluster, "notes": list(machine.notes),
    }  # fmt: skip


def rows(machine: Machine) -> list[dict[str, Any]]:
    """The links of a node, one row a direction."""
    graph = topology_of(machine.cluster, 1).graph
    return [{"from": a, "to": b, "kind": data["kind"], "link": data["link"], "bandwidth": data["bandwidth"]}
            for a, b, data in graph.edges(data=True)]  # fmt: skip


def show(machine: Machine, style: str, out: IO[str]) -> None:
    """Print what was read: files, tree, matrix, notes."""
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.table import print_notes
    from simgpu.terminal import plain

    if style == "json":
        print_json(document(machine), out)
        return
    if style == "csv":
        print_csv(rows(machine), out)
        return
    cluster = machine.cluster
    for one in machine.found:
        out.write(plain(f"{one.file}: {one.kind}") + "\n")
    nodes = f"{int(cluster.spec.nodes.si):,} nodes of " if cluster.spec.nodes.si > 1 else ""
    out.write(f"\n{nodes}{cluster.gpus_per_node} x {cluster.gpu.title}\n")
    lines = drawing.tree(cluster)
    shown = lines if len(lines) <= 40 else [*lines[:38], f"... ({len(lines) - 39} more lines)", lines[-1]]
    out.write("\n".join(shown) + "\n")
    if cluster.spec.fabric is not None:
        fabric = cluster.spec.fabric
        each = f" {fabric.nodes_per_leaf.si:g} nodes a leaf switch," if fabric.nodes_per_leaf else ""
        out.write(
            f"fabric: {fabric.topology}, {fabric.lanes.si:g} x {fabric.link} a port,"
            f"{each} oversubscription {fabric.oversubscription.si:g}\n"
        )
    if 1 < cluster.gpus_per_node <= drawing.MOST:
        out.write("\n" + drawing.matrix_text(cluster, legend=False).expandtabs(6) + "\n")
    if machine.notes:
        print_notes(machine.notes, out)


def write(machine: Machine, out: Path, plots: bool, formats: Sequence[str]) -> list[tuple[str, Path]]:
    """Write the machine's files and its picture beside them."""
    written = writing.write(named(machine.built, out), out)
    if plots:
        written += [("picture", path) for path in _draw(machine, out, formats or ("png", "svg"))]
    return written


def _draw(machine: Machine, out: Path, formats: Sequence[str]) -> list[Path]:
    from simgpu.render.files import save
    from simgpu.render.topology import topology_figure

    nodes = min(2, int(machine.cluster.spec.nodes.si))
    title = machine.cluster.spec.title if nodes > 1 else machine.cluster.node.title
    figure = topology_figure(topology_of(machine.cluster, nodes), title)
    paths = [out.with_suffix(f".{ending}") for ending in formats]
    for path in paths:
        save(figure, path)
    return paths
