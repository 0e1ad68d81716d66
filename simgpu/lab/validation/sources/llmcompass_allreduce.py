"""All-reduce over four A100 with NVLink, by LLMCompass: 8 B to 16 GiB.

Traps: that nccl-tests measured the sizes is assumed, the list does not say so.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters.collectives import columns, nccl_tests
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Source

SOURCE = Source(
    "https://github.com/PrincetonUniversity/LLMCompass at 2e015fd2e, BSD-3: ae/figure5/h/test_allreduce.py",
    [Adapter("collectives", columns("interconnect"), nccl_tests)],
)
