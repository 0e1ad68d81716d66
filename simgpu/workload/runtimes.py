"""Runtimes of inference: how an engine runs the same operators. Named sets of constants, each of a version.

What can be counted is counted: kernels of an operator, the tensors they read and write, what is launched by the host
and what replays as a graph. What cannot be counted is a constant with a source: the host's time for a step and a
sequence, small kernels of a layer that no operator names. docs/inference.md says which were chosen on which rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from simgpu.errors import InputError, nearest
from simgpu.plan.precision import PRECISIONS, is_gguf
from simgpu.plan.serving_memory import Reserve, ShareOf

SPLIT = "split over GPUs"
"""What the table of residuals calls runs of llama.cpp over several GPUs, whose prompts scatter more than others."""

GIB, MIB = 2.0**30, 2.0**20


@dataclass(frozen=True)
class Runtime:
    """How an engine runs a step.

    style
        'fused' (kernels of serving engines), 'ggml' (llama.cpp) or 'eager' (one kernel for each operation of PyTorch).
    step_s, sequence_s, prompt_s
        Host time: of a step (with what the GPU does between two of them: sampling, copies), of each sequence in it, of
        each prompt that joins it.
    overlaps_host
        Whether the host works on the sequences of a step while the GPU runs the one before: the longer of both counts,
        and `step_s` beside it. Else the GPU waits for all of it. Pipelines have loops of their own, without that.
    first_s, together
        Of a server: what a request spends outside the engine before its first token; the part of the requests that
        arrive at once and stay together (`simgpu.workload.inference.serving`).
    layer_s
        Small kernels of a layer that no operator stands for (bookkeeping of the cache, copies, casts).
    launch_s
        Host time of a kernel where it is not part of a graph: a step takes no less than its kernels times this.
    graphs
        Whether steps without prompts replay as CUDA graphs.
    gap_s
        Between a kernel and the next in steps with prompts, beyond what their models hold.
    hop_s
        Of passing a token from one GPU of a pipeline to the next: copies through the host, events.
    chunks
        New tokens of a step at most (`max_num_batched_tokens`, `chunked-prefill-size`, `n_ubatch`), from so many GiB of
        memory on.
    mixes
        Prompts and decodes share steps; else a step of prompts comes first and decodes wait.
    overlaps_stages
        Whether microbatches keep all stages of a pipeline busy in decode.
    queue
        Kernels of a prompt that a GPU takes in advance of the one thread that launches those of all GPUs; 0: all.
    memory_share, share_of
        Share of memory that is used unless a job says another, and what it is of
        (`simgpu.plan.serving_memory.Reserve`): vLLM's gpu_memory_utilization is of the GPU's memory, TensorRT-LLM's
        free_gpu_memory_fraction of what is free beside the cache, SGLang's mem-fraction-static of what weights and
        cache may take; by default these get what the sums below leave.
    reserve, graph_bytes, token_bytes
        Bytes for context and workspace; for graphs; for each new token of a step, where a runtime sets a flat sum aside
        instead of measuring what its layers need.
    repeats_heads
        Heads that share a KV head get a copy of it each before attention (repeat_kv, which scaled_dot_product_attention
        needs before PyTorch 2.5).
    every_logit
        Logits of all new tokens of a decoder, as a bare forward makes them; else those that choose the next token.
    decode_ends
        P10 and P90 of measured over predicted time of decode, where residuals of other runtimes say nothing of it.
    score_bytes
        Of a head, a new token and a key, where scores of attention pass memory (of PyTorch: in fp32 alone).
    custom_reduce, custom_limits
        Whether all-reduces are kernels of the engine, and over so many GPUs for how many bytes at most; else NCCL's.
    converts
        Whether narrow weights that the GPU cannot multiply are converted on the way (Marlin), or refused.
    """

    name: str
    title: str
    version: str
    source: str
    style: str = "fused"
    step_s: float = 0.0
    sequence_s: float = 0.0
    prompt_s: float = 0.0
    overlaps_host: bool = False
    first_s: float = 0.0
    together: float = 0.0
    layer_s: float = 0.0
    launch_s: float = 0.0
    graphs: bool = True
    gap_s: float = 0.0
    hop_s: float = 0.0
    chunks: tuple[tuple[float, int], ...] = ((0.0, 8192),)
    mixes: bool = True
    overlaps_stages: bool = True
    queue: float = 0.0
    memory_share: float = 0.9
    share_of: ShareOf = "total"
    reserve: float = 1.2e9
    graph_bytes: float = 0.6e9
    token_bytes: float = 0.0
    score_bytes: float = 0.0
    converts: bool = True
    custom_reduce: bool = True
    custom_limits: tuple[tuple[int, float], ...] = ()
    attention: str = ""
    precisions: str = ""  # 'gguf': only those of llama.cpp; 'plain': only unquantised ones; empty: all but GGUF
    vectors: int = 0  # rows up to which products are those of vectors
    framework: str = ""  # of style 'eager': how PyTorch runs operators (`simgpu.workload.frameworks`)
    repeats_heads: bool = False
    every_logit: bool = False
    decode_ends: tuple[float, float] = (1.0, 1.0)
    streams: float = 1.0  # of memory-bound kernels over their counted traffic
    experts_fp8: str = ""  # library of experts in fp8

    def set_aside(self, share: float | None, score: float, every_logit: bool) -> Reserve:
        """What it keeps beside weights and cache, where a job says which `share` it takes (None: as the runtime)."""
        graphs = self.graph_bytes if self.graphs else 0.0
        of: ShareOf = "total" if share is None and self.token_bytes else self.share_of
        return Reserve(
            self.memory_share if share is None else share,
            self.reserve,
            graphs,
            self.token_bytes,
            score,
            every_logit,
            of,
        )

    @property
    def narrower(self) -> tuple[str, ...]:
        """Precisions that it has, and that are worth a try where one does not fit."""
        if self.precisions == "gguf":
            return tuple(name for name, one in PRECISIONS.items() if is_gguf(one))
        return () if self.precisions == "plain" else ("fp8", "int4")

    def chunk(self, capacity: float) -> int:
        """New tokens of a step at most, on a GPU of `capacity` bytes."""
        return [tokens for least, tokens in self.chunks if capacity >= least * GIB][-1]


_SERVED = (
    "served rows of aic_e2e_inference (H100), one set of constants for all of its models; "
    "memory beside weights and cache: estimate of this project where the engine's source names no sum"
)

FORWARD_S, GENERATE_S = 20e-6, 31e-6
"""Host time of a counted kernel: in a bare forward (2 of Llama 3.2 1B on a B200), and in the decode loop of generate()
(Qwen2.5 1.5B, 3B and 7B behind a prompt of 1 token, transformers 4.46 on one A100 host: 0.88 to 0.90 ms a layer
whatever its width, over 29 counted kernels). Python runs more small operations than are counted; another CPU moves both
in proportion."""

_PYTORCH: dict[str, Any] = {
    "style": "eager",
    "chunks": ((0.0, 10**9),),
    "mixes": False,
    "overlaps_stages": False,
    "memory_share": 1.0,
    "reserve": 0.7e9,
    "graph_bytes": 0.0,
    "score_bytes": 8.0,
    "custom_reduce": False,
    "precisions": "plain",
}

RUNTIMES: dict[str, Runtime] = {
    one.name: one
    for one in (
        Runtime(
            "vllm",
            "vLLM, V1 engine with CUDA graphs",
            "0.12 to 0.18",
            f"vllm-project/vllm (v1/core/sched, compilation); {_SERVED}",
            step_s=0.6e-3,
            sequence_s=40e-6,
            layer_s=5e-6,
            first_s=11e-3,
            together=0.145,
            chunks=((0.0, 2048), (70.0, 8192)),  # engine/arg_utils.py, default_max_num_batched_tokens
            launch_s=4e-6,
        ),
        Runtime(
            "sglang",
            "SGLang with CUDA graphs and the radix cache",
            "0.5",
            f"sgl-project/sglang (srt/managers/scheduler.py); {_SERVED}",
            step_s=0.4e-3,
            sequence_s=17e-6,
            layer_s=1e-6,
            together=0.92,
            # server_args.py, _handle_gpu_memory_settings: chunks, and what is kept free beside weights and cache
            chunks=((0.0, 2048), (35.0, 4096), (60.0, 8192), (160.0, 16384)),
            # model_runner.py: weights and cache get mem_fraction_static; unsaid, all but the sums below
            memory_share=1.0,
            share_of="static",
            reserve=512 * MIB,
            graph_bytes=256 * 2 * MIB,
            token_bytes=1.5 * MIB,
            launch_s=4e-6,
            mixes=False,
        ),
        Runtime(
            "trtllm",
            "TensorRT-LLM, PyTorch backend with CUDA graphs",
            "1.0",
            f"NVIDIA/TensorRT-LLM (tensorrt_llm/_torch/pyexecutor); {_SERVED}",
            step_s=0.4e-3,
            sequence_s=17e-6,
            share_of="free",  # _torch/pyexecutor/_util.py: free_gpu_memory_fraction of what a trial run leaves
            overlaps_host=True,  # py_executor.py, _executor_loop_overlap, the default without pipelines
            first_s=91e-3,
            together=0.134,
            launch_s=4e-6,
            attention="trtllm",
            # customAllReduceUtils.h, AllReduceBestStrategyTableSM90 (with the norm); of 4 GPUs its tables of kernel
            # times show NCCL's from 2 MiB on
            custom_limits=((2, 8 * MIB), (4, 1 * MIB), (8, 0.5 * MIB)),
            converts=False,
        ),
        Runtime(
            "llama.cpp",
            "llama.cpp, one stream, layers split over GPUs",
            "May 2024 (b2800 to b3000)",
            "ggml-org/llama.cpp (ggml-cuda.cu); llamacpp_inference",
            style="ggml",
            gap_s=10e-6,
            hop_s=187e-6,
            graphs=False,
            chunks=((0.0, 512),),
            overlaps_stages=False,
            queue=850,  # 1,024 launches (stackoverflow.com/q/53970187), a fifth of them cuBLAS helpers and copies
            memory_share=1.0,
            reserve=0.7e9,
            graph_bytes=0.0,
            score_bytes=4.0,
            custom_reduce=False,
            precisions="gguf",
            attention="ggml",
            vectors=8,
        ),
        Runtime(
            "eager",
            "Hugging Face transformers, eager PyTorch",
            "PyTorch 2.1 and later, transformers 4.36 and later",
            "huggingface/transformers (modeling_llama.py, modeling_qwen2.py, cache_utils.py, generation/utils.py)",
            framework="pytorch-eager",
            launch_s=GENERATE_S,
            repeats_heads=True,
            graphs=False,
            decode_ends=(0.8, 1.7),  # Qwen2.5's 14 rows of one host lie at 0.94 to 1.46; other CPUs are not known
            **_PYTORCH,
        ),
        Runtime(
            "compiled",
            "PyTorch under torch.compile, decode replayed as a CUDA graph over a static cache",
            "PyTorch 2.1 and later, transformers 4.36 and later",
            "pytorch/pytorch (torch/_inductor, cudagraph_trees); pytorch-labs/gpt-fast (generate.py, model.py)",
            framework="pytorch-compiled",
            launch_s=FORWARD_S,
            decode_ends=(0.7, 1.25),  # gpt-fast's rows of Llama on 1 to 8 A100 lie at 0.73 to 0.89
            **_PYTORCH,
        ),
    )
}


@cache
def bare_forward(name: str) -> Runtime:
    """A runtime of PyTorch that is asked for the logits of all tokens once, not to generate: what benchmarks time."""
    return replace(runtime(name), every_logit=True, launch_s=FORWARD_S, graphs=False, repeats_heads=False)


def runtime(name: str) -> Runtime:
    """A runtime by name. Raises `InputError`."""
    if name not in RUNTIMES:
        raise InputError(f"unknown runtime '{name}'{nearest(name, RUNTIMES)}", key="runtime")
    return RUNTIMES[name]
