"""Reading a Hugging Face `config.json` into a `TransformerConfig` by the rules of its family (`families/*.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simgpu.documents import Document
from simgpu.errors import InputError, no_flag, shown
from simgpu.model import expressions
from simgpu.model.config import MAX_EXPERTS, MAX_LAYERS, TransformerConfig
from simgpu.model.family_files import DEFAULTS, LAYER, SHAPE, STATE, VISION, Families, Family, Rule, built_in
from simgpu.model.layers import FEEDS, MIXERS
from simgpu.model.nearest_family import refusal
from simgpu.model.patterns import arranged
from simgpu.model.quantised import checkpoint_of
from simgpu.model.recurrence import KINDS, Recurrence
from simgpu.model.understood import Seen
from simgpu.model.vision import Tower

MOST = 10**9 - 1
"""Largest number that a key can hold."""

_OUTER = ("tie_word_embeddings", "quantization_config", "torch_dtype")
"""Keys of a wrapper that its text model has where it does not say otherwise."""


def parse_config(
    name: str, document: Document, families: Families | None = None, family: str = ""
) -> TransformerConfig:
    """The shape that a `config.json` describes, read as `family` says, or that of its `model_type`.

    Raises `InputError` for a missing or impossible value.
    """
    known = families or built_in()
    kind = document.data.get("model_type")
    if family:
        rules = known.of(family)
    else:
        if not isinstance(kind, str) or kind not in known.types:
            raise refusal(document, known, lambda one: _read(name, document, known.of(one)))
        rules = known.of(known.types[kind])
    if rules.text and not (rules.shape and all(document.data.get(one) is None for one in rules.text)):
        inner, left_out = _text_part(document, rules)
        found = parse_config(name, inner, known)
        return replace(found, left_out=left_out or found.left_out, vision=_tower(document, rules))
    config, overlooked = _read(name, document, rules)
    for key in overlooked:
        problem = f"{shown(document.data[key])} changes the shape, and simgpu does not know how it does for '{kind}'"
        raise document.error(f"{problem}; take it out to leave that part of the model out", (key,))
    return replace(config, vision=_tower(document, rules)) if rules.vision else config


def _tower(document: Document, rules: Family) -> Tower | None:
    """The tower that sees, where the family has rules for it and the file all keys that they need.

    A file without is read for its text model alone; images are refused where they are asked for.
    """
    reader = _Reader(document, rules)
    needed = [rule.keys for rule in rules.vision.values() if rule.required]
    if not needed or any(all(reader.has(key) is None for key in keys) for keys in needed):
        return None
    return reader.tower()


def _text_part(document: Document, rules: Family) -> tuple[Document, str]:
    """The section of a wrapper that describes the text model, and what else it has in words."""
    data = document.data
    section = next((one for one in rules.text if one in data), rules.text[0])
    text = data.get(section)
    if not isinstance(text, dict):
        raise document.error(f"{shown(text)} is not a mapping", (section,))
    kept = {key: data[key] for key in _OUTER if key in data}
    kind = rules.text_type or text.get("model_type")
    if kind == document.data.get("model_type") and not rules.text_type:
        raise document.error(f"{shown(kind)} holds itself", (section, "model_type"))
    words = [word for key, word in rules.left_out.items() if data.get(key)]
    return document.part({**kept, **text, "model_type": kind}), ", ".join(words)


def _read(name: str, document: Document, rules: Family) -> tuple[TransformerConfig, list[str]]:
    """The shape, and keys that name one and were not read."""
    seen = Seen(document.data)
    reader = _Reader(document.part(seen), rules)
    config = reader.config(name)
    return config, [key for key in seen.overlooked() if key not in rules.understood]


class _Reader:
    """Reads one file by the rules of a family."""

    def __init__(self, document: Document, rules: Family) -> None:
        self.document, self.rules = document, rules
        self.values: dict[str, Any] = {}
        self.keys: dict[str, str] = {}
        self.used: list[str] = []
        self.layer: int | None = None
        self.open: set[str] = set()

    def config(self, name: str) -> TransformerConfig:
        for field in self.rules.shape:
            self._field(field)
        self._check()
        for one in self.rules.refuse:
            if self._formula(one.when, one.key):
                raise self._error(one.say, one.key)
        stored = checkpoint_of(self.document, self.values.get("layers", 1))
        shape = {field: value for field, value in self.values.items() if value is not None or field == "positions"}
        left_out = ", ".join(word for key, word in self.rules.left_out.items() if self.document.data.get(key))
        config = TransformerConfig(
            name=name, published=stored.precision, published_wide=",".join(stored.wide), published_kv=stored.kv,
            state=self._state(), left_out=left_out, **shape,
        )  # fmt: skip
        return self._with_layers(config)

    # ---- values ----------------------------------------------------------------------------------------

    def _field(self, field: str) -> Any:
        """The value of a field of the shape, worked out once; formulas may name each other's fields in any order."""
        if field in self.open:
            raise self._error(f"family '{self.rules.name}' makes {field} of itself", field)
        if field not in self.values:
            before, self.used = self.used, []
            self.open.add(field)
            self.values[field] = self._typed(field, self.rules.shape[field], SHAPE[field])
            self.open.discard(field)
            self.used = before
        return self.values[field]

    def _typed(self, field: str, rule: Rule, kind: Any) -> Any:
        """A value by its rule, of the type that its field has."""
        value = self._value(field, rule)
        key = self.keys.get(field) or next(iter(self.used), field)
        self.keys[field] = key
        if value is None and "None" in str(kind):
            return None
        if kind is bool or str(kind) == "bool | None":
            return self._flag(value, key)
        if kind is str:
            return value if isinstance(value, str) else ""
        free = DEFAULTS.get(field, 0) in (0, None) and not rule.required
        most = {"layers": MAX_LAYERS, "experts": MAX_EXPERTS}.get(field, MOST)
        if field == "dense_layers":
            most = self.values.get("layers", MAX_LAYERS)
        return self._count(value, key, 0 if free else 1, most)

    def _value(self, field: str, rule: Rule) -> Any:
        for key in rule.keys:
            value = self._key(key)
            if value is not None:
                self.keys[field] = key
                return value
        if rule.required:
            raise self._error("this key is missing", rule.keys[0])
        if rule.formula:
            return self._formula(rule.formula, rule.keys[0] if rule.keys else field)
        return rule.constant

    def has(self, key: str) -> Any:
        """The value at a key, None where its section is no mapping."""
        section = self.document.data.get(key.split(".")[0])
        return None if "." in key and not isinstance(section, dict) else self._key(key)

    def _key(self, key: str) -> Any:
        """The value at a key; dots go into nested mappings."""
        self.used.append(key)
        first, *rest = key.split(".")
        value = self.document.data.get(first)
        for part in rest:
            if value is not None and not isinstance(value, dict):
                raise self._error(f"{shown(value)} is not a mapping", first)
            value = None if value is None else value.get(part)
        return value

    def _name(self, name: str) -> Any:
        if name == "i" and self.layer is not None:
            return self.layer
        if name in self.rules.shape and name not in self.open:
            self._field(name)
        if name in self.values:
            if self.keys.get(name):
                self.used.append(self.keys[name])
            return self.values[name]
        return self._key(name)

    def _formula(self, text: str, key: str) -> Any:
        try:
            return expressions.evaluate(text, self._name)
        except expressions.MissingError as error:
            raise self._error("this key is missing", error.name) from None
        except expressions.InexactError as error:
            above, below = (self.keys.get(one) or one for one in error.names)
            problem = f"{error.below} does not divide {above} = {error.above}"
            raise self._error(problem, below) from None
        except IndexError:
            problem = f"lists fewer values than there are layers, {self.values.get('layers', 0)}"
            raise self._error(problem, self.used[-1] if self.used else key) from None
        except (TypeError, ValueError, ArithmeticError, AttributeError, KeyError, expressions.NotAFormulaError):
            key = self.used[-1] if self.used else key
            problem = f"{shown(self._key(key))} is not what family '{self.rules.name}' reads here"
            raise self._error(problem, key) from None

    def _flag(self, value: Any, key: str) -> bool:
        if not isinstance(value, bool):
            raise self._error(no_flag(value), key)
        return value

    def _count(self, value: Any, key: str, least: int, most: int) -> int:
        if value is None and least == 0:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            kind = "positive whole number" if least else "whole number"
            raise self._error(f"{shown(value)} is not a {kind} of at most {most:,}", key)
        return value

    def _error(self, problem: str, key: str) -> InputError:
        return self.document.error(problem, tuple(key.split(".")))

    # ---- what follows ----------------------------------------------------------------------------------

    def _check(self) -> None:
        """Refuse shapes that cannot exist."""
        values = self.values
        heads, shared = values.get("heads"), values.get("kv_heads")
        if heads and shared and heads % shared:
            key = self.keys["kv_heads"]
            raise self._error(f"{shared} does not divide {self.keys['heads']} = {heads}", key)
        experts, visited = values.get("experts", 1), values.get("experts_per_token", 1)
        if visited > experts:
            raise self._error(f"{visited} is more than the {experts} experts", self.keys["experts_per_token"])

    def _state(self) -> Recurrence | None:
        rules = self.rules.state
        if not rules:
            return None
        found: dict[str, Any] = {}
        for field, rule in rules.items():
            kind = STATE[field]
            self.used = []
            value = self._value("", rule)
            key = next(iter(self.used), field)
            if kind is bool:
                found[field] = self._flag(value, key)
            elif kind is str:
                found[field] = value
            else:
                found[field] = self._count(value, key, 0 if field in ("conv", "rank", "key_heads") else 1, MOST)
            self.values[f"state_{field}"] = found[field]
        if found.get("kind") not in KINDS:
            problem = f"{shown(found.get('kind'))} is no kind of a state; expected one of {', '.join(KINDS)}"
            raise self._error(problem, "state")
        return Recurrence(**found)

    def tower(self) -> Tower:
        """The vision tower. Keys whose value is a list stand for its length."""
        found: dict[str, Any] = {}
        for field, rule in self.rules.vision.items():
            self.used = []
            value = self._value("", rule)
            key = next(iter(self.used), field)
            value = len(value) if isinstance(value, list) else value
            found[field] = self._flag(value, key) if VISION[field] is bool else self._count(value, key, 0, MOST)
        tower = Tower(**found)
        for field in ("layers", "hidden", "heads", "ffn", "patch", "out", "merge"):
            if getattr(tower, field) < 1:
                raise self._error(f"0 is no size of a vision tower, '{field}'", self._of_rule(field))
        if tower.hidden % tower.heads:
            raise self._error(f"{tower.heads} heads do not divide {tower.hidden}", self._of_rule("heads"))
        return tower

    def _of_rule(self, field: str) -> str:
        rule = self.rules.vision.get(field)
        return next((key for key in rule.keys if self._key(key) is not None), field) if rule else field

    def _with_layers(self, config: TransformerConfig) -> TransformerConfig:
        """The layers one by one, where the family says that they differ."""
        if not self.rules.layers:
            return config
        rows = []
        for self.layer in range(config.layers):
            row: dict[str, Any] = {}
            for field, rule in self.rules.layers.items():
                self.used = []
                value = self._value(field, rule)
                key = next(iter(self.used), field)
                row[field] = self._of_layer(field, value, key)
            rows.append(row)
        self.layer = None
        return arranged(config, rows)

    def _of_layer(self, field: str, value: Any, key: str) -> Any:
        words: Mapping[str, tuple[str, ...]] = {"mixer": MIXERS, "feed": FEEDS}
        if field in words:
            if value not in words[field]:
                raise self._error(f"{shown(value)} is no {field}; expected one of {', '.join(words[field])}", key)
            return value
        if LAYER[field] is bool or str(LAYER[field]) == "bool | None":
            return self._flag(value, key)
        return self._count(value, key, 0, MOST)
