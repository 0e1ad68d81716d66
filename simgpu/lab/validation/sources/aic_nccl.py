"""NCCL within a node by AIConfigurator: A100 and H100 behind NVSwitch, L40S over PCIe.

How it was measured: nccl-tests, one process, a thread for each GPU, out of place, 40 warm-ups, 100 iterations, without
CUDA graphs.

Traps: the L40S with 4 and 8 GPUs is a node with slow peer-to-peer transfers; its rows are flagged. On H100 an
all-reduce over 8 GPUs uses NVLS. The same bytes as float16 and as int8 show the noise of the data.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters.collectives import columns, nccl_tests
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Source

SOURCE = Source(
    "https://github.com/ai-dynamo/aiconfigurator at 095f58a51c4c, Apache-2.0: "
    "systems/data/<system>/comm/nccl/{2.27.3,2.29.2}/nccl_perf.parquet",
    [Adapter("collectives", columns("interconnect"), nccl_tests)],
)
