"""Experiment files: a base scenario, cases that change it, axes that vary it, and what to show.

Every row of the result is one scenario: the base, changed by one case, changed by one point of the varied axes,
changed by `--set`. Keys may be nested or dotted (`plan.tp`); keys that begin with `gpu.`, `node.`, `cluster.` or
`link.` set hardware parameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from simgpu.catalog import Catalogue
from simgpu.documents import Document, read_yaml
from simgpu.errors import InputError, nearest, shown
from simgpu.render.fields import PlotFields
from simgpu.result import COLUMNS, Result
from simgpu.scenario import HARDWARE_ROOTS, Origins, Scenario, run_scenario
from simgpu.tree import replaced
from simgpu.validation import validate

MAX_SCENARIOS = 100_000

Scalar = str | int | float | bool | None
Key = tuple[str, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CompareStep(_Strict):
    """Keys that are changed together, and what to call that."""

    what: str
    keys: Annotated[list[str], Field(min_length=1)]


class CompareFields(_Strict):
    """Walk from one row to another, one assumption at a time, and say what each moves."""

    value: str
    between: str  # the label in which the two rows differ
    start: Scalar
    end: Scalar
    match: Annotated[list[str], Field(min_length=1)]  # labels in which they agree
    steps: list[CompareStep] = []


class ExperimentFields(_Strict):
    """Everything an experiment file can say. `scenario` and `cases` hold scenario keys."""

    experiment: str = ""
    title: str = ""
    description: str = ""
    scenario: dict[str, Any] = {}
    cases: list[dict[str, Any]] = []
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    table: list[str] = []
    plots: list[PlotFields] = []
    compare: CompareFields | None = None


@dataclass(frozen=True)
class Case:
    """One scenario of an experiment, the labels of its row, and where each value was written."""

    labels: Mapping[str, Scalar]
    data: Mapping[str, Any]
    scenario: Scenario
    origins: Origins

    def changed(self, changes: Mapping[Key, Any]) -> Case:
        """The same case with other values at some keys; None takes a value away."""
        data: Any = self.data
        for path, value in changes.items():
            data = _put(data, path, value)
        return Case(self.labels, data, _scenario(_pruned(data), self.origins), self.origins)

    def run(self, catalogue: Catalogue) -> Result:
        result = run_scenario(self.scenario, catalogue, self.origins)
        return Result({**self.labels, **result.row}, result.execution, result.inputs)


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file: what to show, and its cases in the order of the rows."""

    name: str
    file: Path
    fields: ExperimentFields
    cases: Sequence[Case]


@dataclass(frozen=True)
class ExperimentResult:
    """Results of all cases, in order. `rows` are flat."""

    experiment: Experiment
    results: Sequence[Result]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(result.row) for result in self.results]


def find_experiment(name: str, catalogue: Catalogue) -> Path:
    """The file that `name` means: a path, or an experiment of the catalogue."""
    path = Path(name)
    if path.exists() or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    found = catalogue.find("experiments", name)
    if found is None:
        raise InputError(f"no such file or experiment '{name}'{nearest(name, catalogue.names('experiments'))}")
    return found


def load_experiment(file: Path, settings: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file; `settings` are 'key=value' changes to every scenario. Runs nothing."""
    document = read_yaml(file)
    fields = validate(ExperimentFields, document.data, lambda path, problem: document.error(problem, path))
    changes = parse_settings(settings)
    origins = Origins()
    origins.put((), str(file), str(file), 1)
    base = _merge({}, fields.scenario, ("scenario",), document, origins)
    points = prod(len(values) for values in fields.vary.values()) * max(len(fields.cases), 1)
    if points > MAX_SCENARIOS:
        raise document.error(f"{points:,} scenarios, expected at most {MAX_SCENARIOS:,}", ("vary",))
    cases = []
    for number, given in enumerate(fields.cases or [{}]):
        place = ("cases", number)
        own = origins.copy()
        case = dict(given)
        labels = _labels(case.pop("labels", {}), document, (*place, "labels"))
        data = _merge(base, case, place, document, own)
        for point in itertools.product(*fields.vary.values()):
            varied, where = data, own.copy()
            for key, value in zip(fields.vary, point, strict=True):
                path = _path(key)
                varied = _put_at(varied, path, value, document, ("vary", key))
                where.put(path, *_written(document, ("vary", key)))
            for path, value, text in changes:
                try:
                    varied = _put(varied, path, value)
                except KeyError as missing:
                    raise InputError(f"nothing named '{missing.args[0]}' there", file="--set", key=text) from None
                where.put(path, "--set", "--set")
            cases.append(Case(labels, varied, _scenario(varied, where), where))
    name = fields.experiment or file.stem
    return Experiment(name, file, fields, cases)


def run_experiment(
    experiment: Experiment, catalogue: Catalogue, progress: Callable[[int, int], None] | None = None
) -> ExperimentResult:
    """Simulate every case. `progress` is called with (done, total)."""
    results = []
    for done, case in enumerate(experiment.cases):
        if progress:
            progress(done, len(experiment.cases))
        results.append(case.run(catalogue))
    _check_columns(experiment, results)
    return ExperimentResult(experiment, results)


# ---- from text to scenarios --------------------------------------------------------------------------


def _scenario(data: Mapping[str, Any], origins: Origins) -> Scenario:
    return validate(Scenario, data, lambda path, problem: origins.error(problem, tuple(map(str, path))))


def _path(key: str) -> Key:
    """The place of a dotted key in a scenario. Hardware parameters keep their key whole."""
    root = key.split(".")[0]
    if root in HARDWARE_ROOTS and "." in key:
        return ("hardware", key)
    if root == "hardware" and "." in key:
        return ("hardware", key.partition(".")[2])
    return tuple(key.split("."))


def _merge(
    base: Mapping[str, Any], given: Mapping[str, Any], place: tuple, document: Document, origins: Origins
) -> Any:
    """`base` with the values of `given`, a mapping that stands at `place` of the document."""
    data: Any = dict(base)
    if isinstance(given.get("workload"), dict) and "kind" in given["workload"]:
        data.pop("workload", None)  # another kind of job: nothing of the old one applies
    for path, value, where in _flat(given, place):
        data = _put_at(data, path, value, document, where)
        origins.put(path, *_written(document, where))
    return data


def _flat(given: Mapping[str, Any], place: tuple, prefix: str = "") -> list[tuple[Key, Any, tuple]]:
    """(path, value, place in the document) of each value; nested mappings and dotted keys mean the same."""
    found: list[tuple[Key, Any, tuple]] = []
    for key, value in given.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found += _flat(value, (*place, key), f"{name}.")
        else:
            found.append((_path(name), value, (*place, key)))
    return found


def _put_at(data: Any, path: Key, value: Any, document: Document, where: tuple) -> Any:
    try:
        return _put(data, path, value)
    except KeyError as missing:
        raise document.error(f"nothing named '{missing.args[0]}' there", where) from None


def _put(data: Any, path: Key, value: Any) -> Any:
    return replaced(data, path, lambda old: value)


def _pruned(data: Any) -> Any:
    """Without the values that are None: they were taken away."""
    if isinstance(data, dict):
        return {key: _pruned(value) for key, value in data.items() if value is not None}
    return [_pruned(item) for item in data] if isinstance(data, list) else data


def _written(document: Document, where: tuple) -> tuple[str, str, int | None]:
    line = document.line_of(where)
    return f"{document.file}:{line}", str(document.file), line


def parse_settings(settings: Sequence[str]) -> list[tuple[Key, Any, str]]:
    """'key=value' texts as (path in a scenario, value, key)."""
    return [_parse_setting(text) for text in settings]


def _parse_setting(text: str) -> tuple[Key, Any, str]:
    """`plan.tp=4` as (path, value, key). The value is read as YAML reads a plain word."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or not value.strip():
        raise InputError(f"{shown(text)} is not understood; expected key=value, such as plan.tp=4", file="--set")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise InputError(f"{shown(value)} is not a plain value", file="--set", key=key) from None
    return _path(key), parsed, key


def _labels(given: Any, document: Document, place: tuple) -> dict[str, Scalar]:
    if not isinstance(given, dict):
        raise document.error(f"{shown(given)} is not a mapping of names to values", place)
    for key, value in given.items():
        if not isinstance(value, (str, int, float, bool)):
            raise document.error(f"{shown(value)} is not a plain value", (*place, key))
        if key in COLUMNS:
            raise document.error(f"'{key}' is a column of every row; choose another label", (*place, key))
    return dict(given)


def _check_columns(experiment: Experiment, results: Sequence[Result]) -> None:
    """Columns that tables and plots ask for must exist in some row."""
    known = dict.fromkeys(key for result in results for key in result.row)
    fields = experiment.fields
    asked: list[tuple[tuple, str]] = [(("table", i), column) for i, column in enumerate(fields.table)]
    for n, plot in enumerate(fields.plots):
        asked += [(("plots", n, "x"), plot.x)] + [(("plots", n, "y", i), y) for i, y in enumerate(plot.y)]
        asked += [(("plots", n, "series"), plot.series)] if plot.series else []
    if fields.compare:
        asked += [(("compare", "value"), fields.compare.value), (("compare", "between"), fields.compare.between)]
    for place, column in asked:
        if column not in known:
            document = read_yaml(experiment.file)
            raise document.error(f"no column '{column}' in the rows{nearest(column, known)}", place)
