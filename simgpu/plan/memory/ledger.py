"""What is counted of a rank's memory at its peak, by part, and what a node has beside its GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from simgpu.hardware.cluster import Cluster
from simgpu.plan.memory.verdict import MISFITS, USABLE, Need, need, verdict

GIB = 2.0**30
MIB = 2.0**20

CONTEXT_BYTES = 512 * MIB
"""CUDA context with the kernels that were loaded. Reports: 186 MiB (an A10, 'non-PyTorch memory' of an out-of-memory
message of PyTorch 2), 320 MB without PyTorch and 1,008 MB with all kernels of PyTorch 1.3 (pytorch issue 28394)."""

COMMUNICATOR_BYTES = 688 * MIB
PAIR_BYTES = 544 * MIB
"""Buffers of an NCCL communicator of 3 or more GPUs, and of 2 (4 A100s with NVLink; NVIDIA/nccl issue 964)."""

PARTS = ("weights", "gradients", "optimizer", "activations", "communication", "temporary", "reserve")


@dataclass(frozen=True)
class Room:
    """Bytes that a node has beside its GPUs: memory of its sockets and its drives; None: not known."""

    ranks: int  # at most on a node
    host: float | None = None
    nvme: float | None = None

    def share(self, size: float | None, world: int) -> float | None:
        """The share of each rank on a node."""
        return None if size is None else size / min(self.ranks, world)

    @staticmethod
    def of(cluster: Cluster) -> Room:
        """The room off the GPUs of a node of a cluster; None where the capacity of a part is not known."""
        node = cluster.node
        sizes = [(socket.memory_capacity, socket.count) for socket in node.sockets]
        known = [size.si * count for size, count in sizes if size is not None]
        drives = node.nvme.capacity if node.nvme is not None else None
        host = sum(known) if len(known) == len(sizes) else None
        return Room(cluster.gpus_per_node, host, drives.si if drives is not None else None)


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank of a pipeline stage at its peak.

    event
        When that is: 'loss', 'head backward', 'layer backward', 'embedding backward' or 'update'.
    ledger
        Named tensors that `communication` and `temporary` consist of, bytes.

    communication
        Gathered weights, buckets, receive buffers of pipeline and context parallelism, gathered rows.
    temporary
        Logits and loss, or what backward of a layer makes, recomputed tensors included: the larger.
    reserve
        CUDA context and NCCL, which a framework's own count of its memory leaves out.
    host, nvme
        Bytes in host memory, and on the drives of the node.
    capacity, host_capacity, nvme_capacity
        Of the GPU, and a rank's share of its node's memory and drives; None if not asked, or not known.
    pools
        Of `communication`, buffers of other streams that are free at the peak and that kernels cannot use.
    allocator, allocator_spread
        What PyTorch's allocator holds of the GPU over all but the reserve, and the deviation of its logarithm.
    centre, spread
        Logarithm of a measured peak over the count of what is allocated: its mean and its deviation.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    communication: float
    temporary: float
    reserve: float
    stage: int = 0
    host: float = 0.0
    capacity: float | None = None
    nvme: float = 0.0
    host_capacity: float | None = None
    nvme_capacity: float | None = None
    allocator: float = 1.0
    pools: float = 0.0
    allocator_spread: float = 0.0
    centre: float = 0.0
    spread: float = 0.0
    event: str = ""
    ledger: tuple[tuple[str, float], ...] = ()

    @property
    def total(self) -> float:
        """Bytes of all parts."""
        return float(sum(getattr(self, part) for part in PARTS))

    @property
    def allocated(self) -> float:
        """Bytes that torch.cuda.max_memory_allocated counts.

        They are without what CUDA and NCCL take, and without buffers that only stay in the pools of other streams.
        """
        return self.total - self.reserve - self.pools

    @property
    def held(self) -> float:
        """Bytes that PyTorch's allocator holds (torch.cuda.max_memory_reserved)."""
        return (self.total - self.reserve) * self.allocator

    @property
    def shown(self) -> float:
        """Bytes that nvidia-smi shows: what the allocator holds, with its gaps, plus CUDA and NCCL.

        Before a GPU is full the allocator gives back what it does not use.
        """
        shown = self.held + self.reserve
        return shown if self.capacity is None else max(min(shown, self.capacity), self.total)

    @property
    def likely(self) -> Need:
        """Bytes that the GPU must have, with how sure they are: `total` is their count."""
        return need(self.total - self.reserve, self.reserve, self.centre, self.spread)

    @property
    def fit_probability(self) -> float:
        """That a run gets through: 0 where host memory or drives are too small; 1 where no capacity is known."""
        if self.full:
            return 0.0
        if self.capacity is None:
            return 1.0
        inside = self.total - self.reserve
        held = need(inside, self.reserve, self.centre, self.spread, self.allocator, self.allocator_spread)
        return held.below(USABLE * self.capacity)

    @property
    def verdict(self) -> str:
        """'fits', 'tight' or 'does not fit': by the probability of fitting, 0.95 and 0.05."""
        return verdict(self.fit_probability)

    @property
    def fits(self) -> bool:
        """True if it is not said to be too large, on the GPU, in host memory and on the drives.

        Places of unknown size are passed over, and what is tight fits.
        """
        return self.fit_probability > MISFITS

    @property
    def full(self) -> str:
        """The place off the GPU that cannot hold what is offloaded to it: 'host memory', 'NVMe' or ''."""
        if self.host_capacity is not None and self.host > self.host_capacity:
            return "host memory"
        return "NVMe" if self.nvme_capacity is not None and self.nvme > self.nvme_capacity else ""

    @property
    def short_by(self) -> float:
        """Bytes over the capacity of the GPU; 0 where it fits."""
        return 0.0 if self.capacity is None else max(self.total - self.capacity, 0.0)

    def as_dict(self) -> dict[str, float | int | None]:
        """Fields that are bytes, and the total."""
        return {name: getattr(self, name) for name in _BYTES} | {"total": self.total}


_BYTES = tuple(
    one.name
    for one in fields(Memory)
    if one.name not in ("event", "ledger", "allocator", "allocator_spread", "centre", "spread")
)


def peak(stages: Sequence[Memory]) -> Memory:
    """The stage that needs most; one whose host or drives are too small before those that fit."""
    return max(stages, key=lambda memory: (bool(memory.full) and not memory.short_by, memory.total))
