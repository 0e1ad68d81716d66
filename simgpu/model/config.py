"""Reading a Hugging Face `config.json` into the numbers a transformer's graph needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simgpu.documents import Document
from simgpu.errors import nearest, shown


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a decoder-only transformer."""

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
    rms_norm: bool  # RMSNorm (one weight vector) instead of LayerNorm (two)
    rope: bool  # rotary positions instead of learned ones
    qkv_bias: bool
    bias: bool  # in the other projections
    qk_norm: bool  # RMSNorm over each query and key head
    window: int = 0  # keys that a query sees; 0: all before it
    experts: int = 1
    experts_per_token: int = 1

    def layer_kinds(self) -> tuple[tuple[str, int], ...]:
        """Kinds of layers in order of depth, each with how many of them follow each other: 'dense' or 'moe'."""
        return (("dense" if self.experts == 1 else "moe", self.layers),)

    @property
    def parameters(self) -> int:
        """Weights of the whole model, biases and norms included."""
        h, d = self.hidden, self.head_dim
        q, kv = self.heads * d, self.kv_heads * d
        norm = h if self.rms_norm else 2 * h
        attention = h * (q + 2 * kv) + q * h + (q + 2 * kv if self.qkv_bias else 0) + (h if self.bias else 0)
        ffn = (3 if self.gated else 2) * h * self.ffn + (self.ffn + h if self.bias else 0)
        router = h * self.experts if self.experts > 1 else 0
        layer = attention + self.experts * ffn + router + 2 * norm + (2 * d if self.qk_norm else 0)
        embeddings = self.vocab * h * (1 if self.tied_embeddings else 2)
        positions = 0 if self.rope else self.max_tokens * h
        return embeddings + positions + self.layers * layer + norm


MAX_LAYERS = 10_000

_LLAMA_LIKE = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "phi3")
_KNOWN_TYPES = (*_LLAMA_LIKE, "gpt2")


def parse_config(name: str, document: Document) -> TransformerConfig:
    """The shape that a `config.json` describes. Raises `InputError` for a missing or impossible value."""
    kind = document.data.get("model_type")
    if not isinstance(kind, str) or kind not in _KNOWN_TYPES:
        raise document.error(f"{shown(kind)} is not supported{nearest(kind, _KNOWN_TYPES)}", ("model_type",))
    config = _gpt2(name, document) if kind == "gpt2" else _llama(name, document, kind)
    if config.heads % config.kv_heads:
        problem = f"{config.kv_heads} does not divide num_attention_heads = {config.heads}"
        raise document.error(problem, ("num_key_value_heads",))
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
    hidden, heads = _count(document, "n_embd"), _count(document, "n_head")
    if hidden % heads:
        raise document.error(f"{heads} does not divide n_embd = {hidden}", ("n_head",))
    return TransformerConfig(
        name=name,
        layers=_count(document, "n_layer", most=MAX_LAYERS),
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
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


def _count(document: Document, key: str, default: int | None = None, most: int = 10**9 - 1) -> int:
    value: Any = document.data.get(key)
    if value is None:
        value = default
    if value is None:
        raise document.error("is missing", (key,))
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise document.error(f"{shown(value)} is not a positive whole number of at most {most:,}", (key,))
    return value
