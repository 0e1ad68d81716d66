"""A recorded step at another scale: other degrees of parallelism, another batch, sequence, model, machine.

The experiment that the trace is of says what the sizes mean. It is simulated as it was recorded and as it is asked,
both with every kernel and collective as many times as long as the trace says (`simgpu.lab.replay.seen`). What the trace
holds beyond that is kept: gaps of the host and kernels without a model, as many times as there are kernels to launch.

    asked = simulated(asked) + (recorded - simulated(recorded)) x kernels(asked) / kernels(recorded)

Where the recording is shorter than its simulation (more overlaps than is modelled), the ratio stays instead. So the
same scale returns the recorded time, and a trace of simgpu its own prediction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import expm1, hypot, log, sqrt
from pathlib import Path
from typing import Any

from simgpu.analysis.training import Anatomy, anatomy, weighted
from simgpu.analysis.uncertainty import Part
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.replay.flow import length
from simgpu.lab.replay.own import OWN
from simgpu.lab.replay.seen import GROUP, KERNEL, ROUNDING, Seen, seen_in_own, seen_in_trace, stages_of
from simgpu.lab.replay.step import differences
from simgpu.lab.replay.sureness import Factor, away
from simgpu.lab.traces.records import Recorded
from simgpu.scenario import Origins, Scenario, resolve_cluster, run_scenario
from simgpu.simulation.result import Result
from simgpu.timing.distance import WITHIN, component
from simgpu.units import format_seconds
from simgpu.workload.execution import Activity

KINDS = ("training", "prefill", "operators")
"""Jobs whose steps are one timeline."""
RUNS = {"training": "step_time", "prefill": "prefill"}
"""Whole runs whose spread on one machine was measured (`simgpu.timing.distance`): a step that is another one lies as
far from its predicted ratio to the recorded one, however well their kernels are known. Pairs of runs of one machine, of
MosaicML, TorchTitan and SimuMax, have a standard deviation of .07 to .12 in the logarithm; the component is .10."""

Asked = tuple[Scenario, Origins]
"""A scenario and where its values were written."""


@dataclass(frozen=True)
class Simulated:
    """A step of an experiment with what the trace says of its kernels: on what, its result, where its time goes."""

    scenario: Scenario
    cluster: Cluster
    result: Result
    anatomy: Anatomy

    @property
    def launched(self) -> int:
        """Kernels of the rank that sets the pace."""
        return sum(part.runs for part in self.anatomy.parts if _is_kernel(part.activity))


@dataclass(frozen=True)
class Scaled:
    """The answer. Seconds; `kept` are those that the trace holds beyond its simulation, as recorded and as asked.

    `outside` are those before the first kernel and after the last, where the recording has no more than its kernels.
    """

    recorded: Recorded
    seen: Seen
    before: Simulated
    after: Simulated
    measured: float
    kept: tuple[float, float]
    outside: tuple[float, float]
    p10: float
    p90: float

    @property
    def predicted(self) -> float:
        """The step as asked for."""
        return self.after.anatomy.step - self.outside[1] + self.kept[1]

    def parts(self) -> list[dict[str, Any]]:
        """Where the time goes, as recorded and as asked; the rows add up to the steps."""
        found = [dict(_rows(one.anatomy)) for one in (self.before, self.after)]
        found[0][KEPT], found[1][KEPT] = self.kept
        found[0][OUTSIDE], found[1][OUTSIDE] = (-seconds for seconds in self.outside)
        names = [
            name
            for name in dict.fromkeys([*found[0], *found[1]])
            if any(abs(one.get(name, 0)) > 1e-12 for one in found)
        ]
        return [
            {"part": name, "recorded_s": found[0].get(name, 0.0), "asked_s": found[1].get(name, 0.0)} for name in names
        ]

    def words(self) -> list[str]:
        """The largest differences between both, as sentences."""
        rows = [(row["part"], row["asked_s"] - row["recorded_s"]) for row in self.parts()]
        return differences(rows, self.measured)

    def notes(self) -> list[str]:
        """What to know beside the numbers."""
        notes = [*self.recorded.notes]
        if not self.seen.factors:
            notes.append("no kernel of the trace is told apart: the step is scaled as a whole")
        if self.kept[0] < -ROUNDING * self.measured:
            notes.append("the recording overlaps more than its simulation: what is asked is scaled by their ratio")
        stage = self.seen.stage
        if stage is not None and self.before.scenario.plan.pp > 1:
            notes.append(f"by its FLOPs it is of pipeline stage {stage.number}")
        if any(self.outside):
            whole = [format_seconds(one + more) for one, more in
                     zip((self.measured, self.predicted), self.outside, strict=True)]  # fmt: skip
            notes.append(
                "it shows no steps (ProfilerStep#), so that a step is from its first kernel to its last; with what is"
                f" predicted before and after them {whole[0]} become {whole[1]}"
            )
        row = self.after.result.row
        if row.get("memory_fits") is False:
            notes.append("what is asked does not fit the memory")
        return notes

    def document(self) -> dict[str, Any]:
        """The answer as data."""
        total = sum(record.seconds or 0.0 for record in self.recorded.records)
        step = total / float(self.recorded.info.get("steps", 1))
        kept = sorted(self.seen.kept.items(), key=lambda one: -one[1][0])
        return {
            "what": self.recorded.what, "measured_s": self.measured, "predicted_s": self.predicted,
            "predicted_s_p10": self.p10, "predicted_s_p90": self.p90, "ratio": self.predicted / self.measured,
            "simulated_s": self.before.anatomy.step, "notes": self.notes(), "words": self.words(),
            "parts": self.parts(),
            "factors": [{"of": part, "name": name, "factor": value}
                        for (part, name), value in self.seen.factors.items()],
            "kept": [{"operator": name, "share": seconds / step if step else 0.0, "why": why}
                     for name, (seconds, why) in kept],
        }  # fmt: skip


KEPT = "beyond the simulation"
OUTSIDE = "before and after the kernels"


def _rows(found: Anatomy) -> Iterable[tuple[str, float]]:
    """The step by part; they add up to it."""
    yield from found.classes.items()
    yield "host", found.host
    yield from ((f"exposed {name} communication", seconds) for name, seconds in found.exposed.items())
    yield "bubble", found.bubble


def scale(recorded: Recorded, file: Path, was: Asked, asked: Asked, catalogue: Catalogue) -> Scaled:
    """A recorded step as it is asked for. Raises `InputError`."""
    plain = _simulated(*was, catalogue, {})
    measured, steps = _step_of(recorded, file)
    plan = was[0].plan.plan()
    if recorded.what == OWN:
        seen = seen_in_own(recorded, plain.result.execution, plain.anatomy.parts, file)
    else:
        seen = seen_in_trace(recorded, stages_of(plain.result.execution), plan, steps, file)
    before, after = (_simulated(*one, catalogue, seen.factors, file.name) for one in (was, asked))
    outside = _outside(recorded, seen, before, after)
    beyond = measured - (before.anatomy.step - outside[0])
    if abs(beyond) < 1e-9 * measured:
        beyond = 0.0
    grown = after.launched / before.launched if before.launched else 1.0
    kept = beyond * (grown if beyond > 0 else after.anatomy.step / before.anatomy.step)
    step = after.anatomy.step - outside[1] + kept
    between = 0.0 if was[0] == asked[0] else component(RUNS.get(was[0].workload.kind, ""), WITHIN).reach
    low, high = (hypot(_end(before, after, seen, sign), expm1(sign * between)) for sign in (-1, 1))
    moved = after.anatomy.step - after.anatomy.host
    ends = step - low * moved, step + high * moved
    return Scaled(recorded, seen, before, after, measured, (beyond, kept), outside, *ends)


def _outside(recorded: Recorded, seen: Seen, before: Simulated, after: Simulated) -> tuple[float, float]:
    """Seconds of both steps that lie outside of a recording which begins and ends with a kernel."""
    if seen.stage is None or "span_s" in recorded.info:
        return 0.0, 0.0
    same = before.scenario.plan.pp == after.scenario.plan.pp
    there = seen.stage if same else replace(seen.stage, rank=after.anatomy.rank)
    return seen.stage.outside(before.result.execution), there.outside(after.result.execution)


def _simulated(
    scenario: Scenario, origins: Origins, catalogue: Catalogue, factors: Mapping[tuple[str, str], float],
    source: str = "",
) -> Simulated:  # fmt: skip
    if scenario.workload.kind not in KINDS:
        problem = f"'{scenario.workload.kind}' has no step of one timeline; expected one of {', '.join(KINDS)}"
        raise origins.error(problem, ("workload", "kind"))
    cluster = resolve_cluster(scenario, catalogue, origins)
    if factors:
        cluster = replace(cluster, kernel=cluster.kernel.with_replayed(factors, source))
    result = run_scenario(scenario, catalogue, origins, cluster)
    return Simulated(scenario, cluster, result, anatomy(result.execution))


def _step_of(recorded: Recorded, file: Path) -> tuple[float, float]:
    """Seconds of one recorded step, and how many there are. Raises `InputError`."""
    steps = max(float(recorded.info.get("steps", 1)), 1.0)
    whole = recorded.info.get("span_s") or length([ran for record in recorded.records for ran in record.ran])
    if not whole > 0:
        raise InputError("holds no time: was its window empty?", file=file)
    return float(whole) / steps, steps


def _is_kernel(activity: Activity) -> bool:
    return activity.category == "compute" and activity.kind != "host"


# ---- how sure --------------------------------------------------------------------------------------------


def _end(before: Simulated, after: Simulated, seen: Seen, sign: int) -> float:
    """How far an end of the interval lies from the step, as a share of what is no host's: that of the ratio."""
    old: dict[Any, Part] = {part.activity.name: part for part in before.anatomy.parts}
    old |= {part.activity: part for part in before.anatomy.parts}
    by_class: dict[str, list[tuple[float, Factor]]] = defaultdict(list)
    total = 0.0
    for seconds, part in weighted(after.anatomy):
        by_class[part.uncertainty.group].append((seconds, _factor(part, old, before, after, seen)))
        total += seconds
    shares = [sum(seconds for seconds, _ in some) * away(some, sign) for some in by_class.values()]
    return hypot(*shares) / total if total else 0.0


def _factor(part: Part, old: Mapping[Any, Part], before: Simulated, after: Simulated, seen: Seen) -> Factor:
    """How sure the ratio of one part is: what is the same cancels; what was not recorded is as unsure as predicted."""
    activity, sure = part.activity, part.uncertainty
    key = (KERNEL, activity.name) if activity.op is not None else (GROUP, activity.group)
    other = old.get(activity) or old.get(activity.name)
    new = -log(sure.low), log(sure.high)
    same_machine = before.cluster == after.cluster
    alike = same_machine and other is not None and activity == other.activity
    if (
        alike
        and other is not None
        and (key in seen.factors or abs(part.seconds - other.seconds) < 1e-9 * other.seconds)
    ):
        return Factor()
    if key not in seen.factors or other is None:
        return Factor(1.0, *new, sure.correlated)
    was = -log(other.uncertainty.low), log(other.uncertainty.high)
    left = sqrt(max(1 - min(sure.correlated, other.uncertainty.correlated), 0.0)) if same_machine else 1.0
    common = 0.0 if same_machine else sure.correlated
    return Factor(1.0, left * hypot(new[0], was[1]), left * hypot(new[1], was[0]), common)


__all__ = ["KINDS", "Scaled", "scale"]
