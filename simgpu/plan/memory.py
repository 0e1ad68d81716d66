"""Memory of one rank in a training step, by part.

Weights, gradients and optimizer states: `simgpu.plan.states`. Activations: `simgpu.plan.activations`, times the
microbatches in flight. Beside them stand buffers of communication, temporary tensors, and what CUDA and NCCL take. The
peak is the larger of two moments: the loss of a microbatch (last stage) and the backward pass of a layer, both with all
activations of the stage.

Microbatches in flight on stage s of p with m microbatches: m (GPipe), min(m, p - s) (1F1B), min(m, p) (ZB-H1; Qi et
al., Zero Bubble Pipeline Parallelism, 2023, section 2.1). Interleaved with v chunks: 2 (p - s - 1) + (v - 1) p + 1
chunks, on the first stage 1 + (p - 1)/(p v) times the layers of the model over p v (Korthikanti et al. 2022, section
4.2.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from simgpu.hardware.cluster import Cluster
from simgpu.memo import remembered
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES, Attention, Communicate, Operator
from simgpu.model.transformer import embedding_operators, head_operators, layer_operators
from simgpu.plan.activations import Saved, Stack, embedding_mask, saved, saved_by_head
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.states import (
    FP8_COPIES,
    Parameters,
    gradients_away,
    keeps_fp8,
    keeps_gathered,
    kinds_of_stage,
    parameters_of,
    states_of,
)

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
        node = cluster.node
        sizes = [(socket.memory_capacity, socket.count) for socket in node.sockets]
        known = [size.si * count for size, count in sizes if size is not None]
        drives = node.nvme.capacity if node.nvme is not None else None
        host = sum(known) if len(known) == len(sizes) else None
        return Room(cluster.gpus_per_node, host, drives.si if drives is not None else None)


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank of a pipeline stage at its peak.

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
    allocator
        What PyTorch's allocator holds of the GPU over all but the reserve.
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

    @property
    def total(self) -> float:
        return float(sum(getattr(self, part) for part in PARTS))

    @property
    def allocated(self) -> float:
        """Without what CUDA and NCCL take, and without buffers that only stay in the pools of other streams:
        torch.cuda.max_memory_allocated."""
        return self.total - self.reserve - self.pools

    @property
    def held(self) -> float:
        """Bytes that PyTorch's allocator holds (torch.cuda.max_memory_reserved)."""
        return (self.total - self.reserve) * self.allocator

    @property
    def shown(self) -> float:
        """Bytes that nvidia-smi shows: what the allocator holds, with its gaps, plus CUDA and NCCL. Before a GPU is
        full the allocator gives back what it does not use."""
        shown = self.held + self.reserve
        return shown if self.capacity is None else max(min(shown, self.capacity), self.total)

    @property
    def fits(self) -> bool:
        """On the GPU, in host memory and on the drives, as far as they are known."""
        return self.short_by == 0 and not self.full

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
        """Fields, and the total."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"total": self.total}


def memory_of(
    config: TransformerConfig,
    plan: Plan,
    numerics: Numerics,
    stack: Stack,
    batch: int,
    tokens: int,
    stage: int = 0,
    capacity: float | None = None,
    room: Room | None = None,
) -> Memory:
    """Memory of a rank of `stage` at its peak, training on `batch` sequences of `tokens` tokens in all.

    stack: what the framework keeps. capacity: bytes of the GPU. room: off it.
    """
    run = _Run(config, plan, numerics, stack, batch, tokens, stage)
    found = parameters_of(config, plan, numerics, stage)
    states = states_of(found, plan, numerics, stack)
    layers = run.layers()
    buffers = run.communication(layers, found)
    return Memory(
        weights=states.weights,
        gradients=states.gradients,
        optimizer=states.optimizer,
        activations=run.activations(layers),
        communication=sum(buffers.values()),
        temporary=run.temporary(layers, found),
        reserve=CONTEXT_BYTES + _communicators(plan),
        stage=stage,
        host=states.host,
        capacity=capacity,
        nvme=states.nvme,
        host_capacity=None if room is None else room.share(room.host, plan.world),
        nvme_capacity=None if room is None else room.share(room.nvme, plan.world),
        allocator=stack.reserved,
        pools=buffers.get("gathering", 0.0),
    )


def memory_per_stage(
    config: TransformerConfig,
    plan: Plan,
    numerics: Numerics,
    stack: Stack,
    batch: int,
    tokens: int,
    capacity: float | None = None,
    room: Room | None = None,
) -> tuple[Memory, ...]:
    """Memory of a rank of every pipeline stage."""
    return tuple(
        memory_of(config, plan, numerics, stack, batch, tokens, stage, capacity, room) for stage in range(plan.pp)
    )


def peak(stages: Sequence[Memory]) -> Memory:
    """The stage that needs most; one whose host or drives are too small before those that fit."""
    return max(stages, key=lambda memory: (bool(memory.full) and not memory.short_by, memory.total))


def fullest(
    config: TransformerConfig,
    plan: Plan,
    numerics: Numerics,
    stack: Stack,
    batch: int,
    tokens: int,
    capacity: float | None = None,
    room: Room | None = None,
) -> Memory:
    """`peak` of `memory_per_stage`, from the stages that it can be: of those that hold alike layers, and neither ends
    or the same, the first, since no later one has more microbatches in flight."""
    alike: dict[tuple[Any, ...], int] = {}
    for stage in range(plan.pp):
        alike.setdefault((*kinds_of_stage(config, plan, stage), stage == 0, stage == plan.pp - 1), stage)
    return peak(
        [memory_of(config, plan, numerics, stack, batch, tokens, stage, capacity, room) for stage in alike.values()]
    )


def layer_activations(
    config: TransformerConfig,
    plan: Plan,
    numerics: Numerics,
    stack: Stack,
    batch: int,
    tokens: int,
    stage: int = 0,
) -> float:
    """Activations of the layers of a stage alone, without embedding and head, of all microbatches in flight, bytes."""
    run = _Run(config, plan, numerics, stack, batch, tokens, stage)
    return run.of_layers(run.layers())


def in_flight(plan: Plan, microbatches: int, stage: int) -> int:
    """(Chunk, microbatch) pairs whose activations a stage holds at most. ZB-H1: an upper bound."""
    match plan.pipeline:
        case "gpipe":
            return microbatches * plan.vp
        case "interleaved":
            return min(microbatches * plan.vp, 2 * (plan.pp - stage - 1) + (plan.vp - 1) * plan.pp + 1)
        case "zb-h1":
            return min(microbatches, plan.pp)
    return min(microbatches, plan.pp - stage)


@remembered(4096)
def _microbatch(
    config: TransformerConfig, plan: Plan, numerics: Numerics, stack: Stack, sequences: int, tokens: int
) -> _Microbatch:
    return _Microbatch(config, plan, numerics, stack, sequences, tokens)


@dataclass(frozen=True)
class _Microbatch:
    """What `sequences` of `tokens` tokens on one rank need in layers, embedding and head. Plans share it that agree
    within a layer."""

    config: TransformerConfig
    plan: Plan
    numerics: Numerics
    stack: Stack
    sequences: int
    tokens: int

    def operators(self, kind: str) -> tuple[Operator, ...]:
        """The operators of a layer, of the embedding or of the head."""
        dtype, size = self.numerics.dtype, (self.sequences, self.tokens)
        if kind == "embedding":
            return embedding_operators(self.config, *size, dtype)
        if kind == "head":
            return head_operators(self.config, *size, dtype, "fp32")
        return layer_operators(self.config, kind, *size, dtype, "fp32", flash=self.numerics.flash)

    def layer(self, kind: str) -> tuple[Saved, Saved]:
        """Tensors that a kind of layer keeps, with the plan's recomputation and without."""
        if kind not in self._layers:
            operators, plain = self.operators(kind), replace(self.plan, recompute="none")
            self._layers[kind] = (
                saved(operators, self.plan, self.numerics, self.stack),
                saved(operators, plain, self.numerics, self.stack),
            )
        return self._layers[kind]

    @cached_property
    def _layers(self) -> dict[str, tuple[Saved, Saved]]:
        return {}

    @cached_property
    def mask(self) -> float:
        """Bytes that the embedding keeps."""
        return embedding_mask(self.operators("embedding"), self.plan, self.stack)

    @cached_property
    def head(self) -> float:
        """Bytes that the head keeps, but for the loss."""
        return saved_by_head(self.operators("head"), self.plan, self.numerics, self.stack)

    @cached_property
    def logits(self) -> float:
        """Elements: the loss is computed where the vocabulary is split."""
        parts = (op for op in self.operators("head") if op.name == "loss" and not isinstance(op, Communicate))
        return float(sum(getattr(op.split(self.plan.ways), "elements", 0) for op in parts))

    def cache(self, kind: str) -> float:
        """Keys and values of a layer, bytes."""
        parts = (op.split(self.plan.ways) for op in self.operators(kind) if isinstance(op, Attention))
        rows = ((part, part.head_dim + (part.v_head_dim or part.head_dim)) for part in parts)
        width = BYTES["bf16" if self.numerics.dtype == "fp8" else self.numerics.dtype]
        return sum(part.batch.size * part.keys * part.kv_heads.size * both * width for part, both in rows)

    def context(self, kind: str) -> float:
        """Keys and values of a ring, bytes: those at work and those that arrive, in backward with their gradients; or
        those of the whole sequence, and their gradients."""
        parts = (op.split(self.plan.ways) for op in self.operators(kind) if isinstance(op, Attention))
        rows = sum(part.batch.size * part.keys * part.kv_heads.size * 2 * part.head_dim for part in parts)
        width = BYTES[self.numerics.weights]
        return rows * width * (4 if self.plan.context == "ring" else 2 * self.plan.cp)


@dataclass(frozen=True)
class _Run:
    """One stage of a step, and the sizes that its parts share."""

    config: TransformerConfig
    plan: Plan
    numerics: Numerics
    stack: Stack
    batch: int
    tokens: int
    stage: int

    @property
    def sequences(self) -> int:
        """Sequences of one microbatch on one rank."""
        return self.plan.micro_batch or max(self.batch // self.plan.dp, 1)

    @property
    def rank_tokens(self) -> int:
        """Tokens of one sequence on one rank."""
        return -(-self.tokens // self.plan.cp)

    @property
    def microbatches(self) -> int:
        return max(self.batch // (self.plan.dp * self.sequences), 1)

    @cached_property
    def kinds(self) -> list[str]:
        """The kinds of the stage's layers."""
        return kinds_of_stage(self.config, self.plan, self.stage)

    @property
    def last(self) -> bool:
        return self.stage == self.plan.pp - 1

    @property
    def flying(self) -> float:
        """Microbatches of all the stage's layers that are held at once."""
        return in_flight(self.plan, self.microbatches, self.stage) / self.plan.vp

    @cached_property
    def microbatch(self) -> _Microbatch:
        """Memory of one microbatch on this rank, whatever the stage."""
        size = (self.sequences, self.rank_tokens)
        return _microbatch(self.config, self.plan.within_layer(), self.numerics, self.stack, *size)

    def layers(self) -> list[tuple[Saved, Saved]]:
        """Tensors that each layer of the stage keeps, with the plan's recomputation and without."""
        return [self.microbatch.layer(kind) for kind in self.kinds]

    def of_layers(self, layers: Sequence[tuple[Saved, Saved]]) -> float:
        """Bytes kept for all microbatches in flight. `recompute_layers` layers are recomputed in full, others not."""
        again = len(layers)
        if self.plan.recompute == "full" and self.plan.recompute_layers is not None:
            again = min(self.plan.recompute_layers, again)
        return self.flying * sum(layer[0 if i < again else 1].stored for i, layer in enumerate(layers))

    def activations(self, layers: Sequence[tuple[Saved, Saved]]) -> float:
        """Bytes of activations of layers, embedding and head."""
        total = self.of_layers(layers)
        if self.numerics.use_cache and self.plan.recompute != "none":  # else it is kept for attention already
            total += self.flying * sum(self.microbatch.cache(kind) for kind in self.kinds)
        if self.stage == 0:
            total += self.flying * self.microbatch.mask
        if self.last:
            head = self.microbatch.head
            # backward follows each loss at once, but with GPipe; ZB-H1 keeps what weight gradients need
            waiting = self.flying - 1 if self.plan.pipeline in ("gpipe", "zb-h1") and self.plan.pp > 1 else 0
            whole_loss = self.plan.pipeline == "gpipe" and self.numerics.loss_chunks == 1
            probabilities = BYTES["fp32"] * self.logits if whole_loss else 0.0  # chunks have run backward already
            total += head + waiting * (head + probabilities)
        return total

    @property
    def logits(self) -> float:
        return self.microbatch.logits

    def communication(self, layers: Sequence[tuple[Saved, Saved]], found: Parameters) -> dict[str, float]:
        """Bytes of each kind of buffer."""
        plan, stack = self.plan, self.stack
        wide = max((layer.wide for layer, _ in layers), default=0.0)
        buffers = {"context": self.microbatch.context(self.kinds[0])} if plan.cp > 1 else {}
        kept = keeps_gathered(plan)
        if (plan.zero == 3 or kept) and (plan.shards > 1 or plan.weights_away):
            ends = self.numerics.stored_bytes(found.ends, 0)
            layer = self.numerics.stored_bytes(found.largest, found.largest_matrices)
            two = min(2, len(layers)) * layer
            if not kept:  # the ends, the layer at work and the next
                buffers["gathered weights"] = ends + two
                if stack.live_weights:  # as many as may stay
                    every = self.numerics.stored_bytes(found.total + found.adapters, found.matrices)
                    share = min(stack.live_weights / (found.total + found.adapters), 1.0)
                    buffers["gathered weights"] = max(every * share, layer)
                if keeps_fp8(self.numerics, stack):  # of the matrix at work
                    buffers["gathered fp8 weights"] = FP8_COPIES * BYTES["fp8"] * found.widest
            if (
                stack.stream_pools
            ):  # what the last gather filled is freed after the next (FSDPParamGroup.wait_for_unshard)
                buffers["gathering"] = max(ends + layer, two)
        if plan.zero == 0 and plan.dp * plan.cp > 1 and stack.bucket_copy:
            trained = found.total if self.numerics.finetune == "full" else found.adapters
            buffers["buckets"] = trained * self.numerics.gradient_bytes
        if plan.sequence_parallel and plan.tp > 1 and stack.regathers:
            buffers["gathered rows"] = wide
        if plan.pp > 1:
            boundary = wide / (plan.tp if plan.sequence_parallel else 1)
            neighbours = (self.stage > 0 or plan.vp > 1) + (not self.last or plan.vp > 1)
            each = self.microbatches * plan.vp if stack.stage_buffers else 2
            outputs = 0 if self.last or not stack.stage_buffers else self.flying * plan.vp
            buffers["pipeline"] = boundary * (neighbours * each + outputs)
        return buffers

    def temporary(self, layers: Sequence[tuple[Saved, Saved]], found: Parameters) -> float:
        """The larger of the loss and the backward pass of a layer."""
        plan, numerics = self.plan, self.numerics
        working = max((layer.working for layer, _ in layers), default=0.0)
        away = gradients_away(plan, self.stack)
        sharded = numerics.finetune == "full" and plan.zero >= 2 and (plan.shards > 1 or away)
        if sharded and self.stack.reduce_bucket:
            working += min(self.stack.reduce_bucket, found.total) * BYTES[numerics.reduce]
        elif sharded:
            # gradients of a layer as they are made and as they are reduced; those of the head wait for the embedding's
            working += found.largest * (BYTES[numerics.weights] + BYTES[numerics.reduce])
            working += found.ends / 2 * BYTES[numerics.weights] if not keeps_gathered(plan) else 0.0
        if numerics.finetune == "qlora":  # one matrix at a time in the dtype of the multiplication (bitsandbytes)
            working += found.widest * BYTES[numerics.weights]
        if not self.last:
            return working
        wide = max((layer.wide for layer, _ in layers), default=0.0)
        return max(working, self._loss(found, wide)) + self._outputs(wide)

    def _loss(self, found: Parameters, wide: float) -> float:
        """Bytes at the peak of the loss of a microbatch. Where the head runs in chunks, each with its backward, the
        logits of one are alive, beside the gradients of the head's input and of its weights."""
        plan, numerics = self.plan, self.numerics
        logits = self.logits * self.stack.logit_bytes / numerics.loss_chunks
        if numerics.loss_chunks == 1:
            return logits
        sharded = plan.zero >= 2 and plan.shards > 1 and not keeps_gathered(plan)  # else it stands in the gradients
        weights = found.ends / 2 * BYTES[numerics.weights] if numerics.finetune == "full" and sharded else 0.0
        return logits + wide + weights

    def _outputs(self, wide: float) -> float:
        """Outputs of the last stage of all microbatches, which are merged at the end of a step: logits, or the input of
        a head that runs with the loss."""
        if self.plan.pp == 1 or not self.stack.stage_buffers:
            return 0.0
        logits = self.logits * BYTES[self.numerics.weights]
        return self.microbatches * (logits if self.numerics.loss_chunks == 1 else wide)


def _communicators(plan: Plan) -> float:
    """Buffers of the process groups that have more than one rank."""
    sizes = [plan.tp, plan.cp, plan.pp, plan.dp * plan.cp, plan.ep]
    if plan.zero and plan.shards not in (1, plan.dp * plan.cp):
        sizes += [plan.shards]
    return sum(COMMUNICATOR_BYTES if size > 2 else PAIR_BYTES for size in sizes if size > 1)
