"""Convolutions of any padding, dilation and number of dimensions as the one that kernels know."""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.errors import InputError
from simgpu.model.imported.pieces import Entry, Pieces, Shape, Tensor


def convolution(
    pieces: Pieces, name: str, tensors: tuple[Tensor, Tensor, Tensor | None, Tensor], stride: Sequence[int],
    padding: Sequence[int], groups: int = 1, transposed: bool = False, **more: object,
) -> None:  # fmt: skip
    """A convolution of the tensors input, weights, bias and output; `padding` is that before each dimension.

    The input and output of a transposed one change places: it is the gradient of the plain one. A bias is added by a
    kernel of its own (PyTorch: aten/src/ATen/native/Convolution.cpp; ONNX Runtime: core/providers/cuda/nn/conv.cc).
    """
    x, weights, bias, out = tensors
    pieces.hold(weights)
    inner, outer = (out, x) if transposed else (x, out)
    kernel = weights.shape[2:]
    if len(x.shape) != len(kernel) + 2 or not 1 <= len(kernel) <= 3:
        raise InputError(f"{name}: a convolution of {len(x.shape)} dimensions with weights of {len(weights.shape)}")
    images, depth = x.shape[0], 1
    if len(kernel) == 3:  # frames of the output are images that see `depth` frames
        images, depth = images * outer.shape[2], kernel[0]
    sizes = [_way(*one) for one in zip(_two(inner.shape[2:]), _two(outer.shape[2:]), _two(kernel, 1), _two(stride, 1),
                                       _two(padding, 0), strict=True)]  # fmt: skip
    entry: Entry = {
        "op": "convolution", "name": name, "images": images, "channels": inner.shape[1], "height": sizes[0][0],
        "width": sizes[1][0], "filters": outer.shape[1], "kernel": list(_two(kernel, 1)),
        "stride": [sizes[0][1], sizes[1][1]], "padding": [sizes[0][2], sizes[1][2]],
    }  # fmt: skip
    entry |= {"groups": groups} if groups > 1 else {}
    entry |= {"depth": depth} if depth > 1 else {}
    entry |= {"transposed": True} if transposed else {}
    entry |= {"bias": False}
    made = out if bias is None else Tensor(f"{out.name} without bias", out.shape)
    pieces.add(entry | more, (x, weights), (made,))
    if bias is not None:
        pieces.pointwise(f"{name}_bias", (made, bias), (out,))


def _two(values: Sequence[int], plain: int = 1) -> Shape:
    """Height and width: the last two dimensions, or one and `plain` before it."""
    return tuple(values[-2:]) if len(values) > 1 else (plain, *values)


def _way(size: int, out: int, kernel: int, stride: int, pad: int) -> tuple[int, int, int]:
    """Size, stride and padding in one direction, such that the output is as long as it is.

    Uneven padding and dilation make another input size, of what the kernels see: (out - 1) stride + kernel - 2 pad.
    """
    if (size + 2 * pad - kernel) // stride + 1 == out and size + 2 * pad >= kernel:
        return size, stride, pad
    seen = (out - 1) * stride + kernel - 2 * pad
    return (seen, stride, pad) if seen > 0 else ((out - 1) * stride + kernel, stride, 0)
