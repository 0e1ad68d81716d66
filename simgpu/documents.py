"""Reading the YAML and JSON a user writes: safely, with the line of every key, and with limits.

A file can be missing, binary, huge, broken, or made to explode when its aliases are expanded. Each ends in one
`InputError`. Keys given twice are an error: silently using one of them would be worse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from simgpu.errors import InputError, shown
from simgpu.reading import read_bytes, what_it_is

MAX_BYTES = 1_000_000
MAX_JSON = 10_000_000
"""Bytes of a JSON file: the lists of layers of searched architectures are long."""
MAX_VALUES = 100_000
MAX_JSON_VALUES = 1_000_000
MAX_DEPTH = 40

_FLOAT = "tag:yaml.org,2002:float"
_NUMBER = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
"""Numbers with an exponent as YAML 1.2 has them (10.3.2, core schema). PyYAML, of YAML 1.1, asks for a dot and a sign,
and takes 4e9 and 1.5e3 for text."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, with the numbers of YAML 1.2."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which puts text in quotes where `_Loader` would read a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_FLOAT, _NUMBER, list("-+.0123456789"))

_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_BAD_SCALAR = (yaml.YAMLError, ValueError, KeyError, IndexError, AttributeError, OverflowError)
"""Errors that PyYAML raises for a scalar whose explicit tag does not fit it."""


@dataclass(frozen=True)
class Text:
    """YAML that a program holds; it is read as a file is, and errors say `<experiment>` where a file would stand.

    `numbered` says whether its lines are those of the user: of what `as_text` wrote they are not.
    """

    text: str
    numbered: bool = True
    stem: str = "experiment"

    def __str__(self) -> str:
        return f"<{self.stem}>"


Source = Path | Text
"""A source of YAML: a path, or text that a program holds."""


class Document:
    """Data of one file, and where each part of it stands.

    `data` is plain Python; `line_of(("scenario", "plan", "tp"))` is the line of that key, or of the nearest
    enclosing key that the file has.
    """

    def __init__(self, file: object, data: Any, lines: dict[tuple[Any, ...], int]) -> None:
        self.file = file
        self.data = data
        self._lines = lines

    def line_of(self, path: tuple[Any, ...]) -> int | None:
        """The line of the key at `path`, or of the nearest enclosing key that the file has."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)

    def part(self, data: Any) -> Document:
        """Other data of the same file, with the lines that are known of its keys."""
        return Document(self.file, data, self._lines)

    def error(self, problem: str, path: tuple[Any, ...] = ()) -> InputError:
        """An error at `path` of this document."""
        return InputError(problem, file=self.file, line=self.line_of(path), key=dotted(path))


def dotted(path: tuple[Any, ...]) -> str:
    """`cases.2.plan.tp` for ('cases', 2, 'plan', 'tp')."""
    return ".".join(str(part) for part in path)


def read_yaml(file: Source, lists: bool = False) -> Document:
    """The mapping in a YAML file; with `lists` it may be a list. Raises `InputError`."""
    root = _compose(read_text(file), file)
    if not isinstance(root, (yaml.MappingNode, yaml.SequenceNode) if lists else yaml.MappingNode):
        raise InputError("expected a mapping of keys to values", file=file, line=1)
    assert root is not None
    document = _Builder(file).document(root)
    return document if isinstance(file, Path) or file.numbered else Document(file, document.data, {})


def as_text(data: Mapping[str, Any]) -> Text:
    """A mapping as the YAML that would say it; arrays of numpy become lists. Raises `InputError` for other objects."""
    plain = _plain(data, Text(""), ())
    return Text(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True), numbered=False)


def _plain(value: Any, source: Text, path: tuple[Any, ...]) -> Any:
    if len(path) > MAX_DEPTH:
        raise InputError(f"is nested more than {MAX_DEPTH} levels deep", file=source, key=dotted(path[:3]) + " ...")
    if isinstance(value, Mapping):
        return {str(key): _plain(one, source, (*path, key)) for key, one in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(one, source, (*path, n)) for n, one in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # numbers and arrays of numpy
        return _plain(value.tolist(), source, path)
    for kind in (bool, int, float, str):  # subclasses too, as what they are
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    problem = f"{shown(value)} is of type {type(value).__name__}; expected text, numbers, lists and mappings"
    raise InputError(problem, file=source, key=dotted(path))


def parse_value(text: str, source: str, key: str) -> Any:
    """A value as YAML reads it, given on the command line. Raises `InputError` at `source` and `key`."""
    try:
        root = _compose(text, source) if len(text) <= 100_000 else None
        return text if root is None else _Builder(source).document(root).data
    except InputError as error:
        raise InputError(f"{shown(text)}: {error.problem}", file=source, key=key) from None


def read_json(file: Path) -> Document:
    """The object in a JSON file. Raises `InputError`."""
    text = read_text(file, MAX_JSON)
    lines: dict[tuple[Any, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key = line.strip().partition('":')[0]
        if key.startswith('"'):
            lines.setdefault((key[1:],), number)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in pairs:
            if key in data:
                raise InputError("is given twice", file=file, line=lines.get((key,)), key=key)
            data[key] = value
        return data

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(f"is not valid JSON ({error.msg})", file=file, line=error.lineno) from None
    except (RecursionError, ValueError):
        raise InputError("is not valid JSON (nested too deeply, or a number too long)", file=file) from None
    if not isinstance(data, dict):
        raise InputError("expected a JSON object", file=file, line=1)
    if _values(data) > MAX_JSON_VALUES:
        raise InputError(f"holds more than {MAX_JSON_VALUES:,} values, expected the file of a model", file=file)
    return Document(file, data, lines)


def _values(data: Any) -> int:
    """Values in plain data, until there are too many."""
    count, left = 0, [data]
    while left and count <= MAX_JSON_VALUES:
        one = left.pop()
        count += 1
        if isinstance(one, (dict, list)):
            left.extend(one.values() if isinstance(one, dict) else one)
            count += max(len(left) - MAX_JSON_VALUES, 0)
    return count


def read_text(file: Source, most: int = MAX_BYTES) -> str:
    """Text of a UTF-8 file of at most `most` bytes. Raises `InputError`."""
    if isinstance(file, Text):
        if len(file.text) > MAX_BYTES:
            raise InputError(f"is larger than {MAX_BYTES:,} letters, expected a short text", file=file)
        return file.text
    raw = read_bytes(file, most)
    if other := what_it_is(raw):
        raise InputError(other, file=file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"is not text (byte 0x{raw[error.start]:02x})", file=file, line=line) from None
    if "\0" in text:
        raise InputError("is not text (it holds a zero byte)", file=file, line=text[: text.index("\0")].count("\n") + 1)
    return text


def _compose(text: str, file: object) -> yaml.Node | None:
    """The nodes of a YAML text, within the limits. Raises `InputError`."""
    try:
        _check_depth(text, file)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else None
        if "nesting depth" in problem:  # PyYAML's own limit, since 6.0.4
            raise InputError(f"is nested more than {MAX_DEPTH} levels deep", file=file, line=line) from None
        raise InputError(f"is not valid YAML ({problem})", file=file, line=line) from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"is not valid YAML ({error})", file=file) from None
    if root is not None and _Measure(file).of(root, 0)[0] > MAX_VALUES:
        raise InputError(f"expands to more than {MAX_VALUES:,} values", file=file, line=_line(root))
    return root


def _check_depth(text: str, file: object) -> None:
    """Refuse deep nesting before anything recurses over it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else None
                raise InputError(f"is nested more than {MAX_DEPTH} levels deep", file=file, line=line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Measure:
    """Size and height of nodes with their aliases expanded, each node measured once."""

    def __init__(self, file: object) -> None:
        self.file = file
        self._known: dict[int, tuple[int, int] | None] = {}

    def of(self, node: yaml.Node, depth: int) -> tuple[int, int]:
        """(values, levels) of `node`, which stands `depth` levels deep."""
        if id(node) in self._known:
            measured = self._known[id(node)]
            if measured is None:
                raise InputError("an alias contains itself", file=self.file, line=_line(node))
        else:
            self._known[id(node)] = None
            below = [self.of(item, depth + 1) for item in _items(node)] if depth <= MAX_DEPTH else []
            measured = 1 + sum(size for size, _ in below), 1 + max((height for _, height in below), default=0)
            self._known[id(node)] = measured
        if depth + measured[1] > MAX_DEPTH + 1:
            raise InputError(f"is nested more than {MAX_DEPTH} levels deep", file=self.file, line=_line(node))
        return measured


class _Builder:
    """Plain data from nodes, with the line of every key."""

    def __init__(self, file: object) -> None:
        self.file = file
        self.lines: dict[tuple[Any, ...], int] = {}
        self._scalars = _Loader("")

    def document(self, root: yaml.Node) -> Document:
        return Document(self.file, self._build(root, ()), self.lines)

    def _build(self, node: yaml.Node, path: tuple[Any, ...]) -> Any:
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.ScalarNode):
            try:
                return self._scalars.construct_object(node)
            except _BAD_SCALAR as error:
                problem = getattr(error, "problem", None) or f"does not fit its tag {node.tag}, or cannot be read"
                if isinstance(error, ValueError):
                    problem = str(error)
                raise self._error(f"{shown(node.value)}: {problem}", path, node) from None
        if node.tag not in _PLAIN_TAGS:
            raise self._error(f"tag '{node.tag}' is not supported", path, node)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*path, i)) for i, item in enumerate(node.value)]
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be a plain word", path, key_node)
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise self._error("merge keys (<<) are not supported", path, key_node)
            key = key_node.value
            if key in mapping:
                raise self._error("is given twice", (*path, key), key_node)
            self.lines[*path, key] = _line(key_node)
            mapping[key] = self._build(value_node, (*path, key))
        return mapping

    def _error(self, problem: str, path: tuple[Any, ...], node: yaml.Node) -> InputError:
        return InputError(problem, file=self.file, line=_line(node), key=dotted(path))


def _items(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 1
