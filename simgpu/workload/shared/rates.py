"""How fast calls of several models go on at the same moment, by the way in which they share a GPU.

A call that runs alone goes on at rate 1. Each kind of sharing has resources of which a call takes a part while it runs
alone, and of which there is one; rates are as even as they can be (max-min): all grow together until a resource is used
up, those that use it stop there, the others grow on.

- time slicing: the time of the GPU. A call has its turn for all of its time, gaps in which its host works included.
- MPS: the multiprocessors, and the bandwidth of the memory. Kernels of all run at once; one that fills the GPU leaves
  nothing, one that streams leaves most multiprocessors. A kernel also waits until the blocks of another's that came
  before it are all on multiprocessors (Amert et al., GPU Scheduling on the NVIDIA TX2, RTSS 2017), unless both may use
  shares that fit side by side: a call of many small kernels beside one of large ones waits for one of those each time.
- MIG, separate GPUs: nothing is shared.
- in turn: one call at a time, the one that came first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SWITCHING = 0.11
"""Time that slices of the GPU lose to switching over what they use, where several processes are busy: seven, five and
three processes that infer without a pause on an A100 took 7.77, 5.55 and 3.33 times what one alone takes, each 1.11
times as long as a fair share (nebuly-ai/nos @4b77c671, demos/gpu-sharing-comparison, YOLOS small). More than half of
that time was the host's, as its 342 ms on a MIG slice tell, so that gaps are not filled by others."""

SLICE = 2e-3
"""Seconds of a slice of time (NVIDIA vGPU user guide, time slice of up to eight vGPUs; up to 2.3 ms between CUDA
processes were observed on an RTX 4090 with the default of nvidia-smi compute-policy). A call that starts waits for the
end of the slice of another."""

TIME, SMS, BANDWIDTH = "GPU time", "multiprocessors", "memory bandwidth"


@dataclass(frozen=True)
class Call:
    """One call of a model on the GPU that it has, or its part of it.

    seconds
        Its time there, with nobody beside it.
    takes
        What it takes of each resource while it runs so, 0 to 1.
    """

    seconds: float
    takes: Mapping[str, float]
    kernels: float = 0.0
    busy: float = 0.0
    """Its kernels, and their seconds together."""
    share: float = 1.0
    """Of the multiprocessors that its kernels may use."""

    def waits(self, others: Iterable[Call]) -> float:
        """Seconds that its kernels wait for those of other calls that came first."""
        each = (other.busy / other.kernels * min(other.takes.get(SMS, 0.0), 1.0)
                for other in others if other.kernels and other.share + self.share > 1.0)  # fmt: skip
        return self.kernels * sum(each)


def room(sharing: str, active: int) -> dict[str, float]:
    """How much there is of each resource that a kind of sharing has, where so many models are active."""
    if sharing == "time_slicing":
        return {TIME: 1.0 / (1.0 + SWITCHING) if active > 1 else 1.0}
    return {SMS: 1.0, BANDWIDTH: 1.0} if sharing == "mps" else {}


def rates(sharing: str, calls: Sequence[Call]) -> list[float]:
    """The rate of each of the calls that run at the same moment, over its rate alone; `in_turn`: the first runs."""
    if sharing == "in_turn":
        return [1.0 if i == 0 else 0.0 for i in range(len(calls))]
    left = room(sharing, len(calls))
    found = [0.0] * len(calls)
    growing = set(range(len(calls)))
    while growing:
        step = min(1.0 - found[i] for i in growing)
        for name, free in left.items():
            asked = sum(calls[i].takes.get(name, 0.0) for i in growing)
            if asked and asked * step > free:
                step = max(free / asked, 0.0)
        for i in growing:
            found[i] += step
            for name in left:
                left[name] -= step * calls[i].takes.get(name, 0.0)
        full = {name for name, free in left.items() if free <= 1e-12}
        growing = {
            i for i in growing
            if found[i] < 1.0 - 1e-12 and not any(calls[i].takes.get(name, 0.0) > 0 for name in full)
        }  # fmt: skip
    for i, call in enumerate(calls):
        waited = call.waits(other for j, other in enumerate(calls) if j != i)
        found[i] = min(found[i], call.seconds / (call.seconds + waited))
    return found


def loads(sharing: str, calls: Sequence[Call], per_second: Sequence[float]) -> dict[str, float]:
    """What calls that come so often use of each shared resource, over what there is of it in the long run."""
    if sharing == "in_turn":
        return {TIME: sum(rate * call.seconds for rate, call in zip(per_second, calls, strict=True))}
    free = room(sharing, len(calls))
    return {
        name: sum(rate * call.seconds * call.takes.get(name, 0.0) for rate, call in zip(per_second, calls, strict=True))
        / of
        for name, of in free.items()
    }
