"""Encoder-decoders of text from their `config.json`: T5 and BART.

Source of the layers: huggingface/transformers, models/t5/modeling_t5.py, models/bart/modeling_bart.py. The encoder runs
once and makes the keys and values that all layers of the decoder attend to; the decoder runs once for each token.
"""

from __future__ import annotations

from simgpu.model.networks.build import Builder
from simgpu.model.networks.config import Config
from simgpu.model.networks.encoders import activate, encoder_layer, rms, t5_encoder, t5_feed_forward

# ---- T5 ----------------------------------------------------------------------------------------------


def t5_pair_encoder(config: Config, b: Builder) -> None:
    """T5's encoder, and keys and values for its decoder."""
    t5_encoder(config, b)
    inner = config.count("num_heads") * config.count("d_kv", 64)
    with b.segment("cross keys and values", config.count("num_decoder_layers", config.count("num_layers"))):
        b.linear("cross_kv", b.rows(b.inputs.tokens or 512), inner, config.count("d_model"), bias=False, times=2)


def t5_decoder(config: Config, b: Builder) -> None:
    """One token of each sequence. Attention adds a bias to its scores, which pass memory."""
    h, heads, dim = config.count("d_model"), config.count("num_heads"), config.count("d_kv", 64)
    rows, keys, vocab = b.rows(1), b.inputs.past + 1, config.count("vocab_size")
    b.elementwise("embedding", rows, h)  # of the encoder's table
    b.parameters("relative_bias", config.count("relative_attention_num_buckets", 32) * heads)
    with b.segment("layers", config.count("num_decoder_layers", config.count("num_layers"))):
        rms(b, 1, h)
        b.linear("qkv", rows, heads * dim, h, bias=False, times=3)
        for _ in range(2):
            b.elementwise("cache", b.rows(keys), heads * dim, saves=False)
        b.unfused_attention("attention", 1, keys, heads, dim)
        b.linear("out", rows, h, heads * dim, bias=False)
        b.elementwise("add1", rows, h, reads=2)
        rms(b, 1, h)
        b.linear("cross_q", rows, heads * dim, h, bias=False)
        b.unfused_attention("cross", 1, b.inputs.tokens or 512, heads, dim)
        b.linear("cross_out", rows, h, heads * dim, bias=False)
        b.elementwise("add2", rows, h, reads=2)
        rms(b, 1, h)
        t5_feed_forward(config, b, 1)
    rms(b, 1, h)
    _head(b, vocab, h, config.flag("tie_word_embeddings", True))


# ---- BART --------------------------------------------------------------------------------------------


def bart_encoder(config: Config, b: Builder) -> None:
    """BART's encoder, and keys and values for its decoder."""
    h, heads, tokens = _widths(config, b, "encoder")
    b.embedding("embedding", tokens, config.count("vocab_size"), h)
    _positions(config, b, tokens, h)
    with b.segment("layers", config.count("encoder_layers")):
        encoder_layer(b, config, tokens, h, heads, config.count("encoder_ffn_dim"), act="activation_function")
    with b.segment("cross keys and values", config.count("decoder_layers")):
        b.linear("cross_kv", b.rows(tokens), h, h, times=2)


def bart_decoder(config: Config, b: Builder) -> None:
    """One token of each sequence, with its cache and the encoder's states."""
    h, heads, tokens = _widths(config, b, "decoder")
    rows, keys, inner = b.rows(1), b.inputs.past + 1, config.count("decoder_ffn_dim")
    b.elementwise("embedding", rows, h)  # of the encoder's table
    _positions(config, b, 1, h)
    with b.segment("layers", config.count("decoder_layers")):
        b.linear("qkv", rows, h, h, times=3)
        for _ in range(2):
            b.elementwise("cache", b.rows(keys), h, saves=False)
        b.attention("attention", 1, keys, heads, h // heads)
        b.linear("out", rows, h, h)
        b.elementwise("add1", rows, h, reads=2)
        b.layer_norm("norm1", rows, h)
        b.linear("cross_q", rows, h, h)
        b.attention("cross", 1, tokens, heads, h // heads)
        b.linear("cross_out", rows, h, h)
        b.elementwise("add2", rows, h, reads=2)
        b.layer_norm("norm2", rows, h)
        b.linear("fc1", rows, inner, h)
        activate(b, config, "activation_function", 1, inner)
        b.linear("fc2", rows, h, inner)
        b.elementwise("add3", rows, h, reads=2)
        b.layer_norm("norm3", rows, h)
    _head(b, config.count("vocab_size"), h, True)


def _widths(config: Config, b: Builder, side: str) -> tuple[int, int, int]:
    """(width, heads, tokens that the encoder reads) of one side of BART."""
    h, heads = config.count("d_model"), config.count(f"{side}_attention_heads")
    config.divides(heads, h, f"{side}_attention_heads", "d_model")
    positions, tokens = config.count("max_position_embeddings", 1024), b.inputs.tokens or 512
    if max(tokens, b.inputs.past + 1) > positions:
        problem = f"{max(tokens, b.inputs.past + 1)} tokens are more than the {positions} positions"
        raise config.error(problem, "max_position_embeddings")
    return h, heads, tokens


def _positions(config: Config, b: Builder, tokens: int, h: int) -> None:
    """Learned positions, of which the table has two rows more, and the norm behind the embedding."""
    rows = config.count("max_position_embeddings", 1024) + 2
    b.elementwise("positions", b.rows(tokens), h, reads=2, weights=rows * h)
    b.layer_norm("norm_embedding", b.rows(tokens), h)


def _head(b: Builder, vocab: int, h: int, tied: bool) -> None:
    """Logits of one token of each sequence, and the choice of the next."""
    rows = b.rows(1)
    if tied:
        b.tied("head", rows, vocab, h)
    else:
        b.linear("head", rows, vocab, h, bias=False)
    for _ in range(2):  # the largest, and processors of logits
        b.elementwise("sample", rows, vocab)
