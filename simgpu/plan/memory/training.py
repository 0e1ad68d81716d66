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
from dataclasses import dataclass
from math import hypot
from typing import Any, NamedTuple

from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES
from simgpu.plan.memory.ledger import COMMUNICATOR_BYTES, CONTEXT_BYTES, PAIR_BYTES, Memory, Room, peak
from simgpu.plan.memory.verdict import ADAPTERS_SPREAD, LOADS_CENTRE, LOADS_SPREAD
from simgpu.plan.memory.walk import Microbatch, Walk, microbatch_of
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.stack import Stack
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

GATHERING = "gathering"
"""Buffers of a stream of gathers, which are free at the peak."""


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
    """Memory of a rank of every pipeline stage at its peak, training on `batch` sequences of `tokens` tokens in all.

    stack: what the framework keeps. capacity: bytes of the GPU. room: off it.
    """
    stages = (_Run.of(config, plan, numerics, stack, batch, tokens, stage) for stage in range(plan.pp))
    return tuple(stage.peak(capacity, room) for stage in stages)


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
    """The `peak` of `memory_per_stage`, from the stages that it can be.

    Of stages that hold alike layers, and neither ends or the same, that is the first, since no later one has more
    microbatches in flight.
    """
    alike: dict[tuple[Any, ...], int] = {}
    for stage in range(plan.pp):
        alike.setdefault((*kinds_of_stage(config, plan, stage), stage == 0, stage == plan.last_stage), stage)
    stages = (_Run.of(config, plan, numerics, stack, batch, tokens, stage) for stage in alike.values())
    return peak([stage.peak(capacity, room) for stage in stages])


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
    run = _Run.of(config, plan, numerics, stack, batch, tokens, stage)
    return run.flying * run.walk.kept


def in_flight(plan: Plan, microbatches: int, stage: int) -> int:
    """(Chunk, microbatch) pairs whose activations a stage holds at most. ZB-H1, ZB-V: an upper bound."""
    match plan.pipeline:
        case "gpipe":
            return microbatches * plan.vp
        case "interleaved":
            return min(microbatches * plan.vp, 2 * (plan.pp - stage - 1) + (plan.vp - 1) * plan.pp + 1)
        case "zb-h1" | "zb-v":
            return plan.vp * min(microbatches, plan.pp)
        case "dualpipe-v":
            return 2 * plan.pp + 1 if plan.pp > 1 else 1
    return min(microbatches, plan.pp - stage)


class _Event(NamedTuple):
    """A moment of a step, by the bytes in memory beside weights and states.

    These are what microbatches have kept, the gradients that are there, and buffers and tensors at work by name.
    """

    total: float
    name: str
    activations: float
    gradients: float
    buffers: Bytes
    temporary: Bytes


def _sum(tensors: Bytes) -> float:
    total = 0.0
    for _, size in tensors:
        total += size
    return total


@dataclass(frozen=True)
class _Run:
    """One stage of a step, and the sizes that its parts share.

    `flying`: microbatches of all the stage's layers that are held at once.
    """

    config: TransformerConfig
    plan: Plan
    numerics: Numerics
    stack: Stack
    stage: int
    microbatches: int
    microbatch: Microbatch
    walk: Walk
    found: Parameters
    states: States
    flying: float
    last: bool

    @staticmethod
    def of(
        config: TransformerConfig, plan: Plan, numerics: Numerics, stack: Stack, batch: int, tokens: int, stage: int
    ) -> _Run:
        """Stage `stage` of a step on `batch` sequences of `tokens` tokens."""
        stack = stack.of(numerics)
        sequences = plan.micro_batch or max(batch // plan.dp, 1)
        microbatches = max(batch // (plan.dp * sequences), 1)
        microbatch = microbatch_of(config, plan.within_layer(), numerics, stack, sequences, -(-tokens // plan.cp))
        found = parameters_of(config, plan, numerics, stage)
        return _Run(
            config, plan, numerics, stack, stage, microbatches, microbatch, microbatch.walk(plan, stage), found,
            states_of(found, plan, numerics, stack), in_flight(plan, microbatches, stage) / plan.vp,
            stage == plan.last_stage,
        )  # fmt: skip

    @property
    def full(self) -> bool:
        return self.numerics.finetune == "full"

    # ---- what is kept --------------------------------------------------------------------------------

    def waiting(self) -> float:
        """Bytes that microbatches in flight have kept but for the chunk that runs backward."""
        kept = self.walk.kept
        if self.plan.recompute != "none":  # else keys and values are kept for attention already
            kept += self.walk.cache
        if self.stage == 0:
            kept += self.microbatch.mask
        return self.flying * kept - self.walk.running

    def heads(self) -> float:
        """Bytes that the head keeps of microbatches.

        Backward follows each loss at once, but with GPipe, and ZB-H1 keeps what weight gradients need.
        """
        head = self.microbatch.head * (1 + self.config.trained_mtp) + self._further_losses()
        waiting = self.flying - 1 if self.plan.pipeline in ("gpipe", "zb-h1") and self.plan.pp > 1 else 0
        whole_loss = self.plan.pipeline == "gpipe" and self.numerics.loss_chunks == 1
        probabilities = BYTES["fp32"] * self.microbatch.logits if whole_loss else 0.0  # chunks have run backward
        return head + waiting * (head + probabilities)

    def _further_losses(self) -> float:
        """Bytes that the losses of further tokens keep to their backward, which follows that of the model's own loss.

        They are probabilities in fp32, or a gradient in their place; chunks have run backward.
        """
        if self.numerics.loss_chunks > 1:
            return 0.0
        return self.config.trained_mtp * self.microbatch.logits * min(BYTES["fp32"], self.stack.loss_bytes)

    # ---- buffers -------------------------------------------------------------------------------------

    def gathered(self) -> Bytes:
        """Gathered weights, and buffers that gathers fill."""
        plan, stack, found = self.plan, self.stack, self.found
        kept = keeps_gathered(plan)
        if not ((plan.zero == 3 or kept) and (plan.shards > 1 or plan.weights_away)):
            return ()
        buffers: list[tuple[str, float]] = []
        ends = self.numerics.stored_bytes(found.ends, 0)
        layer = self.numerics.stored_bytes(found.largest, found.largest_matrices)
        two = min(2, self.walk.count) * layer
        if not kept:  # the ends, the layer at work and the next
            weights = ends + two
            if stack.live_weights:  # as many as may stay
                every = self.numerics.stored_bytes(found.total + found.adapters, found.matrices)
                share = min(stack.live_weights / (found.total + found.adapters), 1.0)
                weights = max(every * share, layer)
            buffers.append(("gathered weights", weights))
            if keeps_fp8(self.numerics, stack):  # of the matrix at work
                buffers.append(("gathered fp8 weights", FP8_COPIES * self.numerics.narrow_bytes * found.widest))
        if stack.stream_pools:  # what the last gather filled is freed after the next (FSDPParamGroup.wait_for_unshard)
            buffers.append((GATHERING, max(ends + layer, two)))
        return tuple(buffers)

    def standing(self) -> Bytes:
        """Buffers that stand all through a step, by name."""
        plan, stack = self.plan, self.stack
        found = self.gathered()
        if plan.zero == 0 and stack.bucket_copy and plan.dp * plan.cp > 1:
            trained = self.found.total if self.full else self.found.adapters
            found += (("buckets", trained * self.numerics.gradient_bytes),)
        if plan.pp > 1:
            boundary = self.walk.wide / (plan.tp if plan.sequence_parallel else 1)
            if stack.stage_buffers:
                neighbours = (self.stage > 0 or plan.vp > 1) + (not self.last or plan.vp > 1)
                outputs = 0 if self.last else self.flying * plan.vp
                found += (("pipeline", boundary * (neighbours * self.microbatches * plan.vp + outputs)),)
            elif plan.vp > 1:  # sent and received beside compute (forward_backward_pipelining_with_interleaving)
                found += (("pipeline", 2 * boundary),)
        return found

    def tables(self) -> Bytes:
        """Tensors of multiplications that stay all through a step, by name."""
        workspaces = ("workspaces", self.stack.workspace_bytes)
        if self.stack.dummy_gradients and self.full:
            return workspaces, ("dummy weight gradients", self.walk.dummies)
        return (workspaces,)

    # ---- events --------------------------------------------------------------------------------------

    def event(self, name: str, activations: float, temporary: Bytes, done: float, buffers: Bytes = ()) -> _Event:
        """A moment at which `done` of the parameters of the rank have gradients.

        All of them have, unless gradients come to be as the only backward of a step goes on.
        """
        gradients = self.states.gradients
        if self.stack.late_gradients and self.microbatches == 1 and self.found.total:
            gradients *= min(done / self.found.total, 1.0)
        return _Event(
            activations + gradients + _sum(temporary) + _sum(buffers), name, activations, gradients, buffers, temporary
        )

    def events(self) -> Iterator[_Event]:
        """The moments of a step that can be its peak."""
        above, waiting = 0.0, self.waiting()
        outputs = self._outputs() if self.last else ()
        if self.last:
            kept = waiting + self.walk.running + self.walk.leaving + self.heads()
            yield self.event("loss", kept, (*self._loss(), *outputs), 0.0)
            if self.numerics.loss_chunks == 1:
                yield self.event("head backward", kept, (*self._head_backward(), *outputs), 0.0)
            above = self.found.ends / (2 if self.stage == 0 else 1)
        beside = (*self._beside_layers(), *outputs)
        context = (("context", self.walk.context),) if self.walk.context else ()
        layers = self.found.layers + self.found.experts
        for moment in self.walk.moments:
            kept = waiting + self.walk.running - moment.freed
            tensors = (("layer backward", moment.working), *beside)
            yield self.event("layer backward", kept, tensors, above + layers * moment.done, context)
        if self.full and self.stage == 0:
            table = BYTES[self.numerics.weights] * self.found.ends / (2 if self.last else 1)
            kept = waiting if self.flying > 1 else 0.0
            yield self.event("embedding backward", kept, (("gradient of the embedding", table),), self.found.total)
        if self.stack.update_bytes and self.plan.offload == "none" and self.numerics.state_bytes:
            updated = self.states.optimizer / self.numerics.state_bytes
            size = updated * self.stack.update_bytes * BYTES[self.numerics.states] / BYTES["fp32"]
            yield self.event("update", 0.0, (("update", size),), self.found.total)

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
        """Tensors at the peak of the loss of a microbatch.

        Where the head runs in chunks, each with its backward, the logits of one are alive, beside the gradients of the
        head's input and of its weights.
        """
        plan, numerics = self.plan, self.numerics
        logits = ("logits and loss", self.microbatch.logits * self.stack.loss_bytes / numerics.loss_chunks)
        if numerics.loss_chunks == 1:
            return (logits,)
        sharded = plan.zero >= 2 and plan.shards > 1 and not keeps_gathered(plan)  # else it stands in the gradients
        weights = self._head_weights() if sharded else 0.0
        return logits, ("gradient of the head's input", self.walk.wide), ("gradient of the head's weights", weights)

    def _head_weights(self) -> float:
        """Bytes of a gradient of the head's weights, or of a dummy in its place."""
        elements = self.config.vocab * self.config.hidden / self.plan.tp
        return elements * BYTES[self.numerics.weights] if self.full else 0.0

    def _head_backward(self) -> Bytes:
        """Tensors of the backward of the head: gradients of the logits, of its input and of its weights.

        In place of the last there may be a dummy (Megatron-LM, tensor_parallel/layers.py); with sequence parallelism
        the gathered input stands beside them.
        """
        logits = self.microbatch.logits * BYTES[self.numerics.wide]
        slices = self.plan.tp if self.plan.sequence_parallel else 1
        rows = self.walk.wide * (1 + (self.stack.regathers + 1 / slices if slices > 1 else 0.0))
        weights = self._head_weights()
        return ("gradient of the logits", logits), ("rows of the head", rows), ("gradient of the head", weights)

    def _outputs(self) -> Bytes:
        """Outputs of the last stage of all microbatches, which are merged at the end of a step.

        They are logits, or the input of a head that runs with the loss.
        """
        if self.plan.pp == 1 or not self.stack.stage_buffers:
            return ()
        logits = self.microbatch.logits * BYTES[self.numerics.weights]
        each = logits if self.numerics.loss_chunks == 1 else self.walk.wide
        return (("outputs of the stage", self.microbatches * each),)

    def peak(self, capacity: float | None, room: Room | None) -> Memory:
        """The memory of the stage at the moment at which it has most."""
        return self.at(max(self.events()), capacity, room)

    def at(self, event: _Event, capacity: float | None, room: Room | None) -> Memory:
        """The memory of the stage at a moment.

        Where streams have pools of their own, gradients that are not there at that moment have their place in one all
        the same.
        """
        plan, stack, states = self.plan, self.stack, self.states
        buffers, temporary = (*self.standing(), *event.buffers), (*self.tables(), *event.temporary)
        gradients, pools = event.gradients, 0.0
        if stack.stream_pools:
            gradients = states.gradients
            pools = gradients - event.gradients + sum(size for name, size in buffers if name == GATHERING)
        centre, spread = stack.centre, stack.spread
        if self.config.experts > 1:
            centre, spread = centre + LOADS_CENTRE, hypot(spread, LOADS_SPREAD)
        if not self.full:
            spread = hypot(spread, ADAPTERS_SPREAD[self.numerics.finetune])
        return Memory(
            states.weights, gradients, states.optimizer, event.activations, _sum(buffers), _sum(temporary),
            CONTEXT_BYTES + _communicators(plan), self.stage, states.host + self.flying * self.walk.away, capacity,
            states.nvme,
            None if room is None else room.share(room.host, plan.world),
            None if room is None else room.share(room.nvme, plan.world),
            stack.reserved, pools, stack.reserved_spread, centre, spread, event.name, (*buffers, *temporary),
        )  # fmt: skip


def _communicators(plan: Plan) -> float:
    """Buffers of the process groups that have more than one rank."""
    sizes = [plan.tp, plan.cp, plan.pp, plan.dp * plan.cp, plan.ep]
    if plan.zero and plan.shards not in (1, plan.dp * plan.cp):
        sizes += [plan.shards]
    return sum(COMMUNICATOR_BYTES if size > 2 else PAIR_BYTES for size in sizes if size > 1)
