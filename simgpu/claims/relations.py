"""Named equations between quantities, solved for each of them, with intervals.

`relations.csv` holds them. Every quantity stands once in its equation, so an equation is turned round by undoing one
operation after another, and the ends of its interval are reached at the corners of the box of the others.
"""

from __future__ import annotations

import ast
import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from simgpu.claims.quantities import DAY, HOUR, TABLE, YEAR

Interval = tuple[float, float]
CONSTANTS = {"YEAR": YEAR, "DAY": DAY, "HOUR": HOUR}
"""Seconds of a year of 365 days, of a day, of an hour."""


@dataclass(frozen=True)
class Relation:
    """One equation `target = expression`; `kinds` are the kinds of claims it holds for, all if empty."""

    name: str
    equation: str
    kinds: tuple[str, ...]
    meaning: str

    @cached_property
    def target(self) -> str:
        """The quantity on the left."""
        return self.equation.partition("=")[0].strip()

    @cached_property
    def expression(self) -> ast.expr:
        """What stands on the right."""
        return ast.parse(self.equation.partition("=")[2].strip(), mode="eval").body

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The quantities on the right."""
        names = [node.id for node in ast.walk(self.expression) if isinstance(node, ast.Name)]
        return tuple(name for name in names if name not in CONSTANTS)

    def solved(self, name: str, known: Mapping[str, Interval]) -> Interval:
        """The interval of quantity `name` that the others in `known` leave.

        >>> RELATIONS["tpot"].solved("tokens_per_s_per_user", {"tpot": (0.01, 0.02)})
        (50.0, 100.0)
        """
        if name == self.target:
            return _value(self.expression, known)
        return _undone(self.expression, name, known, known[self.target])


def _read() -> dict[str, Relation]:
    with Path(__file__).with_name("relations.csv").open(encoding="utf-8", newline="") as stream:
        made = {
            row["name"]: Relation(
                row["name"], row["equation"], tuple(filter(None, row["kinds"].split("|"))), row["meaning"]
            )
            for row in csv.DictReader(stream)
        }  # fmt: skip
    return {name: one for name, one in made.items() if {one.target, *one.inputs} <= set(TABLE)}


def _value(node: ast.expr, known: Mapping[str, Interval]) -> Interval:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value), float(node.value)
    if isinstance(node, ast.Name):
        fixed = CONSTANTS.get(node.id)
        return known[node.id] if fixed is None else (fixed, fixed)
    assert isinstance(node, ast.BinOp)
    return _applied(node.op, _value(node.left, known), _value(node.right, known))


def _applied(op: ast.operator, a: Interval, b: Interval) -> Interval:
    match op:
        case ast.Add():
            return a[0] + b[0], a[1] + b[1]
        case ast.Sub():
            return a[0] - b[1], a[1] - b[0]
        case ast.Mult():
            ends = [_times(x, y) for x in a for y in b]
        case _:
            assert isinstance(op, ast.Div)
            ends = [_over(x, y) for x in a for y in b]
    return min(ends), max(ends)


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _over(x: float, y: float) -> float:
    if x == 0 or math.isinf(y):
        return 0.0
    return math.copysign(math.inf, x) if y == 0 else x / y


def _undone(node: ast.expr, name: str, known: Mapping[str, Interval], value: Interval) -> Interval:
    """The interval of `name` where `node` has the interval `value`."""
    if isinstance(node, ast.Name):
        return value
    assert isinstance(node, ast.BinOp)
    left = any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node.left))
    other = _value(node.right if left else node.left, known)
    inside = node.left if left else node.right
    match node.op:
        case ast.Add():
            made = _applied(ast.Sub(), value, other)
        case ast.Sub():
            made = _applied(ast.Add(), value, other) if left else _applied(ast.Sub(), other, value)
        case ast.Mult():
            made = _applied(ast.Div(), value, other)
        case _:
            made = _applied(ast.Mult(), value, other) if left else _applied(ast.Div(), other, value)
    return _undone(inside, name, known, made)


RELATIONS: Mapping[str, Relation] = _read()
"""All equations by name."""
