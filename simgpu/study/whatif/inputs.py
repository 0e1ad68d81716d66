"""The physical inputs of a cluster: what one could buy more of, and the figures that belong to each.

One input is one physical thing, however many figures of the catalogue describe it: the peak of the tensor cores of
all dtypes, a kind of link wherever it is plugged in, the latencies of all kernels. They are found in the resolved
hardware of a scenario, so a new GPU, link or node has its inputs without a line here. Every figure belongs to one
input at most, apart from those of a `compound` one (multiprocessors come with their peaks).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.figure import figures
from simgpu.hardware.spec import PCIeSwitch, Port

Dimension = Literal["rate", "time", "other"]
"""The effect of scaling an input on time: a rate goes with 1/s, a time with s; of others dimensions say nothing."""


@dataclass(frozen=True)
class Input:
    """One physical input.

    `figures` are its hardware keys with their values, SI; `value` is the figure that people know.
    """

    name: str
    title: str
    value: float
    unit: str
    figures: Mapping[str, float]
    dimension: Dimension = "other"
    compound: bool = False  # holds figures of other inputs, so that it has no part in sums
    whole: bool = False  # a count: it is scaled to the nearest whole number

    def scaled(self, factor: float) -> tuple[float, dict[str, str]]:
        """The factor that `value` can be scaled by (a count stays whole), and all figures scaled by it.

        Figures are in the form of overrides.
        """
        exact = max(round(self.value * factor), 1) / self.value if self.whole else factor
        scaled = {key: value * exact for key, value in self.figures.items()}
        whole = {key: float(round(value)) for key, value in scaled.items() if key.endswith("sm_count")}
        return exact, {key: f"{value!r} SI" for key, value in (scaled | whole).items()}


def inputs_of(cluster: Cluster, dtype: str, gpus: int) -> list[Input]:
    """Inputs of a cluster of which `gpus` GPUs work; `dtype` says which peak names the tensor cores.

    What the GPUs at work cannot reach is left out: links among GPUs where there is one, the network where all are in
    one node, the host of a GPU that was named without a node.
    """
    inputs = [*_gpu(cluster, dtype), *_host(cluster)]
    if gpus > 1:
        inputs += [*_links(cluster), *_collectives(cluster)]
    if gpus > cluster.gpus_per_node:
        inputs += _network(cluster)
    alone = cluster.name == cluster.gpu.name  # its host stands in no file whose figures could be replaced
    return [
        one for one in inputs if one.figures and not (alone and any(key.startswith("node.") for key in one.figures))
    ]


def _gpu(cluster: Cluster, dtype: str) -> Iterator[Input]:
    gpu = cluster.gpu
    known = {".".join(map(str, path)): figure for path, figure in figures(gpu)}

    def of(*keys: str) -> dict[str, float]:
        return {f"gpu.{key}": known[key].si for key in keys if key in known}  # type: ignore[attr-defined]

    memory = gpu.memory
    yield Input("hbm_bandwidth", "HBM bandwidth", memory.bandwidth.si, "B/s", of("memory.bandwidth"), "rate")
    yield Input("hbm_capacity", "HBM capacity", memory.capacity.si, "B", of("memory.capacity"))
    yield Input("l2_cache", "L2 cache", memory.l2_cache.si, "B", of("memory.l2_cache"))
    tensor = of(*(f"peak.{peak.key}" for peak in gpu.peak if peak.engine == "tensor"))
    vector = of(*(f"peak.{peak.key}" for peak in gpu.peak if peak.engine == "vector"))
    if tensor:
        named = next(
            (key for key in tensor if key.startswith(f"gpu.peak.{dtype}-")), max(tensor, key=lambda k: tensor[k])
        )
        title = f"Tensor peak ({named.split('.')[-1].split('-')[0]})"
        yield Input("tensor_peak", title, tensor[named], "FLOP/s", tensor, "rate")
    yield Input("vector_peak", "Vector peak (fp32)", gpu.vector_peak.si, "FLOP/s", vector, "rate")
    clocks = of("compute.boost_clock", "compute.max_clock", "compute.rated_clock")
    yield Input("sm_clock", "SM clock (peak FLOP/s unchanged)", gpu.compute.boost_clock.si, "Hz", clocks, "rate")
    sms = {**of("compute.sm_count"), **tensor, **vector}
    yield Input(
        "sm_count", "SM count (peak FLOP/s grows too)", gpu.compute.sm_count.si, "", sms, compound=True, whole=True
    )
    yield Input("power_limit", "Power limit", gpu.power.tdp.si, "W", of("power.tdp"))
    kernels = ("gemm", "attention", "vector", "moe", "launch_overhead")
    constants = _constants(cluster, "s", kernels)
    launch = cluster.kernel.launch_overhead.si
    yield Input("kernel_latency", "Kernel latencies", launch, "s", constants, "time")
    caches = _constants(cluster, "B/s", kernels)
    yield Input(
        "unfused_cache", "Cache rate of unfused kernels", max(caches.values(), default=0.0), "B/s", caches, "rate"
    )


def _host(cluster: Cluster) -> Iterator[Input]:
    ports = _ports(cluster)
    host = {path: port for path, port in ports.items() if path.endswith(("host_link", "switch"))}
    kind = cluster.links[cluster.gpu.host_link.link].kind
    yield from _role(
        cluster, "pcie" if kind == "pcie" else "host_link", "PCIe" if kind == "pcie" else "Host link", host
    )
    sockets = {f"node.sockets.{i}.memory_bandwidth": s.memory_bandwidth.si for i, s in enumerate(cluster.node.sockets)}
    yield Input("host_memory", "Host memory bandwidth", max(sockets.values()), "B/s", sockets, "rate")
    nvme = cluster.node.nvme
    if nvme is not None:
        rates = {"node.nvme.read": nvme.read.si, "node.nvme.write": nvme.write.si}
        yield Input("nvme", "NVMe bandwidth", nvme.read.si, "B/s", rates, "rate")


def _links(cluster: Cluster) -> Iterator[Input]:
    ports = _ports(cluster)
    own = {path: port for path, port in ports.items() if path == "gpu.nvlink" and cluster.node.nvlink is not None}
    title = "NVLink" if any(port.link.startswith("nvlink") for port in own.values()) else "GPU link"
    yield from _role(cluster, "nvlink", title, own)
    between = {path: port for path, port in ports.items() if path == "node.inter_socket"}
    yield from _role(cluster, "inter_socket", "Inter-socket", between)


def _network(cluster: Cluster) -> Iterator[Input]:
    ports = {path: port for path, port in _ports(cluster).items() if path in ("node.nic.port", "cluster.fabric")}
    yield from _role(cluster, "nic", "NIC", ports)
    fabric = cluster.spec.fabric
    if fabric is not None:
        ratio = fabric.oversubscription.si
        yield Input("oversubscription", "Oversubscription", ratio, "", {"cluster.fabric.oversubscription": ratio})


def _collectives(cluster: Cluster) -> Iterator[Input]:
    fixed = _constants(cluster, "s", ("collective",))
    launch = fixed.get("gpu.kernel.collective.nccl.launch_latency", max(fixed.values(), default=0.0))
    yield Input("collective_latency", "Collective latencies", launch, "s", fixed, "time")
    rates = _constants(cluster, "B/s", ("collective",))
    channel = rates.get("gpu.kernel.collective.nccl.channel_bandwidth", max(rates.values(), default=0.0))
    yield Input("channel_rate", "NCCL channel rates", channel, "B/s", rates, "rate")


_LATENCIES = ("latency", "staged_latency", "post_latency", "proxy_latency", "step_latency", "peer_latency")
"""Of a link."""


def _role(cluster: Cluster, name: str, title: str, ports: Mapping[str, Port]) -> Iterator[Input]:
    """Bandwidth and latency of the ports that play a role; the first of them gives the values that are shown."""
    if not ports:
        return
    rates: dict[str, float] = {}
    times: dict[str, float] = {}
    for path, port in ports.items():
        link = cluster.links[port.link]
        rates |= (
            {f"{path}.bandwidth": port.bandwidth.si}
            if port.bandwidth
            else {f"link.{port.link}.lane_bandwidth": link.lane_bandwidth.si}
        )
        for key in _LATENCIES:
            figure = getattr(link, key)
            if figure is not None:
                times[f"link.{port.link}.{key}"] = figure.si
        if port.latency:
            times[f"{path}.latency"] = port.latency.si
    first = next(iter(ports.values()))
    link = cluster.links[first.link]
    raw = first.bandwidth.si if first.bandwidth else first.lanes.si * link.lane_bandwidth.si
    yield Input(f"{name}_bandwidth", f"{title} bandwidth", raw, "B/s", rates, "rate")
    latency = (first.latency or link.latency).si
    yield Input(f"{name}_latency", f"{title} latency", latency, "s", times, "time")


def _ports(cluster: Cluster) -> dict[str, Port]:
    """Every port by its hardware key, in the order of importance."""
    node = cluster.node
    ports: dict[str, Port | None] = {
        "gpu.nvlink": cluster.gpu.nvlink,
        "gpu.host_link": cluster.gpu.host_link,
        "node.inter_socket": node.inter_socket,
    }
    if node.nic is not None:
        ports |= {"node.nic.port": node.nic.port, "node.nic.host_link": node.nic.host_link}
    ports["cluster.fabric"] = cluster.spec.fabric
    for s, socket in enumerate(node.sockets):
        for d, entry in enumerate(socket.devices):
            if isinstance(entry, PCIeSwitch):
                ports[f"node.sockets.{s}.devices.{d}.switch"] = entry.switch
    return {path: port for path, port in ports.items() if port is not None}


_MARKS = ("throttle_time",)
"""Constants with a unit of time that are no time anything takes: they say where a curve bends."""


def _constants(cluster: Cluster, unit: str, classes: Sequence[str]) -> dict[str, float]:
    """Constants of kernels in a unit, of some classes, by hardware key."""
    return {
        "gpu.kernel." + ".".join(path): one.figure.si
        for path, one in cluster.kernel.given.items()
        if path[0] in classes and one.figure.unit == unit and path[-1] not in _MARKS and one.figure.si > 0
    }
