"""From pydantic's findings to one line a user can act on: file, line, key, value, what was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from simgpu.errors import InputError, nearest, shown

Blame = Callable[[tuple, str], InputError]
"""Makes the error for a problem at a path: it knows in which file and line the value at that path was written."""


T = TypeVar("T", bound=BaseModel)


def validate(kind: type[T], data: Mapping[str, Any], blame: Blame) -> T:
    """`data` as a `kind`; raises the `InputError` that `blame` makes for the first thing that is wrong."""
    try:
        return kind.model_validate(data)
    except ValidationError as found:
        error = found.errors(include_url=False)[0]
        path = _path_in(data, error["loc"])
        raise blame(path, _problem(kind, path, error)) from None


def keys_at(kind: Any, path: tuple) -> list[str]:
    """Names of the keys that a value of `kind` can have at `path`; empty where it can have none or any."""
    options = _models(kind)
    for part in path:
        below: list[type[BaseModel]] = []
        for model in options:
            if isinstance(part, str) and part in model.model_fields:
                below += _models(model.model_fields[part].annotation)
            elif isinstance(part, int):
                below.append(model)  # items of a list were already unwrapped
        options = below
    return [name for model in options for name in model.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models inside an annotation, whatever it is wrapped in."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _path_in(data: Any, location: tuple) -> tuple:
    """The path of `location` in the data itself: pydantic also names the alternatives of a union it tried."""
    path: list[Any] = []
    for n, part in enumerate(location):
        if isinstance(data, Mapping) and (part in data or n == len(location) - 1):
            data = data.get(part)
        elif isinstance(data, (list, tuple)) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _problem(kind: type[BaseModel], path: tuple, error: Any) -> str:
    given = error["input"]
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key{nearest(path[-1], keys_at(kind, path[:-1]))}"
        case "missing":
            return "is missing"
        case "literal_error" | "enum" | "union_tag_invalid":
            known = [word.strip("' ") for word in _expected(error).replace(" or ", ", ").split(",")]
            hint = nearest(given, known)
            return f"{shown(given)} is not known{hint or '; expected one of ' + ', '.join(known)}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{shown(given)} is not a mapping of keys to values"
        case _:
            message = error["msg"]
            return f"{shown(given)}: {message[0].lower()}{message[1:]}"


def _expected(error: Any) -> str:
    context = error.get("ctx", {})
    return str(context.get("expected") or context.get("expected_tags") or "")
