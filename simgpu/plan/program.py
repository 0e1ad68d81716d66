"""The sharded program: the kernels and collectives that one rank runs, in order. All ranks run the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simgpu.model.graph import ModelGraph
from simgpu.model.operators import (
    BYTES,
    Attention,
    Communicate,
    Embedding,
    GroupedMatmul,
    Kernel,
    Matmul,
    Operator,
    Pointwise,
    split_rows,
)
from simgpu.plan.parallelism import Plan


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective over the rank's group `group` (see `Plan.group`); `size` in bytes as nccl-tests count it.

    A collective in the `background` runs beside the kernels that follow, up to the next `Barrier` of its group. Of any,
    the share `hidden` runs beside another microbatch; of what that one hides in turn, `beside` of this time runs beside
    the kernels of the block and holds multiprocessors: NCCL's channels, or the share `held` of them. It takes `pace`
    times what NCCL would, and `extra_s` besides.
    """

    name: str
    kind: str  # all_reduce, all_gather, reduce_scatter, all_to_all, send_recv
    group: str
    size: float
    background: bool = False
    hidden: float = 0.0
    beside: float = 0.0
    pace: float = 1.0
    extra_s: float = 0.0
    held: float | None = None


@dataclass(frozen=True, slots=True)
class Barrier:
    """A point where kernels wait for the collectives of a group that run in the background."""

    group: str


Step = Kernel | Collective | Barrier


@dataclass(frozen=True)
class ProgramSegment:
    """Steps in order, `repeat` times over."""

    name: str
    steps: tuple[Step, ...]
    repeat: int = 1


@dataclass(frozen=True)
class Program:
    """The operators that each rank runs. `weights` is the number of parameters a rank holds."""

    segments: tuple[ProgramSegment, ...]
    weights: int

    def collectives(self) -> Iterator[tuple[Collective, int]]:
        """Each collective of the program with how often it runs."""
        for segment in self.segments:
            for step in segment.steps:
                if isinstance(step, Collective):
                    yield step, segment.repeat


def shard_operators(operators: Sequence[Operator], plan: Plan) -> tuple[Step, ...]:
    """The steps of one rank for some operators in order."""
    return tuple(step for op in operators for step in _split(op, plan))


def shard(graph: ModelGraph, plan: Plan, gradients: str | None = None) -> Program:
    """Split `graph` by `plan` and insert the collectives that the split makes necessary.

    Tensor parallelism (Shoeybi et al. 2019): an operator that contracts a split axis leaves partial sums, which
    an all-reduce adds up. With sequence parallelism (Korthikanti et al. 2022, section 4.2.2) whatever works on
    unsplit rows is split along the sequence instead; the all-reduce becomes a reduce-scatter, and an all-gather
    stands before each operator that needs whole rows. Backward operators follow the same rule, which gives the
    collectives of the backward pass, the gather of saved inputs for the weight gradients included.
    Data parallelism: one all-reduce over all weight gradients at the end, in dtype `gradients`.
    """
    segments = []
    for i, segment in enumerate(graph.segments):
        steps = [step for op in segment.operators for step in _split(op, plan)]
        if i == len(graph.segments) - 1:
            steps += _gather_result(segment.operators[-1], plan)
        segments.append(ProgramSegment(segment.name, tuple(steps), segment.repeat))
    parts = (
        (s.repeat, op.split(plan.ways)) for s in graph.segments for op in s.operators if not isinstance(op, Communicate)
    )
    weights = sum(repeat * part.weights for repeat, part in parts)
    if plan.dp > 1 and gradients is not None and weights:
        reduce = Collective("gradients", "all_reduce", "dp", weights * BYTES[gradients])
        segments.append(ProgramSegment("gradients", (reduce,)))
    return Program(tuple(segments), weights)


def _split(op: Operator, plan: Plan) -> Iterator[Step]:
    """The steps of one rank for one operator.

    Operators of a free list are split along their own axis ('tp'): they bring their own collectives and get none here.
    """
    if isinstance(op, Communicate):
        yield from _communicate(op, plan)
        return
    if isinstance(op, Attention) and plan.cp > 1:
        yield from context_attention(op.split(plan.ways), plan)
        return
    part = _in_context(op.split(plan.ways), plan)
    tensor = plan.tensor_ways
    sequence = plan.sequence_parallel and plan.tp > 1
    if isinstance(part, Pointwise):
        yield from _pointwise(op, part, plan, tensor, sequence)
        return
    if not isinstance(op, (Matmul, GroupedMatmul, Embedding)) or not isinstance(
        part, (Matmul, GroupedMatmul, Embedding)
    ):
        yield part
        return
    products = isinstance(op, GroupedMatmul) or (isinstance(op, Matmul) and not op.over)
    slices = not isinstance(op, Embedding) and op.slices_output(tensor)
    if sequence and products and not isinstance(part, Embedding):
        if slices:
            yield Collective(f"{op.name}_input", "all_gather", "tp", part.input_bytes)
        elif isinstance(op, Matmul) and not op.m.is_split(tensor) and not op.k.is_split(tensor):
            part = split_rows(part, plan.tp)  # no axis is split: it works on the rank's share of the sequence
        elif isinstance(op, GroupedMatmul) and not op.k.is_split(tensor):
            part = split_rows(part, plan.tp)  # whole experts: each rank of the tensor group sent its own rows
    yield part
    if op.sums_over(tensor):
        yield Collective(f"{op.name}_sum", "reduce_scatter" if sequence else "all_reduce", "tp", part.output_bytes)


def _pointwise(op: Operator, part: Pointwise, plan: Plan, tensor: dict[str, int], sequence: bool) -> Iterator[Step]:
    sliced = isinstance(op, Pointwise) and any(dim.is_split(tensor) for dim in op.width)
    if sequence and part.kind == "embedding":  # the gradient of a split table needs the rows of all ranks
        yield Collective(f"{op.name}_input", "all_gather", "tp", part.elements * BYTES[part.dtype])
    elif sequence and not sliced:
        part = split_rows(part, plan.tp)
    yield part
    if sliced and part.kind == "softmax":
        # maximum, sum of exponentials and the target's logit of each row, fp32 (Megatron's cross entropy)
        yield Collective(f"{op.name}_sum", "all_reduce", "tp", 3 * part.rows.size * BYTES["fp32"])


def _communicate(op: Communicate, plan: Plan) -> Iterator[Collective]:
    """A collective that the model asks for: nothing where its group is one rank."""
    if getattr(plan, "ep" if op.group == "experts" else op.group) == 1:
        return
    part = op.split(plan.ways)
    if op.rows is not None:
        part = split_rows(part, plan.cp * (plan.tp if plan.sequence_parallel else 1))
    yield Collective(op.name, op.kind, op.group, part.size)


def _in_context(part: Kernel, plan: Plan) -> Kernel:
    """The share of a rank's tokens that context parallelism leaves it."""
    return part if plan.cp == 1 or isinstance(part, Attention) else split_rows(part, plan.cp)


def context_attention(op: Attention, plan: Plan) -> Iterator[Step]:
    """Attention over a sequence that `plan.cp` ranks share, balanced: each holds a chunk from both ends of it.

    'all_gather': keys and values of all ranks are gathered before (and their gradients scattered after). 'ring': they
    travel round while each rank works on those it has (Liu et al., Ring Attention, 2023); in backward with their
    gradients. Causal work is half of each block but the own one. 'all_to_all': every rank gets whole sequences of its
    share of the heads, and gives the output back (Jacobs et al., DeepSpeed Ulysses, 2023); in backward the gradients.
    """
    n = plan.cp
    if plan.context == "all_to_all":
        yield from _by_heads(op, n)
        return
    width = 2 if op.passes == 1 else 4  # keys and values, in backward their gradients too
    kv = 0.5 * width * op.batch.size * op.keys * op.kv_heads.size * (op.head_dim + op.v_dim) * BYTES[op.dtype]
    mine = replace(op, queries=op.queries // n, causal=False)
    if plan.context == "all_gather":
        gathered = kv * 2 / width
        yield Collective(f"{op.name}_keys", "all_gather", "cp", gathered)
        yield replace(mine, keys=op.keys // (2 if op.causal else 1))
        if op.passes > 1:
            yield Collective(f"{op.name}_keys_gradient", "reduce_scatter", "cp", gathered)
        return
    for i in range(n):
        if i < n - 1 or op.passes > 1:
            yield Collective(f"{op.name}_keys", "send_recv", "cp", kv / n, background=True)
        if i == 0:
            yield replace(mine, keys=op.keys // n, causal=op.causal)
        else:
            yield replace(mine, keys=op.keys // n // (2 if op.causal else 1))
        yield Barrier("cp")


def _by_heads(op: Attention, n: int) -> Iterator[Step]:
    """Attention of whole sequences over a share of the heads, between the all-to-alls that bring them."""
    unit = BYTES[op.dtype]
    rows = op.batch.size * op.queries * op.heads.size / n
    keys = op.batch.size * op.keys * op.kv_heads.size / n
    entry = (rows * op.head_dim + keys * (op.head_dim + op.v_dim)) * unit
    output = rows * op.v_dim * unit
    before, after = (entry, output) if op.passes == 1 else (output, entry)
    yield Collective(f"{op.name}_heads", "all_to_all", "cp", before)
    heads = replace(op.heads, units=-(-op.heads.units // n))
    yield replace(op, heads=heads, kv_heads=replace(op.kv_heads, units=-(-op.kv_heads.units // n)))
    yield Collective(f"{op.name}_rows", "all_to_all", "cp", after)


def _gather_result(last: Operator, plan: Plan) -> Iterator[Collective]:
    """A program whose last matrix multiplication leaves slices (logits) gathers them."""
    if isinstance(last, Matmul) and last.slices_output(plan.tensor_ways):
        rows = last.split({"batch": plan.dp})
        yield Collective(f"{last.name}_gather", "all_gather", "tp", rows.output_bytes)
