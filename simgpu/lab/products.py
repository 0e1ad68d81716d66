"""Tools that time products of matrices alone: mamf-finder, cutlass_profiler (with its rows of cuBLAS), gpu_burn.

Formats: stas00/ml-engineering, compute/accelerator/benchmarks/mamf-finder.py (versions 1 to 3); NVIDIA/cutlass,
tools/profiler/src/performance_report.cpp; wilicc/gpu-burn @0831a453, gpu_burn-drv.cpp (products of 8192 x 8192 x 8192,
fp32 or fp64, one sample a GPU every few seconds).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from simgpu.errors import InputError
from simgpu.lab.launchers import bare
from simgpu.lab.lines import lines_of

BURST, SUSTAINED = "burst", "sustained"
MOST = 200_000
"""Most products of a file."""
BURNED = 8192
"""Rows, columns and depth of gpu_burn's products."""


@dataclass(frozen=True)
class Product:
    """One timed product C[m, n] = A[m, k] B[k, n], s; `dtype` as tables of kernels call it, '' where nobody says it."""

    line: int
    dtype: str
    m: int
    n: int
    k: int
    seconds: float
    batch: int = 1
    regime: str = BURST

    @property
    def rate(self) -> float:
        """FLOP/s."""
        return 2.0 * self.batch * self.m * self.n * self.k / self.seconds


TABLE = ("what", "gpu", "dtype", "m", "n", "k", "batch", "latency_s", "regime")
"""Columns of the rows for `simgpu calibrate`."""


def rows(file: Path, gpu: str) -> tuple[list[int], list[list[str]]]:
    """The products of a file as rows of a table of kernels of a GPU, and the line of each; nothing for another file."""
    found = list(usable(products(file)[1]))
    cells = [
        ["gemm", gpu, p.dtype, str(p.m), str(p.n), str(p.k), str(p.batch), f"{p.seconds:.9g}", p.regime] for p in found
    ]
    return [p.line for p in found], cells


TYPES = {
    "bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "float16", "f16": "float16", "float32": "float32",
    "f32": "float32", "tf32": "tfloat32", "float8_e4m3fn": "fp8", "e4m3": "fp8", "s8": "int8", "int8": "int8",
    "float64": "float64", "f64": "float64", "e2m1": "nvfp4",
}  # fmt: skip
FITTED = ("bfloat16", "float16", "tfloat32", "float32")
"""Types whose products tables of kernels hold without quantisation on the way."""


def usable(found: Iterable[Product]) -> list[Product]:
    """Those of a type that tables of kernels hold."""
    return [one for one in found if one.dtype in FITTED]


# ---- each tool -------------------------------------------------------------------------------------------

_MAMF = (
    re.compile(r"([\d.]+)\(mean\)\s+([\d.]+)\(median\)\s+[\d.]+\(max\) @ (\d{1,9})x(\d{1,9})x(\d{1,9})"),
    re.compile(r"^\s*\d+\s+(?P<shape>\d{1,9}x\d{1,9}x\d{1,9})\s+([\d.]+)\s+([\d.]+)\s+[\d.]+\s+[\d.]+"),
)
_BEST = re.compile(r"^(median|MAMF|MSMF)\b[^:]*:\s+([\d.]+) TFLOPS @ (\d{1,9})x(\d{1,9})x(\d{1,9}) \(MxNxK\)")
_DTYPE = re.compile(r"^\*\* Dtype: torch\.(\w+)")
_CUTLASS = re.compile(r"^Problem,Provider,OperationKind,Operation,Disposition,Status,")
_BURN = re.compile(r"proc'd: (.*?)\s+errors:")
_BURN_RATE = re.compile(r"\d+ \(([\d.]+) Gflop/s\)")
_BURN_TYPE = re.compile(r"using (DOUBLES|FLOATS)(, using Tensor Cores)?")


def products(file: Path) -> tuple[str, list[Product]]:
    """The tool that wrote a file, '' for another, and the products that it timed: of one shape the fastest."""
    for number, raw in lines_of(file):
        text = bare(raw)
        if _CUTLASS.match(text):
            return "cutlass_profiler", _fastest(_profiled(file, number))
        if _BURN.search(text):
            return "gpu_burn", list(_burned(file))
        if any(shown.search(text) for shown in (*_MAMF[:1], _BEST)):
            return "mamf-finder", _fastest(_found(file))
    return "", []


def shows(text: str) -> bool:
    """Whether a line is of mamf-finder or cutlass_profiler."""
    return bool(_CUTLASS.match(text) or _BEST.match(text) or _MAMF[0].search(text))


def profiled(file: Path) -> bool:
    """Whether a file begins as a table of cutlass_profiler does."""
    return any(_CUTLASS.match(text) for _, text in islice(lines_of(file), 1))


def _fastest(found: Iterable[Product]) -> list[Product]:
    """The fastest of each shape, type and regime: a library picks it."""
    best: dict[tuple[object, ...], Product] = {}
    for one in found:
        key = one.dtype, one.m, one.n, one.k, one.batch, one.regime
        if key not in best or one.seconds < best[key].seconds:
            best[key] = one
    return list(best.values())


def _found(file: Path) -> Iterator[Product]:
    """Products of mamf-finder, by the median; a shape that was held until the clock settled is sustained."""
    dtype = ""
    for number, raw in lines_of(file):
        text = bare(raw)
        if said := _DTYPE.match(text):
            dtype = TYPES.get(said[1], said[1])
        if best := _BEST.match(text):
            regime = SUSTAINED if best[1] == "MSMF" else BURST
            yield from _product(number, dtype, best.group(3, 4, 5), best[2], regime)
        elif one := _MAMF[0].search(text):
            yield from _product(number, dtype, one.group(3, 4, 5), one[2])
        elif one := _MAMF[1].match(text):
            yield from _product(number, dtype, one["shape"].split("x"), one[3])


def _product(line: int, dtype: str, shape: Iterable[str], teraflops: str, regime: str = BURST) -> Iterator[Product]:
    """A product by its rate, none for a rate of 0 or one that is no number."""
    m, n, k = (int(one) for one in shape)
    rate = _number(teraflops)
    if rate and m * n * k:
        yield Product(line, dtype, m, n, k, 2.0 * m * n * k / (rate * 1e12), regime=regime)


def _number(text: str | None) -> float:
    """A positive number, 0 for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return 0.0
    return value if 0 < value < math.inf else 0.0


def _profiled(file: Path, header: int) -> Iterator[Product]:
    """Rows of cutlass_profiler's table from its header on that passed: of CUTLASS, cuBLAS and others."""
    names: list[str] = []
    kept = 0
    for number, raw in lines_of(file):
        if number < header:
            continue
        cells = next(csv.reader([bare(raw)]))
        if cells[:1] == ["Problem"]:
            names = cells
            continue
        if len(cells) != len(names):
            continue
        row = dict(zip(names, cells, strict=True))
        if row["Status"] == "success" and row["Disposition"] in ("passed", "not_verified", "not_run"):
            kept += 1
            if kept > MOST:
                raise InputError(f"holds more than {MOST:,} products; cut it", file=file, line=number)
            yield from _row(number, row)


def _row(line: int, row: Mapping[str, str]) -> Iterator[Product]:
    """A row of a dense product, whose runtime is in ms; none of another operation or without one."""
    sizes = [_number(row.get(name)) for name in "mnk"]
    seconds = 1e-3 * _number(row.get("Runtime"))
    if row["OperationKind"] != "gemm" or not all(sizes) or not seconds:
        return
    one, other = (row.get(name, "").partition(":")[0] for name in "AB")
    dtype = TYPES.get(one, one) if one == other else f"{one} x {other}"
    if dtype == "float32" and row.get("op_class") == "tensorop":
        dtype = "tfloat32"
    m, n, k = (int(size) for size in sizes)
    yield Product(line, dtype, m, n, k, seconds, int(_number(row.get("batch_count")) or 1))


def _burned(file: Path) -> Iterator[Product]:
    """What each GPU sustains in gpu_burn, by the later half of its samples; no type where tensor cores round inside."""
    samples: dict[int, list[float]] = {}
    dtype, last = "", 0
    for number, raw in lines_of(file):
        if said := _BURN_TYPE.search(raw):
            dtype = "" if said[2] else {"DOUBLES": "float64", "FLOATS": "float32"}[said[1]]
        if (found := _BURN.search(raw)) and "DIED" not in found[1]:
            last = number
            for gpu, rate in enumerate(_BURN_RATE.findall(found[1])):
                if value := _number(rate):
                    samples.setdefault(gpu, []).append(value)
    for rates in samples.values():
        middle = median(rates[len(rates) // 2 :]) * 1e9
        yield Product(last, dtype, BURNED, BURNED, BURNED, 2.0 * BURNED**3 / middle, regime=SUSTAINED)


__all__ = ["BURNED", "FITTED", "TABLE", "Product", "products", "profiled", "rows", "shows", "usable"]
