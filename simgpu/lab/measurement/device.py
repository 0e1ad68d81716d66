"""The GPU of the catalogue that a device is: by the words of its name, its multiprocessors and its memory."""

from __future__ import annotations

import re

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.measurement.backend import Device

FORMS = ("sxm", "pcie", "nvl", "server")
"""Words of catalogue names that say in which form a GPU comes, not which it is."""
_MEMORY = 0.15
"""Memory may differ by this part: drivers keep some, ECC takes some, and vendors mean GB or GiB."""


def name_of(device: Device, catalogue: Catalogue, wanted: str | None = None) -> str:
    """The catalogue's name of a device, or the given one. Raises `InputError`."""
    names = catalogue.names("gpus")
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"unknown gpu '{wanted}'{nearest(wanted, names)}", key="--gpu")
        return wanted
    words = set(re.findall(r"[a-z0-9]+", device.name.lower()))
    matching = [name for name in names if _model(name) <= words and _fits(catalogue, name, device)]
    most = max((len(_model(name)) for name in matching), default=0)
    matching = [name for name in matching if len(_model(name)) == most]
    if len(matching) > 1:
        formed = [name for name in matching if _form(name) & _forms(device.name)]
        matching = formed or [name for name in matching if not _form(name)] or matching
    if len(matching) != 1:
        which = f"is {' or '.join(matching)}" if matching else "is not in the catalogue"
        problem = f"'{device.name}' ({device.sm_count} multiprocessors) {which}; say which with --gpu NAME"
        raise InputError(f"{problem}, or add its datasheet to a folder for --catalog" if not matching else problem)
    return matching[0]


def _model(name: str) -> set[str]:
    """Words that a device's name must hold: {'rtx', '4090'} of 'rtx-4090', {'h100'} of 'h100-sxm'."""
    return {part for part in name.split("-") if part not in FORMS and not re.fullmatch(r"\d+gb|hbm\w+|\d+w", part)}


def _form(name: str) -> set[str]:
    return {part for part in name.split("-") if part in FORMS}


def _forms(text: str) -> set[str]:
    """Form factors that a device's name states; HBM3 alone means a module.

    Examples: 'NVIDIA A100-SXM4-80GB', 'NVIDIA H100 PCIe'.
    """
    low = text.lower()
    forms = {form for form in FORMS if form in low}
    return forms or ({"sxm"} if "hbm" in low else set())


def _fits(catalogue: Catalogue, name: str, device: Device) -> bool:
    spec = catalogue.spec("gpus", name)
    assert isinstance(spec, GPUSpec)
    near = abs(device.memory_bytes / spec.memory.capacity.si - 1) <= _MEMORY
    return near and int(spec.compute.sm_count.si) == device.sm_count
