"""What to say of a `config.json` whose architecture no family reads: the family that is nearest, and what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simgpu.documents import Document
from simgpu.errors import InputError, nearest, shown
from simgpu.model.family_files import Families

USUAL = ("llama", "mixture", "deepseek", "gpt2", "bert")
"""Families that unknown architectures are held against."""

_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
"""Keys without which no usual family can be read."""


def refusal(document: Document, families: Families, read: Callable[[str], tuple[Any, list[str]]]) -> InputError:
    """The error for a file of an unknown architecture."""
    kind = document.data.get("model_type")
    fitting: list[tuple[int, str]] = []
    for name in USUAL:
        if name in families.files:
            try:
                fitting.append((len(read(name)[1]), name))
            except InputError:
                continue
    problem = f"{shown(kind)} is no architecture that is known" if kind is not None else "this key is missing"
    if isinstance(kind, str):
        problem += nearest(kind, families.types, where="simgpu list families names them")
    if fitting:
        left, name = min(fitting, key=lambda one: one[0])
        keys = read(name)[1]
        but = f" but for {', '.join(keys[:4])}, which it would not know" if left else ""
        problem += f"; its keys are those of family '{name}'{but}: 'FILE@as={name}' reads it so"
    elif lacking := [key for key in _NEEDED if key not in document.data]:
        problem += f"; nearest is family 'llama', of whose keys it lacks {', '.join(lacking)}"
    return document.error(problem, ("model_type",))
