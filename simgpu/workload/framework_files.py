"""Frameworks as files of the catalogue: `frameworks/NAME.yaml`, all that is known of one in one place.

A file has kernels of operators (`forward`, `backward`), constants of a step (`step`: fields of
`simgpu.workload.frameworks.Framework`), what stays in memory (`memory`: of `simgpu.plan.stack.Stack`), how
experts run (`experts`: of `simgpu.plan.expert_stack.ExpertStack`) and host time by block of code (`host`: of
`simgpu.workload.host_code.HostTimes`), each with a source. What it does not name is that of the framework it is based
on (`base`). Adding one is adding a file. `NAME@VERSION.yaml` is a version of a framework: a name falls to the nearest
version that is not newer, and to the newest where it says none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import inf, isfinite
from pathlib import Path
from typing import Any

from simgpu.documents import Document, read_yaml
from simgpu.errors import InputError, nearest, no_flag, shown
from simgpu.hardware.inherit import DEFAULT
from simgpu.memo import remembered
from simgpu.plan.expert_stack import ExpertStack
from simgpu.plan.experts import NAMED
from simgpu.plan.numerics import FP8_SCALING
from simgpu.plan.stack import LOSSES, Stack
from simgpu.reading import built_in_folder
from simgpu.timing.attention_libraries import LIBRARIES
from simgpu.workload.frameworks import ALWAYS, KINDS, OPERATORS, Framework, Kernels, Traffic
from simgpu.workload.host_code import HostTimes
from simgpu.workload.sourced import figure, number, source_of

FOLDER = "frameworks"

MARK = "@"
"""Stands between the name of a framework and its version."""

TABLES = ("forward", "backward")
_HEAD = ("name", "title", "base", "sources")
_MADE = ("name", "title", "sources", "memory", "experts", "host", *TABLES)
"""Fields of a framework that are no constants."""

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "step": {one.name: str(one.type) for one in fields(Framework) if one.name not in _MADE},
    "memory": {one.name: str(one.type) for one in fields(Stack)},
    "experts": {one.name: str(one.type) for one in fields(ExpertStack)},
    "host": {one.name: str(one.type) for one in fields(HostTimes)},
}
"""Constants by section, each with its type."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "fp8_scaling": FP8_SCALING,
    "attention": (DEFAULT, *LIBRARIES),
    "loss": LOSSES,
    **NAMED,
}
"""Constants that are words, and those that can stand there."""

_ANY, _TIMES = (0.0, inf), (1e-3, 1e3)
RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("matmul_slowdown", "stream_slowdown", "context_slowdown", "host_update", "optimizer_passes"), _TIMES
    ),
    **dict.fromkeys(("flex_time", "unfused_router", "unfused_permutation", "overlapped", "slowdown"), _TIMES),
    **dict.fromkeys(("async_hidden", "overlap_hidden", "forward"), (0.0, 1.0)),
    "bucket_bytes": (1.0, inf),
    "reserved": (1.0, 10.0),
    **dict.fromkeys(("logit_bytes", "compiled_logit_bytes", "fused_logit_bytes"), (1.0, 1e3)),
    **dict.fromkeys(("spread", "reserved_spread"), (0.0, 1.0)),
    "centre": (-1.0, 1.0),
}
"""Least and most of constants that cannot be any number from 0 on."""

MOST_PASSES = 100
"""Tensors that one kernel reads or writes, at most."""

Parts = dict[tuple[str, str], tuple[Any, str]]
"""Value and source of everything that files say of a framework, by section and name."""


class Frameworks:
    """The frameworks of some files, each read once."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self._made: dict[str, Framework] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all frameworks, sorted."""
        return tuple(sorted(self.files))

    def of(self, name: str) -> Framework:
        """A framework by name. Raises `InputError`.

        Of a version that has no file, it is the nearest one that is not newer, and without a version the newest.
        """
        name = self._version(name)
        if name not in self.files:
            raise InputError(f"unknown framework {shown(name)}{nearest(name, self.files)}", key="framework")
        if name not in self._made:
            document = read_yaml(self.files[name])
            self._made[name] = _framework(document, self._parts(name, document, ()))
        return self._made[name]

    def _version(self, name: str) -> str:
        """The name of the file that stands for a version: its own, or that of the last version before it."""
        stack, mark, asked = name.partition(MARK)
        if name in self.files:
            return name
        versions = {
            _numbers(of): file for file in self.files for one, _, of in [file.partition(MARK)] if one == stack and of
        }
        wanted = _numbers(asked) if mark else (inf,)
        older = [version for version in versions if wanted and version and version <= wanted]
        return versions[max(older)] if older else name

    def _parts(self, name: str, document: Document, above: tuple[str, ...]) -> Parts:
        """The sections of a file, merged over those of its base. `above` are the files that are based on it."""
        _check_head(document, name)
        return self._base_parts(name, document, above) | _own_parts(document)

    def _base_parts(self, name: str, document: Document, above: tuple[str, ...]) -> Parts:
        """The sections of the base of a file; none where it names no base."""
        if "base" not in document.data:
            return {}
        base = document.data["base"]
        if base == name or (isinstance(base, str) and base in above):
            raise document.error(f"{shown(base)} inherits from itself", ("base",))
        if not isinstance(base, str) or base not in self.files:
            raise document.error(f"unknown framework {shown(base)}{nearest(str(base), self.files)}", ("base",))
        return self._parts(base, read_yaml(self.files[base]), (*above, name))


def _numbers(version: str) -> tuple[float, ...]:
    """The numbers of a version; none of what is no version."""
    parts = version.split(".")
    return tuple(float(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


@remembered(1)
def built_in() -> Frameworks:
    """The frameworks that come with simgpu."""
    return Frameworks({file.stem: file for file in sorted((built_in_folder() / FOLDER).glob("*.yaml"))})


def framework(name: str) -> Framework:
    """A framework that comes with simgpu, by name. Raises `InputError`."""
    return built_in().of(name)


def _check_head(document: Document, name: str) -> None:
    """Raise `InputError` for an unknown key, another name than that of the file, or a missing title."""
    head = document.data
    for key in head:
        if key not in (*_HEAD, *TABLES, *SECTIONS):
            raise document.error(f"unknown key{nearest(key, (*_HEAD, *TABLES, *SECTIONS))}", (key,))
    if head.get("name") != name:
        raise document.error(f"{shown(head.get('name'))} is not the name of the file, '{name}'", ("name",))
    if not isinstance(head.get("title"), str) or not head["title"].strip():
        raise document.error("expected text, such as 'PyTorch with torch.compile'", ("title",))


def _own_parts(document: Document) -> Parts:
    """The sections that a file itself has: kernels of operators, then constants."""
    parts: Parts = {}
    for table in TABLES:
        for operator, entry in _section(document, table, OPERATORS).items():
            parts[table, operator] = _kernels(document, entry, (table, operator))
    for section, known in SECTIONS.items():
        for key, entry in _section(document, section, known).items():
            value, unit, source = figure(document, entry, (section, key))
            try:
                parts[section, key] = _value(key, known[key], value, unit), source
            except (ValueError, TypeError) as error:
                raise document.error(str(error), (section, key)) from None
    return parts


def _framework(document: Document, parts: Parts) -> Framework:
    """The framework that merged sections make. Raises `InputError` where something is missing."""
    needed = [(table, operator) for table in TABLES for operator in ALWAYS]
    needed += [(section, key) for section, known in SECTIONS.items() for key in known]
    norms = [operator for operator in OPERATORS if operator.startswith(("rms", "normalization"))]
    needed += [("backward", operator) for operator in norms if ("forward", operator) in parts]
    if ("forward", "rms_autocast") in parts:
        needed += [(table, "normalization_autocast") for table in TABLES]
    missing = [".".join(path) for path in dict.fromkeys(needed) if path not in parts]
    if missing:
        more = f"; missing too: {', '.join(missing[1:])}" if len(missing) > 1 else ""
        base = "" if "base" in document.data else ", and no base that gives it"
        raise document.error(f"{missing[0]} is missing{base}{more}")
    tables = {table: {key: value for (of, key), (value, _) in parts.items() if of == table} for table in TABLES}
    constants = {section: {key: parts[section, key][0] for key in known} for section, known in SECTIONS.items()}
    sources = {key if section == "step" else f"{section}.{key}": told for (section, key), (_, told) in parts.items()}
    head, stack = document.data, Stack(**constants["memory"])
    return Framework(
        head["name"], head["title"], tables["forward"], tables["backward"], stack,
        ExpertStack(**constants["experts"]), HostTimes(**constants["host"]), **constants["step"], sources=sources,
    )  # fmt: skip


def _section(document: Document, name: str, known: Any) -> Mapping[str, Any]:
    """A section of a file, all keys of which are known; empty where there is none."""
    given = document.data.get(name, {})
    if not isinstance(given, dict):
        raise document.error(f"{shown(given)}: expected a mapping", (name,))
    for key in given:
        if key not in known:
            raise document.error(f"unknown key{nearest(key, known)}", (name, key))
    return given


def _kernels(document: Document, entry: Any, path: tuple[str, str]) -> tuple[Kernels, str]:
    """Kernels of an operator and their source."""
    if not isinstance(entry, dict) or set(entry) != {"source", "kernels"} or not isinstance(entry["kernels"], list):
        raise document.error("expected source and a list of kernels, each {kind, reads, writes, does}", path)
    source = source_of(document, entry["source"], (*path, "source"))
    if not entry["kernels"] and path[1] != "heads":
        raise document.error("is empty; expected at least one kernel", (*path, "kernels"))
    return tuple(_kernel(document, one, (*path, "kernels", i)) for i, one in enumerate(entry["kernels"])), source


def _kernel(document: Document, entry: Any, path: tuple[Any, ...]) -> Traffic:
    """One kernel of a list."""
    if not isinstance(entry, dict) or not {"kind", "reads", "writes"} <= set(entry):
        raise document.error(f"{shown(entry)}: expected kind, reads and writes", path)
    for key in entry:
        if key not in ("kind", "reads", "writes", "does"):
            raise document.error(f"unknown key{nearest(key, ('kind', 'reads', 'writes', 'does'))}", (*path, key))
    if entry["kind"] not in KINDS:
        raise document.error(
            f"{shown(entry['kind'])} is not known{nearest(str(entry['kind']), KINDS)}", (*path, "kind")
        )
    for key in ("reads", "writes"):
        many = entry[key]
        if isinstance(many, bool) or not isinstance(many, (int, float)) or not 0 <= many <= MOST_PASSES:
            problem = f"{shown(many)}: expected how many tensors of the operator, 0 to {MOST_PASSES}"
            raise document.error(problem, (*path, key))
    return Traffic(entry["kind"], entry["reads"], entry["writes"], str(entry.get("does", "")))


def _value(name: str, kind: str, given: Any, unit: str) -> Any:
    """A constant in the form of its field: numbers in SI units. Raises `ValueError`."""
    if kind == "bool":
        if not isinstance(given, bool):
            raise ValueError(no_flag(given))
        return given
    if kind == "str":
        if given not in WORDS[name]:
            raise ValueError(f"{shown(given)} is not known{nearest(str(given), WORDS[name])}")
        return given
    if isinstance(given, bool):
        raise ValueError(f"{str(given).lower()} is not a number")
    value = number(given, unit, dimension(name))
    least, most = RANGES.get(name, _ANY)
    if not isfinite(value) or not least <= value <= most:
        expected = f"at least {least:g}" if most == inf else f"{least:g} to {most:g}"
        raise ValueError(f"{shown(given)} is out of range; expected {expected}")
    return value


def dimension(name: str) -> str:
    """Unit of a constant in SI: 's', 'B' or ''."""
    name = name.rpartition(".")[2]
    return "s" if name.endswith("_s") else "B" if name.endswith("_bytes") else ""
