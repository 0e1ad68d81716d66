"""Training throughput of NVIDIA's Megatron-Bridge recipes: H100, B200, B300, GB200 and GB300, dense and experts.

How it was measured: tokens per second and GPU of pre-training, fine-tuning and LoRA, NeMo containers 25.09 to 26.08,
from two pages of the repository. The same configuration moves by 5.6 % at the median from release to release.

Traps: what recomputes is not in the table; none is taken. MXFP8 is taken as tensor-wise FP8. Recipes overlap
tensor-parallel communication with compute. Nodes of GB200 and GB300 are racks.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.reports import DISTRIBUTED_OPTIMIZER, TRAINING_COLUMNS, degrees, named, step
from simgpu.lab.validation.adapters.training_steps import MeasuredStep
from simgpu.lab.validation.source import Source

MODELS = {
    "LLAMA3_8B": "llama-3-8b",
    "LLAMA3_70B": "llama-3-70b",
    "LLAMA3.1_405B": "llama-3.1-405b",
    "GPT OSS 120B": "gpt-oss-120b",
    "DeepSeekV3": "deepseek-v3",
    "DeepSeekV3 (w/o MTP)": "deepseek-v3",
    "Qwen3_30B_a3B": "qwen3-30b-a3b",
    "Qwen3_235B_a22B": "qwen3-235b-a22b",
    "LLAMA3-8B": "llama-3-8b",
    "LLAMA3-70B": "llama-3-70b",
    "LLAMA3-405B": "llama-3.1-405b",
    "GPT3-175B": "gpt3-175b",
    "Mixtral-8x7B": "mixtral-8x7b",
    "Mixtral-8x22B": "mixtral-8x22b",
    "LLAMA4-Scout-LLM": "llama-4-scout",
}
"""Models as the pages spell them."""

PRECISIONS = {"BF16": "bf16", "FP8-CS": "fp8", "FP8-MX": "fp8", "FP8 current scaling": "fp8"}
NETWORK = "InfiniBand NDR 50 GB/s per GPU"


def recipe(row: Reader) -> Iterable[MeasuredStep | str]:
    """A recipe of Megatron-Core with the distributed optimizer."""
    model = named(row, MODELS)
    if model is None:
        return [f"no model '{row.word('model')}' in the catalogue"]
    dtype = PRECISIONS.get(row.word("precision"))
    if dtype is None:
        return [f"training in {row.word('precision')} is not simulated"]
    kind = row.word("row").lower()
    numerics = DISTRIBUTED_OPTIMIZER
    if dtype == "fp8":
        numerics = (*numerics, ("fp8_scaling", "tensorwise"))
    if "lora" in kind:
        numerics = (*numerics, ("finetune", "lora"))
    plan = degrees(row, zero=1, async_tp=row.count("tp") > 1)
    return [step(row, model, plan, dtype, "megatron", numerics, NETWORK, row.word("note"))]


SOURCE = Source(
    "https://github.com/NVIDIA-NeMo/Megatron-Bridge at 067f987: docs/performance-summary.md and its archive",
    [training.adapter(TRAINING_COLUMNS, recipe)],
    seen=False,
)
