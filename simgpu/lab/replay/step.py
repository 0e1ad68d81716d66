"""A recorded step against the same step elsewhere: how long, how sure, which parts, and what kept its time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot
from typing import Any

from simgpu.lab.replay.flow import Graph, graph_of, length
from simgpu.lab.replay.gaps import CAUSES, gaps, jump
from simgpu.lab.replay.rescaling import Rescaling
from simgpu.lab.replay.sureness import Factor, away
from simgpu.lab.traces.comparing import key_of, shape_text
from simgpu.lab.traces.records import Ran, Record, Recorded
from simgpu.units import format_seconds


@dataclass(frozen=True)
class Replayed:
    """The answer. Times in s; `runs` are kernels as recorded and as asked for, in the order of `graph`."""

    recorded: Recorded
    graph: Graph
    factors: Sequence[Factor]
    runs: tuple[Sequence[Ran], Sequence[Ran]]
    p10: float
    p90: float
    keys: Sequence[Any]

    @property
    def measured(self) -> float:
        """The step as recorded."""
        return length(self.runs[0])

    @property
    def predicted(self) -> float:
        """The step as asked for."""
        return length(self.runs[1])

    def idle(self) -> list[dict[str, Any]]:
        """Seconds in which no kernel runs, before and after, by cause."""
        before, after = (gaps(self.graph, runs) for runs in self.runs)
        return [{"cause": cause, "measured_s": _beyond(before[cause], self.measured),
                 "predicted_s": _beyond(after[cause], self.predicted)} for cause in CAUSES]  # fmt: skip

    def words(self) -> list[str]:
        """The largest differences between both, as sentences."""
        rows = [(row["class"], row["predicted_s"] - row["measured_s"]) for row in self.parts()]
        rows += [(f"no kernel, {row['cause']}", row["predicted_s"] - row["measured_s"]) for row in self.idle()]
        return differences(rows, self.measured)

    def parts(self) -> list[dict[str, Any]]:
        """Time by class of operator, before and after."""
        found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])
        for record, factor in zip(self.recorded.records, self.factors, strict=True):
            seconds, row = record.seconds or 0.0, found[factor.part]
            row[0] += 1
            row[1] += seconds
            row[2] += seconds * factor.value
            row[3] += seconds if factor.why else 0.0
        rows = [{"class": part, "count": int(row[0]), "measured_s": row[1], "predicted_s": row[2], "kept_s": row[3]}
                for part, row in found.items()]  # fmt: skip
        return sorted(rows, key=lambda row: -float(str(row["measured_s"])))

    def operators(self) -> list[dict[str, Any]]:
        """Time by operator and shape, before and after; those that took longest first."""
        found: dict[Any, dict[str, Any]] = {}
        for key, record, factor in zip(self.keys, self.recorded.records, self.factors, strict=True):
            if key in found:
                row = found[key]
                row["count"] += 1
                row["measured_s"] += record.seconds or 0.0
                row["predicted_s"] += (record.seconds or 0.0) * factor.value
                continue
            ends = exp(-factor.low) * factor.value, exp(factor.high) * factor.value
            seconds = record.seconds or 0.0
            found[key] = {
                "operator": record.name, "shape": shape_text(record), "class": factor.part, "count": 1,
                "measured_s": seconds, "predicted_s": seconds * factor.value, "factor": factor.value,
                "factor_p10": ends[0], "factor_p90": ends[1], "kept": factor.why,
            }  # fmt: skip
        return sorted(found.values(), key=lambda row: -row["measured_s"])

    def kept(self) -> Mapping[str, tuple[float, str]]:
        """What keeps its time since nothing is known of it: share of the recorded time of kernels, and why."""
        total = sum(record.seconds or 0.0 for record in self.recorded.records)
        found: dict[str, tuple[float, str]] = {}
        for record, factor in zip(self.recorded.records, self.factors, strict=True):
            if factor.why and record.seconds:
                share, why = found.get(record.name, (0.0, factor.why))
                found[record.name] = share + record.seconds / total, why
        return dict(sorted(found.items(), key=lambda one: -one[1][0]))

    def notes(self) -> list[str]:
        """What to know beside the numbers."""
        steps = self.recorded.info.get("steps", 1)
        notes = [*self.recorded.notes, *([f"it holds {steps} steps: times are those of all of them"] * (steps > 1))]
        longest, at = jump(self.runs[0])
        if longest > FAR * sum(record.seconds or 0.0 for record in self.recorded.records):
            said = f"no kernel runs for {format_seconds(longest)} of it, from {format_seconds(at)} on"
            notes.append(f"{said}: a clock that jumps, or steps that lie apart?")
        return notes

    def document(self) -> dict[str, Any]:
        """The answer as data."""
        idle = self.idle()
        return {
            "what": self.recorded.what, "measured_s": self.measured, "predicted_s": self.predicted,
            "predicted_s_p10": self.p10, "predicted_s_p90": self.p90, "ratio": self.predicted / self.measured,
            "idle_measured_s": sum(row["measured_s"] for row in idle),
            "idle_predicted_s": sum(row["predicted_s"] for row in idle), "gaps": idle, "words": self.words(),
            "notes": self.notes(),
            "classes": self.parts(), "operators": self.operators(),
            "kept": [{"operator": name, "share": share, "why": why} for name, (share, why) in self.kept().items()],
        }  # fmt: skip


FAR = 10
"""One gap that is so many times as long as all kernels together is told."""
LARGEST = 3
"""Differences that are put in words."""


def differences(rows: Sequence[tuple[str, float]], step: float) -> list[str]:
    """The largest differences, s, that are no rounding of a step's seconds: 'matmul: 26.4 ms less'."""
    largest = sorted(rows, key=lambda row: -abs(row[1]))[:LARGEST]
    return [f"{part}: {format_seconds(abs(by))} {'more' if by > 0 else 'less'}"
            for part, by in largest if abs(by) > 1e-6 * step]  # fmt: skip


def _beyond(idle: float, step: float) -> float:
    """Idle seconds, none where they are rounding alone."""
    return idle if idle > 1e-9 * step else 0.0


def replay(recorded: Recorded, rescaling: Rescaling) -> Replayed:
    """Play a recorded step with the factors of its records."""
    graph = graph_of(recorded.records, recorded.waits)
    keys = [key_of(record) for record in recorded.records]
    factors = [rescaling.of(record, key) for record, key in zip(recorded.records, keys, strict=True)]
    values = [factor.value for factor in factors]
    runs = graph.play([1.0] * len(values)), graph.play(values)
    step = length(runs[1])
    away = [0.0, 0.0]
    for part, ends in _ends(recorded.records, factors, keys).items():
        for side, end in enumerate(ends):
            if end != 1:
                moved = [v * end if f.part == part and not f.why else v for v, f in zip(values, factors, strict=True)]
                away[side] = hypot(away[side], length(graph.play(moved)) - step)
    return Replayed(recorded, graph, factors, runs, step - away[0], step + away[1], keys)


def _ends(
    records: Sequence[Record], factors: Sequence[Factor], keys: Sequence[Any]
) -> Mapping[str, tuple[float, float]]:
    """By class of operator, the factors from its time to its P10 and P90."""
    totals: dict[str, dict[Any, tuple[float, Factor]]] = defaultdict(dict)
    for record, factor, key in zip(records, factors, keys, strict=True):
        if not factor.why and record.seconds:
            some = totals[factor.part]
            some[key] = some.get(key, (0.0, factor))[0] + record.seconds * factor.value, factor
    return {part: (1 - away(list(some.values()), -1), 1 + away(list(some.values()), 1))
            for part, some in totals.items()}  # fmt: skip


def tracks(done: Replayed) -> Iterator[tuple[int, str, list[tuple[str, Ran, float]]]]:
    """Kernels for a picture: 0 as recorded or 1 as asked for, the stream, and its kernels with their factors."""
    for which, runs in enumerate(done.runs):
        found: dict[str, list[tuple[str, Ran, float]]] = defaultdict(list)
        for node, ran in zip(done.graph.nodes, runs, strict=True):
            record = done.recorded.records[node.record]
            found[ran.stream].append((record.name, ran, done.factors[node.record].value))
        for stream, kernels in found.items():
            yield which, stream, kernels
