"""A model derived from a model: the same with other layers, heads or widths.

It is written after the model's name, `llama-3.1-8b@layers=12,kv_heads=4`, or in an experiment file as a mapping with
the model it starts from: `model: {base: llama-3.1-8b, layers: 12, kv_heads: 4}`. Keys are the fields of
`TransformerConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

from simgpu.errors import InputError, nearest, no_flag, shown
from simgpu.model.config import TransformerConfig
from simgpu.model.patterns import resized

MARK = "@"
"""Stands between a model's name and what is changed of it."""

MOST = 10**9 - 1
"""Largest number that a field of a shape can have."""

_FIXED = ("name", "state", "runs", "left_out", "vision")
_KINDS = {name: kind for name, kind in get_type_hints(TransformerConfig).items() if name not in _FIXED}

AS = "as"
"""Key of the family that a file is to be read as: no change of the shape."""


def written(base: str, changes: Mapping[str, Any]) -> str:
    """The name of a derived model; `changes` in the order of the fields, so that equal models have equal names."""
    order = [field.name for field in fields(TransformerConfig)]
    known = sorted(changes, key=lambda key: (order.index(key) if key in order else len(order), key))
    return f"{base}{MARK}{','.join(f'{key}={_text(changes[key])}' for key in known)}" if known else base


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_as(changes: str) -> tuple[str, str]:
    """(family that a file is to be read as, or '', changes without it) of what stands after a model's name."""
    parts = changes.split(",")
    families = [part.partition("=")[2] for part in parts if part.startswith(f"{AS}=")]
    return families[-1] if families else "", ",".join(part for part in parts if not part.startswith(f"{AS}="))


def derive(config: TransformerConfig, changes: str) -> TransformerConfig:
    """`config` with what stands after its name, such as 'layers=12,kv_heads=4'. Raises `InputError`."""
    given: dict[str, Any] = {}
    for change in changes.split(","):
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise InputError(f"{shown(change)} is not a change of a model; expected KEY=VALUE, such as 'layers=12'")
        if key not in _KINDS:
            raise InputError(f"a model has no '{key}'{nearest(key, _KINDS)}")
        if key in given:
            raise InputError(f"'{key}' is given twice")
        given[key] = _value(key, value)
    if "head_dim" not in given and {"hidden", "heads"} & set(given) and config.heads * config.head_dim == config.hidden:
        hidden, heads = given.get("hidden", config.hidden), given.get("heads", config.heads)
        if hidden % heads:
            raise InputError(f"{heads} heads do not divide hidden = {hidden}; expected head_dim too")
        given["head_dim"] = hidden // heads
    if "heads" in given and "kv_heads" not in given and config.kv_heads == config.heads:
        given["kv_heads"] = given["heads"]
    layers = given.pop("layers", config.layers)
    derived = replace(resized(config, layers), name=f"{config.name}{MARK}{changes}", **given)
    _check(derived)
    return derived


def _value(key: str, text: str) -> Any:
    kind = str(_KINDS[key])
    if _KINDS[key] is bool:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{key} = {no_flag(text)}")
        return text.lower() == "true"
    if "int" in kind:
        if not text.isascii() or not text.isdigit() or int(text[:12]) > MOST:
            raise InputError(f"{key} = {shown(text)} is not a whole number of at most {MOST:,}")
        return int(text)
    return text


def _check(config: TransformerConfig) -> None:
    """Raise `InputError` for a shape that cannot exist."""
    for key in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "max_tokens", "experts"):
        if getattr(config, key) < 1:
            raise InputError(f"{key} = 0 is not a positive whole number")
    if config.heads % config.kv_heads:
        raise InputError(f"kv_heads = {config.kv_heads} does not divide heads = {config.heads}")
    if config.experts_per_token > config.experts:
        raise InputError(f"experts_per_token = {config.experts_per_token} is more than experts = {config.experts}")
