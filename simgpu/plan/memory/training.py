"""Memory of one rank in a training step: the events of a stage, what is in memory at each, and the largest.

Weights, gradients and optimizer states: `simgpu.plan.states`; what a layer keeps and what its backward has at work:
`simgpu.plan.activations`. All of a stage's memory is static + waiting microbatches + a walk over one more:

    loss                 kept of all layers and the head; logits, their fp32 forms and gradient
    head backward        the same; gradient of the logits, gathered rows and their gradient, weight gradient or a dummy
    layer backward       kept of the layers up to this one; gradient of the residual stream, and what the layer rebuilds
                         and has at work
    embedding backward   a dense gradient of the table (first stage)
    update               gradients and states; temporary tensors of the optimizer

Forward of a layer never has more than its backward. Where gradients are freed by each update (`Stack.late_gradients`)
and a step has one microbatch, they come to be as backward goes on.

Microbatches in flight on stage s of p with m microbatches: m (GPipe), min(m, p - s) (1F1B), min(m, p) (ZB-H1; Qi et
al., Zero Bubble Pipeline Parallelism, 2023, section 2.1). Interleaved with v chunks: 2 (p - s - 1) + (v - 1) p + 1
chunks, on the first stage 1 + (p - 1)/(p v) times the layers of the model over p v (Korthikanti et al. 2022, section
4.2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from simgpu.memo import remembered
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES, Attention, Communicate, Operator
from simgpu.model.transformer import embedding_operators, head_operators, layer_operators
from simgpu.plan.activations import Saved, embedding_mask, saved, saved_by_head
from simgpu.plan.memory.ledger import COMMUNICATOR_BYTES, CONTEXT_BYTES, PAIR_BYTES, Memory, Room, peak
from simgpu.plan.memory.verdict import LOADS_CENTRE, LOADS_SPREAD
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.stack import Stack
from simgpu.plan.stages import layer_ranges
from simgpu.plan.states import (
    FP8_COPIES,
    Parameters,
    States,
    gradients_away,
    keeps_fp8,
    keeps_gathered,
    kinds_of_stage,
    parameters_of,
    states_of,
)

Bytes = tuple[tuple[str, float], ...]
"""Tensors by name."""


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
    run = _Run(config, plan, numerics, stack.of(numerics), batch, tokens, stage)
    return run.at(max(run.events(), key=lambda event: event.total), capacity, room)


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
    run = _Run(config, plan, numerics, stack.of(numerics), batch, tokens, stage)
    return run.flying * run.kept


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
            operators, plain = self.operators(kind), replace(self.plan, recompute="none", recompute_modules=None)
            again = saved(operators, self.plan, self.numerics, self.stack)
            whole = again if self.plan.recompute == "none" else saved(operators, plain, self.numerics, self.stack)
            self._layers[kind] = again, whole
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
        those of the whole sequence, and their gradients; or what goes from parts of the sequence to heads."""
        parts = [op.split(self.plan.ways) for op in self.operators(kind) if isinstance(op, Attention)]
        width = BYTES[self.numerics.weights]
        if self.plan.context == "all_to_all":
            wide = sum(
                p.batch.size * (p.queries * p.heads.size + p.keys * p.kv_heads.size) * 2 * p.head_dim for p in parts
            )
            return wide * width
        rows = sum(part.batch.size * part.keys * part.kv_heads.size * 2 * part.head_dim for part in parts)
        return rows * width * (4 if self.plan.context == "ring" else 2 * self.plan.cp)


@dataclass(frozen=True)
class _Event:
    """A moment of a step: bytes that microbatches have kept, those of buffers and of tensors at work by name, and the
    share of the gradients that is there."""

    name: str
    activations: float
    buffers: Bytes
    temporary: Bytes
    gradients: float  # bytes

    @property
    def total(self) -> float:
        """Bytes beside weights and states, which all events have."""
        return (
            self.activations
            + self.gradients
            + sum(size for _, size in self.buffers)
            + sum(size for _, size in self.temporary)
        )


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

    # ---- sizes ---------------------------------------------------------------------------------------

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
    def last(self) -> bool:
        return self.stage == self.plan.pp - 1

    @cached_property
    def flying(self) -> float:
        """Microbatches of all the stage's layers that are held at once."""
        return in_flight(self.plan, self.microbatches, self.stage) / self.plan.vp

    @cached_property
    def microbatch(self) -> _Microbatch:
        """Memory of one microbatch on this rank, whatever the stage."""
        size = (self.sequences, self.rank_tokens)
        return _microbatch(self.config, self.plan.within_layer(), self.numerics, self.stack, *size)

    @cached_property
    def layers(self) -> list[Saved]:
        """What each layer of the stage keeps: `recompute_layers` layers are recomputed in full, others not."""
        pairs = [self.microbatch.layer(kind) for kind in kinds_of_stage(self.config, self.plan, self.stage)]
        if self.plan.recompute != "full" or self.plan.recompute_layers is None:
            return [pair[0] for pair in pairs]
        return [pair[0 if i < self.plan.recompute_layers else 1] for i, pair in enumerate(pairs)]

    @cached_property
    def chunk(self) -> list[Saved]:
        """The layers of the last chunk, whose backward runs with most chunks in flight."""
        size = len(layer_ranges(self.config.layers, self.plan)[self.stage][-1])
        return self.layers[len(self.layers) - size :]

    @cached_property
    def kept(self) -> float:
        """Bytes that all layers of the stage keep of a microbatch."""
        return sum(layer.stored for layer in self.layers)

    @cached_property
    def wide(self) -> float:
        """Bytes of whole rows of the hidden width."""
        return max((layer.wide for layer in self.layers), default=0.0)

    @property
    def boundary(self) -> float:
        """Bytes that a rank sends to the next stage."""
        return self.wide / (self.plan.tp if self.plan.sequence_parallel else 1)

    @cached_property
    def found(self) -> Parameters:
        return parameters_of(self.config, self.plan, self.numerics, self.stage)

    @cached_property
    def states(self) -> States:
        return states_of(self.found, self.plan, self.numerics, self.stack)

    @property
    def full(self) -> bool:
        return self.numerics.finetune == "full"

    # ---- what is kept --------------------------------------------------------------------------------

    @cached_property
    def waiting(self) -> float:
        """Bytes that microbatches in flight have kept but for the chunk that runs backward."""
        beside = 0.0
        if self.numerics.use_cache and self.plan.recompute != "none":  # else it is kept for attention already
            beside += sum(self.microbatch.cache(kind) for kind in kinds_of_stage(self.config, self.plan, self.stage))
        if self.stage == 0:
            beside += self.microbatch.mask
        return self.flying * (self.kept + beside) - self.running

    @cached_property
    def running(self) -> float:
        """Bytes that the layers of the last chunk keep of a microbatch."""
        return sum(layer.stored for layer in self.chunk)

    @cached_property
    def heads(self) -> float:
        """Bytes that the head keeps of microbatches: backward follows each loss at once, but with GPipe, and ZB-H1
        keeps what weight gradients need."""
        if not self.last:
            return 0.0
        head = self.microbatch.head
        waiting = self.flying - 1 if self.plan.pipeline in ("gpipe", "zb-h1") and self.plan.pp > 1 else 0
        whole_loss = self.plan.pipeline == "gpipe" and self.numerics.loss_chunks == 1
        probabilities = BYTES["fp32"] * self.microbatch.logits if whole_loss else 0.0  # chunks have run backward
        return head + waiting * (head + probabilities)

    # ---- buffers -------------------------------------------------------------------------------------

    @cached_property
    def gathered(self) -> Bytes:
        """Gathered weights, and buffers that gathers fill."""
        plan, stack, found = self.plan, self.stack, self.found
        kept = keeps_gathered(plan)
        if not ((plan.zero == 3 or kept) and (plan.shards > 1 or plan.weights_away)):
            return ()
        buffers: list[tuple[str, float]] = []
        ends = self.numerics.stored_bytes(found.ends, 0)
        layer = self.numerics.stored_bytes(found.largest, found.largest_matrices)
        two = min(2, len(self.layers)) * layer
        if not kept:  # the ends, the layer at work and the next
            weights = ends + two
            if stack.live_weights:  # as many as may stay
                every = self.numerics.stored_bytes(found.total + found.adapters, found.matrices)
                share = min(stack.live_weights / (found.total + found.adapters), 1.0)
                weights = max(every * share, layer)
            buffers.append(("gathered weights", weights))
            if keeps_fp8(self.numerics, stack):  # of the matrix at work
                buffers.append(("gathered fp8 weights", FP8_COPIES * BYTES["fp8"] * found.widest))
        if stack.stream_pools:  # what the last gather filled is freed after the next (FSDPParamGroup.wait_for_unshard)
            buffers.append(("gathering", max(ends + layer, two)))
        return tuple(buffers)

    @cached_property
    def buffers(self) -> Bytes:
        """Buffers that stand all through a step, by name."""
        plan, stack = self.plan, self.stack
        found = list(self.gathered)
        if plan.zero == 0 and plan.dp * plan.cp > 1 and stack.bucket_copy:
            trained = self.found.total if self.full else self.found.adapters
            found.append(("buckets", trained * self.numerics.gradient_bytes))
        if plan.pp > 1:
            if stack.stage_buffers:
                neighbours = (self.stage > 0 or plan.vp > 1) + (not self.last or plan.vp > 1)
                outputs = 0 if self.last else self.flying * plan.vp
                found.append(("pipeline", self.boundary * (neighbours * self.microbatches * plan.vp + outputs)))
            elif plan.vp > 1:  # sent and received beside compute (forward_backward_pipelining_with_interleaving)
                found.append(("pipeline", 2 * self.boundary))
        return tuple(found)

    @cached_property
    def static(self) -> Bytes:
        """Tensors of multiplications that stay all through a step, by name."""
        found = [("workspaces", self.stack.workspace_bytes)]
        if self.stack.dummy_gradients and self.full:
            shapes = frozenset[tuple[int, int]]().union(*(layer.weights for layer in set(self.layers)))
            size = BYTES[self.numerics.weights] * sum(k * n for k, n in shapes)
            found.append(("dummy weight gradients", size))
        return tuple(found)

    # ---- events --------------------------------------------------------------------------------------

    @cached_property
    def late(self) -> bool:
        """Whether gradients come to be as the only backward of a step goes on."""
        return self.stack.late_gradients and self.microbatches == 1

    def event(self, name: str, activations: float, temporary: Bytes, done: float, buffers: Bytes = ()) -> _Event:
        """A moment at which `done` of the parameters of the rank have gradients."""
        share = min(done / self.found.total, 1.0) if self.late and self.found.total else 1.0
        gradients = self.states.gradients * share
        return _Event(name, activations, (*self.buffers, *buffers), (*self.static, *temporary), gradients)

    def events(self) -> Iterator[_Event]:
        """The moments of a step that can be its peak."""
        above = 0.0
        if self.last:
            kept = self.waiting + self.running + self.heads
            yield self.event("loss", kept, (*self._loss(), *self._outputs()), 0.0)
            if self.numerics.loss_chunks == 1:
                yield self.event("head backward", kept, (*self._head_backward(), *self._outputs()), 0.0)
            above = self.found.ends / (2 if self.stage == 0 else 1)
        yield from self._layer_events(above)
        if self.full and self.stage == 0:
            table = BYTES[self.numerics.weights] * self.found.ends / (2 if self.last else 1)
            kept = self.waiting if self.flying > 1 else 0.0
            yield self.event("embedding backward", kept, (("gradient of the embedding", table),), self.found.total)
        if self.stack.update_bytes and self.plan.offload == "none" and self.numerics.state_bytes:
            each = self.numerics.state_bytes / self.states.optimizer if self.states.optimizer else 0.0
            size = self.stack.update_bytes / each if each else 0.0
            yield self.event("update", 0.0, (("update", size),), self.found.total)

    def _layer_events(self, above: float) -> Iterator[_Event]:
        """Backward of the layers of the last chunk, of each kind the last, which has most below it, and the first,
        which has most gradients above it."""
        working = self._beside_layers()
        buffers = self._context()
        kept = self.waiting + self.running
        size, count = self.found.layers + self.found.experts, max(len(self.layers), 1)
        outputs = self._outputs() if self.last else ()
        latest: Saved | None = None
        chunk = self.chunk
        for i in range(len(chunk) - 1, -1, -1):
            layer = chunk[i]
            if layer is not latest or i == 0:
                tensors = (("layer backward", layer.working), *working, *outputs)
                yield self.event("layer backward", kept, tensors, above + size * (len(chunk) - 1 - i) / count, buffers)
            latest = layer
            kept -= layer.stored

    def _context(self) -> Bytes:
        """Buffers of context parallelism while a layer runs."""
        kinds = kinds_of_stage(self.config, self.plan, self.stage)
        return (("context", self.microbatch.context(kinds[0])),) if self.plan.cp > 1 and kinds else ()

    def _beside_layers(self) -> Bytes:
        """What backward of any layer has beside its activations and their gradients, by name."""
        plan, numerics, found = self.plan, self.numerics, self.found
        tensors: list[tuple[str, float]] = []
        away = gradients_away(plan, self.stack)
        sharded = self.full and plan.zero >= 2 and (plan.shards > 1 or away)
        if sharded and self.stack.reduce_bucket:
            bucket = min(self.stack.reduce_bucket, found.total) * BYTES[numerics.reduce]
            tensors.append(("reduce bucket", bucket))
        elif sharded:
            # gradients of a layer as they are made and as they are reduced; those of the head wait for the embedding's
            size = found.largest * (BYTES[numerics.weights] + BYTES[numerics.reduce])
            size += found.ends / 2 * BYTES[numerics.weights] if not keeps_gathered(plan) else 0.0
            tensors.append(("gradients to reduce", size))
        if numerics.finetune == "qlora":  # one matrix at a time in the dtype of the multiplication (bitsandbytes)
            tensors.append(("unpacked matrix", found.widest * BYTES[numerics.weights]))
        return tuple(tensors)

    def _loss(self) -> Bytes:
        """Tensors at the peak of the loss of a microbatch. Where the head runs in chunks, each with its backward, the
        logits of one are alive, beside the gradients of the head's input and of its weights."""
        plan, numerics = self.plan, self.numerics
        logits = ("logits and loss", self.microbatch.logits * self.stack.loss_bytes / numerics.loss_chunks)
        if numerics.loss_chunks == 1:
            return (logits,)
        sharded = plan.zero >= 2 and plan.shards > 1 and not keeps_gathered(plan)  # else it stands in the gradients
        weights = self._head_weights() if sharded else 0.0
        return logits, ("gradient of the head's input", self.wide), ("gradient of the head's weights", weights)

    def _head_weights(self) -> float:
        """Bytes of a gradient of the head's weights, or of a dummy in its place."""
        elements = self.config.vocab * self.config.hidden / self.plan.tp
        return elements * BYTES[self.numerics.weights] if self.full else 0.0

    def _head_backward(self) -> Bytes:
        """Tensors of the backward of the head: gradients of the logits, of its input and of its weights (or a dummy,
        Megatron-LM, tensor_parallel/layers.py); with sequence parallelism the gathered input."""
        logits = self.microbatch.logits * BYTES["bf16" if self.numerics.dtype == "fp8" else self.numerics.dtype]
        slices = self.plan.tp if self.plan.sequence_parallel else 1
        rows = self.wide * (1 + (self.stack.regathers + 1 / slices if slices > 1 else 0.0))
        weights = self._head_weights()
        return ("gradient of the logits", logits), ("rows of the head", rows), ("gradient of the head", weights)

    def _outputs(self) -> Bytes:
        """Outputs of the last stage of all microbatches, which are merged at the end of a step: logits, or the input of
        a head that runs with the loss."""
        if self.plan.pp == 1 or not self.stack.stage_buffers:
            return ()
        logits = self.microbatch.logits * BYTES[self.numerics.weights]
        each = logits if self.numerics.loss_chunks == 1 else self.wide
        return (("outputs of the stage", self.microbatches * each),)

    def at(self, event: _Event, capacity: float | None, room: Room | None) -> Memory:
        """The memory of the stage at a moment. Where streams have pools of their own, gradients that are not there at
        that moment have their place in one all the same."""
        plan, stack, states = self.plan, self.stack, self.states
        pools = sum(size for name, size in event.buffers if name == "gathering")
        gradients = event.gradients
        if stack.stream_pools:
            gradients = states.gradients
            pools += gradients - event.gradients
        routed = self.config.experts > 1
        return Memory(
            weights=states.weights,
            gradients=gradients,
            optimizer=states.optimizer,
            activations=event.activations,
            communication=sum(size for _, size in event.buffers),
            temporary=sum(size for _, size in event.temporary),
            reserve=CONTEXT_BYTES + _communicators(plan),
            stage=self.stage,
            host=states.host,
            capacity=capacity,
            nvme=states.nvme,
            host_capacity=None if room is None else room.share(room.host, plan.world),
            nvme_capacity=None if room is None else room.share(room.nvme, plan.world),
            allocator=stack.reserved,
            pools=pools,
            allocator_spread=stack.reserved_spread,
            centre=stack.centre + (LOADS_CENTRE if routed else 0.0),
            spread=(stack.spread**2 + (LOADS_SPREAD**2 if routed else 0.0)) ** 0.5,
            event=event.name,
            ledger=tuple((name, size) for name, size in (*event.buffers, *event.temporary) if size),
        )


def _communicators(plan: Plan) -> float:
    """Buffers of the process groups that have more than one rank."""
    sizes = [plan.tp, plan.cp, plan.pp, plan.dp * plan.cp, plan.ep]
    if plan.zero and plan.shards not in (1, plan.dp * plan.cp):
        sizes += [plan.shards]
    return sum(COMMUNICATOR_BYTES if size > 2 else PAIR_BYTES for size in sizes if size > 1)
