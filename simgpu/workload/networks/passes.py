"""The passes of a network on one rank: each stage run once on the engine, and how often it comes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simgpu.engine import Simulator
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.model.graph import ModelGraph
from simgpu.model.networks.build import Inputs
from simgpu.model.networks.components import built
from simgpu.model.networks.pipeline import Pipeline, Stage
from simgpu.model.convolution import Convolution
from simgpu.model.operators import Attention, Communicate, Matmul, Operator, split_rows
from simgpu.plan.parallelism import Plan
from simgpu.plan.program import Step, context_attention
from simgpu.timing.kernels import KernelModel
from simgpu.workload.blocks import Block, Launching, run_block
from simgpu.workload.execution import Activity, Execution
from simgpu.workload.host_code import cpu_slowdown
from simgpu.workload.links import Links
from simgpu.workload.networks.job import Network
from simgpu.workload.networks.lowering import calls, lower
from simgpu.workload.networks.stacks import Stack


@dataclass(frozen=True)
class Asked:
    """A job with what its network's file says filled in."""

    height: int
    width: int
    frames: int
    steps: int
    guidance: int
    tokens: int
    windows: int  # of audio
    output: int


@dataclass(frozen=True)
class Pass:
    """One stage of one rank: its block, how often it runs, its graph for all ranks, the memory that it needs."""

    stage: Stage
    block: Block
    count: int
    graph: ModelGraph
    activations: float  # B live at once
    weights: float  # B
    host: float  # s of one pass that the host takes
    ideal: float  # s of the FLOPs of one pass, all ranks', at the datasheet peaks of their types on one GPU

    @property
    def seconds(self) -> float:
        """Seconds of all its runs."""
        return self.block.seconds * self.count

    @property
    def flops(self) -> float:
        """FLOPs of all its runs, all ranks together."""
        return self.graph.flops * self.count


def asked(job: Network, pipeline: Pipeline) -> Asked:
    """A job with defaults filled in. Raises `InputError` (key only) for what the network does not take."""
    fields = pipeline.fields
    height, width = job.size(pipeline)
    for key in ("frames", "steps", "guidance", "tokens", "seconds", "output"):
        of = {"seconds": "window"}.get(key, key)
        known = getattr(fields, of)
        if getattr(job, key) is not None and (
            known is None or (key == "guidance" and known == 1 and job.guidance != 1)
        ):
            raise InputError(f"'{pipeline.name}' takes none; leave it out", key=f"workload.{key}")
    window = fields.window or 0.0
    return Asked(
        height, width,
        frames=job.frames or fields.frames or 1,
        steps=job.steps or fields.steps or 1,
        guidance=job.guidance or fields.guidance,
        tokens=job.tokens or fields.tokens or 0,
        windows=math.ceil((job.seconds or window) / window) if window else 1,
        output=job.output or fields.output or 1,
    )  # fmt: skip


def inputs_of(stage: Stage, job: Network, what: Asked, pipeline: Pipeline) -> Inputs:
    """What one pass of a stage takes in, all ranks together."""
    latent, role = pipeline.fields.latent, stage.fields.role
    inside = role in ("denoiser", "decoder") and stage.fields.count != "tokens"
    scale = latent.scale if inside else 1
    frames = (what.frames - 1) // latent.frames + 1 if inside else what.frames
    batch = job.batch * (what.guidance if stage.fields.guided == "together" else 1)
    past = 0
    if stage.fields.count == "tokens":
        batch, past = batch * job.beams, what.output // 2  # the mean: time grows evenly with the cache
    tokens = stage.fields.tokens or what.tokens
    training = job.mode == "training"
    return Inputs(batch, what.height // scale, what.width // scale, frames, tokens, past, training)


@dataclass(frozen=True)
class Runner:
    """Everything that the passes of a job share."""

    job: Network
    what: Asked
    pipeline: Pipeline
    plan: Plan
    stack: Stack
    kernels: KernelModel
    links: Links
    dtype: str

    def run(self, stage: Stage) -> Pass:
        """Run one pass of a stage on the engine."""
        denoiser = stage.fields.role == "denoiser"
        plan = self.plan if denoiser else replace(self.plan, cp=1)
        inputs = inputs_of(stage, self.job, self.what, self.pipeline)
        dtype = stage.fields.dtype or self.dtype
        graph, builder = built(stage.config, stage.fields.part, inputs, dtype)
        block, host = self._block(stage.name, graph, plan, dtype)
        count = {"once": 1, "steps": self.what.steps, "tokens": self.what.output}[stage.fields.count]
        count *= self.what.windows * (self.what.guidance if stage.fields.guided == "apart" else 1)
        live = builder.peak / plan.dp / plan.cp
        weights, ideal = graph.weights * builder.width, self._ideal(graph)
        return Pass(stage, block, count * stage.fields.copies, graph, live, weights, host, ideal)

    def _ideal(self, graph: ModelGraph) -> float:
        """Seconds of a graph's products, convolutions and attention at the datasheet peaks of their types."""
        device, seconds = self.kernels.timer.device, 0.0
        for segment in graph.segments:
            for op in segment.operators:
                if isinstance(op, (Matmul, Convolution, Attention)):
                    narrow = isinstance(op, Convolution) and op.dtype == "fp32" and device.engine("tf32") == "tensor"
                    peak = device.datasheet_peak("tf32" if narrow else op.dtype, op.accumulate)
                    seconds += segment.repeat * op.flops / peak
        return seconds

    def _block(self, name: str, graph: ModelGraph, plan: Plan, dtype: str) -> tuple[Block, float]:
        """One pass of one rank, and the host's time of it, s."""
        device = self.kernels.timer.device
        tensor = device.engine("fp16" if dtype == "fp32" else dtype) == "tensor"
        operators = [op for segment in graph.segments for _ in range(segment.repeat) for op in segment.operators]
        lowered = lower(operators, self.stack, tensor, device.engine("tf32") == "tensor")
        host = calls(lowered) * self.stack.launch * cpu_slowdown(self.links.cluster)
        steps = [step for op in lowered for step in sharded(op, plan)]
        return run_block(name, steps, self.kernels, self.links, Launching(code=host)), host


def sharded(op: Operator, plan: Plan) -> Iterator[Step]:
    """What one rank runs of an operator: its share of the batch, and of the tokens of each image."""
    assert not isinstance(op, Communicate)
    part = op.split({"batch": plan.dp})
    if plan.cp == 1:
        yield part
    elif isinstance(part, Attention):
        if part.queries == part.keys:
            yield from context_attention(part, plan)
        else:  # to a text, whose keys every rank makes for itself
            yield replace(part, queries=-(-part.queries // plan.cp))
    else:
        yield split_rows(part, plan.cp)


def timeline(passes: Sequence[Pass]) -> Execution:
    """The stages one after another, on one rank that stands for all; runs of a stage are one span."""
    sim = Simulator()
    stream = sim.add_stream("rank 0/compute")
    blocks = {}
    for i, one in enumerate(passes):
        role = one.stage.fields.role
        label = Activity(one.stage.name, "compute", role, role, one.block.flops * one.count, task=(i, 0))
        blocks[label] = ((one.block, one.count),)
        sim.delay(stream, one.seconds, [], label)
    return Execution(sim.run(), [{"compute": stream}], blocks)


def check_machine(plan: Plan, cluster: Cluster, job: Network, pipeline: Pipeline) -> None:
    """Raise `InputError` (key only) for plans that networks of stages do not have."""
    for key in ("tp", "pp", "ep"):
        if getattr(plan, key) != 1:
            problem = (
                f"{getattr(plan, key)} is not supported for networks of stages; expected 1, with plan.dp or plan.cp"
            )
            raise InputError(problem, key=f"plan.{key}")
    if job.batch % plan.dp:
        raise InputError(f"{plan.dp} replicas do not divide the batch of {job.batch}", key="plan.dp")
    if plan.cp > 1 and not any(stage.fields.role == "denoiser" for stage in pipeline.stages):
        raise InputError(f"'{pipeline.name}' has no denoiser whose tokens ranks could share", key="plan.cp")
    assert cluster.gpu_count
