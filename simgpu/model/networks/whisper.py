"""Whisper, from its `config.json`: an encoder of audio, and a decoder of text that attends to it.

Source of the layers: huggingface/transformers, models/whisper/modeling_whisper.py. A window of audio is 3,000 frames of
a spectrogram, 1,500 states of the encoder.
"""

from __future__ import annotations

from simgpu.model.networks.build import Builder
from simgpu.model.networks.config import Config
from simgpu.model.networks.encoders import activate


def encoder(config: Config, b: Builder) -> None:
    """Two convolutions over time, layers, and the keys and values that all layers of the decoder attend to."""
    h, heads = config.count("d_model"), config.count("encoder_attention_heads")
    config.divides(heads, h, "encoder_attention_heads", "d_model")
    states, mels = config.count("max_source_positions", 1500), config.count("num_mel_bins", 80)
    rows = b.rows(states)
    b.linear("conv1", b.rows(2 * states), h, 3 * mels)
    activate(b, config, "activation_function", 2 * states, h)
    b.linear("conv2", rows, h, 3 * h)
    activate(b, config, "activation_function", states, h)
    b.elementwise("positions", rows, h, reads=2, weights=states * h)
    with b.segment("layers", config.count("encoder_layers")):
        b.layer_norm("norm1", rows, h)
        b.linear("qv", rows, h, h, times=2)
        b.linear("k", rows, h, h, bias=False)
        b.attention("attention", states, states, heads, h // heads)
        b.linear("out", rows, h, h)
        b.elementwise("add1", rows, h, reads=2)
        b.layer_norm("norm2", rows, h)
        b.linear("fc1", rows, config.count("encoder_ffn_dim"), h)
        activate(b, config, "activation_function", states, config.count("encoder_ffn_dim"))
        b.linear("fc2", rows, h, config.count("encoder_ffn_dim"))
        b.elementwise("add2", rows, h, reads=2)
    b.layer_norm("norm", rows, h)
    with b.segment("cross keys and values", config.count("decoder_layers")):
        b.linear("cross_k", rows, h, h, bias=False)
        b.linear("cross_v", rows, h, h)


def decoder(config: Config, b: Builder) -> None:
    """One token of each sequence, with its cache and the encoder's states."""
    h, heads = config.count("d_model"), config.count("decoder_attention_heads")
    config.divides(heads, h, "decoder_attention_heads", "d_model")
    states, inner = config.count("max_source_positions", 1500), config.count("decoder_ffn_dim")
    vocab, rows, dim = config.count("vocab_size"), b.rows(1), h // heads
    positions = config.count("max_target_positions", 448)
    if b.inputs.past >= positions:
        raise config.error(f"more tokens than the {positions} positions", "max_target_positions")
    b.embedding("embedding", 1, vocab, h, positions)
    b.elementwise("positions", rows, h, reads=2)
    with b.segment("layers", config.count("decoder_layers")):
        b.layer_norm("norm1", rows, h)
        b.linear("qv", rows, h, h, times=2)
        b.linear("k", rows, h, h, bias=False)
        for _ in range(2):
            b.elementwise("cache", b.rows(b.inputs.past + 1), h, saves=False)
        b.attention("attention", 1, b.inputs.past + 1, heads, dim)
        b.linear("out", rows, h, h)
        b.elementwise("add1", rows, h, reads=2)
        b.layer_norm("norm2", rows, h)
        b.linear("cross_q", rows, h, h)
        b.attention("cross", 1, states, heads, dim)
        b.linear("cross_out", rows, h, h)
        b.elementwise("add2", rows, h, reads=2)
        b.layer_norm("norm3", rows, h)
        b.linear("fc1", rows, inner, h)
        activate(b, config, "activation_function", 1, inner)
        b.linear("fc2", rows, h, inner)
        b.elementwise("add3", rows, h, reads=2)
    b.layer_norm("norm", rows, h)
    b.tied("head", rows, vocab, h)
    for _ in range(6):  # log-softmax, filters, the best of beams
        b.elementwise("sample", rows, vocab)
