"""What a recorded step says of the kernels and collectives that its experiment predicts: measured over predicted.

Operators are told by their names in traces of simgpu, else by their sizes: a product by what it sums over and the other
two, attention by its pass, what streams by its class. Collectives by kind, ranks and size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any

from simgpu.analysis.uncertainty import Part, parts_of
from simgpu.errors import InputError
from simgpu.lab.replay.own import read_own
from simgpu.lab.traces.operations import DAMAGED, operators_of
from simgpu.lab.traces.records import COLLECTIVE, COPY, OPERATOR, Record, Recorded
from simgpu.model.operators import Attention, ExpertLayer, GroupedMatmul, Indexer, Kernel, Matmul, Scan
from simgpu.plan.parallelism import Plan
from simgpu.render.trace import trace_events
from simgpu.workload.execution import Activity, Execution, PeriodicExecution

KERNEL, GROUP = "kernel", "collective"
SAME_WORK = 1.6
"""FLOPs of a recorded step over those of its experiment, or the inverse, beyond which it is of another model, as for
logs (`simgpu.lab.logs.comparing`)."""
LEAST, MOST = 0.05, 20.0
"""Factors beyond which what was matched cannot be the same thing, as for overlays (`simgpu.overlay.Factor`)."""
WAITING = ("pp", "offload")
"""Groups whose kernels wait for another stage or the host, so that their time says nothing of the link."""


@dataclass(frozen=True)
class Stage:
    """A pipeline stage of a simulated step: one of its ranks and what that runs."""

    number: int
    rank: int
    parts: Sequence[Part]

    @property
    def flops(self) -> float:
        """FLOPs of its kernels in a step."""
        return sum(part.activity.flops * part.runs for part in self.parts if part.activity.op is not None)

    def outside(self, execution: Execution) -> float:
        """Seconds of the step before its first kernel and after its last."""
        streams = execution.streams[min(self.rank, len(execution.streams) - 1)]
        spans = [span for span in execution.timeline.spans(list(streams.values())) if _on_gpu(span.label)]
        ends = max((span.start + span.duration for span in spans), default=0.0)
        return execution.step - ends + min((span.start for span in spans), default=0.0)


def _on_gpu(activity: object) -> bool:
    return isinstance(activity, Activity) and activity.kind != "host"


def stages_of(execution: Execution) -> list[Stage]:
    """The stages of a step: the first of the ranks that run the same."""
    known = execution.few if isinstance(execution, PeriodicExecution) else execution
    first: dict[frozenset[Any], int] = {}
    for rank, streams in enumerate(known.streams):
        labels = frozenset(known.timeline.labels[i] for i in known.timeline.of(streams["compute"]))
        first.setdefault(labels, rank)
    return [Stage(i, rank, parts_of(execution, rank)) for i, rank in enumerate(first.values(), 1)]


@dataclass
class Seen:
    """Measured over predicted by (kernel or collective, name), and the recorded seconds of a step that are matched.

    `kept` are the others, by name: seconds of a step, and why. `stage` is the one that a framework's trace is of.
    """

    factors: dict[tuple[str, str], float] = field(default_factory=dict)
    matched: float = 0.0
    kept: dict[str, tuple[float, str]] = field(default_factory=dict)
    stage: Stage | None = None

    def keep(self, record: Record, seconds: float, why: str) -> None:
        """Note a record that nothing of the experiment stands for."""
        known, _ = self.kept.get(record.name, (0.0, why))
        self.kept[record.name] = known + seconds, why

    def put(self, part: str, name: str, measured: float, predicted: float) -> bool:
        """Note a factor; false where it cannot be one."""
        value = measured / predicted if predicted > 0 else 0.0
        if LEAST <= value <= MOST:
            self.factors[part, name] = 1.0 if abs(value - 1) < ROUNDING else value
        return LEAST <= value <= MOST


ROUNDING = 1e-6
"""Differences of times that are those of the digits of a trace, relative."""


def seen_in_own(recorded: Recorded, execution: Execution, parts: Sequence[Part], file: Path) -> Seen:
    """What a trace of simgpu says: the same trace of the experiment lies beside it. Raises `InputError`."""
    predicted = read_own({"traceEvents": trace_events(execution)}, file)
    seconds, sums = zip(*(_by_name(one.records) for one in (recorded, predicted)), strict=True)
    if not sums[0]:
        raise InputError("shows no kernels inside its passes, so that nothing tells what they are", file=file)
    for what in ("FLOPs", "bytes"):
        mine, own = (sum(getattr(op, what.lower()) for op in ops) for ops in sums)
        same_work(mine, own, file, what)
    groups = {part.activity.name: part.activity.group for part in parts if part.activity.group}
    found = Seen()
    moved: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (kind, name), measured in seconds[0].items():
        expected = seconds[1].get((kind, name), 0.0)
        if kind == COLLECTIVE and name in groups and expected:
            moved[groups[name]][0] += measured
            moved[groups[name]][1] += expected
        elif kind == OPERATOR and expected and found.put(KERNEL, name, measured, expected):
            found.matched += measured
    for group, (measured, expected) in moved.items():
        if group not in WAITING and found.put(GROUP, group, measured, expected):
            found.matched += measured
    _by_class(found, parts)
    return found


def _by_name(records: Iterable[Record]) -> tuple[dict[tuple[str, str], float], list[Kernel]]:
    """Mean seconds of one run by kind and name, and the operators."""
    runs: dict[tuple[str, str], list[float]] = defaultdict(list)
    operators = []
    for record in records:
        if record.op is not None:
            operators.append(record.op)
            runs[OPERATOR, record.op.name].append(record.seconds or 0.0)
        elif record.kind == COLLECTIVE and record.kernels:
            runs[COLLECTIVE, record.kernels[0]].append(record.seconds or 0.0)
    return {key: sum(times) / len(times) for key, times in runs.items()}, operators


def same_work(measured: float, predicted: float, file: Path, what: str = "FLOPs") -> None:
    """Raise `InputError` for a trace of another model."""
    ratio = measured / predicted if predicted else 0.0
    if not 1 / SAME_WORK < ratio < SAME_WORK:
        said = f"a recorded step has {ratio:.3g} times the {what} of the experiment's on that rank"
        raise InputError(f"{said}; expected a trace of the same model, batch, tokens and plan", file=file)


def _by_class(found: Seen, parts: Sequence[Part]) -> None:
    """Factors of whole classes, for operators that another plan has and this one has not."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for part in parts:
        factor = found.factors.get((KERNEL, part.activity.name))
        if part.activity.op is not None and factor is not None:
            sums[part.uncertainty.group][0] += part.seconds * factor
            sums[part.uncertainty.group][1] += part.seconds
    for group, (measured, expected) in sums.items():
        found.put(KERNEL, group, measured, expected)


# ---- traces of frameworks --------------------------------------------------------------------------------


def seen_in_trace(recorded: Recorded, stages: Sequence[Stage], plan: Plan, steps: float, file: Path) -> Seen:
    """What the trace of a framework says of a step, of which it holds `steps`. Raises `InputError`.

    It is of the pipeline stage whose FLOPs come nearest to its own.
    """
    done = sum(op.flops for record in recorded.records for op in _operators(record)[0]) / steps
    stage = min(stages, key=lambda one: abs(log(max(one.flops, 1.0) / max(done, 1.0))))
    if done:
        same_work(done, stage.flops, file)
    found, parts = Seen(stage=stage), stage.parts
    kernels = [part for part in parts if part.activity.op is not None and part.runs]
    expected: dict[Any, list[Part]] = defaultdict(list)
    for part in kernels:
        expected[_key(part.activity.op)].append(part)
    measured: dict[Any, list[float]] = defaultdict(list)
    for record in recorded.records:
        seconds = (record.seconds or 0.0) / steps
        if record.kind == COLLECTIVE:
            continue
        operators, why = _operators(record)
        keys = {_key(op) for op in operators}
        if len(keys) == 1 and (key := keys.pop()) in expected:
            measured[key].append(seconds)
            found.matched += seconds
        else:
            found.keep(record, seconds, why or "the experiment predicts no operator of these sizes")
    for key, times in measured.items():
        some = expected[key]
        total, runs = sum(part.seconds for part in some), sum(part.runs for part in some)
        by_run = isinstance(key, tuple)  # of one size: what one run takes; of a class: what the step takes
        ratio = (sum(times) * steps / len(times), total / runs) if by_run else (sum(times), total)
        for part in some:
            found.put(KERNEL, part.activity.name, *ratio)
    _by_class(found, parts)
    _collectives(found, recorded.records, parts, plan, steps)
    return found


def _operators(record: Record) -> tuple[list[Kernel], str]:
    """What a record is timed as, or why it is not."""
    if record.kind != OPERATOR:
        return [], "a copy between host and GPU" if record.kind == COPY else "no operator is known of it"
    try:
        operators = operators_of(record)
    except DAMAGED:
        return [], "its shapes do not fit together"
    return operators, "" if operators else "not known" if record.shapes else "no shapes"


def _key(op: Kernel) -> Any:
    """What tells operators apart: sizes of a product, the pass of attention, else a class."""
    match op:
        case Matmul():
            return op.k.size, frozenset((op.m.size, op.n_size)), op.products
        case Attention():
            return "attention backward" if op.passes > 1 else "attention"
        case GroupedMatmul() | ExpertLayer():
            return "experts"
        case Scan() | Indexer():
            return "scan"
        case _:
            return "streams"


def _collectives(found: Seen, records: Iterable[Record], parts: Sequence[Part], plan: Plan, steps: float) -> None:
    """Factors of groups by seconds a byte: buckets may be cut otherwise than they are predicted."""
    groups: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        if part.activity.group and part.activity.group not in WAITING and part.runs:
            groups[part.activity.group].append(part)
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record in records:
        if record.kind != COLLECTIVE:
            continue
        group = _group(record, groups, plan)
        if group and record.size:
            sums[group][0] += (record.seconds or 0.0) / steps
            sums[group][1] += record.size / steps
            continue
        waits = record.name == "send_recv"
        why = "it waits for another stage" if waits else "the trace does not say its size and ranks"
        found.keep(
            record, (record.seconds or 0.0) / steps, why if waits or not record.size else "not in the experiment"
        )
    for group, (seconds, size) in sums.items():
        some = groups[group]
        total, moved = (
            sum(values) for values in zip(*((p.seconds, p.activity.bytes * p.runs) for p in some), strict=True)
        )
        if moved and found.put(GROUP, group, seconds / size, total / moved):
            found.matched += seconds


def _group(record: Record, groups: Mapping[str, Sequence[Part]], plan: Plan) -> str:
    """The group of a recorded collective: of its kind and ranks, the one with a call nearest in size; '' for none."""
    fits = [
        (abs(log(part.activity.bytes / record.size)), name)
        for name, some in groups.items()
        for part in some
        if part.activity.kind == record.name and part.activity.bytes and record.size
        and record.ranks in (0, _ranks(plan, name))
    ]  # fmt: skip
    return min(fits, default=(0.0, ""))[1]


def _ranks(plan: Plan, group: str) -> int:
    return len(plan.group(group, 0)) if group != "embedding" else min(plan.pp, 2)
