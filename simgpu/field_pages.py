"""`help()` of a class of fields: a page on what they mean, with defaults, and nothing of the library behind it.

The text of a field is the string below it in the source. It is read when somebody asks, so that importing is cheap.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

WIDTH = 88


def shown_names(cls: type, library: tuple[str, ...]) -> list[str]:
    """Public methods and properties of a class that are not of a base from a module of `library`."""
    found: dict[str, None] = {}
    for base in cls.__mro__:
        if base is object or base.__module__.partition(".")[0] in library:
            continue
        found |= dict.fromkeys(
            name
            for name, value in vars(base).items()
            if not name.startswith("_") and (callable(value) or isinstance(value, (property, classmethod)))
        )
    return list(found)


def page_of(cls: type, doc: str | None) -> str | None:
    """The docstring of a class with its fields below: name, type, default, meaning. Bases come first."""
    blocks = [block for base in reversed(cls.__mro__) for block in _fields(base)]
    latest = {name: (head, text) for name, head, text in blocks}  # the last class that says a field
    if not latest:
        return doc
    lines = [inspect.cleandoc(doc or ""), "", "Fields", "------"]
    for head, text in latest.values():
        lines.append(head)
        lines += textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _fields(cls: type) -> Iterator[tuple[str, str, str]]:
    """Name, line with type and default, and meaning of each field that a class itself has."""
    if not cls.__module__.startswith("simgpu."):
        return
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for here, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(here, ast.AnnAssign) or not isinstance(here.target, ast.Name):
            continue
        name = here.target.id
        if name.startswith("_") or name == "model_config" or ast.unparse(here.annotation).startswith("ClassVar"):
            continue
        default = f" = {_default(here.value)}" if here.value is not None else ""
        said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        yield name, f"{name}: {_plain(here.annotation)}{default}", said if isinstance(said, str) else ""


def _default(value: ast.expr) -> str:
    """A default as it would be written; '...' for one that is computed."""
    return ast.unparse(value) if isinstance(value, (ast.Constant, ast.Tuple, ast.List, ast.UnaryOp)) else "..."


def _plain(annotation: ast.expr) -> str:
    """A type in plain words: choices, and the type below its limits."""
    if isinstance(annotation, ast.BinOp):
        return f"{_plain(annotation.left)} | {_plain(annotation.right)}"
    if isinstance(annotation, ast.Subscript):
        inside = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        name = ast.unparse(annotation.value)
        if name == "Literal":
            return " | ".join(ast.unparse(one) for one in inside)
        if name == "Annotated":
            return _plain(inside[0])
        return f"{name}[{', '.join(_plain(one) for one in inside)}]"
    text = ast.unparse(annotation)
    return {"Size": "int", "TrueFalse": "bool", "Passes": "float", "PartialShare": "float from 0 to 1"}.get(text, text)


_LIBRARY = ("pydantic", "abc", "typing")


def listed(base: Any) -> Any:
    """A metaclass over that of `base` whose classes list to `dir()` and `help()` what is theirs alone."""

    class Listed(type(base)):  # type: ignore[misc]
        """Classes that show nothing of the library behind them."""

        def __dir__(self) -> list[str]:
            return shown_names(self, _LIBRARY)

    return Listed


def paged(base: Any) -> Any:
    """The same, and the docstring of such a class ends with a page on its fields."""

    class Paged(listed(base)):  # type: ignore[misc]
        """Classes that explain their fields."""

        @property
        def __doc__(self) -> str | None:  # type: ignore[override]
            return page_of(self, vars(self).get("__doc__"))

    return Paged
