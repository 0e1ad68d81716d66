"""Transformers over image tokens that attend to a text besides: PixArt, Hunyuan-DiT, Wan; and CogVideoX.

Source of the layers: huggingface/diffusers, models/transformers/pixart_transformer_2d.py, hunyuan_transformer_2d.py,
transformer_wan.py, cogvideox_transformer_3d.py.
"""

from __future__ import annotations

from simgpu.model.dims import Dim
from simgpu.model.networks import parts
from simgpu.model.networks.build import Builder, Window
from simgpu.model.networks.config import Config


def _width(config: Config) -> tuple[int, int, int]:
    heads, dim = config.count("num_attention_heads"), config.count("attention_head_dim")
    return heads * dim, heads, dim


def pixart(config: Config, b: Builder) -> None:
    """PixArt-alpha and Sigma: one set of scales and shifts for all blocks, to which each adds a table."""
    h, heads, dim = _width(config)
    patch, channels = config.count("patch_size", 2), config.count("in_channels", 4)
    image, text = (b.inputs.height // patch) * (b.inputs.width // patch), b.inputs.tokens
    rows, words = b.rows(image), b.rows(text)
    b.convolution("patches", channels, h, (b.inputs.height, b.inputs.width), Window(patch, patch, 0))
    b.elementwise("positions", rows, h, reads=2)
    parts.time(b, h)
    parts.ada(b, h, 6)
    parts.mlp(b, words, config.count("caption_channels"), h, h)
    with b.keeping(rows.size * h * b.width), b.segment("blocks", config.count("num_layers")):
        b.elementwise("table", b.batch, 6 * h, reads=2, weights=6 * h)
        parts.modulate(b, rows, h)
        b.linear("qkv", rows, h, h, times=3)
        b.attention("attention", image, image, heads, dim)
        b.linear("out", rows, h, h)
        parts.gated(b, rows, h)
        _cross(b, rows, words, (h, heads, dim), config.count("cross_attention_dim", h))
        b.elementwise("add", rows, h, reads=2)
        parts.modulate(b, rows, h)
        parts.feed_forward(b, rows, h, 4 * h)
        parts.gated(b, rows, h)
    b.elementwise("table", b.batch, 2 * h, reads=2, weights=2 * h)
    parts.modulate(b, rows, h)
    b.linear("proj_out", rows, patch * patch * config.get("out_channels", 2 * channels), h)


def _cross(b: Builder, rows: Dim, words: Dim, shape: tuple[int, int, int], context: int) -> None:
    """Attention to the text; queries of `rows`, keys and values of `words` of `context` wide."""
    h, heads, dim = shape
    b.linear("q", rows, h, h)
    b.linear("kv", words, h, context, times=2)
    b.attention("cross", rows.width, words.width, heads, dim)
    b.linear("out", rows, h, h)


def hunyuan_dit(config: Config, b: Builder) -> None:
    """Hunyuan-DiT: the later half of the blocks takes the output of the earlier one besides."""
    h, heads = config.count("hidden_size"), config.count("num_attention_heads")
    dim = h // heads
    patch, channels, layers = config.count("patch_size", 2), config.count("in_channels", 4), config.count("num_layers")
    first, t5 = config.count("cross_attention_dim", 1024), config.count("cross_attention_dim_t5", 2048)
    image = (b.inputs.height // patch) * (b.inputs.width // patch)
    long = config.count("text_len_t5", 256)
    text = config.count("text_len", 77) + long
    rows, words = b.rows(image), b.rows(text)
    parts.mlp(b, b.rows(long), t5, 4 * t5, first)
    b.convolution("patches", channels, h, (b.inputs.height, b.inputs.width), Window(patch, patch, 0))
    parts.time(b, h)
    b.parameters("pool_positions", (long + 1) * t5 + text * first)
    b.linear("pool", b.rows(long), t5, t5, times=3)
    pooled = config.count("pooled_projection_dim", 1024)
    b.linear("pool_out", b.batch, pooled, t5)
    parts.mlp(b, b.batch, pooled, 4 * h, h)
    inner = int(h * config.number("mlp_ratio", 4.0))
    for layer in range(layers):
        with b.keeping((min(layer, layers - layer) + 1) * rows.size * h * b.width):
            if layer > layers // 2:
                b.elementwise("concatenation", rows, 2 * h)
                _norm_fp32(b, rows, 2 * h)
                b.linear("skip", rows, h, 2 * h)
            parts.ada(b, h, 1)
            _norm_fp32(b, rows, h)
            b.elementwise("shift", rows, h)
            b.linear("qkv", rows, h, h, times=3)
            for _ in range(2):
                b.layer_norm("qk_norm", Dim(rows.units, rows.width * heads, "batch"), dim)
            parts.rope(b, rows, h)
            b.attention("attention", image, image, heads, dim)
            b.linear("out", rows, h, h)
            b.elementwise("add", rows, h, reads=2)
            _norm_fp32(b, rows, h)
            _cross(b, rows, words, (h, heads, dim), first)
            parts.rope(b, rows, h // 2)
            for tokens in (image, text):
                b.layer_norm("qk_norm", Dim(rows.units, tokens * heads, "batch"), dim)
            b.elementwise("add", rows, h, reads=2)
            _norm_fp32(b, rows, h)
            parts.feed_forward(b, rows, h, inner)
            b.elementwise("add", rows, h, reads=2)
    parts.ada(b, h, 2)
    parts.modulate(b, rows, h)
    outputs = channels * (2 if config.flag("learn_sigma", True) else 1)
    b.linear("proj_out", rows, patch * patch * outputs, h)


def _norm_fp32(b: Builder, rows: Dim, h: int) -> None:
    """FP32LayerNorm: cast, norm, cast back."""
    b.elementwise("cast", rows, h, 1, 2, saves=False)
    b.elementwise("norm_fp32", rows, h, 2, 2, weights=2 * h)
    b.elementwise("cast", rows, h, 2, 1, saves=False)


def wan(config: Config, b: Builder) -> None:
    """Wan 2.1: over frames; norms over all heads together; modulation in fp32."""
    h, heads, dim = _width(config)
    patch = config.counts("patch_size", [1, 2, 2], 3)
    channels, text = config.count("in_channels"), b.inputs.tokens
    frames = b.inputs.frames // patch[0]
    image = frames * (b.inputs.height // patch[1]) * (b.inputs.width // patch[2])
    rows, words = b.rows(image), b.rows(text)
    taps = channels * patch[0] * patch[1] * patch[2]
    b.linear("patches", rows, h, taps)
    b.elementwise("to_tokens", rows, h)
    parts.time(b, h, config.count("freq_dim", 256))
    parts.ada(b, h, 6)
    parts.mlp(b, words, config.count("text_dim", 4096), h, h)
    with b.keeping(rows.size * h * b.width), b.segment("blocks", config.count("num_layers")):
        b.elementwise("table", b.batch, 6 * h, reads=2, weights=6 * h)
        _in_fp32(b, rows, h)
        b.linear("qkv", rows, h, h, times=3)
        parts.head_norms(b, rows, h, h)
        parts.rope(b, rows, h)
        b.attention("attention", image, image, heads, dim)
        b.linear("out", rows, h, h)
        _gate_in_fp32(b, rows, h)
        b.elementwise("cast", rows, h, 1, 2, saves=False)
        b.layer_norm("norm2", rows, h, affine=config.flag("cross_attn_norm", True))
        _cross(b, rows, words, (h, heads, dim), h)
        parts.head_norms(b, rows, h, h)
        b.elementwise("add", rows, h, reads=2)
        _in_fp32(b, rows, h)
        parts.feed_forward(b, rows, h, config.count("ffn_dim"))
        _gate_in_fp32(b, rows, h)
    b.elementwise("table", b.batch, 2 * h, reads=2, weights=2 * h)
    _in_fp32(b, rows, h)
    b.linear("proj_out", rows, taps // channels * config.count("out_channels", channels), h)


def _in_fp32(b: Builder, rows: Dim, h: int) -> None:
    """FP32LayerNorm, scale, shift, cast back."""
    for reads, writes in ((1, 2), (2, 2), (2, 2), (2, 2), (2, 1)):
        b.elementwise("norm_fp32", rows, h, reads, writes, saves=False)


def _gate_in_fp32(b: Builder, rows: Dim, h: int) -> None:
    """Casts, product with the gate, sum, cast back."""
    for reads, writes in ((1, 2), (1, 2), (2, 2), (4, 2), (2, 1)):
        b.elementwise("gate_fp32", rows, h, reads, writes, saves=False)


def cogvideox(config: Config, b: Builder) -> None:
    """CogVideoX: text and frames side by side through the same weights."""
    h, heads, dim = _width(config)
    patch, channels = config.count("patch_size", 2), config.count("in_channels", 16)
    deep = config.count("patch_size_t", 1)
    frames = -(-b.inputs.frames // deep)
    image, text = frames * (b.inputs.height // patch) * (b.inputs.width // patch), b.inputs.tokens
    embedding, taps = config.count("time_embed_dim", 512), channels * patch * patch * deep
    rows, video = b.rows(image + text), b.rows(image)
    b.linear("patches", video, h, taps)
    b.linear("text_proj", b.rows(text), h, config.count("text_embed_dim", 4096))
    b.elementwise("positions", rows, h, reads=2)
    for _ in range(8):
        b.elementwise("time_sinus", b.batch, h)
    parts.mlp(b, b.batch, h, embedding, embedding)
    rotary = config.flag("use_rotary_positional_embeddings")
    with b.keeping(rows.size * h * b.width), b.segment("blocks", config.count("num_layers")):
        parts.ada(b, h, 6, embedding)
        parts.modulate(b, rows, h, affine=True)
        b.elementwise("concatenation", rows, h)
        b.linear("qkv", rows, h, h, times=3)
        for _ in range(2):
            b.layer_norm("qk_norm", Dim(rows.units, rows.width * heads, "batch"), dim)
        if rotary:
            parts.rope(b, video, h)
        b.attention("attention", image + text, image + text, heads, dim)
        b.linear("out", rows, h, h)
        parts.gated(b, rows, h)
        parts.ada(b, h, 6, embedding)
        parts.modulate(b, rows, h, affine=True)
        b.elementwise("concatenation", rows, h)
        parts.feed_forward(b, rows, h, 4 * h)
        parts.gated(b, rows, h)
    b.layer_norm("norm_final", rows, h)
    parts.ada(b, h, 2, embedding)
    parts.modulate(b, video, h, affine=True)
    b.linear("proj_out", video, patch * patch * deep * config.count("out_channels", 16), h)
