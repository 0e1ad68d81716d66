"""How long prompts and outputs are: drawn from distributions, or taken from a file.

Prompts and outputs come from streams of their own, so that a change of one leaves the other as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import ceil, cos, exp, floor, inf, log, pi, sin, sqrt
from random import Random

from simgpu.errors import InputError
from simgpu.workload.server.data_sets import SHAREGPT
from simgpu.workload.server.jobs import Ends, Mixed, Traffic
from simgpu.workload.server.requests import Path
from simgpu.workload.server.trace import read_rows

Lengths = tuple[int, int, Path]
"""Tokens of a prompt and an output, and prefixes that the prompt shares with others of its file."""

MOST_ROWS = 5_000_000
"""Rows of a file of lengths that are held for drawing them by chance."""

Draw = Callable[[], int]
Skip = Callable[[], object]

TWO_PI = 2.0 * pi


def lengths_of(job: Traffic) -> Iterator[Lengths]:
    """Lengths of one request after the other, without end."""
    if job.lengths_file is not None:
        return _resampled(job) if job.resample else _in_turn(job)
    if job.lengths == "sharegpt":
        return _first_turns(job)
    return _mixed(job.mix, job.seed) if job.mix else _drawn(job)


def lengths_at(job: Traffic, places: Iterator[int]) -> Iterator[tuple[int, Lengths]]:
    """A place and lengths of one request after the other; those of a negative place are passed over, and are none."""
    if job.lengths_file is not None or job.mix or job.lengths == "sharegpt":
        yield from zip(places, lengths_of(job), strict=False)
        return
    (prompt, no_prompt), (output, no_output) = _both(job)
    for place in places:
        if place < 0:
            no_prompt()
            no_output()
            yield place, (0, 0, ())
        else:
            yield place, (prompt(), output(), ())


def _drawn(job: Traffic) -> Iterator[Lengths]:
    (prompt, _), (output, _) = _both(job)
    while True:
        yield prompt(), output(), ()


def _first_turns(job: Traffic) -> Iterator[Lengths]:
    """Lengths of ShareGPT, scaled to the means of a job: a long prompt tends to have a short answer."""
    assert job.prompt is not None and job.output is not None
    prompts, outputs = Random(f"prompts {job.seed}"), Random(f"outputs {job.seed}")
    own = sqrt(1 - SHAREGPT.together**2)
    of_prompt, of_output = job.prompt / SHAREGPT.prompt.mean, job.output / SHAREGPT.output.mean
    (low, high), (least, most) = job.prompt_range or (1, inf), job.output_range or (1, inf)
    while True:
        first = prompts.gauss(0.0, 1.0)
        other = SHAREGPT.together * first + own * outputs.gauss(0.0, 1.0)
        tokens, answer = of_prompt * SHAREGPT.prompt.at(first), of_output * SHAREGPT.output.at(other)
        yield int(max(low, min(high, round(tokens)))), int(max(least, min(most, round(answer)))), ()


def _both(job: Traffic) -> tuple[tuple[Draw, Skip], tuple[Draw, Skip]]:
    """What draws prompts and outputs, and what passes one over."""
    assert job.prompt is not None and job.output is not None
    wide = job.spread if job.output_spread is None else job.output_spread
    prompt = _draw(job.lengths, job.prompt, job.spread, job.prompt_range, Random(f"prompts {job.seed}"))
    return prompt, _draw(job.lengths, job.output, wide, job.output_range, Random(f"outputs {job.seed}"))


def _draw(kind: str, mean: int, spread: float, ends: Ends | None, random: Random) -> tuple[Draw, Skip]:
    """What draws lengths of a kind, in tokens, and what passes one over."""
    least, most = ends or (1, inf)
    if kind == "uniform" and (spread or ends):
        low = ends[0] if ends else max(floor(mean * (1 - spread)), 1)
        high = ends[1] if ends else max(ceil(mean * (1 + spread)), 1)
        return lambda: low + int(random.random() * (high - low + 1)), random.random
    if kind == "fixed" or not spread:
        return lambda: mean, lambda: None
    gauss, variance = _Gauss(random), log(1 + spread**2)
    wide, shift, normal = sqrt(variance), variance / 2, kind == "normal"

    def draw() -> int:
        one = gauss.draw()
        tokens = round(mean + one * (spread * mean) if normal else mean * exp(one * wide - shift))
        return tokens if least <= tokens <= most else int(max(least, min(most, tokens)))

    return draw, gauss.skip


def _mixed(kinds: Sequence[Mixed], seed: int) -> Iterator[Lengths]:
    """Lengths of kinds, each of which is drawn by its share."""
    random = Random(f"kinds {seed}")
    ends = list(accumulate(one.share for one in kinds))
    draws = []
    for place, one in enumerate(kinds):
        pair = (("prompts", one.prompt, one.prompt_deviation), ("outputs", one.output, one.output_deviation))
        draws.append([_draw("normal", mean, wide / mean, None, Random(f"{name} {seed} {place}"))[0]
                      for name, mean, wide in pair])  # fmt: skip
    while True:
        prompt, output = draws[min(bisect_right(ends, random.random()), len(draws) - 1)]
        yield prompt(), output(), ()


class _Gauss:
    """Normal numbers in pairs, as `random.gauss` has them; one that is passed over costs no logarithm and no cosine."""

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._angle = self._level = 0.0
        self._second = False

    def skip(self) -> None:
        """Pass one over."""
        if self._second:
            self._second = False
        else:
            self._angle, self._level, self._second = self._random(), self._random(), True

    def draw(self) -> float:
        """The next one."""
        self.skip()
        wave = cos if self._second else sin
        return wave(self._angle * TWO_PI) * sqrt(-2.0 * log(1.0 - self._level))


# ---- from a file -------------------------------------------------------------------------------------


def _in_turn(job: Traffic) -> Iterator[Lengths]:
    assert job.lengths_file is not None
    while True:
        some = False
        for row in read_rows(job.lengths_file, job.trace_block, "workload.lengths_file"):
            some = True
            yield row.prompt, row.output, row.path
        if not some:
            raise InputError("has no requests", file=job.lengths_file)


def _resampled(job: Traffic) -> Iterator[Lengths]:
    assert job.lengths_file is not None
    rows: list[Lengths] = []
    for row in read_rows(job.lengths_file, job.trace_block, "workload.lengths_file"):
        rows.append((row.prompt, row.output, row.path))
        if len(rows) > MOST_ROWS:
            raise InputError(f"more than {MOST_ROWS:,} rows are too many to draw from", file=job.lengths_file)
    if not rows:
        raise InputError("has no requests", file=job.lengths_file)
    random = Random(f"resampled {job.seed}")
    while True:
        yield rows[int(random.random() * len(rows))]
