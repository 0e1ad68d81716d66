"""What claims are held against: a catalogue, and runs of the simulator, each made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.documents import as_text
from simgpu.errors import InputError
from simgpu.memo import Region
from simgpu.study.experiment.running import load_experiment, run_experiment
from simgpu.study.report.capacity import CapacityQuery, fit

RUNS = 4096
"""Runs that are remembered."""
LARGEST = "b300-sxm"
"""A GPU that holds any model's weights for counting them."""


class Bench:
    """The catalogue, and rows of simulations by their scenario."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._runs: Region[str, dict[str, Any] | InputError] = Region(RUNS)
        self._fits: Region[tuple[Any, ...], dict[str, Any] | InputError] = Region(RUNS)

    def run(self, scenario: Mapping[str, Any]) -> dict[str, Any]:
        """The row of a scenario, as an experiment file would say it. Raises `InputError` where it cannot run."""
        key = json.dumps(scenario, sort_keys=True, default=str)
        if key not in self._runs:
            try:
                experiment = load_experiment(as_text({"scenario": scenario}), (), self.catalogue)
                self._runs[key] = dict(run_experiment(experiment, self.catalogue).rows[0])
            except InputError as error:
                self._runs[key] = error
        found = self._runs[key]
        if isinstance(found, InputError):
            raise InputError(found.problem, key=found.key)
        return found

    def fit(self, model: str, gpu: str, precision: str, context: int, users: int = 1) -> dict[str, Any]:
        """The row of `simgpu fit`. Raises `InputError`."""
        key = (model, gpu, precision, context, users)
        if key not in self._fits:
            try:
                asked = CapacityQuery((gpu,), (precision,), context, users, None, None)
                self._fits[key] = dict(fit(self.catalogue, (model,), asked).rows[0])
            except InputError as error:
                self._fits[key] = error
        found = self._fits[key]
        if isinstance(found, InputError):
            raise InputError(found.problem, key=found.key)
        return found

    def file_bytes(self, model: str, precision: str) -> float:
        """Bytes of a model's weights in a precision, scales and wide matrices with it, as a checkpoint has them."""
        return float(self.fit(model, LARGEST, precision, 128)["weights_bytes"])
