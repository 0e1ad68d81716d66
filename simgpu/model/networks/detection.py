"""Networks that find objects in images: YOLOv8 by its scales, YOLOS from transformers' `config.json`.

Source of the layers: ultralytics/ultralytics, cfg/models/v8/yolov8.yaml (the list of modules), nn/modules/conv.py,
block.py (C2f, Bottleneck, SPPF, DFL), head.py (Detect); huggingface/transformers, models/yolos/modeling_yolos.py. The
choice among overlapping boxes (non-maximum suppression) is not counted.
"""

from __future__ import annotations

from math import ceil

from simgpu.model.networks.build import Builder, Window
from simgpu.model.networks.config import Config
from simgpu.model.networks.encoders import encoder_layer

Size = tuple[int, int]

BINS = 16
"""Distances of which each side of a box is a distribution (`reg_max` of Detect)."""

BACKBONE = ((128, 3), (256, 6), (512, 6), (1024, 3))
"""Widths and blocks of the stages behind the stem; the last three are seen by the head (strides 8, 16 and 32)."""


class _Yolo:
    """YOLOv8 under construction: widths and depths scaled as `parse_model` does it."""

    def __init__(self, config: Config, b: Builder) -> None:
        self.b = b
        self.deep = config.number("depth_multiple", 1.0)
        self.wide = config.number("width_multiple", 1.0)
        self.most = config.count("max_channels", 1024)

    def width(self, channels: int) -> int:
        """Channels of a module, a multiple of 8 (make_divisible)."""
        return ceil(min(channels, self.most) * self.wide / 8) * 8

    def depth(self, blocks: int) -> int:
        """Bottlenecks of a C2f."""
        return max(round(blocks * self.deep), 1)

    def conv(self, channels: int, filters: int, size: Size, kernel: int = 1, stride: int = 1) -> Size:
        """Conv: a convolution without a bias, a batch norm, SiLU."""
        out = self.b.convolution("conv", channels, filters, size, Window(kernel, stride, bias=False))
        rows = self.b.rows(out[0] * out[1])
        if self.b.inputs.training:
            self.b.elementwise("norm_moments", rows, filters, reads=1, writes=0, saves=False)
        self.b.elementwise("norm", rows, filters, weights=2 * filters)
        self.b.activation("silu", rows, filters)
        return out

    def c2f(self, channels: int, filters: int, blocks: int, size: Size, adds: bool) -> None:
        """C2f: half of the channels go through bottlenecks, and every one's output is seen at the end."""
        inner, count, rows = filters // 2, self.depth(blocks), self.b.rows(size[0] * size[1])
        self.conv(channels, 2 * inner, size)
        for _ in range(count):
            self.conv(inner, inner, size, 3)
            self.conv(inner, inner, size, 3)
            if adds:
                self.b.elementwise("residual", rows, inner, reads=2)
        self.joined((2 + count) * inner, size)
        self.conv((2 + count) * inner, filters, size)

    def joined(self, channels: int, size: Size) -> None:
        """Tensors side by side as one."""
        self.b.elementwise("concatenation", self.b.rows(size[0] * size[1]), channels)

    def pyramid(self, channels: int, size: Size) -> None:
        """SPPF: three poolings of 5 x 5 one after another, seen together."""
        inner = channels // 2
        self.conv(channels, inner, size)
        for _ in range(3):
            self.b.elementwise("pool", self.b.rows(size[0] * size[1]), inner)
        self.joined(4 * inner, size)
        self.conv(4 * inner, channels, size)

    def detect(self, levels: list[tuple[int, Size]], classes: int) -> None:
        """Detect: for each level two convolutions and one of a pixel, of boxes and of classes; then the boxes."""
        first = levels[0][0]
        sides, kinds = max(16, first // 4, 4 * BINS), max(first, min(classes, 100))
        for channels, size in levels:
            for inner, out in ((sides, 4 * BINS), (kinds, classes)):
                self.conv(channels, inner, size, 3)
                self.conv(inner, inner, size, 3)
                self.b.convolution("predictions", inner, out, size, Window(1))
            self.joined(4 * BINS + classes, size)
        anchors = self.b.rows(sum(high * wide for _, (high, wide) in levels))
        self.b.elementwise("distribution", anchors, 4 * BINS, reads=2, writes=1)
        self.b.elementwise("expectation", anchors, 4 * BINS, writes=1 / BINS, weights=BINS)
        self.b.elementwise("boxes", anchors, 4, reads=2)
        self.b.activation("sigmoid", anchors, classes)


def yolov8(config: Config, b: Builder) -> None:
    """YOLOv8: a backbone to strides of 8, 16 and 32, up and down again between them, and a head on each."""
    y, size = _Yolo(config, b), (b.inputs.height, b.inputs.width)
    for key, side in zip(("height", "width"), size, strict=True):
        if side % 32:
            raise config.error(f"the image's {key} of {side} is no multiple of 32, its coarsest stride")
    now = y.width(64)
    size = y.conv(config.count("num_channels", 3), now, size, 3, 2)
    seen: list[tuple[int, Size]] = []
    for channels, blocks in BACKBONE:
        filters = y.width(channels)
        size = y.conv(now, filters, size, 3, 2)
        y.c2f(filters, filters, blocks, size, adds=True)
        now = filters
        seen.append((now, size))
    y.pyramid(now, size)
    fine, middle, coarse = seen[1:]
    up16 = (y.width(512), middle[1])
    _upward(y, coarse, middle, up16[0])
    up8 = (y.width(256), fine[1])
    _upward(y, up16, fine, up8[0])
    down16 = (y.width(512), middle[1])
    _downward(y, up8, up16, down16[0])
    down32 = (y.width(1024), coarse[1])
    _downward(y, down16, coarse, down32[0])
    y.detect([up8, down16, down32], config.count("num_labels", 80))


def _upward(y: _Yolo, of: tuple[int, Size], beside: tuple[int, Size], filters: int) -> None:
    """A coarser level enlarged, beside a finer one, through a C2f."""
    rows = y.b.rows(beside[1][0] * beside[1][1])
    y.b.elementwise("upsample", rows, of[0], reads=0.25)
    y.joined(of[0] + beside[0], beside[1])
    y.c2f(of[0] + beside[0], filters, 3, beside[1], adds=False)


def _downward(y: _Yolo, of: tuple[int, Size], beside: tuple[int, Size], filters: int) -> None:
    """A finer level at half its sides, beside a coarser one, through a C2f."""
    y.conv(of[0], of[0], of[1], 3, 2)
    y.joined(of[0] + beside[0], beside[1])
    y.c2f(of[0] + beside[0], filters, 3, beside[1], adds=False)


def yolos(config: Config, b: Builder) -> None:
    """YOLOS: a vision transformer with tokens for detections, of which heads of three layers make classes and boxes."""
    h, heads, layers = (config.count(key) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    config.divides(heads, h, "num_attention_heads", "hidden_size")
    patch, sides = config.count("patch_size"), config.counts("image_size", length=2)
    size = (b.inputs.height or sides[0], b.inputs.width or sides[1])
    found = config.count("num_detection_tokens", 100)
    patches = (size[0] // patch) * (size[1] // patch)
    tokens, rows = patches + 1 + found, b.rows(patches + 1 + found)
    positions = (sides[0] // patch) * (sides[1] // patch) + 1 + found
    middle = config.flag("use_mid_position_embeddings", True)
    b.convolution("patches", config.count("num_channels", 3), h, size, Window(patch, patch, 0))
    b.elementwise("to_tokens", rows, h)
    b.elementwise("positions", rows, h, reads=2, weights=h * (1 + found + positions))
    with b.segment("layers", layers):
        encoder_layer(b, config, tokens, h, heads, config.count("intermediate_size"), causal=False)
    if middle:
        with b.segment("middle positions", layers - 1):  # interpolated for every layer, then added
            b.elementwise("interpolate", rows, h, saves=False)
            b.elementwise("positions", rows, h, reads=2, weights=h * positions)
    b.layer_norm("norm", rows, h)
    labels = config.get("id2label")
    classes = (len(labels) if isinstance(labels, dict) else config.count("num_labels", 91)) + 1
    for out in (classes, 4):
        for wide in (h, h, out):
            b.linear("head", b.rows(found), wide, h)
            b.activation("relu", b.rows(found), wide)
