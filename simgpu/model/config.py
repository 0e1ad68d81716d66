"""The shape of a transformer: the numbers its graph needs. Files are read in `simgpu.model.families`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from simgpu.errors import InputError
from simgpu.memo import remembered

MAX_LAYERS, MAX_EXPERTS = 10_000, 10_000
"""Most layers of a model, and experts of a layer: tens of times what is published."""


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a transformer: decoder-only, or an encoder that sees both ways.

    Layers are all dense, or mixtures of experts after the first `dense_layers` (every `moe_every`-th). Attention is
    direct (with grouped keys and values), or latent where `kv_rank` is not zero; `head_dim` is then that of queries and
    keys. A `window` limits all layers, or with `window_every` all but every so many-th.
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
    published: str = ""  # how the checkpoint stores its weights, where it is no plain type
    activation: str = ""  # function of the feed-forward as the file names it
    mtp_layers: int = 0  # further layers that each predict one more token; no part of the simulated model
    qk_norm_whole: bool = False  # the norms of queries and keys are over all heads together (MiniMax)

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

    def layer_kinds(self) -> tuple[tuple[str, int], ...]:
        """Kinds of layers in order of depth, each with how many of them follow each other.

        'dense' or 'moe'; 'dense local' or 'moe local' where layers with a window stand between others without.
        """
        return _layer_kinds(self)

    def _kind(self, layer: int) -> str:
        dense = self.experts == 1 or layer < self.dense_layers or (layer + 1) % self.moe_every != 0
        local = self.window and self.window_every and (layer + 1) % self.window_every != 0
        return ("dense" if dense else "moe") + (" local" if local else "")

    def window_of(self, kind: str) -> int:
        """Keys that a query sees in a kind of layer; 0: all before it."""
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
        norms = (4 if self.sandwich_norms else 2) * self._norm
        layers = 0
        for kind, count in self.layer_kinds():
            inner = self._mixture(experts) if is_moe(kind) else self._ffn(self.ffn)
            layers += count * (self._attention + inner + norms)
        norm, h = self._norm, self.hidden
        tables = self.vocab + self.position_rows + self.token_types
        head = norm + (0 if self.tied_embeddings else self.vocab * h)
        if self.pooler:
            head += h * h + h + 2 * h + 2
        if self.masked_lm:
            head += h * h + h + self.vocab
        return tables * h + (norm if self.post_norm else 0) + layers + head

    def _mixture(self, experts: int) -> int:
        router = self.experts * (self.hidden + self.router_bias)
        return (experts + self.shared_experts) * self._ffn(self.expert_width) + router

    @property
    def _norm(self) -> int:
        return self.hidden if self.rms_norm else 2 * self.hidden

    @property
    def _attention(self) -> int:
        h, d, out = self.hidden, self.head_dim, self.heads * self.value_dim * self.hidden
        q, kv = self.heads * d, self.kv_heads * d
        biases = (q + 2 * kv if self.qkv_bias else 0) + (h if self.bias else 0)
        if not self.kv_rank:
            norms = (q + kv if self.qk_norm_whole else 2 * d) if self.qk_norm else 0
            return h * (q + 2 * kv) + out + biases + norms + (self.heads if self.sinks else 0)
        queries = (h + 1 + q) * self.q_rank if self.q_rank else h * q
        latent = h * (self.kv_rank + self.qk_rope_dim) + self.kv_rank
        return queries + latent + self.kv_rank * self.heads * (self.qk_nope_dim + self.value_dim) + out

    def _ffn(self, width: int) -> int:
        up = 2 if self.gated else 1
        return (up + 1) * self.hidden * width + (up * width + self.hidden if self.bias else 0)


def is_moe(kind: str) -> bool:
    """True if a kind of layer is a mixture of experts."""
    return kind.startswith("moe")


def is_local(kind: str) -> bool:
    """True if a kind of layer has a window where others have none."""
    return kind.endswith(" local")


@remembered(256)
def _layer_kinds(config: TransformerConfig) -> tuple[tuple[str, int], ...]:
    kinds = (config._kind(layer) for layer in range(config.layers))
    return tuple((kind, len(list(members))) for kind, members in groupby(kinds))
