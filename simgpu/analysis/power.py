"""What a GPU draws during a run: energy of its kernels, of collectives that nothing hides, and of waiting.

    energy of a rank = sum of (level of an activity x its seconds) over what its compute stream does
                       + collectives while no kernel runs + waiting level x the rest of the run

The levels are those of `simgpu.timing.levels`. The mean over ranks stands for every GPU.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, fsum, log, sqrt
from typing import Any, NamedTuple

from simgpu.engine.timeline import length, outside, union
from simgpu.hardware.cluster import Cluster
from simgpu.timing.levels import Levels, levels_of
from simgpu.workload.blocks import Block
from simgpu.workload.execution import Activity, Execution, PeriodicExecution
from simgpu.workload.inference.timeline import SEQUENCES


class Energy(NamedTuple):
    """Energy of one GPU during a run of `seconds`, by what it went into, J."""

    kernels: float
    collectives: float
    waiting: float
    seconds: float

    @property
    def joules(self) -> float:
        """All of it, J."""
        return self.kernels + self.collectives + self.waiting

    @property
    def watts(self) -> float:
        """Mean power, W; 0 for a run without time."""
        return self.joules / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Board:
    """Levels of a GPU, and what activities of a run draw by them."""

    levels: Levels
    _blocks: dict[int, tuple[Block, Energy]] = field(default_factory=dict, repr=False, compare=False)
    """Energy of blocks by identity: many activities share theirs."""

    @classmethod
    def of(cls, cluster: Cluster) -> Board:
        """The board of a cluster."""
        return cls(levels_of(cluster.gpu, cluster.kernel))

    def watts(self, activity: Activity, seconds: float) -> float:
        """W while a kernel, a collective that nothing hides, or the host's work runs, of `seconds` each time."""
        levels = self.levels
        if activity.category != "compute":
            return levels.collective(seconds, activity.bytes)
        if activity.kind == "host":
            return levels.kernel("vector", 0.0, 0.0, 0.0) if activity.name == SEQUENCES else levels.waiting
        time = activity.time
        taken = time.seconds if time is not None and time.seconds else seconds
        peak_s = activity.flops / time.peak if time is not None and time.peak else 0.0
        group = activity.uncertainty.group
        return levels.kernel("gemm" if group == "given" and peak_s else group, taken, peak_s, activity.bytes)

    def block(self, block: Block) -> Energy:
        """Energy of one run of a block: its kernels, its exposed collectives, and the gaps between them."""
        known = self._blocks.get(id(block))
        if known is None:
            known = self._blocks[id(block)] = block, self._energy(block)
        return known[1]

    def _energy(self, block: Block) -> Energy:
        kernels = collectives = busy = 0.0
        for part in block.parts:
            watts = self.watts(part.activity, part.seconds / part.runs if part.runs else 0.0)
            busy += part.exposed
            if part.activity.category == "compute":
                kernels += watts * part.seconds
            else:
                collectives += watts * part.exposed
        return Energy(kernels, collectives, self.levels.waiting * max(block.seconds - busy, 0.0), block.seconds)

    def activity(self, label: Activity, blocks: Iterable[tuple[Block, int]], seconds: float) -> Energy:
        """Energy of `seconds` of an activity that is a kernel, or stands for blocks."""
        made = [(self.block(block), times) for block, times in blocks]
        planned = sum(one.seconds * times for one, times in made)
        if not planned:
            watts = self.watts(label, seconds)
            idle = label.kind == "host" and label.name != SEQUENCES
            return Energy(0.0, 0.0, watts * seconds, seconds) if idle else Energy(watts * seconds, 0.0, 0.0, seconds)
        scale = seconds / planned
        kernels, collectives, waiting = (scale * sum(one[i] * times for one, times in made) for i in range(3))
        return Energy(kernels, collectives, waiting, seconds)


def energy_of(execution: Execution, board: Board) -> Energy:
    """Mean energy of a GPU of a run; of its parts, so that they add up."""
    if isinstance(execution, PeriodicExecution):
        few, more = energy_of(execution.few, board), energy_of(execution.more, board)
        return Energy(*(execution.grown(a, b) for a, b in zip(few, more, strict=True)))
    known: dict[int, Energy] = {}
    alike: dict[Hashable, Energy] = {}  # of ranks that do the same at the same time
    ranks = []
    for rank in range(len(execution.streams)):
        key = _doing(execution, rank)
        if key not in alike:
            alike[key] = _rank(execution, rank, board, known)
        ranks.append(alike[key])
    return Energy(*(_mean([one[i] for one in ranks]) for i in range(4)))


def _doing(execution: Execution, rank: int) -> Hashable:
    """All that the energy of a rank depends on: what its streams do, and when."""
    timeline, streams = execution.timeline, execution.streams[rank]
    numbers = timeline.of(streams["compute"])
    kernels = [(id(timeline.labels[i]), timeline.start[i], timeline.end[i]) for i in numbers]
    others = {i for name, stream in streams.items() if name != "compute" for i in timeline.of(stream)}
    return tuple(kernels), tuple([(id(timeline.labels[i]), timeline.start[i], timeline.end[i]) for i in sorted(others)])


def _mean(values: Sequence[float]) -> float:
    """The mean, which of equal values is that value."""
    return values[0] + fsum(value - values[0] for value in values) / len(values)


def _rank(execution: Execution, rank: int, board: Board, known: dict[int, Energy]) -> Energy:
    """Energy of one rank. `known` are a second of each activity's label by identity, which ranks share."""
    timeline, streams = execution.timeline, execution.streams[rank]
    spans = [(timeline.start[i], timeline.end[i]) for i in timeline.of(streams["compute"])]
    sums: dict[int, tuple[Activity, list[float]]] = {}
    for number, (start, end) in zip(timeline.of(streams["compute"]), spans, strict=True):
        label = timeline.labels[number]
        assert isinstance(label, Activity)
        sums.setdefault(id(label), (label, []))[1].append(end - start)
    kernels = collectives = waiting = 0.0
    for name, (label, seconds) in sums.items():
        total = fsum(seconds)
        if name not in known:
            each = total / len(seconds)
            made = board.activity(label, execution.blocks.get(label, ()), each)
            known[name] = Energy(*(part / each if each else 0.0 for part in made))
        one = known[name]
        kernels += one.kernels * total
        collectives += one.collectives * total
        waiting += one.waiting * total
    busy = union(spans)
    bare, watts = _outer(execution, rank, busy, board)
    collectives += watts
    waiting += board.levels.waiting * max(execution.step - length(busy) - bare, 0.0)
    return Energy(kernels, collectives, waiting, execution.step)


def _outer(execution: Execution, rank: int, busy: Sequence[tuple[float, float]], board: Board) -> tuple[float, float]:
    """(seconds, J) of a rank's collectives while its compute stream does nothing.

    Of several at a time, each has its part of the energy.
    """
    timeline, streams = execution.timeline, execution.streams[rank]
    spans, joules, alone = [], 0.0, 0.0
    for number in sorted({i for name, stream in streams.items() if name != "compute" for i in timeline.of(stream)}):
        start, end = timeline.start[number], timeline.end[number]
        if end <= start:
            continue
        label = timeline.labels[number]
        assert isinstance(label, Activity)
        bare = outside([(start, end)], busy)
        if bare <= 0:
            continue
        spans.append((start, end))
        alone += bare
        joules += bare * board.watts(label, end - start)
    together = outside(union(spans), busy)
    return together, joules * together / alone if alone else 0.0


# ---- columns -----------------------------------------------------------------------------------------

SPREAD = {"calibrated": (0.85, 1.15), "inherited": (0.8, 1.2), "datasheet": (0.75, 1.25)}
"""Factors from a power to its P10 and P90, by where the levels come from."""


def server_watts(running: float, prompts: float, waiting: float, share: float, busy: float = 1.0) -> float:
    """Mean W of a server's GPU: `running` decodes, a `share` of that time on prompts; and waiting when not `busy`."""
    return busy * ((1 - share) * running + share * prompts) + (1 - busy) * waiting


def power_columns(row: Mapping[str, Any], watts: float, board: Board) -> dict[str, Any]:
    """Columns of power and of energy, all GPUs together, with P10 and P90, from the mean W of a GPU.

    Energy is power x time; what is known of both is independent, so that squares of logarithms add.
    """
    spread = SPREAD[board.levels.regime]
    low, high = (max(watts * spread[0], board.levels.idle), min(watts * spread[1], board.levels.limit))
    found: dict[str, Any] = {
        "power_w_per_gpu": watts,
        "power_w_per_gpu_p10": min(low, watts),
        "power_w_per_gpu_p90": max(high, watts),
        "power_regime": board.levels.regime,
    }
    for column, (seconds, time) in _per(row).items():
        found[column] = joules = watts * row["gpus"] * seconds
        for end, factor in (("p10", spread[0]), ("p90", spread[1])):
            of = row.get(f"{time}_{end}")
            of_time = log(of / row[time]) if of and row[time] else 0.0
            width = sqrt(of_time**2 + log(factor) ** 2)
            found[f"{column}_{end}"] = joules * exp(width if end == "p90" else -width)
    if found.get("energy_j_per_token"):
        for end, of in (("", ""), ("_p10", "_p90"), ("_p90", "_p10")):
            found[f"tokens_per_j{end}"] = 1 / found[f"energy_j_per_token{of}"]
    return found


def _per(row: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """What energy is told for: the GPUs' seconds for one of it, and the column of time that they are as unsure as."""
    if row["workload"] in ("serving", "traffic"):
        found = {}
        if row["output_tokens_per_s"]:
            found["energy_j_per_token"] = (1 / row["output_tokens_per_s"], "tpot_s")
        if row["requests_per_s"]:
            found["energy_j_per_request"] = (1 / row["requests_per_s"], "step_s")
        return found
    step = row["step_s"]
    found = {"energy_j_per_step": (step, "step_s")}
    if row["workload"] == "inference":
        found["energy_j_per_token"] = (step / row["batch"] / row["output"], "step_s")
        found["energy_j_per_request"] = (step / row["batch"], "step_s")
    elif rate := row.get("tokens_per_s") or row.get("total_tokens_per_s"):
        found["energy_j_per_token"] = (1 / rate, "step_s")
    if rate := row.get("items_per_s"):
        found["energy_j_per_item"] = (1 / rate, "step_s")
    if rate := row.get("images_per_s"):
        found["energy_j_per_image"] = (1 / rate, "step_s")
    return found
