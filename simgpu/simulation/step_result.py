"""Results of one call of a model, and of a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simgpu.simulation.result import Result, SplitResult


@dataclass(frozen=True, repr=False, kw_only=True)
class StepResult(Result):
    """One call of a model, such as a prefill, or a list of operators: its communication, and the same on one GPU."""

    HEADLINE: ClassVar[tuple[str, ...]] = ("step_s", "efficiency", "mfu")

    communication_s: float
    """Time its communication streams are busy (s)."""
    communication_s_p10: float
    communication_s_p90: float
    single_gpu_step_s: float
    """Time of the whole step on one GPU of the cluster (memory set aside) (s)."""
    single_gpu_step_s_p10: float
    single_gpu_step_s_p90: float
    ideal_step_s: float
    """Single_gpu_step_s / gpus (s)."""
    ideal_step_s_p10: float
    ideal_step_s_p90: float
    efficiency: float
    """Ideal_step_s / step_s (share)."""
    efficiency_p10: float
    efficiency_p90: float
    speedup: float
    """Single_gpu_step_s / step_s."""
    speedup_p10: float
    speedup_p90: float
    tokens_per_s: float | None = None
    """Tokens taken in per second, all GPUs; absent for a list of operators (tokens/s)."""
    tokens_per_s_p10: float | None = None
    tokens_per_s_p90: float | None = None
    communication_bytes: float
    """Bytes one GPU's collectives are called with (payload as nccl-tests count it) (B)."""
    compute_s_p10: float
    compute_s_p90: float
    exposed_communication_s_p10: float
    exposed_communication_s_p90: float


@dataclass(frozen=True, repr=False, kw_only=True)
class TrainingResult(StepResult, SplitResult):
    """A training step: throughput, where the time goes, and memory by part."""

    HEADLINE: ClassVar[tuple[str, ...]] = ("step_s", "tokens_per_s", "mfu")

    tokens_per_s: float
    """Tokens taken in per second, all GPUs; absent for a list of operators (tokens/s)."""
    tokens_per_s_p10: float
    tokens_per_s_p90: float
    vp: int
    """Virtual stages: chunks of layers on each rank."""
    zero: int
    """ZeRO stage: 0 copies everything, 1 shards optimizer states, 2 gradients too, 3 weights too (FSDP)."""
    recompute: str
    """Activations recomputed in backward: none, selective, full."""
    schedule: str
    """Of the pipeline."""
    micro_batch: int
    """Sequences of one microbatch on one rank (sequences)."""
    microbatches: int
    """Of one replica in a step."""
    framework: str
    """How a stack runs the operators."""
    samples_per_s: float
    """Sequences per second, all GPUs (samples/s)."""
    samples_per_s_p10: float
    samples_per_s_p90: float
    tokens_per_s_per_gpu: float
    """Tokens_per_s / gpus (tokens/s/GPU)."""
    tokens_per_s_per_gpu_p10: float
    tokens_per_s_per_gpu_p90: float
    hfu: float
    """Like mfu, with what is recomputed (share)."""
    hfu_p10: float
    hfu_p90: float
    flop_full_attention: float
    """Flop with attention counted in full, masked half included (PaLM, MosaicML, Megatron 2022) (FLOP)."""
    mfu_full_attention: float
    """Flop_full_attention / step_s / gpus / peak (share)."""
    mfu_full_attention_p10: float
    mfu_full_attention_p90: float
    recompute_s: float
    """Part of the kernels above: what backward computes again (s)."""
    optimizer_s: float
    """Clipping and the optimizer (s)."""
    host_exposed_s: float
    """Of it, what the GPU waits for within layers: code between kernels, and the queue that fills again after the host
    waited (s)."""
    exposed_data_s: float
    """Transfers of gradients and weights between replicas and shards while no kernel runs (s)."""
    exposed_offload_s: float
    """Copies to and from host memory and NVMe while no kernel runs (s)."""
    bubble_s: float
    """Time in which the busiest rank waits for other stages (s)."""
    bubble_fraction: float
    """Bubble_s / step_s (share)."""
    overlap: float
    """Share of the time of communication that kernels hide (share)."""
    critical_compute_s: float
    """On the critical path: passes of layers (with the collectives inside them) and optimizer (s)."""
    critical_communication_s: float
    """On the critical path: activations, gradients and weights between ranks (s)."""
    training_days: float | None = None
    """Days for workload.train_tokens at this rate (days)."""
    training_days_p10: float | None = None
    training_days_p90: float | None = None
    gpu_hours: float | None = None
    """GPU-hours for them (GPU-hours)."""
    gpu_hours_p10: float | None = None
    gpu_hours_p90: float | None = None
    pool_batches: str | None = None
    """Sequences of each group of GPUs, where pools train beside those of the plan."""
    pool_waiting_share: float | None = None
    """Share of the GPUs' time in which groups wait for the last one, and for the sums between them (share)."""
    memory_bytes_per_gpu_p10: float
    memory_bytes_per_gpu_p90: float
    memory_verdict: str
    """Fits (fit_probability 0.95 and more), does not fit (0.05 and less) or tight (between)."""
    fit_probability: float
    """Probability that the step gets through the memory of the GPU, with what an allocator's gaps may take (share)."""
    memory_event: str
    """When the peak is: loss, head backward, layer backward, embedding backward or update."""
    allocated_memory_bytes_per_gpu: float
    """Part of memory_bytes_per_gpu: what PyTorch allocates (torch.cuda.max_memory_allocated) (B)."""
    reserved_memory_bytes_per_gpu: float
    """What PyTorch's allocator holds before the GPU is full (torch.cuda.max_memory_reserved) (B)."""
    nvidia_smi_memory_bytes_per_gpu: float
    """What nvidia-smi shows: with what the allocator holds beside that (B)."""
    host_memory_bytes_per_node: float | None = None
    """With offload: what lies in the host memory of a node (B)."""
    nvme_memory_bytes_per_node: float | None = None
    """With offload: what lies on the drives of a node (B)."""
    offload_bytes: float | None = None
    """Bytes that a GPU exchanges with host memory and drives in a step, beside the update (B)."""
    gradients_memory_bytes: float
    """Part of the memory: gradients (B)."""
    optimizer_memory_bytes: float
    """Part of the memory: master weights and optimizer states (B)."""
    communication_memory_bytes: float
    """Part of the memory: gathered weights, buckets, receive buffers (B)."""
    temporary_memory_bytes: float
    """Part of the memory: logits and loss, or the working tensors of backward (B)."""
