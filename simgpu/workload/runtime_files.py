"""Runtimes as files of the catalogue: `runtimes/ENGINE@VERSION.yaml`, one for each version in which something changed.

A file names fields of `simgpu.workload.runtimes.Runtime`, each with value, unit and source; what it does not name is
that of the version it is based on (`base`). Times and sizes have a unit. Adding a version is adding a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from simgpu.documents import Document, read_yaml
from simgpu.errors import InputError, nearest, no_flag, shown
from simgpu.memo import remembered
from simgpu.plan.precision import PRECISIONS
from simgpu.plan.serving_memory import ShareOf
from simgpu.reading import built_in_folder
from simgpu.timing.attention_libraries import LIBRARIES
from simgpu.timing.expert_libraries import LIBRARIES as EXPERTS
from simgpu.timing.gemm_libraries import ENGINES as PRODUCTS
from simgpu.timing.kernels import QUANTISED
from simgpu.timing.picked import LIBRARIES as PICKED
from simgpu.timing.scan_timer import LIBRARIES as SCANS
from simgpu.workload.framework_files import Frameworks, built_in
from simgpu.workload.frameworks import Framework
from simgpu.workload.runtimes import GIB, MARK, Runtime
from simgpu.workload.sourced import figure, number, quantity

FOLDER = "runtimes"

_WORDS = ("name", "title", "version", "released")
_FLAGS = ("default", "measured")
_HEAD = (*_WORDS, *_FLAGS, "base", "sources")
"""Keys of a file that are not figures."""

_FIGURES = {one.name: one for one in fields(Runtime) if one.name not in (*_HEAD, "engine", "since", "stack")}
BYTES = (
    *("reserve", "graph_bytes", "token_bytes", "score_bytes", "group_bytes", "rank_bytes", "least_bytes"),
    *("sampler_bytes", "driver_bytes"),
)
"""Fields that are sizes of memory."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "style": ("fused", "ggml", "eager"),
    "share_of": get_args(ShareOf),
    "precisions": ("", "gguf", "weight-only"),
    "attention": ("", *LIBRARIES),
    "scan": ("", *SCANS),
    "sparse": ("", *PICKED),
    "large_needs": ("", "fp8"),
}
"""Fields that are one of some words."""

SHARES = ("memory_share", "together", "watermark", "reserved", "reserved_least")
"""Fields from 0 to 1."""

MOST = 1e15
"""The largest number in a file."""

_BUILD, _DOTTED, _DATE = r"b\d{1,9}", r"\d{1,4}(\.\d{1,6}){0,3}(\.?(post|rc)\d{1,4}){0,2}", r"20\d\d-\d\d(-\d\d)?"
"""Versions: builds of llama.cpp, numbers with dots, days and months."""


FORWARD_S = 20e-6
"""Host time of a counted kernel in a bare forward (2 of Llama 3.2 1B on a B200). Python runs more small operations than
are counted; another CPU moves it in proportion."""


class Runtimes:
    """The runtimes of some files, by engine and version; each file is read once.

    `frameworks` are those that PyTorch's runtimes name.
    """

    def __init__(self, files: Mapping[str, Path], frameworks: Frameworks) -> None:
        for stem, file in files.items():
            if not all(stem.partition(MARK)):
                raise InputError(f"is not the name of a runtime; expected ENGINE{MARK}VERSION.yaml", file=file)
        self.files, self.frameworks = dict(files), frameworks
        self._made: dict[str, Runtime] = {}
        self._versions: dict[str, tuple[Runtime, ...]] = {}

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of engines, sorted."""
        return tuple(sorted({stem.partition(MARK)[0] for stem in self.files}))

    def versions(self, engine: str) -> tuple[Runtime, ...]:
        """The known versions of an engine, oldest first. Raises `InputError` where two stand for the engine."""
        if engine not in self._versions:
            known = [self.read(stem) for stem in self.files if stem.partition(MARK)[0] == engine]
            default = [one for one in known if one.default]
            if len(default) > 1:
                problem = f"is the default of {engine}, and so is {engine}{MARK}{default[1].since}"
                raise InputError(problem, file=self.files[f"{engine}{MARK}{default[0].since}"], key="default")
            self._versions[engine] = tuple(sorted(known, key=lambda one: _parts(one.since)))
        return self._versions[engine]

    def of(self, name: str) -> Runtime:
        """The runtime of a name. Raises `InputError`.

        `vllm` is the version that stands for the engine (the latest, where none does), and `vllm@0.14` the version that
        0.14 falls to. A version between two known ones has the constants of the lower.
        """
        engine, mark, wanted = name.partition(MARK)
        if engine not in self.engines:
            raise InputError(f"unknown runtime {shown(name)}{nearest(engine, self.engines)}", key="runtime")
        if mark:
            return self.resolved(engine, wanted)
        known = self.versions(engine)
        return next((one for one in known if one.default), known[-1])

    def every(self) -> Iterator[Runtime]:
        """All versions of all engines."""
        for engine in self.engines:
            yield from self.versions(engine)

    def resolved(self, engine: str, wanted: str) -> Runtime:
        """The version that a requested one (0.14.1, b6400, 2025-09) falls to: itself, or the nearest lower version."""
        known = self.versions(engine)
        listed = ", ".join(one.since for one in known)
        dates = all(one.released for one in known)
        dated = re.fullmatch(_DATE, wanted) is not None
        builds = re.fullmatch(_BUILD, known[0].since) is not None
        if not (dates if dated else re.fullmatch(_BUILD if builds else _DOTTED, wanted)):
            example = f" (or a month, such as {known[-1].released[:7]})" if dates else ""
            problem = f"{shown(wanted)} is not a version of {engine}; expected one such as {listed}{example}"
            raise InputError(problem, key="runtime")
        lower = [
            one for one in known if (_day(one.released) <= _day(wanted, "31") if dated else not _after(one, wanted))
        ]
        if not lower:
            raise InputError(f"{shown(wanted)} is older than all known versions of {engine}: {listed}", key="runtime")
        return lower[-1]

    def read(self, stem: str, above: tuple[str, ...] = ()) -> Runtime:
        """The runtime in the file of a name. `above` are the files that are based on it. Raises `InputError`."""
        if stem not in self._made:
            self._made[stem] = self._read(stem, above)
        return self._made[stem]

    def _read(self, stem: str, above: tuple[str, ...]) -> Runtime:
        document = read_yaml(self.files[stem])
        given = _given(document)
        engine, _, since = stem.partition(MARK)
        if given.get("name") != stem:
            raise document.error(f"{shown(given.get('name'))} is not the name of the file, '{stem}'", ("name",))
        for key in ("title", "version"):
            if not isinstance(given.get(key), str):
                raise document.error(f"expected text, such as '{'vLLM' if key == 'title' else '0.12 to 0.13'}'", (key,))
        for key in _FLAGS:
            if not isinstance(given.get(key, False), bool):
                raise document.error(no_flag(given[key]), (key,))
        if "released" in given and not re.fullmatch(_DATE, str(given["released"])):
            raise document.error(f"{shown(given['released'])} is not a day or month, such as 2025-08", ("released",))
        head = {key: given[key] for key in ("title", "version", "released", *_FLAGS) if key in given}
        base = None
        if "base" in given:
            name = given["base"]
            if name == stem or (isinstance(name, str) and name in above):
                raise document.error(f"{shown(name)} inherits from itself", ("base",))
            if not isinstance(name, str) or name not in self.files:
                raise document.error(f"unknown runtime {shown(name)}{nearest(str(name), self.files)}", ("base",))
            base = self.read(name, (*above, stem))
        figures: dict[str, Any] = {name: getattr(base, name) for name in _FIGURES} if base else {}
        sources = dict(base.sources) if base is not None else {}
        for name in _FIGURES:
            if name in given:
                figures[name], sources[name] = _figure(document, name, given)
        figures["stack"] = self._stack(document, figures.get("framework", ""), figures.get("style", ""))
        name = engine if head.get("default") else stem
        return Runtime(name=name, engine=engine, since=since, sources=sources, **head, **figures)

    def _stack(self, document: Document, name: str, style: str) -> Framework | None:
        """The framework that a runtime names."""
        if not name and style == "eager":
            raise document.error("is missing; a runtime of style eager names one", ("framework",))
        if name and name not in self.frameworks.files:
            raise document.error(
                f"unknown framework {shown(name)}{nearest(name, self.frameworks.files)}", ("framework",)
            )
        return self.frameworks.of(name) if name else None


# ---- what comes with simgpu --------------------------------------------------------------------------


@remembered(1)
def shipped() -> Runtimes:
    """The runtimes that come with simgpu."""
    folder = built_in_folder() / FOLDER
    return Runtimes({file.stem: file for file in sorted(folder.glob("*.yaml"))}, built_in())


def runtime(name: str) -> Runtime:
    """A runtime that comes with simgpu, by name. Raises `InputError`."""
    return shipped().of(name)


@remembered(64)
def bare_forward(name: str) -> Runtime:
    """A runtime of PyTorch that computes the logits of all tokens once and does not generate, as benchmarks time it."""
    return replace(runtime(name), every_logit=True, launch_s=FORWARD_S, graphs=False, repeats_heads=False)


# ---- versions ----------------------------------------------------------------------------------------


def _day(date: str, day: str = "01") -> str:
    """A date; of a month its first or its last day."""
    return date if date.count("-") == 2 else f"{date}-{day}"


def _after(run: Runtime, wanted: str) -> bool:
    return _parts(run.since) > _parts(wanted)


def _parts(version: str) -> tuple[int, ...]:
    """Numbers of a version; a pre-release or post-release counts as its release."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split("rc|post", version)[0]))


# ---- files -------------------------------------------------------------------------------------------


def _given(document: Document) -> dict[str, Any]:
    """The mapping of a file, all keys of which are known."""
    for key in document.data:
        if key not in _HEAD and key not in _FIGURES:
            raise document.error(f"unknown key{nearest(key, (*_HEAD, *_FIGURES))}", (key,))
    data: dict[str, Any] = document.data
    return data


def _figure(document: Document, name: str, entry: dict[str, Any]) -> tuple[Any, str]:
    """Value and source of a figure."""
    value, unit, source = figure(document, entry[name], (name,))
    try:
        return _value(name, value, unit), source
    except (ValueError, TypeError) as error:
        raise document.error(str(error), (name,)) from None


def _value(name: str, written: Any, unit: str) -> Any:
    """A figure in the form of its field: numbers in SI units, memory of `chunks` in GiB. Raises `ValueError`."""
    kind = str(_FIGURES[name].type)
    if name in _LISTS:
        return _LISTS[name](written)
    if kind == "bool" or isinstance(written, bool):
        if kind != "bool" or not isinstance(written, bool):
            raise ValueError(no_flag(written) if kind == "bool" else f"{shown(written)} is not a {kind}")
        return written
    if kind in ("str", "ShareOf"):
        known = WORDS.get(name)
        if not isinstance(written, str) or (known is not None and written not in known):
            raise ValueError(f"{shown(written)} is not known{nearest(str(written), known or ())}")
        return written
    if not isinstance(written, (int, float, str)):
        raise ValueError(f"{shown(written)} is not a {'whole number' if kind == 'int' else 'number'}")
    value = number(written, unit, "s" if name.endswith("_s") else "B" if name in BYTES else "")
    most = 1.0 if name in SHARES else MOST
    if not 0 <= value <= most or (kind == "int" and value != int(value)):
        raise ValueError(
            f"{shown(written)} is out of range; expected {'a whole number, ' * (kind == 'int')}0 to {most:g}"
        )
    return int(value) if kind == "int" else value


def _pairs(given: Any, expected: str) -> list[tuple[Any, Any]]:
    """A list of pairs, as a file writes it."""
    if not isinstance(given, list) or not all(isinstance(one, list) and len(one) == 2 for one in given):
        raise ValueError(f"{shown(given)}: expected pairs of {expected}")
    return [(first, second) for first, second in given]


def _whole(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST:
        raise ValueError(f"{shown(given)} is not a whole number of 1 or more")
    return given


def _chunks(given: Any) -> tuple[tuple[float, int], ...]:
    pairs = _pairs(given, "memory and tokens, such as [[0 GiB, 2048], [70 GiB, 8192]]")
    found = tuple((quantity(least, "", "B") / GIB, _whole(tokens)) for least, tokens in pairs)
    if not found or found[0][0] != 0 or list(found) != sorted(found):
        raise ValueError(f"{shown(given)}: expected memory that grows, from 0 GiB on")
    return found


def _limits(given: Any) -> tuple[tuple[int, float], ...]:
    return tuple((_whole(gpus), quantity(most, "", "B")) for gpus, most in _pairs(given, "GPUs and bytes"))


def _libraries(given: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of a precision and the library of its products."""
    pairs = _pairs(given, "a precision and a library, such as [[fp8, fp8-cutlass]]")
    return tuple((_word(name, PRECISIONS), _word(library, PRODUCTS)) for name, library in pairs)


def _quantises(given: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of a precision and the products that a kernel quantises for."""
    pairs = _pairs(given, f"a precision and one of {', '.join(QUANTISED)}, such as [[fp8, attention]]")
    return tuple((_word(name, PRECISIONS), _word(after, QUANTISED)) for name, after in pairs)


def _experts(given: Any) -> tuple[tuple[str, str, str], ...]:
    """Architectures, a precision and the library of its experts, in threes."""
    if not isinstance(given, list) or not all(isinstance(one, list) and len(one) == 3 for one in given):
        raise ValueError(
            f"{shown(given)}: expected architectures, a precision and a library, such as [[hopper, bf16, triton]]"
        )
    found = []
    for architectures, name, library in given:
        if not isinstance(architectures, str) or not architectures.split():
            raise ValueError(f"{shown(architectures)}: expected names of architectures, such as hopper hopper-h20")
        found.append((architectures, _word(name, PRECISIONS), _word(library, EXPERTS)))
    return tuple(found)


def _word(given: Any, known: Collection[str]) -> str:
    """One of some names. Raises `ValueError` with the nearest."""
    if not isinstance(given, str) or given not in known:
        raise ValueError(f"{shown(given)} is not known{nearest(str(given), known)}")
    return given


def _ends(given: Any) -> tuple[float, float]:
    good = isinstance(given, list) and len(given) == 2 and all(type(one) in (int, float) for one in given)
    if not good or not 0 < given[0] <= 1 <= given[1] <= 100:
        raise ValueError(f"{shown(given)}: expected P10 and P90 of measured over predicted, such as [0.8, 1.7]")
    return given[0], given[1]


def _formats(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise ValueError(f"{shown(given)}: expected names of formats, such as [mxfp4]")
    return tuple(given)


_LISTS: Mapping[str, Callable[[Any], Any]] = {
    "chunks": _chunks, "sequences": _chunks, "custom_limits": _limits, "decode_ends": _ends, "block_formats": _formats,
    "products": _libraries, "quantises": _quantises, "experts": _experts,
}  # fmt: skip
"""Readers of figures that are lists."""
