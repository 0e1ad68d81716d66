"""Where specifications are found, and how their files become checked objects.

Folders are searched in this order: those given by hand (`--catalog DIR`, `Catalogue(DIR)`), those in the
environment variable `SIMGPU_CATALOG` (separated like PATH), the catalogue that comes with simgpu. Each holds
`gpus/`, `nodes/`, `clusters/`, `links/`, `architectures/` (directly or under `hardware/`), `models/` and
`experiments/`. Names are file names without their ending.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.documents import Document, dotted, read_json, read_yaml
from simgpu.errors import InputError, nearest
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.figure import Quantity, figures
from simgpu.hardware.spec import (
    ArchitectureSpec,
    CatalogueFile,
    ClusterSpec,
    GPUSpec,
    KernelConstants,
    LinkSpec,
    NodeSpec,
    PCIeSwitch,
    Port,
)
from simgpu.model.config import TransformerConfig, parse_config
from simgpu.tree import labels_of, replaced, value_at
from simgpu.units import parse_quantity
from simgpu.validation import Blame, validate

KINDS: dict[str, type[CatalogueFile]] = {
    "gpus": GPUSpec,
    "nodes": NodeSpec,
    "clusters": ClusterSpec,
    "links": LinkSpec,
    "architectures": ArchitectureSpec,
}


@dataclass(frozen=True)
class Override:
    """A value set by hand in place of the catalogue's: `key` is e.g. 'gpu.memory.bandwidth'."""

    key: str
    value: Any
    source: str  # '--set', or where in an experiment file it stands
    file: str | None = None
    line: int | None = None

    def error(self, problem: str) -> InputError:
        return InputError(problem, file=self.file or self.source, line=self.line, key=self.key)


class Catalogue:
    """Specifications by name."""

    def __init__(self, *folders: str | Path) -> None:
        extra = [Path(folder) for folder in folders]
        for folder in extra:
            if not folder.is_dir():
                raise InputError("no such folder", file=folder, key="catalog")
        for entry in os.environ.get("SIMGPU_CATALOG", "").split(os.pathsep):
            if entry:
                if not Path(entry).is_dir():
                    raise InputError("no such folder", file=entry, key="SIMGPU_CATALOG")
                extra.append(Path(entry))
        self.folders = [*extra, built_in_folder()]
        self._index: dict[str, dict[str, Path]] = {}
        self._documents: dict[Path, Document] = {}
        self._specs: dict[Path, CatalogueFile] = {}

    # ---- finding -------------------------------------------------------------------------------------

    def names(self, kind: str) -> list[str]:
        """Names of all files of a kind, sorted."""
        return sorted(self._files(kind))

    def find(self, kind: str, name: str) -> Path | None:
        """The file of that name, from the first folder that has it."""
        return self._files(kind).get(name)

    def _files(self, kind: str) -> dict[str, Path]:
        """File by name; folders are looked into once."""
        if kind not in self._index:
            found: dict[str, Path] = {}
            ending = ".json" if kind == "models" else ".yaml"
            for folder in self.folders:
                for place in (folder / kind, folder / "hardware" / kind):
                    if place.is_dir():
                        for file in sorted(place.iterdir()):
                            if file.suffix == ending and file.is_file():
                                found.setdefault(file.stem, file)
            self._index[kind] = found
        return self._index[kind]

    # ---- loading -------------------------------------------------------------------------------------

    def document(self, file: Path) -> Document:
        """A file's data; every file is read once."""
        if file not in self._documents:
            self._documents[file] = read_json(file) if file.suffix == ".json" else read_yaml(file)
        return self._documents[file]

    def spec(self, kind: str, name: str, overrides: Sequence[Override] = ()) -> CatalogueFile:
        """The checked specification of that name, with `overrides` (keys relative to the file) applied."""
        file = self.find(kind, name)
        if file is None:
            raise InputError(f"unknown {kind[:-1]} '{name}'{nearest(name, self.names(kind))}")
        document = self.document(file)
        if file not in self._specs:
            spec = validate(KINDS[kind], document.data, lambda path, problem: document.error(problem, path))
            if spec.name != file.stem:
                raise document.error(f"'{spec.name}' is not the name of the file, '{file.stem}'", ("name",))
            _check_sources(spec, document)
            self._specs[file] = spec
        spec, data = self._specs[file], document.data
        for override in overrides:
            data = _with_override(data, override)
            spec = validate(KINDS[kind], data, _blamer(override))
        return spec

    def cluster(self, name: str, overrides: Sequence[Override] = ()) -> Cluster:
        """A cluster, or a single node as a cluster of one, with everything it refers to.

        `overrides` have keys that begin with `cluster.`, `node.`, `gpu.` or `link.NAME.`.
        """
        of = _by_root(overrides)
        if self.find("clusters", name):
            spec = self.spec("clusters", name, of.get("cluster", ()))
        elif self.find("nodes", name):
            one = Quantity(value=1, source="one node")
            data = {"name": name, "title": name, "node": name, "nodes": one}
            for override in of.get("cluster", ()):
                if override.key not in ("nodes", "cluster.nodes"):
                    raise override.error(f"'{name}' is a single node without a fabric; only cluster clusters have one")
                raise override.error(f"'{name}' is a single node; name a cluster to use several")
            spec = ClusterSpec.model_validate(data)
        else:
            known = self.names("clusters") + self.names("nodes")
            raise InputError(f"unknown cluster or node '{name}'{nearest(name, known)}")
        assert isinstance(spec, ClusterSpec)
        node = self.spec("nodes", spec.node, of.get("node", ()))
        assert isinstance(node, NodeSpec)
        gpu = self.spec("gpus", node.gpu, of.get("gpu", ()))
        assert isinstance(gpu, GPUSpec)
        links = {}
        for link in dict.fromkeys(_links_of(spec, node, gpu)):
            loaded = self.spec("links", link, of.get(f"link.{link}", ()))
            assert isinstance(loaded, LinkSpec)
            links[link] = loaded
        for root, unused in of.items():
            if root not in ("cluster", "node", "gpu") and root.removeprefix("link.") not in links:
                raise unused[0].error(f"no such link in '{name}'{nearest(root.removeprefix('link.'), links)}")
        return Cluster(spec, node, gpu, links, self.kernel_constants(gpu))

    def kernel_constants(self, gpu: GPUSpec) -> KernelConstants:
        """Constants of a GPU after inheritance: its own, its architecture's, the generic ones."""
        merged: dict[str, Quantity | None] = dict.fromkeys(KernelConstants.model_fields)
        level: GPUSpec | ArchitectureSpec | None = gpu
        while level is not None:
            for key, value in dict(level.kernel).items():
                if merged[key] is None and value is not None:
                    source = level.sources.get(value.source or "", value.source)
                    merged[key] = value.model_copy(update={"source": source})
            above = level.architecture if isinstance(level, GPUSpec) else level.parent
            family = self.spec("architectures", above) if above is not None else None
            assert family is None or isinstance(family, ArchitectureSpec)
            level = family
        missing = [key for key, value in merged.items() if value is None]
        if missing:
            raise InputError(f"no architecture above '{gpu.architecture}' gives {', '.join(missing)}")
        return KernelConstants.model_validate(merged)

    def model(self, name: str) -> TransformerConfig:
        """A model by name, or by the path of a Hugging Face `config.json` (or of the folder that holds it)."""
        file = self.find("models", name)
        if file is None:
            path = Path(name)
            if path.is_dir() and (path / "config.json").is_file():
                path = path / "config.json"
            if not (path.suffix == ".json" or os.sep in name or path.exists()):
                raise InputError(f"unknown model '{name}'{nearest(name, self.names('models'))}")
            file = path
        title = file.stem if file.stem != "config" else file.resolve().parent.name
        return parse_config(title, self.document(file))

    def model_source(self, name: str) -> Mapping[str, Any]:
        """What `models/SOURCES.yaml` beside a model says of it; empty when it says nothing."""
        file = self.find("models", name)
        sources = file.parent / "SOURCES.yaml" if file else None
        return self.document(sources).data.get(name, {}) if sources and sources.is_file() else {}


def built_in_folder() -> Path:
    """The catalogue that comes with simgpu: the checkout's own folders, or those in the installed package."""
    package = Path(__file__).resolve().parent
    installed = package / "_catalogue"
    return installed if installed.is_dir() else package.parent


def _links_of(cluster: ClusterSpec, node: NodeSpec, gpu: GPUSpec) -> Iterable[str]:
    ports: list[Port | None] = [gpu.nvlink, gpu.host_link, node.inter_socket, cluster.fabric]
    ports += [node.nic.port, node.nic.host_link] if node.nic else []
    for socket in node.sockets:
        ports += [entry.switch for entry in socket.devices if isinstance(entry, PCIeSwitch)]
    return [port.link for port in ports if port is not None]


def _by_root(overrides: Sequence[Override]) -> dict[str, list[Override]]:
    """Overrides by what they change: 'gpu', 'node', 'cluster' or 'link.NAME'."""
    of: dict[str, list[Override]] = {}
    for override in overrides:
        root, _, rest = override.key.partition(".")
        if root == "link":
            name, _, rest = rest.partition(".")
            root = f"link.{name}"
        if not rest:
            raise override.error("expected the name of a parameter after it, such as 'gpu.memory.bandwidth'")
        of.setdefault(root, []).append(override)
    return of


def _blamer(override: Override) -> Blame:
    return lambda path, problem: override.error(problem)


def _with_override(data: Any, override: Override) -> Any:
    """A copy of a file's data with one value replaced."""
    root, *parts = override.key.split(".")
    path = parts[1:] if root == "link" else parts
    given = override.value
    try:
        value, unit = parse_quantity(given)
        figure: dict[str, Any] | None = {"value": value, "unit": unit, "source": override.source}
    except ValueError:
        figure = {"value": given, "source": override.source} if isinstance(given, bool) else None

    def leaf(old: Any) -> Any:
        if isinstance(old, dict) and "value" in old:
            kept = {key: item for key, item in old.items() if key not in ("value", "unit", "source")}
            return kept | (figure or {"value": given, "source": override.source})
        return given if figure is None or (old is not None and not isinstance(old, dict)) else figure

    parent = value_at(data, path[:-1])
    if path[-1] in ("value", "unit") and isinstance(parent, dict) and "value" in parent:
        changed = {**parent, path[-1]: given, "source": override.source}  # a part of a figure
        return replaced(data, path[:-1], lambda old: changed)
    try:
        return replaced(data, path, leaf)
    except KeyError as missing:
        parent = value_at(data, path[: path.index(missing.args[0])])
        hint = nearest(missing.args[0], labels_of(parent)) if isinstance(parent, list) else ""
        raise override.error(f"nothing named '{missing.args[0]}' there{hint}") from None


def _check_sources(spec: CatalogueFile, document: Document) -> None:
    """Every figure must name a source that the file lists: no number without provenance enters the catalogue."""
    for path, figure in figures(spec):
        if figure.source is None:
            raise InputError("has no source", file=document.file, line=document.line_of(path), key=dotted(path))
        if figure.source not in spec.sources:
            hint = nearest(figure.source, spec.sources)
            problem = f"source '{figure.source}' is not among the file's sources{hint}"
            raise InputError(problem, file=document.file, line=document.line_of(path), key=dotted(path))
