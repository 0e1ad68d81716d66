"""Decode attention of AIConfigurator by engine and version: one new token a sequence against its cache.

How it was measured: as `aic_generation_attention`, by the collectors of SGLang, TensorRT-LLM and vLLM, which share
their shapes. `kernel` is the backend that the engine takes.

Traps: TensorRT-LLM 1.0.0 on A100 keeps a cache of keys alone, which is flagged. The cache is read again in each replay.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters import attention
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Source

SOURCE = Source(
    "https://pypi.org/project/aiconfigurator-core 0.12.0, Apache-2.0: "
    "systems/data/<gpu>/attention/{sglang,trtllm,vllm}/<version>/generation_attention_perf.parquet",
    [Adapter("kernels", attention.BY_ENGINE, attention.decode)],
)
