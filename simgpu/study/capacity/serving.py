"""What `simgpu serve` does: scenarios from command lines, simulated, printed and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.documents import Text
from simgpu.errors import InputError
from simgpu.model.published import precision_named
from simgpu.simulation.inference_result import TrafficResult
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import load_experiment, run_case
from simgpu.workload.server.like import Meant, load_like, server_like
from simgpu.workload.server.tools.words import Keys, Sweep

SHOWN = (
    *("ttft_s", "ttft_50th_s", "ttft_99th_s", "tpot_s", "tpot_50th_s", "tpot_99th_s", "itl_50th_s", "itl_99th_s"),
    *("requests_per_s", "output_tokens_per_s", "total_tokens_per_s", "slo_goodput", "duration_s", "stationary"),
)
"""Columns of the table, as benchmarks print them."""

Results = dict[str, TrafficResult]
"""Results of loads by name."""

LOAD = "load"
"""Label of the loads that a command line sends one after the other."""


@dataclass(frozen=True)
class ServedLike:
    """What a server would do under a benchmark: its loads by name, '' where there is one."""

    results: Mapping[str, TrafficResult]
    keys: Keys
    ignored: Sequence[str]
    notes: Sequence[str]

    @property
    def result(self) -> TrafficResult:
        """The result of the first load."""
        return next(iter(self.results.values()))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each load."""
        return [{**({LOAD: name} if name else {}), **result.row} for name, result in self.results.items()]

    def show(self, style: str, out: IO[str]) -> None:
        """Print the rows, and what the command lines meant."""
        from simgpu.render.data import print_csv, print_json

        if style == "json":
            print_json({"scenario": self.keys, "notes": [*self.notes], "rows": self.rows}, out)
        elif style == "csv":
            print_csv(self.rows, out)
        else:
            self._print(out)

    def _print(self, out: IO[str]) -> None:
        from simgpu.render.server_table import print_figures_of, unsure_notes
        from simgpu.render.table import print_notes, print_table

        rows = self.rows
        said = ", ".join(f"{key} {_shown(value)}" for key, value in self.keys.items())
        notes = [*unsure_notes(rows), *self.notes, f"simulated as {said}"]
        if len(rows) == 1:
            print_figures_of(rows[0], out)
            print_notes(notes, out)
        else:
            print_table(rows, (LOAD, *SHOWN), "", notes, out)

    def write(self, folder: Path, tables: Sequence[str], trace: bool) -> list[Path]:
        """Write every request and the server's state over time of each load, and a trace of requests."""
        from simgpu.render.requests_files import write_requests

        written: list[Path] = []
        for name, result in self.results.items():
            below = folder / name.replace("/", " per ").replace(" ", "_") if name else folder
            written += write_requests(result.served, below, tables, trace)
        return written


def _shown(value: Any) -> str:
    return dumps(value) if isinstance(value, (list, bool)) else str(value)


LENGTHS = ("workload.lengths_file=", "workload.trace=", "workload.prompt=")
"""Settings that say how long requests are, where a tool's data set is not at hand."""


def serve_like(
    model: str, cluster: str, like: str, server: str, settings: Sequence[str], catalogue: Catalogue
) -> ServedLike:
    """Serve the load of a benchmark's command line. Raises `InputError`."""
    told = any(one.startswith(LENGTHS) for one in settings)
    load, started = load_like(like, told), server_like(server) if server else Meant()
    named = model or started.model or load.model
    if not named:
        raise InputError("is missing; expected a model of the catalogue, or a command line that names one", key="MODEL")
    known = named if catalogue.find("models", named) else catalogue.published(named) or named
    keys: Keys = {"model": known, "cluster": cluster, "workload.kind": "traffic", **started.keys, **load.keys}
    precision = precision_named(named)
    if precision is not None and precision_named(known) is None:
        keys.setdefault("workload.precision", precision)

    def run(loads: Sequence[tuple[str, Keys]]) -> Results:
        return {name: _run(_case({**keys, **more}, settings, catalogue), catalogue) for name, more in loads}

    results = _swept(load.sweep, run) if load.sweep is not None else run(load.cases or [("", {})])
    del keys["workload.kind"]
    notes = [*load.notes, *started.notes]
    return ServedLike(results, keys, [*load.ignored, *started.ignored], notes)


def _swept(sweep: Sweep, run: Callable[[Sequence[tuple[str, Keys]]], Results]) -> Results:
    """Rates from what one client gets to what a server gives that is sent all it may have, evenly in between."""
    found = run([("synchronous", {"workload.clients": 1})])
    found |= run([("throughput", {"workload.clients": sweep.most})])
    low, high = (one.requests_per_s for one in found.values())
    rates = [low + (high - low) * i / (sweep.count - 2) for i in range(1, sweep.count - 1)]
    how = {"workload.arrivals": "constant" if sweep.constant else "poisson"}
    return found | run([(f"{rate:.4g}/s", {**how, "workload.rate": rate}) for rate in rates])


def _case(keys: Keys, settings: Sequence[str], catalogue: Catalogue) -> Case:
    return load_experiment(Text(_yaml(keys), False, "serve"), settings, catalogue).cases[0]


def _run(case: Case, catalogue: Catalogue) -> TrafficResult:
    result = run_case(case, catalogue)
    assert isinstance(result, TrafficResult)
    return result


def _yaml(keys: Keys) -> str:
    """An experiment file with one scenario."""
    scenario: dict[str, Any] = {}
    for key, value in keys.items():
        root, _, rest = key.partition(".")
        if rest:
            scenario.setdefault(root, {})[rest] = value
        else:
            scenario[root] = value
    return dumps({"experiment": "serve", "scenario": scenario})
