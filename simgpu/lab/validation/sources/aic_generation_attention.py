"""Decode attention of one layer by AIConfigurator: one new token a sequence against its cache.

How it was measured: as `aic_context_attention`. The keys that are read are `past_kv_len` and the new one.

Traps: the cache is read again in each replay, so that a small one stays in L2.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters import attention
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Reason, Source

SOURCE = Source(
    "https://github.com/ai-dynamo/aiconfigurator at 095f58a51c4c, Apache-2.0: "
    "systems/data/<system>/attention/sglang/{0.5.10,0.5.14}/generation_attention_perf.parquet",
    [Adapter("kernels", attention.COLUMNS, attention.decode)],
    reasons=(
        Reason(
            "FlashInfer reads all keys of some batches, not only those inside the window: others are 14 times faster",
            library="flashinfer",
            where=lambda n: n["window_size"] > 0,
        ),
        Reason(
            "Triton splits the keys into at most 8 parts: one or two sequences of one or two KV heads keep a few SMs"
            " busy",
            library="triton",
            where=lambda n: n["past_kv_len"] >= 4096,
        ),
        Reason(
            "FlashInfer plans long contexts of one or two sequences on few blocks",
            library="flashinfer",
            where=lambda n: n["past_kv_len"] >= 4096 and n["batch_size"] <= 8,
        ),
        Reason(
            "a cache of a few tokens for a thousand sequences: all of it stays in the large L2, which the model serves"
            " at the rate of longer streams",
            where=lambda n: n["past_kv_len"] <= 64 and n["batch_size"] >= 256,
        ),
    ),
)
