"""Decoders of latents into images, from diffusers' `vae/config.json` (`AutoencoderKL`).

Source of the layers: huggingface/diffusers, models/autoencoders/vae.py (Decoder), unets/unet_2d_blocks.py.
"""

from __future__ import annotations

from simgpu.model.networks.build import HALVE, POINT, Builder
from simgpu.model.networks.config import Config

UP = ("UpDecoderBlock2D",)
DOWN = ("DownEncoderBlock2D",)


def scale(config: Config) -> int:
    """Pixels of the image along a side of a pixel of the latents."""
    return int(2 ** (len(config.counts("block_out_channels")) - 1))


def decoder(config: Config, b: Builder) -> None:
    """Decode latents of the size of the inputs."""
    channels = config.counts("block_out_channels")
    config.words("up_block_types", UP)
    groups, latent = config.count("norm_num_groups", 32), config.count("latent_channels", 4)
    layers = config.count("layers_per_block", 2)
    size = (b.inputs.height, b.inputs.width)
    if config.flag("use_post_quant_conv", True):
        b.convolution("post_quant", latent, latent, size, POINT)
    top = channels[-1]
    b.convolution("conv_in", latent, top, size)
    _middle(b, top, size, groups)
    now = top
    for i, width in enumerate(reversed(channels)):
        for _ in range(layers + 1):
            resnet(b, now, width, size, groups)
            now = width
        if i < len(channels) - 1:
            size = (2 * size[0], 2 * size[1])
            b.elementwise("upsample", b.rows(size[0] * size[1]), now, reads=0.25)
            b.convolution("upsample_conv", now, now, size)
    b.group_norm("norm_out", now, size, groups)
    b.activation("act_out", b.rows(size[0] * size[1]), now)
    b.convolution("conv_out", now, config.count("out_channels", 3), size)


def encoder(config: Config, b: Builder) -> None:
    """Encode images of the size of the inputs into latents."""
    channels = config.counts("block_out_channels")
    config.words("down_block_types", DOWN)
    groups, latent = config.count("norm_num_groups", 32), config.count("latent_channels", 4)
    size = (b.inputs.height, b.inputs.width)
    now = channels[0]
    b.convolution("conv_in", config.count("in_channels", 3), now, size)
    for i, width in enumerate(channels):
        for _ in range(config.count("layers_per_block", 2)):
            resnet(b, now, width, size, groups)
            now = width
        if i < len(channels) - 1:
            size = b.convolution("downsample", now, now, size, HALVE)
    _middle(b, now, size, groups)
    b.group_norm("norm_out", now, size, groups)
    b.activation("act_out", b.rows(size[0] * size[1]), now)
    b.convolution("conv_out", now, 2 * latent, size)
    if config.flag("use_quant_conv", True):
        b.convolution("quant", 2 * latent, 2 * latent, size, POINT)


def whole(config: Config, b: Builder) -> None:
    """Encoder and decoder, for the count of parameters; the inputs are those of the encoder."""
    encoder(config, b)
    decoder(config, b)


def _middle(b: Builder, width: int, size: tuple[int, int], groups: int) -> None:
    resnet(b, width, width, size, groups)
    tokens = size[0] * size[1]
    rows = b.rows(tokens)
    with b.keeping(rows.size * width * b.width):
        b.group_norm("attn_norm", width, size, groups)
        b.elementwise("to_tokens", rows, width, saves=False)
        b.linear("attn_qkv", rows, width, width, times=3)
        b.attention("attn", tokens, tokens, 1, width)
        b.linear("attn_out", rows, width, width)
        b.elementwise("to_image", rows, width, saves=False)
    b.elementwise("attn_add", rows, width, reads=2)
    resnet(b, width, width, size, groups)


def resnet(b: Builder, channels: int, filters: int, size: tuple[int, int], groups: int) -> None:
    """ResnetBlock2D without an embedding of time."""
    rows = b.rows(size[0] * size[1])
    with b.keeping(rows.size * channels * b.width):
        b.group_norm("norm1", channels, size, groups)
        b.activation("silu1", rows, channels)
        b.convolution("conv1", channels, filters, size)
        b.group_norm("norm2", filters, size, groups)
        b.activation("silu2", rows, filters)
        b.convolution("conv2", filters, filters, size)
        if channels != filters:
            b.convolution("shortcut", channels, filters, size, POINT)
    b.elementwise("residual", rows, filters, reads=2)
    b.elementwise("scale", rows, filters, saves=False)
