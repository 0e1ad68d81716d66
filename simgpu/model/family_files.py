"""Families of models as files of the catalogue: `families/NAME.yaml`, how one reads a `config.json`.

A file says which `model_types` it reads, where each field of the shape stands (`shape`), the recurrence of layers with
a state (`state`), and what differs from layer to layer (`layers`). What it does not name is that of the family it is
`like`.

A value is a rule: a constant; the keys that may hold it, with what stands for them where a file has none
(`num_key_value_heads | n_head_kv ?? heads`); or a formula of keys and of fields above it (`= 4 * n_embd`). In `layers`
formulas know `i`, the number of the layer from 0 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from simgpu.documents import Document, read_yaml
from simgpu.errors import InputError, nearest, shown
from simgpu.memo import remembered
from simgpu.model import expressions
from simgpu.model.config import TransformerConfig
from simgpu.model.recurrence import Recurrence
from simgpu.reading import built_in_folder, read_bytes

FOLDER = "families"

SECTIONS = ("name", "title", "source", "model_types", "like", "text", "shape", "state", "layers", "refuse", "ignore",
            "left_out")  # fmt: skip

NOT_OF_FILES = ("name", "state", "runs", "left_out", "published", "published_wide", "published_kv")
"""Fields of a shape that rules do not give."""

SHAPE = {name: kind for name, kind in get_type_hints(TransformerConfig).items() if name not in NOT_OF_FILES}
STATE = get_type_hints(Recurrence)
LAYER = {"mixer": str, "feed": str, **SHAPE}
"""Types of what rules may give, by name."""

_KEYS = re.compile(r"^[A-Za-z_][\w.]*(\s*\|\s*[A-Za-z_][\w.]*)*\s*(\?\?.+)?$")
_TYPES = re.compile(r"^model_types:\s*\[([^\]]*)\]", re.MULTILINE)


@dataclass(frozen=True)
class Rule:
    """How a value is found: the first of `keys` that a file has, else the `formula`, else `constant`."""

    keys: tuple[str, ...] = ()
    formula: str = ""
    constant: Any = None

    @property
    def said(self) -> str:
        """The rule as a file would write it."""
        if not self.keys:
            return f"= {self.formula}" if self.formula else str(self.constant).lower()
        return " | ".join(self.keys) + (f" ?? {self.formula}" if self.formula else "")

    @property
    def required(self) -> bool:
        """True if a file must have one of the keys."""
        return bool(self.keys) and not self.formula


@dataclass(frozen=True)
class Refusal:
    """What a family cannot read: where `when` holds, an error at `key` that says `say`."""

    when: str
    key: str
    say: str


@dataclass(frozen=True)
class Family:
    """A family, with all that it takes from the one it is like.

    `text` are sections of a wrapper that may hold the text model, `text_type` is what that is read as.
    """

    name: str
    title: str = ""
    source: str = ""
    model_types: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    text_type: str = ""
    shape: Mapping[str, Rule] = field(default_factory=dict)
    state: Mapping[str, Rule] = field(default_factory=dict)
    layers: Mapping[str, Rule] = field(default_factory=dict)
    refuse: tuple[Refusal, ...] = ()
    ignore: frozenset[str] = frozenset()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def understood(self) -> frozenset[str]:
        """Keys of a `config.json` that some rule looks at, or that change nothing."""
        rules = [*self.shape.values(), *self.state.values(), *self.layers.values()]
        keys = {key.split(".")[0] for rule in rules for key in rule.keys}
        formulas = [rule.formula for rule in rules if rule.formula] + [one.when for one in self.refuse]
        named = set[str]().union(*(expressions.names_of(one) for one in formulas)) if formulas else set()
        return frozenset(keys | named | self.ignore | set(self.left_out))


class Families:
    """The families of some files, each read when it is asked for."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self._made: dict[str, Family] = {}
        self._types: dict[str, str] | None = None

    @property
    def names(self) -> list[str]:
        """Names of all families, sorted."""
        return sorted(self.files)

    @property
    def types(self) -> Mapping[str, str]:
        """The family of every model type."""
        if self._types is None:
            self._types = {}
            for name in self.names:
                for one in _types_of(self.files[name]):
                    if self._types.setdefault(one, name) != name:
                        problem = f"'{one}' is read by family '{self._types[one]}' too"
                        raise InputError(problem, file=self.files[name], key="model_types")
        return self._types

    def of(self, name: str, key: str = "model") -> Family:
        """A family by name. Raises `InputError`."""
        if name not in self.files:
            problem = (
                f"unknown family {shown(name)}{nearest(name, self.files, where='simgpu list families names them')}"
            )
            raise InputError(problem, key=key)
        if name not in self._made:
            self._made[name] = self._family(name, ())
        return self._made[name]

    def _family(self, name: str, above: tuple[str, ...]) -> Family:
        document = read_yaml(self.files[name])
        data = document.data
        for section in data:
            if section not in SECTIONS:
                raise document.error(f"unknown key{nearest(section, SECTIONS)}", (section,))
        if data.get("name") != name:
            raise document.error(f"{shown(data.get('name'))} is not the name of the file, '{name}'", ("name",))
        base = Family(name)
        like = data.get("like")
        if like is not None:
            if like in (*above, name) or like not in self.files:
                problem = (
                    "is like itself" if like in (*above, name) else f"no such family{nearest(str(like), self.files)}"
                )
                raise document.error(f"{shown(like)}: {problem}", ("like",))
            base = self._family(like, (*above, name))
        return _merged(base, name, document)


def _types_of(file: Path) -> list[str]:
    """Model types of a family, without reading all of its file."""
    text = read_bytes(file, 200_000).decode("utf-8", errors="replace")
    found = _TYPES.search(text)
    if found is None:
        raise InputError(
            "is missing, or not a list on one line: model_types: [llama, ...]", file=file, key="model_types"
        )
    return [one.strip().strip("'\"") for one in found.group(1).split(",") if one.strip()]


def _merged(base: Family, name: str, document: Document) -> Family:
    data = document.data
    text = _mapping(document, "text")
    sections = text.get("section", [])
    ignore = data.get("ignore") or []
    for key, value in (("ignore", ignore), ("text.section", sections)):
        if not isinstance(value, (list, str)):
            raise document.error(f"{shown(value)} is not a list of keys", tuple(key.split(".")))
    return Family(
        name,
        str(data.get("title", "")),
        str(data.get("source", "")),
        tuple(_types_of(Path(str(document.file)))),
        tuple([sections] if isinstance(sections, str) else sections) or base.text,
        str(text.get("type", base.text_type)),
        {**base.shape, **_rules(document, "shape", SHAPE)},
        {**base.state, **_rules(document, "state", STATE)},
        {**base.layers, **_rules(document, "layers", LAYER)},
        (*base.refuse, *_refusals(document)),
        base.ignore | frozenset(map(str, ignore)),
        {**base.left_out, **{str(k): str(v) for k, v in _mapping(document, "left_out").items()}},
    )


def _mapping(document: Document, section: str) -> Mapping[str, Any]:
    value = document.data.get(section)
    if value is not None and not isinstance(value, dict):
        raise document.error(f"{shown(value)} is not a mapping", (section,))
    return value or {}


def _rules(document: Document, section: str, known: Mapping[str, Any]) -> dict[str, Rule]:
    found = {}
    for key, value in _mapping(document, section).items():
        if key not in known:
            raise document.error(f"a model has no '{key}'{nearest(key, known)}", (section, key))
        found[key] = _rule(document, value, (section, key))
    return found


def _rule(document: Document, value: Any, path: tuple[str, ...]) -> Rule:
    if isinstance(value, (bool, int)):
        return Rule(constant=value)
    if not isinstance(value, str):
        raise document.error(f"{shown(value)} is no rule; expected a number, keys or '= FORMULA'", path)
    if value.startswith("="):
        _formula(document, value[1:], path)
        return Rule(formula=value[1:].strip())
    if not _KEYS.match(value):
        raise document.error(f"{shown(value)} is no rule; expected KEY | KEY ?? FORMULA, or '= FORMULA'", path)
    keys, _, formula = value.partition("??")
    if formula:
        _formula(document, formula, path)
    return Rule(tuple(one.strip() for one in keys.split("|")), formula.strip())


def _formula(document: Document, text: str, path: tuple[str, ...]) -> None:
    try:
        expressions.check(text)
    except expressions.NotAFormulaError:
        raise document.error(f"{shown(text.strip())} is no formula", path) from None


def _refusals(document: Document) -> Iterator[Refusal]:
    given = document.data.get("refuse") or []
    if not isinstance(given, list):
        raise document.error(f"{shown(given)} is not a list", ("refuse",))
    for n, one in enumerate(given):
        if not isinstance(one, dict) or {"when", "key", "say"} != set(one):
            raise document.error(f"{shown(one)} does not have when, key and say", ("refuse", str(n)))
        _formula(document, str(one["when"]), ("refuse", str(n)))
        yield Refusal(str(one["when"]), str(one["key"]), str(one["say"]))


@remembered(1)
def built_in() -> Families:
    """The families that come with simgpu."""
    return Families({file.stem: file for file in sorted((built_in_folder() / FOLDER).glob("*.yaml"))})


DEFAULTS = {one.name: one.default for one in fields(TransformerConfig)}
"""Defaults of the fields of a shape."""
