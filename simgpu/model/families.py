"""Reading a Hugging Face `config.json` of a known family into a `TransformerConfig`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simgpu.documents import Document
from simgpu.errors import shown
from simgpu.model.config import MAX_EXPERTS, MAX_LAYERS, TransformerConfig
from simgpu.model.understood import Seen

_LLAMA_LIKE = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "phi3", "glm4_moe", "minimax_m2", "phimoe",
)  # fmt: skip
_DEEPSEEK_LIKE = ("deepseek_v2", "deepseek_v3", "kimi_k2")
_NESTED = ("gemma3", "llama4", "mistral3")
"""Models that see pictures too: their text model stands in `text_config`."""
_KNOWN_TYPES = (
    *_LLAMA_LIKE, *_DEEPSEEK_LIKE, *_NESTED, "bert", "gpt2", "mpt", "opt", "gemma3_text", "gpt_oss", "llama4_text",
)  # fmt: skip


def parse_config(name: str, document: Document) -> TransformerConfig:
    """The shape that a `config.json` describes. Raises `InputError` for a missing or impossible value."""
    kind = document.data.get("model_type")
    if not isinstance(kind, str) or kind not in _KNOWN_TYPES:
        known = ", ".join(sorted(_KNOWN_TYPES))  # a name that looks alike is another architecture
        raise document.error(f"{shown(kind)} is not supported; expected one of {known}", ("model_type",))
    if kind in _NESTED:
        return parse_config(name, _text_part(document, kind))
    seen = Seen(document.data)
    document = document.part(seen)
    readers = {"bert": _bert, "gpt2": _gpt2, "mpt": _mpt, "opt": _opt} | dict.fromkeys(_DEEPSEEK_LIKE, _deepseek)
    readers |= {"gemma3_text": _gemma, "gpt_oss": _gpt_oss, "llama4_text": _llama4}
    config = readers[kind](name, document) if kind in readers else _llama(name, document, kind)
    config = replace(config, mtp_layers=_further_layers(document))
    for key in seen.overlooked():
        problem = f"{shown(document.data[key])} changes the shape, and simgpu does not know how it does for '{kind}'"
        raise document.error(f"{problem}; take it out to leave that part of the model out", (key,))
    if config.heads % config.kv_heads:
        problem = f"{config.kv_heads} does not divide num_attention_heads = {config.heads}"
        raise document.error(problem, ("num_key_value_heads",))
    if config.experts_per_token > config.experts:
        problem = f"{config.experts_per_token} is more than the {config.experts} experts"
        raise document.error(problem, ("num_experts_per_tok",))
    return config


def _further_layers(document: Document) -> int:
    """Layers behind the model's own that each predict one more token (DeepSeek-V3, GLM-4.5; MiniMax-M2: modules)."""
    each = _count(document, "num_mtp_modules", 0, least=0, most=MAX_LAYERS)
    return _count(document, "num_nextn_predict_layers", each, least=0, most=MAX_LAYERS)


def _text_part(document: Document, kind: str) -> Document:
    """The section of a `config.json` that describes the text model, where the model also sees pictures."""
    text = document.data.get("text_config")
    if not isinstance(text, dict):
        raise document.error(f"{shown(text)} is not a mapping", ("text_config",))
    inner = {"gemma3": "gemma3_text", "llama4": "llama4_text", "mistral3": "mistral"}[kind]
    tied = (
        {}
        if "tie_word_embeddings" not in document.data
        else {"tie_word_embeddings": document.data["tie_word_embeddings"]}
    )
    return document.part({**tied, **text, "model_type": inner})


def _llama(name: str, document: Document, kind: str) -> TransformerConfig:
    heads = _count(document, "num_attention_heads")
    hidden = _count(document, "hidden_size")
    kinds = document.data.get("attn_type_list", [1])
    if not isinstance(kinds, list) or any(one != 1 for one in kinds):
        raise document.error(
            "only 1 in every place is supported: softmax attention in every layer", ("attn_type_list",)
        )
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
        # transformers, modeling_qwen3.py; others say so
        qk_norm=_flag(document, "use_qk_norm", False) or kind in ("qwen3", "qwen3_moe"),
        qk_norm_whole=document.data.get("qk_norm_type") == "per_layer",
        window=_window(document),
        **_mixture(document),
    )


def _mixture(document: Document) -> dict[str, Any]:
    """Experts under the names of several families; Mixtral's are as wide as a dense feed-forward would be."""
    keys = ("num_local_experts", "num_experts", "n_routed_experts")
    key = next((key for key in keys if key in document.data), keys[0])
    if document.data.get("mlp_only_layers"):
        raise document.error("only [] is supported: experts in every layer", ("mlp_only_layers",))
    if _count(document, "decoder_sparse_step", 1) != 1:
        raise document.error("only 1 is supported: experts in every layer", ("decoder_sparse_step",))
    return {
        "experts": _count(document, key, 1, most=MAX_EXPERTS),
        "experts_per_token": _count(document, "num_experts_per_tok", 1),
        "expert_ffn": _count(document, "moe_intermediate_size", 0, least=0),
        "shared_experts": _count(document, "n_shared_experts", 0, least=0),
        "dense_layers": _count(document, "first_k_dense_replace", 0, least=0),
        # a correction of each expert's score (transformers, modeling_glm4_moe.py, modeling_minimax_m2.py)
        "router_bias": document.data.get("model_type") == "glm4_moe" or _flag(document, "use_routing_bias", False),
    }


def _gemma(name: str, document: Document) -> TransformerConfig:
    """Gemma 3: windows in all but every sixth layer, four norms, defaults of transformers' Gemma3TextConfig."""
    heads = _count(document, "num_attention_heads", 8)
    return TransformerConfig(
        name=name,
        layers=_count(document, "num_hidden_layers", most=MAX_LAYERS),
        hidden=_count(document, "hidden_size"),
        heads=heads,
        kv_heads=_count(document, "num_key_value_heads", 4),
        head_dim=_count(document, "head_dim", 256),
        ffn=_count(document, "intermediate_size"),
        gated=True,
        vocab=_count(document, "vocab_size", 262208),
        max_tokens=_count(document, "max_position_embeddings", 131072),
        tied_embeddings=_flag(document, "tie_word_embeddings", True),
        rms_norm=True,
        rope=True,
        qkv_bias=_flag(document, "attention_bias", False),
        bias=False,
        qk_norm=True,
        window=_count(document, "sliding_window", 4096),
        window_every=_pattern(document, _count(document, "sliding_window_pattern", 6)),
        sandwich_norms=True,
    )


def _published(document: Document) -> str:
    """The quantisation that the checkpoint's file states; empty: none."""
    stored = document.data.get("quantization_config")
    return str(stored.get("quant_method", "")) if isinstance(stored, dict) else ""


def _gpt_oss(name: str, document: Document) -> TransformerConfig:
    """gpt-oss: windows in every other layer, sinks, biases everywhere (openai/gpt-oss, gpt_oss/torch/model.py)."""
    heads = _count(document, "num_attention_heads")
    width = _count(document, "intermediate_size")
    return TransformerConfig(
        name=name,
        layers=_count(document, "num_hidden_layers", most=MAX_LAYERS),
        hidden=_count(document, "hidden_size"),
        heads=heads,
        kv_heads=_count(document, "num_key_value_heads", heads),
        head_dim=_count(document, "head_dim"),
        ffn=width,
        gated=True,
        vocab=_count(document, "vocab_size"),
        max_tokens=_count(document, "max_position_embeddings"),
        tied_embeddings=_flag(document, "tie_word_embeddings", False),
        rms_norm=True,
        rope=True,
        qkv_bias=_flag(document, "attention_bias", True),
        bias=_flag(document, "attention_bias", True),
        qk_norm=False,
        window=_count(document, "sliding_window", 128),
        window_every=_pattern(document, 2),
        experts=_count(document, "num_local_experts", most=MAX_EXPERTS),
        experts_per_token=_count(document, "num_experts_per_tok"),
        expert_ffn=width,
        router_bias=True,
        sinks=True,
        published=_published(document),
    )


def _llama4(name: str, document: Document) -> TransformerConfig:
    """Llama 4: windows in three of four layers, a shared expert beside the routed ones, norms without weights.

    The chunks of `attention_chunk_size` tokens are taken as windows. Norms of queries and keys have no weights.
    """
    heads = _count(document, "num_attention_heads")
    _flag(document, "use_qk_norm", False)  # without weights
    return TransformerConfig(
        name=name,
        layers=_count(document, "num_hidden_layers", most=MAX_LAYERS),
        hidden=_count(document, "hidden_size"),
        heads=heads,
        kv_heads=_count(document, "num_key_value_heads", heads),
        head_dim=_count(document, "head_dim", 128),
        ffn=_count(document, "intermediate_size_mlp"),
        gated=True,
        vocab=_count(document, "vocab_size"),
        max_tokens=_count(document, "max_position_embeddings"),
        tied_embeddings=_flag(document, "tie_word_embeddings", False),
        rms_norm=True,
        rope=True,
        qkv_bias=False,
        bias=False,
        qk_norm=False,
        window=_count(document, "attention_chunk_size", 8192),
        window_every=4,  # no_rope_layer_interval of transformers' Llama4TextConfig
        experts=_count(document, "num_local_experts", most=MAX_EXPERTS),
        experts_per_token=_count(document, "num_experts_per_tok"),
        expert_ffn=_count(document, "intermediate_size"),
        shared_experts=1,
        moe_every=_count(document, "interleave_moe_layer_step", 1),
    )


def _pattern(document: Document, default: int) -> int:
    """The period of the layers that see all keys, from `layer_types` where a file lists them."""
    types = document.data.get("layer_types")
    if types is None:
        return default
    if not isinstance(types, list) or "full_attention" not in types:
        raise document.error(f"{shown(types)} names no layer with full_attention", ("layer_types",))
    every = types.index("full_attention") + 1
    expected = ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(len(types))]
    if types != expected:
        raise document.error(
            "only a repeating pattern of sliding_attention and full_attention is supported", ("layer_types",)
        )
    return every


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
    for key in ("num_key_value_heads", "head_dim"):  # what latent attention makes of the rest
        _count(document, key, 1)
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
        experts=_count(document, "n_routed_experts", most=MAX_EXPERTS),
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
    if document.data.get("use_sliding_window") and _count(document, "max_window_layers", 0, least=0):
        raise document.error("only 0 is supported: a window in every layer", ("max_window_layers",))
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
        raise document.error("this key is missing", (key,))
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        kind = "positive whole number" if least else "whole number"
        raise document.error(f"{shown(value)} is not a {kind} of at most {most:,}", (key,))
    return value
