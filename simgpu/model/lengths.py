"""Sequences of other lengths than the row that they stand in: attention sees its own sequence and no other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import sqrt

from simgpu.model.graph import ModelGraph
from simgpu.model.operators import Attention, Dim, Operator


@dataclass(frozen=True)
class Seen:
    """Attention of a row by its sequences: so many of `queries` each, that see `keys`, at most `window` (0: all)."""

    sequences: int
    queries: int
    keys: int
    window: int = 0


def weighted(mean: float, deviation: float) -> float:
    """Length of the sequence that a token is in, on average, where lengths deviate by so much of their mean.

    That is E[L^2] / E[L] = mean (1 + deviation^2), and attention of n tokens has n (weighted + 1) / 2 pairs.
    """
    return mean * (1 + deviation * deviation)


def seen(tokens: int, length: float) -> Seen:
    """Attention of a row of `tokens` tokens, whose sequences have a `weighted` length.

    Kernels take alike sequences of whole tokens. Where a row holds one and a part, it is cut into the longer ones, of
    which a window hides as many pairs as are too many; where sequences are longer than a row on average (a row is then
    the mean sequence), keys are added. Pairs are those of the lengths but for the rounding of the window.
    """
    if length >= tokens:
        return Seen(1, tokens, tokens + round((length - tokens) / 2))
    count = int(tokens / length)
    queries = tokens // count
    pairs = queries * (length + 1) / 2
    # pairs of a window w: w (w + 1) / 2 + (queries - w) w, solved for w
    half = queries + 0.5
    window = round(half - sqrt(max(half * half - 2 * pairs, 0.0)))
    return Seen(count, queries, queries, window if window < queries else 0)


def by_length(operators: Iterable[Operator], length: float) -> tuple[Operator, ...]:
    """The operators with attention over sequences of a `weighted` length; 0: over whole rows."""
    return tuple(_cut(op, length) if isinstance(op, Attention) and length else op for op in operators)


def _cut(op: Attention, length: float) -> Attention:
    part = seen(op.queries, length)
    sequences = Dim(op.batch.units, op.batch.width * part.sequences, op.batch.axis)
    window = min(op.window, part.window) if op.window and part.window else op.window or part.window
    return replace(op, batch=sequences, queries=part.queries, keys=part.keys, window=window)


def graph_by_length(graph: ModelGraph, length: float) -> ModelGraph:
    """The graph with attention over sequences of a `weighted` length; 0: over whole rows."""
    if not length:
        return graph
    segments = (replace(one, operators=by_length(one.operators, length)) for one in graph.segments)
    return replace(graph, segments=tuple(segments))
