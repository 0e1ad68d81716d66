"""nccl-tests and rccl-tests from vendors' pages and issue trackers.

The table comes with simgpu; each row names its page.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters.collectives import columns, nccl_tests
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Source

SOURCE = Source(
    "the column `citation` of each row",
    [Adapter("collectives", columns("interconnect", optional=("tool", "citation")), nccl_tests)],
)
