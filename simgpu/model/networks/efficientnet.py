"""EfficientNet from transformers' `config.json`: inverted residuals with squeeze and excitation.

Source of the layers: huggingface/transformers, models/efficientnet/modeling_efficientnet.py; Tan and Le 2019 (arXiv
1905.11946) for the rounding of widths and depths.
"""

from __future__ import annotations

from math import ceil

from simgpu.model.networks.build import Builder, Window
from simgpu.model.networks.config import Config
from simgpu.model.networks.convnet import classes_of

STAGES = ("in_channels", "out_channels", "kernel_sizes", "strides", "num_block_repeats", "expand_ratios")
"""Lists with a value for each stage."""


def efficientnet(config: Config, b: Builder) -> None:
    """A stem, stages of inverted residuals, a wider convolution of one pixel, a classifier."""
    lists = [config.counts(key) for key in STAGES]
    for key, values in zip(STAGES, lists, strict=True):
        if len(values) != len(lists[0]):
            raise config.error(f"{len(values)} values; {STAGES[0]} has {len(lists[0])}", key)
    wide, deep = config.number("width_coefficient", 1.0), config.number("depth_coefficient", 1.0)
    divisor, ratio = config.count("depth_divisor", 8), config.number("squeeze_expansion_ratio", 0.25)
    now = _rounded(32 * wide, divisor)
    size = _convolved(
        b, config.count("num_channels", 3), now, (b.inputs.height, b.inputs.width), Window(3, 2, bias=False)
    )
    b.activation("swish", b.rows(size[0] * size[1]), now)
    for channels, filters, kernel, stride, repeats, expand in zip(*lists, strict=True):
        width = _rounded(filters * wide, divisor)
        now = _rounded(channels * wide, divisor)
        for block in range(ceil(repeats * deep)):
            step = Window(kernel, stride if block == 0 else 1, bias=False)
            size = _block(b, (now, width), size, step, expand, ratio)
            now = width
    last = _rounded(1280 * wide, divisor)
    size = _convolved(b, now, last, size, Window(1, bias=False))
    b.activation("swish", b.rows(size[0] * size[1]), last)
    b.elementwise("average", b.rows(size[0] * size[1]), last, writes=0)
    b.linear("classifier", b.batch, classes_of(config), last)


def _block(
    b: Builder, widths: tuple[int, int], size: tuple[int, int], window: Window, expand: int, ratio: float
) -> tuple[int, int]:
    """Expansion, a depthwise convolution, squeeze and excitation, projection; added to its input where both agree."""
    channels, filters = widths
    inner, before = channels * expand, b.rows(size[0] * size[1])
    if expand > 1:
        _convolved(b, channels, inner, size, Window(1, bias=False))
        b.activation("swish", before, inner)
    deep = Window(window.kernel, window.stride, groups=inner, bias=False)
    out = _convolved(b, inner, inner, size, deep)
    rows, squeezed = b.rows(out[0] * out[1]), max(1, int(channels * ratio))
    b.activation("swish", rows, inner)
    b.elementwise("squeeze", rows, inner, writes=0)
    b.linear("reduce", b.batch, squeezed, inner)
    b.activation("swish", b.batch, squeezed)
    b.linear("excite", b.batch, inner, squeezed)
    b.activation("sigmoid", b.batch, inner)
    b.elementwise("scale", rows, inner, reads=1)
    _convolved(b, inner, filters, out, Window(1, bias=False))
    if window.stride == 1 and channels == filters:
        b.elementwise("residual", rows, filters, reads=2)
    return out


def _convolved(b: Builder, channels: int, filters: int, size: tuple[int, int], window: Window) -> tuple[int, int]:
    """A convolution without a bias, and a batch norm."""
    out = b.convolution("conv", channels, filters, size, window)
    rows = b.rows(out[0] * out[1])
    if b.inputs.training:
        b.elementwise("norm_moments", rows, filters, reads=1, writes=0, saves=False)
    b.elementwise("norm", rows, filters, weights=2 * filters)
    return out


def _rounded(width: float, divisor: int) -> int:
    """A width as a multiple of `divisor`, not much smaller (round_filters)."""
    found = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return found + divisor if found < 0.9 * width else found
