"""Rows that go to experts and come back by writes into the memory of other GPUs: DeepEP's kernels of inference.

No library stands between: a kernel writes each row to where its expert is, over NVLink inside a node and through the
GPU's own adapter to others, at once, and flags tell that all has come. So, of the bytes of one rank,

    low latency  a row for each expert:   t = INSIDE_S or BETWEEN_S + max(local / (LOCAL rate), remote / (REMOTE rate))
    normal       a row for each GPU, by way of one in its node (a dispatch starts COUNTS_S later):
                 t = NORMAL_S + max(local / min(NORMAL_LOCAL rate, NORMAL_RATE), remote / (REMOTE rate))

Of 12 published latencies of low latency, dispatch and combine among 8 to 256 H800 with an adapter of 50 GB/s each
(deepseek-ai/DeepEP, docs/legacy.md: 128 tokens a rank, 7,168 wide, 8 experts, rows in fp8 and back in bf16), it misses
2 % in the median and 17 % at most. Inside a node constants are those of 312 rows of low latency and 626 of normal
kernels with 20 multiprocessors, on H100 and B200 (SGLang 0.5.12, aiconfigurator-core 0.12.0), missed by 12 to 18 % in
the median: one set for both, of which the H100 needs less beside its bytes and the B200 more.
"""

from __future__ import annotations

from typing import NamedTuple

INSIDE_S, BETWEEN_S, NORMAL_S = 14e-6, 30e-6, 38e-6
"""Of a transfer beside its bytes, s: low latency in one node (12 us H100, 19 us B200) and over several (what is left
of published latencies of dispatch, 26 to 35 us); normal kernels (26 us dispatch and 39 combine H100, 36 and 50 B200).

An engine's whole call takes longer where Python launches it. Of low latency, TensorRT-LLM and vLLM took 64 to 72 us
for dispatch and 31 to 41 us for combination of a few tokens in one node, up to 96 alike: a graph hides that."""

COUNTS_S = 31e-6
"""Of a dispatch by normal kernels before its rows move, s: the host waits for the numbers of rows that come, and only
then launches the rest (deepseek-ai/DeepEP, Buffer.dispatch), so that no queue hides how long Python takes for it. What
TensorRT-LLM 1.3 took beyond the time above up to 128 tokens, 27 us on H100 and 35 on B200 in the median
(aiconfigurator-core 0.12.0, moe_a2a). Its combination takes 14 and 32 us more, which a queue may hide and is
not counted; nor are the 236 to 239 us of dispatch in vLLM 0.24."""

LOCAL, NORMAL_LOCAL, REMOTE = 0.65, 0.74, 0.93
"""Shares of what links carry beside their headers: of NVLink by either kind, and of an adapter, 45 of the 48.5 GB/s
of 400 Gb/s, from latencies at 16 to 64 ranks; by normal kernels 43 to 58 with rows that stay (the same page)."""

NORMAL_RATE = 250e9
"""B/s that the 20 multiprocessors of normal kernels write: 220 to 280 on H100 and B200, whose links differ by two."""

SCALE_BYTES = 4 / 128
"""Of scales beside each byte of a row in fp8: one in fp32 for 128."""


class Lanes(NamedTuple):
    """How many of `ranks` stand in the node of one (`here`, itself among them), and rates to those and others, B/s."""

    ranks: int
    here: int
    local: float
    remote: float


def low_latency_time(lanes: Lanes, sent: float) -> float:
    """Seconds of a transfer of `sent` bytes of a rank, evenly to all ranks, itself among them.

    >>> round(1e6 * low_latency_time(Lanes(16, 8, 165e9, 48.5e9), 128 * 8 * 7168 * 2.0))
    193
    """
    fixed = BETWEEN_S if lanes.ranks > lanes.here else INSIDE_S
    return fixed + _moved(lanes, sent * lanes.here / lanes.ranks, sent, LOCAL * lanes.local)


def normal_time(lanes: Lanes, to_gpus: float, to_nodes: float) -> float:
    """Seconds of a transfer of rows that go once to each GPU with one of their experts, `to_gpus` bytes of a rank.

    They go once to each such node, `to_nodes` bytes, and are passed on inside.
    """
    return NORMAL_S + _moved(lanes, to_gpus, to_nodes, min(NORMAL_LOCAL * lanes.local, NORMAL_RATE))


def _moved(lanes: Lanes, inside: float, outside: float, rate: float) -> float:
    """Seconds of bytes to all GPUs of a node, and of those to all nodes, of which its own take no link."""
    within = inside * (lanes.here - 1) / lanes.here / rate if lanes.here > 1 else 0.0
    away = 1 - lanes.here / lanes.ranks
    return max(within, outside * away / (REMOTE * lanes.remote) if away else 0.0)
