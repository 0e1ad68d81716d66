"""Prefill attention of AIConfigurator by engine and version: causal, no cached prefix, the cache written.

How it was measured: as `aic_context_attention`, by the collectors of SGLang, TensorRT-LLM and vLLM, which share their
shapes. `kernel` is the backend that the engine takes.

Traps: vLLM with a cache in fp8 quantises Q too, outside the timing, and computes in fp8 whatever `attn_dtype` says.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters import attention
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Source

SOURCE = Source(
    "https://pypi.org/project/aiconfigurator-core 0.12.0, Apache-2.0: "
    "systems/data/<gpu>/attention/{sglang,trtllm,vllm}/<version>/context_attention_perf.parquet",
    [Adapter("kernels", attention.BY_ENGINE, attention.prefill)],
)
