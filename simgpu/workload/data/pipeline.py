"""How fast samples come: workers that read and decode, the cores below them, the storage, the link to the GPU.

In a steady state a pipeline is as fast as its slowest part. A worker asks for a sample, waits for its first byte,
receives it and decodes it, one after another, so that `workers` of them make `workers / (fetch + decode)` samples a
second (a PyTorch DataLoader: torch/utils/data/_utils/worker.py). They share the cores, the drives and the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.units import format_si
from simgpu.workload.data.catalogue import NO_DECODER, Storage, found, known
from simgpu.workload.data.fields import Data

SHARD = 256e6
"""Bytes of a file of many samples, whose first byte is waited for once (WebDataset recommends 100 MB to a few GB)."""

SPREAD = (0.83, 1.6)
"""Factors on the seconds of a batch at P10 and P90 where a user gives no `decode` of his own: torchvision decodes 440
to 864 JPEG images a second on one core of five processors, 712 on that of the catalogue (arXiv 2605.08731)."""

STEP = "step"
"""The GPUs are the slowest part."""

UNITS = {"image": "imagenet", "video": "clips", "audio": "speech", "text": "text"}
"""Samples by what a network takes in."""


@dataclass(frozen=True)
class Feed:
    """A pipeline beside `gpus` GPUs of which `per_node` stand in a node.

    fetch, decode
        Seconds of a worker for a sample: until it has its bytes, and to make a tensor of them.
    rates
        Samples a second of all GPUs that each part can make, by its name in words.
    """

    data: Data
    gpus: int
    size: float  # B of a sample
    fetch: float
    decode: float
    rates: Mapping[str, float]
    nodes: int = 1
    """Nodes that read."""

    @property
    def rate(self) -> float:
        """Samples a second, all GPUs."""
        return min(self.rates.values())

    @property
    def slowest(self) -> str:
        """The part that limits it."""
        return min(self.rates, key=lambda name: self.rates[name])

    @property
    def ahead(self) -> bool:
        """True if batches are made while the GPUs compute."""
        return self.data.workers > 0 and self.data.prefetch > 0

    def seconds(self, batch: float) -> float:
        """Seconds in which it makes a batch of all GPUs."""
        return batch / self.rate if self.rate < inf else 0.0

    def step(self, computes: float, batch: float, slower: float = 1.0) -> float:
        """Seconds of a step whose GPUs compute for `computes` s: the longer of both, or their sum.

        `slower` is a factor on the time of the pipeline.
        """
        made = self.seconds(batch) * slower
        return max(made, computes) if self.ahead else made + computes

    @property
    def _spread(self) -> tuple[float, float]:
        return SPREAD if self.data.decode is None else (1.0, 1.0)

    def ends(self, low: float, high: float, batch: float) -> tuple[float, float]:
        """P10 and P90 of a step whose GPUs compute for `low` to `high` s."""
        return self.step(low, batch, self._spread[0]), self.step(high, batch, self._spread[1])

    def rates_range(self) -> tuple[float, float, float]:
        """P10, median and P90 of samples a second, all GPUs."""
        return self.rate / self._spread[1], self.rate, self.rate / self._spread[0]

    def wait(self, computes: float, batch: float) -> float:
        """Seconds of a step that GPUs wait for their batch, where they compute for `computes` s."""
        return self.step(computes, batch) - computes

    def buys(self, step: float, batch: float) -> str:
        """What would let the GPUs go on without waiting, part by part that is too slow."""
        if not self.wait(step, batch):
            return "nothing"
        needed = batch / step
        if not self.ahead:
            return "workers and batches ahead"
        short = [name for name, rate in self.rates.items() if rate < needed]
        return ", ".join(self._asks(name, needed) for name in short)

    def _asks(self, name: str, needed: float) -> str:
        each = needed / self.gpus
        if name == "workers":
            return f"{ceil(each * (self.fetch + self.decode) - 1e-9)} workers a GPU"
        if name == "cores":
            return f"{each * self.decode:.1f} cores a GPU"
        if name == "storage":
            read = needed * self.size * (1 - self.data.cached) / self.nodes
            return f"storage of {format_si(read, 'B/s')} a node"
        return f"{'prefixes' if name == 'requests' else 'a link'} of {needed / self.rates[name]:.1f} times as many"


def feed(data: Data, unit: str, cluster: Cluster, gpus: int, tokens: int = 1, loaded: float = 0.0) -> Feed:
    """The pipeline of a job whose samples are of a `unit`; a sample of text has `tokens`.

    `loaded` are the bytes of a decoded sample that go over the link to the GPU. Raises `InputError` (key only).
    """
    samples = found("samples", data.samples or UNITS[unit])
    if samples.unit != unit:
        fitting = ", ".join(name for name, one in known().samples.items() if one.unit == unit)
        raise InputError(f"'{samples.name}' is of the kind {samples.unit}, the model takes {unit}; expected {fitting}",
                         key="workload.data.samples")  # fmt: skip
    decoder = found("decoders", data.decoder or samples.decoder)
    if decoder.of != unit and decoder.name != NO_DECODER:
        fitting = ", ".join(name for name, one in known().decoders.items() if one.of in (unit, ""))
        raise InputError(f"'{decoder.name}' decodes {decoder.of}, not {unit}; expected {fitting}",
                         key="workload.data.decoder")  # fmt: skip
    storage: Storage = found("storage", data.storage)
    many = tokens if samples.by_token else 1
    size = (data.sample_bytes or samples.bytes) * many
    decode = (decoder.seconds if data.decode is None else data.decode) * many
    nodes = ceil(gpus / cluster.gpus_per_node)
    bandwidth = _bandwidth(data, storage, cluster)
    fresh = 1.0 - data.cached
    waits = storage.latency * (min(size / SHARD, 1.0) if data.layout == "shards" else 1.0)
    stream = storage.stream or bandwidth
    fetch = fresh * (waits + (size / stream if stream < inf else 0.0))
    rates = {"workers": _over(max(data.workers, 1) * gpus, fetch + decode)}
    rates["cores"] = _over((data.cores or max(data.workers, 1)) * gpus, decode)
    rates["storage"] = _over(nodes * bandwidth, size * fresh) if bandwidth < inf else inf
    if storage.requests:
        asked = fresh * (size / SHARD if data.layout == "shards" else 1.0)
        rates["requests"] = _over(storage.requests * (1 if storage.shared else nodes), asked)
    rates["link"] = _over(gpus * _link(cluster), loaded)
    return Feed(data, gpus, size, fetch, decode, rates, nodes)


def _over(many: float, each: float) -> float:
    return many / each if each > 0 else inf


def _bandwidth(data: Data, storage: Storage, cluster: Cluster) -> float:
    """Bytes a second that a node reads: as given, as its file says of its drives or its memory, as the catalogue."""
    if data.bandwidth is not None:
        return float(data.bandwidth)
    if storage.name == "local_nvme" and cluster.node.nvme is not None:
        return cluster.node.nvme.read.si
    if storage.name == "host_memory":
        return sum(one.count * one.memory_bandwidth.si for one in cluster.node.sockets)
    return storage.bandwidth or inf


def _link(cluster: Cluster) -> float:
    port = cluster.gpu.host_link
    return port.bandwidth.si if port.bandwidth else cluster.links[port.link].lane_bandwidth.si * port.lanes.si
