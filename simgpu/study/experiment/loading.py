"""Checked scenarios from the text of an experiment file, each value with the place where it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.columns import COLUMNS
from simgpu.documents import Document, Source, dotted, read_yaml
from simgpu.errors import InputError, shown
from simgpu.scenario import Key, Origins, Place, Scenario, check_names
from simgpu.schema_errors import validate
from simgpu.settings import Setting, scenario_path, unknown_root
from simgpu.study.experiment.axes import Axis, axes_of
from simgpu.study.experiment.fields import ExperimentFields
from simgpu.study.experiment.points import Point, Track, Walk, put, written_key
from simgpu.study.experiment.resolver import Resolver
from simgpu.tree import indexed, leaves, replaced

_COLUMN_PATHS = [
    *(("plan", key) for key in ("tp", "dp", "sequence_parallel")),
    *(("plan", key) for key in ("pp", "vp", "cp", "ep", "zero", "recompute", "schedule", "micro_batch")),
    *((key,) for key in ("model", "cluster", "dtype", "framework")),
]
"""Scenario keys that a row has a column for (those that only training has: only rows of training)."""


@dataclass(frozen=True)
class Case:
    """One scenario of an experiment: the labels of its row, its data, and where each value was written."""

    labels: Mapping[str, Any]
    data: Mapping[str, Any]
    scenario: Scenario
    origins: Origins
    varied: tuple[Key, ...] = ()  # what the file varies, as far as the row has no column for it

    def changed(self, changes: Mapping[Key, Any]) -> Case:
        """The same case with other values at some keys; None takes a value away."""
        data: Any = self.data
        for path, value in changes.items():
            data = replaced(data, path, _constant(value))
        return Case(self.labels, data, checked(_pruned(data), self.origins), self.origins)


def rewritten(case: Case, changes: Iterable[tuple[Key, Any, Place]], labels: Mapping[str, Any] | None = None) -> Case:
    """A case with other values, (path, value, place where it was written), and other labels. Raises `InputError`."""
    data, origins = case.data, case.origins.copy()
    for path, value, place in changes:
        data = _put(data, path, value, place, origins)
    known = case.labels if labels is None else labels
    return Case(known, data, checked(data, origins), origins, case.varied)


@dataclass(frozen=True)
class Loaded:
    """An experiment file that was read; its points are made when they are asked for."""

    document: Document
    fields: ExperimentFields
    starts: Sequence[Point]
    walk: Walk
    varied: tuple[Key, ...]  # what the file varies, as far as a row has no column for it

    def points(self) -> Iterator[Point]:
        """Points that the conditions leave, in the order of the rows. Raises `InputError`."""
        return self.walk.points(self.starts)

    def case(self, point: Point) -> Case:
        """A point as a checked scenario, whose framework and runtime the catalogue has. Raises `InputError`."""
        scenario = checked(point.data, point.origins)
        check_names(scenario, self.walk.resolver.catalogue, point.origins)
        return Case(point.labels, point.data, scenario, point.origins, self.varied)


def load(
    file: Source, settings: Sequence[Setting], catalogue: Catalogue
) -> tuple[Document, ExperimentFields, list[Case]]:
    """Read and check an experiment file. Raises `InputError`."""
    loaded = read(file, settings, catalogue)
    return loaded.document, loaded.fields, [loaded.case(point) for point in loaded.points()]


def read(file: Source, settings: Sequence[Setting], catalogue: Catalogue) -> Loaded:
    """Read an experiment file; conditions ask the catalogue of clusters and models. Raises `InputError`."""
    document = read_yaml(file)
    fields = validate(ExperimentFields, document.data, lambda path, problem: document.error(problem, path))
    fixed = {setting.path for setting in settings}
    axes = [
        axis.without(lambda key: scenario_path(key) in fixed)
        for axis in axes_of(fields.vary, fields.zip, lambda problem, place: document.error(problem, place))
    ]
    tracks = [_track(axis, document) for axis in axes if axis is not None]
    told = [scenario_path(key) for key in _varied_keys(fields)]
    varied = tuple(path for path in told if path not in _COLUMN_PATHS)
    _check_settings(settings, told, document)
    if settings:  # they count last
        places = tuple(Place("--set", key=setting.key) for setting in settings)
        values = tuple(setting.value for setting in settings)
        tracks.append(Track(tuple(setting.path for setting in settings), [values], places))
    origins = Origins()
    origins.put((), _place(document, ("scenario",)))
    _check_roots(fields.scenario, document, ("scenario",))
    base = _merge({}, fields.scenario, ("scenario",), document, origins)
    starts = [_start(base, origins, given, number, document) for number, given in enumerate(fields.cases or [{}])]
    walk = Walk(document, tracks, fields.where, Resolver(catalogue))
    return Loaded(document, fields, starts, walk, varied)


def _varied_keys(fields: ExperimentFields) -> list[str]:
    """Keys that a file varies, in its order; one that is set by hand has one value left, and its column."""
    return [*fields.vary, *(key for group in fields.zip for key in group)]


def _check_settings(settings: Sequence[Setting], varied: Sequence[Key], document: Document) -> None:
    """Raise `InputError` for a setting that would take the place of all values of a varied key at once."""
    for setting in settings:
        inside = [
            path for path in varied if len(path) > len(setting.path) and path[: len(setting.path)] == setting.path
        ]
        if inside:
            key = written_key(inside[0])
            problem = (
                f"holds {shown(key)}, which {document.file} varies; expected a value for that key, --set {key}=..."
            )
            raise InputError(problem, file="--set", key=setting.key)


def _start(base: Any, known: Origins, given: Mapping[str, Any], number: int, document: Document) -> Point:
    """The base changed by one case."""
    place, origins = ("cases", number), known.copy()
    labels = _labels(given.get("labels", {}), document, (*place, "labels"))
    changes = {key: value for key, value in given.items() if key != "labels"}
    _check_roots(changes, document, place, "labels")
    return Point(labels, _merge(base, changes, place, document, origins), origins)


def _track(axis: Axis, document: Document) -> Track:
    for key, where in zip(axis.keys, axis.places, strict=True):
        _check_roots((key,), document, where[:-1])
    places = tuple(_place(document, place) for place in axis.places)
    return Track(tuple(map(scenario_path, axis.keys)), axis.values, places)


def checked(data: Mapping[str, Any], origins: Origins) -> Scenario:
    """The scenario that nested data describes."""
    return validate(Scenario, data, lambda path, problem: origins.error(problem, tuple(map(str, path))))


def column_of(key: str) -> str:
    """The column of a row for a dotted key of a file."""
    path = scenario_path(key)
    return path[-1] if path in _COLUMN_PATHS else written_key(path)


def _merge(
    base: Mapping[str, Any], given: Mapping[str, Any], place: tuple[Any, ...], document: Document, origins: Origins
) -> Any:
    """`base` with the values of `given`, a mapping that stands at `place` of the document."""
    data: Any = dict(base)
    if isinstance(given.get("workload"), dict) and "kind" in given["workload"]:
        data.pop("workload", None)  # another kind of job: nothing of the old one applies
    seen: set[Key] = set()
    for path, value, where in _flat(given, place):
        if path in seen:
            raise document.error(f"{written_key(path)} is given twice", where)
        seen.add(path)
        data = _put(data, path, value, _place(document, where), origins)
        if isinstance(value, list):
            for i, item in enumerate(value):
                origins.put((*path, str(i)), _place(document, (*where, i)))
                for below, _ in leaves(item):
                    origins.put((*path, str(i), *below), _place(document, (*where, i, *below)))
    for path, where in _mappings(given, place):
        if path not in seen:
            origins.put(path, _place(document, where))
            for below in [known for known in seen if known[: len(path)] == path]:
                origins.again(below)
    return data


def _flat(
    mapping: Mapping[str, Any], place: tuple[Any, ...], prefix: str = ""
) -> list[tuple[Key, Any, tuple[Any, ...]]]:
    """(path, value, place in the document) of each value; nested mappings and dotted keys mean the same."""
    values: list[tuple[Key, Any, tuple[Any, ...]]] = []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            values += _flat(value, (*place, key), f"{name}.")
        else:
            values.append((scenario_path(name), value, (*place, key)))
    return values


def _mappings(
    mapping: Mapping[str, Any], place: tuple[Any, ...], prefix: str = ""
) -> list[tuple[Key, tuple[Any, ...]]]:
    """(path, place in the document) of the nested mappings themselves, outermost first."""
    mappings: list[tuple[Key, tuple[Any, ...]]] = []
    for key, value in mapping.items():
        if isinstance(value, dict) and value and f"{prefix}{key}".partition(".")[0] != "hardware":
            mappings.append((tuple(f"{prefix}{key}".split(".")), (*place, key)))
            mappings += _mappings(value, (*place, key), f"{prefix}{key}.")
    return mappings


def _put(data: Any, path: Key, value: Any, place: Place, origins: Origins) -> Any:
    """A copy of `data` with another value at `path`, whose place is remembered in `origins`."""
    changed = put(data, path, value, place)
    origins.put(indexed(data, path), place)
    return changed


def _constant(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def _pruned(data: Any) -> Any:
    """The data without the values that are None: they were taken away."""
    if isinstance(data, dict):
        return {key: _pruned(value) for key, value in data.items() if value is not None}
    return [_pruned(item) for item in data] if isinstance(data, list) else data


def _place(document: Document, where: tuple[Any, ...]) -> Place:
    line = document.line_of(where)
    return Place(f"{document.file}:{line}" if line else str(document.file), str(document.file), line)


def _check_roots(keys: Iterable[str], document: Document, place: tuple[Any, ...], *more: str) -> None:
    """Raise `InputError` for keys that are neither those of a scenario nor one of `more`."""
    for key in keys:
        if problem := unknown_root(key, *more):
            whole = dotted((*place, key)) if place[0] == "cases" else key
            raise InputError(problem, file=document.file, line=document.line_of((*place, key)), key=whole)


def _labels(given: Any, document: Document, place: tuple[Any, ...]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise document.error(f"{shown(given)} is not a mapping of names to values", place)
    for key, value in given.items():
        if not isinstance(value, (str, int, float, bool)) or (isinstance(value, float) and not isfinite(value)):
            raise document.error(f"{shown(value)} is not a plain value", (*place, key))
        if key in COLUMNS:
            raise document.error(f"'{key}' is a column of every row; choose another label", (*place, key))
    return dict(given)
