"""Explanations: where the time of a scenario goes, operator by operator, and on which constants it depends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from pathlib import Path
from typing import Any

from simgpu.analysis.breakdown import breakdown
from simgpu.analysis.inference import phases
from simgpu.analysis.training import anatomy
from simgpu.analysis.uncertainty import Part, parts_of, range_of
from simgpu.catalog import Catalogue
from simgpu.hardware.inherit import Given
from simgpu.render.notes import memory_notes
from simgpu.scenario import resolve_cluster
from simgpu.simulation.result import Result
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.parts import assumed, distances, versions_of_runtimes
from simgpu.study.experiment.running import Experiment, ExperimentResult, Refused, run_case, run_each
from simgpu.study.report.memory import misfits, tight
from simgpu.tabular import Tabular
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import Activity
from simgpu.workload.inference.jobs import Deployed
from simgpu.workload.links import OFFLOAD
from simgpu.workload.options import clocks_of

FIELDS = {
    "operator": "what it is in the model",
    "segment": "part of the model it belongs to, with the pass (training) or phase (prefill, decode); or 'optimizer'",
    "kind": "class of operator",
    "group": "of a collective of training: over which ranks (tp, cp, ep, pp, shard, replica, grad, expert)",
    "library": "kernels it is timed as; empty where the user gave the time",
    "algorithm": "of a collective: ring, tree, nvls, collnet, direct; null for kernels",
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
    "speed_of_light": "ideal time (datasheet peak and bandwidth) / predicted time; null where the user gave the time",
    "regime": "where its constants come from: calibrated (measured on this GPU), inherited (from its "
    "architecture), datasheet (generic); empty where it has none",
}
"""Keys of a row of an explanation. SI units."""


@dataclass(frozen=True, repr=False)
class Explanation(Tabular):
    """One scenario: operators, slowest first; constants used as (name, value, unit, level, source).

    A collective uses those of NCCL's choice and of the time of what it chose; an ideal one none. `notes` say what the
    times leave aside: a plan whose memory does not fit, a search that only starts from it.
    """

    name: str
    result: Result
    operators: Sequence[dict[str, Any]]
    constants: Sequence[dict[str, Any]]
    notes: Sequence[str] = ()

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        """The operators, a row for each."""
        return self.operators


def explain(experiment: Experiment, catalogue: Catalogue) -> list[Explanation]:
    """Explain every scenario of an experiment that can run."""
    return explain_each(experiment, catalogue)[0]


def explain_each(experiment: Experiment, catalogue: Catalogue) -> tuple[list[Explanation], list[Refused]]:
    """The scenarios of an experiment explained, and those that cannot run with their reasons."""
    found, _, refused = run_each(experiment.cases, lambda _, case: _explain(case, experiment, catalogue))
    return found, refused


def _notes(case: Case, result: Result, experiment: Experiment, catalogue: Catalogue) -> list[str]:
    """Notes to know before the times of a row are read."""
    alone = ExperimentResult(replace(experiment, cases=[case]), [result], catalogue)
    if result.memory:
        notes = [f"Does not fit: {text}" for _, text in misfits(alone, catalogue)] + tight(alone)
    else:
        notes = memory_notes(alone.rows, None)
    if notes:
        notes.append("The times below assume enough memory.")
    if experiment.fields.search is not None:
        file = experiment.document.file
        best = f"; its best plan: simgpu explain {file}#1" if isinstance(file, Path) else ""
        notes.append(f"This is the starting point of the search, not its result{best}")
    return notes + versions_of_runtimes(alone) + assumed(alone) + distances(alone)


def _explain(case: Case, experiment: Experiment, catalogue: Catalogue) -> Explanation:
    result = run_case(case, catalogue)
    execution, workload = result.execution, case.scenario.workload
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    clocks = case.scenario.clocks or clocks_of(workload.kind)
    kernels = KernelModel(cluster, sustained=clocks == "sustained")
    if isinstance(workload, Deployed):
        phases_of_run = phases(execution)
        parts = [part for _, _, some in phases_of_run for part in some]
        rows = [_merged(phase, segment, some, execution.step, kernels) for phase, segment, some in phases_of_run]
    else:
        rank = anatomy(execution).rank if execution.blocks else breakdown(execution).rank
        parts = parts_of(execution, rank)
        rows = [_row(part, execution.step, kernels) for part in parts]
    used: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, constant in _constants(part.activity, kernels).items():
            used[name] = {
                "constant": name,
                "value": constant.figure.si,
                "unit": constant.figure.unit,
                "level": constant.level,
                "regime": constant.regime,
                "source": constant.source,
            }
    labels = ", ".join(str(value) for value in case.labels.values()) or case.scenario.cluster
    ordered = sorted(rows, key=lambda row: -row["time_s"])
    return Explanation(labels, result, ordered, list(used.values()), _notes(case, result, experiment, catalogue))


def _constants(activity: Activity, kernels: KernelModel) -> dict[str, Given]:
    """Constants behind the time of a kernel or collective: 'gemm.default.k_step_clocks', 'collective.nccl.fill'."""
    time = activity.time
    if time is not None:
        return {f"{time.uncertainty.group}.{time.library}.{name}": one for name, one in kernels.used(time).items()}
    library = activity.chosen.library if activity.chosen else "nccl"
    known = kernels.constants.origins("collective", library)
    names = activity.chosen.constants if activity.chosen else ()
    return {f"collective.{library}.{name}": known[name] for name in names if name in known}


def _merged(phase: str, segment: str, parts: Sequence[Part], step: float, kernels: KernelModel) -> dict[str, Any]:
    """One row for an operator of a phase of inference, whose shapes differ from step to step as the cache grows."""
    rows = [_row(part, step, kernels) for part in parts]
    ends = range_of([(part.seconds, part.uncertainty) for part in parts])
    sums = {name: fsum(row[name] for row in rows) for name in ("time_s", "share", "flop", "bytes")}
    sol_s = _speed_of_light(parts)
    return {
        **max(rows, key=lambda row: row["time_s"]),
        "operator": parts[0].activity.name.replace("attention_decode", "attention"),
        "segment": f"{phase}, {segment}" if segment != phase else phase,
        "runs": sum(part.runs for part in parts),
        **sums,
        "time_s_p10": ends.p10,
        "time_s_p90": ends.p90,
        "intensity": sums["flop"] / sums["bytes"] if sums["bytes"] else 0.0,
        "speed_of_light": sol_s / sums["time_s"] if sol_s and sums["time_s"] else None,
    }


def _speed_of_light(parts: Iterable[Part]) -> float:
    return fsum(part.activity.sol_s * part.runs for part in parts)


def _row(part: Part, step: float, kernels: KernelModel) -> dict[str, Any]:
    activity, time, chosen = part.activity, part.activity.time, part.activity.chosen
    ends = range_of([(part.seconds, part.uncertainty)])
    flop, moved = activity.flops * part.runs, activity.bytes * part.runs
    library = chosen.library if chosen else "copy engine" if activity.group == OFFLOAD else "nccl"
    regime = kernels.constants.regime("collective", library) if chosen and chosen.constants else ""
    return {
        "operator": activity.name,
        "segment": activity.segment,
        "kind": activity.kind,
        "group": activity.group,
        "library": library if activity.category != "compute" else time.library if time and time.operator else "",
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
        "speed_of_light": activity.sol_s * part.runs / part.seconds if activity.sol_s and part.seconds else None,
        "regime": time.regime if time else regime,
    }
