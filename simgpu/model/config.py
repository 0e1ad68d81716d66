"""The shape of a transformer: the numbers its graph needs. Files are read in `simgpu.model.families`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter

from simgpu.errors import InputError
from simgpu.memo import remembered
from simgpu.model.layers import PREDICTS, Layer, Runs, feed_of, is_local, is_moe, mixer_of
from simgpu.model.recurrence import Recurrence
from simgpu.model.vision import Tower

__all__ = ["MAX_EXPERTS", "MAX_LAYERS", "TransformerConfig", "feed_of", "is_local", "is_moe", "mixer_of"]

MAX_LAYERS, MAX_EXPERTS = 10_000, 10_000
"""Most layers of a model, and experts of a layer: tens of times what is published."""


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a transformer: decoder-only, or an encoder that sees both ways.

    Layers are all dense, or mixtures of experts after the first `dense_layers` (every `moe_every`-th). Attention is
    direct (with grouped keys and values), or latent where `kv_rank` is not zero; `head_dim` is then that of queries and
    keys. A `window` limits all layers, or with `window_every` all but every so many-th.

    Layers that follow no such rule stand in `runs`, in order of depth: each kind names its mixer (attention, or the
    recurrence `state`), its feed-forward, and fields that are otherwise in it; `of` is the shape of one kind.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    gated: bool  # gate and up projection (SwiGLU) instead of one
    vocab: int
    max_tokens: int
    tied_embeddings: bool
    rms_norm: bool  # one weight vector for each norm (RMSNorm, LayerNorm without bias) instead of two (LayerNorm)
    rope: bool  # rotary positions instead of learned ones
    qkv_bias: bool
    bias: bool  # in the other projections
    qk_norm: bool  # RMSNorm over each query and key head
    window: int = 0  # keys that a query sees; 0: all before it
    experts: int = 1
    experts_per_token: int = 1
    expert_ffn: int = 0  # width of one expert; 0: ffn
    shared_experts: int = 0  # that every token visits besides
    dense_layers: int = 0  # layers without experts that come first
    router_bias: bool = False
    q_rank: int = 0  # width of the latent that queries are made of; 0: made of the hidden state
    kv_rank: int = 0  # width of the latent that keys and values are made of; 0: no latent attention
    qk_nope_dim: int = 0  # of `head_dim`, what has no rotary positions
    qk_rope_dim: int = 0  # of `head_dim`, what has; one key for all heads
    v_head_dim: int = 0  # width of a value; 0: head_dim
    causal: bool = True
    positions: int | None = None  # rows of the table of learned positions; None: max_tokens, 0 with rotary ones
    token_types: int = 0  # rows of the table of token types
    post_norm: bool = False  # norms behind attention, feed-forward and embedding, none before the head (BERT)
    pooler: bool = False  # first token pooled and classified (BERT's next sentence)
    masked_lm: bool = False  # a transformation and a norm before the logits, which have a bias (BERT)
    window_every: int = 0  # every so many-th layer sees all keys, the others a window; 0: all layers alike
    moe_every: int = 1  # every so many-th layer is a mixture of experts
    sandwich_norms: bool = False  # norms behind attention and feed-forward too, before they are added (Gemma)
    sinks: bool = False  # a learned logit for each head beside those of the keys (gpt-oss)
    published: str = ""  # precision that the checkpoint is stored in, where it is no plain type
    activation: str = ""  # function of the feed-forward as the file names it
    qk_norm_whole: bool = False  # the norms of queries and keys are over all heads together (MiniMax)
    parallel: bool = False  # attention and feed-forward read the same rows and are added together (GPT-J)
    single_norm: bool = False  # one norm before both of them
    out_bias: bool | None = None  # bias behind attention; None: as `bias`
    attention_gate: bool = False  # queries come with a gate of the output, as wide as they are (Qwen3-Next)
    shared_ffn: int = 0  # width of the shared experts together; 0: expert_width each
    shared_gate: bool = False  # a number weighs the shared experts (Qwen2-MoE)
    head_bias: bool = False  # a bias of the logits
    lm_head: bool = True  # logits; False: an encoder that is used for its hidden states
    embedding_norm: bool = False  # a norm behind the embedding (BLOOM)
    embedding_width: int = 0  # of the table of tokens, projected to and from `hidden`; 0: hidden
    final_norm: bool = True  # a norm before the logits
    norm_weights: bool = True  # False: norms without weights (OLMo)
    index_heads: int = 0  # of the indexer that picks keys (DeepSeek-V3.2); 0: attention sees all
    index_dim: int = 0
    index_topk: int = 0  # keys that it picks
    index_always: bool = False  # an engine's: it picks where there are no more than that, too
    o_rank: int = (
        0  # attention of one wide key for all heads; each group of heads is projected to so many (DeepSeek V4)
    )
    o_groups: int = 0
    compress: int = 0  # tokens behind the window that are kept as one (DeepSeek V4); 0: none are
    streams: int = 0  # residual streams that are mixed around attention and feed-forward (hyper-connections); 0: one
    latent_experts: int = 0  # width that experts read and write, projected from `hidden`; 0: hidden (Nemotron 3)
    keys_are_values: bool = False  # one projection makes both (Gemma 4)
    borrowed_kv: bool = False  # keys and values are those of an earlier layer (Gemma 4 E2B): none made, none kept
    head_gate: bool = False  # a number for each head weighs the output of attention (Step 3.5)
    layer_embedding: int = 0  # width of what each layer reads of a token in a table of its own (Gemma 3n, 4)
    predicted_streams: int = 0  # residual streams of which a layer computes one and predicts the others (AltUp); 0: one
    side_rank: int = 0  # of a product of low rank beside attention (LAuReL, Gemma 3n); 0: none
    depth_block: int = 0  # layers whose sum later layers attend to in place of a residual (Kimi K3); 0: a residual
    zero_experts: int = 0  # experts that do nothing, among which the router chooses too (LongCat-Flash)
    shared_block: bool = False  # reads the embedding beside the hidden state, and is projected out (Zamba)
    borrowed_weights: bool = False  # weights are those of an earlier layer of the kind (Zamba)
    adapter_rank: int = 0  # of what is added to the entry of a borrowed feed-forward (Zamba 2)
    adapted_attention: bool = False  # and to queries, keys and values
    feed_gate: bool = False  # a product of the hidden state gates what the feed-forward gives (RWKV 6)
    mtp_layers: int = 0  # modules that predict further tokens: in no count of parameters here
    trained_mtp: int = 0  # of such modules, those that are trained beside the model: layers, in counts of parameters
    published_wide: str = ""  # parts that it leaves in 16 bits: attention, state, shared, dense
    published_kv: str = ""  # type of the cache that it is made for
    state: Recurrence | None = None
    runs: Runs = ()
    vision: Tower | None = None  # beside it: in no count of parameters here
    left_out: str = ""  # what the file has besides, which is not in this shape: 'a vision tower'

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(_values(self))

    def __post_init__(self) -> None:
        for what, count, most in (("layers", self.layers, MAX_LAYERS), ("experts", self.experts, MAX_EXPERTS)):
            if count > most:
                raise InputError(f"{count:,} {what} are too many; expected at most {most:,}", key="model")

    @property
    def value_dim(self) -> int:
        """Width of a value of one head."""
        return self.v_head_dim or self.head_dim

    @property
    def expert_width(self) -> int:
        """Feed-forward width of one expert."""
        return self.expert_ffn or self.ffn

    @property
    def position_rows(self) -> int:
        """Rows of the table of learned positions."""
        if self.positions is not None:
            return self.positions
        return 0 if self.rope else self.max_tokens

    def takes(self, tokens: int) -> bool:
        """True if the model can compute a sequence of `tokens` tokens.

        A table of learned positions ends; rotary positions and biases by distance (ALiBi) go on.
        """
        return tokens <= self.max_tokens or self.position_rows == 0

    def said(self) -> dict[str, object]:
        """Fields as plain values: those of every transformer, then those that say something of this one."""
        found: dict[str, object] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in ("name", "runs", "vision") or (value == one.default and one.name not in USUAL):
                continue
            found[one.name] = value if not isinstance(value, Recurrence) else value.said()
        if self.runs:
            counts: dict[str, int] = {}
            for kind, count in self.layer_kinds():
                counts[kind] = counts.get(kind, 0) + count
            found["layers_by_kind"] = "; ".join(f"{count} x {kind}" for kind, count in counts.items())
        return found

    def layer_kinds(self) -> tuple[tuple[str, int], ...]:
        """Kinds of layers in order of depth, each with how many of them follow each other.

        'dense' or 'moe'; 'dense local' or 'moe local' where layers with a window stand between others without; of
        `runs` the name of each (`simgpu.model.layers.Layer.kind`). Modules that predict further tokens come last, as
        'moe mtp'.
        """
        return _layer_kinds(self)

    def of(self, kind: str) -> TransformerConfig:
        """The shape of one kind of layer."""
        return self if not self.runs else _shape_of(self, kind.removesuffix(PREDICTS))

    def _kind(self, layer: int) -> str:
        dense = self.experts == 1 or layer < self.dense_layers or (layer + 1) % self.moe_every != 0
        local = self.window and self.window_every and (layer + 1) % self.window_every != 0
        return ("dense" if dense else "moe") + (" local" if local else "")

    def window_of(self, kind: str) -> int:
        """Keys that a query sees in a kind of layer; 0: all before it."""
        if self.runs:
            return _layers_of(self)[kind.removesuffix(PREDICTS)].window
        return self.window if not self.window_every or is_local(kind) else 0

    @property
    def parameters(self) -> int:
        """Weights of the whole model, biases and norms included."""
        return self._parameters(self.experts)

    @property
    def active_parameters(self) -> int:
        """The number of parameters that one token uses: only the experts that it visits."""
        return self._parameters(self.experts_per_token)

    def _parameters(self, experts: int) -> int:
        """The number of parameters with `experts` of each mixture counted."""
        layers = sum(count * self.of(kind)._layer(kind, experts) for kind, count in self.layer_kinds())
        norm, h = self._norm, self.hidden
        tables = self.vocab * (self.embedding_width or h) + (self.position_rows + self.token_types) * h
        tables += 2 * self.embedding_width * h if self.embedding_width else 0
        tables += self.layers * self.layer_embedding * (self.vocab + h) + self._around_layers
        return tables + (norm if self.post_norm or self.embedding_norm else 0) + layers + self._head

    @property
    def _head(self) -> int:
        """Weights behind the last layer."""
        h = self.hidden
        head = self._norm if self.final_norm else 0
        if self.lm_head and not self.tied_embeddings:
            head += self.vocab * (self.embedding_width or h)
        if self.pooler:
            head += h * h + h + (2 * h + 2 if self.masked_lm else 0)
        if self.masked_lm:
            head += h * h + h + self.vocab
        return head + (self.vocab if self.head_bias else 0)

    def _layer(self, kind: str, experts: int) -> int:
        """Weights of one layer of a kind, whose shape this is."""
        mixer, feed = mixer_of(kind), feed_of(kind)
        found = self._between((mixer != "none") + (feed != "none"))
        if self.borrowed_weights:
            return found
        found += self._norms(mixer != "none", feed != "none") * self._norm
        if mixer in ("attention", "both"):
            found += self._attention
        if mixer in ("state", "both") and self.state is not None:
            found += self.state.parameters(self.hidden)
        if feed == "moe":
            found += self._mixture(experts)
        if kind.endswith(PREDICTS):
            found += 3 * self._norm + 2 * self.hidden * self.hidden
        return found + (self._ffn(self.ffn) if feed == "dense" else 0)

    def _between(self, halves: int) -> int:
        """Weights of a layer with so many halves that are in neither mixer, feed-forward nor norms."""
        h, n = self.hidden, self.predicted_streams
        found = 2 * h * self.layer_embedding + (halves * 2 * h if self.depth_block else 0)
        if self.streams:
            found += halves * (self.streams * (self.streams + 2) * (self.streams * h + 1) + 3)
        if n:
            found += n * n + n**3 + n * h + 2 * h + (h if self.layer_embedding else 0)
        if self.side_rank:
            found += 2 * h * self.side_rank + h
        if self.shared_block:
            found += h * h + self.adapter_rank * (h + (1 + self.gated) * self.ffn)
            found += 3 * self.adapter_rank * (self.entered + self.heads * self.head_dim) * self.adapted_attention
        return found

    @property
    def _around_layers(self) -> int:
        """Weights that make several residual streams of one before the first layer, and one of them behind the last."""
        h, n = self.hidden, self.predicted_streams
        found = self.streams * (self.streams * h + 1) + 1 if self.streams else 0
        return found + (2 * (n - 1) * h * h if n else 0) + (2 * h if self.depth_block else 0)

    def _norms(self, mixes: bool, feeds: bool) -> int:
        """Norms of a layer of the width of the hidden state."""
        halves = 1 if self.single_norm and mixes and feeds else mixes + feeds
        return (2 if self.sandwich_norms else 1) * halves

    def _mixture(self, experts: int) -> int:
        width = self.latent_experts or self.hidden
        router = self.routed * (self.hidden + self.router_bias) + (self.hidden if self.shared_gate else 0)
        around = 2 * self.hidden * self.latent_experts
        return experts * self._ffn(self.expert_width, width) + router + around + self._shared

    @property
    def routed(self) -> int:
        """Experts that the router scores: also those that do nothing."""
        return self.experts + self.zero_experts

    @property
    def entered(self) -> int:
        """Width of what attention reads."""
        return self.hidden * (1 + self.shared_block)

    @property
    def _shared(self) -> int:
        return self._ffn(self.shared_width) if self.shared_width else 0

    @property
    def shared_width(self) -> int:
        """Width of all shared experts together; 0 without."""
        return self.shared_ffn or self.shared_experts * self.expert_width

    @property
    def _norm(self) -> int:
        if not self.norm_weights:
            return 0
        return self.hidden if self.rms_norm else 2 * self.hidden

    @property
    def made_widths(self) -> tuple[int, int]:
        """Widths of the keys and of the values that a layer projects, all heads together."""
        if self.borrowed_kv:
            return 0, 0
        return self.kv_heads * self.head_dim, 0 if self.keys_are_values else self.kv_heads * self.value_dim

    @property
    def biased_output(self) -> bool:
        """True if the projection behind attention has a bias."""
        return self.bias if self.out_bias is None else self.out_bias

    @property
    def _attention(self) -> int:
        if self.o_rank:
            return self._shared_key
        h, d, out = self.hidden, self.head_dim, self.heads * self.value_dim * self.hidden
        q, (k, v) = self.heads * d * (1 + self.attention_gate), self.made_widths
        biases = (q + k + v if self.qkv_bias else 0) + (h if self.biased_output else 0)
        sinks = (self.heads if self.sinks else 0) + (h * self.heads if self.head_gate else 0)
        if not self.kv_rank:
            norms = (self.heads * d + self.kv_heads * d if self.qk_norm_whole else 2 * d) if self.qk_norm else 0
            norms += self._norm if self.shared_block else 0
            return self.entered * (q + k + v) + out + biases + norms + sinks + self._indexer
        gate = h * self.heads * self.value_dim if self.attention_gate else 0
        q = self.heads * d
        queries = (h + 1 + q) * self.q_rank if self.q_rank else h * q
        latent = h * (self.kv_rank + self.qk_rope_dim) + self.kv_rank
        keys = self.kv_rank * self.heads * (self.qk_nope_dim + self.value_dim)
        return queries + latent + keys + out + gate + sinks + self._indexer

    @property
    def _shared_key(self) -> int:
        """Queries by a latent, one key that is the value too, outputs by groups of heads, and what compresses keys."""
        h, d, wide = self.hidden, self.head_dim, self.heads * self.head_dim
        out = wide * self.o_rank + self.o_groups * self.o_rank * h
        small = self.heads + self.compress_weights
        index = (self.q_rank * self.index_heads * self.index_dim + h * self.index_heads) if self.index_heads else 0
        return (h + 1 + wide) * self.q_rank + h * d + d + out + h * self.compress_width + index + small

    @property
    def compress_width(self) -> int:
        """Columns of the products that compress keys: entry and gate, of two overlapping windows with an indexer."""
        overlap = 2 if self.index_heads else 1
        return 2 * overlap * (self.head_dim + (self.index_dim if self.index_heads else 0)) if self.compress else 0

    @property
    def compress_weights(self) -> int:
        """Places within a window, and norms, of what compresses keys."""
        if not self.compress:
            return 0
        widths = self.head_dim + (self.index_dim if self.index_heads else 0)
        return self.compress * self.compress_width // 2 + widths

    def entries(self, tokens: int) -> int:
        """Compressed keys that stand for `tokens` tokens."""
        return tokens // self.compress if self.compress else 0

    @property
    def _indexer(self) -> int:
        """Queries of the latent of queries, one key with a LayerNorm, a weight of each head."""
        if not self.index_heads:
            return 0
        wide = self.index_heads * self.index_dim
        return (
            (self.q_rank or self.hidden) * wide + self.hidden * (self.index_dim + self.index_heads) + 2 * self.index_dim
        )

    def _ffn(self, width: int, outer: int = 0) -> int:
        up, outer = (2 if self.gated else 1), outer or self.hidden
        gate = outer * outer if self.feed_gate else 0
        return (up + 1) * outer * width + (up * width + outer if self.bias else 0) + gate


_NAMES = [one.name for one in fields(TransformerConfig)]
USUAL = frozenset(_NAMES[: _NAMES.index("parallel")])
"""Fields that every transformer is described by."""

_values = attrgetter(*(one.name for one in fields(TransformerConfig)))


@remembered(256)
def _layer_kinds(config: TransformerConfig) -> tuple[tuple[str, int], ...]:
    if config.runs:
        found = tuple((layer.kind, count) for layer, count in config.runs)
    else:
        kinds = (config._kind(layer) for layer in range(config.layers))
        found = tuple((kind, len(list(members))) for kind, members in groupby(kinds))
    return (*found, (found[-1][0] + PREDICTS, config.trained_mtp)) if config.trained_mtp else found


@remembered(256)
def _layers_of(config: TransformerConfig) -> dict[str, Layer]:
    """Layers by the names of their kinds."""
    return {layer.kind: layer for layer, _ in config.runs}


@remembered(1024)
def _shape_of(config: TransformerConfig, kind: str) -> TransformerConfig:
    layer = _layers_of(config)[kind]
    changes: dict[str, object] = dict(layer.changes)
    return replace(config, runs=(), window=layer.window, window_every=0, **changes)  # type: ignore[arg-type]
