"""What comes back from a simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from simgpu.analysis.critical import Link, critical_path
from simgpu.columns import FOLLOWS
from simgpu.engine import Timeline
from simgpu.errors import ArgumentError, shown
from simgpu.plan.memory import Memory
from simgpu.plan.serving_memory import ServingMemory
from simgpu.units import format_seconds
from simgpu.workload.execution import Execution

UNCERTAIN_TIMES = (
    *("step_s", "compute_s", "communication_s", "exposed_communication_s", "single_gpu_step_s", "ttft_s", "tpot_s"),
    *("efficiency", "speedup"),
)
"""Columns whose interval is put together from those of kernels, collectives and whole runs."""

COLUMNS: dict[str, str] = {
    "model": "model of the catalogue, or 'operators' for a list of operators",
    "workload": "kind of job: prefill, training, inference, mixed, serving, operators",
    "cluster": "cluster or node",
    "gpu": "GPU of the cluster",
    "dtype": "data type of weights and activations",
    "tp": "tensor-parallel ranks",
    "dp": "data-parallel ranks",
    "sequence_parallel": "sequence parallelism beside tensor parallelism",
    "gpus": "GPUs used, tp x cp x pp x dp",
    "step_s": "time of the step, s",
    "compute_s": "time the compute stream of the last rank to finish is busy, s",
    "communication_s": "time its communication streams are busy, s",
    "exposed_communication_s": "the part of it during which no kernel runs, s",
    "idle_s": "time with neither, s",
    "single_gpu_step_s": "time of the whole step on one GPU of the cluster (memory set aside), s",
    "ideal_step_s": "single_gpu_step_s / gpus, s",
    "efficiency": "ideal_step_s / step_s",
    "speedup": "single_gpu_step_s / step_s",
    "tokens_per_s": "tokens taken in per second, all GPUs; absent for a list of operators",
    "flop": "FLOPs of the step, all GPUs (matrix multiplications 2mnk, attention by the causal half)",
    "flop_per_s_per_gpu": "flop / step_s / gpus",
    "mfu": "time of the flop at the dense datasheet peaks of the types they are multiplied in, over gpus x step_s",
    "communication_bytes": "bytes one GPU's collectives are called with (payload as nccl-tests count it)",
    "weights_bytes_per_gpu": "bytes of the weights a GPU holds",
    "memory_capacity_bytes": "memory of the GPU",
    "weights_fit": "whether the weights alone fit into it",
}
COLUMNS |= {
    "pp": "pipeline stages; this and all below of training, some of inference too",
    "vp": "virtual stages: chunks of layers on each rank",
    "cp": "context-parallel ranks",
    "ep": "expert-parallel ranks, of dp x cp in training, of tp x dp in inference",
    "zero": "ZeRO stage: 0 copies everything, 1 shards optimizer states, 2 gradients too, 3 weights too (FSDP)",
    "recompute": "activations recomputed in backward: none, selective, full",
    "schedule": "of the pipeline",
    "micro_batch": "sequences of one microbatch on one rank",
    "microbatches": "of one replica in a step",
    "framework": "how a stack runs the operators",
    "samples_per_s": "sequences per second, all GPUs",
    "tokens_per_s_per_gpu": "tokens_per_s / gpus",
    "hfu": "like mfu, with what is recomputed",
    "flop_full_attention": "flop with attention counted in full, masked half included (PaLM, MosaicML, Megatron 2022)",
    "mfu_full_attention": "flop_full_attention / step_s / gpus / peak",
    "gemm_s": "matrix multiplications on the busiest rank, s",
    "attention_s": "attention kernels, s",
    "memory_bound_s": "normalisation, activations, casts, loss and other kernels that stream, s",
    "experts_s": "grouped multiplications of experts, s",
    "recompute_s": "of these: what backward runs again, s",
    "optimizer_s": "clipping and the optimizer, s",
    "host_s": "launch gaps and host work that the GPU waits for, s",
    "exposed_tp_s": "tensor-parallel collectives while no kernel runs, s",
    "exposed_cp_s": "the same of context parallelism, s",
    "exposed_ep_s": "the same of expert parallelism, s",
    "exposed_pp_s": "the same of activations between stages, s",
    "exposed_data_s": "the same of gradients and weights between replicas and shards, s",
    "exposed_offload_s": "the same of copies to and from host memory and NVMe, s",
    "bubble_s": "time in which the busiest rank waits for other stages, s",
    "bubble_fraction": "bubble_s / step_s",
    "overlap": "share of the time of communication that kernels hide",
    "critical_compute_s": "on the critical path: passes of layers (with the collectives inside them) and optimizer, s",
    "critical_communication_s": "on the critical path: activations, gradients and weights between ranks, s",
    "training_days": "days for workload.train_tokens at this rate",
    "gpu_hours": "GPU-hours for them",
    "memory_bytes_per_gpu": "memory of the fullest rank at its peak: what is allocated, and what CUDA and NCCL take",
    "memory_fits": "whether that is no more than the memory of the GPU, in inference than the engine's share of it; in "
    "training with offload also what lies in host memory and on drives, where the node's file tells their size",
    "allocated_memory_bytes_per_gpu": "of it what PyTorch allocates: torch.cuda.max_memory_allocated",
    "nvidia_smi_memory_bytes_per_gpu": "what nvidia-smi shows: with what the allocator holds beside that",
    "host_memory_bytes_per_node": "of training with offload: what lies in the host memory of a node",
    "nvme_memory_bytes_per_node": "of training with offload: what lies on the drives of a node",
    "offload_bytes": "bytes that a GPU exchanges with host memory and drives in a step, beside the update",
    "gradients_memory_bytes": "of it: gradients",
    "optimizer_memory_bytes": "of it: master weights and optimizer states",
    "activations_memory_bytes": "of it: activations of the microbatches in flight",
    "communication_memory_bytes": "of it: gathered weights, buckets, receive buffers",
    "temporary_memory_bytes": "of it: logits and loss, or the working tensors of backward",
    "reserve_memory_bytes": "of it: CUDA context and NCCL",
}
COLUMNS |= {
    "runtime": "of inference: how an engine runs the operators",
    "runtime_version": "of inference: the versions of the engine that its constants stand for",
    "precision": "how weights are stored and multiplied; 'weights converted' where the GPU lacks the type",
    "kv_cache": "data type of the cache",
    "batch": "sequences of the batch, all replicas together; of a server those in the batch, the others queue",
    "concurrency": "requests at a time",
    "prompt": "tokens of a prompt",
    "output": "output tokens of a sequence",
    "cached": "tokens of a prompt that are in the cache already",
    "prefill": "of a mixed step: new tokens of the prompt",
    "past": "of a mixed step: tokens of the prompt that are cached",
    "decodes": "of a mixed step: sequences that get a token",
    "context": "of a mixed step: tokens that each of them holds",
    "ttft_s": "time to first token: of the last prompt of a batch; of a server the mean, with queueing",
    "tpot_s": "time per output token after the first, as engines' benchmarks count: (end to end - TTFT) / (output - 1)",
    "normalized_latency_s": "end to end / output, the first token counted in (the vLLM paper's normalized latency)",
    "prefill_s": "time of the prefill of all prompts",
    "decode_s": "time from the first token to the last",
    "interference_s": "of TPOT of a server: what prompts of others take",
    "prefill_tokens_per_s": "prompt tokens per second while prompts are worked on, all GPUs",
    "output_tokens_per_s": "output tokens per second, all users: of a batch while it decodes, of a server on average",
    "output_tokens_per_s_per_user": "1 / tpot_s",
    "output_tokens_per_s_per_gpu": "output tokens over the whole time, prefill included, per GPU",
    "total_tokens_per_s": "prompt and output tokens over the whole time, all GPUs",
    "requests_per_s": "requests per second, all GPUs",
    "speed_of_light_tokens_per_s_per_user": "the same if kernels ran at datasheet peak and bandwidth, and nothing else",
    "tokens_per_cycle": "of speculative decoding: tokens that a draft and its verification bring on average",
    "evaluated_steps": "different steps that were simulated; the others lie between them",
    "saturated": "whether requests queue for room in the cache",
    "copies_s": "weights out of host memory, s",
    "kv_cache_memory_bytes": "of the memory: keys and values",
    "logits_memory_bytes": "of it: logits",
    "graphs_memory_bytes": "of it: CUDA graphs",
    "host_memory_bytes": "weights of a rank in host memory",
    "kv_bytes_per_token": "bytes of the cache for a token of a sequence, on average over them, all ranks together",
    "cache_tokens": "tokens that the cache of a replica holds, as engines print it ('GPU KV cache size')",
    "most_sequences": "sequences of prompt + output tokens that fit at once",
    "smallest_gpus": "GPUs that hold one such sequence, split by tensors (llama.cpp: by layers); 0: not even 32",
    "longest_context": "tokens of a lone sequence that fit, at most what its configuration says",
}
UNCERTAIN = (*UNCERTAIN_TIMES, *(name for name in FOLLOWS if name in COLUMNS))
"""Columns that have an interval: `NAME_p10` and `NAME_p90` beside them."""

PLAIN_COLUMNS = tuple(COLUMNS)
"""All columns but the ends of intervals."""

COLUMNS |= {
    f"{name}_{end}": f"{name}: {share} % of measurements would lie below, by residuals of such operators"
    for name in UNCERTAIN
    for end, share in (("p10", 10), ("p90", 90))
}
"""Keys of a result row and what they mean. SI units stand in the names. These names are a contract."""


class Row(dict[str, Any]):
    """The numbers of a result by column: a dict that cannot be changed. `dict(row)` is a copy that can."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ArgumentError("the row of a result cannot be changed; dict(row) is a copy that can")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


@dataclass(frozen=True, repr=False)
class Result:
    """One simulated scenario: the numbers (`row`), the timeline, and where every input came from (`resolved`).

    `row` is a dict that cannot be changed. Every key of it can be read as an attribute: `result.step_s`.
    """

    row: Mapping[str, Any]
    execution: Execution
    inputs: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    memory: Sequence[Memory] | Sequence[ServingMemory] = ()
    """Of training and inference: the memory of a rank of each pipeline stage."""

    def __post_init__(self) -> None:
        if not isinstance(self.row, Mapping):
            raise ArgumentError(f"{shown(self.row)} is not a mapping of columns", key="Result.row")
        object.__setattr__(self, "row", Row(self.row))

    def __repr__(self) -> str:
        job = " of ".join(str(self.row[name]) for name in ("workload", "model") if name in self.row)
        where = f" on {self.row['gpus']} x {self.row['gpu']}" if {"gpus", "gpu"} <= self.row.keys() else ""
        step = f": {format_seconds(self.row['step_s'])}" if "step_s" in self.row else ""
        return f"Result({job}{where}{step}, {len(self.row)} columns)"

    @cached_property
    def resolved(self) -> Mapping[str, Mapping[str, Any]]:
        """Every input, defaults and catalogue figures included: {key: {value, unit, source}}, SI."""
        return self.inputs()

    @property
    def timeline(self) -> Timeline:
        return self.execution.timeline

    @cached_property
    def critical_path(self) -> Sequence[Link]:
        """Activities that the step waits for, from its start to its end: `start` and `seconds`, `activity.name`."""
        return critical_path(self.execution)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.row[name]
        except KeyError:
            raise AttributeError(f"a result has no '{name}'; it has {', '.join(self.row)}") from None


@dataclass(frozen=True)
class Move:
    """One step of a walk: what was changed, the compared value before and after, and the step's row after."""

    what: str
    before: float
    after: float
    step_before: float
    step_after: float


@dataclass(frozen=True)
class Walk:
    """From one row to another. `match` holds the labels both share."""

    match: Mapping[str, Any]
    value: str
    start: float
    end: float
    moves: Sequence[Move]
