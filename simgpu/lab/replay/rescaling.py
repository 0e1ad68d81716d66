"""How many times as long each operator and collective of a recorded step takes elsewhere, and how sure that is.

The factor is predicted (new) over predicted (old), so what a model is off by in both alike cancels. On the same GPU
that is all that kernels of a class have in common; between GPUs nothing is taken to cancel, as the constants of each
were measured apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import hypot, log, sqrt
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.replay.changes import Changes, UnclearError
from simgpu.lab.replay.sureness import Factor
from simgpu.lab.traces.comparing import part_of
from simgpu.lab.traces.operations import DAMAGED, operators_of
from simgpu.lab.traces.records import COLLECTIVE, COPY, OPERATOR, Record
from simgpu.timing.kernels import KernelModel, KernelTime


@dataclass(frozen=True)
class Machine:
    """Where a step was recorded or is asked for; `network`: collectives are those of this machine, too."""

    cluster: Cluster
    network: bool


class Rescaling:
    """Factors of records, from one machine to another."""

    def __init__(self, old: Machine, new: Machine, changes: Changes, records: Iterable[Record] = ()) -> None:
        """`records` are those of the trace, whose tensors say which collectives carry tokens."""
        self.old, self.new, self.changes = old, new, changes
        self._tensors = changes.tensors(records)
        self.same = old.cluster is new.cluster
        self.same_gpu = old.cluster.gpu.name == new.cluster.gpu.name
        self._kernels = KernelModel(old.cluster), KernelModel(new.cluster)
        self._known: dict[Any, Factor] = {}

    def of(self, record: Record, key: Any) -> Factor:
        """The factor of a record; `key` is what all records have in common that are timed alike."""
        if key not in self._known:
            self._known[key] = self._of(record)
        return self._known[key]

    def _of(self, record: Record) -> Factor:
        if record.kind == OPERATOR:
            return self._operator(record)
        if record.kind == COLLECTIVE:
            return self._collective(record)
        kept = self.same and not self.changes.sized
        why = "a copy between host and GPU" if record.kind == COPY else "no operator is known of it"
        return Factor(part=record.kind, why="" if kept else why)

    def _operator(self, record: Record) -> Factor:
        try:
            before, after = operators_of(record), self.changes.operators(record)
            times = [[kernels.time(op) for op in ops] for kernels, ops in
                     zip(self._kernels, (before, after), strict=True)]  # fmt: skip
        except UnclearError as error:
            return Factor(part=OPERATOR, why=str(error))
        except DAMAGED as error:
            why = error.problem if isinstance(error, InputError) else "its shapes do not fit together"
            return Factor(part=OPERATOR, why="" if self._nothing_asked() else why)
        if not times[0] or not times[1]:
            why = "not known" if record.shapes else "no shapes"
            return Factor(part=OPERATOR, why="" if self._nothing_asked() else why)
        return self._ratio(times[0], times[1], before == after and self.same, part_of(before))

    def _nothing_asked(self) -> bool:
        return self.same and not self.changes.sized and not self.changes.dtype

    def _ratio(self, old: Sequence[KernelTime], new: Sequence[KernelTime], equal: bool, part: str) -> Factor:
        if equal:
            return Factor(part=part)
        before, after = _sum(old), _sum(new)
        left = sqrt(max(1 - min(before.common, after.common), 0.0)) if self.same_gpu else 1.0
        low, high = left * hypot(after.low, before.high), left * hypot(after.high, before.low)
        common = 0.0 if self.same_gpu else after.common
        return Factor(after.value / before.value, low, high, common, part)

    def _collective(self, record: Record) -> Factor:
        was, asked = self.changes.ranks
        ranks = asked if was > 1 and record.ranks == was else record.ranks
        try:
            size = self.changes.payload(record, self._tensors)
        except UnclearError as error:
            return Factor(part=COLLECTIVE, why=str(error))
        if self.same and (size, ranks) == (record.size, record.ranks):
            return Factor(part=COLLECTIVE)
        if not (self.old.network and self.new.network):
            return Factor(part=COLLECTIVE, why="its machines are not named: --cluster and --to-cluster")
        if not record.size or record.ranks < 2 or ranks < 2:
            return Factor(part=COLLECTIVE, why="the trace does not say its size and ranks")
        try:
            before = _on(self.old.cluster, record, record.ranks)
            after = _on(self.new.cluster, replace(record, size=size), ranks)
        except InputError as error:
            return Factor(part=COLLECTIVE, why=error.problem)
        return self._ratio([before], [after], False, COLLECTIVE)


def _on(cluster: Cluster, record: Record, ranks: int) -> KernelTime:
    """A collective on a machine, as the time of a kernel."""
    from simgpu.lab.nccl_logs import DTYPES
    from simgpu.timing.collectives import collective_time

    dtype = DTYPES.get(str(record.types[0]).lower() if record.types else "", "fp32")
    seconds = float(collective_time(cluster, record.name, ranks, [max(int(record.size), 1)], dtype).seconds[0])
    sure = KernelModel(cluster).collective_uncertainty(record.name, seconds, nodes=ranks > cluster.gpus_per_node)
    return KernelTime(seconds, 0.0, 0.0, 0.0, "network", sure)


def _sum(times: Sequence[KernelTime]) -> Factor:
    """Times one after another, as one with its ends."""
    total = sum(time.seconds for time in times)
    low = sum(time.seconds * time.uncertainty.low for time in times)
    high = sum(time.seconds * time.uncertainty.high for time in times)
    common = sum(time.seconds * time.uncertainty.correlated for time in times)
    return Factor(total, -log(low / total), log(high / total), common / total)
