"""Convolution as a matrix multiplication that gathers its operand on the way (implicit GEMM)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simgpu.timing.parts import Array, ArrayLike


class ConvolutionGemm(NamedTuple):
    """The products C[m, n] = A[m, k] B[k, n], `batch` of them, and the part of A's bytes that are new ones."""

    m: Array
    n: Array
    k: Array
    batch: Array
    fresh: Array  # of the bytes that the products would read and write, those that memory really moves


class ConvolutionWork(NamedTuple):
    """A two-dimensional convolution; sizes broadcast against each other, the rest is (height, width) of all of them."""

    images: ArrayLike
    channels: ArrayLike
    height: ArrayLike
    width: ArrayLike
    filters: ArrayLike
    groups: ArrayLike = 1
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)


def convolution_gemm(work: ConvolutionWork) -> ConvolutionGemm:
    """Sizes of the implicit GEMM of a two-dimensional convolution (forward).

        out = floor((in + 2 padding - dilation (kernel - 1) - 1) / stride) + 1      each way
        m = images out_height out_width,  n = filters / groups,  k = channels / groups x kernel area,  batch = groups

    A is never written out: an input pixel that several outputs see is read from memory once and from L2 or shared
    memory after that (S. Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014). `fresh` is
    (input + weights + output) / (A + B + C), in elements.
    """
    sizes, kernel = work[:6], work.kernel
    images, channels, height, width, filters, groups = np.broadcast_arrays(*(np.asarray(x, float) for x in sizes))
    out_h, out_w = (
        np.floor((size + 2 * pad - dil * (k - 1) - 1) / step) + 1
        for size, k, step, pad, dil in zip((height, width), *work[6:], strict=True)
    )
    m, n = images * out_h * out_w, filters / groups
    k = channels / groups * kernel[0] * kernel[1]
    pixels = images * channels * height * width  # strided 1 x 1 kernels see fewer
    seen = np.minimum(pixels, groups * m * k)
    fresh = (seen + groups * (k * n + m * n)) / (groups * (m * k + k * n + m * n))
    return ConvolutionGemm(m, n, k, groups, fresh)


def winograd_gemm(outputs: ArrayLike, channels: ArrayLike, filters: ArrayLike) -> ConvolutionGemm:
    """Sizes of Winograd's F(2 x 2, 3 x 3): 16 products over tiles of 2 x 2 outputs, 2.25 times fewer multiplications.

    Inputs and outputs are transformed on chip, so that memory moves them once; transformed weights are 16 for 9.
    """
    outputs, channels, filters = (np.asarray(one, float) for one in (outputs, channels, filters))
    m = np.ceil(outputs / 4)
    moved = outputs * (channels + filters) + 16 * channels * filters
    whole = 16 * (m * channels + channels * filters + m * filters)
    return ConvolutionGemm(m, filters, channels, np.asarray(16.0), np.minimum(moved / whole, 1.0))
