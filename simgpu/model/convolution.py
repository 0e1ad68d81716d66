"""Convolutions as operators: shapes, FLOPs, the bytes of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from simgpu.model.dims import BYTES, Dim, timed

FORWARD, DATA, WEIGHTS = "forward", "data", "weights"
"""What a convolution computes: its output, the gradient of its input, the gradient of its weights."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """A two-dimensional convolution of `images` images, or a causal one over frames where `depth` is above 1.

    An output pixel sees `kernel` pixels of the input in `depth` frames and `channels / groups` channels. `images`
    counts frames too. `made` is forward, data or weights (gradients): all three multiply as much.
    """

    kind: ClassVar[str] = "convolution"
    name: str
    images: Dim
    channels: int
    height: int  # of the input
    width: int
    filters: int
    dtype: str
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    groups: int = 1
    depth: int = 1
    bias: bool = True
    accumulate: str = "fp32"
    made: str = FORWARD
    time_s: float | None = None
    transposed: bool = False  # the gradient `data` as an operator of a network, which holds its weights

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output: floor((in + 2 padding - kernel) / stride) + 1."""
        sizes = zip((self.height, self.width), self.kernel, self.stride, self.padding, strict=True)
        height, width = ((size + 2 * pad - k) // step + 1 for size, k, step, pad in sizes)
        return height, width

    @property
    def outputs(self) -> int:
        """Pixels of the output, of all images."""
        height, width = self.out
        return self.images.size * height * width

    @property
    def taps(self) -> int:
        """Input elements that an output element sums over."""
        return self.channels // self.groups * self.kernel[0] * self.kernel[1] * self.depth

    @property
    def flops(self) -> float:
        """2 for each output element and tap."""
        return 2.0 * self.outputs * self.filters * self.taps

    @property
    def output_bytes(self) -> float:
        """Bytes of the output."""
        return self.outputs * self.filters * BYTES[self.dtype]

    @property
    def input_bytes(self) -> float:
        """Bytes of the input."""
        return self.images.size * self.channels * self.height * self.width * BYTES[self.dtype]

    @property
    def bytes(self) -> float:
        """Input, weights and output once each: the input is unfolded on the way, not in memory."""
        return self.input_bytes + self.output_bytes + self.filters * self.taps * BYTES[self.dtype]

    @property
    def weights(self) -> int:
        """Parameters it holds."""
        return self.filters * (self.taps + self.bias) if self.made == FORWARD or self.transposed else 0

    @property
    def depthwise(self) -> bool:
        """True if each filter sees one channel."""
        return self.groups > 1 and self.groups == self.channels

    def split(self, ways: Mapping[str, int]) -> Convolution:
        """The convolution of one rank: its share of the images."""
        return timed(self, replace(self, images=self.images.split(ways)))

    def gradients(self) -> tuple[Convolution, Convolution]:
        """The gradients of its input and of its weights."""
        plain = replace(self, bias=False)
        return (
            replace(plain, name=f"{self.name}_dgrad", made=DATA),
            replace(plain, name=f"{self.name}_wgrad", made=WEIGHTS),
        )
