"""Prefill attention of one layer by AIConfigurator: causal, no cached prefix, on A100, H100 and L40S.

How it was measured: SGLang's collector, random data, a CUDA graph, mean of 20 replays. Writing K and V to the cache is
part of it; RoPE and projections are not. `kernel_source` is the backend.

Traps: heads of 192 have values of 128, which the original does not say. Heads of 64 have attention sinks where the
backend knows them. On L40S and A100, heads of 64, 192 and 512 run on slow Triton kernels. Heads are those of one GPU.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters import attention
from simgpu.lab.validation.batches import Adapter
from simgpu.lab.validation.source import Reason, Source

SOURCE = Source(
    "https://github.com/ai-dynamo/aiconfigurator at 095f58a51c4c, Apache-2.0: "
    "systems/data/<system>/attention/sglang/{0.5.10,0.5.14}/context_attention_perf.parquet",
    [Adapter("kernels", attention.COLUMNS, attention.prefill)],
    reasons=(
        Reason(
            "Triton's prefill spills registers at head dimensions of 256 and 512: 3 to 5 times slower than its tiles"
            " allow",
            library="triton",
            where=lambda n: n["head_dim"] >= 256 and not n["window_size"],
        ),
        Reason(
            "this Triton kernel computes the scores of all keys and masks those outside the window",
            library="triton",
            where=lambda n: n["window_size"] > 0,
        ),
        Reason(
            "one to sixteen new tokens for each of many sequences: Triton runs a block for each sequence and head, most"
            " of which is padding",
            library="triton",
            where=lambda n: n["q_len"] <= 32,
        ),
        Reason(
            "a single row, several times slower than its neighbours in the table with as much work or more",
            where=lambda n: n["q_len"] in (256, 512),
        ),
    ),
)
