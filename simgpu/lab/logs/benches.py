"""What tools that time products of matrices say to `observe`: mamf-finder, cutlass_profiler, gpu_burn, cuBLAS' own."""

from __future__ import annotations

import math
import re
from pathlib import Path
from statistics import median

from simgpu.errors import InputError
from simgpu.lab.launchers import bare
from simgpu.lab.logs.observed import KERNELS, Measurement, Observed, spread_of
from simgpu.lab.logs.text import lines_of
from simgpu.lab.products import products, usable

FLOPS = "flop_per_s_per_gpu"
_CUBLAS = re.compile(r"^\^\^\^\^ CUDA : elapsed = [\d.eE+-]+ sec,\s+Gflops = (\d{1,15}(?:\.\d+)?)\b")


def read(file: Path) -> list[Observed]:
    """What a file of one of these tools says; nothing where it is of none of them."""
    tool, found = products(file)
    if not tool:
        return _cublas(file)
    if not found:
        raise InputError(f"is of {tool}, and holds no product that was timed", file=file)
    best = max(found, key=lambda one: one.rate)
    shape = f"{best.m} x {best.n} x {best.k}"
    if tool == "gpu_burn":
        rates = [one.rate for one in found]
        measured = Measurement(FLOPS, median(rates), len(rates), spread_of(rates))
        notes = [f"the slowest of {len(rates)} GPUs sustains {min(rates) / 1e12:.4g} TFLOP/s"] if len(rates) > 1 else []
    else:
        measured = Measurement(FLOPS, best.rate, len(found))
        notes = [f"{len(found):,} shapes; the fastest is {shape}"]
    if usable(found):
        notes.append(f"simgpu calibrate {file.name} --gpu NAME learns from them")
    facts = {"dtype": best.dtype} if best.dtype else {}
    return [Observed(file, KERNELS, tool, (measured,), facts, tuple(notes))]


def _cublas(file: Path) -> list[Observed]:
    """The fastest of cublasMatmulBench: it prints no shape."""
    rates = [1e9 * float(found[1]) for _, raw in lines_of(file) if (found := _CUBLAS.match(bare(raw)))]
    rates = [rate for rate in rates if 0 < rate < math.inf]
    if not rates:
        return []
    note = "it prints neither shape nor type: nothing can be fitted to it"
    return [Observed(file, KERNELS, "cublasMatmulBench", (Measurement(FLOPS, max(rates), len(rates)),), {}, (note,))]


__all__ = ["read"]
