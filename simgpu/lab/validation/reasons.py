"""Why some rows are off by more than a factor of three: written by people, looked up by what a row is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simgpu.lab.validation.score import Row

Numbers = Mapping[str, float]


def _always(_: Numbers) -> bool:
    return True


@dataclass(frozen=True)
class Reason:
    """`text` explains rows of `source` and `op` on `gpu`, in the `library` ('' stands for any of them) whose numbers
    pass `where`."""

    text: str
    source: str
    op: str = ""
    gpu: str = ""
    library: str = ""
    where: Callable[[Numbers], bool] = _always

    def explains(self, row: Row) -> bool:
        """Whether this is why."""
        named = ((self.source, row.source), (self.op, row.op), (self.gpu, row.gpu), (self.library, row.library))
        return all(mine in ("", its) for mine, its in named) and self.where(numbers(row))


class _Known(dict[str, float]):
    """Numbers of a row. One that the row does not have is NaN, so that no comparison with it holds."""

    def __missing__(self, name: str) -> float:
        return math.nan


def numbers(row: Row) -> Numbers:
    """The numbers of a row's description, and `slow`: predicted over measured time."""
    found = _Known(slow=row.predicted_s / row.measured_s)
    for word in row.what.split():
        name, _, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found


_PREFILL, _DECODE = "aic_context_attention", "aic_generation_attention"
_FEW_BLOCKS = (
    "Triton splits the keys into at most 8 parts: one or two sequences of one or two KV heads keep a few SMs busy"
)

REASONS = (
    # ---- attention
    Reason(
        "Triton's prefill spills registers at head dimensions of 256 and 512: 3 to 5 times slower than its tiles allow",
        _PREFILL,
        library="triton",
        where=lambda n: n["head_dim"] >= 256 and not n["window_size"],
    ),
    Reason(
        "this Triton kernel computes the scores of all keys and masks those outside the window",
        _PREFILL,
        library="triton",
        where=lambda n: n["window_size"] > 0,
    ),
    Reason(
        "one to sixteen new tokens for each of many sequences: Triton runs a block for each sequence and head, most"
        " of which is padding",
        _PREFILL,
        library="triton",
        where=lambda n: n["q_len"] <= 32,
    ),
    Reason(
        "a single row, several times slower than its neighbours in the table with as much work or more",
        _PREFILL,
        where=lambda n: n["q_len"] in (256, 512),
    ),
    Reason(
        "FlashInfer reads all keys of some batches, not only those inside the window: others are 14 times faster",
        _DECODE,
        library="flashinfer",
        where=lambda n: n["window_size"] > 0,
    ),
    Reason(_FEW_BLOCKS, _DECODE, library="triton", where=lambda n: n["past_kv_len"] >= 4096),
    Reason(
        "FlashInfer plans long contexts of one or two sequences on few blocks",
        _DECODE,
        library="flashinfer",
        where=lambda n: n["past_kv_len"] >= 4096 and n["batch_size"] <= 8,
    ),
    Reason(
        "a cache of a few tokens for a thousand sequences: all of it stays in the large L2, which the model serves at"
        " the rate of longer streams",
        _DECODE,
        where=lambda n: n["past_kv_len"] <= 64 and n["batch_size"] >= 256,
    ),
    Reason(
        "a few new tokens over a long cache: this version of vLLM does not split the keys of a chunk over blocks",
        "llmservingsim_attention",
        where=lambda n: n["prefill_past_kv_len"] >= 2048 and n["slow"] < 1,
    ),
    Reason(
        "vLLM runs a small chunk and its decodes in one kernel; the prediction runs one after the other",
        "llmservingsim_attention",
        "attention_mixed",
        where=lambda n: n["slow"] > 1,
    ),
    Reason(
        "a small chunk beside decodes of long caches: one kernel for both does not split the keys of the decodes",
        "llmservingsim_attention",
        "attention_mixed",
    ),
    # ---- matrix multiplications
    Reason(
        "cuBLAS takes a kernel without split-k for a tiny output over a long k, as its neighbours in m show",
        "aic_gemm",
        "gemm",
        where=lambda n: n["n"] <= 256 and n["k"] >= 1024,
    ),
    Reason(
        "not a GPU of many SMs: a few large matrix engines, which tiles over SMs do not describe",
        "mlengineering_mamf",
        where=lambda n: n["slow"] > 1,
    ),
    Reason(
        "cuBLAS 12 runs Pascal's SGEMM at a third of its rate once a side of W passes 30,000 (the same kernel by name)",
        "neusight_matmul_fp32",
        gpu="p100-pcie-16gb",
        where=lambda n: max(n["n"], n["k"]) >= 30000,
    ),
    *(
        Reason(
            "rocBLAS has no good SGEMM for very wide outputs and many small batches: a fifth to a third of its rate",
            "neusight_matmul_fp32",
            gpu=gpu,
            where=lambda n: n["n"] >= 30000 or n["m"] <= 256,
        )
        for gpu in ("mi100", "mi210")
    ),
    # ---- experts
    Reason(
        "few tokens, and a routing drawn once: on the busiest rank it may touch every expert that they can reach",
        "aic_moe",
        where=lambda n: n["num_tokens"] <= 16 and n["moe_ep_size"] > 1,
    ),
    Reason(
        "the autotuner of TensorRT-LLM took a poor kernel: the same layer at a neighbouring number of tokens, or with"
        " half the ranks, is several times faster",
        "aic_moe",
        where=lambda n: n["slow"] < 1,
    ),
    Reason(
        "one expert a token at a time: which of them the single drawn routing takes decides the time",
        "aic_moe",
        where=lambda n: n["topk"] <= 2 or n["num_tokens"] <= 16,
    ),
    # ---- collectives
    Reason(
        "a single row; the same size in the other frameworks of the table is 4 to 12 times faster",
        "aic_custom_allreduce",
        where=lambda n: n["slow"] < 1,
    ),
    Reason(
        "four nodes over EFA with NCCL's defaults, eager: milliseconds before the first byte (0.01 GB/s at 32 KiB)",
        "mlengineering_collectives",
        where=lambda n: n["num_nodes"] > 1,
    ),
    Reason(
        "4 GB/s between two GPUs with a bridge: this pair went through the memory of the host",
        "vidur_network",
        "send_recv",
        "a40",
        where=lambda n: n["num_nodes"] == 1,
    ),
    Reason(
        "the network between the nodes is not stated; a plain one is assumed",
        "vidur_network",
        where=lambda n: n["num_nodes"] > 1,
    ),
    Reason(
        "eager calls under a profiler: the kernel's duration holds the wait for the other ranks, 30 to 60 us",
        "vidur_network",
        "all_reduce",
        where=lambda n: n["message_bytes"] <= 4e6,
    ),
    # ---- whole steps
    Reason(
        "ZeRO-3 of 2021: a step takes 66.8 s on 768 GPUs and on 1,536 alike, so it waits for weights, which come at a"
        " tenth of the adapters' rate",
        "megatron_training",
        where=lambda n: n["slow"] < 0.8 and n["num_gpus"] in (384, 768, 1536),
    ),
    Reason(
        "DeepSpeed's pipeline around Megatron's layers: a fifth slower than Megatron's own of this model, unexplained",
        "megatron_training",
        where=lambda n: n["slow"] < 0.9 and n["num_gpus"] in (2240, 2800, 3360),
    ),
    Reason(
        "the smallest model, timed with data loading and logging: its kernels take a fifth less with any settings",
        "megatron_training",
        where=lambda n: n["slow"] < 0.85 and n["num_gpus"] == 48,
    ),
    Reason(
        "512 tokens a step: the host launches kernels more slowly than the GPU runs them",
        "mlengineering_train_steps",
        "step_time",
        where=lambda n: n["slow"] < 1 and n["seq_len"] <= 512,
    ),
    Reason(
        "the host's time of a step is that of a loop with logging; this was a bare one",
        "mlengineering_train_steps",
        "step_time",
        where=lambda n: n["slow"] > 1 and n["seq_len"] <= 512,
    ),
    Reason(
        "context parallelism over GPUs of one node: slower than attention over as many keys on one GPU, unexplained",
        "torchtitan_training",
        where=lambda n: n["slow"] < 0.9 and n["seq_len"] >= 65536,
    ),
    Reason(
        "does not scale: up to 2.4 times the step of one GPU in spite of NVSwitch, which no link explains",
        "lambda_training",
        gpu="a100-sxm-80gb",
        where=lambda n: n["num_gpus"] > 1 and n["slow"] < 0.9,
    ),
    # ---- whole inference runs
    Reason(
        "prefill apart: seconds to tens of seconds to the first token at any load, which are not those of a prompt",
        "aic_e2e_inference",
        "ttft",
        where=lambda n: n["slow"] < 0.8 and "decode_num_workers" in n,
    ),
    Reason(
        "the weights fill the GPU: how many requests the cache holds, and so the queue, hangs on a few hundred MB",
        "aic_e2e_inference",
        library="sglang",
        where=lambda n: n["slow"] < 0.8 and n["tp_size"] == 1,
    ),
    Reason(
        "22 s to the first token, then 5 ms for each: the engine probably held back most of the 512 clients, of which"
        " the table says nothing",
        "aic_e2e_inference",
        library="vllm",
        where=lambda n: n["concurrency"] >= 512 and (n["slow"] > 1.25 or n["slow"] < 0.1),
    ),
    Reason(
        "which requests arrive together, and whether the first ones count, is not in the table: TensorRT-LLM's first"
        " token takes from 0.2 to 2 s at loads that are alike",
        "aic_e2e_inference",
        "ttft",
        library="trtllm",
        where=lambda n: n["slow"] < 0.8,
    ),
    Reason(
        "saturated: the queue hangs on the lengths of the outputs, which such tools draw below those they state",
        "aic_e2e_inference",
        "ttft",
        where=lambda n: n["slow"] > 1.25,
    ),
    Reason(
        "first tokens of this server take 10 ms beside the prompt, those of the load tests behind the constant 91; and"
        " of many prompts that arrive at once it makes one step",
        "published_serving",
        "ttft",
        where=lambda n: n["slow"] > 1.25,
    ),
    Reason(
        "llama.cpp of August 2025: its kernels follow each other in CUDA graphs, those of May 2024 do not",
        "published_llamacpp",
        "decode",
        where=lambda n: n["slow"] > 1.25,
    ),
)


def reason(row: Row) -> str:
    """Why a row is off; '' where nobody has said."""
    return next((known.text for known in REASONS if known.explains(row)), "")
