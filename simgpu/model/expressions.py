"""The formulas of family files: `4 * n_embd`, `'full' if (i + 1) % 4 == 0 else 'linear'`.

They are written as in Python and read as a tree of a few kinds of nodes; nothing is executed. `/` divides without a
rest or fails, as widths do.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from simgpu.memo import remembered

MOST = 10**12
"""Largest number that a formula makes."""

LONGEST = 10_000
"""Most elements of a list that a formula looks into."""


class NotAFormulaError(Exception):
    """A formula that cannot be read: a fault of a family file."""


class MissingError(Exception):
    """A name in a formula that nothing stands for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class InexactError(Exception):
    """A division that leaves a rest."""

    def __init__(self, above: int, below: int, names: tuple[str, str] = ("", "")) -> None:
        super().__init__(f"{below} does not divide {above}")
        self.above, self.below, self.names = above, below, names


def _whole(a: float, b: float) -> float:
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    if b == 0 or a % b:
        raise InexactError(a, b)
    return a // b


def _round_up(n: int, to: int) -> int:
    return -(-n // to) * to


_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: _whole,
    ast.Mod: operator.mod,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}


def _places(values: list[Any], one: Any = None) -> list[int]:
    """Places of `one` in a list, from 0 on."""
    return [i for i, value in enumerate(values) if value == one]


def _moved(places: list[int]) -> list[int]:
    """Places, each moved by the number of those before it."""
    return [place + n for n, place in enumerate(places)]


def _each(values: Any, i: int = 0) -> Any:
    """The value of one layer, of a list or of a number for all."""
    return values[i] if isinstance(values, list) else values


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "max": max,
    "min": min,
    "len": len,
    "int": int,
    "round_up": _round_up,
    "count": lambda values, one: list(values).count(one),
    "text": str,
    "places": _places,
    "moved": _moved,
    "each": _each,
}
"""What a formula may call."""

Names = Callable[[str], Any]
"""The value of a name, None where a file does not have it; dots go into nested mappings."""


@remembered(4096)
def _tree(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise NotAFormulaError(text) from None


def check(text: str) -> None:
    """Raise `NotAFormulaError` for a text that is no formula."""
    _names(_tree(text), text)


def _names(node: ast.AST, text: str) -> None:
    known = (ast.Constant, ast.Name, ast.Attribute, ast.BinOp, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.IfExp,
             ast.Subscript, ast.Call, ast.List, ast.Tuple)  # fmt: skip
    for one in ast.walk(node):
        if isinstance(one, ast.expr) and not isinstance(one, known):
            raise NotAFormulaError(text)


def names_of(text: str) -> set[str]:
    """Names that a formula asks for, of nested ones the first part."""
    return {one.id for one in ast.walk(_tree(text)) if isinstance(one, ast.Name)}


def evaluate(text: str, names: Names) -> Any:
    """The value of a formula. Raises `MissingError`, `InexactError`, `NotAFormulaError`."""
    return _value(_tree(text), names)


def _value(node: ast.expr, names: Names) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Attribute(value=of, attr=name) if not _is_path(of):
            inner = _value(of, names)
            return inner.get(name) if inner is not None else None
        case ast.Name() | ast.Attribute():
            return names(_dotted(node))
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, names) else other, names)
        case ast.BoolOp(op=op, values=values):
            return _either(isinstance(op, ast.Or), values, names)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_given(operand, names)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, names) for part in parts]
        case _:
            return _made(node, names)


def _made(node: ast.expr, names: Names) -> Any:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            return _bounded(_BINARY[type(op)], left, right, names)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            if isinstance(op, (ast.Is, ast.IsNot, ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
                second = _given(right, names) if isinstance(op, (ast.In, ast.NotIn)) else _value(right, names)
                return _COMPARE[type(op)](_value(left, names), second)
            return _COMPARE[type(op)](_given(left, names), _given(right, names))
        case ast.Subscript(value=of, slice=index):
            return _given(of, names)[_given(index, names)]
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_given(one, names) for one in arguments))
    raise NotAFormulaError(ast.unparse(node))


def _bounded(work: Callable[[Any, Any], Any], left: ast.expr, right: ast.expr, names: Names) -> Any:
    a, b = _given(left, names), _given(right, names)
    for value in (a, b):
        if isinstance(value, (str, list)) or (isinstance(value, int) and abs(value) > MOST):
            raise TypeError(f"{value!r} is no number to reckon with")
    try:
        return work(a, b)
    except InexactError as error:
        raise InexactError(error.above, error.below, (_dotted(left), _dotted(right))) from None


def _is_path(node: ast.expr) -> bool:
    """True if a node is a name, or a name with dots."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _is_path(node.value))


def _either(first: bool, values: list[ast.expr], names: Names) -> Any:
    found: Any = None
    for value in values:
        found = _value(value, names)
        if bool(found) == first:
            break
    return found


def _given(node: ast.expr, names: Names) -> Any:
    """A value that must be there."""
    value = _value(node, names)
    if value is None:
        raise MissingError(_dotted(node))
    return value


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=of, attr=name):
            return f"{_dotted(of)}.{name}"
        case ast.Subscript(value=of):
            return _dotted(of)
        case _:
            return ast.unparse(node)
