"""Transformers over image and text tokens together: FLUX, HunyuanVideo, Stable Diffusion 3 and 3.5.

Source of the layers: huggingface/diffusers, models/transformers/transformer_flux.py, transformer_hunyuan_video.py,
transformer_sd3.py.
"""

from __future__ import annotations

from simgpu.model.dims import Dim
from simgpu.model.networks import parts
from simgpu.model.networks.build import Builder, Window
from simgpu.model.networks.config import Config


def _width(config: Config) -> tuple[int, int, int]:
    """Width, heads, width of a head."""
    heads, dim = config.count("num_attention_heads"), config.count("attention_head_dim")
    return heads * dim, heads, dim


def flux(config: Config, b: Builder) -> None:
    """FLUX: double blocks, whose image and text have weights of their own, then single ones on both."""
    h, heads, dim = _width(config)
    channels = config.count("in_channels")
    image = (b.inputs.height // 2) * (b.inputs.width // 2)  # latents are packed 2 x 2 before
    text = b.inputs.tokens
    b.linear("x_embedder", b.rows(image), h, channels)
    b.linear("context_embedder", b.rows(text), h, config.count("joint_attention_dim"))
    parts.time(b, h)
    if config.flag("guidance_embeds"):
        parts.time(b, h)
    parts.mlp(b, b.batch, config.count("pooled_projection_dim"), h, h)
    _doubles(b, h, heads, dim, image, text, config.count("num_layers"))
    _singles(b, h, heads, dim, image + text, config.count("num_single_layers"))
    parts.ada(b, h, 2)
    parts.modulate(b, b.rows(image), h)
    b.linear("proj_out", b.rows(image), config.get("out_channels") or channels, h)


def hunyuan_video(config: Config, b: Builder) -> None:
    """HunyuanVideo: as FLUX, over frames, with a refiner of its text."""
    h, heads, dim = _width(config)
    patch, channels = config.count("patch_size", 2), config.count("in_channels")
    frames = b.inputs.frames // config.count("patch_size_t", 1)
    image = frames * (b.inputs.height // patch) * (b.inputs.width // patch)
    text, taps = b.inputs.tokens, channels * patch * patch * config.count("patch_size_t", 1)
    b.linear("x_embedder", b.rows(image), h, taps)
    b.elementwise("to_tokens", b.rows(image), h)
    parts.time(b, h)
    if config.flag("guidance_embeds"):
        parts.time(b, h)
    parts.mlp(b, b.batch, config.count("pooled_projection_dim"), h, h)
    _refiner(config, b, h, heads, dim)
    _doubles(b, h, heads, dim, image, text, config.count("num_layers"))
    _singles(b, h, heads, dim, image + text, config.count("num_single_layers"))
    parts.ada(b, h, 2)
    parts.modulate(b, b.rows(image), h)
    b.linear("proj_out", b.rows(image), taps, h)


def _refiner(config: Config, b: Builder, h: int, heads: int, dim: int) -> None:
    """HunyuanVideoTokenRefiner: text in, and a few blocks over it."""
    rows, text = b.rows(b.inputs.tokens), b.inputs.tokens
    wide = config.count("text_embed_dim", 4096)
    parts.time(b, h)
    parts.mlp(b, b.batch, wide, h, h)
    b.linear("text_in", rows, h, wide)
    with b.segment("refiner", config.count("num_refiner_layers", 2)):
        b.layer_norm("norm1", rows, h)
        b.linear("qkv", rows, h, h, times=3)
        b.attention("attention", text, text, heads, dim)
        b.linear("out", rows, h, h)
        parts.ada(b, h, 2)
        parts.gated(b, rows, h)
        b.layer_norm("norm2", rows, h)
        parts.feed_forward(b, rows, h, 4 * h)
        parts.gated(b, rows, h)


def _doubles(b: Builder, h: int, heads: int, dim: int, image: int, text: int, layers: int) -> None:
    both = b.rows(image + text)
    with b.keeping(2 * both.size * h * b.width), b.segment("double blocks", layers):
        for tokens in (image, text):
            parts.ada(b, h, 6)
            parts.modulate(b, b.rows(tokens), h)
            b.linear("qkv", b.rows(tokens), h, h, times=3)
            parts.head_norms(b, b.rows(tokens), h, dim)
        _joint(b, h, heads, dim, image + text)
        for tokens in (image, text):
            rows = b.rows(tokens)
            b.linear("out", rows, h, h)
            parts.gated(b, rows, h)
            parts.modulate(b, rows, h)
            parts.feed_forward(b, rows, h, 4 * h)
            parts.gated(b, rows, h)


def _joint(b: Builder, h: int, heads: int, dim: int, tokens: int) -> None:
    """Text and image side by side, positions, attention over both."""
    for _ in range(3):
        b.elementwise("concatenation", b.rows(tokens), h, saves=False)
    parts.rope(b, b.rows(tokens), h)
    b.attention("attention", tokens, tokens, heads, dim)


def _singles(b: Builder, h: int, heads: int, dim: int, tokens: int, layers: int) -> None:
    rows = b.rows(tokens)
    with b.keeping(2 * rows.size * h * b.width), b.segment("single blocks", layers):
        parts.ada(b, h, 3)
        parts.modulate(b, rows, h)
        b.linear("mlp", rows, 4 * h, h)
        b.activation("mlp_gelu", rows, 4 * h)
        b.linear("qkv", rows, h, h, times=3)
        parts.head_norms(b, rows, h, dim)
        parts.rope(b, rows, h)
        b.attention("attention", tokens, tokens, heads, dim)
        b.elementwise("concatenation", rows, 5 * h)
        b.linear("proj_out", rows, h, 5 * h)
        parts.gated(b, rows, h)


def sd3(config: Config, b: Builder) -> None:
    """Stable Diffusion 3 and 3.5: joint blocks; some of 3.5 medium attend to the image a second time."""
    h, heads, dim = _width(config)
    patch, channels = config.count("patch_size", 2), config.count("in_channels")
    image = (b.inputs.height // patch) * (b.inputs.width // patch)
    text, layers = b.inputs.tokens, config.count("num_layers")
    twice = config.counts("dual_attention_layers", [], least=0)
    norms = config.has("qk_norm")
    b.convolution("patches", channels, h, (b.inputs.height, b.inputs.width), Window(patch, patch, 0))
    b.elementwise("positions", b.rows(image), h, reads=2)
    parts.time(b, h)
    parts.mlp(b, b.batch, config.count("pooled_projection_dim"), h, h)
    b.linear("context_embedder", b.rows(text), h, config.count("joint_attention_dim"))
    with b.keeping(2 * b.rows(image + text).size * h * b.width):
        for layer in range(layers):
            _sd3_block(b, (h, heads, dim), (image, text), (layer in twice, norms, layer == layers - 1))
    parts.ada(b, h, 2)
    parts.modulate(b, b.rows(image), h)
    b.linear("proj_out", b.rows(image), patch * patch * config.get("out_channels", channels), h)


def _sd3_block(b: Builder, shape: tuple[int, int, int], tokens: tuple[int, int], kind: tuple[bool, bool, bool]) -> None:
    """JointTransformerBlock; `kind`: attends twice, has norms of queries and keys, is the last one."""
    (h, heads, dim), (image, text), (twice, norms, last) = shape, tokens, kind
    parts.ada(b, h, 9 if twice else 6)
    parts.modulate(b, b.rows(image), h)
    parts.ada(b, h, 2 if last else 6)
    parts.modulate(b, b.rows(text), h)
    for rows in (b.rows(image), b.rows(text)):
        b.linear("qkv", rows, h, h, times=3)
        if norms:
            parts.head_norms(b, rows, h, dim)
    for _ in range(3):
        b.elementwise("concatenation", b.rows(image + text), h, saves=False)
    b.attention("attention", image + text, image + text, heads, dim)
    if twice:
        rows = b.rows(image)
        b.elementwise("scale", rows, h)
        b.elementwise("shift", rows, h)
        b.linear("qkv", rows, h, h, times=3)
        if norms:
            parts.head_norms(b, rows, h, dim)
        b.attention("attention2", image, image, heads, dim)
        b.linear("out", rows, h, h)
        parts.gated(b, rows, h)
    _after(b, b.rows(image), h)
    if not last:
        _after(b, b.rows(text), h)


def _after(b: Builder, rows: Dim, h: int) -> None:
    b.linear("out", rows, h, h)
    parts.gated(b, rows, h)
    parts.modulate(b, rows, h)
    parts.feed_forward(b, rows, h, 4 * h)
    parts.gated(b, rows, h)
