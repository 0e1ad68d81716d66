"""Files of the catalogue: the node, and the cluster that names it. They are loaded once before anything is written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import topology_of
from simgpu.lab.importing.building import Built
from simgpu.render.files import written_whole

_FLOW = ("value", "link", "gpus")
"""Keys of mappings that stand on one line: figures, ports and wires."""


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: figures and short lists on one line."""


def _mapping(dumper: _Dumper, data: dict[str, Any]) -> yaml.Node:
    node = dumper.represent_mapping("tag:yaml.org,2002:map", data.items())
    node.flow_style = any(key in data for key in _FLOW) and "topology" not in data and "sources" not in data
    return node


def _sequence(dumper: _Dumper, data: list[Any]) -> yaml.Node:
    node = dumper.represent_sequence("tag:yaml.org,2002:seq", data)
    node.flow_style = all(not isinstance(one, dict) for one in data)
    return node


_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _sequence)
_Dumper.add_representer(tuple, lambda dumper, data: _sequence(dumper, list(data)))


def text_of(data: Mapping[str, Any], notes: tuple[str, ...]) -> str:
    """A file of the catalogue, with notes as comments."""
    comments = "".join(f"# {note}\n" for note in notes)
    body: str = yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return comments + body


def checked(built: Built, catalogue: Catalogue) -> Cluster:
    """The machine as the catalogue reads it. Raises `InputError` for one that it would refuse; nothing is written."""
    with tempfile.TemporaryDirectory() as folder:
        file = _files(built, Path(folder))[-1][0]
        for path, text in _files(built, Path(folder)):
            path.write_text(text, "utf-8")
        try:
            cluster = catalogue.cluster(str(file))
        except InputError as refused:
            raise InputError(f"what the files show is no machine that can be: {refused.problem}") from None
    own = built.cluster or built.node
    title = own["title"] if built.cluster else built.node["name"]
    spec = cluster.spec.model_copy(update={"name": own["name"], "title": title, "node": built.node["name"]})
    made = replace(cluster, spec=spec)
    topology_of(made, 1)
    return made


def _files(built: Built, folder: Path) -> list[tuple[Path, str]]:
    """The files of a machine, the one that stands for it last."""
    if built.cluster is None:
        return [(folder / f"{built.node['name']}.yaml", text_of(built.node, built.notes))]
    node = {**built.node, "name": built.cluster["node"]}
    return [
        (folder / f"{node['name']}.yaml", text_of(node, ())),
        (folder / f"{built.cluster['name']}.yaml", text_of(built.cluster, built.notes)),
    ]


def write(built: Built, out: Path) -> list[tuple[str, Path]]:
    """Write the node, or the cluster and the node beside it."""
    files = _files(built, out.parent)
    kinds = ["node"] if built.cluster is None else ["node", "cluster"]
    written = []
    for kind, (path, text) in zip(kinds, files, strict=True):
        target = out if path.stem == out.stem else path
        with written_whole(target) as stream:
            stream.write(text)
        written.append((kind, target))
    return written
