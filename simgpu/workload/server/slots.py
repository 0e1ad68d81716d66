"""Slots of adapters on the GPUs of a replica, what the host's memory holds of the others, and loads from there.

A step has requests of so many different adapters as there are slots at most; one that names another waits, and those
behind it go first if theirs is at hand (vLLM, v1/core/sched/scheduler.py: `scheduled_loras`). An adapter that is not on
the GPUs is copied into the slot that nobody has used for longest, from the host's memory, or read from disks before;
the engine waits for it with its next step (vLLM, lora/worker_manager.py: `set_active_adapters` before the model runs).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class Loading:
    """How adapters come to the GPUs: slots, adapters that the host's memory holds, and seconds of each way.

    `host_s` is from the host's memory to all GPUs of a replica, `disk_s` from disks into that memory.
    """

    slots: int
    host: int
    host_s: float
    disk_s: float = 0.0


class Slots:
    """The slots of a replica: the adapters in them, the longest unused first, and how many requests run with each."""

    def __init__(self, rules: Loading) -> None:
        self.rules = rules
        self.there: OrderedDict[int, None] = OrderedDict()
        self.host: OrderedDict[int, None] = OrderedDict((one, None) for one in range(rules.host))
        self.active: Counter[int] = Counter()

    @property
    def distinct(self) -> int:
        """Different adapters of the requests that run."""
        return len(self.active)

    def has_room(self, adapter: int) -> bool:
        """True if a request of an adapter can join those that run."""
        return adapter in self.active or len(self.active) < self.rules.slots

    def join(self, adapter: int) -> float:
        """A request of an adapter joins: seconds until that is there, 0 where it is."""
        self.active[adapter] += 1
        seconds = 0.0
        if adapter not in self.there:
            seconds = self.rules.host_s
            if adapter not in self.host:
                seconds += self.rules.disk_s
                self.host.popitem(last=False)
            if len(self.there) >= self.rules.slots:
                del self.there[next(one for one in self.there if one not in self.active)]
        self.there[adapter] = self.host[adapter] = None
        self.there.move_to_end(adapter)
        self.host.move_to_end(adapter)
        return seconds

    def leave(self, adapter: int) -> None:
        """A request of an adapter has left its place."""
        self.active[adapter] -= 1
        if not self.active[adapter]:
            del self.active[adapter]
