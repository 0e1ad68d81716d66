"""Where the time of a scenario goes, operator by operator, and which constants it hangs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.analysis.breakdown import breakdown
from simgpu.analysis.training import anatomy
from simgpu.analysis.uncertainty import Part, parts_of, range_of
from simgpu.catalog import Catalogue
from simgpu.hardware.inherit import Given
from simgpu.result import Result
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment import Experiment, run_case
from simgpu.study.loading import Case
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import Activity

FIELDS = {
    "operator": "what it is in the model",
    "segment": "part of the model it belongs to; of training with its pass, 'recomputation', or 'optimizer'",
    "kind": "class of operator",
    "group": "of a collective of training: over which ranks (tp, cp, ep, pp, shard, replica, grad, expert)",
    "library": "kernels it is timed as; empty where the user gave the time",
    "algorithm": "of a collective: ring, tree, nvls, direct; null for kernels",
    "protocol": "of a collective: ll, ll128, simple, or ideal (links at their plain rates); null for kernels",
    "channels": "of a collective: thread blocks that it holds on a GPU, 0 where ideal; null for kernels",
    "runs": "how often it runs on a GPU in a step",
    "time_s": "of all runs, s",
    "time_s_p10": "10 % of measurements would lie below",
    "time_s_p90": "90 % of measurements would lie below",
    "share": "of the step that it alone keeps busy",
    "flop": "floating-point operations of all runs",
    "bytes": "through memory (payload of a collective), all runs",
    "intensity": "flop / bytes",
    "bound": "what decides: compute, memory, latency, network, measured (given by the user)",
    "speed_of_light": "time at datasheet peak and bandwidth / time; null where the user gave the time",
    "regime": "where its constants come from: calibrated, inherited, datasheet; empty where it has none",
}
"""Keys of a row of an explanation. SI units."""


@dataclass(frozen=True)
class Explanation:
    """One scenario: operators, slowest first; constants used as (name, value, unit, level, source).

    A collective uses those of NCCL's choice and of the time of what it chose; an ideal one none.
    """

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
    rank = anatomy(execution).rank if execution.blocks else breakdown(execution).rank
    parts = parts_of(execution, rank)
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    kernels = KernelModel(cluster, sustained=case.scenario.clocks == "sustained")
    rows = [_row(part, execution.step, kernels.constants.regime("collective", "nccl")) for part in parts]
    used: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, one in _constants(part.activity, kernels).items():
            used[name] = {
                "constant": name,
                "value": one.figure.si,
                "unit": one.figure.unit,
                "level": one.level,
                "regime": one.regime,
                "source": one.source,
            }
    labels = ", ".join(str(value) for value in case.labels.values()) or case.scenario.cluster
    return Explanation(labels, result, sorted(rows, key=lambda row: -row["time_s"]), list(used.values()))


def _constants(activity: Activity, kernels: KernelModel) -> dict[str, Given]:
    """Constants behind the time of a kernel or collective: 'gemm.default.k_step_clocks', 'collective.nccl.fill'."""
    time = activity.time
    if time is not None:
        return {f"{time.doubt.group}.{time.library}.{name}": one for name, one in kernels.used(time).items()}
    known = kernels.constants.origins("collective", "nccl")
    names = activity.chosen.constants if activity.chosen else ()
    return {f"collective.nccl.{name}": known[name] for name in names}


def _row(part: Part, step: float, regime: str) -> dict[str, Any]:
    """One row; `regime` is that of collectives."""
    activity, time, chosen = part.activity, part.activity.time, part.activity.chosen
    ends = range_of([(part.seconds, part.doubt)])
    flop, moved = activity.flops * part.runs, activity.bytes * part.runs
    return {
        "operator": activity.name,
        "segment": activity.segment,
        "kind": activity.kind,
        "group": activity.group,
        "library": "nccl" if activity.category != "compute" else time.library if time and time.operator else "",
        "algorithm": chosen.algorithm if chosen else None,
        "protocol": chosen.protocol if chosen else None,
        "channels": chosen.channels if chosen else None,
        "runs": part.runs,
        "time_s": part.seconds,
        "time_s_p10": ends.p10,
        "time_s_p90": ends.p90,
        "share": part.exposed / step,
        "flop": flop,
        "bytes": moved,
        "intensity": flop / moved if moved else 0.0,
        "bound": activity.bound,
        "speed_of_light": activity.light * part.runs / part.seconds if activity.light and part.seconds else None,
        "regime": time.regime if time else regime if chosen and chosen.constants else "",
    }
