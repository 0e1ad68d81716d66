"""What links carry, by the tools that people run: nccl-tests, nvbandwidth, p2pBandwidthLatencyTest, perftest.

Formats: https://github.com/NVIDIA/nvbandwidth (README, "Example output"), NVIDIA/cuda-samples
(p2pBandwidthLatencyTest.cu, outputBandwidthMatrix), linux-rdma/perftest (perftest_parameters.h, RESULT_FMT); nccl-tests
as `simgpu.lab.nccl_logs` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from simgpu.errors import InputError, shown
from simgpu.lab.launchers import bare
from simgpu.lab.logs.observed import LINK, Measurement, Observed, spread_of
from simgpu.lab.logs.text import lines_of
from simgpu.lab.nccl_logs import Log, Measured, read_log
from simgpu.timing.collectives.traffic import bus_factor

GIGA = 1e9
UNITS = {"ns": 1e-9, "us": 1e-6, "GB/s": GIGA}
"""Of cells of matrices: nvbandwidth prints latencies in ns, p2pBandwidthLatencyTest in us."""
LOOKED_AT = 400
"""Lines at the start of a log in which the tool has to show itself."""
SHOWS_NCCL = re.compile(r"#\s+size\s+count\s+type|\b\w+_perf\b.*|# nThread \d+ nGpus")

_ROW = re.compile(r"^\s*(\d+)((?:\s+(?:\d+\.\d+|N/A))+)\s*$")
_COLUMNS = re.compile(r"^\s*(?:D\\D|GPU|CPU)?\s+(\d+(?:\s+\d+)*)\s*$")
_NVBANDWIDTH = re.compile(r"^Running (\w+)\.")
_P2P = re.compile(r"^(Unidirectional|Bidirectional) P2P=(Enabled|Disabled) Bandwidth|^P2P=(Enabled|Disabled) Latency")
_PERFTEST = re.compile(r"^\s*#bytes\s+#iterations\s+BW peak\[(Gb|MB|MiB)/sec\]\s+BW average")
_PERFTEST_ROW = re.compile(r"^\s*(\d+)\s+(\d+)\s+([\d.]+)\s+([\d.]+)")
_PERFTEST_UNITS = {"Gb": GIGA / 8, "MB": 1e6, "MiB": 2.0**20}
_DEVICE = re.compile(r"\bDevice\s+:\s*(\S+)")
_CUDA = re.compile(r"\[pid = \d+, dev = (\d{1,3})\] device name")
_TEST = re.compile(r"RDMA_(Write|Read) BW Test|(Send) BW Test")


def read(file: Path) -> list[Observed]:
    """What a log says of links; nothing where it is of none of these tools."""
    tool = tool_of(file)
    if tool == "nccl-tests":
        return [_nccl(read_log(file), file)]
    if tool == "perftest":
        return list(_perftest(file))
    return list(_matrices(file)) if tool else []


def tool_of(file: Path) -> str:
    """The tool that wrote a log, by its own lines; '' for another."""
    for number, raw in lines_of(file):
        if number > LOOKED_AT:
            break
        text = bare(raw)
        for tool, shows in (("nvbandwidth", _NVBANDWIDTH), ("p2pBandwidthLatencyTest", _P2P),
                            ("perftest", _PERFTEST)):  # fmt: skip
            if shows.search(text):
                return tool
        if text.lstrip().startswith("#") and SHOWS_NCCL.search(text):
            return "nccl-tests"
    return ""


# ---- collectives -----------------------------------------------------------------------------------------


def _nccl(log: Log, file: Path) -> Observed:
    """The largest size, as bandwidth; the smallest, as latency in the notes."""
    row = max(log.rows, key=lambda one: one.size)
    facts: dict[str, object] = {"bytes": row.size, "dtype": row.dtype}
    facts |= {"collective": log.collective} if log.collective else {}
    facts |= {"gpus": log.ranks} if log.ranks else {}
    found = [Measurement("time_s", row.out_of_place)]
    if row.size:
        found.append(Measurement("algbw", row.size / row.out_of_place))
        if log.collective and log.ranks:
            found.append(Measurement("busbw", row.size / row.out_of_place * bus_factor(log.collective, log.ranks)))
    notes = [] if log.collective and log.ranks else ["the collective or the ranks: the log does not say them"]
    return Observed(file, LINK, "nccl-tests", tuple(found), facts, (*_least(log.rows, row), *notes))


def _least(rows: object, largest: Measured) -> Iterator[str]:
    assert isinstance(rows, (list, tuple))
    least = min(rows, key=lambda one: one.size)
    if least.size < largest.size:
        yield f"sizes from {least.size:,} B ({1e6 * least.out_of_place:.4g} us) are in the log; the largest counts"


# ---- copies between pairs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matrix:
    """A matrix as its tool prints it, GB/s, us or ns by sender (or host) and receiver; `line` is its heading's."""

    name: str
    line: int
    cells: Mapping[tuple[int, int], float]

    @property
    def pair(self) -> bool:
        """True for a matrix between GPUs, whose diagonal is no link."""
        return "device_to_device" in self.name or "P2P" in self.name

    @property
    def late(self) -> bool:
        """True for a matrix of times."""
        return "atency" in self.name


def matrices(file: Path) -> Iterator[Matrix]:
    """Matrices of nvbandwidth or of p2pBandwidthLatencyTest. Raises `InputError` for one that is too large."""
    name, at = "", 0
    columns: list[int] = []
    cells: dict[tuple[int, int], float] = {}
    for number, raw in lines_of(file):
        text = bare(raw)
        head = _NVBANDWIDTH.search(text) or _P2P.search(text)
        if head:
            yield from _made(name, at, cells)
            name, at, cells, columns = head[0].rstrip("."), number, {}, []
        elif name and (row := _ROW.match(text)):
            texts = row[2].split()
            names = columns if len(columns) == len(texts) else range(len(texts))
            cells |= {(int(row[1]), j): float(one) for j, one in zip(names, texts, strict=True) if one != "N/A"}
            if len(cells) > 1_000_000:
                raise InputError("holds a matrix of more than a million pairs", file=file, line=number)
        elif name and not cells and (listed := _COLUMNS.match(text)):
            columns = [int(one) for one in listed[1].split()]
        elif cells and (not text.strip() or text.startswith(("SUM", "CPU", "   CPU"))):
            yield from _made(name, at, cells)
            name, cells = "", {}
    yield from _made(name, at, cells)


def read_document(file: Path, data: Any) -> list[Observed]:
    """The tests of `nvbandwidth -j` (its json_output.cpp: cells are texts, 'N/A' where there is no pair).

    Raises `InputError` where it is of nvbandwidth, and no test passed.
    """
    root = data.get("nvbandwidth") if isinstance(data, Mapping) else None
    if not isinstance(root, Mapping):
        return []
    tests = [one for one in root.get("testcases") or () if isinstance(one, Mapping)]
    found = [run for one in tests for run in _test(file, one)]
    if not found:
        said = root.get("error") or ", ".join(f"{one.get('name')} {one.get('status')}" for one in tests)
        raise InputError(f"holds no test of nvbandwidth that passed ({shown(said or 'none ran')})", file=file)
    return found


def _test(file: Path, test: Mapping[str, Any]) -> Iterator[Observed]:
    name, rows = str(test.get("name")), test.get("bandwidth_matrix")
    pair, values = "device_to_device" in name, []
    for i, row in enumerate(rows if isinstance(rows, list) else ()):
        for j, cell in enumerate(row if isinstance(row, list) else ()):
            try:
                value = float(cell) if cell not in (None, "N/A") else 0.0
            except (TypeError, ValueError):
                raise InputError(f"{shown(cell)} of {name} is no number of GB/s", file=file) from None
            if not (pair and len(rows or ()) > 1 and i == j):
                values.append(value)
    yield from _matrix(file, f"Running {name}", values)


def _made(name: str, line: int, cells: Mapping[tuple[int, int], float]) -> Iterator[Matrix]:
    if name and cells:
        yield Matrix(name, line, cells)


def _matrices(file: Path) -> Iterator[Observed]:
    """Matrices of nvbandwidth or of p2pBandwidthLatencyTest, each by its middle value."""
    for one in matrices(file):
        yield from _matrix(file, one.name, [value for (i, j), value in one.cells.items() if not (one.pair and i == j)])


def _matrix(file: Path, name: str, values: list[float]) -> Iterator[Observed]:
    positive = [value for value in values if value > 0]
    if not positive:
        return
    tool = "nvbandwidth" if name.startswith("Running") else "p2pBandwidthLatencyTest"
    late = "atency" in name
    said = name.removeprefix("Running ")
    unit = ("ns" if tool == "nvbandwidth" else "us") if late else "GB/s"
    scale, column = UNITS[unit], "time_s" if late else "algbw"
    one = Measurement(column, scale * median(positive), len(positive), spread_of(positive))
    slow = min(positive) if not late else max(positive)
    note = f"the slowest pair has {slow:g} {unit}"
    yield Observed(file, LINK, f"{tool}, {said}", (one,), {}, (note,) if len(positive) > 1 else ())


# ---- between nodes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transfer:
    """A run of perftest: its name, the adapter, and the average rate by message size, bytes/s.

    `gpu` is that whose memory is sent (`--use_cuda`), None for the host's.
    """

    test: str
    device: str
    line: int
    rates: Mapping[int, float]
    gpu: int | None = None

    @property
    def largest(self) -> tuple[int, float]:
        """The largest message and its rate."""
        return max(self.rates.items())


def transfers(file: Path) -> Iterator[Transfer]:
    """Runs of ib_write_bw and its like, in order: a file may hold both sides of one, or several."""
    unit, test, device, at = 0.0, "", "", 0
    rates: dict[int, float] = {}
    gpu: int | None = None
    for number, raw in lines_of(file):
        text = bare(raw)
        if named := _TEST.search(text):
            if rates:
                yield Transfer(test or "perftest", device, at, rates, gpu)
                gpu = None  # told before the name of a test
            test, rates, device, at, unit = f"ib_{(named[1] or named[2]).lower()}_bw", {}, "", number, 0.0
        elif cuda := _CUDA.search(text):
            if rates:
                yield Transfer(test or "perftest", device, at, rates, gpu)
            rates, gpu = {}, int(cuda[1])
        elif found := _DEVICE.search(text):
            device = found[1]
        elif head := _PERFTEST.search(text):
            unit = _PERFTEST_UNITS[head[1]]
        elif unit and (row := _PERFTEST_ROW.match(text)) and float(row[4]) > 0:
            rates[int(row[1])] = float(row[4]) * unit
    if rates:
        yield Transfer(test or "perftest", device, at, rates, gpu)


def _perftest(file: Path) -> Iterator[Observed]:
    """The largest message of ib_write_bw and its like."""
    found = list(transfers(file))
    if not found:
        raise InputError("holds a header of perftest and no rows", file=file)
    best = max(found, key=lambda one: one.largest)
    size, rate = best.largest
    yield Observed(file, LINK, best.test, (Measurement("algbw", rate),), {"bytes": size})
