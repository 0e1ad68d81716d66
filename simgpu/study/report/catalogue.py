"""The catalogue for people: lists, specifications with their sources, pictures of hardware."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import IO, TYPE_CHECKING, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, members, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.cluster_spec import ClusterSpec, FabricSpec
from simgpu.hardware.derive import ISOLATED, SHARED, base_name, is_slice, mig_shares
from simgpu.hardware.figure import Figure, figures
from simgpu.hardware.inherit import Calibration, Given
from simgpu.hardware.instances import Instance
from simgpu.hardware.machine import topology_of
from simgpu.hardware.plausible import doubts
from simgpu.hardware.spec import CatalogueFile, GPUSpec, NodeSpec
from simgpu.model.family_files import Rule
from simgpu.operations.prices import price_book
from simgpu.operations.quality import listing as quality_listing
from simgpu.settings import hardware_overrides
from simgpu.units import format_si
from simgpu.workload.framework_files import dimension
from simgpu.workload.runtime_files import BYTES
from simgpu.workload.runtimes import MARK, Runtime

if TYPE_CHECKING:
    from simgpu.hardware.topology import Topology

_SHOWN = ("gpus", "nodes", "clusters", "links", "architectures")


def listing(catalogue: Catalogue, kind: str) -> list[tuple[str, str]]:
    """(name, title) of all entries of one kind."""
    if kind == "runtimes":
        return [(f"{one.engine}@{one.since}", _versions_of(one)) for one in catalogue.runtimes.every()]
    if kind == "prices":
        return price_book(catalogue).listing()
    if kind == "quality":
        return quality_listing(catalogue)
    if kind == "instances":
        rented = catalogue.instances
        return [(name, f"{cloud.title}: {_rented(cloud.instances[name])}") for name, cloud in rented.items()]
    entries = []
    for name in catalogue.names(kind):
        if kind == "models":
            title = catalogue.model_source(name).title
        elif kind == "frameworks":
            title = catalogue.framework(name).title
        elif kind == "families":
            family = catalogue.families.of(name)
            title = f"{family.title}; {', '.join(family.model_types)}"
        else:
            file = catalogue.find(kind, name)
            title = str(catalogue.document(file).data.get("title", "")) if file else ""
        entries.append((name, title))
    return entries


def _rented(entry: Instance) -> str:
    """A machine of a cloud in words: its GPUs, the node that it is like."""
    return f"{entry.gpus} GPUs, as {entry.node}" + (f", with {entry.gpu}" if entry.gpu else "")


def _versions_of(run: Runtime) -> str:
    """Columns on a runtime: title, versions, whether the engine's bare name means it, whether runs were measured."""
    said = [run.version, *([f"the default of {run.engine}"] if run.default else [])]
    return f"{run.title}; {', '.join([*said, *([] if run.measured else ['interval widened'])])}"


def print_listing(listed: Mapping[str, Sequence[tuple[str, str]]], style: str, out: IO[str]) -> None:
    """Print names and titles of some kinds of things."""
    if style != "table":
        rows = [
            {"kind": kind, "name": name, "title": title} for kind, entries in listed.items() for name, title in entries
        ]
        _print_rows({"listed": rows}, "listed", style, out)
        return
    from simgpu.render.table import print_names, print_notes

    for kind, entries in listed.items():
        if len(listed) > 1:
            print_notes([f"{kind}:"], out)
        print_names(entries, out, "  " if len(listed) > 1 else "")


def print_data(catalogue: Catalogue, subject: Subject, style: str, out: IO[str]) -> None:
    """Print the figures of a specification for machines: value, unit and source of each."""
    if subject.spec is None:
        title, entries = _ENTRIES[subject.kind](catalogue, subject.name)
        rows: list[dict[str, Any]] = [
            {"parameter": key, "value": value, "unit": "", "source": source} for key, value, source in entries
        ]
    else:
        title = subject.spec.title
        rows = [{"parameter": key, "value": value, "unit": "", "source": ""} for key, value in _texts(subject.spec)]
        for path, figure in figures(subject.spec):
            source = subject.spec.sources.get(figure.source or "", figure.source or "")
            key = ".".join(map(str, path))
            rows.append({"parameter": key, "value": figure.value, "unit": figure.unit, "source": source})
    document = {"name": subject.name, "kind": subject.kind.removesuffix("s"), "title": title, "figures": rows}
    _print_rows(document, "figures", style, out)


def _print_rows(document: Mapping[str, Any], key: str, style: str, out: IO[str]) -> None:
    """A document as JSON, or its rows at `key` as CSV."""
    from simgpu.render.data import print_csv, print_json

    if style == "json":
        print_json(document, out)
    else:
        print_csv(document[key], out)


@dataclass(frozen=True)
class Subject:
    """An entry of the catalogue, with parameters changed.

    It has a specification (None for a model, a runtime or a framework), and its cluster.
    """

    name: str
    kind: str
    spec: CatalogueFile | None
    cluster: Cluster | None
    nodes: int  # how many nodes to show

    @property
    def topology(self) -> Topology:
        """The hardware graph of the cluster."""
        assert self.cluster is not None
        return topology_of(self.cluster, min(self.nodes, int(self.cluster.spec.nodes.si)))


def find(catalogue: Catalogue, name: str, settings: Sequence[str] = (), nodes: int = 2) -> Subject:
    """Find the entry of a name, with hardware parameters set by `settings` ('key=value')."""
    kind = _kind_of(catalogue, name)
    overrides = hardware_overrides(settings)
    if kind in ("nodes", "clusters"):
        cluster = catalogue.cluster(name, overrides)
        return Subject(name, kind, cluster.spec if kind == "clusters" else cluster.node, cluster, nodes)
    root = {"gpus": "gpu.", "links": f"link.{name}."}.get(kind)
    for override in overrides:
        if root is None or not override.key.startswith(root):
            expected = f"expected a key that begins with {root}" if root else "it has no hardware parameters"
            raise override.error(f"is not a parameter of '{name}'; {expected}")
    spec = None if kind in _ENTRIES else catalogue.spec(kind, name, overrides)
    return Subject(name, kind, spec, None, nodes)


def show(catalogue: Catalogue, subject: Subject, out: IO[str], constants: bool = False) -> None:
    """Print a specification: every figure with unit and source; the edges of a node or cluster.

    Of a GPU also the constants of its kernels after inheritance: one line for each library and level, or with
    `constants` one for each constant.
    """
    from simgpu.render.table import print_figures, print_notes

    spec = subject.spec
    if spec is None:
        print_figures(*_ENTRIES[subject.kind](catalogue, subject.name), out)
        return
    entries = _entries(spec)
    known = catalogue.kernel_constants(spec) if isinstance(spec, GPUSpec) else None
    if known is not None:  # its constants follow, with those it inherits
        entries = [entry for entry in entries if not entry[0].startswith("kernel.")]
    file = catalogue.find(subject.kind, subject.name) or "a machine of a cloud: hardware/instances"
    print_figures(f"{spec.title}  ({file})", entries, out)
    if known is not None:
        _print_constants(known, constants, out)
    if isinstance(spec, GPUSpec) and not is_slice(spec):
        print_notes([f"check a figure: {doubt}" for doubt in doubts(spec, catalogue.architectures(spec))], out)
    if subject.cluster is not None:
        from simgpu.render.topology import topology_tree

        count = int(subject.cluster.spec.nodes.si)
        heading = f"Edges, per direction ({subject.topology.nodes} of {count} nodes)"
        print_notes([heading, *(f"  {line}" for line in topology_tree(subject.topology))], out)


def _print_constants(known: Calibration, each: bool, out: IO[str]) -> None:
    """Print the constants of a GPU and where they come from."""
    from simgpu.render.table import grid, print_figures

    heading = "Constants after inheritance"
    if each:
        rows = [
            (f"kernel.{'.'.join(path)}", _value(one.figure), f"{one.level}: {one.source}")
            for path, one in known.given.items()
        ]
        print_figures(heading, rows, out)
        return
    groups: dict[tuple[tuple[str, ...], str], dict[str, Given]] = {}
    for path, one in known.given.items():
        groups.setdefault((path[:-1], one.level), {})[path[-1]] = one
    lines = [
        (
            ".".join(("kernel", *place)),
            level,
            ", ".join(f"{name} {_value(one.figure)}" for name, one in group.items()),
            "; ".join(shorten(text, 80, placeholder=" ...") for text in {one.source: 0 for one in group.values()}),
        )
        for (place, level), group in sorted(groups.items(), key=lambda item: item[0][0])
    ]
    heading += " (each with its whole source: --constants)"
    grid(heading, ("library", "from", "constants", "source"), lines, out)


def draw(subject: Subject, file: Path) -> Path:
    """Write the graph of a node or cluster as a picture. Raises `InputError` for anything else."""
    from simgpu.render.files import save
    from simgpu.render.topology import topology_figure

    if subject.cluster is None:
        raise InputError(f"'{subject.name}' has no graph to draw; only nodes and clusters have one", file=file)
    count, drawn = int(subject.cluster.spec.nodes.si), subject.topology.nodes
    heading = subject.cluster.spec.title if subject.kind == "clusters" else subject.cluster.node.title
    heading += f"  ({drawn} of {count} nodes)" if count > drawn else ""
    save(topology_figure(subject.topology, heading), file)
    return file


def _kind_of(catalogue: Catalogue, name: str) -> str:
    for kind in ("clusters", "nodes", "gpus", "models", "networks", "links", "architectures", "frameworks", "families"):
        if catalogue.find(kind, name):
            return kind
    if name in catalogue.instances:
        return "nodes"
    if os.path.exists(name) or os.path.exists(name.partition(MARK)[0]):
        return "models"
    if name.partition(MARK)[0] in catalogue.runtimes.engines:
        return "runtimes"
    if catalogue.find("experiments", name):
        raise InputError(f"'{name}' is an experiment; run it with: simgpu run {name}")
    several = members(base_name(name), catalogue.names("gpus"))
    kinds = (*_SHOWN, "models", "networks", "families", "frameworks")
    known = [other for kind in kinds for other in catalogue.names(kind)] + list(catalogue.runtimes.engines)
    hint = several or nearest(base_name(name), known, where="simgpu list names all that is there")
    raise InputError(f"nothing in the catalogue is named {shown(name)}{hint}")


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
        plain += [("cpu", spec.sockets[0].cpu)] if spec.sockets[0].cpu else []
        plain += [("nvlink.topology", spec.nvlink.topology)] if spec.nvlink else []
        plain += [("inter_socket.link", spec.inter_socket.link)] if spec.inter_socket else []
        plain += (
            [("nic.port.link", spec.nic.port.link), ("nic.host_link.link", spec.nic.host_link.link)] if spec.nic else []
        )
    if isinstance(spec, GPUSpec):
        plain += [("memory.type", spec.memory.type), ("host_link.link", spec.host_link.link)]
        plain += [("nvlink.link", spec.nvlink.link)] if spec.nvlink else []
        for mig in spec.mig_profiles:
            sms, memory = mig_shares(spec, mig)
            slices = (
                f"{mig.compute_slices} compute and {mig.memory_slices} memory slices, at most {mig.instances} of them"
            )
            plain.append((f"mig_profiles.{mig.name}", f"{slices}: {sms:.0%} of SMs, {memory:.1%} of bandwidth and L2"))
        if is_slice(spec):
            plain += [("isolated", ISOLATED), ("shared", SHARED)]
    if isinstance(spec, ClusterSpec) and spec.fabric:
        plain += [("fabric.topology", spec.fabric.topology), ("fabric.link", spec.fabric.link), *_design(spec.fabric)]
    return plain


def _design(fabric: FabricSpec) -> list[tuple[str, object]]:
    """Parameters of a fabric that are given."""
    found: list[tuple[str, object]] = [("fabric.radix", fabric.radix)] if fabric.radix else []
    found += [("fabric.tiers", fabric.tiers)] if fabric.tiers > 2 else []
    found += [("fabric.planes", fabric.planes)] if fabric.planes > 1 else []
    found += [("fabric.dims", " x ".join(map(str, fabric.dims)))] if fabric.dims else []
    return found + ([("fabric.routing", fabric.routing.kind)] if fabric.routing.kind != "ideal" else [])


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
    source = described.source or str(catalogue.find("models", name) or name)
    entries = [(key, str(value), source) for key, value in config.said().items()]
    entries.append(("parameters", f"{config.parameters:,}", "computed from the above"))
    if config.vision is not None:
        from simgpu.model.networks.vision import tower_parameters

        one = config.vision
        said = f"{one.layers} layers, {one.hidden} wide, patches of {one.patch}"
        entries.append(("vision tower", said, f"{source}, vision_config"))
        entries.append(("vision parameters", f"{tower_parameters(one):,}", "computed from vision_config; apart"))
    if described.published_parameters and name == base_name(name):
        published = f"{described.published_parameters:,.0f}"
        entries.append(("published parameters", published, described.parameters_source))
    return described.title or config.name, entries


def _network_entries(catalogue: Catalogue, name: str) -> tuple[str, list[tuple[str, str, str]]]:
    """What the file of a network of stages says, and the parameters of each stage."""
    from simgpu.model.networks.parameters import parameters_of

    pipeline = catalogue.network(name)
    source = pipeline.fields.source
    entries = [(key, str(value), source) for key, value in pipeline.values().items() if value not in (None, [], "")]
    entries = [entry for entry in entries if entry[0] not in ("name", "title", "source")]
    counted = parameters_of(pipeline)
    for stage in pipeline.stages:
        described = catalogue.component_source(stage.config.name)
        entries.append((f"stage.{stage.name}", f"{counted[stage.name]:,} parameters", described.source))
    entries.append(("parameters", f"{sum(counted.values()):,}", "computed from the above"))
    return pipeline.fields.title, entries


def _runtime_entries(catalogue: Catalogue, name: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Figures of a runtime's version, each with its source; those that no file of it names are left out."""
    run = catalogue.runtime(name)
    head = [("engine", run.engine), ("version", run.version), ("released", run.released)]
    head += [("interval", "of this version" if run.measured else "of another version, widened")]
    entries = [(key, value, "") for key, value in head if value]
    for key, source in run.sources.items():
        value = getattr(run, key)
        unit = "s" if key.endswith("_s") else "B" if key in BYTES else ""
        number = isinstance(value, float)
        text = format_si(value, unit) if number else {True: "yes", False: "no"}.get(value, str(value))
        entries.append((key, text, source))
    return run.title, entries


def _family_entries(catalogue: Catalogue, name: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Rules of a family: where each field of a model's shape stands in its `config.json`."""
    family = catalogue.families.of(name)
    entries = [("model_types", ", ".join(family.model_types), family.source)]
    if family.text:
        entries.append(("text model in", " | ".join(family.text), family.source))
    for section in ("shape", "state", "layers"):
        rules: Mapping[str, Rule] = getattr(family, section)
        entries += [(f"{section}.{field}", rule.said, family.source) for field, rule in rules.items()]
    return family.title, entries


def _framework_entries(catalogue: Catalogue, name: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Figures of a framework: constants, what stays in memory, then all kernels of operators, each with its source."""
    stack = catalogue.framework(name)
    constants: list[tuple[str, str, str]] = []
    memory: list[tuple[str, str, str]] = []
    kernels: list[tuple[str, str, str]] = []
    for key, value in stack.values().items():
        table, _, operator = key.partition(".")
        if table in ("forward", "backward"):
            for number, one in enumerate(getattr(stack, table)[operator], 1):
                text = f"{one.kind}, {one.reads:g} read, {one.writes:g} written"
                what = f"{one.does}; " if one.does else ""
                kernels.append((f"{key}.{number}", text, what + stack.sources[key]))
        else:
            text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            text = format_si(value, dimension(key)) if isinstance(value, float) else text
            (memory if table == "memory" else constants).append((key, text, stack.sources[key]))
    return stack.title, [*constants, *memory, *kernels]


_ENTRIES = {
    "models": _model_entries,
    "networks": _network_entries,
    "families": _family_entries,
    "runtimes": _runtime_entries,
    "frameworks": _framework_entries,
}
"""Title and parameters of what is no specification of hardware, by its kind."""
