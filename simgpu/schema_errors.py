"""From pydantic's findings to one line a user can act on: file, line, key, value, what was expected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from simgpu.errors import InputError, nearest, no_flag, shown

TrueFalse = Annotated[bool, Field(strict=True)]
"""A key that is true or false, as YAML writes it (yes and no without quotes too): no number, no text."""

Blame = Callable[[tuple[Any, ...], str], InputError]
"""Makes the error for a problem at a path: it knows in which file and line the value at that path was written."""

MISSING_TOO = "missing too"
"""Before the other keys that a file lacks."""

MOST_LISTED = 12
"""Names that are all told in alphabetical order; of more, in the order of their file."""

LARGEST_RANGE = 10_000
"""Up to here the end of a range is worth telling; larger ones only keep out what could not be simulated."""

T = TypeVar("T", bound=BaseModel)


def validate(kind: type[T], data: Mapping[str, Any], blame: Blame, unsaid: Collection[str] = ()) -> T:
    """`data` as a `kind`; raises the `InputError` that `blame` makes for the first thing that is wrong.

    `unsaid` are keys that a message does not offer.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as found:
        errors = found.errors(include_url=False)
    except RecursionError:
        raise blame((), "is nested too deeply") from None
    error = errors[0]
    if error["type"] == "missing":  # a misspelt key beside it says more
        unknown = [e for e in errors if e["type"] == "extra_forbidden" and e["loc"][:-1] == error["loc"][:-1]]
        error = unknown[0] if unknown else error
    path = _path_in(data, error["loc"])
    context = error.get("ctx", {})
    if error["type"].startswith("union_tag"):
        path = (*path, str(context["discriminator"]).strip("'"))
    problem = _problem(kind, data, path, error, unsaid)
    if error["type"] == "missing":
        problem += _also_missing(data, errors[errors.index(error) + 1 :])
    raise blame(path, problem)


def _also_missing(data: Any, errors: Sequence[Any]) -> str:
    """The other keys that are missing, so that a file is completed at once and not key by key."""
    paths = [_path_in(data, error["loc"]) for error in errors if error["type"] == "missing"]
    if not paths:
        return ""
    return f"; {MISSING_TOO}: {', '.join(dict.fromkeys('.'.join(map(str, path)) for path in paths))}"


def keys_at(kind: Any, path: tuple[Any, ...], data: Any = None) -> list[str]:
    """Names of the keys that a mapping at `path` can have; `data` decides between alternatives."""
    return [name for model in _models_at(kind, data, path) for name in model.model_fields]


def _models_at(kind: Any, data: Any, path: tuple[Any, ...]) -> list[type[BaseModel]]:
    options = _fitting(models_in(kind), data)
    for part in path:
        if isinstance(part, str):
            data = data.get(part) if isinstance(data, Mapping) else None
            fields = [model.model_fields[part] for model in options if part in model.model_fields]
            options = [model for field in fields for model in models_in(field.annotation)]
        else:  # items of a list: the list was already unwrapped
            data = data[part] if isinstance(data, Sequence) and part < len(data) else None
        options = _fitting(options, data)
    return options


def _fitting(models: list[type[BaseModel]], data: Any) -> list[type[BaseModel]]:
    """The members of `models` whose fixed fields (`op: matmul`) do not contradict `data`."""

    def fits(model: type[BaseModel]) -> bool:
        fixed = {
            n: get_args(f.annotation) for n, f in model.model_fields.items() if get_origin(f.annotation) is Literal
        }
        return not isinstance(data, Mapping) or all(n not in data or data[n] in v for n, v in fixed.items())

    return [model for model in models if fits(model)] or models


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models inside an annotation, whatever it is wrapped in."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return models_in(get_args(annotation)[0])
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def _path_in(data: Any, location: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path of `location` in the data itself: pydantic also names the alternatives of a union it tried."""
    path: list[Any] = []
    entered = True  # just come into `data`: the tag of a union stands here, before the keys
    for n, part in enumerate(location):
        if entered and isinstance(data, Mapping) and part in (data.get("kind"), data.get("op")) and path:
            entered = False
            if n + 1 < len(location) or part not in data:
                continue
        entered = True
        if isinstance(data, Mapping) and (part in data or n == len(location) - 1):
            data = data.get(part)
        elif isinstance(data, (list, tuple)) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            entered = False
            continue
        path.append(part)
    return tuple(path)


def _problem(kind: type[BaseModel], data: Any, path: tuple[Any, ...], error: Any, unsaid: Collection[str]) -> str:
    given = error["input"]
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = [key for key in keys_at(kind, path[:-1], data) if key not in unsaid]
            return f"unknown key{nearest(path[-1], known, MOST_LISTED) or _listed(known)}"
        case "missing":
            return "this key is missing"
        case "union_tag_not_found":
            return f"this key is missing; expected one of {', '.join(_tags(kind, data, path))}"
        case "union_tag_invalid":
            return _unknown(context["tag"], _words(context["expected_tags"]))
        case "literal_error" | "enum":
            return _unknown(given, _words(context["expected"]))
        case "value_error":
            return str(context["error"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{shown(given)} is not a mapping of keys to values"
        case "bool_type":
            return no_flag(given)
        case _:
            if expected := _range(kind, data, path):
                return f"{shown(given)} is not {expected}"
            message = error["msg"]
            return f"{shown(given)}: {message[0].lower()}{message[1:]}"


def _unknown(given: Any, known: list[str]) -> str:
    return f"{shown(given)} is not known{nearest(given, known, MOST_LISTED) or _listed(known)}"


def _listed(known: Sequence[str]) -> str:
    return f"; expected one of {', '.join(known)}" if known else ""


def _range(kind: type[BaseModel], data: Any, path: tuple[Any, ...]) -> str:
    """The range of numbers that the field at `path` takes ('a whole number from 0 to 3'), if it is a short one."""
    if not path or not isinstance(path[-1], str):
        return ""
    models = _models_at(kind, data, path[:-1])
    ranges = {_limits(model.model_fields[path[-1]]) for model in models if path[-1] in model.model_fields}
    return ranges.pop() if len(ranges) == 1 else ""


def _limits(field: FieldInfo) -> str:
    """The range of a field of numbers; '' where it is open, or its end is a guard that tells a user nothing."""
    options = [one for one in (get_args(field.annotation) or (field.annotation,)) if one is not type(None)]
    if len(options) != 1:
        return ""
    plain, rules = options[0], list(field.metadata)
    if get_origin(plain) is Annotated:
        plain, *inner = get_args(plain)
        rules += [rule for one in inner for rule in (one.metadata if isinstance(one, FieldInfo) else [one])]
    if plain not in (int, float):
        return ""
    ends = {name: getattr(rule, name) for rule in rules for name in ("ge", "gt", "le") if hasattr(rule, name)}
    if "gt" in ends and plain is int:
        ends["ge"] = ends["gt"] + 1
    if "ge" not in ends or ends.get("le", LARGEST_RANGE + 1) > LARGEST_RANGE:
        return ""
    return f"a {'whole number' if plain is int else 'number'} from {ends['ge']:g} to {ends['le']:g}"


def _words(expected: str) -> list[str]:
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]


def _tags(kind: type[BaseModel], data: Any, path: tuple[Any, ...]) -> list[str]:
    """Values that the discriminator at `path` can have."""
    fields = [
        model.model_fields[path[-1]] for model in _models_at(kind, data, path[:-1]) if path[-1] in model.model_fields
    ]
    return sorted(str(tag) for field in fields for tag in get_args(field.annotation))
