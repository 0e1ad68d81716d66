"""The feed-forward half of a layer."""

from __future__ import annotations

from simgpu.model.config import TransformerConfig
from simgpu.model.operators import Dim, Kernel, Matmul, Pointwise


def dense_operators(
    config: TransformerConfig, rows: Dim, width: int, dtype: str, accumulate: str, name: str = "ffn"
) -> tuple[Kernel, ...]:
    """Up (and gate), activation, down, `width` wide."""
    c, hidden, inner = config, Dim(config.hidden), Dim(width, 1, "ffn")
    up = Dim(width, 2, "ffn") if c.gated else inner
    activation = "activation" if name == "ffn" else f"{name}_activation"
    return (
        Matmul(f"{name}_up", rows, (up,), hidden, dtype, accumulate, bias=c.bias),
        Pointwise(activation, "elementwise", rows, (inner,), dtype, 2 if c.gated else 1, 1, 8),
        Matmul(f"{name}_down", rows, (hidden,), inner, dtype, accumulate, bias=c.bias),
    )
