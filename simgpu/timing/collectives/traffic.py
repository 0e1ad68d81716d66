"""What each collective moves, whatever the algorithm: steps, bytes, passes, and the factor from algbw to busbw.

Payload is what nccl-tests call size: a rank's buffer for all-reduce, broadcast, reduce and send/recv; the whole
array for all-gather, reduce-scatter and all-to-all.
"""

from __future__ import annotations

import re

KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "send_recv")
REDUCING = ("all_reduce", "reduce_scatter", "reduce")
"""Collectives that add up what they receive."""
ROOTED = ("broadcast", "reduce")
"""Collectives that one rank sends or receives for all."""
SEND = "send"
"""One rank to another, one way: what pipeline stages and ring attention are made of. No program of nccl-tests."""
PAIRWISE = ("all_to_all", "send_recv", SEND)
"""Pairs of ranks that exchange data: one algorithm, no choice."""


def kind_of(name: str) -> str | None:
    """The collective of any spelling: all_reduce, allreduce, AllReduce, all_reduce_perf; None where there is none."""
    plain = re.sub(r"[-_ ]", "", name.lower().removesuffix("_perf"))
    return next((kind for kind in KINDS if kind.replace("_", "") == plain), None)


def bus_factor(kind: str, n: int) -> float:
    """Ratio busbw / algbw, as nccl-tests define it (doc/PERFORMANCE.md): bytes a port carries per byte of payload."""
    if kind == "all_reduce":
        return 2 * (n - 1) / n
    return (n - 1) / n if kind in ("all_gather", "reduce_scatter", "all_to_all") else 1.0


def ring_steps(kind: str, n: int) -> int:
    """The number of hops that the data makes one after another in a ring of n."""
    return 2 * (n - 1) if kind == "all_reduce" else 1 if kind in PAIRWISE else n - 1


def passes(kind: str, n: int) -> float:
    """Bytes that the channels of a GPU work through per byte of payload, in a ring of n.

    A rank of an all-gather sends its own part, forwards n-2 others, and stores the last: n primitive operations
    on S/n bytes, of which n-1 also cross a link. An all-reduce has 2n-1 of them.
    """
    if kind == "all_reduce":
        return (2 * n - 1) / n
    return 1.0
