"""The end of a step: gradients are clipped, the optimizer updates weights, states may cross to the host and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simgpu.hardware.cluster import Cluster
from simgpu.model.operators import BYTES
from simgpu.plan.numerics import OPTIMIZERS
from simgpu.timing.kernels import Doubt, KernelModel
from simgpu.timing.uncertainty import spread
from simgpu.workload.execution import Activity
from simgpu.workload.links import Links

if TYPE_CHECKING:
    from simgpu.workload.training.job import Job


def norm_of(job: Job, kernels: KernelModel, trained: float, experts: float) -> list[tuple[Activity, float]]:
    """The norm of a rank's gradients, if they are clipped; see `update_of`."""
    mine, width = _mine(job, trained, experts), job.numerics.gradients
    if not job.clip or not mine or job.numerics.optimizer == "none":
        return []
    seconds = float(kernels.timer.elementwise(mine, 1, 0, dtype=width).seconds)
    return [(_activity(kernels, "gradient norm", "clip", seconds, mine * BYTES[width]), seconds)]


def update_of(
    job: Job, kernels: KernelModel, links: Links, trained: float, experts: float
) -> list[tuple[Activity, float]]:
    """Activities of one rank after its gradients are there, in order, with their seconds.

    `trained` parameters with gradients that a rank holds (of them `experts` in experts), before sharding.
    """
    plan, numerics, timer = job.plan, job.numerics, kernels.timer
    mine = _mine(job, trained, experts)
    if numerics.optimizer == "none" or not mine:
        return []
    found: list[tuple[Activity, float]] = []
    if job.clip:
        width = numerics.gradients
        seconds = float(timer.elementwise(mine, 1, 1, dtype=width).seconds)  # scaled
        found.append((_activity(kernels, "clip gradients", "clip", seconds, 2 * mine * BYTES[width]), seconds))
    kind = "sgd" if numerics.optimizer == "sgd" else numerics.optimizer
    step = timer.optimizer(
        mine,
        kind,
        weights=numerics.weights,
        gradients=numerics.gradients,
        states=numerics.states,
        master=numerics.master,
    )
    seconds = float(step.seconds) * job.framework.optimizer_passes
    if plan.offload == "optimizer":
        seconds = _on_host(job, kernels, links, mine)
    moved = mine * (2 * numerics.state_bytes + numerics.gradient_bytes)
    found.append((_activity(kernels, "optimizer", "optimizer", seconds, moved), seconds))
    host = Activity("host", "compute", "host", "optimizer")
    return [*found, (host, job.framework.step_s)]


def _mine(job: Job, trained: float, experts: float) -> float:
    """Parameters that a rank updates."""
    plan = job.plan
    if not plan.zero or not trained:
        return trained
    return (trained - experts) / plan.shards + experts / max(plan.dp * plan.cp // plan.ep, 1)


def _activity(kernels: KernelModel, name: str, kind: str, seconds: float, moved: float) -> Activity:
    architecture, regime = kernels.constants.architecture, kernels.constants.regime("vector", "default")
    got = spread("elementwise", max(seconds, 1e-6), architecture=architecture, regime=regime, library="default")
    doubt = Doubt("vector", float(got.low), float(got.high), float(got.correlated))
    return Activity(name, "compute", kind, "optimizer", 0.0, moved, "memory", doubt)


def _on_host(job: Job, kernels: KernelModel, links: Links, mine: float) -> float:
    """Gradients go to host memory, the processor updates states there, weights come back (ZeRO-Offload).

    Ren et al. 2021: the update is bound by host memory, which reads and writes every state once; here the transfers
    and the update overlap in pieces, so the slowest of them counts.
    """
    cluster, numerics, plan = links.cluster, job.numerics, job.plan
    port = cluster.port(cluster.gpu.host_link)
    down, up = mine * numerics.gradient_bytes / port.bandwidth, mine * BYTES[numerics.weights] / port.bandwidth
    passes = 2 * (1 + OPTIMIZERS[numerics.optimizer]) * 4.0 + numerics.gradient_bytes
    return max(down + up, mine * passes / _host_share(cluster, min(plan.world, cluster.gpus_per_node)))


def _host_share(cluster: Cluster, ranks: int) -> float:
    """Bandwidth of host memory for each of the `ranks` on the first GPUs of a node, bytes/s: that of all sockets, or
    of those that hold these GPUs where no link joins sockets."""
    total, before = 0.0, 0
    for socket in cluster.node.sockets:
        gpus = sum(
            entry == "gpu" if isinstance(entry, str) else entry.count * entry.devices.count("gpu")
            for entry in socket.devices
        )
        for _ in range(socket.count):
            if cluster.node.inter_socket is not None or before < ranks:
                total += socket.memory_bandwidth.si
            before += gpus
    return total / ranks
