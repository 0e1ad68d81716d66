"""Families of GPUs whose constants were found on GPUs of their own, and what one of them would lend to another GPU."""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.catalog import Catalogue
from simgpu.hardware.inherit import Calibration, flat, inherit
from simgpu.hardware.spec import ArchitectureSpec, GPUSpec

MEASURED = {"gemm", "attention", "moe", "collective"}
"""Classes of constants that an architecture gives whose GPUs were measured all round."""


def adopted_constants(catalogue: Catalogue, gpu: GPUSpec, parent: str) -> Calibration:
    """Constants that a GPU would have if nobody had measured it or its architecture.

    `parent`, another architecture, then stands above it: how well one family says what another does.
    """
    lenders = [_spec(catalogue, parent), *_above(catalogue, parent)]
    own: list[tuple[str, tuple[()], dict[str, str]]] = [(gpu.name, (), {}), (gpu.architecture, (), {})]
    return inherit([*own, *((one.name, flat(one.kernel), one.sources) for one in lenders)], gpu.architecture)


def families(catalogue: Catalogue) -> list[str]:
    """Architectures whose constants were found on GPUs of their own.

    They are those right under any GPU's that give constants of products, attention, experts and collectives alike.
    """
    return [
        name
        for name in catalogue.names("architectures")
        if len(list(_above(catalogue, name))) == 1
        and {path[0] for path, _ in flat(_spec(catalogue, name).kernel)} >= MEASURED
    ]


def ancestors(catalogue: Catalogue, architecture: str) -> list[str]:
    """The names of the architectures above one, nearest first."""
    return [one.name for one in _above(catalogue, architecture)]


def _spec(catalogue: Catalogue, name: str) -> ArchitectureSpec:
    found = catalogue.spec("architectures", name)
    assert isinstance(found, ArchitectureSpec)
    return found


def _above(catalogue: Catalogue, name: str) -> Iterator[ArchitectureSpec]:
    spec = _spec(catalogue, name)
    while spec.parent is not None:
        yield (spec := _spec(catalogue, spec.parent))
