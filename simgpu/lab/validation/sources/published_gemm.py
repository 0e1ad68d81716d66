"""Matrix multiplications from papers and vendors' pages. The table comes with simgpu; each row names its page."""

from __future__ import annotations

from simgpu.lab.validation.adapters.gemm import products
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Columns

COLUMNS = Columns(
    positive=("m", "n", "k", "latency_s"),
    words=("gpu", "dtype"),
    optional=("suspicious", "kernel_source", "citation"),
)

SOURCE = Source("the column `citation` of each row", [Adapter("kernels", COLUMNS, products)])
