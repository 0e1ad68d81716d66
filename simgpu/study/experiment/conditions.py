"""Conditions and expressions that people write: `tp * pp * dp == gpus`, `step_s < 0.5 and memory_fits`.

A small part of Python, walked over and never handed to `eval`: numbers, texts, true and false, names, + - * / // % **,
comparisons (chained too), `in` a list, and, or, not, and a few functions. A name may have dots (`workload.tokens`); one
that Python would not read stands in backticks (`` `link.nvlink-4.latency` ``). A text with a unit that is compared with
a number is a quantity: `gpu.memory.bandwidth >= "2 TB/s"`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.errors import InputError, nearest, shown
from simgpu.units import UNITS, parse_quantity

MAX_LENGTH = 1000
MAX_NODES = 300

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min, "max": max, "abs": abs, "ceil": math.ceil, "floor": math.floor, "log2": math.log2, "sqrt": math.sqrt,
}  # fmt: skip
_WORDS = {"true": True, "false": False, "True": True, "False": False}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
_CODE_NAME = re.compile(r"`([^`]+)`")

Values = Mapping[str, Any]
_Node = Callable[[Values], Any]


@dataclass(frozen=True)
class Condition:
    """A parsed and checked expression. `names` are those it uses."""

    text: str
    names: frozenset[str]
    _compute: _Node

    def value(self, values: Values) -> Any:
        """Evaluate the expression with `values` for its names. Raises `InputError` (no place)."""
        try:
            return self._compute(values)
        except ZeroDivisionError:
            raise InputError(f"{shown(self.text)} divides by zero where {self._told(values)}") from None
        except (OverflowError, ValueError):
            raise InputError(f"{shown(self.text)} has no finite value where {self._told(values)}") from None

    def holds(self, values: Values) -> bool:
        """Evaluate the condition. Raises `InputError` (no place) where it is neither true nor false."""
        value = self.value(values)
        if not isinstance(value, bool):
            problem = f"{shown(self.text)} is {shown(value)}, neither true nor false; expected a condition"
            raise InputError(f"{problem}, such as 'tp <= 8'")
        return value

    def _told(self, values: Values) -> str:
        return ", ".join(f"{name} = {shown(values.get(name))}" for name in sorted(self.names)) or "nothing varies"


def parse(text: object, names: Collection[str] | None) -> Condition:
    """Read an expression that may use `names` (None: any). Raises `InputError` (no place)."""
    tree, quoted = _tree(text)
    used: set[str] = set()
    try:
        compute = _Reader(names, quoted, used).node(tree.body)
    except RecursionError:
        raise InputError(f"{shown(text)} is nested too deeply") from None
    return Condition(str(text), frozenset(used), compute)


def _tree(text: object) -> tuple[ast.Expression, dict[str, str]]:
    """The syntax tree of an expression, and what its names in backticks stand for."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{shown(text)} is not a condition, such as 'tp * pp * dp == gpus'")
    if len(text) > MAX_LENGTH:
        raise InputError(f"is longer than {MAX_LENGTH} characters, expected a short condition")
    quoted: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        word = f"quoted_name_{len(quoted)}_"
        quoted[word] = match[1].strip()
        return word

    try:
        with warnings.catch_warnings(action="ignore"):  # of Python about what looks odd in Python
            tree = ast.parse(_CODE_NAME.sub(plain, text.strip()), mode="eval")
    except SyntaxError as error:
        hint = "; '=' is written '=='" if re.search(r"(?<![=!<>])=(?!=)", text) else ""
        raise InputError(f"{shown(text)} is not understood ({error.msg}){hint}") from None
    except (ValueError, MemoryError, RecursionError):
        raise InputError(f"{shown(text)} is not understood") from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise InputError(f"{shown(text)} is too long an expression")
    return tree, quoted


class _Reader:
    """A compiler of a syntax tree into functions of the values; all that is not allowed is refused here."""

    def __init__(self, names: Collection[str] | None, quoted: Mapping[str, str], used: set[str]) -> None:
        self.names, self.quoted, self.used = names, quoted, used

    def node(self, node: ast.expr) -> _Node:
        """The function of the values that a node of the tree stands for."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return lambda _: value
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                parts = [self.node(item) for item in items]
                return lambda values: [part(values) for part in parts]
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.BoolOp():
                return self._logic(node)
            case ast.Compare():
                return self._compare(node)
            case ast.Call():
                return self._call(node)
        raise InputError(f"'{_source(node)}' is not allowed in a condition; expected names, numbers and operators")

    def _name(self, node: ast.Name | ast.Attribute) -> _Node:
        name = self._dotted(node)
        if name in _WORDS:
            word = _WORDS[name]
            return lambda _: word
        if self.names is not None and name not in self.names:
            hint = nearest(name, self.names, where="docs/experiments.md and docs/results.md name them")
            raise InputError(f"unknown name '{name}'{hint}")
        self.used.add(name)

        def look(values: Values) -> Any:
            return values[name]

        return look

    def _dotted(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.quoted.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self._dotted(node.value)}.{node.attr}"
        raise InputError(f"'{_source(node)}' cannot stand before a dot")

    def _unary(self, node: ast.UnaryOp) -> _Node:
        inside, source = self.node(node.operand), _source(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda values: not _truth(inside(values), source)
        if isinstance(node.op, ast.Invert):
            raise InputError("'~' is not allowed in a condition; expected 'not'")
        sign = -1 if isinstance(node.op, ast.USub) else 1
        return lambda values: sign * _number(inside(values), source)

    def _binary(self, node: ast.BinOp) -> _Node:
        left, right = self.node(node.left), self.node(node.right)
        a, b = _source(node.left), _source(node.right)
        if isinstance(node.op, ast.Pow):
            return lambda values: _power(_number(left(values), a), _number(right(values), b))
        work = _ARITHMETIC.get(type(node.op))
        if work is None:
            hint = "; expected 'and' or 'or'" if isinstance(node.op, (ast.BitAnd, ast.BitOr)) else ""
            raise InputError(f"'{_source(node)}' uses an operator that conditions do not have{hint}")
        return lambda values: work(_number(left(values), a), _number(right(values), b))

    def _logic(self, node: ast.BoolOp) -> _Node:
        parts = [(self.node(value), _source(value)) for value in node.values]
        if isinstance(node.op, ast.And):
            return lambda values: all(_truth(part(values), source) for part, source in parts)
        return lambda values: any(_truth(part(values), source) for part, source in parts)

    def _compare(self, node: ast.Compare) -> _Node:
        first, steps, before = self.node(node.left), [], _source(node.left)
        for kind, right in zip(node.ops, node.comparators, strict=True):
            steps.append((_comparison(kind, before, _source(right)), self.node(right)))
            before = _source(right)

        def chain(values: Values) -> bool:
            left = first(values)
            for test, right in steps:
                other = right(values)
                if not test(left, other):
                    return False
                left = other
            return True

        return chain

    def _call(self, node: ast.Call) -> _Node:
        name = node.func.id if isinstance(node.func, ast.Name) else _source(node.func)
        work = _FUNCTIONS.get(name)
        if work is None or node.keywords or not node.args:
            problem = "takes numbers" if work else f"is not a function of conditions{nearest(name, _FUNCTIONS)}"
            raise InputError(f"'{name}' {problem}")
        if (len(node.args) > 1) != (name in ("min", "max")):
            raise InputError(f"'{name}' takes {'two or more numbers' if name in ('min', 'max') else 'one number'}")
        parts = [(self.node(value), _source(value)) for value in node.args]
        return lambda values: work(*(_number(part(values), source) for part, source in parts))


def _comparison(kind: ast.cmpop, a: str, b: str) -> Callable[[Any, Any], bool]:
    """A test of two values; texts with a unit become SI numbers where the other side is a number."""
    if isinstance(kind, (ast.In, ast.NotIn)):
        wanted = isinstance(kind, ast.In)

        def among(left: Any, right: Any) -> bool:
            if not isinstance(right, list):
                raise InputError(f"'{b}' is {shown(right)}, expected a list such as [1, 2, 4]")
            return any(_alike(left, item) for item in right) == wanted

        return among
    if type(kind) not in _COMPARISONS:
        raise InputError("'is' is not allowed in a condition; expected '=='")
    sign, test = _COMPARISONS[type(kind)]
    if sign in ("==", "!="):
        return lambda left, right: _alike(left, right) == (sign == "==")

    def ordered(left: Any, right: Any) -> bool:
        left, right = _same_kind(left, right)
        for value, source in ((left, a), (right, b)):
            if value is None:
                raise InputError(f"'{source}' has no value here")
        if isinstance(left, str) != isinstance(right, str) or isinstance(left, list) or isinstance(right, list):
            raise InputError(f"{shown(left)} {sign} {shown(right)} compares what has no order ('{a}' with '{b}')")
        return bool(test(left, right))

    return ordered


def _alike(left: Any, right: Any) -> bool:
    left, right = _same_kind(left, right)
    if isinstance(left, bool) != isinstance(right, bool):
        return False  # 1 is not true
    return bool(left == right)


def _same_kind(left: Any, right: Any) -> tuple[Any, Any]:
    """Both sides, a text with a unit as its SI number where the other is a number."""
    if isinstance(left, str) and isinstance(right, (int, float)):
        return _si(left), right
    if isinstance(right, str) and isinstance(left, (int, float)):
        return left, _si(right)
    return left, right


def _si(text: str) -> Any:
    """The SI value of a text such as '2 TB/s'; the text itself where it is none."""
    try:
        value, unit = parse_quantity(text)
    except ValueError:
        return text
    return value * UNITS[unit][1] if unit in UNITS else value if not unit else text


def _number(value: Any, source: str) -> Any:
    if isinstance(value, str):
        value = _si(value)
    if value is None:
        raise InputError(f"'{source}' has no value here")
    if not isinstance(value, (int, float)):
        raise InputError(f"'{source}' is {shown(value)}, not a number")
    return value


def _truth(value: Any, source: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"'{source}' is {shown(value)}, neither true nor false")
    return value


def _power(base: Any, exponent: Any) -> Any:
    """The power `base ** exponent`, kept to the range of floats."""
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0 and abs(base) > 1:
        if exponent * math.log2(abs(base)) > 1000:
            raise OverflowError
        return base**exponent
    power = float(base) ** exponent
    if isinstance(power, complex):
        raise ValueError
    return power


def _source(node: ast.AST) -> str:
    return ast.unparse(node)


def all_hold(conditions: Sequence[Condition], values: Values, key: str) -> bool:
    """True if all conditions are true; an error of one is at `key.NUMBER`."""
    for number, condition in enumerate(conditions):
        try:
            if not condition.holds(values):
                return False
        except InputError as error:
            raise InputError(error.problem, key=f"{key}.{number}") from None
    return True
