"""What the catalogue holds, for people: lists, specifications with their sources, pictures of hardware."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from simgpu.catalog import Catalogue, Override
from simgpu.errors import InputError, nearest
from simgpu.hardware.figure import Figure, figures
from simgpu.hardware.spec import CatalogueFile, ClusterSpec, GPUSpec, NodeSpec
from simgpu.units import format_si

_SHOWN = ("gpus", "nodes", "clusters", "links", "architectures")


def listing(catalogue: Catalogue, kind: str) -> list[tuple[str, str]]:
    """(name, title) of everything of one kind."""
    found = []
    for name in catalogue.names(kind):
        if kind == "models":
            title = str(catalogue.model_source(name).get("title", ""))
        else:
            file = catalogue.find(kind, name)
            title = str(catalogue.document(file).data.get("title", "")) if file else ""
        found.append((name, title))
    return found


def show(catalogue: Catalogue, name: str, settings: Sequence[str], out: IO[str], nodes: int = 2) -> None:
    """Print a specification: every figure with unit and source; the edges of a node or cluster."""
    from simgpu.render.table import print_figures

    kind = _kind_of(catalogue, name)
    if kind == "models":
        print_figures(*_model_entries(catalogue, name), out)
        return
    spec = catalogue.spec(kind, name, [] if kind in ("nodes", "clusters") else _overrides(settings))
    print_figures(f"{spec.title}  ({catalogue.find(kind, name)})", _entries(spec), out)
    if isinstance(spec, GPUSpec):
        constants = catalogue.kernel_constants(spec)
        rows = [(f"kernel.{key}", _value(figure), str(figure.source)) for key, figure in dict(constants).items()]
        print_figures("Constants after inheritance", rows, out)
    if isinstance(spec, (NodeSpec, ClusterSpec)):
        from simgpu.render.topology import topology_tree

        cluster = catalogue.cluster(name, _overrides(settings))
        topology = cluster.topology_of(min(nodes, int(cluster.spec.nodes.si)))
        print(f"Edges, per direction ({topology.nodes} of {int(cluster.spec.nodes.si)} nodes)", file=out)
        for line in topology_tree(topology):
            print(f"  {line}", file=out)


def draw(catalogue: Catalogue, name: str, settings: Sequence[str], file: Path, nodes: int = 2) -> Path | None:
    """Write the graph of a node or cluster as a picture; None for anything else, which has no graph."""
    if _kind_of(catalogue, name) not in ("nodes", "clusters"):
        return None
    from simgpu.render.style import save
    from simgpu.render.topology import topology_figure

    cluster = catalogue.cluster(name, _overrides(settings))
    count = int(cluster.spec.nodes.si)
    topology = cluster.topology_of(min(nodes, count))
    heading = cluster.spec.title if count > 1 else cluster.node.title
    heading += f"  ({topology.nodes} of {count} nodes)" if count > topology.nodes else ""
    save(topology_figure(topology, heading), file)
    return file


def _kind_of(catalogue: Catalogue, name: str) -> str:
    for kind in ("clusters", "nodes", "gpus", "models", "links", "architectures"):
        if catalogue.find(kind, name):
            return kind
    if Path(name).exists():
        return "models"
    known = [other for kind in (*_SHOWN, "models") for other in catalogue.names(kind)]
    raise InputError(f"nothing in the catalogue is named '{name}'{nearest(name, known)}")


def _entries(spec: CatalogueFile) -> list[tuple[str, str, str]]:
    entries = [(key, str(value), "") for key, value in _texts(spec)]
    for path, figure in figures(spec):
        source = spec.sources.get(figure.source or "", figure.source or "")
        entries.append((".".join(map(str, path)), _value(figure), source))
    return entries


def _texts(spec: CatalogueFile) -> list[tuple[str, object]]:
    plain: list[tuple[str, object]] = [
        (key, value) for key, value in dict(spec).items() if isinstance(value, str) and key not in ("name", "title")
    ]
    if isinstance(spec, NodeSpec):
        plain += [("gpus", spec.gpu_count), ("nics", spec.nic_count), ("sockets", sum(s.count for s in spec.sockets))]
        plain += [("nvlink.topology", spec.nvlink.topology)] if spec.nvlink else []
    if isinstance(spec, GPUSpec):
        plain += [("memory.type", spec.memory.type), ("host_link.link", spec.host_link.link)]
        plain += [("nvlink.link", spec.nvlink.link)] if spec.nvlink else []
    if isinstance(spec, ClusterSpec) and spec.fabric:
        plain += [("fabric.topology", spec.fabric.topology), ("fabric.link", spec.fabric.link)]
    return plain


def _value(figure: Figure) -> str:
    if isinstance(figure.value, bool):
        return "yes" if figure.value else "no"
    if isinstance(figure.value, str):
        return figure.value
    if figure.unit == "B" and figure.value >= 2**20 and figure.value % 2**20 == 0:
        gib = figure.value / 2**30
        return f"{gib:g} GiB" if gib >= 1 else f"{figure.value / 2**20:g} MiB"
    return format_si(figure.value, figure.unit)


def _model_entries(catalogue: Catalogue, name: str) -> tuple[str, list[tuple[str, str, str]]]:
    config, described = catalogue.model(name), catalogue.model_source(name)
    source = str(described.get("source", catalogue.find("models", name) or name))
    entries = [(key, str(value), source) for key, value in vars(config).items() if key != "name"]
    published = described.get("published_parameters")
    entries.append(("parameters", f"{config.parameters:,}", "computed from the above"))
    if published:
        entries.append(("published parameters", f"{int(published):,}", str(described.get("parameters_source", ""))))
    return str(described.get("title", config.name)), entries


def _overrides(settings: Sequence[str]) -> list[Override]:
    from simgpu.study.experiment import parse_settings

    found = []
    for path, value, key in parse_settings(settings):
        if path[0] != "hardware":
            raise InputError("is not a hardware parameter, such as gpu.memory.bandwidth", file="--set", key=key)
        found.append(Override(path[1], value, "--set"))
    return found
