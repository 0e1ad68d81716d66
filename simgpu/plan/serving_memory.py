"""Memory of one rank that serves a model: weights at their stored size, the cache, what a step needs beside them.

The cache of a sequence of t tokens takes, on the rank of a stage,

    sum over its layers of  2 ceil(kv_heads / tp) head_dim e min(t, window)     grouped or multi-query attention
                            (latent + rope) e t                                 latent attention, whole on every rank

bytes, with e bytes of an element; context parallelism shares the tokens. A layer with a state keeps that, however many
tokens there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Literal

from simgpu.memo import remembered
from simgpu.model.config import TransformerConfig, mixer_of
from simgpu.model.operators import BYTES, Communicate, ExpertLayer, GroupedMatmul, Kernel, Operator
from simgpu.model.serving import ExpertSplit, Group, separated, serving_embedding, serving_head, serving_layer
from simgpu.plan.memory import COMMUNICATOR_BYTES, PAIR_BYTES
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import Precision, bytes_of, is_boosted, is_gguf
from simgpu.plan.stages import spread_layers

PARTS = ("weights", "kv_cache", "activations", "logits", "graphs", "reserve")
"""Parts of the memory, as columns name them."""

ShareOf = Literal["total", "static", "free"]


@dataclass(frozen=True)
class ServingMemory:
    """Bytes of one rank. `host` are weights that stay in the host's memory; `budget` is what a runtime may use."""

    weights: float
    kv_cache: float
    activations: float
    logits: float
    graphs: float
    reserve: float
    budget: float
    capacity: float
    host: float = 0.0
    stage: int = 0

    @property
    def total(self) -> float:
        """Bytes of all parts."""
        return float(sum(getattr(self, part) for part in PARTS))

    @property
    def room(self) -> float:
        """Bytes that are left for a larger cache; below zero where it does not fit."""
        return self.budget - self.total

    @property
    def fits(self) -> bool:
        """True if what is held leaves room."""
        return self.room >= 0

    @property
    def short_by(self) -> float:
        """Bytes too many; 0 where it fits."""
        return max(-self.room, 0.0)

    def as_dict(self) -> dict[str, float | int]:
        """Fields, and the total."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"total": self.total}


@dataclass(frozen=True)
class Reserve:
    """Memory that a runtime sets aside: share of memory used, bytes of context and workspace, of graphs, of tokens.

    `share_of` says what the share is of: 'total', the GPU's memory, for everything; 'static', what the context leaves,
    for weights and cache alone; 'free', what everything but the cache leaves, for the cache.

    An engine that tries its largest step at its start keeps what that took: of the layers with `chunk` tokens, or of
    the `sampler` (bytes for each word of the vocabulary) on the tokens of `seats` sequences, whichever is more.
    """

    share: float = 0.9
    context: float = 1.2e9
    graphs: float = 0.0
    per_token: float = 0.0  # of a step, in place of what its layers need
    score: float = 0.0  # of a head, new token and key, where scores pass memory
    every_logit: bool = False  # logits of all tokens of a step, not of the last of each sequence
    share_of: ShareOf = "total"
    hidden: float = 0.0  # bytes of the memory that the driver keeps from programs
    sampler: float = 0.0
    seats: int = 0
    group: float = 0.0  # bytes of a tensor-parallel group's buffers and communicators; 0: as in training
    per_rank: float = 0.0  # bytes for each rank of an engine
    least: float = 0.0  # bytes that are kept free beside weights and cache at least


@dataclass(frozen=True)
class Served:
    """The model that is served, in a precision, split by a plan.

    A step has `chunk` new tokens at most; `offloaded` is the share of the layers' weights that stays in host memory.
    `by_layers`: layers spread over GPUs, as in llama.cpp, not split. `narrower` are precisions that the runtime has
    beside. `draft` is a model that guesses for the model, `part` one that shares its embedding and head. `tower` are
    bytes of a vision tower, whole on every rank of the first stage, `adapters` those of the slots of adapters.
    """

    config: TransformerConfig
    plan: Plan
    precision: Precision
    dtype: str = "bf16"
    kv_dtype: str = ""
    chunk: int = 8192
    reserve: Reserve = Reserve()
    offloaded: float = 0.0
    by_layers: bool = False
    narrower: tuple[str, ...] = ("fp8", "int4")
    draft: Served | None = None
    part: bool = False
    tower: float = 0.0
    adapters: float = 0.0


def experts_of(config: TransformerConfig, plan: Plan) -> ExpertSplit:
    """The ways that experts are shared: over a tensor-parallel group by number and by width, then over replicas."""
    if config.experts == 1:
        return ExpertSplit()
    copies = plan.redundant_experts
    if plan.ep <= plan.tp:
        return ExpertSplit(plan.ep, plan.tp // plan.ep, 1, copies)
    return ExpertSplit(plan.ep, 1, plan.ep // plan.tp, copies)


@remembered(4096)
def stage_weights(config: TransformerConfig, plan: Plan, precision: Precision, dtype: str, stage: int = 0) -> float:
    """Bytes of the weights of a rank of a stage, in their stored formats."""
    layers, ends = _weights(config, plan, precision, dtype, stage)
    return layers + ends


@remembered(4096)
def _weights(
    config: TransformerConfig, plan: Plan, precision: Precision, dtype: str, stage: int
) -> tuple[float, float]:
    """(layers, embedding and head) of `stage_weights`."""
    one = (Group(1, 1, 2),)
    kinds = [kind for kind, count in config.layer_kinds() for _ in range(count)]
    split = experts_of(config, plan)
    counts: dict[tuple[str, bool], int] = {}
    for layer in spread_layers(config.layers, plan.pp)[stage]:
        key = kinds[layer], is_boosted(precision, layer, config.layers)
        counts[key] = counts.get(key, 0) + 1
    inner = replace(plan, dp=1, pp=1, cp=1)

    def held(operators: Sequence[Operator], more: bool = False) -> float:
        parts = (op.split(inner.ways) for op in _apart(operators, precision) if not isinstance(op, Communicate))
        return sum(_bytes(part, precision, config, dtype, more) for part in parts)

    prompt = (Group(1, 2, 2),)  # latent attention holds its matrices as prompts use them
    layers = sum(
        count * held(serving_layer(config, kind, prompt, dtype, "fp32", experts=split), more)
        for (kind, more), count in counts.items()
    )
    ends = held(serving_embedding(config, one, dtype)) if stage == 0 else 0.0
    if stage == plan.pp - 1:
        ends += held(serving_head(config, one, dtype, "fp32"))
        if config.tied_embeddings and plan.pp > 1:
            ends += held(serving_embedding(config, one, dtype))
    return layers, ends


def _apart(operators: Sequence[Operator], precision: Precision) -> Sequence[Operator]:
    """GGUF files hold queries, keys and values apart, in formats of their own."""
    if not is_gguf(precision):
        return operators
    return tuple(separated(operators))


def _bytes(part: Kernel, precision: Precision, config: TransformerConfig, dtype: str, more: bool) -> float:
    assert not isinstance(part, GroupedMatmul)
    if isinstance(part, ExpertLayer) or part.weights:
        return bytes_of(part, precision, config, dtype, more)
    return 0.0


def cache_bytes(served: Served, tokens: int, stage: int = 0) -> float:
    """Bytes of the cache of one sequence of `tokens` tokens on a rank of a stage."""
    config, plan = served.config, served.plan
    if not config.causal:  # nothing comes after what an encoder has seen
        return 0.0
    width = BYTES[served.kv_dtype or served.dtype]
    kept = sum(
        count * (each * (min(tokens, window) if window else tokens) + (tokens // ratio if ratio else 0) * entry)
        for (window, each, ratio, entry), count in _caches(config, plan.tp, plan.pp, stage)
    )
    return float(kept) * width / plan.cp + state_bytes(served, stage)


def state_bytes(served: Served, stage: int = 0) -> float:
    """Bytes of the states of one sequence on a rank of a stage: of layers that keep one in place of a cache."""
    config, plan = served.config, served.plan
    if config.state is None:
        return 0.0
    kinds = _stage_kinds(config, plan.pp, stage)
    count = sum(n for kind, n in kinds if mixer_of(kind) in ("state", "both"))
    return count * config.state.state_bytes(plan.tp, BYTES[served.dtype])


@remembered(1024)
def _stage_kinds(config: TransformerConfig, stages: int, stage: int) -> tuple[tuple[str, int], ...]:
    """Kinds of the layers of a stage, and how many there are of each."""
    kinds = [kind for kind, count in config.layer_kinds() for _ in range(count)]
    return tuple(Counter(kinds[i] for i in spread_layers(config.layers, stages)[stage]).items())


@remembered(1024)
def _caches(
    config: TransformerConfig, tp: int, stages: int, stage: int
) -> tuple[tuple[tuple[int, int, int, int], int], ...]:
    """Layers of a stage that have a cache, and how many are alike.

    Each is its window (0: none), elements of a token, tokens that become one entry behind the window, elements of that.
    """
    found: Counter[tuple[int, int, int, int]] = Counter()
    for kind, count in _stage_kinds(config, stages, stage):
        if mixer_of(kind) in ("attention", "both"):
            c = config.of(kind)
            entry = c.head_dim + (ceil(c.index_dim / 2) if c.index_heads else 0) if c.compress else 0
            found[config.window_of(kind), elements_per_token(c, tp), c.compress, entry] += count
    return tuple(found.items())


def elements_per_token(config: TransformerConfig, tp: int = 1) -> int:
    """Elements that one layer keeps of a token, on one rank; keys of an indexer count as half, being of 8 bits."""
    if config.borrowed_kv:
        return 0
    if config.o_rank:  # the key is the value
        return config.head_dim
    if config.kv_rank:
        return config.kv_rank + config.qk_rope_dim + (ceil(config.index_dim / 2) if config.index_heads else 0)
    return ceil(config.kv_heads / tp) * (config.head_dim + config.value_dim)


def memory_of_stage(
    served: Served, batch: int, tokens: int, capacity: float, stage: int = 0, new: int | None = None
) -> ServingMemory:
    """Memory of a rank of `stage` with `batch` sequences that hold `tokens` tokens each at their longest.

    `new` tokens are in a step at most (default: the chunk, or all of them).
    """
    config, plan = served.config, served.plan
    local = ceil(batch / plan.dp)
    step = min(served.chunk, local * tokens) if new is None else min(new, served.chunk)
    layers, ends = _weights(config, plan, served.precision, served.dtype, stage)
    last = stage == plan.pp - 1
    wide = max(BYTES[served.dtype], 2.0)
    inner = max(config.ffn, config.experts_per_token * config.expert_width if config.experts > 1 else 0)
    activations = step / plan.cp * wide * (3 * config.hidden + 3 * inner / plan.tp)
    kept = served.reserve
    communicators = 0.0
    if plan.tp * plan.pp * plan.cp * plan.dp > 1:
        communicators = kept.group or (PAIR_BYTES if plan.tp * plan.cp <= 2 else COMMUNICATOR_BYTES)
    if kept.share_of == "static":  # whatever is not for weights and cache
        activations = max((1 - kept.share) * (capacity - kept.context - communicators) - kept.graphs, 0.0)
    elif kept.per_token:
        sums = served.chunk * kept.per_token + kept.per_rank * plan.tp * plan.pp
        activations = max(sums, kept.least - kept.context - kept.graphs)
    elif kept.sampler:
        activations = served.chunk / plan.cp * wide * (3 * config.hidden + 3 * inner / plan.tp)
    activations += kept.score * ceil(config.heads / plan.tp) * step / plan.cp * tokens
    rows = step if kept.every_logit else min(local, step)
    logits = last * rows * config.vocab * (4.0 + wide)
    if kept.sampler:
        logits = max(last * min(kept.seats, served.chunk) * config.vocab * kept.sampler - activations, 0.0)
    draft, guessed = _draft(served.draft, tokens) if served.draft is not None else (0.0, 0.0)
    held = ServingMemory(
        weights=layers * (1 - served.offloaded)
        + ends
        + draft
        + served.adapters
        + (served.tower if stage == 0 else 0.0),
        kv_cache=local * (cache_bytes(served, tokens, stage) + guessed),
        activations=activations,
        logits=logits,
        graphs=kept.graphs,
        reserve=kept.context + communicators,
        budget=(1.0 if kept.share_of == "static" else kept.share) * (capacity - kept.hidden),
        capacity=capacity,
        host=layers * served.offloaded,
        stage=stage,
    )
    if kept.share_of == "free":
        rest = held.total - held.kv_cache
        return replace(held, budget=min(rest + kept.share * (capacity - rest), capacity))
    return held


def _draft(draft: Served, tokens: int) -> tuple[float, float]:
    """(weights, cache of a sequence) of a draft on every rank of the model that it guesses for."""
    layers, ends = _weights(draft.config, draft.plan, draft.precision, draft.dtype, 0)
    return layers + (0.0 if draft.part else ends), cache_bytes(draft, tokens)


def serving_memory(served: Served, batch: int, tokens: int, capacity: float) -> tuple[ServingMemory, ...]:
    """Memory of a rank of every stage."""
    return tuple(memory_of_stage(served, batch, tokens, capacity, s) for s in range(served.plan.pp))


def fullest(memory: Sequence[ServingMemory]) -> ServingMemory:
    """The rank with the least room."""
    return min(memory, key=lambda one: one.room)


def most_sequences(served: Served, tokens: int, capacity: float) -> int:
    """Sequences of `tokens` tokens each that fit at once, all replicas together; 0 where not one does."""
    return _largest(lambda batch: _fits(served, batch * served.plan.dp, tokens, capacity), 1 << 20) * served.plan.dp


def cache_tokens(served: Served, batch: int, tokens: int, capacity: float) -> int:
    """Tokens that the cache of a replica holds beside weights and all else, as engines print it at their start.

    They measure themselves with the largest step; logits are of `batch` sequences of all replicas. Every layer counts
    whole, as in vLLM's line: where some see a window alone, longer sequences fit (`most_sequences`). 0 for encoders.
    """
    found = []
    for stage in range(served.plan.pp):
        each = _bytes_per_token(served, stage)
        held = memory_of_stage(served, batch, tokens, capacity, stage, new=served.chunk)
        states = ceil(batch / served.plan.dp) * state_bytes(served, stage)
        found.append((held.room + held.kv_cache - states) / each if each else 0.0)
    return max(int(min(found)), 0)


def _bytes_per_token(served: Served, stage: int) -> float:
    """Bytes that a token adds to the cache of a rank while no layer's window is full."""
    guessed = _draft(served.draft, 1)[1] if served.draft is not None else 0.0
    return cache_bytes(served, 1, stage) - state_bytes(served, stage) + guessed


def longest_context(served: Served, batch: int, capacity: float) -> int:
    """Tokens that each of `batch` sequences can hold, at most those of the model; 0 where not one fits."""
    most = served.config.max_tokens
    return _largest(lambda tokens: _fits(served, batch, tokens, capacity), most)


def _fits(served: Served, batch: int, tokens: int, capacity: float) -> bool:
    return all(memory_of_stage(served, batch, tokens, capacity, s).fits for s in range(served.plan.pp))


def _largest(works: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that works, all below it working too."""
    low, high = 0, 1
    while high <= most and works(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low
