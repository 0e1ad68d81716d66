"""Reading a Hugging Face `config.json` into the numbers a transformer's graph needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simgpu.documents import Document
from simgpu.errors import nearest, shown


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a transformer: decoder-only, or an encoder that sees both ways.

    Layers are all dense, or mixtures of experts after the first `dense_layers`. Attention is direct (with grouped keys
    and values), or latent where `kv_rank` is not zero; `head_dim` is then that of queries and keys.
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

    def layer_kinds(self) -> tuple[tuple[str, int], ...]:
        """Kinds of layers in order of depth, each with how many of them follow each other: 'dense' or 'moe'."""
        dense = self.layers if self.experts == 1 else min(self.dense_layers, self.layers)
        return tuple((kind, n) for kind, n in (("dense", dense), ("moe", self.layers - dense)) if n)

    @property
    def parameters(self) -> int:
        """Weights of the whole model, biases and norms included."""
        return self._parameters(self.experts)

    @property
    def active_parameters(self) -> int:
        """Of `parameters`, those that one token meets: of the experts only those it visits."""
        return self._parameters(self.experts_per_token)

    def _parameters(self, experts: int) -> int:
        """With `experts` of each mixture counted."""
        h, norm = self.hidden, self._norm
        each = {"dense": self._ffn(self.ffn)}
        each["moe"] = (experts + self.shared_experts) * self._ffn(self.expert_width)
        each["moe"] += self.experts * (h + self.router_bias)
        layers = sum(n * (self._attention + each[kind] + 2 * norm) for kind, n in self.layer_kinds())
        tables = self.vocab + self.position_rows + self.token_types
        head = norm + (0 if self.tied_embeddings else self.vocab * h)
        if self.pooler:
            head += h * h + h + 2 * h + 2
        if self.masked_lm:
            head += h * h + h + self.vocab
        return tables * h + (norm if self.post_norm else 0) + layers + head

    @property
    def _norm(self) -> int:
        return self.hidden if self.rms_norm else 2 * self.hidden

    @property
    def _attention(self) -> int:
        h, d, out = self.hidden, self.head_dim, self.heads * self.value_dim * self.hidden
        q, kv = self.heads * d, self.kv_heads * d
        biases = (q + 2 * kv if self.qkv_bias else 0) + (h if self.bias else 0)
        if not self.kv_rank:
            return h * (q + 2 * kv) + out + biases + (2 * d if self.qk_norm else 0)
        queries = (h + 1 + q) * self.q_rank if self.q_rank else h * q
        latent = h * (self.kv_rank + self.qk_rope_dim) + self.kv_rank
        return queries + latent + self.kv_rank * self.heads * (self.qk_nope_dim + self.value_dim) + out

    def _ffn(self, width: int) -> int:
        up = 2 if self.gated else 1
        return (up + 1) * self.hidden * width + (up * width + self.hidden if self.bias else 0)


MAX_LAYERS = 10_000

_LLAMA_LIKE = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "phi3")
_DEEPSEEK_LIKE = ("deepseek_v2", "deepseek_v3")
_KNOWN_TYPES = (*_LLAMA_LIKE, *_DEEPSEEK_LIKE, "bert", "gpt2", "mpt", "opt")


def parse_config(name: str, document: Document) -> TransformerConfig:
    """The shape that a `config.json` describes. Raises `InputError` for a missing or impossible value."""
    kind = document.data.get("model_type")
    if not isinstance(kind, str) or kind not in _KNOWN_TYPES:
        raise document.error(f"{shown(kind)} is not supported{nearest(kind, _KNOWN_TYPES)}", ("model_type",))
    readers = {"bert": _bert, "gpt2": _gpt2, "mpt": _mpt, "opt": _opt} | dict.fromkeys(_DEEPSEEK_LIKE, _deepseek)
    config = readers[kind](name, document) if kind in readers else _llama(name, document, kind)
    if config.heads % config.kv_heads:
        problem = f"{config.kv_heads} does not divide num_attention_heads = {config.heads}"
        raise document.error(problem, ("num_key_value_heads",))
    if config.experts_per_token > config.experts:
        problem = f"{config.experts_per_token} is more than the {config.experts} experts"
        raise document.error(problem, ("num_experts_per_tok",))
    return config


def _llama(name: str, document: Document, kind: str) -> TransformerConfig:
    heads = _count(document, "num_attention_heads")
    hidden = _count(document, "hidden_size")
    if document.data.get("head_dim") is None and hidden % heads:
        raise document.error(f"{heads} does not divide hidden_size = {hidden}", ("num_attention_heads",))
    head_dim = _count(document, "head_dim", hidden // heads)
    return TransformerConfig(
        name=name,
        layers=_count(document, "num_hidden_layers", most=MAX_LAYERS),
        hidden=hidden,
        heads=heads,
        kv_heads=_count(document, "num_key_value_heads", heads),
        head_dim=head_dim,
        ffn=_count(document, "intermediate_size"),
        gated=True,
        vocab=_count(document, "vocab_size"),
        max_tokens=_count(document, "max_position_embeddings"),
        tied_embeddings=_flag(document, "tie_word_embeddings", False),
        rms_norm=True,
        rope=True,
        # Qwen2 has biases on q, k and v without a field that says so (transformers, modeling_qwen2.py)
        qkv_bias=_flag(document, "attention_bias", kind == "qwen2"),
        bias=_flag(document, "mlp_bias", False),
        qk_norm=kind == "qwen3",  # transformers, modeling_qwen3.py
        window=_window(document),
        experts=_count(document, "num_local_experts", 1),
        experts_per_token=_count(document, "num_experts_per_tok", 1),
    )


def _gpt2(name: str, document: Document) -> TransformerConfig:
    hidden = _count(document, "n_embd")
    return TransformerConfig(
        name=name,
        layers=_count(document, "n_layer", most=MAX_LAYERS),
        **_heads(document, hidden, "n_head", "n_embd"),
        ffn=_count(document, "n_inner", 4 * hidden),
        gated=False,
        vocab=_count(document, "vocab_size"),
        max_tokens=_count(document, "n_positions"),
        tied_embeddings=_flag(document, "tie_word_embeddings", True),
        rms_norm=False,
        rope=False,
        qkv_bias=True,
        bias=True,
        qk_norm=False,
    )


def _deepseek(name: str, document: Document) -> TransformerConfig:
    """DeepSeek-V2 and V3, without the layers that predict further tokens (`num_nextn_predict_layers`)."""
    nope, rope = _count(document, "qk_nope_head_dim"), _count(document, "qk_rope_head_dim")
    heads, layers = _count(document, "num_attention_heads"), _count(document, "num_hidden_layers", most=MAX_LAYERS)
    if _count(document, "moe_layer_freq", 1) != 1:
        raise document.error("only 1 is supported: experts in every layer after the dense ones", ("moe_layer_freq",))
    return TransformerConfig(
        name=name,
        layers=layers,
        hidden=_count(document, "hidden_size"),
        heads=heads,
        kv_heads=heads,
        head_dim=nope + rope,
        ffn=_count(document, "intermediate_size"),
        gated=True,
        vocab=_count(document, "vocab_size"),
        max_tokens=_count(document, "max_position_embeddings"),
        tied_embeddings=_flag(document, "tie_word_embeddings", False),
        rms_norm=True,
        rope=True,
        qkv_bias=False,
        bias=False,
        qk_norm=False,
        experts=_count(document, "n_routed_experts"),
        experts_per_token=_count(document, "num_experts_per_tok"),
        expert_ffn=_count(document, "moe_intermediate_size"),
        shared_experts=_count(document, "n_shared_experts", 0, least=0),
        dense_layers=_count(document, "first_k_dense_replace", 0, least=0, most=layers),
        # e_score_correction_bias, only with this method (deepseek-ai/DeepSeek-V3, modeling_deepseek.py)
        router_bias=document.data.get("topk_method") == "noaux_tc",
        q_rank=_count(document, "q_lora_rank", 0, least=0),
        kv_rank=_count(document, "kv_lora_rank"),
        qk_nope_dim=nope,
        qk_rope_dim=rope,
        v_head_dim=_count(document, "v_head_dim"),
    )


def _mpt(name: str, document: Document) -> TransformerConfig:
    """MosaicML's MPT (llm-foundry, configuration_mpt.py): biases everywhere or nowhere; ALiBi has no positions."""
    attention = document.data.get("attn_config") or {}
    if not isinstance(attention, dict):
        raise document.error(f"{shown(attention)} is not a mapping", ("attn_config",))
    kind = attention.get("attn_type", "multihead_attention")
    if kind != "multihead_attention":
        raise document.error(f"{shown(kind)} is not supported; expected multihead_attention", ("attn_config",))
    biased = not _flag(document, "no_bias", False)
    learned = _flag(document, "learned_pos_emb", True) and attention.get("alibi") is not True
    hidden, most = _count(document, "d_model"), _count(document, "max_seq_len")
    return TransformerConfig(
        name=name,
        layers=_count(document, "n_layers", most=MAX_LAYERS),
        **_heads(document, hidden, "n_heads", "d_model"),
        ffn=_count(document, "expansion_ratio", 4) * hidden,
        gated=False,
        vocab=_count(document, "vocab_size"),
        max_tokens=most,
        tied_embeddings=_flag(document, "tie_word_embeddings", True),
        rms_norm=not biased,
        rope=False,
        qkv_bias=biased,
        bias=biased,
        qk_norm=False,
        positions=most if learned else 0,
    )


def _opt(name: str, document: Document) -> TransformerConfig:
    """Meta's OPT; its table of positions has two rows more than there are positions (transformers, modeling_opt.py)."""
    hidden, most = _count(document, "hidden_size"), _count(document, "max_position_embeddings")
    if not _flag(document, "do_layer_norm_before", True):
        raise document.error("only true is supported", ("do_layer_norm_before",))
    if _count(document, "word_embed_proj_dim", hidden) != hidden:
        raise document.error(f"only hidden_size = {hidden} is supported", ("word_embed_proj_dim",))
    biased = _flag(document, "enable_bias", True)
    return TransformerConfig(
        name=name,
        layers=_count(document, "num_hidden_layers", most=MAX_LAYERS),
        **_heads(document, hidden, "num_attention_heads", "hidden_size"),
        ffn=_count(document, "ffn_dim"),
        gated=False,
        vocab=_count(document, "vocab_size"),
        max_tokens=most,
        tied_embeddings=_flag(document, "tie_word_embeddings", True),
        rms_norm=False,
        rope=False,
        qkv_bias=biased,
        bias=biased,
        qk_norm=False,
        positions=most + 2,
    )


def _bert(name: str, document: Document) -> TransformerConfig:
    """BERT as it is pretrained: masked tokens and next sentence (transformers, BertForPreTraining)."""
    hidden = _count(document, "hidden_size")
    return TransformerConfig(
        name=name,
        layers=_count(document, "num_hidden_layers", most=MAX_LAYERS),
        **_heads(document, hidden, "num_attention_heads", "hidden_size"),
        ffn=_count(document, "intermediate_size"),
        gated=False,
        vocab=_count(document, "vocab_size"),
        max_tokens=_count(document, "max_position_embeddings"),
        tied_embeddings=_flag(document, "tie_word_embeddings", True),
        rms_norm=False,
        rope=False,
        qkv_bias=True,
        bias=True,
        qk_norm=False,
        causal=False,
        token_types=_count(document, "type_vocab_size", 2),
        post_norm=True,
        pooler=True,
        masked_lm=True,
    )


def _heads(document: Document, hidden: int, heads_key: str, hidden_key: str) -> dict[str, Any]:
    """Heads that share `hidden` evenly, each with its own keys and values."""
    heads = _count(document, heads_key)
    if hidden % heads:
        raise document.error(f"{heads} does not divide {hidden_key} = {hidden}", (heads_key,))
    return {"hidden": hidden, "heads": heads, "kv_heads": heads, "head_dim": hidden // heads}


def _window(document: Document) -> int:
    """Sliding window of the attention of every layer; 0 where there is none or it is switched off."""
    if document.data.get("sliding_window") is None or not _flag(document, "use_sliding_window", True):
        return 0
    return _count(document, "sliding_window")


def _flag(document: Document, key: str, default: bool) -> bool:
    value = document.data.get(key)
    if value is not None and not isinstance(value, bool):
        raise document.error(f"{shown(value)} is not true or false", (key,))
    return default if value is None else value


def _count(document: Document, key: str, default: int | None = None, least: int = 1, most: int = 10**9 - 1) -> int:
    value: Any = document.data.get(key)
    if value is None:
        value = default
    if value is None:
        raise document.error("is missing", (key,))
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        kind = "positive whole number" if least else "whole number"
        raise document.error(f"{shown(value)} is not a {kind} of at most {most:,}", (key,))
    return value
