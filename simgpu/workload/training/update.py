"""The end of a step: gradients are clipped, the optimizer updates weights, states may cross to the host and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simgpu.hardware.cluster import Cluster
from simgpu.model.operators import BYTES
from simgpu.plan.numerics import OPTIMIZERS
from simgpu.plan.states import gradients_away
from simgpu.timing.kernels import NONE, KernelModel, Uncertainty
from simgpu.timing.uncertainty import spread
from simgpu.workload.copies import FROM_HOST, TO_HOST, drives
from simgpu.workload.execution import Activity
from simgpu.workload.links import Links
from simgpu.workload.training.muon import MUON, Matrices, dealt_s, elements

if TYPE_CHECKING:
    from simgpu.workload.training.job import Job


HOST_UNCERTAINTY = Uncertainty("host", 1.0, 5.4, 1.0)
"""An update in host memory over one at the rate of that memory, which processors seldom reach: that of Qwen 72B over
four nodes of A100 takes 10 s (DeepSpeed issue 6834), where memory of 410 GB/s a node would allow 1.9."""


def norm_of(job: Job, kernels: KernelModel, trained: float, experts: float) -> list[tuple[Activity, float]]:
    """The norm of a rank's gradients, if they are clipped; see `update_of`."""
    mine, width = _mine(job, trained, experts), job.numerics.gradients
    if not job.clip or not mine or job.numerics.optimizer == "none":
        return []
    seconds = float(kernels.timer.vector.elementwise(mine, 1, 0, dtype=width).seconds)
    return [(_activity(kernels, "gradient norm", "clip", seconds, mine * BYTES[width]), seconds)]


def update_of(
    job: Job, kernels: KernelModel, links: Links, trained: float, experts: float, matrices: Matrices = ()
) -> list[tuple[Activity, float]]:
    """Activities of one rank after its gradients are there, in order, with their seconds.

    `trained` parameters with gradients that a rank holds (of them `experts` in experts), before sharding; `matrices`
    those that Muon makes orthogonal.
    """
    plan, numerics, timer = job.plan, job.numerics, kernels.timer.vector
    mine = _mine(job, trained, experts)
    if numerics.optimizer == "none" or not mine:
        return []
    activities: list[tuple[Activity, float]] = []
    if job.clip and not (plan.offload != "none" and gradients_away(plan, job.framework.memory)):
        width = numerics.gradients
        seconds = float(timer.elementwise(mine, 1, 1, dtype=width).seconds)  # scaled
        activities.append((_activity(kernels, "clip gradients", "clip", seconds, 2 * mine * BYTES[width]), seconds))
    seconds = _passes(job, kernels, mine, matrices) * job.framework.optimizer_passes
    moved = mine * (2 * numerics.state_bytes + numerics.gradient_bytes)
    if matrices:
        products = dealt_s(kernels, plan, matrices)
        activities.append((_activity(kernels, "orthogonal momenta", "optimizer", products, 0.0, "gemm"), products))
    if plan.offload == "none":
        activities.append((_activity(kernels, "optimizer", "optimizer", seconds, moved), seconds))
    else:
        for name, seconds, uncertainty in _on_host(job, links, mine):
            size = moved if name == "optimizer" else 0.0
            activities.append(
                (replace(_activity(kernels, name, "optimizer", seconds, size), uncertainty=uncertainty), seconds)
            )
    host = Activity("host", "compute", "host", "optimizer")
    return [*activities, (host, job.framework.step_s)]


def _passes(job: Job, kernels: KernelModel, mine: float, matrices: Matrices) -> float:
    """Seconds of passes over `mine` parameters and their states, those of matrices by their momentum alone."""
    numerics, timer = job.numerics, kernels.timer.vector

    def step(count: float, kind: str) -> float:
        if not count:
            return 0.0
        found = timer.optimizer(
            count, kind, weights=numerics.weights, gradients=numerics.gradients, states=numerics.states,
            master=numerics.master,
        )  # fmt: skip
        return float(found.seconds)

    if numerics.optimizer != MUON:
        return step(mine, numerics.optimizer)
    of_experts = elements(matrices, True)
    held = _mine(job, elements(matrices, False) + of_experts, of_experts)
    products = float(timer.elementwise(held, 1, 1, dtype="bf16").seconds) if held else 0.0  # written, and read again
    return step(max(mine - held, 0.0), "adam") + step(held, "momentum") + products


def _mine(job: Job, trained: float, experts: float) -> float:
    """Parameters that a rank updates."""
    plan = job.plan
    if not plan.zero or not trained:
        return trained
    return (trained - experts) / plan.shards + experts / plan.expert_copies


def _activity(kernels: KernelModel, name: str, kind: str, seconds: float, moved: float, of: str = "vector") -> Activity:
    architecture, regime = kernels.constants.architecture, kernels.constants.regime(of, "default")
    seen, op = kernels.constants.by_user(of), "gemm" if of == "gemm" else "elementwise"
    got = spread(op, max(seconds, 1e-6), architecture=architecture, regime=regime, seen=seen)
    uncertainty = Uncertainty(of, float(got.low), float(got.high), float(got.correlated))
    bound = "compute" if of == "gemm" else "memory"
    return Activity(name, "compute", kind, "optimizer", 0.0, moved, bound, uncertainty)


def _on_host(job: Job, links: Links, mine: float) -> list[tuple[str, float, Uncertainty]]:
    """Parts of an update in host memory (Ren et al., ZeRO-Offload, 2021), and its copies before and after, seconds.

    The update is bound by host memory, which reads and writes every state once. Gradients that are not there go down
    and weights come back beside it, in pieces, so the slower counts (Megatron-Core, overlap_cpu_optimizer_d2h_h2d).
    Where gradients went down as backward made them (DeepSpeed, FSDP), weights that live on the GPU come back after the
    update. States on drives are read before and written after it, which DeepSpeed does not overlap by default
    (pipeline_read and pipeline_write of offload_config.py).
    """
    cluster, numerics, plan = links.cluster, job.numerics, job.plan
    ranks = min(plan.world, cluster.gpus_per_node)
    memory = _host_share(cluster, ranks)
    states = (1 + OPTIMIZERS[numerics.optimizer]) * 4.0
    up = 0.0 if plan.weights_away else mine * BYTES[numerics.weights] / links.copy_rate(FROM_HOST)
    parts: list[tuple[str, float, Uncertainty]] = []
    if not gradients_away(plan, job.framework.memory):
        down = mine * numerics.gradient_bytes / links.copy_rate(TO_HOST)
        update = job.framework.host_update * mine * (2 * states + numerics.gradient_bytes) / memory
        slowest = HOST_UNCERTAINTY if update > down + up else NONE
        parts.append(("optimizer", max(down + up, update), slowest))
    else:
        passes = job.framework.host_update * (2 * states + 4.0)
        passes += 8.0 if job.clip else 0.0  # gradients in fp32, read and written
        if numerics.master is not None and numerics.weights != "fp32" and _copied(job):
            passes += 4.0 + BYTES[numerics.weights]  # weights are made of the master's
        parts.append(("optimizer", mine * passes / memory, HOST_UNCERTAINTY))
        parts.append(("updated weights", up, NONE))
    if plan.states_on_nvme:
        read, write = (rate / ranks for rate in drives(cluster))
        weights = BYTES[numerics.weights] if plan.weights_on_nvme and _copied(job) else 0.0
        parts.append(("states from drives", mine * (states + 4.0) / read, NONE))
        parts.append(("states to drives", mine * (states + weights) / write, NONE))
    return [part for part in parts if part[1]]


def _copied(job: Job) -> bool:
    """True if shards of the weights lie beside those of their master."""
    copied = job.numerics.sharded_copy
    return job.framework.memory.sharded_copy if copied is None else copied


def _host_share(cluster: Cluster, ranks: int) -> float:
    """Bandwidth of host memory for each of the `ranks` on the first GPUs of a node, bytes/s.

    It is that of all sockets, or of those that hold these GPUs where no link joins sockets.
    """
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
