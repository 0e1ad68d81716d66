"""The blocks of a training step: forward, recomputation, gradients of inputs and of weights, for each kind of layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from simgpu.hardware.machine import machine_of
from simgpu.memo import content, key_of
from simgpu.model.config import TransformerConfig, is_moe
from simgpu.model.lengths import by_length
from simgpu.model.operators import (
    BYTES,
    Attention,
    Communicate,
    Dim,
    GroupedMatmul,
    Kernel,
    Matmul,
    Operator,
    Pointwise,
)
from simgpu.model.transformer import (
    backward,
    embedding_operators,
    further_head_operators,
    head_operators,
    layer_operators,
)
from simgpu.plan.expert_stack import ExpertStack
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.program import Step, shard_operators
from simgpu.plan.recompute import runs_again
from simgpu.plan.schedule import CUT
from simgpu.timing.kernels import KernelModel
from simgpu.workload.blocks import EMPTY, Block, run_block
from simgpu.workload.frameworks import Framework
from simgpu.workload.host_code import cpu_slowdown, launched, together
from simgpu.workload.links import Links
from simgpu.workload.training.dispatching import Exchange
from simgpu.workload.training.layer_operators import in_16_bits, last_needed, of_weights, outputs, weights_of
from simgpu.workload.training.lowering import asynchronous, lower, overlapped
from simgpu.workload.training.muon import MUON, Matrices, matrices_of

FURTHER_HEAD = "further head"
"""The kind of the unit with the logits and the loss of a module that predicts a further token."""

ENDS = ("embedding", "head", FURTHER_HEAD)
"""Kinds of units that are no layers."""

REMEMBERED = 1024
"""Units that are remembered for each cluster: some 30 kB each."""


@dataclass(frozen=True)
class Passes:
    """The blocks of one unit (a layer, the embedding, the head). `weights` are parameters that a rank holds of it.

    `backward` holds recomputation, input and weight gradients; `input_grad` is backward without the weight
    gradients and `weight_grad` those alone, where a schedule cuts it in two. `trained` are the
    parameters with gradients.
    """

    name: str
    forward: Block
    backward: Block
    input_grad: Block
    weight_grad: Block
    weights: float
    trained: float
    expert_weights: float = 0.0  # of `weights`: those of experts, which other ranks share
    packed: float = 0.0  # of `weights` but for experts: those that 4-bit fine-tuning packs
    matrices: Matrices = ()  # where the optimizer treats those of layers apart

    @staticmethod
    def joined(units: Sequence[Passes], trained: bool) -> Passes:
        """Several units as one unit without blocks; `trained`: count only parameters that an optimizer updates."""
        weights = sum(unit.trained if trained else unit.weights for unit in units)
        experts = sum(unit.expert_weights for unit in units if unit.trained == unit.weights or not trained)
        packed = 0.0 if trained else sum(unit.packed for unit in units)
        return Passes("joined", EMPTY, EMPTY, EMPTY, EMPTY, weights, weights, experts, packed)


@dataclass(frozen=True)
class Layers:
    """The maker of the blocks of a model under a plan; `again`: a step has more than one microbatch."""

    config: TransformerConfig
    plan: Plan
    numerics: Numerics
    framework: Framework
    kernels: KernelModel
    links: Links
    micro_batch: int
    tokens: int
    accumulate: str
    routing: str = "balanced"
    fp8: str | None = None
    again: bool = True
    length: float = 0.0  # of sequences within rows, as of a job

    def unit(self, kind: str, recompute: bool = True) -> Passes:
        """The blocks of 'embedding', 'head', or a kind of layer; `recompute` as the plan says, or not at all.

        Results are shared with other plans on this cluster that are equal within a layer.
        """
        key = (*self._identity, kind, recompute)
        known = machine_of(self.kernels.cluster).memo.region("layers", REMEMBERED)
        unit: Passes = known.known(key, lambda: self._unit(kind, recompute))
        return unit

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        """All that a unit depends on, beside the cluster: the part of the plan and its links that a layer sees."""
        plan = self.plan
        groups = [name for name in ("tp", "cp", "ep") if getattr(plan, name) > 1]
        copied = bool(self._copies(1.0))
        cast = self.gathered and not self.framework.fused_wgrad
        sharded = copied, copied and plan.zero == 3, cast, plan.pipeline in CUT
        return key_of(
            self,
            plan=(plan.within_layer(), *sharded),
            framework=content(self.framework),
            kernels=self.kernels.identity,
            links=self.links.identity(groups),
        )

    def _unit(self, kind: str, recompute: bool) -> Passes:
        forward = self._operators(kind)
        gradients = self._gradients(kind, forward)
        again = self._recomputed(kind, forward) if recompute else ()
        held = [op.split(self.plan.ways) for op in forward if not isinstance(op, Communicate)]
        weights = float(sum(op.weights for op in held))
        experts = float(sum(op.weights for op in held if isinstance(op, GroupedMatmul)))
        copies = self._copies(weights)
        casts = self._casts(kind, weights)
        first = self._steps((*copies, *casts, *forward))
        again = (*casts, *again) if again else ()
        repeated = self._steps((*copies, *again) if self.plan.zero == 3 else again)
        run = self._run(f"{kind} forward", first), self._backward(kind, repeated, gradients)
        code = self._forward_code(kind), self._backward_code(kind)
        more = self._again_code(kind, again)
        there, back = self._launched(kind, run, (code[0], code[1] + more))
        input_grad = weight_grad = EMPTY
        if self.plan.pipeline in CUT:
            inputs = tuple(op for op in gradients if not of_weights(op))
            rest = tuple(op for op in gradients if of_weights(op))
            cut = self._backward(kind, repeated, inputs), self._run(f"{kind} weight gradients", self._steps(rest))
            half = 0.5 * code[1]
            there, input_grad, weight_grad = self._launched(kind, (run[0], *cut), (code[0], half + more, half))
        trained = self._trained(kind, weights)
        held_packed = self._packed(kind, held)
        return Passes(
            kind, there, back, input_grad, weight_grad, weights, trained, experts, held_packed,
            self._matrices(kind, held),
        )  # fmt: skip

    # ---- operators -----------------------------------------------------------------------------------

    def _operators(self, kind: str) -> tuple[Operator, ...]:
        """Forward operators for all replicas, as the plan then splits them."""
        batch, dtype = self.micro_batch * self.plan.dp, self._wide
        if kind == "embedding":
            return embedding_operators(self.config, batch, self.tokens, dtype)
        if kind == "head":
            return head_operators(self.config, batch, self.tokens, dtype, self.accumulate)
        if kind == FURTHER_HEAD:
            return further_head_operators(self.config, batch, self.tokens, dtype, self.accumulate)
        operators = layer_operators(
            self.config, kind, batch, self.tokens, dtype, self.accumulate, self.routing, self.numerics.flash
        )
        operators = by_length(operators, self.length)
        if self.fp8:
            operators = tuple(self._narrow(op) for op in operators)
        return self._with_adapters(operators)

    def _narrow(self, op: Operator) -> Operator:
        """The product in fp8 or fp4, of those with weights; of experts where the stack does that."""
        if isinstance(op, GroupedMatmul) and self._experts.fp8_experts:
            return replace(op, dtype=self.numerics.dtype)
        return replace(op, dtype=self.numerics.dtype) if isinstance(op, Matmul) and op.weight else op

    @property
    def _wide(self) -> str:
        """The dtype of everything but matrix multiplications in fp8 or fp4."""
        return self.numerics.wide

    def _with_adapters(self, operators: Sequence[Operator]) -> tuple[Operator, ...]:
        """The operators with low-rank products beside the matrices that they adapt (Hu et al., LoRA, 2021).

        4-bit weights are unpacked first (Dettmers et al., QLoRA, 2023, section 3).
        """
        if self.numerics.finetune == "full":
            return tuple(operators)
        adapted: list[Operator] = []
        for op in operators:
            if isinstance(op, Matmul) and op.weight and self.numerics.finetune == "qlora":
                read = self.numerics.weight_bytes / BYTES[op.dtype]
                shape = (op.n[0] if len(op.n) == 1 else Dim(op.n_size, 1, op.n[0].axis),)
                adapted.append(Pointwise(f"{op.name}_unpack", "elementwise", op.k, shape, op.dtype, read, 1))
            adapted.append(op)
            if isinstance(op, Matmul) and op.name in self.numerics.targets:
                rank = (Dim(self.numerics.rank),)
                adapted.append(replace(op, name=f"{op.name}_lora_a", n=rank, bias=False))
                adapted.append(replace(op, name=f"{op.name}_lora_b", k=rank[0], bias=False))
        return tuple(adapted)

    def _gradients(self, kind: str, forward: Sequence[Operator]) -> tuple[Operator, ...]:
        gradients = backward(tuple(forward))
        if self.numerics.finetune != "full":
            gradients = tuple(op for op in gradients if not of_weights(op) or "_lora_" in op.name)
            if kind == "embedding":
                return ()
        result: list[Operator] = []
        for op in gradients:
            result.append(op)
            if isinstance(op, (Matmul, GroupedMatmul)) and of_weights(op):
                result += self._accumulation(op)
        return tuple(result)

    def _accumulation(self, op: Matmul | GroupedMatmul) -> Iterator[Operator]:
        """Traffic of a weight gradient beyond its product: into the accumulator, or cast for the reduction."""
        numerics, width = self.numerics, BYTES[self._wide]
        rows, columns = weights_of(op)
        kept = BYTES[numerics.gradients]
        if self.framework.fused_wgrad:
            # read and written in the accumulator's width instead of written in the product's
            writes = max(2 * kept - width, 0.0) / width
            yield Pointwise(f"{op.name}_accumulate", "elementwise", rows, (columns,), self._wide, 0.0, writes)
        elif self.gathered:
            reduced = BYTES[numerics.reduce] / width
            reads, writes = 1.0, reduced  # into the buffer of the reduction, cast on the way
            if self.framework.flat_parameters:
                cast = reduced != 1
                reads, writes = 1 + cast + reduced, 1 + cast * reduced + reduced  # joined, cast, divided
            yield Pointwise(f"{op.name}_copies", "elementwise", rows, (columns,), self._wide, reads, writes)
        else:
            yield Pointwise(
                f"{op.name}_accumulate", "elementwise", rows, (columns,), self._wide, 1 + kept / width, kept / width
            )

    def _copies(self, weights: float) -> tuple[Operator, ...]:
        """Gathered weights copied out of the buffer they arrive in (FSDP2, foreach_all_gather_copy_out)."""
        separate = self.framework.gathers_each_microbatch and not self.framework.flat_parameters
        if not self.gathered or not separate or self.plan.shards == 1:
            return ()
        return (Pointwise("weights_copied", "elementwise", Dim(int(weights)), (Dim(1),), self._wide, 1, 1),)

    @property
    def _autocast(self) -> bool:
        """True if the framework casts fp32 weights and an fp32 residual stream for each product (torch.autocast)."""
        return self.numerics.casts_weights and "rms_autocast" in self.framework.forward

    def _casts(self, kind: str, weights: float) -> tuple[Operator, ...]:
        """Weights that autocast brings to 16 bits, all but the embedding's."""
        if not self._autocast or kind == "embedding":
            return ()
        wide = BYTES[self.numerics.weights] / BYTES[self._wide]
        return (Pointwise("weights_cast", "elementwise", Dim(int(weights)), (Dim(1),), self._wide, wide, 1),)

    def _recomputed(self, kind: str, forward: Sequence[Operator]) -> tuple[Operator, ...]:
        """Operators of a layer that backward runs again."""
        how = self.plan.recompute
        if how == "none" or kind in ENDS:
            return ()
        if how == "full":
            stop = len(forward)
            if self.framework.early_stop:
                stop = last_needed(forward)
            return tuple(forward[:stop])
        if self.framework.memory.saves_matmuls:
            return tuple(self._every_second(forward[:-1]))
        names = runs_again(self.plan)
        return tuple(op for op in forward if op.name in names)

    def _every_second(self, operators: Sequence[Operator]) -> Iterator[Operator]:
        """The operators that run again with torchtitan's "op": every second product is saved, and attention.

        Outputs that one product makes side by side here are products of their own there.
        """
        count = 0
        for op in operators:
            if isinstance(op, (Attention, Communicate)):
                continue
            if not isinstance(op, Matmul):
                yield op
                continue
            again = []
            for part in outputs(op):
                count += 1
                again += [part] if count % 2 == 0 else []
            if again:
                yield replace(op, n=tuple(again))

    # ---- steps ---------------------------------------------------------------------------------------

    def _launched(self, kind: str, blocks: tuple[Block, ...], code: tuple[float, ...]) -> tuple[Block, ...]:
        """The passes of a unit with what the GPU waits for its host."""
        gpu = [block.seconds for block in blocks]
        if is_moe(kind) and self.plan.ep > 1:
            seconds = tuple(together(one, other) for one, other in zip(code, gpu, strict=True))
        else:
            seconds = launched(code, gpu, self.again)
        seconds = (seconds[0] + self._waits(kind), *seconds[1:])
        return tuple(replace(block, seconds=took) for block, took in zip(blocks, seconds, strict=True))

    def _backward(self, kind: str, repeated: Sequence[Step], gradients: Sequence[Operator]) -> Block:
        """The block of backward.

        Where collectives can run beside weight gradients as they are, or cut up beside their products, a stack does
        what is faster (Transformer Engine: bulk overlap or pipelined, by layer).
        """
        ways = [self._steps(gradients)]
        if self.framework.overlaps_tp and self._cut:
            ways.append(self._steps(gradients, whole=True))
        overlapping = [overlapped(way) if self.framework.overlaps_tp and self.plan.tp > 1 else way for way in ways]
        blocks = [self._run(f"{kind} backward", (*repeated, *way), len(repeated)) for way in overlapping]
        return min(blocks, key=lambda block: block.seconds)

    @property
    def _cut(self) -> bool:
        """True if tensor-parallel collectives are cut up."""
        return self.plan.async_tp and self.plan.tp > 1

    def _steps(self, operators: Sequence[Operator], whole: bool = False) -> tuple[Step, ...]:
        steps = shard_operators(
            lower(operators, self.framework, self.fp8, self.config.rms_norm, self._autocast, self._clamped), self.plan
        )
        if self.config.experts > 1:
            steps = self._exchange.of(steps, self.plan)
        if self.fp8 == "rowwise":  # rows are gathered before they are quantised
            steps = tuple(in_16_bits(step) for step in steps)
        if self._cut and not whole:
            steps = asynchronous(steps, self.plan.tp, self.framework.async_hidden)
        return steps

    def _run(self, name: str, steps: Sequence[Step], repeated: int = 0) -> Block:
        each = 0.0 if self._experts.cuda_graphs == "full" else self.framework.launch_s
        return run_block(name, steps, self.kernels, self.links, each, repeated)

    # ---- experts and the host ------------------------------------------------------------------------

    @cached_property
    def _experts(self) -> ExpertStack:
        """How experts run."""
        return self.framework.experts.under(self.plan)

    @property
    def _clamped(self) -> bool:
        """Whether experts have biases and clamped gates, for which a stack may have kernels of their own."""
        return self.config.experts > 1 and self.config.bias and self.config.gated

    @cached_property
    def _exchange(self) -> Exchange:
        """How rows travel to experts and back."""
        cluster, plan = self.kernels.cluster, self.plan
        nodes = len({rank // cluster.gpus_per_node for rank in self.links.plan.group("ep", 0)})
        return Exchange(
            self._experts, self._experts.load(plan), self.config.experts_per_token, self.config.experts // plan.ep,
            self.config.hidden, nodes, cluster.gpu.compute.sm_count.si,
        )  # fmt: skip

    @cached_property
    def _cpu(self) -> float:
        cluster = self.kernels.cluster
        return cpu_slowdown(cluster) * cluster.kernel.stretch(self.kernels.stack, "host")

    def _code(self, kind: str) -> float:
        """Host time of forward and backward of a unit, s; of embedding and head launches alone are counted."""
        if kind in ENDS:
            return 0.0
        here = self.config.experts // self.plan.ep
        return self.framework.host.layer(self.config, kind, self._experts, here) * self._cpu

    def _forward_code(self, kind: str) -> float:
        return self._code(kind) * self.framework.host.forward

    def _backward_code(self, kind: str) -> float:
        return self._code(kind) * (1 - self.framework.host.forward)

    def _again_code(self, kind: str, again: Sequence[Operator]) -> float:
        """Of what backward runs again: all of forward, or nothing to speak of."""
        return self._forward_code(kind) if again and self.plan.recompute == "full" else 0.0

    def _waits(self, kind: str) -> float:
        """Seconds that forward loses where the host waits for the GPU."""
        if not is_moe(kind):
            return 0.0
        return self._experts.waits(self.plan) * self.framework.host.wait_s

    def _trained(self, kind: str, weights: float) -> float:
        if self.numerics.finetune == "full":
            return weights
        if kind in ENDS:
            return 0.0
        adapters = (op for op in self._operators(kind) if isinstance(op, Matmul) and "_lora_" in op.name)
        return float(sum(op.split(self.plan.ways).weights for op in adapters))

    def _matrices(self, kind: str, held: Sequence[Kernel]) -> Matrices:
        """The matrices of a layer on a rank, for Muon."""
        if self.numerics.optimizer != MUON or kind in ENDS:
            return ()
        several = {op.name: [dim.size for dim in outputs(op)] for op in held if isinstance(op, Matmul) and op.weight}
        return matrices_of(held, several, self.config.experts // self.plan.ep)

    def _packed(self, kind: str, held: Sequence[Kernel]) -> float:
        """Parameters in 4 bits but for those of experts: matrices of layers (QLoRA)."""
        if self.numerics.finetune != "qlora" or kind in ENDS:
            return 0.0
        return float(sum(op.weights for op in held if isinstance(op, Matmul) and "_lora_" not in op.name))

    @cached_property
    def gathered(self) -> bool:
        """True if sharded weights are gathered, and gradients scattered, for each microbatch.

        This holds with ZeRO-3 in any framework, and with ZeRO-2 where the framework does the same (FSDP). Stages of a
        pipeline gather once.
        """
        each = self.plan.zero == 3 or (self.plan.zero == 2 and self.framework.gathers_each_microbatch)
        return each and self.plan.pp == 1
