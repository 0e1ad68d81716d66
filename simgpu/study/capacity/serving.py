"""What `simgpu serve` does: a scenario from command lines, simulated, printed and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.documents import Text
from simgpu.errors import InputError
from simgpu.simulation.inference_result import TrafficResult
from simgpu.study.experiment.running import load_experiment, run_case
from simgpu.workload.server.answer import COLUMNS
from simgpu.workload.server.like import Meant, load_like, server_like

SHOWN = (
    *("ttft_s", "ttft_50th_s", "ttft_99th_s", "tpot_s", "tpot_50th_s", "tpot_99th_s", "itl_50th_s", "itl_99th_s"),
    *("requests_per_s", "output_tokens_per_s", "total_tokens_per_s", "slo_goodput", "duration_s", "stationary"),
)
"""Columns of the table, as benchmarks print them."""


@dataclass(frozen=True)
class ServedLike:
    """What a server would do under a benchmark."""

    result: TrafficResult
    keys: dict[str, Any]
    ignored: list[str]

    def show(self, style: str, out: IO[str]) -> None:
        """Print the row, and what the command lines meant."""
        from simgpu.render.data import print_csv, print_json
        from simgpu.render.table import print_table

        if style == "json":
            print_json({"scenario": self.keys, "rows": [dict(self.result.row)]}, out)
        elif style == "csv":
            print_csv([self.result.row], out)
        else:
            said = ", ".join(f"{key} {value}" for key, value in self.keys.items())
            print_table([self.result.row], SHOWN, "", [f"as {said}"], out)

    def write(self, folder: Path) -> list[Path]:
        """Write every request and the server's state over time."""
        from simgpu.render.data import print_csv
        from simgpu.render.files import written_whole

        records = [dict(zip(COLUMNS, one, strict=True)) for one in sorted(self.result.served.records)]
        files = {"requests.csv": records, "seconds.csv": self.result.served.tally.series.rows()}
        for name, rows in files.items():
            with written_whole(folder / name) as stream:
                print_csv(rows, stream)
        return [folder / name for name in files]


def serve_like(
    model: str, cluster: str, like: str, server: str, settings: Sequence[str], catalogue: Catalogue
) -> ServedLike:
    """Serve the load of a benchmark's command line. Raises `InputError`."""
    load, started = load_like(like), server_like(server) if server else Meant()
    named = model or started.model or load.model
    if not named:
        raise InputError("is missing; expected a model of the catalogue, or a command line that names one", key="MODEL")
    known = named if catalogue.find("models", named) else catalogue.published(named) or named
    keys: dict[str, Any] = {"model": known, "cluster": cluster, "workload.kind": "traffic", **started.keys, **load.keys}
    text = _yaml(keys)
    experiment = load_experiment(Text(text, False, "serve"), settings, catalogue)
    result: Any = run_case(experiment.cases[0], catalogue)
    del keys["workload.kind"]
    return ServedLike(result, keys, [*load.ignored, *started.ignored])


def _yaml(keys: dict[str, Any]) -> str:
    """An experiment file with one scenario."""
    from json import dumps

    scenario: dict[str, Any] = {}
    for key, value in keys.items():
        root, _, rest = key.partition(".")
        if rest:
            scenario.setdefault(root, {})[rest] = value
        else:
            scenario[root] = value
    return dumps({"experiment": "serve", "scenario": scenario})
