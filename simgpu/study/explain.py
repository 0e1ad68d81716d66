"""Where the time of a scenario goes, operator by operator, and which constants it hangs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.analysis.breakdown import breakdown
from simgpu.analysis.uncertainty import Part, parts_of, range_of
from simgpu.catalog import Catalogue
from simgpu.result import Result
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment import Experiment, run_case
from simgpu.study.loading import Case
from simgpu.timing.kernels import KernelModel

FIELDS = {
    "operator": "what it is in the model",
    "segment": "part of the model it belongs to",
    "kind": "class of operator",
    "library": "kernels it is timed as; empty where the user gave the time",
    "runs": "how often it runs on a GPU in a step",
    "time_s": "of all runs, s",
    "time_s_p10": "10 % of measurements would lie below",
    "time_s_p90": "90 % of measurements would lie below",
    "share": "of the step that it alone keeps busy",
    "flop": "floating-point operations of all runs",
    "bytes": "through memory (payload of a collective), all runs",
    "intensity": "flop / bytes",
    "bound": "what decides: compute, memory, latency, network, measured (given by the user)",
    "speed_of_light": "time at datasheet peak and bandwidth / time",
    "regime": "where its constants come from: calibrated, inherited, datasheet",
}
"""Keys of a row of an explanation. SI units."""


@dataclass(frozen=True)
class Explanation:
    """One scenario: operators, slowest first; constants used as (name, value, unit, level, source)."""

    name: str
    result: Result
    operators: Sequence[dict[str, Any]]
    constants: Sequence[dict[str, Any]]


def explain(experiment: Experiment, catalogue: Catalogue) -> list[Explanation]:
    """Explain every scenario of an experiment."""
    return [_explain(case, catalogue) for case in experiment.cases]


def _explain(case: Case, catalogue: Catalogue) -> Explanation:
    result = run_case(case, catalogue)
    execution = result.execution
    parts = parts_of(execution, breakdown(execution).rank)
    rows = [_row(part, execution.step) for part in parts]
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    kernels = KernelModel(cluster, sustained=case.scenario.clocks == "sustained")
    used: dict[str, dict[str, Any]] = {}
    for part in parts:
        time = part.activity.time
        if time is None or not time.operator:
            continue
        for name, one in kernels.used(time).items():
            key = f"{time.doubt.group}.{time.library}.{name}"
            used[key] = {
                "constant": key,
                "value": one.figure.si,
                "unit": one.figure.unit,
                "level": one.level,
                "regime": one.regime,
                "source": one.source,
            }
    labels = ", ".join(str(value) for value in case.labels.values()) or case.scenario.cluster
    return Explanation(labels, result, sorted(rows, key=lambda row: -row["time_s"]), list(used.values()))


def _row(part: Part, step: float) -> dict[str, Any]:
    activity, time = part.activity, part.activity.time
    ends = range_of([(part.seconds, part.doubt)])
    flop, moved = activity.flops * part.runs, activity.bytes * part.runs
    return {
        "operator": activity.name,
        "segment": activity.segment,
        "kind": activity.kind,
        "library": "nccl" if time is None else time.library if time.operator else "",
        "runs": part.runs,
        "time_s": part.seconds,
        "time_s_p10": ends.p10,
        "time_s_p90": ends.p90,
        "share": part.exposed / step,
        "flop": flop,
        "bytes": moved,
        "intensity": flop / moved if moved else 0.0,
        "bound": activity.bound,
        "speed_of_light": activity.light * part.runs / part.seconds if part.seconds else 0.0,
        "regime": time.regime if time else "",
    }
