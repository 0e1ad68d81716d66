"""Parameters of one rank, and the bytes of their weights, gradients and optimizer states.

Each rank holds (2 + 2 + K) bytes per parameter in mixed precision, K = 12 for Adam with fp32 master weights. ZeRO
divides K by the ranks that share a copy from stage 1 on, gradients from stage 2 on, weights in stage 3 (Rajbhandari et
al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, 2020, sections 3.1 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from simgpu.memo import remembered
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES, Communicate, GroupedMatmul, Kernel, Matmul, Operator
from simgpu.model.transformer import embedding_operators, head_operators, layer_operators
from simgpu.plan.numerics import NARROW, Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.stack import Stack
from simgpu.plan.stages import layer_ranges


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters of one rank, split by tensor, pipeline and expert parallelism but not by ZeRO.

    `layers` of all layers without experts, `experts`, `ends`: embedding and head; `matrices`: those of `layers` and
    `experts` in matrix multiplications; `adapters`: of LoRA; `largest`: of the largest layer, experts and adapters
    included, `largest_matrices` of them in frozen or trained matrices; `widest`: of the largest matrix.
    """

    layers: float = 0.0
    experts: float = 0.0
    ends: float = 0.0
    matrices: float = 0.0
    adapters: float = 0.0
    largest: float = 0.0
    largest_matrices: float = 0.0
    widest: float = 0.0

    @property
    def total(self) -> float:
        """Parameters of layers, experts, embedding and head."""
        return self.layers + self.experts + self.ends


@dataclass(frozen=True)
class States:
    """Bytes of one rank; `host` and `nvme` are what offloading moved to its host's memory and to the node's drives."""

    weights: float
    gradients: float
    optimizer: float
    host: float = 0.0
    nvme: float = 0.0


def kinds_of_stage(config: TransformerConfig, plan: Plan, stage: int) -> list[str]:
    """Kinds of the layers that a stage holds."""
    return [kind for chunk in kinds_of_chunks(config, plan, stage) for kind in chunk]


def kinds_of_chunks(config: TransformerConfig, plan: Plan, stage: int) -> list[list[str]]:
    """Kinds of the layers of each chunk of a stage; modules that predict further tokens stand before the head."""
    kinds = kinds_of_layers(config)
    chunks = [[kinds[i] for i in chunk] for chunk in layer_ranges(config.layers, plan)[stage]]
    if stage == plan.last_stage:
        chunks[-1] += kinds[config.layers :]
    return chunks


def has_copied_table(config: TransformerConfig) -> bool:
    """True if the stage of the head has the table of the embedding too: for a tied head, or to predict further tokens.

    Megatron-Core, models/gpt/gpt_model.py and distributed/finalize_model_grads.py.
    """
    return config.tied_embeddings or config.trained_mtp > 0


@remembered(256)
def kinds_of_layers(config: TransformerConfig) -> tuple[str, ...]:
    """The kind of every layer, in order of depth."""
    return tuple(kind for kind, count in config.layer_kinds() for _ in range(count))


def parameters_of(config: TransformerConfig, plan: Plan, numerics: Numerics, stage: int = 0) -> Parameters:
    """Parameters that a rank of `stage` holds.

    A tied embedding stands on the first and the last stage, where those are two.
    """
    kinds = tuple(kinds_of_stage(config, plan, stage))
    ends: tuple[str, ...] = ("embedding",) if stage == 0 else ()
    if stage == plan.last_stage:
        ends += ("head",) if stage == 0 or not has_copied_table(config) else ("head", "copy of the embedding")
    return _parameters(config, plan.tp, plan.ep, plan.expert_tp, numerics, kinds, ends)


@remembered(4096)
def _parameters(
    config: TransformerConfig, tp: int, ep: int, expert_tp: int | None, numerics: Numerics, kinds: tuple[str, ...],
    at_ends: tuple[str, ...],
) -> Parameters:  # fmt: skip
    plan = Plan(tp=tp, ep=ep, expert_tp=expert_tp)
    counted = {kind: _of_layer(_split(_layer(config, kind), plan), numerics) for kind in dict.fromkeys(kinds)}
    ends = 0.0
    if "embedding" in at_ends:
        ends += _weights(_split(embedding_operators(config, 1, 1, "bf16"), plan))
    if "head" in at_ends:
        head = _split(head_operators(config, 1, 1, "bf16", "fp32"), plan)
        ends += _weights(head)
        if "copy of the embedding" in at_ends:
            ends += sum(
                part.n_size * part.k.size for part in head if isinstance(part, Matmul) and part.name == "lm_head"
            )
    rows = [counted[kind] for kind in kinds]
    largest = max(rows, key=lambda row: row.layers + row.experts, default=Parameters())
    return Parameters(
        layers=sum(row.layers for row in rows),
        experts=sum(row.experts for row in rows),
        ends=ends,
        matrices=sum(row.matrices for row in rows),
        adapters=sum(row.adapters for row in rows),
        largest=largest.layers + largest.experts + largest.adapters,
        largest_matrices=largest.matrices,
        widest=max((row.widest for row in rows), default=0.0),
    )


def states_of(found: Parameters, plan: Plan, numerics: Numerics, stack: Stack) -> States:
    """Bytes of weights, gradients and optimizer states."""
    shards = plan.shards if plan.zero else 1
    # experts are copied once for every `ep` ranks, and shared out over those copies alone
    of_experts = plan.expert_copies if plan.zero else 1

    def spread(dense: float, experts: float, stage: int) -> float:
        split = plan.zero >= stage
        return dense / (shards if split else 1) + experts / (of_experts if split else 1)

    dense, experts = found.layers + found.ends, found.experts
    gathered = keeps_gathered(plan)
    width = BYTES[numerics.weights]
    if numerics.finetune == "full":
        trained = (dense, experts)
        copied = stack.sharded_copy if numerics.sharded_copy is None else numerics.sharded_copy
        kept_as_master = not copied and numerics.state_bytes > 0 and numerics.master is not None
        weights = width * (dense + experts if gathered else spread(dense, experts, 3))
        if kept_as_master and plan.zero == 3 and (plan.shards > 1 or plan.weights_away) and not gathered:
            weights = 0.0
        elif gathered and plan.zero == 3 and not kept_as_master:
            weights += width * spread(dense, experts, 3)
    else:
        trained = (found.adapters, 0.0)
        held = (
            numerics.stored_bytes(dense + found.adapters, found.matrices - experts),
            numerics.stored_bytes(experts, experts),
        )
        weights = spread(*held, 3) + (sum(held) if gathered and plan.zero == 3 else 0.0)
    if keeps_fp8(numerics, stack):
        others = found.matrices - found.experts
        copies = found.matrices if gathered else spread(others, found.experts, 3)
        weights += FP8_COPIES * numerics.narrow_bytes * copies
    gradients = numerics.gradient_bytes * spread(*trained, 2)
    if gathered:
        gradients += BYTES[numerics.reduce] * sum(trained)
    optimizer = numerics.state_bytes * spread(*trained, 1)
    if numerics.other_bytes:
        optimizer += numerics.other_bytes * spread(dense + experts - found.matrices, 0.0, 1)
    here = States(weights, gradients, optimizer)
    if plan.offload == "none":
        return here
    # DeepSpeed sums gradients in their own dtype and copies them in fp32 to where the states are
    sums = numerics.gradient_bytes * spread(*trained, 1)
    copies_of = BYTES["fp32"] * spread(*trained, 1) if stack.host_gradients and numerics.gradient_bytes < 4 else 0.0
    return _offloaded(here, plan, gradients_away(plan, stack), sums, copies_of)


def _offloaded(here: States, plan: Plan, gradients: bool, sums: float, copied: float) -> States:
    """What stays on the GPU, and where the rest goes; of gradients `sums` and `copied` bytes."""
    states, kept, host = here.optimizer, here.gradients, 0.0
    if gradients:
        states, kept, host = states + copied, 0.0, sums
    moved = here.weights if plan.weights_away else 0.0
    places = ((plan.states_on_nvme, states), (plan.weights_on_nvme, moved))
    return States(
        here.weights - moved,
        kept,
        0.0,
        host + sum(size for on_drives, size in places if not on_drives),
        sum(size for on_drives, size in places if on_drives),
    )


def gradients_away(plan: Plan, stack: Stack) -> bool:
    """True if gradients go to host memory as backward makes them.

    They do where weights live there, and in DeepSpeed where they are sharded (ZeRO-2 and 3; with ZeRO-1 they stay until
    the step). The others move them at the step.
    """
    sharded = plan.offload == "optimizer" and plan.zero >= 2 and stack.host_gradients
    return plan.weights_away or (sharded and not keeps_gathered(plan))


FP8_COPIES = 2
"""Of a weight that is multiplied in fp8 or fp4: as it is and transposed (Transformer Engine)."""


def keeps_fp8(numerics: Numerics, stack: Stack) -> bool:
    """True if copies of trained weights in fp8 or fp4 are kept from forward to backward.

    Where FSDP shards the weights, it scatters and gathers these copies with them (Transformer Engine,
    pytorch/distributed.py, prepare_te_modules_for_fsdp).
    """
    return numerics.dtype in NARROW and stack.saves_fp8 and numerics.finetune == "full"


def keeps_gathered(plan: Plan) -> bool:
    """True if sharded weights and gradients are whole for the length of a step.

    Stages of a pipeline gather weights once, at its start, and scatter gradients once, after their last microbatch
    (torchtitan: reshard_after_forward is off; torch.distributed.pipelining: backward_maybe_with_nosync).
    """
    return plan.zero >= 2 and plan.pp > 1 and plan.shards > 1


def _layer(config: TransformerConfig, kind: str) -> tuple[Operator, ...]:
    return layer_operators(config, kind, 1, 1, "bf16", "fp32")


def _split(operators: Sequence[Operator], plan: Plan) -> list[Kernel]:
    return [op.split(plan.ways) for op in operators if not isinstance(op, Communicate)]


def _is_matrix(part: Kernel) -> TypeGuard[Matmul | GroupedMatmul]:
    return isinstance(part, (Matmul, GroupedMatmul))


def _weights(parts: Sequence[Kernel]) -> float:
    return float(sum(part.weights for part in parts))


def _of_layer(parts: Sequence[Kernel], numerics: Numerics) -> Parameters:
    """Parameters of one layer. An adapter of rank r beside [k, n] has r (k + n), for each of several products r k."""
    experts = _weights([part for part in parts if isinstance(part, GroupedMatmul)])
    adapters = 0.0
    if numerics.finetune != "full":
        for part in parts:
            if isinstance(part, Matmul) and part.name in numerics.targets:
                products = 3 if len(part.n) == 2 else part.n[0].width if part.n[0].width == 2 else 1
                adapters += numerics.rank * (products * part.k.size + part.n_size)
    return Parameters(
        layers=_weights(parts) - experts,
        experts=experts,
        matrices=_weights([part for part in parts if _is_matrix(part)]),
        adapters=adapters,
        widest=max((float(part.n_size * part.k.size) for part in parts if _is_matrix(part)), default=0.0),
    )
