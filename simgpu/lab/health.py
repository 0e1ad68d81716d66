"""What `simgpu doctor` looks at: is this installation able to answer, and where are its files."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from simgpu.catalog import KINDS, Catalogue
from simgpu.errors import InputError
from simgpu.reading import built_in_folder
from simgpu.version import __version__

OLDEST = (3, 11)
"""Python that simgpu needs."""

NEEDED = {
    "click": (8, 2), "defusedxml": (0, 7), "matplotlib": (3, 8), "networkx": (3, 2), "numpy": (1, 26),
    "pydantic": (2, 7), "PyYAML": (6, 0), "rich": (13, 0), "scipy": (1, 11),
}  # fmt: skip
"""Packages that simgpu needs, each with its oldest version; as in setup.cfg."""

EXTRAS = {
    "notebook": ("ipykernel", "notebooks"),
    "dask": ("distributed", "sweeps over a Dask cluster"),
    "tables": ("pyarrow", "Parquet, to_pandas"),
    "report": ("plotly", "simgpu report"),
    "ui": ("flask", "simgpu ui"),
    "onnx": ("onnx", "simgpu import FILE.onnx"),
    "torch": ("torch", "simgpu capture"),
}
"""What each extra brings that tells whether it is there, and what it is for."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, whether it is well, what was found."""

    what: str
    well: bool
    text: str


def examined(folders: Sequence[str]) -> Iterator[Finding]:
    """Findings in the order of what needs what, one by one as they are made."""
    yield Finding("python", sys.version_info >= OLDEST, f"{platform.python_version()}, {sys.executable}")
    yield Finding("simgpu", True, f"{__version__}, {Path(__file__).parents[1]}")
    yield _packages()
    yield _guarded("catalogue", lambda: _catalogue(folders))
    yield _guarded("measurements", _measurements)
    yield _writable("results", Path("results"), "run, sweep and search write here", folder=True)
    store = os.environ.get("SIMGPU_STORE")
    yield _writable("store", Path(store or "results/store.sqlite"), "SIMGPU_STORE" if store else "of sweeps")
    yield Finding("extras", True, _extras())


def _guarded(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except InputError as error:
        return Finding(what, False, str(error))


def _found(package: str) -> str:
    """The version of an installed package; '' where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    parts = text.split(".")[:2]
    return tuple(int("".join(sign for sign in part if sign.isdigit()) or 0) for part in parts)


def _packages() -> Finding:
    here = {name: _found(name) for name in NEEDED}
    wrong = [
        f"{name} {here[name] or 'is missing'}, needs {'.'.join(map(str, oldest))}"
        for name, oldest in NEEDED.items()
        if _numbers(here[name]) < oldest
    ]
    said = "; ".join(wrong) + ": pip install --upgrade simgpu" if wrong else ""
    return Finding("packages", not wrong, said or ", ".join(f"{name} {here[name]}" for name in NEEDED))


def _catalogue(folders: Sequence[str]) -> str:
    """Every file of the catalogue is read and checked. Raises `InputError` for the first that is not in order."""
    catalogue = Catalogue(*folders)
    readers: dict[str, Callable[[str], object]] = {
        **{kind: lambda name, kind=kind: catalogue.spec(kind, name) for kind in KINDS},  # type: ignore[misc]
        "clusters": catalogue.cluster,
        "nodes": catalogue.cluster,
        "models": catalogue.model,
        "networks": catalogue.network,
        "frameworks": catalogue.framework,
        "runtimes": catalogue.runtime,
    }
    counts = []
    for kind, read in readers.items():
        names = catalogue.names(kind)
        for name in names:
            read(name)
        counts.append(f"{len(names)} {kind}")
    own = [str(folder) for folder in catalogue.folders if folder != built_in_folder()]
    return ", ".join(counts) + (f"; with {', '.join(own)}" if own else "")


def _measurements() -> str:
    from simgpu.lab.validation.command import PUBLISHED, VARIABLE, folder
    from simgpu.lab.validation.tables import tables_in

    place = folder(None)
    tables = f"{len(tables_in(place))} tables in {place}"
    return f"figures that come with simgpu ({VARIABLE} names no others)" if place == PUBLISHED else tables


def _writable(what: str, path: Path, use: str, folder: bool = False) -> Finding:
    """Whether a file or folder can be written, or made where it is not there yet."""
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    there_already = nearest == path.absolute() and not folder
    well = os.access(nearest, os.W_OK) and nearest.is_dir() != there_already
    there = "" if path.exists() else ", not there yet"
    return Finding(what, well, f"{path}{there} ({use})" if well else f"{path}: {nearest} cannot be written ({use})")


def _extras() -> str:
    said = []
    for extra, (package, use) in EXTRAS.items():
        here = _found(package)
        said.append(f"{package} {here}" if here else f"no {package} ({use}: pip install 'simgpu[{extra}]')")
    return ", ".join(said)
