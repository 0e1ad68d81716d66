"""Rows that go to experts and come back by writes into the memory of other GPUs: DeepEP's kernels of inference.

No library stands between: a kernel writes each row to where its expert is, over NVLink inside a node and through the
GPU's own adapter to others, at once, and flags tell that all has come. So

    time = DIRECT_S + max(local bytes / (LOCAL local rate), remote bytes / (REMOTE remote rate))

of the bytes of one rank. Of 12 published latencies, dispatch and combine among 8 to 256 H800 with an adapter of 50 GB/s
each (deepseek-ai/DeepEP, docs/legacy.md: 128 tokens a rank, 7,168 wide, 8 experts, rows in fp8 and back in bf16), it
misses 2 % in the median and 9 % at most.
"""

from __future__ import annotations

from typing import NamedTuple

DIRECT_S = 30e-6
"""Of a transfer beside its bytes, s: what is left of published latencies at any number of ranks, 26 to 35 us of
dispatch."""

LOCAL, REMOTE = 0.95, 0.93
"""Shares of what links carry beside their headers that writes reach: 153 to 158 GB/s of the 165 of H800 over NVLink
(the same page); 45 of the 48.5 GB/s of an adapter of 400 Gb/s, from latencies at 16 to 64 ranks."""

SCALE_BYTES = 4 / 128
"""Of scales beside each byte of a row in fp8: one in fp32 for 128."""


class Lanes(NamedTuple):
    """How many of `ranks` stand in the node of one (`here`, itself among them), and rates to those and others, B/s."""

    ranks: int
    here: int
    local: float
    remote: float


def direct_time(lanes: Lanes, sent: float, once: float | None = None) -> float:
    """Seconds of a transfer of `sent` bytes of a rank, evenly to all ranks, itself among them.

    `once`: bytes that go to other nodes where a row goes once to each of them, to be passed on inside; else as many as
    its ranks are sent.

    >>> round(1e6 * direct_time(Lanes(16, 8, 165e9, 48.5e9), 128 * 8 * 7168 * 2.0))
    193
    """
    away = 1 - lanes.here / lanes.ranks
    remote = sent * away if once is None else once * away
    passed = sent * (lanes.here - 1) / lanes.here if once is not None else sent * (lanes.here - 1) / lanes.ranks
    within = passed / (LOCAL * lanes.local) if lanes.here > 1 else 0.0
    between = remote / (REMOTE * lanes.remote) if away else 0.0
    return DIRECT_S + max(within, between)
