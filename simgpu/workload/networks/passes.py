"""The passes of a network on one rank: each stage run once on the engine, and how often it comes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simgpu.engine import Simulator
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.model.convolution import Convolution
from simgpu.model.gradients import backward
from simgpu.model.graph import ModelGraph
from simgpu.model.networks.build import Inputs
from simgpu.model.networks.components import built
from simgpu.model.networks.pipeline import Pipeline, Stage
from simgpu.model.operators import BYTES, Attention, Communicate, Dim, Matmul, Operator, Pointwise, split_rows
from simgpu.plan.parallelism import Plan
from simgpu.plan.program import Collective, Step, context_attention
from simgpu.timing.kernels import KernelModel
from simgpu.workload.blocks import BlockCounts, BlockPart, run_block
from simgpu.workload.execution import Activity, Execution
from simgpu.workload.host_code import cpu_slowdown, together
from simgpu.workload.links import Links
from simgpu.workload.networks.job import Network
from simgpu.workload.networks.lowering import calls, lower
from simgpu.workload.networks.stacks import Stack
from simgpu.workload.networks.training import (
    ADAPTER,
    TrainedBytes,
    adapted,
    adapters,
    bytes_of,
    learned,
    reduced,
    trained_graph,
    trained_stage,
    update,
)


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
    """One stage of one rank: blocks of a pass, how often it runs, its graph for all ranks, the memory that it needs.

    The host runs ahead of the GPU within a pass, so that a pass takes about the longer of both.
    """

    stage: Stage
    blocks: BlockCounts
    count: int
    graph: ModelGraph
    activations: float  # B live at once
    weights: float  # B
    host: float  # s of one pass that the host takes
    trained: TrainedBytes | None = None
    ideal: float = 0.0  # s of the FLOPs of one pass, all ranks', at the datasheet peaks of their types on one GPU

    @property
    def busy(self) -> float:
        """Seconds of kernels and exposed collectives of all its runs."""
        return self.count * sum(block.seconds * times for block, times in self.blocks)

    @property
    def seconds(self) -> float:
        """Seconds of all its runs."""
        return self.count * together(self.host, self.busy / self.count)

    @property
    def flops(self) -> float:
        """FLOPs of all its runs, all ranks together."""
        return self.graph.flops * self.count

    def parts(self) -> Iterator[tuple[BlockPart, int]]:
        """Parts of its blocks, and how often each block runs."""
        for block, times in self.blocks:
            for part in block.parts:
                yield part, times * self.count


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
        blocks, host = self._blocks(graph, plan, dtype)
        count = {"once": 1, "steps": self.what.steps, "tokens": self.what.output}[stage.fields.count]
        count *= self.what.windows * (self.what.guidance if stage.fields.guided == "apart" else 1)
        live = builder.peak / plan.dp / plan.cp
        weights, ideal = graph.weights * builder.width, self._ideal(graph)
        return Pass(stage, blocks, count * stage.fields.copies, graph, live, weights, host, ideal=ideal)

    def train(self) -> Pass:
        """One step of training the stage that learns."""
        stage, dp = trained_stage(self.pipeline), self.plan.dp
        graph, builder = built(
            stage.config, stage.fields.part, inputs_of(stage, self.job, self.what, self.pipeline), self.dtype
        )
        lora, frozen = self.job.finetune == "lora", 0
        parameters = graph.weights
        if lora:
            frozen, graph = parameters, adapted(graph, self.job.rank)
            parameters = adapters(graph)
        both = trained_graph(graph, lora)
        forward = self._lowered(graph, self.dtype)
        if lora:  # frozen weights are kept in 16 bits, so that they are not cast
            forward = tuple(op for op in forward if not op.name.endswith("_cast") or ADAPTER in op.name)
        back = learned(backward(tuple(op for op in forward if not op.name.endswith("_cast"))), lora)
        updates = tuple(update(parameters, self.dtype, self.job.optimizer))
        steps = [step for op in forward for step in sharded(op, self.plan)]
        steps += reduced(back, [list(sharded(op, self.plan)) for op in back], dp)
        steps += updates
        launches = calls(forward) * self.stack.launch + calls([*back, *updates]) * self.stack.backward_launch
        host = launches * cpu_slowdown(self.links.cluster)
        block = run_block("step", steps, self.kernels, self.links)
        held = bytes_of(parameters, self.dtype, self.job.optimizer, frozen)
        saved = (builder.saved + builder.peak) / dp
        return Pass(stage, ((block, 1),), 1, both, saved, held.weights, host, held, self._ideal(both))

    def _lowered(self, graph: ModelGraph, dtype: str) -> tuple[Operator, ...]:
        """The kernels of a graph on the GPU."""
        device = self.kernels.timer.device
        tensor = device.engine("fp16" if dtype == "fp32" else dtype) == "tensor"
        operators = [op for segment in graph.segments for _ in range(segment.repeat) for op in segment.operators]
        return lower(operators, self.stack, tensor, device.engine("tf32") == "tensor")

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

    def _blocks(self, graph: ModelGraph, plan: Plan, dtype: str) -> tuple[BlockCounts, float]:
        """The blocks of one pass of one rank, one for each segment, and the host's time of the pass, s."""
        found, launches = [], 0
        for segment in graph.segments:
            lowered = self._lowered(ModelGraph(graph.name, (replace(segment, repeat=1),)), dtype)
            launches += calls(lowered) * segment.repeat
            steps = [step for op in lowered for step in sharded(op, plan)]
            launches += segment.repeat * (len(steps) - len(lowered))
            found.append((run_block(segment.name, steps, self.kernels, self.links), segment.repeat))
        return tuple(found), launches * self.stack.launch * cpu_slowdown(self.links.cluster)


def sharded(op: Operator, plan: Plan) -> Iterator[Step]:
    """What one rank runs of an operator: its share of the batch, and of the tokens of each image."""
    assert not isinstance(op, Communicate)
    part = op.split({"batch": plan.dp})
    if plan.cp == 1:
        yield part
    elif isinstance(part, Attention):
        if part.queries == part.keys:
            yield from _shared(part, plan)
        else:  # to a text, whose keys every rank makes for itself
            yield replace(part, queries=-(-part.queries // plan.cp))
    else:
        yield split_rows(part, plan.cp)


MERGES = ((1, 2), (5, 2), (0.05, 0.05), (0.05, 0.05))
"""Tensors of 16 bits that the merge of a ring's outputs reads and writes: a cast to fp32, the weighted sum, logarithms
of sums of exponentials (zhuzilin/ring-flash-attention, ring_flash_attn/utils.py, _update_out_and_lse, scripted)."""


def _shared(op: Attention, plan: Plan) -> Iterator[Step]:
    """Attention over tokens that ranks share; a ring merges the output of each of its steps.

    What is exchanged by heads is laid out anew before and after (feifeibear/long-context-attention, all_to_all.py).
    """
    seen = 0
    for step in context_attention(op, plan):
        if isinstance(step, Collective) and step.kind == "all_to_all":
            tensors = 3 if step.name.endswith("_heads") else 1
            elements = Dim(round(step.size / BYTES[op.dtype] / tensors))
            copies = [Pointwise("exchange", "elementwise", elements, (Dim(1),), op.dtype)] * tensors
            yield from copies
            yield step
            yield from copies
            continue
        yield step
        if isinstance(step, Attention) and plan.context == "ring":
            seen += 1
            if seen > 1:
                rows = Dim(step.batch.size, step.queries, "batch")
                for reads, writes in MERGES:
                    width = (Dim(step.heads.size * step.v_dim),)
                    yield Pointwise("merge", "elementwise", rows, width, step.dtype, reads, writes)


def timeline(passes: Sequence[Pass]) -> Execution:
    """The stages one after another, on one rank that stands for all; runs of a stage are one span."""
    sim = Simulator()
    stream = sim.add_stream("rank 0/compute")
    blocks = {}
    for i, one in enumerate(passes):
        role = one.stage.fields.role
        label = Activity(one.stage.name, "compute", role, role, task=(i, 0))
        blocks[label] = tuple((block, times * one.count) for block, times in one.blocks)
        sim.delay(stream, one.busy, [], label)
        if waits := max(one.seconds - one.busy, 0.0):
            sim.delay(stream, waits, [], Activity("host", "compute", "host", role))
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
