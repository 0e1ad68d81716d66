"""All-reduce over one and more nodes, from the book Machine Learning Engineering: B200, H200, MI300X.

Traps: four nodes over EFA run NCCL's defaults and need milliseconds before the first byte.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters.collectives import columns, nccl_tests
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Reason, Source

SOURCE = Source(
    "https://github.com/stas00/ml-engineering at 744d01e18, CC-BY-SA-4.0: "
    "network/README.md, network/benchmarks/README.md",
    [Adapter("collectives", columns("intra_node_link", optional=("tool", "nccl_algo")), nccl_tests)],
    reasons=(
        Reason(
            "four nodes over EFA with NCCL's defaults, eager: milliseconds before the first byte (0.01 GB/s at 32 KiB)",
            where=lambda n: n["num_nodes"] > 1,
        ),
    ),
)
