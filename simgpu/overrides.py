"""Figures set by hand in place of the catalogue's: `gpu.memory.bandwidth` = '5 TB/s', 'twice as much' ('2x'), a name.

They replace values before a file is checked, so that they meet the same checks, and carry where they were written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.documents import dotted
from simgpu.errors import InputError, nearest
from simgpu.hardware.derive import capped, rated
from simgpu.hardware.power import Drawn
from simgpu.hardware.spec import CatalogueFile, GPUSpec
from simgpu.schema_errors import Blame, validate
from simgpu.tree import items_labelled, labels_of, replaced, value_at
from simgpu.units import parse_quantity

HARDWARE_ROOTS = ("gpu", "node", "cluster", "link")
"""First words of the key of a hardware parameter: 'gpu.memory.bandwidth', 'link.pcie-4.latency'."""


@dataclass(frozen=True)
class Override:
    """A value set by hand in place of the catalogue's: `key` is e.g. 'gpu.memory.bandwidth'.

    `at` is the path of the parameter in its file, where names with points stand in it.
    """

    key: str
    value: Any
    source: str  # '--set', or where in an experiment file it stands
    file: str | None = None
    line: int | None = None
    at: tuple[str, ...] = ()

    @property
    def path(self) -> list[str]:
        """The path of the parameter in its file."""
        root, *parts = self.key.split(".")
        if self.at:
            return list(self.at)
        return parts[1:] if root == "link" else parts

    def error(self, problem: str) -> InputError:
        """An `InputError` that names the place where the override was written."""
        return InputError(problem, file=self.file or self.source, line=self.line, key=self.key)


def by_root(overrides: Sequence[Override]) -> dict[str, list[Override]]:
    """Overrides by what they change: 'gpu', 'node', 'cluster' or 'link.NAME'."""
    of: dict[str, list[Override]] = {}
    for override in overrides:
        root, _, rest = override.key.partition(".")
        if root not in HARDWARE_ROOTS:
            raise override.error(f"'{root}' is not known{nearest(root, HARDWARE_ROOTS)}")
        if root == "link":
            name, _, rest = rest.partition(".")
            root = f"link.{name}"
        if not rest or "" in rest.split("."):
            raise override.error("expected the name of a parameter, such as 'gpu.memory.bandwidth'")
        of.setdefault(root, []).append(override)
    return of


def blamer(override: Override) -> Blame:
    """A function that makes errors about the value that an override set; another faulty value is named itself."""

    def blame(path: tuple[Any, ...], problem: str) -> InputError:
        own = [str(part) for part in path[: len(override.path)]] == override.path or len(path) < len(override.path)
        return override.error(problem if own else f"{dotted(path)}: {problem}")

    return blame


def overridden(
    kind: type[CatalogueFile], spec: CatalogueFile, data: Any, overrides: Sequence[Override]
) -> CatalogueFile:
    """`spec`, whose file holds `data`, with overrides applied one after another."""
    if not overrides:
        return spec
    changed = data
    for override in overrides:
        if factor_of(override.value) is not None and value_at(changed, override.path) is None:
            _check_key(kind, changed, override)
        changed = _with_override(changed, override)
    try:
        return validate(kind, changed, blamer(overrides[-1]), _NAMES)
    except InputError:  # whose fault is it? The first after which the file is no longer good
        for override in overrides:
            data = _with_override(data, override)
            validate(kind, data, blamer(override), _NAMES)
        raise


def _check_key(kind: type[CatalogueFile], data: Any, override: Override) -> None:
    """Raise `InputError` for a key that no file of this kind has."""
    try:
        validate(kind, replaced(data, override.path, lambda _: override.value), blamer(override), _NAMES)
    except (InputError, KeyError) as error:
        if isinstance(error, InputError) and error.problem.startswith("unknown key"):
            raise


def of_derived_peak(gpu: GPUSpec, data: Any, override: Override) -> bool:
    """True if an override names a peak that the file, which holds `data`, leaves to the rules of the architecture."""
    if override.path[0] != "peak" or len(override.path) < 2 or items_labelled(data["peak"], override.path[1]):
        return False
    return bool(items_labelled([peak.model_dump() for peak in gpu.peak], override.path[1]))


def settled(gpu: GPUSpec, origin: GPUSpec, overrides: Sequence[Override], drawn: Drawn) -> GPUSpec:
    """`gpu`, as `overrides` made it of `origin`, with the clocks that follow from its peaks and its power limit."""
    try:
        return capped(rated(gpu, origin), origin, drawn)
    except InputError as refused:
        by = [override for override in overrides if override.path[0] == "power"]
        raise by[-1].error(refused.problem) if by else refused from None


_NAMES = ("name", "title", "sources", "vendor")
"""Keys of a file that name things: nobody sets them by hand."""
_FACTOR = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*x\s*")


def factor_of(given: Any) -> float | None:
    """The factor that '2x' multiplies a figure by; None where a value is no factor."""
    found = _FACTOR.fullmatch(given) if isinstance(given, str) and len(given) <= 40 else None
    return float(found[1]) if found else None


def _with_override(data: Any, override: Override) -> Any:
    """A copy of a file's data with one value replaced."""
    path, given = override.path, override.value
    factor = factor_of(given)
    if path[0] in _NAMES:
        raise override.error("names things and cannot be set; expected a parameter, such as 'gpu.memory.bandwidth'")
    parent = value_at(data, path[:-1])
    if path[-1] in ("value", "unit") and isinstance(parent, dict) and "value" in parent:
        changed = {**parent, path[-1]: given, "source": override.source}  # a part of a figure
        return replaced(data, path[:-1], lambda _: changed)
    figure: dict[str, Any] | None = {"value": given, "source": override.source} if isinstance(given, bool) else None
    if figure is None:
        try:
            value, unit = parse_quantity(given)
            figure = {"value": value, "unit": unit, "source": override.source}
        except ValueError:
            pass

    def leaf(old: Any) -> Any:
        if factor is not None:
            if not isinstance(old, dict) or isinstance(old.get("value"), (bool, str, type(None))):
                raise override.error(f"{given}: there is no figure to multiply; expected a value with its unit")
            return old | {"value": old["value"] * factor, "source": f"{override.source}: {given}"}
        if isinstance(old, dict) and "value" in old:
            kept = {key: item for key, item in old.items() if key not in ("value", "unit", "source")}
            return kept | (figure or {"value": given, "source": override.source})
        return given if figure is None or old is not None else figure

    try:
        return replaced(data, path, leaf)
    except KeyError as missing:
        parent = value_at(data, path[: path.index(missing.args[0])])
        hint = nearest(missing.args[0], labels_of(parent)) if isinstance(parent, list) else ""
        raise override.error(f"nothing named '{missing.args[0]}' there{hint}") from None
