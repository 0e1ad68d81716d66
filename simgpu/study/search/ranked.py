"""A plan that a search found as an experiment of one row: 'FILE#2' is the second best plan of the search in FILE."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.scenario import Place
from simgpu.settings import parse_settings
from simgpu.study.experiment.loading import rewritten
from simgpu.study.experiment.running import Experiment, Given, find_experiment, load_experiment, told

_RANKED = re.compile(r"(.+)#(\d+)")


def open_experiment(given: Given, settings: Sequence[str], catalogue: Catalogue) -> Experiment:
    """Find, read and check an experiment, or the plan of a search that 'FILE#RANK' means. Raises `InputError`.

    `settings` are 'key=value' changes to every scenario; of 'FILE#RANK' to the plan that the search of the file found,
    so that a what-if asks of the same plan.
    """
    ranked = _RANKED.fullmatch(str(given)) if isinstance(given, (str, Path)) and not os.path.exists(given) else None
    if ranked is None:
        return load_experiment(find_experiment(given, catalogue), settings, catalogue)
    file, rank = ranked[1], int(ranked[2])
    from simgpu.study.search import command

    source = find_experiment(file, catalogue)
    answer = command.search(source, (), catalogue, top=max(rank, 1), keep=False)
    if not answer.complete:
        raise KeyboardInterrupt
    if not 1 <= rank <= len(answer.cases):
        raise InputError(f"plan {rank} is not there; the search finds {len(answer.cases)}", file=str(source))
    changes = [(one.path, one.value, Place("--set", key=one.key)) for one in parse_settings(settings)]
    base = load_experiment(source, (), catalogue)
    case = rewritten(answer.cases[rank - 1], changes)
    fields = base.fields.model_copy(update={"search": None, "plots": [], "table": [], "compare": None})
    return replace(base, name=f"{base.name}#{rank}", fields=fields, cases=[case], settings=told(settings))
