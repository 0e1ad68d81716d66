"""What the local page asks: a scenario with changes, simulated, as data that the page draws.

A question is a mapping: `scenario` (as an experiment file says it), `changes` ({dotted key: value}, None takes a value
away) and `factors` ({name of an input of the hardware: factor}). The answer holds figures with their intervals, parts
of the time, memory, notes, and the experiment file that says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.columns import COLUMNS, better
from simgpu.documents import as_text
from simgpu.errors import InputError, shown
from simgpu.render.columns import cell_of, interval_of, title
from simgpu.render.fields import STEP_PARTS
from simgpu.render.stack import PART_NAMES
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment.parts import distances
from simgpu.study.experiment.running import ExperimentResult, load_experiment, run_experiment
from simgpu.study.experiment.shown import shown_columns
from simgpu.study.report.rows import build
from simgpu.study.search.ranked import open_experiment
from simgpu.study.whatif.inputs import inputs_of
from simgpu.study.whatif.named_inputs import figures_of
from simgpu.tree import replaced

SHOWN = {
    "training": ("step_s", "tokens_per_s", "mfu", "training_days", "usd_per_run", "usd_per_step", "bubble_fraction",
                 "exposed_communication_s", "power_w_per_gpu", "energy_j_per_token"),
    "serving": ("ttft_s", "tpot_s", "output_tokens_per_s_per_user", "output_tokens_per_s_per_gpu", "requests_per_s",
                "usd_per_million_output_tokens", "power_w_per_gpu", "energy_j_per_token"),
    "inference": ("ttft_s", "tpot_s", "step_s", "output_tokens_per_s_per_user", "output_tokens_per_s_per_gpu",
                  "usd_per_million_output_tokens", "power_w_per_gpu", "energy_j_per_token"),
}  # fmt: skip
"""Columns of the page by kind of job; other kinds show what `simgpu run` shows."""
INPUTS = (
    "tensor_peak",
    "hbm_bandwidth",
    "hbm_capacity",
    "power_limit",
    "nvlink_bandwidth",
    "pcie_bandwidth",
    "nic_bandwidth",
)
"""Inputs of the hardware that the page has a slider for, where the job uses them."""
STARTS: dict[str, dict[str, Any]] = {
    "Training, Llama 3.1 70B on 64 H100": {
        "model": "llama-3.1-70b",
        "cluster": "dgx-h100-ib",
        "framework": "megatron",
        "workload": {"kind": "training", "batch": 256, "tokens": 8192, "train_tokens": 1e12},
        "plan": {"tp": 4, "pp": 4, "dp": 4, "vp": 5, "micro_batch": 1, "sequence_parallel": True, "zero": 1},
    },
    "A server, Llama 3.3 70B on 4 H100": {
        "model": "llama-3.3-70b",
        "cluster": "dgx-h100",
        "workload": {"kind": "serving", "concurrency": 64, "prompt": 2048, "output": 512, "precision": "fp8",
                     "runtime": "vllm"},
        "plan": {"tp": 4},
    },
    "One batch, Llama 3.1 8B on an RTX 4090": {
        "model": "llama-3.1-8b",
        "cluster": "rtx-4090",
        "workload": {"kind": "inference", "batch": 1, "prompt": 1024, "output": 256, "precision": "fp8",
                     "runtime": "vllm"},
        "plan": {"tp": 1},
    },
}  # fmt: skip
"""Scenarios that the page starts from where no file is given."""


def starts(file: str | None, settings: tuple[str, ...], catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """Scenarios to start from, by name: the rows of an experiment, else one of each usual kind. Raises `InputError`."""
    if file is None:
        return {name: dict(one) for name, one in STARTS.items()}
    experiment = open_experiment(file, settings, catalogue)
    found: dict[str, dict[str, Any]] = {}
    for number, case in enumerate(experiment.cases, 1):
        words = ", ".join(str(value) for name, value in case.labels.items() if not name.startswith("claimed_"))
        found[f"{experiment.name} {number}{': ' * bool(words)}{words}"] = dict(case.data)
    return found


def answer(question: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Simulate what the page asks. Raises `InputError` with one line, as the command line would."""
    scenario = _changed(question)
    factors = _factors(question)
    experiment = load_experiment(as_text({"scenario": scenario}), (), catalogue)
    case = experiment.cases[0]
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    gpus = case.scenario.plan.plan().world
    inputs = inputs_of(cluster, case.scenario.dtype or "bf16", gpus)
    if factors:
        known = {one.name: one for one in inputs}
        if (strange := next((name for name in factors if name not in known), None)) is not None:
            raise InputError("is no input of this job", key=strange)
        hardware = dict(scenario.get("hardware") or {})
        figures = figures_of({known[name].title: f"{factor}x" for name, factor in factors.items()}, inputs)
        scenario = {**scenario, "hardware": hardware | figures}
    outcome = run_experiment(load_experiment(as_text({"scenario": scenario}), (), catalogue), catalogue)
    if not outcome.rows:
        raise InputError(str(outcome.refused[0]) if outcome.refused else "nothing ran")
    return _answered(outcome, scenario) | {
        "inputs": [{"name": one.name, "title": one.title.partition(" (")[0]} for one in inputs if one.name in INPUTS]
    }


def _factors(question: Mapping[str, Any]) -> dict[str, float]:
    """Factors of inputs that are not 1."""
    found: dict[str, float] = {}
    for name, value in _mapping(question, "factors").items():
        if not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise InputError(f"{shown(value)} is no factor; expected a number above 0", key=str(name))
        if value != 1:
            found[str(name)] = float(value)
    return found


def _mapping(question: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = question.get(key) or {}
    if not isinstance(found, dict):
        raise InputError("expected a mapping", key=key)
    return found


def _changed(question: Mapping[str, Any]) -> dict[str, Any]:
    """The scenario of a question, with its changes."""
    scenario: Any = question.get("scenario")
    if not isinstance(scenario, dict):
        raise InputError("expected a mapping", key="scenario")
    for key, value in _mapping(question, "changes").items():
        try:
            scenario = replaced(scenario, str(key).split("."), _always(value))
        except KeyError:
            raise InputError("leads nowhere in this scenario", key=str(key)) from None
    changed: dict[str, Any] = _without_none(scenario)
    return changed


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None}
    return data


def _answered(outcome: ExperimentResult, scenario: Mapping[str, Any]) -> dict[str, Any]:
    row = outcome.rows[0]
    kind = outcome.experiment.cases[0].scenario.workload.kind
    wanted = SHOWN.get(kind) or tuple(shown_columns(outcome.experiment.fields, outcome.rows))
    columns = [name for name in wanted if row.get(name) is not None]
    notes = build(outcome, outcome.catalogue)["notes"]
    return {
        "kind": kind,
        "figures": [_figure(name, row) for name in columns if isinstance(row[name], (int, float, str))],
        "parts": list(_parts(row)),
        "memory": _memory(row),
        "distance": [note for note in notes if note in set(distances(outcome))],
        "notes": [note for note in notes if note not in set(distances(outcome))],
        "file": as_text({"experiment": "mine", "scenario": dict(scenario), "table": columns}).text,
    }


def _figure(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A figure as words, and as numbers where it has them: value, and the ends of its interval."""
    value = row[name]
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return {
        "column": name,
        "title": title(name),
        "about": COLUMNS.get(name, ""),
        "text": cell_of(name, row),
        "value": number,
        "interval": interval_of(name, row) if number is not None else None,
        "better": better(name),
    }


def _parts(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Parts of the time of a step, in the order of the bars of the plots."""
    for name in STEP_PARTS:
        if row.get(name):
            yield {"title": PART_NAMES[name], "seconds": float(row[name]), "column": name}


def _memory(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a GPU holds and has, in bytes, and whether that fits."""
    if not row.get("memory_bytes_per_gpu") or not row.get("memory_capacity_bytes"):
        return None
    return {
        "used": row["memory_bytes_per_gpu"],
        "capacity": row["memory_capacity_bytes"],
        "text": cell_of("memory_bytes_per_gpu", row),
        "fits": cell_of("memory_fits", row) if row.get("memory_fits") is not None else "",
    }


def names(catalogue: Catalogue) -> dict[str, list[str]]:
    """Names that the page offers: models, machines, engines, trainers, precisions."""
    from simgpu.plan.precision import PRECISIONS

    machines = [name for kind in ("clusters", "nodes", "gpus") for name in catalogue.names(kind)]
    return {
        "models": list(catalogue.names("models")),
        "clusters": list(dict.fromkeys(machines)),
        "runtimes": list(catalogue.names("runtimes")),
        "frameworks": list(catalogue.names("frameworks")),
        "precisions": list(PRECISIONS),
    }
