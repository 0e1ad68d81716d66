"""From an experiment file to the points of a sweep: their keys, their labels, the tasks, and points that are wrong."""

from __future__ import annotations

import hashlib
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.documents import Source, read_text
from simgpu.errors import InputError
from simgpu.settings import parse_settings
from simgpu.study.experiment.loading import Loaded, read
from simgpu.study.experiment.plot_checks import check_said
from simgpu.study.experiment.points import Point
from simgpu.study.experiment.resolver import Resolver
from simgpu.study.experiment.running import Experiment, told, varied_values
from simgpu.study.pools.versions import code_digest
from simgpu.study.sweep.identity import Identities, digest_of
from simgpu.study.sweep.store import Finished, now
from simgpu.study.sweep.work import Task
from simgpu.version import __version__


@dataclass(frozen=True)
class Planned:
    """A sweep before it runs. `members` are (key, labels with varied values) of all points in order of the rows.

    `tasks` are the scenarios by key: points that differ in their labels alone share one. `wrong` are points that cannot
    be scenarios, each with its reason.
    """

    experiment: Experiment
    file: Source
    text: str  # digest of the file
    settings: Sequence[str]
    members: Sequence[tuple[str, Mapping[str, Any]]]
    tasks: Mapping[str, Task]
    wrong: Sequence[Finished]
    parts: Mapping[str, str]

    @property
    def provenance(self) -> dict[str, str]:
        """The origin of this sweep's results."""
        return {
            "experiment": self.experiment.name,
            "file": str(self.file.absolute() if isinstance(self.file, Path) else self.file),
            "simgpu": __version__,
            "code": code_digest(),
        }


def plan(file: Source, settings: Sequence[str], catalogue: Catalogue) -> Planned:
    """Read an experiment file and find the key of each of its points.

    A point that cannot be a scenario is reported as failed; an error of all of them, and a misspelt key, raise
    `InputError`.
    """
    loaded = read(file, parse_settings(settings), catalogue)
    resolver = Resolver(catalogue)
    identities = Identities(resolver)
    members: list[tuple[str, Mapping[str, Any]]] = []
    tasks: dict[str, Task] = {}
    wrong: dict[str, Finished] = {}
    first: InputError | None = None
    for point in loaded.points():
        try:
            case = loaded.case(point)
            identity = identities.of(case.scenario, case.origins)
            members.append((identity.key, {**case.labels, **varied_values(case, resolver)}))
            tasks.setdefault(identity.key, Task(identity.key, case.scenario, case.origins))
        except InputError as error:
            if error.problem.startswith("unknown key"):
                raise
            first = first or error
            failed = _wrong(point, error)
            members.append((failed.key, {**point.labels, **_varied_words(loaded, point)}))
            wrong[failed.key] = failed
    if first is not None and not tasks:
        raise first
    experiment = Experiment(loaded.fields.experiment or file.stem, loaded.document, loaded.fields, (), told(settings))
    text = hashlib.sha256(read_text(file).encode()).hexdigest()
    planned = Planned(
        experiment, file, text, list(settings), members, tasks, list(wrong.values()), identities.contents()
    )
    check_said(loaded.document, loaded.fields, {key for _, labels in members for key in labels})
    return planned


def _wrong(point: Point, error: InputError) -> Finished:
    """A point that is not a scenario, as one that failed. Its key is that of its text."""
    data = {"simgpu": __version__, "code": code_digest(), "wrong": point.data}
    time, host, python = now(), socket.gethostname(), platform.python_version()
    return Finished(digest_of(data), "failed", None, str(error), _plain(point.data), {}, time, time, 0.0, host, python)


def _varied_words(loaded: Loaded, point: Point) -> dict[str, str]:
    from simgpu.study.experiment.points import written_key
    from simgpu.tree import value_at

    return {written_key(path): _plain(value_at(point.data, path)) for path in loaded.varied}


def _plain(data: Any) -> Any:
    """The data in a form that JSON can hold."""
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(item) for item in data]
    finite = not isinstance(data, float) or data - data == 0
    return data if isinstance(data, (str, int, float, bool, type(None))) and finite else str(data)
