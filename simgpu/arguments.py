"""Checks of the arguments of calls in Python: an error is one line with name, value and what was expected.

A call declares them above its definition, by the names of its parameters:

    @takes(name=TEXT, catalogue=instance("a Catalogue", "simgpu.catalog.Catalogue"))
    def load_model(name, catalogue=None): ...

A parameter whose default is None takes None too. Numbers of numpy become those of Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

from simgpu.errors import ArgumentError, shown

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Kind:
    """A kind of argument in words, and whether a value is of it."""

    words: str
    holds: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        return Kind(f"{self.words} or {other.words}", lambda value: self.holds(value) or other.holds(value))


DEEPEST = 40
"""Levels of lists and mappings that are looked into: one may hold itself."""


def plain(value: Any, levels: int = DEEPEST) -> Any:
    """`value` with numbers of numpy as those of Python and arrays as lists, in lists, tuples and dicts too."""
    if levels == 0:
        return value
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if type(value) in (list, tuple):
        return type(value)(plain(one, levels - 1) for one in value)
    if type(value) is dict:
        return {key: plain(one, levels - 1) for key, one in value.items()}
    return value


def instance(words: str, *classes: str) -> Kind:
    """An object of one of some classes, by their full names, so that they need not be imported."""

    def holds(value: Any) -> bool:
        return any(f"{one.__module__}.{one.__qualname__}" in classes for one in type(value).__mro__)

    return Kind(words, holds)


def some(kind: Kind, words: str) -> Kind:
    """A sequence of `kind`."""

    def holds(value: Any) -> bool:
        return isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and all(map(kind.holds, value))

    return Kind(words, holds)


TEXT = Kind("text", lambda value: isinstance(value, str))
PATH = Kind("a path", lambda value: isinstance(value, (str, os.PathLike)))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
WHOLE = Kind("a whole number", lambda value: isinstance(value, Integral) and not isinstance(value, bool))
NUMBER = Kind("a number", lambda value: isinstance(value, Real) and not isinstance(value, bool))
MAPPING = Kind("a mapping", lambda value: isinstance(value, Mapping))
TEXTS = some(TEXT, "a sequence of text")
ANYTHING = Kind("anything", lambda _: True)


def check(kind: Kind, name: str, value: Any) -> Any:
    """`value`, plain, if it is of a kind. Raises `ArgumentError` at `name`."""
    value = plain(value)
    if not kind.holds(value):
        problem = f"{shown(value)} is of type {type(value).__name__}; expected {kind.words}"
        raise ArgumentError(problem, key=name)
    return value


def takes(**kinds: Kind) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check the arguments of a call by the names of its parameters; those that are not named are not checked."""

    def checked(function: Callable[P, R]) -> Callable[P, R]:
        shape = signature(function)
        if unknown := kinds.keys() - shape.parameters.keys():
            raise NameError(f"{function.__name__} has no {', '.join(sorted(unknown))}")

        @wraps(function)
        def call(*given: P.args, **named: P.kwargs) -> R:
            bound = shape.bind(*given, **named)
            for name, value in bound.arguments.items():
                parameter, kind = shape.parameters[name], kinds.get(name)
                if kind is None or (value is None and parameter.default is None):
                    continue
                if parameter.kind is Parameter.VAR_POSITIONAL:
                    bound.arguments[name] = tuple(check(kind, name, one) for one in value)
                else:
                    bound.arguments[name] = check(kind, name, value)
            return function(*bound.args, **bound.kwargs)

        return call

    return checked
