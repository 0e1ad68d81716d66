"""The streams of the ranks of a step: delays, transfers and collectives put on them, each with its label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from simgpu.engine import Simulator
from simgpu.workload.execution import Activity
from simgpu.workload.links import Links, Transfer

Ids = Mapping[int, int]
"""An activity of each simulated rank of a stage."""

STREAMS = ("compute", "grad", "replica", "send", "receive", "send back", "receive back", "to host", "from host")


class Streams:
    """The streams of every simulated rank; `of` has their numbers, by rank and name."""

    def __init__(self, sim: Simulator, links: Links, stages: int) -> None:
        self.sim, self.links = sim, links
        self.ranks = [links.ranks(s) for s in range(stages)]
        self.of = {r: {} for ranks in self.ranks for r in ranks}  # type: dict[int, dict[str, int]]
        for r, streams in self.of.items():
            for name in STREAMS:
                streams[name] = sim.add_stream(f"rank {r}/{name}")
        self.joint = sim.add_stream("all ranks")
        self._labels: dict[tuple[int, str], Activity] = {}
        self._kept: list[Transfer] = []  # those that have labels, by their identity

    def delay(self, stage: int, seconds: float, label: Activity, after: Iterable[Ids]) -> Ids:
        """Put so many seconds of compute on every rank of a stage."""
        waits = list(after)
        if len(self.ranks[stage]) == 1:  # most often
            (r,) = self.ranks[stage]
            wanted = [ids[r] for ids in waits if r in ids]
            seconds *= self.links.afflicted.slowness(r, stage, self.links.each)
            return {r: self.sim.delay(self.of[r]["compute"], seconds, wanted, label)}
        slow, each = self.links.afflicted.slowness, self.links.each
        return {
            r: self.sim.delay(
                self.of[r]["compute"], seconds * slow(r, stage, each), [i[r] for i in waits if r in i], label
            )
            for r in self.ranks[stage]
        }

    def transfer(
        self, stage: int, stream: str, name: str, group: str, kind: str, size: float, after: Sequence[Ids]
    ) -> list[Ids]:
        """A collective of all groups of a stage; nothing where they are single ranks."""
        done: dict[int, int] = {}
        for transfer in self.links.collective(kind, group, stage, size):
            waits = dict.fromkeys(ids[r] for ids in after for r in transfer.ranks)
            streams = [self.of[r][stream] for r in transfer.ranks]
            number = self.submit(transfer, streams, name, group, kind, size, waits, transfer.ranks)
            done.update(dict.fromkeys(transfer.ranks, number))
        return [done] if done else []

    def submit(
        self, transfer: Transfer, streams: Sequence[int], name: str, group: str, kind: str, size: float,
        after: Iterable[int], drags: Sequence[int],
    ) -> int:  # fmt: skip
        """Put a transfer on streams of several ranks; compute of the ranks `drags` is slowed while it lasts."""
        call = transfer.call
        label = self._labels.get((id(transfer), name))
        if label is None:
            label = self._labels[id(transfer), name] = Activity(
                name, "communication", kind, group, 0.0, size, "network", call.uncertainty, None, call.sol_s,
                call.chosen, group=group,
            )  # fmt: skip
            self._kept.append(transfer)
        drag = {self.of[r]["compute"]: call.drag for r in drags} if call.drag else None
        return self.sim.transfer(streams, transfer.phases, after, label, drag)

    def computed(self, stage: int) -> list[Ids]:
        """The activity that each rank of a stage computes last so far."""
        found = {r: n for r in self.ranks[stage] if (n := self.sim.last_in(self.of[r]["compute"])) is not None}
        return [found] if found else []

    def last(self, rank: int) -> int | None:
        """The activity that a rank computes last so far."""
        return self.sim.last_in(self.of[rank]["compute"])
