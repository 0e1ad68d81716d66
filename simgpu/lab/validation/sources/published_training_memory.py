"""Memory of training from papers, as `megatron_memory`. The table comes with simgpu; each row names its page."""

from __future__ import annotations

from dataclasses import replace

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.training_steps import GRADES
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.sources import megatron_memory

COLUMNS = replace(megatron_memory.COLUMNS, optional=("suspicious", *GRADES, "citation"))

SOURCE = Source("the column `citation` of each row", [training.adapter(COLUMNS, megatron_memory.memory)])
