"""Decoders of latents into videos: HunyuanVideo, CogVideoX and Wan, whose convolutions see earlier frames.

Source of the layers: huggingface/diffusers, models/autoencoders/autoencoder_kl_hunyuan_video.py,
autoencoder_kl_cogvideox.py, autoencoder_kl_wan.py. Frames are counted whole; the pieces in which a video is decoded to
save memory overlap a little, which is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.model.networks.build import Builder, Window
from simgpu.model.networks.config import Config

Shape = tuple[int, int, int]
"""Frames, height, width."""


@dataclass(frozen=True)
class _Norm:
    """How a decoder normalises: groups, or 0 for the RMS norm of Wan; `mixed`: latents that it takes in (CogVideoX)."""

    groups: int
    mixed: int = 0


def _convolved(b: Builder, channels: int, filters: int, at: Shape, depth: int = 3, kernel: int = 3) -> None:
    b.convolution("conv3d", channels, filters, at[1:], Window(kernel, frames=at[0], depth=depth))


def _normed(b: Builder, channels: int, at: Shape, norm: _Norm) -> None:
    rows = b.rows(at[0] * at[1] * at[2])
    if norm.groups:
        b.group_norm("norm", channels, at[1:], norm.groups, at[0])
    else:
        b.elementwise("norm_square", rows, channels, writes=0, saves=False)
        b.elementwise("norm", rows, channels, weights=channels)
    if norm.mixed:
        for name in ("scale", "shift"):
            b.elementwise("mixed_upsample", rows, norm.mixed, reads=0.1, saves=False)
            _convolved(b, norm.mixed, channels, at, 1, 1)
            b.elementwise(f"mixed_{name}", rows, channels, reads=2, saves=False)
    b.activation("silu", rows, channels)


def _resnet(b: Builder, channels: int, filters: int, at: Shape, norm: _Norm) -> None:
    rows = b.rows(at[0] * at[1] * at[2])
    with b.keeping(rows.size * channels * b.width):
        _normed(b, channels, at, norm)
        _convolved(b, channels, filters, at)
        _normed(b, filters, at, norm)
        _convolved(b, filters, filters, at)
        if channels != filters:
            _convolved(b, channels, filters, at, 1, 1)
    b.elementwise("residual", rows, filters, reads=2)


def _grown(b: Builder, width: int, at: Shape, time: bool) -> Shape:
    """The shape after an upsampling by 2 in space, and in time but for the first frame."""
    more = (2 * at[0] - 1 if time and at[0] > 1 else at[0], 2 * at[1], 2 * at[2])
    b.elementwise("upsample", b.rows(more[0] * more[1] * more[2]), width, reads=0.25)
    return more


def hunyuan(config: Config, b: Builder) -> None:
    """HunyuanVideo's decoder, tile by tile."""
    whole = (b.inputs.frames, b.inputs.height, b.inputs.width)
    tiles = 1
    for size, tile, stride in zip(whole, TILE, STRIDE, strict=True):
        tiles *= -(-size // stride) if size > tile else 1
    frames, height, width = (min(size, tile) for size, tile in zip(whole, TILE, strict=True))
    with b.segment("tiles", tiles):
        _hunyuan_tile(config, b, (frames, height, width))


TILE, STRIDE = (5, 32, 32), (3, 24, 24)
"""Latents of a tile, and from one to the next (tile_sample_min_*, tile_sample_stride_* of 16 and 12 frames, 256 and 192
pixels)."""


def _hunyuan_tile(config: Config, b: Builder, at: Shape) -> None:
    """A tile: attention over all its positions in the middle."""
    widths, norm = config.counts("block_out_channels"), _Norm(config.count("norm_num_groups", 32))
    now = widths[-1]
    b.linear("post_quant", b.rows(at[0] * at[1] * at[2]), 16, config.count("latent_channels", 16))
    _convolved(b, config.count("latent_channels", 16), now, at)
    _resnet(b, now, now, at, norm)
    _attention(b, now, at, norm)
    _resnet(b, now, now, at, norm)
    for i, width in enumerate(reversed(widths)):
        for _ in range(config.count("layers_per_block", 2) + 1):
            _resnet(b, now, width, at, norm)
            now = width
        if i < len(widths) - 1:
            at = _grown(b, now, at, i >= 1)
            _convolved(b, now, now, at)
    _normed(b, now, at, norm)
    _convolved(b, now, 3, at)


def cogvideox(config: Config, b: Builder) -> None:
    """CogVideoX's decoder: norms take a scale and a shift from the latents."""
    widths, latent = config.counts("block_out_channels"), config.count("latent_channels", 16)
    norm = _Norm(config.count("norm_num_groups", 32), latent)
    at, now = (b.inputs.frames, b.inputs.height, b.inputs.width), widths[-1]
    _convolved(b, latent, now, at)
    for _ in range(2):
        _resnet(b, now, now, at, norm)
    for i, width in enumerate(reversed(widths)):
        for _ in range(config.count("layers_per_block", 3) + 1):
            _resnet(b, now, width, at, norm)
            now = width
        if i < len(widths) - 1:
            at = _grown(b, now, at, i < 2)
            _convolved(b, now, now, at, depth=1)
    _normed(b, now, at, norm)
    _convolved(b, now, 3, at)


def wan(config: Config, b: Builder) -> None:
    """Wan's decoder: attention within each frame in the middle."""
    base, mult = config.count("base_dim", 96), config.counts("dim_mult", [1, 2, 4, 4])
    widths, norm = [base * one for one in mult], _Norm(0)
    at, now = (b.inputs.frames, b.inputs.height, b.inputs.width), widths[-1]
    _convolved(b, config.count("z_dim", 16), config.count("z_dim", 16), at, 1, 1)
    _convolved(b, config.count("z_dim", 16), now, at)
    _resnet(b, now, now, at, norm)
    _attention(b, now, at, norm, frames=True)
    _resnet(b, now, now, at, norm)
    for i, width in enumerate(reversed(widths)):
        for _ in range(config.count("num_res_blocks", 2) + 1):
            _resnet(b, now, width, at, norm)
            now = width
        if i < len(widths) - 1:
            if i < 2:
                b.linear("time_conv", b.rows(at[0] * at[1] * at[2]), 2 * now, 3 * now)
            at = _grown(b, now, at, i < 2)
            _convolved(b, now, now // 2, at, depth=1)
            now //= 2
    _normed(b, now, at, norm)
    _convolved(b, now, 3, at)


def _attention(b: Builder, width: int, at: Shape, norm: _Norm, frames: bool = False) -> None:
    tokens = at[1] * at[2] * (1 if frames else at[0])
    rows = b.rows(at[0] * at[1] * at[2])
    _normed(b, width, at, norm)
    b.linear("attn_qkv", rows, width, width, times=3)
    b.attention("attn", tokens, tokens, 1, width, batch=at[0] if frames else 1)
    b.linear("attn_out", rows, width, width)
    b.elementwise("attn_add", rows, width, reads=2)
