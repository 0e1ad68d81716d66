"""The mixer of a layer that keeps a state: projections, a short convolution, the scan, a gated norm."""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.model.config import TransformerConfig
from simgpu.model.operators import Dim, Kernel, Matmul, Pointwise
from simgpu.model.recurrence import Recurrence
from simgpu.model.state_operators import Scan

SCANNED = {"rwkv6": "lightning", "rwkv7": "kda"}
"""Kinds whose scan multiplies as that of another does: without the delta rule, and with it."""

Sequences = Iterable[tuple[Dim, int, bool]]
"""Groups of sequences: how many, new tokens of each, and whether they have a state already."""


def state_operators(
    config: TransformerConfig, rows: Dim, sequences: Sequences, dtype: str, accumulate: str
) -> tuple[Kernel, ...]:
    """Operators from normalised rows to the projection out."""
    state = config.state
    assert state is not None, "a layer with a state has its shape"
    hidden, inner = Dim(config.hidden), Dim(state.heads, state.value_dim, "heads")
    entry = tuple(Dim(heads, width, "heads") for heads, width in state.entry_widths())
    return (
        Matmul("state_in", rows, entry, hidden, dtype, accumulate, bias=state.bias),
        *_convolved(state, rows, dtype),
        *_made_of_input(state, rows, hidden, dtype, accumulate),
        *_scans(state, sequences, dtype),
        *_gated(state, rows, inner, dtype),
        Matmul("state_out", rows, (hidden,), inner, dtype, accumulate, bias=state.bias),
    )


def _convolved(state: Recurrence, rows: Dim, dtype: str) -> tuple[Kernel, ...]:
    """Causal convolution of each channel with its own weights, and the activation behind it."""
    if not state.conv:
        return ()
    channels = Dim(state.keys, state.channels // state.keys, "heads")
    weights = state.channels * (state.conv + state.conv_bias)
    return (Pointwise("convolution", "elementwise", rows, (channels,), dtype, 1, 1, 2.0 * state.conv, weights=weights),)


def _made_of_input(state: Recurrence, rows: Dim, hidden: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """What is projected besides: time steps, keys and queries of Mamba; factors and gate of KDA."""
    inner, rank = Dim(state.heads, state.value_dim, "heads"), Dim(state.rank)
    if state.kind == "mamba":
        return (
            Matmul("steps_in", rows, (Dim(state.rank + 2 * state.key_dim),), inner, dtype, accumulate),
            Matmul("steps", rows, (inner,), rank, dtype, accumulate, bias=True),
        )
    keys = Dim(state.keys, state.key_dim, "heads")
    made: list[tuple[str, Dim]] = []
    if state.kind == "kda":
        made += [] if state.whole_factors else [("factors", keys)]
        made += [] if state.whole_gate else [("gate", inner)]
    if state.kind in ("rwkv6", "rwkv7"):
        made.append(("factors", inner))
    found: list[Kernel] = []
    for name, out in made:
        found.append(Matmul(f"{name}_in", rows, (rank,), hidden, dtype, accumulate))
        found.append(Matmul(name, rows, (out,), rank, dtype, accumulate))
    return tuple(found)


def _scans(state: Recurrence, sequences: Sequences, dtype: str) -> tuple[Kernel, ...]:
    if not state.state_elements:
        return ()
    heads, keys = Dim(state.heads, 1, "heads"), Dim(state.keys, 1, "heads")
    return tuple(
        Scan(
            "scan" if tokens > 1 else "scan_decode",
            SCANNED.get(state.kind, state.kind),
            batch,
            tokens,
            heads,
            keys,
            state.key_dim,
            state.value_dim,
            dtype,
            continued,
        )
        for batch, tokens, continued in sequences
    )


def _gated(state: Recurrence, rows: Dim, inner: Dim, dtype: str) -> tuple[Kernel, ...]:
    """Norm of the output and the product with its gate in one kernel; the small weights of the mixer are its own."""
    weights = state.small_weights() - state.channels * (state.conv + state.conv_bias)
    if not (state.gated or state.norm or weights):
        return ()
    kind = "normalization" if state.norm else "elementwise"
    reads = 1.0 if state.norm else 2.0
    return (Pointwise("state_gate", kind, rows, (inner,), dtype, reads, 1, 8, weights=weights),)
