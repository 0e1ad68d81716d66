"""The end of a step: gradients are clipped, the optimizer updates weights, states may cross to the host and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simgpu.model.operators import BYTES
from simgpu.plan.numerics import OPTIMIZERS
from simgpu.timing.kernels import Doubt, KernelModel
from simgpu.timing.uncertainty import spread
from simgpu.workload.execution import Activity
from simgpu.workload.training.links import Links

if TYPE_CHECKING:
    from simgpu.workload.training.step import Job


def update_of(
    job: Job, kernels: KernelModel, links: Links, trained: float, experts: float
) -> list[tuple[Activity, float]]:
    """Activities of one rank after its gradients are there, in order, with their seconds.

    `trained` parameters with gradients that a rank holds (of them `experts` in experts), before sharding.
    """
    plan, numerics = job.plan, job.numerics
    if numerics.optimizer == "none" or not trained:
        return []
    dense, ep_shards = trained - experts, max(plan.dp * plan.cp // plan.ep, 1)
    mine = dense / plan.shards + experts / ep_shards if plan.zero else trained
    found: list[tuple[Activity, float]] = []
    timer, architecture = kernels.timer, kernels.constants.architecture

    def add(name: str, kind: str, seconds: float, moved: float = 0.0) -> None:
        regime = kernels.constants.regime("vector", "default")
        got = spread("elementwise", max(seconds, 1e-6), architecture=architecture, regime=regime, library="default")
        doubt = Doubt("vector", float(got.low), float(got.high), float(got.correlated))
        found.append((Activity(name, "compute", kind, "optimizer", 0.0, moved, "memory", doubt), seconds))

    if job.clip:
        width = numerics.gradients
        seconds = float(timer.elementwise(mine, 1, 0, dtype=width).seconds)  # the norm
        seconds += float(timer.elementwise(mine, 1, 1, dtype=width).seconds)  # scaled
        if plan.world > 1:
            seconds += links.inner("all_reduce", "tp" if plan.tp > 1 else "grad", 4.0).seconds
        add("clip gradients", "clip", seconds, 3 * mine * BYTES[width])
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
    add("optimizer", "optimizer", seconds, mine * (2 * numerics.state_bytes + numerics.gradient_bytes))
    host = Activity("host", "compute", "host", "optimizer")
    return [*found, (host, job.framework.step_s)]


def _on_host(job: Job, kernels: KernelModel, links: Links, mine: float) -> float:
    """Gradients go to host memory, the processor updates states there, weights come back (ZeRO-Offload).

    Ren et al. 2021: the update is bound by host memory, which reads and writes every state once; here the transfers
    and the update overlap in pieces, so the slowest of them counts.
    """
    cluster, numerics = links.cluster, job.numerics
    port = cluster.port(cluster.gpu.host_link)
    down, up = mine * numerics.gradient_bytes / port.bandwidth, mine * BYTES[numerics.weights] / port.bandwidth
    passes = 2 * (1 + OPTIMIZERS[numerics.optimizer]) * 4.0 + numerics.gradient_bytes
    share = sum(socket.memory_bandwidth.si for socket in cluster.node.sockets) / cluster.gpus_per_node
    return max(down + up, mine * passes / share)
