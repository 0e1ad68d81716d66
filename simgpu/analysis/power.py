"""What a GPU draws during a run: energy of its kernels, of collectives that nothing hides, and of waiting.

    energy of a rank = sum of (level of an activity x its seconds) over what its compute stream does
                       + collectives while no kernel runs + waiting level x the rest of the run

The levels are those of `simgpu.timing.levels`. The mean over ranks stands for every GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, fsum, log, sqrt
from typing import Any, NamedTuple

import numpy as np

from simgpu.hardware.cluster import Cluster
from simgpu.memo import content
from simgpu.timing.levels import Levels, levels_of
from simgpu.timing.parts import Array
from simgpu.workload.blocks import Block
from simgpu.workload.execution import SEQUENCES, Activity, Execution, PeriodicExecution


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


class _Sums(NamedTuple):
    """What adds up over the run of a rank, so that it grows with every period: J and s."""

    kernels: float  # J
    collectives: float  # J on the compute stream
    waiting: float  # J on the compute stream
    joules: float  # of collectives while no kernel runs, as if each was alone
    alone: float  # s of these, one by one
    together: float  # s that these cover
    rest: float  # s of nothing
    seconds: float

    def energy(self, waiting: float) -> Energy:
        """Energy of the rank, `waiting` W while nothing runs; collectives at the same time share it."""
        outer = self.joules * self.together / self.alone if self.alone else 0.0
        return Energy(self.kernels, self.collectives + outer, self.waiting + waiting * self.rest, self.seconds)


def energy_of(execution: Execution, board: Board) -> Energy:
    """Mean energy of a GPU of a run; of its parts, so that they add up."""
    ranks = [sums.energy(board.levels.waiting) for sums in _sums_of(execution, board)]
    return Energy(*(_mean([one[i] for one in ranks]) for i in range(4)))


def _sums_of(execution: Execution, board: Board) -> list[_Sums]:
    """Sums of each simulated rank."""
    if isinstance(execution, PeriodicExecution):
        few, more = _sums_of(execution.few, board), _sums_of(execution.more, board)
        return [
            _Sums(*(execution.grown(a, b) for a, b in zip(one, other, strict=True)))
            for one, other in zip(few, more, strict=True)
        ]

    def run() -> list[_Sums]:
        of = _Run(execution, board)
        return [of.rank(rank) for rank in range(len(execution.streams))]

    return execution.remembered(("energy", content(board.levels)), run)


def _mean(values: Sequence[float]) -> float:
    """The mean, which of equal values is that value."""
    return values[0] + fsum(value - values[0] for value in values) / len(values)


NOTHING = 1e-12
"""Share of a run below which bare time is what rounding leaves of none."""


class _Run:
    """Energy of the ranks of one run; what many of their activities share is worked out once."""

    def __init__(self, execution: Execution, board: Board) -> None:
        self.execution, self.board = execution, board
        self.start, self.end = (np.asarray(times) for times in (execution.timeline.start, execution.timeline.end))
        self.step = execution.step
        self._alike: dict[int, int] = {}
        self._rates: dict[int, tuple[Any, Energy]] = {}

    def rank(self, rank: int) -> _Sums:
        """Sums of one rank."""
        execution = self.execution
        timeline, streams = execution.timeline, execution.streams[rank]
        numbers = timeline.of(streams["compute"])
        start, end = self.start[numbers], self.end[numbers]
        groups: dict[int, tuple[Activity, list[float]]] = {}
        labels, alike = timeline.labels, self._alike
        for number, seconds in zip(numbers, (end - start).tolist(), strict=True):
            label = labels[number]
            key = alike.get(id(label)) or self._key(label)
            if key not in groups:
                assert isinstance(label, Activity)
                groups[key] = label, []
            groups[key][1].append(seconds)
        kernels = collectives = waiting = 0.0
        for key, (label, times) in groups.items():
            total = fsum(times)
            one = self._rate(key, label, total / len(times))
            kernels += one.kernels * total
            collectives += one.collectives * total
            waiting += one.waiting * total
        order = np.argsort(start, kind="stable")
        together, alone, joules = self._outer(rank, start[order], end[order])
        rest = max(self.step - float((end - start).sum()) - together, 0.0)
        return _Sums(kernels, collectives, waiting, joules, alone, together, rest, self.step)

    def _key(self, label: object) -> int:
        """What activities of the same power share: the blocks that they stand for, or the label itself."""
        assert isinstance(label, Activity)
        blocks = self.execution.blocks.get(label)
        key = self._alike[id(label)] = id(blocks) if blocks else id(label)
        return key

    def _rate(self, key: int, label: Activity, each: float) -> Energy:
        """Energy of a second of a group of activities, which take `each` s on average."""
        known = self._rates.get(key)
        if known is None:
            blocks = self.execution.blocks.get(label, ())
            made = self.board.activity(label, blocks, each)
            known = self._rates[key] = blocks or label, Energy(*(part / each if each else 0.0 for part in made))
        return known[1]

    def _outer(self, rank: int, start: Array, end: Array) -> tuple[float, float, float]:
        """A rank's collectives while its compute stream, busy from `start` to `end`, does nothing.

        The seconds that they cover, their seconds one by one, and their energy if each was alone, J.
        """
        timeline, streams = self.execution.timeline, self.execution.streams[rank]
        numbers = sorted({i for name, stream in streams.items() if name != "compute" for i in timeline.of(stream)})
        if not numbers:
            return 0.0, 0.0, 0.0
        first, last = self.start[numbers], self.end[numbers]
        bare = last - first
        if len(start):
            knots = np.ravel(np.column_stack([start, end]))
            done = np.cumsum(end - start)
            covered = np.ravel(np.column_stack([done - (end - start), done]))
            bare = bare - (np.interp(last, knots, covered) - np.interp(first, knots, covered))
        some = np.flatnonzero(bare > NOTHING * self.step)
        if not len(some):
            return 0.0, 0.0, 0.0
        watts: dict[tuple[int, float], float] = {}
        joules = 0.0
        for n, alone, seconds in zip(some.tolist(), bare[some].tolist(), (last - first)[some].tolist(), strict=True):
            label = timeline.labels[numbers[n]]
            key = id(label), seconds
            level = watts.get(key)
            if level is None:
                assert isinstance(label, Activity)
                level = watts[key] = self.board.watts(label, seconds)
            joules += alone * level
        together = _length(np.append(first[some], start), np.append(last[some], end)) - float((end - start).sum())
        return together, float(bare[some].sum()), joules


def _length(start: Array, end: Array) -> float:
    """The length of what intervals cover together."""
    order = np.argsort(start)
    start, end = start[order], np.maximum.accumulate(end[order])
    before = np.append(start[0], end[:-1])
    return float(np.maximum(end - np.maximum(start, before), 0.0).sum())


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
    if row["workload"] == "shared":
        return {"energy_j_per_request": (1 / row["requests_per_s"], "step_s")} if row["requests_per_s"] else {}
    step = row["step_s"]
    found = {"energy_j_per_step": (step, "step_s")}
    if row["workload"] == "inference":
        found["energy_j_per_token"] = (step / row["batch"] / row["output"], "step_s")
        found["energy_j_per_request"] = (step / row["batch"], "step_s")
    elif rate := row.get("tokens_per_s") or row.get("total_tokens_per_s"):
        found["energy_j_per_token"] = (1 / rate, "step_s")
    if rate := row.get("items_per_s"):
        found["energy_j_per_item"] = (1 / rate, "step_s")
    if rate := row.get("streams"):
        found["power_w_per_stream"] = (1 / rate, "step_s")
    if rate := row.get("images_per_s"):
        found["energy_j_per_image"] = (1 / rate, "step_s")
    return found
