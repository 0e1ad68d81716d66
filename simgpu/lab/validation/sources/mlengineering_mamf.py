"""Maximum achievable matmul FLOP/s of accelerators, from the book Machine Learning Engineering.

How it was measured: mamf-finder, mean of 100 iterations of the best shape of a search.

Traps: the best shape, not a typical one; versions of torch differ.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters.gemm import products
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns

COLUMNS = Columns(positive=("m", "n", "k", "latency_s"), words=("gpu", "dtype"), optional=("suspicious",))

SOURCE = Source(
    "https://github.com/stas00/ml-engineering at 744d01e18, CC-BY-SA-4.0: compute/accelerator/README.md",
    [Adapter("kernels", COLUMNS, products)],
    reasons=(
        Reason(
            "not a GPU of many SMs: a few large matrix engines, which tiles over SMs do not describe",
            where=lambda n: n["slow"] > 1,
        ),
    ),
)
