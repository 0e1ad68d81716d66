"""Where the files of the catalogue are: the folders that hold them, by kind and name.

Folders are searched in this order: those given by hand (`--catalog DIR`, `Catalogue(DIR)`), those in the environment
variable `SIMGPU_CATALOG` (separated like PATH), the catalogue that comes with simgpu. Each holds `gpus/`, `nodes/`,
`clusters/`, `links/`, `architectures/` (directly or under `hardware/`), `models/` (of language models and, as YAML, of
networks of stages, whose parts are `models/components/`), `families/`, `frameworks/`, `runtimes/`, `experiments/`, and
`prices/`, `reliability/`, `quality/` and `cooling/`, directly or under `hardware/`.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

from simgpu.arguments import PATH, TEXT, takes
from simgpu.documents import Document, read_json, read_yaml
from simgpu.errors import InputError
from simgpu.reading import built_in_folder

FOLDERS = (
    *("gpus", "nodes", "clusters", "instances", "links", "architectures", "hardware"),
    *("models", "families", "experiments", "frameworks", "runtimes", "prices", "reliability", "quality", "cooling"),
)
"""Folders of which a catalogue has at least one."""

OWN_KEY = {"nodes": "sockets", "clusters": "nodes"}
"""The key that only files of a kind have, by which a file of one's own is told."""

WORDS = {
    "models": "model", "gpus": "GPU", "nodes": "node", "clusters": "cluster", "links": "link", "runtimes": "runtime",
    "frameworks": "framework", "experiments": "experiment",
}  # fmt: skip
"""What a file of each kind is, in a message."""

PLACES = {"networks": ("models",), "components": ("models/components", "components")}
"""Where files of a kind stand, if not in a folder of its name."""


class CatalogueFiles:
    """Files by kind and name, each read once."""

    @takes(folders=PATH)
    def __init__(self, *folders: str | Path) -> None:
        extra = [Path(folder) for folder in folders]
        for folder in extra:
            if not os.path.isdir(folder):
                raise InputError("no such folder", file=folder, key="catalog")
            if not any(os.path.isdir(folder / kind) for kind in FOLDERS):
                raise InputError(
                    "holds no gpus, nodes, clusters, models, families, frameworks, runtimes or experiments",
                    file=folder,
                    key="catalog",
                )
        for entry in os.environ.get("SIMGPU_CATALOG", "").split(os.pathsep):
            if entry:
                if not os.path.isdir(entry):
                    raise InputError("no such folder", file=entry, key="SIMGPU_CATALOG")
                extra.append(Path(entry))
        self.folders = [*extra, built_in_folder()]
        self._index: dict[str, dict[str, Path]] = {}
        self._documents: dict[Path, Document] = {}

    @takes(kind=TEXT)
    def names(self, kind: str) -> list[str]:
        """Names of all files of a kind, sorted."""
        return sorted(self._files(kind))

    def find(self, kind: str, name: str) -> Path | None:
        """The file of that name, from the first folder that has it; of a derived GPU or model, that of its base."""
        files = self._files(kind)
        if name in files:
            return files[name]
        if kind not in ("gpus", "models"):
            return self._given(kind, name)
        from simgpu.hardware.derive import base_name  # needs numpy; names alone do not

        return files.get(base_name(name))

    def elsewhere(self, name: str) -> str:
        """The end of a message on a name that stands where another kind belongs: '; it is a model'; else ''."""
        return next((f"; it is a {word}" for kind, word in WORDS.items() if name in self._files(kind)), "")

    def place(self, given: str) -> Path:
        """The file or folder of that path; where there is none, that of the catalogue, such as `hardware/gpus`."""
        if not given or os.path.exists(given) or Path(given).is_absolute():
            return Path(given)
        return next((folder / given for folder in self.folders if os.path.exists(folder / given)), Path(given))

    def _given(self, kind: str, name: str) -> Path | None:
        """The file of a node or cluster that is named by its path, such as `node.yaml`."""
        key = OWN_KEY.get(kind)
        if key is None or not name.endswith((".yaml", ".yml")) or not os.path.isfile(name):
            return None
        return Path(name) if key in self.document(Path(name)).data else None

    def _files(self, kind: str) -> dict[str, Path]:
        """File by name; folders are looked into once."""
        if kind not in self._index:
            files: dict[str, Path] = {}
            endings = (".json",) if kind in ("models", "components") else (".yaml", ".yml")
            inside = PLACES.get(kind, (kind, f"hardware/{kind}"))
            places = [folder / place for folder in self.folders for place in inside]
            for file in chain.from_iterable(sorted(place.iterdir()) for place in places if place.is_dir()):
                if file.suffix in endings and file.is_file() and file.stem != "SOURCES":
                    files.setdefault(file.stem, file)
            self._index[kind] = files
        return self._index[kind]

    def document(self, file: Path) -> Document:
        """A file's data; every file is read once."""
        if file not in self._documents:
            self._documents[file] = read_json(file) if file.suffix == ".json" else read_yaml(file)
        return self._documents[file]
