"""The GPU of the catalogue that a machine's files mean: by what the driver prints, or by PCI vendor and device."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from importlib.resources import files

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest
from simgpu.hardware.derive import base_name
from simgpu.hardware.spec import GPUSpec
from simgpu.memo import remembered

FORMS = ("sxm", "pcie", "nvl", "server", "workstation", "max-q")
"""Words of catalogue names that say in which form a GPU comes, not which it is."""
_MEMORY = re.compile(r"\d+gb")


@remembered(1)
def _table() -> list[dict[str, str]]:
    """Devices by PCI id and printed name.

    NVIDIA's are those of the README of NVIDIA/open-gpu-kernel-modules (table of supported GPUs), those of Volta and
    Blackwell and AMD's of the PCI ID database (pci-ids.ucw.cz).
    """
    text = files("simgpu.lab.importing").joinpath("devices.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def by_pci(pci: str) -> str | None:
    """The catalogue's name of a PCI device '10de:2330'; None for one that is not in the table."""
    return next((row["gpu"] for row in _table() if row["pci"] == pci.lower()), None)


def gpu_named(name: str, catalogue: Catalogue, key: str) -> GPUSpec:
    """A GPU by the catalogue's name, or with a power cap. Raises `InputError`."""
    if not catalogue.find("gpus", name):
        base = base_name(name)
        known = catalogue.elsewhere(base) or nearest(base, catalogue.names("gpus"), where="simgpu list gpus names them")
        raise InputError(f"unknown GPU '{name}'{known}", key=key)
    spec = catalogue.spec("gpus", name)
    assert isinstance(spec, GPUSpec)
    return spec


def by_print(printed: str, catalogue: Catalogue, memory: float = 0.0) -> list[str]:
    """Names of the catalogue that a printed name may mean: one where it is clear, none where it is unknown.

    Kubernetes writes hyphens for blanks: 'NVIDIA-H100-80GB-HBM3'. `memory` in bytes decides between sizes.
    """
    plain = _plain(printed)
    exact = [row["gpu"] for row in _table() if _plain(row["printed"]) == plain]
    if exact:
        return sorted({name for name in exact if catalogue.find("gpus", name)})
    words = set(re.findall(r"[a-z0-9]+", plain))
    matching = [name for name in catalogue.names("gpus") if _model(name) <= words]
    most = max((len(_model(name)) for name in matching), default=0)
    matching = [name for name in matching if len(_model(name)) == most]
    for agree in (lambda one: _form(one) & _forms(plain), lambda one: set(_MEMORY.findall(one)) & words):
        matching = [name for name in matching if agree(name)] or matching
    if len(matching) > 1 and memory:
        matching = [name for name in matching if abs(_capacity(catalogue, name) / memory - 1) < 0.15] or matching
    return matching


def _plain(printed: str) -> str:
    return re.sub(r"[\s_-]+", " ", printed.lower()).removeprefix("nvidia ").strip()


def _model(name: str) -> set[str]:
    """Words that a printed name must hold: {'rtx', '4090'} of 'rtx-4090'."""
    return {one for one in name.split("-") if one not in (*FORMS, "max", "q") and not _MEMORY.fullmatch(one)
            and not re.fullmatch(r"hbm\w+|\d+w", one)}  # fmt: skip


def _form(name: str) -> set[str]:
    return {form for form in FORMS if form in name}


def _forms(plain: str) -> set[str]:
    """Forms that a printed name states; memory on the package alone means a module."""
    found = {form for form in FORMS if form in plain}
    return found or ({"sxm"} if "hbm" in plain else set())


def _capacity(catalogue: Catalogue, name: str) -> float:
    spec = catalogue.spec("gpus", name)
    assert isinstance(spec, GPUSpec)
    return float(spec.memory.capacity.si)


def with_links(lanes: int, catalogue: Catalogue) -> list[str]:
    """GPUs of the catalogue with this many links of their own."""
    found: Iterable[GPUSpec] = (gpu_named(name, catalogue, "gpu") for name in catalogue.names("gpus"))
    return [gpu.name for gpu in found if gpu.nvlink is not None and gpu.nvlink.lanes.si == lanes]
