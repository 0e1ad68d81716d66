"""Runtimes as files of the catalogue: `runtimes/ENGINE@VERSION.yaml`, one for each version in which something changed.

A file names fields of `simgpu.workload.runtimes.Runtime`, each with value, unit and source; what it does not name is
that of the version it is based on (`base`). Times and sizes have a unit. Adding a version is adding a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from simgpu.documents import Document, read_yaml
from simgpu.errors import InputError, nearest, shown
from simgpu.reading import built_in_folder
from simgpu.workload.runtimes import GIB, MARK, Runtime
from simgpu.workload.sourced import figure, number, quantity

FOLDER = "runtimes"

_WORDS = ("name", "title", "version", "released")
_FLAGS = ("default", "measured")
_HEAD = (*_WORDS, *_FLAGS, "base", "sources")
"""Keys of a file that are not figures."""

_FIGURES = {one.name: one for one in fields(Runtime) if one.name not in (*_HEAD, "engine", "since")}
BYTES = ("reserve", "graph_bytes", "token_bytes", "score_bytes")
"""Fields that are sizes of memory."""

_BUILD, _DOTTED, _DATE = r"b\d{1,9}", r"\d{1,4}(\.\d{1,6}){0,3}(\.?(post|rc)\d{1,4}){0,2}", r"20\d\d-\d\d(-\d\d)?"
"""Versions: builds of llama.cpp, numbers with dots, days and months."""


@cache
def _files() -> tuple[Path, ...]:
    return tuple(sorted((built_in_folder() / FOLDER).glob(f"*{MARK}*.yaml")))


@cache
def engines() -> tuple[str, ...]:
    """Names of engines, sorted."""
    return tuple(sorted({file.stem.partition(MARK)[0] for file in _files()}))


@cache
def versions(engine: str) -> tuple[Runtime, ...]:
    """The known versions of an engine, oldest first."""
    found = [read(file) for file in _files() if file.stem.partition(MARK)[0] == engine]
    return tuple(sorted(found, key=lambda one: _parts(one.since)))


FORWARD_S = 20e-6
"""Host time of a counted kernel in a bare forward (2 of Llama 3.2 1B on a B200). Python runs more small operations than
are counted; another CPU moves it in proportion."""


@cache
def bare_forward(name: str) -> Runtime:
    """A runtime of PyTorch that is asked for the logits of all tokens once, not to generate: what benchmarks time."""
    return replace(runtime(name), every_logit=True, launch_s=FORWARD_S, graphs=False, repeats_heads=False)


def runtime(name: str) -> Runtime:
    """A runtime by name: `vllm` is the version that stands for the engine, `vllm@0.14` the one that 0.14 falls to.

    A version between two known ones has the constants of the lower. Raises `InputError`.
    """
    engine, mark, wanted = name.partition(MARK)
    if engine not in engines():
        raise InputError(f"unknown runtime {shown(name)}{nearest(engine, engines())}", key="runtime")
    return resolved(engine, wanted) if mark else next(one for one in versions(engine) if one.default)


def every() -> Iterator[Runtime]:
    """All versions of all engines."""
    for engine in engines():
        yield from versions(engine)


def resolved(engine: str, wanted: str) -> Runtime:
    """What the version `wanted` of an engine (0.14.1, b6400, 2025-09) falls to: itself, or the nearest lower one."""
    known = versions(engine)
    listed = ", ".join(one.since for one in known)
    dates = all(one.released for one in known)
    dated = re.fullmatch(_DATE, wanted) is not None
    builds = re.fullmatch(_BUILD, known[0].since) is not None
    if not (dates if dated else re.fullmatch(_BUILD if builds else _DOTTED, wanted)):
        example = f" (or a month, such as {known[-1].released[:7]})" if dates else ""
        problem = f"{shown(wanted)} is no version of {engine}; expected one such as {listed}{example}"
        raise InputError(problem, key="runtime")
    lower = [one for one in known if (_day(one.released) <= _day(wanted, "31") if dated else not _after(one, wanted))]
    if not lower:
        raise InputError(f"{shown(wanted)} is older than all known versions of {engine}: {listed}", key="runtime")
    return lower[-1]


def _day(date: str, day: str = "01") -> str:
    """A day, or one of a month: its first or its last."""
    return date if date.count("-") == 2 else f"{date}-{day}"


def _after(one: Runtime, wanted: str) -> bool:
    return _parts(one.since) > _parts(wanted)


def _parts(version: str) -> tuple[int, ...]:
    """Numbers of a version; what comes before a release counts as that."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split("rc|post", version)[0]))


# ---- files -------------------------------------------------------------------------------------------


@cache
def read(file: Path) -> Runtime:
    """The runtime in a file. Raises `InputError`."""
    document = read_yaml(file)
    given = _given(document)
    sources: dict[str, str] = {}
    engine, _, since = file.stem.partition(MARK)
    if given.get("name") != file.stem:
        raise document.error(f"{shown(given.get('name'))} is not the name of the file, '{file.stem}'", ("name",))
    for key in ("title", "version"):
        if not isinstance(given.get(key), str):
            raise document.error(f"expected text, such as '{'vLLM' if key == 'title' else '0.12 to 0.13'}'", (key,))
    head = {key: given[key] for key in ("title", "version", "released", *_FLAGS) if key in given}
    base = read(file.with_name(f"{given['base']}.yaml")) if "base" in given else None
    found: dict[str, Any] = {name: getattr(base, name) for name in _FIGURES} if base else {}
    if base is not None:
        sources |= base.sources
    for name in _FIGURES:
        if name in given:
            found[name], sources[name] = _figure(document, name, given)
    name = engine if head.get("default") else file.stem
    return Runtime(name=name, engine=engine, since=since, sources=sources, **head, **found)


def _given(document: Document) -> dict[str, Any]:
    """The mapping of a file, all keys of which are known."""
    for key in document.data:
        if key not in _HEAD and key not in _FIGURES:
            raise document.error(f"unknown key{nearest(key, (*_HEAD, *_FIGURES))}", (key,))
    return document.data


def _figure(document: Document, name: str, given: dict[str, Any]) -> tuple[Any, str]:
    """Value and source of a figure."""
    value, unit, source = figure(document, given[name], (name,))
    try:
        return _value(name, value, unit), source
    except (ValueError, TypeError) as error:
        raise document.error(str(error), (name,)) from None


def _value(name: str, given: Any, unit: str) -> Any:
    """A figure as the field has it: numbers in SI units, memory of `chunks` in GiB."""
    if name == "chunks":
        return tuple((quantity(least, "", "B") / GIB, int(tokens)) for least, tokens in given)
    if name == "custom_limits":
        return tuple((int(gpus), quantity(most, "", "B")) for gpus, most in given)
    if isinstance(given, list):
        return tuple(given)
    if isinstance(given, (bool, str)):
        kind = str(_FIGURES[name].type)
        if kind not in (("bool",) if isinstance(given, bool) else ("str", "ShareOf")):
            raise ValueError(f"{shown(given)} is not a {kind}")
        return given
    dimension = "s" if name.endswith("_s") else "B" if name in BYTES else ""
    value = number(given, unit, dimension)
    return int(value) if _FIGURES[name].type == "int" else value
