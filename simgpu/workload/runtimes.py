"""Runtimes of inference: how an engine runs the same operators. Named sets of constants, each of a version.

What can be counted is counted: kernels of an operator, the tensors they read and write, what is launched by the host
and what replays as a graph. What cannot be counted is a constant with a source: the host's time for a step and a
sequence, small kernels of a layer that no operator names. docs/inference.md says which were chosen on which rows.

A version of an engine is a file of the catalogue (`runtimes/ENGINE@VERSION.yaml`, see `simgpu.workload.runtime_files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simgpu.hardware.spec import GPUSpec
from simgpu.plan.precision import GGUF_MXFP4, PRECISIONS, Precision, is_gguf
from simgpu.plan.serving_memory import Reserve, ShareOf
from simgpu.workload.frameworks import Framework

MARK = "@"
"""Stands between an engine and its version."""

SPLIT = "split over GPUs"
"""The name in the table of residuals for runs of llama.cpp over several GPUs, whose prompts scatter more."""

GIB, MIB = 2.0**30, 2.0**20

WEIGHT_ONLY = ("int8", "int4")
"""Formats of weights that PyTorch has kernels for beside those of activations (AutoGPTQ, AutoAWQ, gpt-fast)."""

LARGE = 60 * GIB
"""Memory from which on SGLang keeps a least sum free (srt/server_args.py, _handle_gpu_memory_settings)."""


NVIDIA = "NVIDIA"
"""Vendor of the GPUs whose libraries of products engines choose between."""


@dataclass(frozen=True)
class Runtime:
    """The constants of an engine: how it runs a step.

    style
        'fused' (kernels of serving engines), 'ggml' (llama.cpp) or 'eager' (one kernel for each operation of PyTorch).
    step_s, sequence_s, prompt_s
        Host time: of a step, of each sequence in it, of each prompt that joins it.
    overlaps_host, overlaps_drafts
        Whether the host prepares a step while the GPU runs the one before: the longer of both counts. Else the GPU
        waits for all of it. Whether it does so, too, where a model of its own guesses tokens (a layer of the model
        never stops it). Pipelines have loops of their own, without that.
    between_s
        What passes between two steps of the GPU whether the host overlaps or not: sampling, copies of tokens.
    first_s, together, join_steps
        Of a server: what a request spends outside the engine before its first token; the part of the requests that
        arrive at once and stay together; steps of others that end before its own begins, on average: half a step,
        and one more where the next has been sent to the GPU already (`simgpu.workload.inference.serving`).
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
    sequences
        Requests that an engine works on at a time, at most (`max_num_seqs`, `max-running-requests`, `max_batch_size`),
        likewise; none: as many as the cache holds.
    block_tokens, prefix_cache, watermark
        Of the cache of a server: tokens of a block; whether blocks that are given back keep their contents for prompts
        that begin alike; share of the blocks that stays free when a request is admitted.
    reserved, reserved_least, reserved_steps
        Share of a request's output for which room is kept at its admission: 0 is none (where no block is left, the last
        to come is computed again), 1 all. It falls to the least over so many steps.
    large_needs
        A type of which a GPU must have matrix units to count as one of more than the first entries of these two: vLLM
        excludes the A100, whatever its memory, by name.
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
    driver_bytes
        Of the memory, what the driver keeps from programs.
    reserve, graph_bytes, token_bytes, group_bytes, rank_bytes, least_bytes
        Bytes for context and workspace; for graphs; for each new token of a step, where a runtime sets a flat sum aside
        instead of measuring what its layers need; for the buffers of a tensor-parallel group (0: as in training); for
        each rank, and in all at least, of that flat sum, the latter from 60 GiB on.
    sampler_bytes
        For each sequence and word of the vocabulary in the trial run of an engine that measures what its largest step
        takes; 0: logits of the sequences that are served.
    products, quantises
        Of a precision: the library of its products (`simgpu.timing.gemm_libraries`), and which of them have a kernel of
        their own before them that quantises what they multiply: all, cast (all, by scales of the checkpoint), attention
        (that of its values alone; norms and activations quantise as they write) or none.
    experts
        On GPUs of some architectures and of a precision: the library of experts (`simgpu.timing.expert_libraries`).
    sparse
        The library of attention over picked keys (`simgpu.timing.picked`), which then picks them of short prompts too;
        empty: SGLang's choice, with dense attention of prompts of no more keys than are picked.
    repeats_heads
        Heads that share a KV head get a copy of it each before attention (repeat_kv, which scaled_dot_product_attention
        needs before PyTorch 2.5).
    every_logit, holds_logits
        Logits of all new tokens of a decoder, as a bare forward makes them; else those that choose the next token.
        Whether there is room for all of them all the same.
    decode_ends
        P10 and P90 of measured over predicted time of decode, where residuals of other runtimes say nothing of it.
    score_bytes
        Of a head, a new token and a key, where scores of attention pass memory (of PyTorch: in fp32 alone).
    custom_reduce, custom_limits
        Whether all-reduces are kernels of the engine, and over so many GPUs for how many bytes at most; else NCCL's.
    converts
        Whether narrow weights that the GPU cannot multiply are converted on the way (Marlin), or refused.
    fused_attention, integer_products, fused_pointwise, counted_experts
        Of llama.cpp: whether scores stay on chip; prompts multiply weights in blocks as they are stored, by activations
        in 8 bits, instead of unpacking them for cuBLAS; a norm and its weights, and a gated activation, are a kernel
        each instead of two; experts are a kernel for each operation, of one token three products of vectors.
    block_formats
        Formats in blocks that it has beside those of `simgpu.model.formats.GGUF`.
    few_rows
        Library of the products of a few rows (`simgpu.timing.gemv`).
    since, version, released, default, measured
        The lowest version that it stands for; all of them, in words; when that came out; whether it stands for its
        engine where no version is named; whether the residuals of whole runs are of it (else their interval is widened,
        `simgpu.timing.uncertainty.of_version`).
    sources
        Where each of these comes from, in words.
    """

    name: str
    engine: str
    since: str
    title: str
    version: str
    released: str = ""
    default: bool = False
    measured: bool = False
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    style: str = "fused"
    step_s: float = 0.0
    sequence_s: float = 0.0
    prompt_s: float = 0.0
    between_s: float = 0.0
    overlaps_host: bool = False
    overlaps_drafts: bool = False
    first_s: float = 0.0
    together: float = 0.0
    join_steps: float = 0.0
    layer_s: float = 0.0
    launch_s: float = 0.0
    graphs: bool = True
    gap_s: float = 0.0
    hop_s: float = 0.0
    chunks: tuple[tuple[float, int], ...] = ((0.0, 8192),)
    sequences: tuple[tuple[float, int], ...] = ()
    block_tokens: int = 16
    prefix_cache: bool = True
    watermark: float = 0.0
    reserved: float = 0.0
    reserved_least: float = 0.0
    reserved_steps: int = 0
    large_needs: str = ""
    mixes: bool = True
    overlaps_stages: bool = True
    queue: float = 0.0
    memory_share: float = 0.9
    share_of: ShareOf = "total"
    reserve: float = 1.2e9
    graph_bytes: float = 0.6e9
    token_bytes: float = 0.0
    driver_bytes: float = 0.0
    group_bytes: float = 0.0
    rank_bytes: float = 0.0
    least_bytes: float = 0.0
    sampler_bytes: float = 0.0
    score_bytes: float = 0.0
    converts: bool = True
    custom_reduce: bool = True
    custom_limits: tuple[tuple[int, float], ...] = ()
    attention: str = ""
    scan: str = ""
    sparse: str = ""
    precisions: str = ""  # beside plain ones: those of 'gguf' files, 'weight-only' (int4, w8a16); empty: all but GGUF
    vectors: int = 0  # rows up to which products are those of vectors
    framework: str = ""  # of style 'eager': how PyTorch runs operators (`simgpu.workload.frameworks`)
    stack: Framework | None = None  # that framework, of the same catalogue
    repeats_heads: bool = False
    every_logit: bool = False
    holds_logits: bool = False
    fused_attention: bool = False
    integer_products: bool = False
    fused_pointwise: bool = False
    counted_experts: bool = False
    block_formats: tuple[str, ...] = ()
    few_rows: str = "ggml"
    decode_ends: tuple[float, float] = (1.0, 1.0)
    stream_slowdown: float = 1.0  # of memory-bound kernels over their counted traffic
    products: tuple[tuple[str, str], ...] = ()
    quantises: tuple[tuple[str, str], ...] = ()
    experts: tuple[tuple[str, str, str], ...] = ()

    def set_aside(self, share: float | None, score: float, every_logit: bool, gpu: GPUSpec, seats: int) -> Reserve:
        """Memory kept beside weights and cache of a GPU.

        A job says which `share` of the GPU it takes (None: as the runtime), and how many sequences it seats.
        """
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
            self.driver_bytes,
            self.sampler_bytes,
            seats,
            self.group_bytes,
            self.rank_bytes,
            self.least_bytes if gpu.memory.capacity.si > LARGE else 0.0,
        )

    def products_of(self, precision: Precision, gpu: GPUSpec) -> str:
        """The library of narrow products on a GPU; empty: that of their type."""
        own = dict(self.products).get(precision.name, "") if gpu.vendor == NVIDIA else ""
        return own or precision.library

    def quantises_after(self, precision: Precision) -> str:
        """Which products have a kernel of their own before them that quantises (`simgpu.timing.kernels.QUANTISED`)."""
        return dict(self.quantises).get(precision.name, "all")

    def experts_of(self, precision: Precision, gpu: GPUSpec, dtype: str) -> str:
        """The library of experts on a GPU; empty: that of their type."""
        if precision.converted:
            return ""
        name, own = (precision.name if precision.weights else dtype), ""
        if gpu.vendor == NVIDIA:
            own = next((lib for on, of, lib in self.experts if of == name and gpu.architecture in on.split()), "")
        return own or ("deepgemm" if name == "fp8-block" else "")

    def library(self, stages: int) -> str:
        """The name under which residuals of whole runs are kept: one for all versions of an engine."""
        return f"{self.engine} {SPLIT}" if self.style == "ggml" and stages > 1 else self.engine

    def precision(self, precision: Precision) -> Precision:
        """A precision in the form that files of this runtime have."""
        return GGUF_MXFP4 if precision.name == "mxfp4" and "mxfp4" in self.block_formats else precision

    @property
    def narrower(self) -> tuple[str, ...]:
        """Precisions that the runtime has and that are worth a try where a wider one does not fit."""
        if self.precisions == "gguf":
            return tuple(name for name, one in PRECISIONS.items() if is_gguf(one))
        return ("w8a16", "int4") if self.precisions == "weight-only" else ("fp8", "int4")

    def takes(self, precision: Precision) -> bool:
        """Whether the runtime has kernels for a precision, on a GPU that has the units."""
        if not precision.weights or self.precisions == "gguf":
            return not precision.weights or is_gguf(precision)
        if self.precisions == "weight-only":
            return precision.weights in WEIGHT_ONLY and not precision.products
        return not is_gguf(precision)

    def chunk(self, gpu: GPUSpec) -> int:
        """The largest number of new tokens in a step."""
        return self._by_memory(self.chunks, gpu)

    def seats(self, gpu: GPUSpec) -> int:
        """The largest number of requests at a time; 0: as many as the cache holds."""
        return self._by_memory(self.sequences, gpu) if self.sequences else 0

    def _by_memory(self, table: tuple[tuple[float, int], ...], gpu: GPUSpec) -> int:
        """The entry of the GPU's memory."""
        lacking = self.large_needs and not any(peak.dtype == self.large_needs for peak in gpu.peak)
        return [most for least, most in table[: 1 if lacking else None] if gpu.memory.capacity.si >= least * GIB][-1]
