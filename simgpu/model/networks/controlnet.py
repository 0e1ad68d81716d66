"""A ControlNet of Stable Diffusion from diffusers' `config.json` (`ControlNetModel`), and the upscaler ESRGAN.

Source of the layers: huggingface/diffusers, models/controlnets/controlnet.py (the first half of the U-Net, an embedding
of the hint in pixels that runs in every step, a convolution of one pixel on each skip connection);
XPixelGroup/BasicSR, archs/rrdbnet_arch.py.
"""

from __future__ import annotations

from itertools import pairwise

from simgpu.model.networks.build import HALVE, POINT, Builder
from simgpu.model.networks.config import Config
from simgpu.model.networks.unet import encode

PIXELS = 8
"""Pixels of a hint for each latent (the strides of its embedding, three times two)."""


def controlnet(config: Config, b: Builder) -> None:
    """One pass; the additions to the U-Net's skip connections are counted here."""
    widths = config.counts("conditioning_embedding_out_channels", [16, 32, 96, 256])

    def hint(b: Builder, first: int) -> None:
        size = (PIXELS * b.inputs.height, PIXELS * b.inputs.width)
        b.convolution("hint_in", 3, widths[0], size)
        b.activation("hint_silu", b.rows(size[0] * size[1]), widths[0])
        for channels, filters in pairwise(widths):
            b.convolution("hint", channels, channels, size)
            b.activation("hint_silu", b.rows(size[0] * size[1]), channels)
            size = b.convolution("hint_down", channels, filters, size, HALVE)
            b.activation("hint_silu", b.rows(size[0] * size[1]), filters)
        b.convolution("hint_out", widths[-1], first, size)
        b.elementwise("hint_add", b.rows(size[0] * size[1]), first, reads=2)

    half = encode(config, b, hint)
    for channels, size in [*half.skips, (half.now, half.size)]:
        rows = b.rows(size[0] * size[1])
        b.convolution("zero", channels, channels, size, POINT)
        b.elementwise("scale", rows, channels)
        b.elementwise("add", rows, channels, reads=2)


def rrdbnet(config: Config, b: Builder) -> None:
    """ESRGAN: dense blocks of five convolutions at the input's size, two doublings, two convolutions."""
    wide, grow = config.count("num_feat", 64), config.count("num_grow_ch", 32)
    size = (b.inputs.height, b.inputs.width)
    rows = b.rows(size[0] * size[1])
    if config.count("scale", 4) != 4:
        raise config.error("is not supported; expected 4", "scale")
    b.convolution("first", config.count("num_in_ch", 3), wide, size)
    with b.segment("dense blocks", config.count("num_block", 23)):
        for _ in range(3):
            for i in range(4):
                b.convolution("dense", wide + i * grow, grow, size)
                b.activation("leaky_relu", rows, grow)
                b.elementwise("concatenation", rows, wide + (i + 1) * grow)
            b.convolution("dense", wide + 4 * grow, wide, size)
            b.elementwise("scale", rows, wide)
            b.elementwise("residual", rows, wide, reads=2)
        b.elementwise("scale", rows, wide)
        b.elementwise("residual", rows, wide, reads=2)
    b.convolution("body", wide, wide, size)
    b.elementwise("residual", rows, wide, reads=2)
    for name in ("up1", "up2"):
        size = (2 * size[0], 2 * size[1])
        rows = b.rows(size[0] * size[1])
        b.elementwise("upsample", rows, wide, reads=0.25)
        b.convolution(name, wide, wide, size)
        b.activation("leaky_relu", rows, wide)
    b.convolution("high", wide, wide, size)
    b.activation("leaky_relu", rows, wide)
    b.convolution("last", wide, config.count("num_out_ch", 3), size)
