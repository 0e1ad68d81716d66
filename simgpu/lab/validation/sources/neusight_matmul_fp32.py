"""Matrix multiplications of NeuSight in fp32 without TF32: torch's linear (with bias) and bmm.

How it was measured: torch 2.1 (AMD: 2.4.1), each call launched from PyTorch and timed alone, so that the launch is part
of each time.

Traps: vector units, not matrix units (ampere_sgemm). The batch of a linear is part of its m.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.adapters.gemm import LIBRARIES, matmul
from simgpu.lab.validation.batches import Adapter, Machine, Part
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.timing.gemm import GemmWork

EAGER_OVERHEAD = 30e-6
"""What launching from PyTorch adds to a kernel that is timed alone, s: the smallest kernels of the table take 24 to
36 us on every GPU, fits of it 23 to 47 us."""

COLUMNS = Columns(
    positive=("batch", "m", "n", "k", "latency_s"), words=("gpu", "op", "dtype"), optional=("suspicious",)
)


def products(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Products `linear` (with bias; the batch is part of m) and `bmm` on the vector units, without TF32."""
    for (dtype, op), at in table.split(rows, "dtype", "op"):
        m, n, k, batch = (table.number(name, at) for name in ("m", "n", "k", "batch"))
        if op == "linear":
            m, batch = batch * m, np.ones_like(m)
        shape = ("op", "batch", "m", "n", "k")
        library = LIBRARIES.get(dtype, DEFAULT)
        yield matmul(machine, at, dtype, GemmWork(m, n, k, batch), library, EAGER_OVERHEAD, shape=shape, rotation=1.0)


SOURCE = Source(
    "https://github.com/sitar-lab/NeuSight at 6945927d9, MIT: "
    "scripts/asplos/data/dataset/test/{linear,bmm}.csv, dataset_amd/test/collect",
    [Adapter("kernels", COLUMNS, products)],
    reasons=(
        Reason(
            "cuBLAS 12 runs Pascal's SGEMM at a third of its rate once a side of W passes 30,000 (the same kernel by"
            " name)",
            gpu="p100-pcie-16gb",
            where=lambda n: max(n["n"], n["k"]) >= 30000,
        ),
        *(
            Reason(
                "rocBLAS has no good SGEMM for very wide outputs and many small batches: a fifth to a third of its"
                " rate",
                gpu=gpu,
                where=lambda n: n["n"] >= 30000 or n["m"] <= 256,
            )
            for gpu in ("mi100", "mi210")
        ),
    ),
)
