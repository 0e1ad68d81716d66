"""Prefill attention from papers and issue trackers. The table comes with simgpu; each row names its page.

Rows whose column `causal` is False attend to every key.
"""

from __future__ import annotations

from dataclasses import replace

from simgpu.lab.validation.adapters import attention
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Source

COLUMNS = replace(attention.COLUMNS, optional=(*attention.COLUMNS.optional, "causal", "citation"))

SOURCE = Source("the column `citation` of each row", [Adapter("kernels", COLUMNS, attention.prefill)])
