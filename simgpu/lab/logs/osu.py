"""Logs of the OSU micro-benchmarks: bandwidth or latency of a pair, and collectives of MPI.

Format: OSU Micro-Benchmarks 2.0 to 7.5, c/util/osu_util_mpi.c (`print_preamble`, `print_data`): a comment that names
the test, one that names the columns, and rows of a size in bytes and a value in MB/s (millions) or us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from simgpu.errors import InputError
from simgpu.lab.launchers import bare
from simgpu.lab.logs.observed import LINK, Measurement, Observed
from simgpu.lab.logs.text import lines_of

_TEST = re.compile(r"^#\s*OSU MPI(-\w+)?\s+(.+?)\s+(?:Test|v[\d.]+)")
_HEAD = re.compile(r"^#\s*Size\s+.*?(Bandwidth \(MB/s\)|(?:Avg )?Latency ?\(us\))|^#\s*Size\s+\[# Comm\]")
_ROW = re.compile(r"^\s*(\d{1,15})\s+(\d{1,15}(?:\.\d+)?)(?:\s|$)")
MEGA, MICRO = 1e6, 1e-6


def read(file: Path) -> list[Observed]:
    """The tests of a log, each by its largest message; nothing where it is of another tool. Raises `InputError`."""
    found: list[Observed] = []
    test, device, rate = "", "", False
    sizes: dict[int, float] = {}
    for number, raw in lines_of(file):
        text = bare(raw)
        if named := _TEST.match(text):
            found += _made(file, test, device, rate, sizes)
            test, device, sizes = named[2], named[1] or "", {}
        elif test and (head := _HEAD.match(text)):
            rate = "Bandwidth" in (head[1] or "")
        elif test and (row := _ROW.match(text)):
            sizes[int(row[1])] = float(row[2])
            if len(sizes) > 10_000:
                raise InputError("holds more than 10,000 sizes of a message", file=file, line=number)
    found += _made(file, test, device, rate, sizes)
    if test and not found:
        raise InputError(f"is of the OSU test '{test}', and holds no row of a size and a value", file=file)
    return found


def _made(file: Path, test: str, device: str, rate: bool, sizes: dict[int, float]) -> Iterator[Observed]:
    """A test: the largest message that took any time, and the smallest in a note."""
    values = {size: value for size, value in sizes.items() if value > 0}
    if not values:
        return
    size, least = max(values), min(values)
    one = Measurement("algbw", values[size] * MEGA) if rate else Measurement("time_s", values[size] * MICRO)
    unit = "MB/s" if rate else "us"
    notes = [f"sizes from {least:,} B ({values[least]:g} {unit}) are in the log; the largest counts"]
    if not device:
        notes.append("between memories of hosts: the test was not built for a GPU, or not asked for one")
    if ("Latency" not in test and not rate) or "reduce" in test.lower() or "all" in test.lower():
        notes.append("a collective of MPI is not one of NCCL: links are not fitted to it")
    yield Observed(file, LINK, f"OSU {test}", (one,), {"bytes": size}, tuple(notes))
