"""Logs of nccl-tests: rows of sizes and times, and facts about the run from the comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from simgpu.errors import InputError, nearest, shown
from simgpu.lab.launchers import bare
from simgpu.reading import read_bytes
from simgpu.timing.collectives.traffic import KINDS, REDUCING, ROOTED, bus_factor, kind_of

DTYPES = {
    "float": "fp32",
    "half": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
    "double": "fp64",
    "fp8_e4m3": "fp8",
    "f8e4m3": "fp8",
    "f8e5m2": "fp8",
    "fp8_e5m2": "fp8",
    "int32": "fp32",
    "uint32": "fp32",
    "int64": "fp64",
    "uint64": "fp64",
}
"""simgpu's dtype (of the same width, integers of 4 and 8 bytes included) by the name that nccl-tests prints."""

MAX_BYTES = 20_000_000
MAX_DIGITS = 18
"""The most digits of a size: an exabyte."""
MAX_ROWS = 10_000
"""The most rows of a log; nccl-tests print some 30 rows for each call."""

SUMS = ("sum", "prod", "max", "min", "avg", "mulsum")
"""Values of redop that nccl-tests print for collectives that reduce."""


@dataclass(frozen=True)
class Measured:
    """A row of a log: out-of-place, and in-place where the log has it. Times in s.

    `bus` is busbw over algbw as printed, None where rounding leaves too little of either; `root` None where the
    version of nccl-tests does not print one.
    """

    line: int
    size: int
    dtype: str
    redop: str
    out_of_place: float
    in_place: float | None
    bus: float | None = None
    root: int | None = None


@dataclass(frozen=True)
class Log:
    """A log of nccl-tests; `ranks` and `collective` where its comments say them.

    `places` are host and device of each rank that is listed, `threads` how many GPUs each process drives.
    """

    file: str
    rows: Sequence[Measured]
    ranks: int | None
    collective: str | None
    places: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    threads: int = 1  # GPUs that one process drives


def read_log(file: str | Path) -> Log:
    """Read a log of nccl-tests, all of its tables as one. Raises `InputError` with file and line for what is wrong."""
    logs = list(read_logs(file))
    ranks = next((one.ranks for one in logs if one.ranks), None)
    named = [one.collective for one in logs if one.collective]
    return Log(
        str(file), [row for one in logs for row in one.rows], ranks, named[-1] if named else None, logs[0].places
    )


def read_logs(file: str | Path) -> list[Log]:
    """The tests of a log, one after another: each begins with its own comments. Raises `InputError`.

    Prefixes of launchers (`[1,0]<stdout>:`, `0: `, `pod/name: `) are taken off first.
    """
    path = Path(file)
    text = read_bytes(path, MAX_BYTES, "a log of nccl-tests").decode("utf-8-sig", errors="replace")
    tests = [_Test()]
    rows = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = bare(raw)
        words = line.split()
        if _BEGINS.search(line) and tests[-1].rows:
            tests.append(_Test())
        if not words or not re.fullmatch(r"-?[0-9]\S*", words[0]):
            tests[-1].comment(line, path, number)
        elif re.fullmatch(r"[0-9]+", words[0]) and len(words) >= 7:
            if rows == MAX_ROWS:
                raise InputError(f"holds more than {MAX_ROWS:,} rows", file=path, line=number)
            rows += 1
            tests[-1].rows.append(_row(words, path, number))
        elif words[0].lstrip("-").isdigit():
            raise InputError(f"{shown(line.strip())} is not a row of nccl-tests", file=path, line=number)
    if not rows:
        raise InputError("holds no rows of nccl-tests (size, count, type, redop, root, time ...)", file=path)
    return [one.log(file) for one in tests if one.rows]


_BEGINS = re.compile(r"^\s*#\s*(Collective test starting|nThread \d|nccl-tests version|size\s+count\s+type)")
"""Comments before the table of a test."""
_RANK = re.compile(r"\s*#\s+Rank\s+(\d+)\b(?:.*? on\s+(\S+) device\s+(\d+))?")


@dataclass
class _Test:
    """What was read of a test so far."""

    rows: list[Measured] = field(default_factory=list)
    ranks: int = 0
    collective: str | None = None
    places: dict[int, tuple[str, int]] = field(default_factory=dict)
    threads: int = 1

    def comment(self, line: str, path: Path, number: int) -> None:
        """Take what a line that is no row says: logs often leave some ranks out, so that the last one counts."""
        commented = line.lstrip().startswith("#")
        rank = _RANK.match(line)
        if rank and len(rank[1]) < 8:
            self.ranks = max(self.ranks, int(rank[1]) + 1)
            if rank[2]:
                self.places[int(rank[1])] = (rank[2], int(rank[3]))
        driven = re.search(r"#\s*nThread (\d{1,6}) nGpus (\d{1,6})\b", line)
        self.threads = int(driven[1]) * int(driven[2]) if driven else self.threads
        started = re.search(r"(\w+)_perf\b", line)
        self.collective = (kind_of(started[1]) if started else None) or self.collective
        if commented:
            _check_units(line, path, number)

    def log(self, file: str | Path) -> Log:
        """The test as a log of its own."""
        return Log(str(file), self.rows, self.ranks or None, self.collective, self.places, self.threads)


def misfit(row: Measured, kind: str, n: int) -> str | None:
    """The sign that a row is not of `kind` over `n` GPUs: its redop, its root or its busbw; None where it may be."""
    adds = True if row.redop in SUMS else False if row.redop == "none" else None
    if adds is not None and adds != (kind in REDUCING) and kind != "send_recv":  # whose program prints either
        return f"redop '{row.redop}' does not go with {kind}"
    if row.root is not None and (row.root >= 0) != (kind in ROOTED):
        return f"root {row.root} does not go with {kind}"
    factor = bus_factor(kind, n)
    if row.bus is not None and abs(row.bus / factor - 1) > 0.04:
        return f"busbw is {row.bus:.3g} times algbw, but {factor:.3g} times in {kind} over {n} GPUs"
    return None


def check_kind(log: Log, kind: str, n: int) -> None:
    """Refuse a log whose comments or rows are of another collective, or of another number of GPUs."""
    if log.collective not in (None, kind):
        raise InputError(f"is of {log.collective}, not of {kind}", file=log.file, key="collective")
    if log.ranks not in (None, n):
        raise InputError(f"is of {log.ranks} ranks, not of {n}", file=log.file, key="gpus")
    for row in log.rows:
        wrong = misfit(row, kind, n)
        if wrong:
            like = [one for one in KINDS if misfit(row, one, n) is None and (one != "send_recv" or row.redop == "none")]
            hint = f"this looks like {' or '.join(like)}" if like else "check the collective and the number of GPUs"
            raise InputError(f"{wrong}; {hint}", file=log.file, line=row.line)


def _check_units(line: str, path: Path, number: int) -> None:
    """Refuse a header with other units than us and GB/s: nothing below could be trusted."""
    units = re.findall(r"\(([A-Za-z/]+)\)", line)
    if "B" in units or "elements" in units:
        wrong = [unit for unit in units if unit not in ("B", "elements", "us", "GB/s")]
        if wrong:
            raise InputError(f"unit ({wrong[0]}) where nccl-tests has (us) and (GB/s)", file=path, line=number)


def _row(words: Sequence[str], path: Path, number: int) -> Measured:
    """A row: size, count, type, redop, root, then time, algbw, busbw, #wrong twice. Old versions have no root."""

    def refuse(problem: str) -> InputError:
        return InputError(problem, file=path, line=number)

    if re.fullmatch(r"[0-9.]+", words[3]):  # of collectives that add nothing, old versions have no redop
        words = [*words[:3], "none", *words[3:]]
    dtype, redop = words[2], words[3]
    if dtype not in DTYPES:
        raise refuse(f"unknown type '{dtype}'{nearest(dtype, DTYPES)}")
    rest, root = list(words[4:]), None
    if len(rest) in (5, 9) and re.fullmatch(r"-?[0-9]{1,9}", rest[0]):
        root, rest = int(rest[0]), rest[1:]
    if len(words[0]) > MAX_DIGITS:
        raise refuse(f"size {shown(words[0])} is out of range")
    blocks = [rest[i : i + 4] for i in range(0, len(rest), 4)]
    if len(rest) not in (4, 8):
        raise refuse(f"{len(words)} columns; expected 9 or 13 (12 in old versions)")
    times = [_time(block, int(words[0]), refuse) for block in blocks]
    in_place = times[1] if len(times) > 1 else None
    return Measured(number, int(words[0]), dtype, redop, times[0], in_place, _bus(blocks[0]), root)


def _bus(block: Sequence[str]) -> float | None:
    """The ratio of busbw over algbw, where two decimals determine it to 1 %."""
    algbw, busbw = float(block[1]), float(block[2])
    return busbw / algbw if min(algbw, busbw) >= 1 else None


def _time(block: Sequence[str], size: int, refuse: Callable[[str], InputError]) -> float:
    """Seconds of one block (time in us, algbw in GB/s, busbw, errors), checked against its own bandwidth."""
    try:
        time, algbw, busbw = (float(word) for word in block[:3])
    except ValueError:
        raise refuse(f"'{' '.join(block)}' is not time, algbw and busbw") from None
    if not 0 < time < 1e12:
        raise refuse(f"time {time:g} us is out of range; expected more than zero")
    for name, value in (("algbw", algbw), ("busbw", busbw)):
        if not 0 <= value < inf:
            raise refuse(f"{name} {value:g} is out of range; expected a number from zero on, in GB/s")
    if abs(algbw - size / time / 1e3) > 0.03 * algbw + 0.02:
        expected = f"{size / time / 1e3:.2f} GB/s, with the time in us"
        raise refuse(f"algbw {algbw:g} does not go with {size} B in {time:g}; expected {expected}")
    return time * 1e-6
