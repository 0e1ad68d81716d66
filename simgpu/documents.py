"""Reading the YAML and JSON a user writes: safely, with the line of every key, and with limits.

A file can be missing, binary, huge, broken, or made to explode when its aliases are expanded. Each ends in one
`InputError`. Keys given twice are an error: silently using one of them would be worse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from simgpu.errors import InputError, shown

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 40

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document:
    """Data of one file, and where each part of it stands.

    `data` is plain Python; `line_of(("scenario", "plan", "tp"))` is the line of that key, or of the nearest
    enclosing key that the file has.
    """

    def __init__(self, file: Path, data: Any, lines: dict[tuple, int]) -> None:
        self.file = file
        self.data = data
        self._lines = lines

    def line_of(self, path: tuple) -> int | None:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)

    def error(self, problem: str, path: tuple = ()) -> InputError:
        """An error at `path` of this document."""
        return InputError(problem, file=self.file, line=self.line_of(path), key=dotted(path))


def dotted(path: tuple) -> str:
    """`cases.2.plan.tp` for ('cases', 2, 'plan', 'tp')."""
    return ".".join(str(part) for part in path)


def read_yaml(file: Path) -> Document:
    """The mapping in a YAML file. Raises `InputError`."""
    text = read_text(file)
    try:
        _check_depth(text, file)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _yaml_error(error, file) from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"is not valid YAML ({error})", file=file) from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError("expected a mapping of keys to values", file=file, line=1)
    _check_size(node, file)
    lines: dict[tuple, int] = {}
    loader = _Loader("")
    data = _build(node, (), lines, loader, file)
    return Document(file, data, lines)


def read_json(file: Path) -> Document:
    """The object in a JSON file. Raises `InputError`."""
    text = read_text(file)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"is not valid JSON ({error.msg})", file=file, line=error.lineno) from None
    except (RecursionError, ValueError):
        raise InputError("is not valid JSON (nested too deeply, or a number too long)", file=file) from None
    if not isinstance(data, dict):
        raise InputError("expected a JSON object", file=file, line=1)
    lines: dict[tuple, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key = line.strip().partition('":')[0]
        if key.startswith('"'):
            lines.setdefault((key[1:],), number)
    return Document(file, data, lines)


def read_text(file: Path) -> str:
    """Text of a UTF-8 file of at most `MAX_BYTES`. Raises `InputError`."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError("no such file", file=file) from None
    except IsADirectoryError:
        raise InputError("is a folder, expected a file", file=file) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=file) from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"is larger than {MAX_BYTES:,} bytes, expected a short text file", file=file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"is not text (byte 0x{raw[error.start]:02x})", file=file, line=line) from None
    if "\0" in text:
        raise InputError("is not text (it holds a zero byte)", file=file, line=text[: text.index("\0")].count("\n") + 1)
    return text


def _check_depth(text: str, file: Path) -> None:
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


def _check_size(root: yaml.Node, file: Path) -> None:
    """Refuse a document that its aliases expand to more than `MAX_VALUES` values, or that contains itself."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            raise InputError("an alias contains itself", file=file, line=node.start_mark.line + 1)
        if known == 0:
            sizes[id(node)] = None
            known = 1
            if isinstance(node, yaml.SequenceNode):
                known += sum(size(item) for item in node.value)
            elif isinstance(node, yaml.MappingNode):
                known += sum(size(key) + size(value) for key, value in node.value)
            sizes[id(node)] = known
        return known

    if size(root) > MAX_VALUES:
        raise InputError(f"expands to more than {MAX_VALUES:,} values", file=file, line=root.start_mark.line + 1)


def _build(node: yaml.Node, path: tuple, lines: dict[tuple, int], loader: Any, file: Path) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                raise InputError("a key must be a plain word", file=file, line=line, key=dotted(path))
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise InputError("merge keys (<<) are not supported", file=file, line=line, key=dotted(path))
            if key in mapping:
                raise InputError("is given twice", file=file, line=line, key=dotted((*path, key)))
            lines[*path, key] = line
            mapping[key] = _build(value_node, (*path, key), lines, loader, file)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, i), lines, loader, file) for i, item in enumerate(node.value)]
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or str(error)
        line = node.start_mark.line + 1
        raise InputError(f"{shown(node.value)}: {problem}", file=file, line=line, key=dotted(path)) from None


def _yaml_error(error: yaml.YAMLError, file: Path) -> InputError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return InputError(f"is not valid YAML ({problem})", file=file, line=mark.line + 1 if mark else None)
