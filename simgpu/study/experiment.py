"""Experiments: a base scenario, cases that change it, axes that vary it, and what to show.

Every row of the result is one scenario: the base, changed by one case, changed by one point of the varied axes,
changed by `--set`. Keys may be nested or dotted (`plan.tp`); keys that begin with `gpu.`, `node.`, `cluster.` or
`link.` set hardware parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.documents import Document
from simgpu.errors import InputError, nearest, shown
from simgpu.result import Result
from simgpu.scenario import run_scenario
from simgpu.study.fields import ExperimentFields
from simgpu.study.loading import Case, load, parse_settings, written_key
from simgpu.study.plot_checks import ColumnChecks
from simgpu.tree import indexed, value_at


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file: what to show, and its cases in the order of the rows."""

    name: str
    document: Document
    fields: ExperimentFields
    cases: Sequence[Case]
    settings: Sequence[str] = ()  # 'key=value' changes to every scenario


@dataclass(frozen=True)
class ExperimentResult:
    """Results of all cases, in order. `rows` are flat. `catalogue` is where their names were found."""

    experiment: Experiment
    results: Sequence[Result]
    catalogue: Catalogue

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(result.row) for result in self.results]


def find_experiment(name: str, catalogue: Catalogue) -> Path:
    """The file that `name` means: a path, or an experiment of the catalogue."""
    path = Path(name)
    if os.path.exists(name) or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    found = catalogue.find("experiments", name)
    if found is None:
        raise InputError(f"no such file or experiment {shown(name)}{nearest(name, catalogue.names('experiments'))}")
    return found


def load_experiment(file: Path, settings: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file; `settings` are 'key=value' changes to every scenario. Runs nothing."""
    document, fields, cases = load(file, parse_settings(settings))
    told = [setting for setting in settings if not setting.startswith("require_fit=")]  # changes no row
    return Experiment(fields.experiment or file.stem, document, fields, cases, told)


def run_case(case: Case, catalogue: Catalogue) -> Result:
    """Simulate one case. Its labels stand first in the row, then what the file varies, in SI units."""
    result = run_scenario(case.scenario, catalogue, case.origins)
    varied = {}
    for path in case.varied:
        key = written_key(path)
        entry = result.resolved.get(key) or result.resolved.get(".".join(indexed(case.data, path)))
        varied[key] = entry["value"] if entry else str(value_at(case.data, path))
    return replace(result, row={**case.labels, **varied, **result.row})


def run_experiment(
    experiment: Experiment, catalogue: Catalogue, progress: Callable[[int, int], None] | None = None
) -> ExperimentResult:
    """Simulate every case. `progress` is called with (done, total)."""
    results = []
    for done, case in enumerate(experiment.cases):
        if progress:
            progress(done, len(experiment.cases))
        results.append(run_case(case, catalogue))
    outcome = ExperimentResult(experiment, results, catalogue)
    ColumnChecks(experiment, outcome.rows).all()
    return outcome
