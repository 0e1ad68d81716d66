"""One microbatch on one rank: what layers, embedding and head keep of it, and the walk backward through a stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from simgpu.memo import Region, remembered
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES, Attention, Communicate, Operator
from simgpu.model.transformer import embedding_operators, head_operators, layer_operators
from simgpu.plan.activations import Saved, embedding_mask, saved, saved_by_head
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.stack import Stack
from simgpu.plan.states import kinds_of_chunks, kinds_of_stage

STAGES = 256
"""Stages of pipelines that are remembered for each kind of microbatch."""


@dataclass(frozen=True)
class Moment:
    """Backward of a layer: bytes of those behind it that are freed, and what it has at work.

    Beside them stands the share of the stage's layers that are behind it.
    """

    freed: float
    working: float
    done: float


@dataclass(frozen=True)
class Walk:
    """The layers of a stage with one microbatch, in bytes.

    These are the bytes that all layers and those of the last chunk keep on the GPU, what all keep in host memory, and
    what of it is still here when forward ends; bytes of whole rows, of dummies of distinct weights,
    of keys and values, and of buffers of context parallelism; and how many layers there are. `moments` are those of
    backward through the last chunk that can be its fullest: of each run of alike layers the last, which has most below
    it, and the first layer, which has most gradients above it.
    """

    kept: float
    running: float
    away: float
    leaving: float
    wide: float
    dummies: float
    cache: float
    context: float
    count: int
    moments: tuple[Moment, ...]


@remembered(4096)
def microbatch_of(
    config: TransformerConfig, plan: Plan, numerics: Numerics, stack: Stack, sequences: int, tokens: int
) -> Microbatch:
    """Memory of one microbatch on a rank, whatever the stage; `plan` as within a layer."""
    return Microbatch(config, plan, numerics, stack, sequences, tokens)


@dataclass(frozen=True)
class Microbatch:
    """What `sequences` of `tokens` tokens on one rank need in layers, embedding and head.

    Plans that agree within a layer share it.
    """

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

    def walk(self, plan: Plan, stage: int) -> Walk:
        """The layers of a stage."""
        key = plan.pp, plan.vp, plan.last_stage, plan.stage_layers, stage, plan.recompute_layers, plan.offload_layers
        return self._walks.known(key, lambda: self._walk(plan, stage))

    @cached_property
    def _walks(self) -> Region[tuple[int, int, int, tuple[int, ...] | None, int, int | None, int | None], Walk]:
        return Region(STAGES)

    def layers(self, plan: Plan, stage: int) -> list[Saved]:
        """What each layer of a stage keeps."""
        pairs = [self.layer(kind) for kind in kinds_of_stage(self.config, plan, stage)]
        again = len(pairs) if plan.recompute_layers is None else plan.recompute_layers
        return [pair[0 if i < again else 1] for i, pair in enumerate(pairs)]

    def offloaded(self, plan: Plan, stage: int) -> list[list[float]]:
        """Bytes that each layer of each chunk of a stage keeps in host memory, 0 for those that stay."""
        stored = [layer.stored for layer in self.layers(plan, stage)]
        count = plan.offload_layers or 0
        sizes = iter(size if i < count else 0.0 for i, size in enumerate(stored))
        return [[next(sizes) for _ in chunk] for chunk in kinds_of_chunks(self.config, plan, stage)]

    def _walk(self, plan: Plan, stage: int) -> Walk:
        kinds = kinds_of_stage(self.config, plan, stage)
        layers = self.layers(plan, stage)
        chunks = [chunk for chunk in self.offloaded(plan, stage) if chunk]
        gone = chunks[-1] if chunks else []
        chunk = layers[len(layers) - len(gone) :]
        moments: list[Moment] = []
        kept = running = sum(layer.stored for layer in chunk) - sum(gone)
        latest: tuple[Saved, float, float] | None = None
        for i in range(len(chunk) - 1, -1, -1):
            back = gone[i] + (gone[i - 1] if i else 0.0)  # of this layer and of the next to run backward
            if (now := (chunk[i], gone[i], back)) != latest or i == 0:
                moments.append(Moment(running - kept, chunk[i].working + back, (len(chunk) - 1 - i) / len(layers)))
            latest = now
            kept -= chunk[i].stored - gone[i]
        if not chunk:  # the embedding or the head stands alone
            moments.append(Moment(0.0, 0.0, 0.0))
        shapes = frozenset[tuple[int, int]]().union(*(layer.weights for layer in dict.fromkeys(layers)))
        away = sum(map(sum, chunks))
        return Walk(
            sum(layer.stored for layer in layers) - away,
            running,
            away,
            sum(gone[-2:]),
            max((layer.wide for layer in layers), default=0.0),
            BYTES[self.numerics.weights] * sum(k * n for k, n in shapes),
            sum(self.cache(kind) for kind in kinds) if self.numerics.use_cache else 0.0,
            self.context(kinds[0]) if self.plan.cp > 1 and kinds else 0.0,
            len(layers),
            tuple(moments),
        )

    def cache(self, kind: str) -> float:
        """Keys and values of a layer, bytes."""
        parts = (op.split(self.plan.ways) for op in self.operators(kind) if isinstance(op, Attention))
        rows = ((part, part.head_dim + (part.v_head_dim or part.head_dim)) for part in parts)
        width = BYTES[self.numerics.wide]
        return sum(part.batch.size * part.keys * part.kv_heads.size * both * width for part, both in rows)

    def context(self, kind: str) -> float:
        """Bytes of keys and values of context parallelism, by `kind`.

        They are those of a ring, at work and arriving, in backward with their gradients; or those of the whole
        sequence, and their gradients; or what goes from parts of the sequence to heads.
        """
        parts = [op.split(self.plan.ways) for op in self.operators(kind) if isinstance(op, Attention)]
        width = BYTES[self.numerics.weights]
        if self.plan.context == "all_to_all":
            wide = sum(
                p.batch.size * (p.queries * p.heads.size + p.keys * p.kv_heads.size) * 2 * p.head_dim for p in parts
            )
            return wide * width
        rows = sum(part.batch.size * part.keys * part.kv_heads.size * 2 * part.head_dim for part in parts)
        return rows * width * (4 if self.plan.context == "ring" else 2 * self.plan.cp)
