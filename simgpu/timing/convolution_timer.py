"""Times convolutions of one GPU by the way a library would run them: implicit GEMM, Winograd, depthwise."""

from __future__ import annotations

import numpy as np

from simgpu.model.convolution import DATA, WEIGHTS, Convolution
from simgpu.model.operators import BYTES
from simgpu.timing.convolution import ConvolutionGemm, winograd_gemm
from simgpu.timing.parts import KernelTimes
from simgpu.timing.timer import GPUTimer

DEPTHWISE_REREADS = 2.0
"""Times that depthwise kernels read their input, halos of blocks and neighbouring rows included: an estimate of this
project, held against no measurement."""


def convolution_time(timer: GPUTimer, op: Convolution) -> KernelTimes:
    """Seconds of a convolution, its output or one of its gradients.

    Depthwise ones have nothing to multiply as matrices: they stream, and add up on vector units. Kernels of 3 x 3 in
    fp32 without tensor cores run as Winograd's F(2 x 2, 3 x 3) where that is quicker (A. Lavin, S. Gray, "Fast
    Algorithms for Convolutional Neural Networks", 2016).
    """
    if op.depthwise:
        return _depthwise(timer, op)
    direct = _product(timer, op, implicit_gemm(op))
    plain = timer.device.engine(op.dtype, op.accumulate) == "vector"
    square = op.kernel == (3, 3) and op.stride == (1, 1) and op.depth == 1 and op.groups == 1
    if not (plain and square):
        return direct
    other = _product(timer, op, winograd_gemm(op.outputs, op.channels, op.filters))
    return min(direct, other, key=lambda times: float(times.seconds.reshape(-1)[0]))


def implicit_gemm(op: Convolution) -> ConvolutionGemm:
    """The product that a convolution or a gradient is, and the part of its bytes that memory moves.

    forward  m = outputs, n = filters, k = taps
    data     m = inputs, n = channels, k = filters x kernel / stride^2
    weights  m = filters, n = taps, k = outputs
    """
    groups, filters, taps, pixels = op.groups, op.filters // op.groups, op.taps, op.outputs
    inputs = op.images.size * op.height * op.width
    m, n, k = float(pixels), float(filters), float(taps)
    if op.made == DATA:
        m, n = float(inputs), float(op.channels // groups)
        k = op.flops / (2.0 * m * n * groups)
    elif op.made == WEIGHTS:
        m, n, k = float(filters), float(taps), float(pixels)
    moved = inputs * op.channels + pixels * op.filters + op.filters * taps
    whole = groups * (m * k + k * n + m * n)
    one = np.asarray
    return ConvolutionGemm(one(m), one(n), one(k), one(float(groups)), one(min(moved / whole, 1.0)))


def _product(timer: GPUTimer, op: Convolution, shape: ConvolutionGemm) -> KernelTimes:
    return timer.matrix.implicit(shape, op.dtype, op.accumulate)


def _depthwise(timer: GPUTimer, op: Convolution) -> KernelTimes:
    elements = op.outputs * op.filters
    reads = DEPTHWISE_REREADS * op.input_bytes / (elements * BYTES[op.dtype])
    dtype = "fp32" if op.dtype == "tf32" else op.dtype
    times = timer.vector.elementwise(elements, reads, 1.0, dtype=dtype)
    compute = np.asarray(op.flops / timer.device.vector_peak)
    longer = np.maximum(times.seconds, compute + times.latency)
    return KernelTimes(longer, np.maximum(times.compute, compute), times.memory, times.latency)
