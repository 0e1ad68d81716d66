"""Products of matrices in a loop: gpu_burn (github.com/wilicc/gpu-burn), and the tools of `simgpu.lab.products`.

gpu_burn multiplies 8192 x 8192 matrices for minutes, in fp32, in fp64 (`-d`) or on tensor cores (`-tc`), compares the
results, and prints a rate, errors and a temperature for each GPU over and over (gpu_burn-drv.cpp). Here its errors
count as much as its rates, so that it is read here; others are in bf16 where no dtype is told.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, shown
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.derive import base_name
from simgpu.lab import products as timed_products
from simgpu.lab.acceptance.checks import BROKEN, Check
from simgpu.lab.acceptance.kernels import whose
from simgpu.lab.importing.names import by_print
from simgpu.lab.launchers import bare
from simgpu.lab.lines import lines_of
from simgpu.lab.products import BURNED
from simgpu.lab.validation.batches import DTYPES
from simgpu.timing.timer import GPUTimer
from simgpu.timing.uncertainty import interval

LAST = 400
"""Snapshots that are kept of each GPU: the last ones, in which it is warm."""
SHAPES = 2000
"""Most shapes of a tool that become checks."""

_SNAPSHOT = re.compile(r"proc'd:\s(?P<rates>[^%]*?)\s+errors:\s(?P<errors>[^%]*?)\s+temps:")
_RATE = re.compile(r"\(\s*(-?\d{1,9}) Gflop/s\)")
_ERRORS = re.compile(r"(-?\d{1,20})(\s*\([^)]*\))?")
_NAME = re.compile(r"^GPU \d+: (.+) \(UUID: ")
_TESTED = re.compile(r"^\s*GPU (\d+): FAULTY")
_MODE = re.compile(r"using (FLOATS|DOUBLES)(, using Tensor Cores)?")


def is_burn(text: str) -> bool:
    """True for what gpu_burn prints, or a tool that times products."""
    return bool(_SNAPSHOT.search(text)) or any(timed_products.shows(bare(line)) for line in text.splitlines())


@dataclass
class Burnt:
    """What gpu_burn printed: rates of each GPU in GFLOP/s, its errors, those it calls faulty."""

    rates: list[deque[float]] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    faulty: set[int] = field(default_factory=set)
    dtype: str = "fp32"
    line: int = 0

    def snapshot(self, rates: str, errors: str, line: int) -> None:
        """Add a line of rates and errors; a GPU has no rate until its first products are done, and none when dead."""
        found = [float(rate) for rate in _RATE.findall(rates)]
        if not self.rates:
            self.rates, self.errors = [deque(maxlen=LAST) for _ in found], [0] * len(found)
        self.line = line
        for i, rate in enumerate(found[: len(self.rates)]):
            if rate > 0:
                self.rates[i].append(rate)
        for i, (count, _) in enumerate(_ERRORS.findall(errors)[: len(self.errors)]):
            self.errors[i] = max(self.errors[i], abs(int(count)))


def checks(file: Path, cluster: Cluster, catalogue: Catalogue) -> Iterator[Check]:
    """A check of each GPU that burnt, or of each product that a tool timed."""
    burnt = Burnt()
    for number, raw in lines_of(file):
        line = bare(raw)
        if name := _NAME.match(line):
            _of_this_gpu(name[1], number, file, cluster, catalogue)
        elif mode := _MODE.search(line):
            burnt.dtype = "fp64" if mode[1] == "DOUBLES" else "tf32" if mode[2] else "fp32"
        elif faulty := _TESTED.match(line):
            burnt.faulty.add(int(faulty[1]))
        for snapshot in _SNAPSHOT.finditer(line):
            burnt.snapshot(snapshot["rates"], snapshot["errors"], number)
    if burnt.rates:
        yield from _burnt(file, burnt, cluster)
        return
    found = timed_products.products(file)[1]
    if not found:
        raise InputError("holds no rate of gpu_burn or of a product", file=file)
    if len(found) > SHAPES:
        raise InputError(f"holds more than {SHAPES:,} shapes", file=file, line=found[SHAPES].line)
    for one in found:
        dtype = DTYPES.get(one.dtype, one.dtype) or "bf16"
        predicted, low, high = _product(cluster, (one.m, one.n, one.k), dtype)
        yield Check(str(file), f"product {one.m} x {one.n} x {one.k} in {dtype}", "GPU", one.rate, "FLOP/s", predicted,
                    low, high, note=f"line {one.line}")  # fmt: skip


def _burnt(file: Path, burnt: Burnt, cluster: Cluster) -> Iterator[Check]:
    """A check of each GPU: its rate once it is warm, and that it made no errors."""
    if len(burnt.rates) > cluster.gpus_per_node:
        raise InputError(f"burns {len(burnt.rates)} GPUs; a node of '{cluster.name}' has {cluster.gpus_per_node}",
                         file=file, line=burnt.line)  # fmt: skip
    test = f"gpu_burn, {burnt.dtype}"
    predicted, low, high = _product(cluster, (BURNED, BURNED, BURNED), burnt.dtype)
    for i, rates in enumerate(burnt.rates):
        wrong = burnt.errors[i] > 0 or i in burnt.faulty or not rates
        if wrong:
            why = f"{burnt.errors[i]:,} errors" if burnt.errors[i] else "FAULTY" if i in burnt.faulty else "died"
            yield Check(str(file), test, f"GPU{i}", median(rates or [0.0]) * 1e9, "FLOP/s", None, status=BROKEN,
                        devices=(f"GPU{i}",), note=f"computes wrong: {why}" if rates else "does not run")  # fmt: skip
            continue
        warm = list(rates)[len(rates) // 2 :]
        yield Check(str(file), test, f"GPU{i}", median(warm) * 1e9, "FLOP/s", predicted, low, high, test,
                    (f"GPU{i}",), note=f"line {burnt.line}")  # fmt: skip


def _product(cluster: Cluster, shape: tuple[int, int, int], dtype: str) -> tuple[float | None, float, float]:
    """FLOP/s of a product in a loop, and the interval; no prediction where the GPU has no such peak."""
    timer = GPUTimer(cluster.gpu, cluster.kernel, sustained=True)
    try:
        seconds = np.atleast_1d(np.asarray(timer.gemm(*shape, dtype=dtype).seconds, float))
    except InputError:
        return None, 0.0, 0.0
    low, high = interval("gemm", seconds, **whose(cluster, "gemm"))
    rate = 2.0 * shape[0] * shape[1] * shape[2] / float(seconds[0])
    return rate, rate / float(high[0]), rate / float(low[0])


def _of_this_gpu(told: str, line: int, file: Path, cluster: Cluster, catalogue: Catalogue) -> None:
    """Raise `InputError` for a GPU that is known and not the cluster's."""
    found = [base_name(name) for name in by_print(told, catalogue)]
    mine = base_name(cluster.gpu.name)
    if found and mine not in found:
        raise InputError(f"is of {shown(told)}; '{cluster.name}' has {mine}", file=file, line=line)
