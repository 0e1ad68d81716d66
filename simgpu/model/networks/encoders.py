"""Encoders of text and images from their `config.json`: CLIP, T5, BERT and its kin, ViT.

Source of the layers: huggingface/transformers, models/clip/modeling_clip.py, t5/modeling_t5.py, bert/modeling_bert.py,
vit/modeling_vit.py.
"""

from __future__ import annotations

from simgpu.model.networks.build import Builder, Window
from simgpu.model.networks.config import Config

ACTIVATIONS = {"gelu": 1, "relu": 1, "silu": 1, "gelu_new": 8, "quick_gelu": 3, "gelu_fast": 8, "gelu_pytorch_tanh": 1}
"""Kernels of an activation as transformers writes it (activations.py): GELU by tanh step by step takes eight."""


def activate(b: Builder, config: Config, key: str, tokens: int, width: int, default: str = "gelu") -> None:
    """The activation that a key names, over `tokens` of each sequence."""
    for _ in range(ACTIVATIONS[config.word(key, default, ACTIVATIONS)]):
        b.activation("activation", b.rows(tokens), width)


def encoder_layer(
    b: Builder, config: Config, tokens: int, h: int, heads: int, inner: int, causal: bool = False,
    act: str = "hidden_act",
) -> None:  # fmt: skip
    """A layer with biases and two layer norms, whichever side they stand on."""
    rows = b.rows(tokens)
    b.layer_norm("norm1", rows, h)
    b.linear("qkv", rows, h, h, times=3)
    b.attention("attention", tokens, tokens, heads, h // heads, causal)
    b.linear("out", rows, h, h)
    b.elementwise("add1", rows, h, reads=2)
    b.layer_norm("norm2", rows, h)
    b.linear("fc1", rows, inner, h)
    activate(b, config, act, tokens, inner)
    b.linear("fc2", rows, h, inner)
    b.elementwise("add2", rows, h, reads=2)


def clip_text(config: Config, b: Builder) -> None:
    """CLIP's text model: causal, padded to its positions."""
    h, heads = config.count("hidden_size"), config.count("num_attention_heads")
    config.divides(heads, h, "num_attention_heads", "hidden_size")
    positions = config.count("max_position_embeddings", 77)
    tokens = b.inputs.tokens or positions
    if tokens > positions:
        raise config.error(f"{tokens} tokens are more than the {positions} positions", "max_position_embeddings")
    b.embedding("embedding", tokens, config.count("vocab_size"), h, positions)
    b.elementwise("positions", b.rows(tokens), h, reads=2)
    with b.segment("layers", config.count("num_hidden_layers")):
        encoder_layer(b, config, tokens, h, heads, config.count("intermediate_size"), causal=True)
    b.layer_norm("norm", b.rows(tokens), h)
    if any("Projection" in str(one) for one in config.get("architectures", [])):
        b.linear("projection", b.batch, config.count("projection_dim"), h, bias=False)


def bert(config: Config, b: Builder) -> None:
    """BERT, RoBERTa, embedding models and rerankers made of them: an encoder, a pooler, a classifier where one is."""
    h, heads = config.count("hidden_size"), config.count("num_attention_heads")
    config.divides(heads, h, "num_attention_heads", "hidden_size")
    tokens, positions = b.inputs.tokens or 512, config.count("max_position_embeddings", 512)
    if tokens > positions:
        raise config.error(f"{tokens} tokens are more than the {positions} positions", "max_position_embeddings")
    types = config.count("type_vocab_size", 2, least=0)
    rows = b.rows(tokens)
    b.embedding("embedding", tokens, config.count("vocab_size"), h, positions + types)
    b.elementwise("positions", rows, h, reads=3)
    b.layer_norm("norm", rows, h)
    with b.segment("layers", config.count("num_hidden_layers")):
        encoder_layer(b, config, tokens, h, heads, config.count("intermediate_size"), causal=False)
    b.linear("pooler", b.batch, h, h)
    b.activation("pooler_tanh", b.batch, h)
    if any("SequenceClassification" in str(one) for one in config.get("architectures", [])):  # rerankers
        labels = config.get("id2label")
        b.linear("classifier", b.batch, len(labels) if isinstance(labels, dict) else config.count("num_labels", 2), h)


def vit(config: Config, b: Builder) -> None:
    """A vision transformer: patches, a class token, layers with norms before them."""
    h, heads = config.count("hidden_size"), config.count("num_attention_heads")
    config.divides(heads, h, "num_attention_heads", "hidden_size")
    patch, image = config.count("patch_size"), config.count("image_size")
    height, width = b.inputs.height or image, b.inputs.width or image
    for key, value in (("height", height), ("width", width)):
        if value % patch:
            raise config.error(f"{patch} does not divide the image's {key} of {value}", "patch_size")
    tokens = (height // patch) * (width // patch) + 1
    b.convolution("patches", config.count("num_channels", 3), h, (height, width), Window(patch, patch, 0))
    b.elementwise("to_tokens", b.rows(tokens), h)
    b.elementwise("positions", b.rows(tokens), h, reads=2, weights=h + h * ((image // patch) ** 2 + 1))
    with b.segment("layers", config.count("num_hidden_layers")):
        encoder_layer(b, config, tokens, h, heads, config.count("intermediate_size"), causal=False)
    b.layer_norm("norm", b.rows(tokens), h)
    labels = config.get("id2label")
    classes = len(labels) if isinstance(labels, dict) else config.get("num_labels", 0)
    if classes:
        b.linear("classifier", b.batch, classes, h)


def t5_encoder(config: Config, b: Builder) -> None:
    """T5's encoder: norms without mean, biases by distance, a gated feed-forward in version 1.1."""
    tokens = b.inputs.tokens or 512
    h = config.count("d_model")
    b.embedding("embedding", tokens, config.count("vocab_size"), h)
    b.parameters("relative_bias", config.count("relative_attention_num_buckets", 32) * config.count("num_heads"))
    t5_layers(config, b, tokens, config.count("num_layers"))
    rms(b, tokens, h)


def umt5_encoder(config: Config, b: Builder) -> None:
    """UMT5's encoder: as T5's, with biases by distance in every layer."""
    tokens, h, layers = b.inputs.tokens or 512, config.count("d_model"), config.count("num_layers")
    b.embedding("embedding", tokens, config.count("vocab_size"), h)
    biases = config.count("relative_attention_num_buckets", 32) * config.count("num_heads")
    b.parameters("relative_bias", layers * biases)
    t5_layers(config, b, tokens, layers)
    rms(b, tokens, h)


def rms(b: Builder, tokens: int, width: int) -> None:
    """T5LayerNorm: square, mean, root, product, cast and weights, each a kernel."""
    for name, reads, writes in (("square", 1, 1), ("mean", 1, 0), ("root", 0.01, 0.01), ("scale", 1, 1)):
        b.elementwise(f"norm_{name}", b.rows(tokens), width, reads=reads, writes=writes)
    b.elementwise("norm_weights", b.rows(tokens), width, weights=width)


def t5_layers(config: Config, b: Builder, tokens: int, layers: int) -> None:
    """Layers of T5's encoder. Attention adds a bias to its scores, which pass memory (T5Attention)."""
    h, heads, dim = config.count("d_model"), config.count("num_heads"), config.count("d_kv", 64)
    rows = b.rows(tokens)
    with b.segment("layers", layers):
        rms(b, tokens, h)
        b.linear("qkv", rows, heads * dim, h, bias=False, times=3)
        b.unfused_attention("attention", tokens, tokens, heads, dim)
        b.linear("out", rows, h, heads * dim, bias=False)
        b.elementwise("add1", rows, h, reads=2)
        rms(b, tokens, h)
        t5_feed_forward(config, b, tokens)


def t5_feed_forward(config: Config, b: Builder, tokens: int) -> None:
    """The feed-forward of T5, gated in version 1.1, and the addition behind it."""
    h, inner, rows = config.count("d_model"), config.count("d_ff"), b.rows(tokens)
    gated = config.word("feed_forward_proj", "relu").startswith("gated")
    b.linear("wi", rows, inner, h, bias=False, times=1 + gated)
    for _ in range(8 if gated else 1):
        b.activation("activation", rows, inner)
    if gated:
        b.elementwise("gate", rows, inner, reads=2)
    b.linear("wo", rows, h, inner, bias=False)
    b.elementwise("add2", rows, h, reads=2)
