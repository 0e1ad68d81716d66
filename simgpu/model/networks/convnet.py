"""Convolutional networks from transformers' `config.json`: ResNet (v1.5, the stride in the 3 x 3) and ConvNeXt.

Source of the layers: huggingface/transformers, models/resnet/modeling_resnet.py, models/convnext/modeling_convnext.py.
"""

from __future__ import annotations

from simgpu.model.networks.build import Builder, Window
from simgpu.model.networks.config import Config

CLASSES = 1000
"""Of ImageNet, where a file names none."""


def classes_of(config: Config) -> int:
    """Classes that a network of images tells apart."""
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, dict) and len(labels) > 2 else config.count("num_labels", CLASSES)


def _convolved(
    b: Builder, widths: tuple[int, int], size: tuple[int, int], window: Window, act: bool
) -> tuple[int, int]:
    """A convolution without a bias, a batch norm, and an activation."""
    channels, filters = widths
    out = b.convolution("conv", channels, filters, size, window)
    rows = b.rows(out[0] * out[1])
    if b.inputs.training:
        b.elementwise("norm_moments", rows, filters, reads=1, writes=0, saves=False)
    b.elementwise("norm", rows, filters, weights=2 * filters)
    if act:
        b.elementwise("relu", rows, filters)
    return out


def resnet(config: Config, b: Builder) -> None:
    """ResNet: a stem, four stages of residual blocks, a classifier."""
    depths, widths = config.counts("depths"), config.counts("hidden_sizes")
    if len(depths) != len(widths):
        raise config.error(f"{len(depths)} depths; hidden_sizes has {len(widths)}", "depths")
    kind = config.word("layer_type", "bottleneck", ("bottleneck", "basic"))
    size = (b.inputs.height, b.inputs.width)
    now = config.count("embedding_size", 64)
    size = _convolved(b, (config.count("num_channels", 3), now), size, Window(7, 2, bias=False), True)
    b.elementwise("pool", b.rows(size[0] * size[1]), now, reads=1, writes=0.25)
    size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for layer in range(depth):
            down = layer == 0 and (stage > 0 or config.flag("downsample_in_first_stage"))
            size = _residual(b, (now, width), size, 2 if down else 1, kind)
            now = width
    b.elementwise("average", b.rows(size[0] * size[1]), now, writes=0)
    b.linear("classifier", b.batch, classes_of(config), now)


def _residual(b: Builder, widths: tuple[int, int], size: tuple[int, int], stride: int, kind: str) -> tuple[int, int]:
    channels, filters = widths
    inner = filters // 4 if kind == "bottleneck" else filters
    out = size
    with b.keeping(b.rows(size[0] * size[1]).size * channels * b.width):
        if kind == "bottleneck":
            _convolved(b, (channels, inner), size, Window(1, bias=False), True)
            out = _convolved(b, (inner, inner), size, Window(3, stride, bias=False), True)
            _convolved(b, (inner, filters), out, Window(1, bias=False), False)
        else:
            out = _convolved(b, (channels, inner), size, Window(3, stride, bias=False), True)
            _convolved(b, (inner, filters), out, Window(3, bias=False), False)
        if channels != filters or stride > 1:
            _convolved(b, (channels, filters), size, Window(1, stride, bias=False), False)
    rows = b.rows(out[0] * out[1])
    b.elementwise("residual", rows, filters, reads=2, saves=False)
    b.elementwise("relu", rows, filters)
    return out


def convnext(config: Config, b: Builder) -> None:
    """ConvNeXt: depthwise convolutions of 7 x 7, a norm, two linear layers, a scale."""
    depths, widths = config.counts("depths"), config.counts("hidden_sizes")
    if len(depths) != len(widths):
        raise config.error(f"{len(depths)} depths; hidden_sizes has {len(widths)}", "depths")
    patch, size, now = config.count("patch_size", 4), (b.inputs.height, b.inputs.width), widths[0]
    size = b.convolution("patches", config.count("num_channels", 3), now, size, Window(patch, patch, 0))
    b.layer_norm("norm", b.rows(size[0] * size[1]), now)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            b.layer_norm("norm", b.rows(size[0] * size[1]), now)
            size = b.convolution("downsample", now, width, size, Window(2, 2, 0))
        for _ in range(depth):
            rows = b.rows(size[0] * size[1])
            b.convolution("depthwise", width, width, size, Window(7, groups=width))
            b.elementwise("to_last", rows, width, saves=False)
            b.layer_norm("norm", rows, width)
            b.linear("pointwise1", rows, 4 * width, width)
            b.activation("gelu", rows, 4 * width)
            b.linear("pointwise2", rows, width, 4 * width)
            b.elementwise("layer_scale", rows, width, weights=width)
            b.elementwise("to_first", rows, width, saves=False)
            b.elementwise("residual", rows, width, reads=2)
        now = width
    b.elementwise("average", b.rows(size[0] * size[1]), now, writes=0)
    b.layer_norm("norm", b.batch, now)
    b.linear("classifier", b.batch, classes_of(config), now)
