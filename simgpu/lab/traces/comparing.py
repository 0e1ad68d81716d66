"""Measured against predicted: the records of a trace by operator and shape, each with the time that we predict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.traces.operations import DAMAGED, dtype_of, operators_of
from simgpu.lab.traces.records import COLLECTIVE, COPY, OPERATOR, Record
from simgpu.model.operators import Kernel
from simgpu.timing.kernels import KernelModel, KernelTime

UNSAID = "no shapes"
"""Why an operator has no prediction: the trace does not say its shapes."""


@dataclass
class Group:
    """Records of one operator, shape and type. `why` says why there is no prediction."""

    record: Record
    dtype: str
    times: list[float] = field(default_factory=list)
    count: int = 0
    why: str = ""
    part: str = ""  # class: matmul, attention, convolution ...
    predicted: float | None = None
    p10: float = 0.0
    p90: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of all runs."""
        return sum(self.times)

    @property
    def measured(self) -> float | None:
        """Seconds of the middle run; None where the trace has no times."""
        return median(self.times) if self.times else None

    def row(self) -> dict[str, Any]:
        """The group as data. Seconds are those of one run, but for `total_s`."""
        ratio = self.predicted / self.measured if self.predicted and self.measured else None
        inside = self.p10 <= self.measured <= self.p90 if self.predicted and self.measured else None
        return {
            "operator": self.record.name, "class": self.part, "shape": shape_text(self.record), "dtype": self.dtype,
            "count": self.count, "total_s": self.total if self.times else None, "measured_s": self.measured,
            "predicted_s": self.predicted, "predicted_s_p10": self.p10 if self.predicted else None,
            "predicted_s_p90": self.p90 if self.predicted else None, "ratio": ratio, "in_interval": inside,
            "why": self.why, "kernel": self.record.kernels[0] if self.record.kernels else "",
        }  # fmt: skip


def grouped(records: Iterable[Record]) -> list[Group]:
    """Records by operator, shapes and type; those that took longest first."""
    found: dict[tuple[Any, ...], Group] = {}
    for record in records:
        key = key_of(record)
        group = found.setdefault(key, Group(record, key[3], part=record.kind if record.kind != OPERATOR else ""))
        group.count += 1
        if record.seconds is not None:
            group.times.append(record.seconds)
    return sorted(found.values(), key=lambda group: -group.total)


def key_of(record: Record) -> tuple[Any, ...]:
    """What records of one operator, shape and type have in common; the type is the fourth."""
    values = str(record.values) if record.kind == OPERATOR else ""
    shape = str(record.shapes) if record.op is None else record.op
    return record.name, record.kind, shape, _dtype(record), values, record.size, record.ranks


def _dtype(record: Record) -> str:
    if record.kind == COLLECTIVE:
        return str(record.types[0]).lower() if record.types else ""
    return dtype_of(record) if record.kind == OPERATOR and record.shapes else ""


def shape_text(record: Record) -> str:
    """The shapes of a record's inputs in a few letters: '2048x512 512x64'."""
    if record.op is not None:
        return f"{record.op.flops:.3g} FLOP, {record.op.bytes:.3g} B"
    if record.kind == COLLECTIVE:
        size = f"{record.size:,.0f} B" if record.size else ""
        return f"{size} over {record.ranks}" if size and record.ranks else size
    texts = []
    for shape in record.shapes:
        several = shape if isinstance(shape, list) and shape and isinstance(shape[0], list) else [shape]
        texts += ["x".join(map(str, one)) for one in several if isinstance(one, list) and one]
    return " ".join(texts[:5]) + (" ..." if len(texts) > 5 else "")


def predict(groups: Sequence[Group], cluster: Cluster, network: bool) -> None:
    """Fill in the predictions of groups; of collectives where `network` says that the cluster is theirs."""
    kernels = KernelModel(cluster)
    for group in groups:
        if group.record.kind == OPERATOR:
            _operator(group, kernels)
        elif group.record.kind == COLLECTIVE:
            _collective(group, cluster, network)
        else:
            group.why = "copies between host and GPU" if group.record.kind == COPY else "no operator is known of it"


def _operator(group: Group, kernels: KernelModel) -> None:
    try:
        operators = operators_of(group.record)
        times = [kernels.time(op) for op in operators]
    except DAMAGED as error:
        group.why = error.problem if isinstance(error, InputError) else "its shapes do not fit together"
        return
    if not times:
        group.why = UNSAID if not group.record.shapes else "not known"
        return
    group.part = part_of(operators)
    group.predicted = sum(time.seconds for time in times)
    group.p10, group.p90 = (sum(ends) for ends in zip(*map(_ends, times), strict=True))


def _ends(time: KernelTime) -> tuple[float, float]:
    return time.seconds * time.uncertainty.low, time.seconds * time.uncertainty.high


def part_of(operators: Sequence[Kernel]) -> str:
    """The class of the operator that does most."""
    return max(operators, key=lambda op: (op.flops if op.kind in _PRODUCTS else 0.0, op.bytes)).kind


def class_of(group: Group) -> str:
    """The class of what a group is of, whether or not it was predicted; 'not known' for an operator that has none."""
    if group.part or group.record.kind != OPERATOR:
        return group.part or group.record.kind
    try:
        operators = operators_of(group.record)
    except DAMAGED:
        return "not known"
    return part_of(operators) if operators else "not known"


_PRODUCTS = ("matmul", "convolution", "attention")


def _collective(group: Group, cluster: Cluster, network: bool) -> None:
    from simgpu.lab.nccl_logs import DTYPES
    from simgpu.lab.nccl_tests import predict as predict_collective

    record = group.record
    if not network:
        group.why = "give its machine with --cluster"
    elif not record.size or record.ranks < 2:
        group.why = "the trace does not say its size and ranks"
    else:
        dtype = group.dtype if group.dtype in DTYPES else "float"
        try:
            row = predict_collective(cluster, record.name, record.ranks, [max(int(record.size), 1)], dtype)[0]
        except InputError as error:
            group.why = error.problem
            return
        group.predicted = row.time_s
        group.p10, group.p90 = row.time_s_p10 or row.time_s, row.time_s_p90 or row.time_s


@dataclass(frozen=True)
class Scores:
    """How good predictions are: shares of the measured time, errors by shape and in sum."""

    share: float  # of the measured time of kernels that has a prediction
    median_error: float
    mean_error: float
    inside: int  # of the shapes, in the interval
    shapes: int
    ratio: float  # predicted over measured time, in sum


def scores(groups: Sequence[Group]) -> Scores | None:
    """The scores of all groups that have both times; None where none has."""
    both = [group for group in groups if group.predicted and group.measured]
    if not both:
        return None
    errors = [abs(group.predicted / group.measured - 1) for group in both if group.predicted and group.measured]
    inside = sum(group.p10 <= (group.measured or 0.0) <= group.p90 for group in both)
    total, known = sum(group.total for group in groups), sum(group.total for group in both)
    predicted = sum((group.predicted or 0.0) * group.count for group in both)
    return Scores(known / total, median(errors), mean(errors), inside, len(both), predicted / known)


def classes(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Measured and predicted time by class of operator, in sum over all runs."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.part or "not predicted", []).append(group)
    rows = []
    for name, some in found.items():
        both = [group for group in some if group.predicted and group.times]
        measured, known = sum(group.total for group in some), sum(group.total for group in both)
        predicted = sum((group.predicted or 0.0) * group.count for group in both)
        ends = [sum(getattr(group, end) * group.count for group in both) for end in ("p10", "p90")]
        rows.append({
            "class": name, "shapes": len(some), "count": sum(group.count for group in some), "measured_s": measured,
            "predicted_of_s": known, "predicted_s": predicted if both else None,
            "predicted_s_p10": ends[0] if both else None, "predicted_s_p90": ends[1] if both else None,
            "ratio": predicted / known if known else None,
        })  # fmt: skip
    return sorted(rows, key=lambda row: -row["measured_s"])


def unpredicted(groups: Sequence[Group]) -> Mapping[str, tuple[int, float, str]]:
    """Operators without prediction: count, measured seconds, why."""
    found: dict[str, tuple[int, float, str]] = {}
    for group in groups:
        if group.predicted is None:
            count, seconds, why = found.get(group.record.name, (0, 0.0, group.why))
            found[group.record.name] = count + group.count, seconds + group.total, why
    return dict(sorted(found.items(), key=lambda one: -one[1][1]))
