"""U-Nets of latent diffusion from diffusers' `unet/config.json` (`UNet2DConditionModel`): SD 1.x, 2.x, SDXL.

Source of the layers: huggingface/diffusers, models/unets/unet_2d_condition.py, unet_2d_blocks.py, resnet.py,
transformers/transformer_2d.py, attention.py (BasicTransformerBlock), attention_processor.py (AttnProcessor2_0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simgpu.model.dims import Dim
from simgpu.model.networks.build import HALVE, POINT, Builder
from simgpu.model.networks.config import Config

DOWN = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
UP = {"UpBlock2D": False, "CrossAttnUpBlock2D": True}
"""Blocks by name, and whether they have transformers."""
MIDDLE = ("UNetMidBlock2DCrossAttn",)

Size = tuple[int, int]


@dataclass(frozen=True)
class _Shape:
    """What every block needs to know of a U-Net."""

    groups: int
    context: int  # width of the text
    embedding: int  # width of the embedding of time
    linear: bool  # projections of transformers are linear layers, not convolutions
    text: int  # tokens of text


@dataclass
class Encoded:
    """What the first half of a U-Net leaves: its shape, what its second half sees, and where it stands."""

    shape: _Shape
    channels: list[int]
    layers: list[int]
    depth: list[int]
    heads: list[int]
    skips: list[tuple[int, Size]]
    now: int
    size: Size


def build(config: Config, b: Builder) -> None:
    """One pass over latents of the size of the inputs."""
    up = config.words("up_block_types", UP)
    half = encode(config, b)
    shape, channels, levels = half.shape, half.channels, len(half.channels)
    layers, depth, heads, skips = half.layers, half.depth, half.heads, half.skips
    if len(up) != levels:
        raise config.error(f"{len(up)} blocks; block_out_channels has {levels}", "up_block_types")
    now, size = half.now, half.size
    for i, kind in enumerate(up):
        level = levels - 1 - i
        for _ in range(layers[level] + 1):
            skip, size = skips.pop()
            b.elementwise("concatenation", b.rows(size[0] * size[1]), now + skip)
            b.kept = _bytes(b, skips)
            _resnet(b, now + skip, channels[level], size, shape)
            if UP[kind]:
                transformer(b, channels[level], size, heads[level], depth[level], shape)
            now = channels[level]
        if i < levels - 1:
            size = skips[-1][1]
            b.elementwise("upsample", b.rows(size[0] * size[1]), now, reads=0.25)
            b.convolution("upsample_conv", now, now, size)
    b.group_norm("norm_out", now, size, shape.groups)
    b.activation("act_out", b.rows(size[0] * size[1]), now)
    b.convolution("conv_out", now, config.count("out_channels", 4), size)


def encode(config: Config, b: Builder, hint: Callable[[Builder, int], None] | None = None) -> Encoded:
    """The first half of a U-Net and its middle; `hint` is what runs beside its first convolution (a ControlNet's)."""
    channels = config.counts("block_out_channels")
    levels = len(channels)
    down = config.words("down_block_types", DOWN)
    if len(down) != levels:
        raise config.error(f"{len(down)} blocks; block_out_channels has {levels}", "down_block_types")
    layers = config.counts("layers_per_block", [2] * levels, levels)
    depth = config.counts("transformer_layers_per_block", [1] * levels, levels)
    heads = config.counts("attention_head_dim", [8] * levels, levels)  # diffusers calls the number of heads so here
    heads = config.counts("num_attention_heads", heads, levels)
    shape = _Shape(
        groups=config.count("norm_num_groups", 32),
        context=config.count("cross_attention_dim", 1280),
        embedding=4 * channels[0],
        linear=config.flag("use_linear_projection"),
        text=b.inputs.tokens,
    )
    for width in channels:
        config.divides(shape.groups, width, "norm_num_groups", "block_out_channels")
    config.word("mid_block_type", MIDDLE[0], MIDDLE)
    size = (b.inputs.height, b.inputs.width)
    _time(config, b, channels[0], shape.embedding)
    b.convolution("conv_in", config.count("in_channels", 4), channels[0], size)
    if hint is not None:
        hint(b, channels[0])
    skips = [(channels[0], size)]
    now = channels[0]
    for i, kind in enumerate(down):
        for _ in range(layers[i]):
            _resnet(b, now, channels[i], size, shape)
            if DOWN[kind]:
                transformer(b, channels[i], size, heads[i], depth[i], shape)
            now = channels[i]
            skips.append((now, size))
        if i < levels - 1:
            size = b.convolution("downsample", now, now, size, HALVE)
            skips.append((now, size))
        b.kept = _bytes(b, skips)
    _resnet(b, now, now, size, shape)
    transformer(b, now, size, heads[-1], depth[-1], shape)
    _resnet(b, now, now, size, shape)
    return Encoded(shape, channels, layers, depth, heads, skips, now, size)


def _bytes(b: Builder, skips: list[tuple[int, Size]]) -> float:
    return sum(width * size[0] * size[1] for width, size in skips) * b.inputs.batch * b.width


def _time(config: Config, b: Builder, first: int, embedding: int) -> None:
    """The embedding of the step, and of sizes and pooled text where the model has such (SDXL)."""
    for _ in range(8):  # frequencies, product, sine, cosine, concatenations, flip, cast
        b.elementwise("time_sinus", b.batch, first)
    b.linear("time_1", b.batch, embedding, first)
    b.activation("time_act", b.batch, embedding)
    b.linear("time_2", b.batch, embedding, embedding)
    added = config.get("addition_embed_type")
    if added == "text_time":
        wide = config.count("projection_class_embeddings_input_dim")
        for _ in range(9):
            b.elementwise("added_sinus", b.batch, wide)
        b.linear("added_1", b.batch, embedding, wide)
        b.activation("added_act", b.batch, embedding)
        b.linear("added_2", b.batch, embedding, embedding)
        b.elementwise("added", b.batch, embedding, reads=2)
    elif added is not None:
        raise config.error(f"'{added}' is not supported; expected text_time or null", "addition_embed_type")


def _resnet(b: Builder, channels: int, filters: int, size: Size, shape: _Shape) -> None:
    """ResnetBlock2D."""
    rows = b.rows(size[0] * size[1])
    with b.keeping(rows.size * channels * b.width):
        b.group_norm("norm1", channels, size, shape.groups)
        b.activation("silu1", rows, channels)
        b.convolution("conv1", channels, filters, size)
        b.activation("time_silu", b.batch, shape.embedding)
        b.linear("time_proj", b.batch, filters, shape.embedding)
        b.elementwise("time_add", rows, filters)
        b.group_norm("norm2", filters, size, shape.groups)
        b.activation("silu2", rows, filters)
        b.convolution("conv2", filters, filters, size)
        if channels != filters:
            b.convolution("shortcut", channels, filters, size, POINT)
    b.elementwise("residual", rows, filters, reads=2)
    b.elementwise("scale", rows, filters, saves=False)


def transformer(b: Builder, channels: int, size: Size, heads: int, depth: int, shape: _Shape) -> None:
    """Transformer2DModel: a norm, a projection in, blocks, a projection out, the residual."""
    tokens = size[0] * size[1]
    rows = b.rows(tokens)
    with b.keeping(rows.size * channels * b.width):
        b.group_norm("norm", channels, size, shape.groups)
        if shape.linear:
            b.elementwise("to_tokens", rows, channels, saves=False)
            b.linear("proj_in", rows, channels, channels)
        else:
            b.convolution("proj_in", channels, channels, size, POINT)
            b.elementwise("to_tokens", rows, channels, saves=False)
        for _ in range(depth):
            _block(b, channels, tokens, heads, shape)
        if shape.linear:
            b.linear("proj_out", rows, channels, channels)
            b.elementwise("to_image", rows, channels, saves=False)
        else:
            b.elementwise("to_image", rows, channels, saves=False)
            b.convolution("proj_out", channels, channels, size, POINT)
    b.elementwise("residual", rows, channels, reads=2)


def _block(b: Builder, width: int, tokens: int, heads: int, shape: _Shape) -> None:
    """BasicTransformerBlock: attention to itself, to the text, and a gated feed-forward of 4 times the width."""
    rows = b.rows(tokens)
    head_dim = width // heads
    b.layer_norm("norm1", rows, width)
    b.linear("attn1_qkv", rows, width, width, bias=False, times=3)
    b.attention("attn1", tokens, tokens, heads, head_dim)
    _attention_out(b, "attn1", rows, width)
    b.layer_norm("norm2", rows, width)
    b.linear("attn2_q", rows, width, width, bias=False)
    b.linear("attn2_kv", b.rows(shape.text), width, shape.context, bias=False, times=2)
    b.attention("attn2", tokens, shape.text, heads, head_dim)
    _attention_out(b, "attn2", rows, width)
    b.layer_norm("norm3", rows, width)
    b.linear("ff_in", rows, 8 * width, width)
    b.activation("ff_gelu", rows, 4 * width)
    b.elementwise("ff_gate", rows, 4 * width, reads=2)
    b.linear("ff_out", rows, width, 4 * width)
    b.elementwise("ff_add", rows, width, reads=2)


def _attention_out(b: Builder, name: str, rows: Dim, width: int) -> None:
    """The projection behind attention, the division by its scale, the residual."""
    b.linear(f"{name}_out", rows, width, width)
    b.elementwise(f"{name}_scale", rows, width, saves=False)
    b.elementwise(f"{name}_add", rows, width, reads=2)
