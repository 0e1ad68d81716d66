"""How long prompts and outputs are: drawn from distributions, or taken from a file.

Prompts and outputs come from streams of their own, so that a change of one leaves the other as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, exp, floor, inf, log, sqrt
from random import Random

from simgpu.errors import InputError
from simgpu.workload.server.data_sets import SHAREGPT
from simgpu.workload.server.jobs import Ends, Traffic
from simgpu.workload.server.requests import Path
from simgpu.workload.server.trace import read_rows

Lengths = tuple[int, int, Path]
"""Tokens of a prompt and an output, and prefixes that the prompt shares with others of its file."""

MOST_ROWS = 5_000_000
"""Rows of a file of lengths that are held for drawing them by chance."""

Draw = Callable[[], int]


def lengths_of(job: Traffic) -> Iterator[Lengths]:
    """Lengths of one request after the other, without end."""
    if job.lengths_file is not None:
        return _resampled(job) if job.resample else _in_turn(job)
    return _drawn(job)


def _drawn(job: Traffic) -> Iterator[Lengths]:
    assert job.prompt is not None and job.output is not None
    if job.lengths == "sharegpt":
        yield from _first_turns(job, job.prompt, job.output)
    wide = job.spread if job.output_spread is None else job.output_spread
    prompt = _draw(job.lengths, job.prompt, job.spread, job.prompt_range, Random(f"prompts {job.seed}"))
    output = _draw(job.lengths, job.output, wide, job.output_range, Random(f"outputs {job.seed}"))
    while True:
        yield prompt(), output(), ()


def _first_turns(job: Traffic, prompt: int, output: int) -> Iterator[Lengths]:
    """Lengths of ShareGPT, scaled to the means of a job: a long prompt tends to have a short answer."""
    prompts, outputs = Random(f"prompts {job.seed}"), Random(f"outputs {job.seed}")
    own = sqrt(1 - SHAREGPT.together**2)
    of_prompt, of_output = prompt / SHAREGPT.prompt.mean, output / SHAREGPT.output.mean
    (low, high), (least, most) = job.prompt_range or (1, inf), job.output_range or (1, inf)
    while True:
        first = prompts.gauss(0.0, 1.0)
        other = SHAREGPT.together * first + own * outputs.gauss(0.0, 1.0)
        tokens, answer = of_prompt * SHAREGPT.prompt.at(first), of_output * SHAREGPT.output.at(other)
        yield int(max(low, min(high, round(tokens)))), int(max(least, min(most, round(answer)))), ()


def _draw(kind: str, mean: int, spread: float, ends: Ends | None, random: Random) -> Draw:
    """What draws lengths of a kind, in tokens."""
    least, most = ends or (1, inf)
    if kind == "uniform" and (spread or ends):
        low = ends[0] if ends else max(floor(mean * (1 - spread)), 1)
        high = ends[1] if ends else max(ceil(mean * (1 + spread)), 1)
        return lambda: low + int(random.random() * (high - low + 1))
    if kind == "fixed" or not spread:
        return lambda: mean
    if kind == "normal":
        return lambda: int(max(least, min(most, round(random.gauss(mean, spread * mean)))))
    variance = log(1 + spread**2)
    wide, shift = sqrt(variance), variance / 2
    return lambda: int(max(least, min(most, round(mean * exp(random.gauss(0.0, 1.0) * wide - shift)))))


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
