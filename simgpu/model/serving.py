"""One step of an inference engine as operators: new tokens of some sequences over what their caches hold.

A step takes groups of sequences that are alike: prompts (many new tokens), chunks of prompts (new tokens behind cached
ones), decodes (one new token), and speculated tokens that are verified (a few). All new tokens go through the matrix
multiplications together; each group has an attention of its own. Experts are one fused layer, as inference engines
run them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from simgpu.model import residuals
from simgpu.model.attention_block import index, outputs, projections, visible
from simgpu.model.config import TransformerConfig, feed_of, is_moe, mixer_of
from simgpu.model.feed_forward import dense_operators, into_experts, out_of_experts, shared_operators
from simgpu.model.operators import Attention, Communicate, Dim, ExpertLayer, Matmul, Operator
from simgpu.model.state_block import state_operators
from simgpu.model.transformer import embedding_operators, head_product, in_order, norm_operator

FEW_QUERIES = 16
"""New tokens of a sequence up to which latent attention runs absorbed: multiplying by the expanded keys of the whole
cache would cost more."""


@dataclass(frozen=True)
class Group:
    """`count` sequences with `queries` new tokens each; `keys` are those and what the cache holds before them.

    `logits` are the tokens of a sequence whose logits are needed: its last, all that are verified, none of a chunk that
    is not the last of its prompt.
    """

    count: int
    queries: int
    keys: int
    logits: int = 1

    @property
    def tokens(self) -> int:
        """New tokens of all sequences."""
        return self.count * self.queries


@dataclass(frozen=True)
class ExpertSplit:
    """How the experts of a layer are shared: over `ranks` by number, each over `width` ranks by its width.

    `replicas` data-parallel ranks bring their tokens together and exchange them by all-to-all. `copies` of popular
    experts lie on ranks beside them, which are then placed by their loads; None: by chance.
    """

    ranks: int = 1
    width: int = 1
    replicas: int = 1
    copies: int | None = None


def separated(operators: Iterable[Operator]) -> Iterator[Operator]:
    """Queries, keys and values, and gate and up, as products of their own."""
    for op in operators:
        if isinstance(op, Matmul) and op.name == "qkv":
            q, kv = op.n[0], op.n[-1]
            if len(op.n) == 1:
                yield replace(op, name="q")
                continue
            half = Dim(kv.units, kv.width // 2, kv.axis)
            for name, dim in (("q", q), ("k", half), ("v", half)):
                yield replace(op, name=name, n=(dim,))
        elif isinstance(op, Matmul) and op.name.endswith("_up") and len(op.n) == 1 and op.n[0].width == 2:
            half = replace(op.n[0], width=1)
            yield replace(op, name=op.name.replace("_up", "_gate"), n=(half,))
            yield replace(op, n=(half,))
        else:
            yield op


def is_decode(groups: Iterable[Group]) -> bool:
    """True if a step has no prompts: each of its sequences gets a token, or verifies a few."""
    return all(group.queries <= FEW_QUERIES for group in groups)


def tokens_of(groups: Sequence[Group]) -> int:
    """New tokens of a step."""
    return sum(group.tokens for group in groups)


def serving_layer(
    config: TransformerConfig, kind: str, groups: Sequence[Group], dtype: str, accumulate: str, kv_dtype: str = "",
    experts: ExpertSplit = ExpertSplit(), routing: str = "random",
) -> tuple[Operator, ...]:  # fmt: skip
    """Operators of one layer of a kind in a step."""
    c, rows = config.of(kind), _rows(tokens_of(groups))
    mixer: list[Operator] = []
    if mixer_of(kind) in ("attention", "both"):
        mixer += _attentive(c, config.window_of(kind), groups, dtype, accumulate, kv_dtype)
    if mixer_of(kind) in ("state", "both"):
        sequences = [(Dim(group.count), group.queries, group.keys > group.queries) for group in groups]
        mixer += state_operators(c, rows, sequences, dtype, accumulate)
    inner: tuple[Operator, ...] = ()
    if is_moe(kind):
        inner = _experts(c, rows, dtype, accumulate, experts, routing)
    elif feed_of(kind) == "dense":
        inner = dense_operators(c, rows, c.ffn, dtype, accumulate)
    return residuals.lent(c, rows, dtype, accumulate, in_order(c, rows, dtype, tuple(mixer), inner))


def _attentive(
    config: TransformerConfig, window: int, groups: Sequence[Group], dtype: str, accumulate: str, kv_dtype: str
) -> tuple[Operator, ...]:
    """Attention of a layer with its projections."""
    c, rows = config, _rows(tokens_of(groups))
    return (
        *_projected(c, groups, dtype, accumulate),
        *(op for group in groups for op in index(c, Dim(group.count), group.queries, group.keys)),
        *(
            _attention(c, visible(c, window, group.queries, group.keys), group, dtype, accumulate, kv_dtype)
            for group in groups
        ),
        *_expanded(c, groups, dtype, accumulate),
        *outputs(c, rows, dtype, accumulate),
    )


def serving_embedding(config: TransformerConfig, groups: Sequence[Group], dtype: str) -> tuple[Operator, ...]:
    """Operators before the first layer."""
    return embedding_operators(config, 1, tokens_of(groups), dtype)


def serving_head(
    config: TransformerConfig, groups: Sequence[Group], dtype: str, accumulate: str, every: bool = False
) -> tuple[Operator, ...]:
    """Norm of all rows, then logits of those that need them, all of them where `every`."""
    c, rows = config, _rows(tokens_of(groups))
    wanted = tokens_of(groups) if every else sum(group.count * group.logits for group in groups)
    operators: list[Operator] = [*residuals.streams_joined(c, rows, dtype, accumulate)]
    if not c.post_norm and c.final_norm:
        operators.append(norm_operator("final_norm", c, rows, dtype))
    if wanted:
        operators += head_product(c, _rows(wanted), (Dim(c.vocab, 1, "vocab"),), dtype, accumulate)
    return tuple(operators)


def _rows(tokens: int) -> Dim:
    return Dim(1, max(tokens, 1), "batch")


def _projected(config: TransformerConfig, groups: Sequence[Group], dtype: str, accumulate: str) -> tuple[Operator, ...]:
    """Queries, keys and values of all new tokens.

    Latent attention expands keys and values of prompts alone, which then include those of their cached tokens; decodes
    multiply their queries into the latent space instead.
    """
    c = config
    if not c.kv_rank:
        return projections(c, _rows(tokens_of(groups)), dtype, accumulate)
    wide = sum(group.count * group.keys for group in groups if not _absorbed(c, group))
    few = sum(group.tokens for group in groups if _absorbed(c, group))
    operators: list[Operator] = []
    for op in projections(c, _rows(tokens_of(groups)), dtype, accumulate):
        if not isinstance(op, Matmul) or op.name != "kv_up":
            operators.append(op)
            continue
        if wide:
            operators.append(Matmul("kv_up", _rows(wide), op.n, op.k, dtype, accumulate))
        if few:
            over, latent = (Dim(c.heads, 1, "heads"),), (Dim(c.kv_rank),)
            operators.append(Matmul("q_absorb", _rows(few), latent, Dim(c.qk_nope_dim), dtype, accumulate, over=over))
    return tuple(operators)


def _expanded(config: TransformerConfig, groups: Sequence[Group], dtype: str, accumulate: str) -> tuple[Operator, ...]:
    """Values of absorbed latent attention, out of the latent space."""
    c = config
    few = sum(group.tokens for group in groups if _absorbed(c, group))
    if not few:
        return ()
    over = (Dim(c.heads, 1, "heads"),)
    return (Matmul("v_absorb", _rows(few), (Dim(c.value_dim),), Dim(c.kv_rank), dtype, accumulate, over=over),)


def _absorbed(config: TransformerConfig, group: Group) -> bool:
    """True if queries are multiplied into the latent space: of decodes, and of prompts whose keys are picked."""
    few = group.queries <= FEW_QUERIES and group.keys > group.queries
    return bool(config.kv_rank) and (few or _picks(config, group))


def _picks(config: TransformerConfig, group: Group) -> bool:
    """True if there are more keys than an indexer picks, or if it always does."""
    many = config.index_always or group.keys > config.index_topk
    return bool(config.index_heads) and not config.compress and many


def _attention(
    config: TransformerConfig, window: int, group: Group, dtype: str, accumulate: str, kv_dtype: str
) -> Attention:
    c, sequences, heads = config, Dim(group.count), Dim(config.heads, 1, "heads")
    name = "attention" if group.queries > FEW_QUERIES else "attention_decode"
    if _absorbed(c, group):
        latent = c.kv_rank + c.qk_rope_dim
        return Attention(
            name, sequences, group.queries, group.keys, heads, Dim(1), latent, dtype, c.causal,
            accumulate=accumulate, window=window, v_head_dim=c.kv_rank, kv_dtype=kv_dtype, cache_width=latent,
            picked=bool(c.index_heads) and not c.compress,
        )  # fmt: skip
    if c.o_rank and group.queries <= FEW_QUERIES and group.keys > group.queries:
        return Attention(
            name, sequences, group.queries, group.keys, heads, Dim(1), c.head_dim, dtype, c.causal,
            accumulate=accumulate, window=window, v_head_dim=c.head_dim - c.qk_rope_dim, kv_dtype=kv_dtype,
            cache_width=c.head_dim,
        )  # fmt: skip
    return Attention(
        name, sequences, group.queries, group.keys, heads, Dim(c.kv_heads, 1, "heads"), c.head_dim, dtype, c.causal,
        accumulate=accumulate, window=window, v_head_dim=c.v_head_dim, kv_dtype=kv_dtype, sinks=c.sinks,
    )  # fmt: skip


def _experts(
    config: TransformerConfig, rows: Dim, dtype: str, accumulate: str, split: ExpertSplit, routing: str
) -> tuple[Operator, ...]:
    """Router, experts, shared experts.

    Ranks that hold all tokens add up their experts' parts by an all-reduce, which a shared expert's sum goes into;
    replicas exchange tokens by all-to-all, at the width of the activations.
    """
    c, width, tokens = config, config.latent_experts or config.hidden, rows.size
    everywhere = tokens * split.replicas
    routing = f"{routing}+{split.copies}" if split.copies is not None else routing
    layer = ExpertLayer(
        "experts", everywhere, c.experts_per_token, c.experts, split.ranks, width,
        -(-c.expert_width // split.width), c.gated, dtype, routing, bias=c.bias,
    )  # fmt: skip
    operators: list[Operator] = [
        Matmul("router", rows, (Dim(c.routed),), Dim(c.hidden), dtype, accumulate, bias=c.router_bias),
        *into_experts(c, rows, dtype, accumulate),
    ]
    if split.replicas > 1:
        visits = 2.0 * tokens * min(c.experts_per_token, split.ranks) * width
        operators += [
            Communicate("dispatch", "all_to_all", visits, "experts"),
            layer,
            Communicate("combine", "all_to_all", visits, "experts"),
        ]
    else:
        operators.append(layer)
    operators += out_of_experts(c, rows, dtype, accumulate)
    if c.shared_width:
        operators += shared_operators(c, rows, dtype, accumulate)
    elif split.replicas == 1:
        operators.append(Communicate("experts_sum", "all_reduce", 2.0 * tokens * c.hidden, "tp", rows))
    return tuple(operators)
