"""Results of networks of stages: images, videos, audio, embeddings per second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simgpu.simulation.result import Result


@dataclass(frozen=True, repr=False, kw_only=True)
class NetworkResult(Result):
    """A batch through a network of stages, or a step of training it."""

    HEADLINE: ClassVar[tuple[str, ...]] = ("step_s", "items_per_s", "mfu")

    cp: int
    """Context-parallel ranks."""
    stack: str
    """The software that runs a network of stages."""
    batch: int
    """Sequences of the batch, all replicas together; of a server those in the batch, the others queue (sequences)."""
    height: int | None = None
    """Of images, pixels (px)."""
    width: int | None = None
    """Of images, pixels (px)."""
    frames: int | None = None
    """Of a video."""
    denoising_steps: int | None = None
    """Denoising steps of an image."""
    item_s: float
    """Step_s / batch: seconds for each image, video, piece of audio or sequence (s)."""
    item_s_p10: float
    item_s_p90: float
    items_per_s: float
    """Images, videos, pieces of audio or sequences per second, all GPUs (1/s)."""
    items_per_s_p10: float
    items_per_s_p90: float
    energy_j_per_item: float
    """Energy of all GPUs for an image, a video, a piece of audio or a sequence (J)."""
    energy_j_per_item_p10: float
    energy_j_per_item_p90: float
    energy_j_per_image: float | None = None
    """Energy of all GPUs for an image (J)."""
    energy_j_per_image_p10: float | None = None
    energy_j_per_image_p90: float | None = None
    images_per_s: float | None = None
    """Images per second, all GPUs (images/s)."""
    images_per_s_p10: float | None = None
    images_per_s_p90: float | None = None
    streams: float | None = None
    """Streams of video that are kept up with, all GPUs: by the slowest of decoders, network and encoders."""
    streams_p10: float | None = None
    streams_p90: float | None = None
    decode_streams: float | None = None
    """Streams that the decoders (NVDEC) of all GPUs keep up with."""
    detect_streams: float | None = None
    """Streams that the network keeps up with, all GPUs."""
    encode_streams: float | None = None
    """Streams that the encoders (NVENC) of all GPUs keep up with."""
    video_limit: str | None = None
    """What limits streams: NVDEC, network, NVENC, or encode sessions that the driver allows."""
    video_wait_s: float | None = None
    """Part of the step in which the network waits for the engines of video (s)."""
    power_w_per_stream: float | None = None
    """Power of all GPUs for a stream, without that of the engines of video, which nobody prints (W/stream)."""
    power_w_per_stream_p10: float | None = None
    power_w_per_stream_p90: float | None = None
    iterations_per_s: float | None = None
    """Denoising steps of images per second, all GPUs: steps x batch / denoiser_s (it/s)."""
    iterations_per_s_p10: float | None = None
    iterations_per_s_p90: float | None = None
    audio_s_per_s: float | None = None
    """Seconds of audio per second, all GPUs (s/s)."""
    audio_s_per_s_p10: float | None = None
    audio_s_per_s_p90: float | None = None
    embeddings_per_s: float | None = None
    """Sequences encoded per second, all GPUs (embeddings/s)."""
    embeddings_per_s_p10: float | None = None
    embeddings_per_s_p90: float | None = None
    tokens_per_s: float | None = None
    """Tokens taken in per second, all GPUs; absent for a list of operators (tokens/s)."""
    tokens_per_s_p10: float | None = None
    tokens_per_s_p90: float | None = None
    encoder_s: float | None = None
    """Encoders of text, images or audio (s)."""
    denoiser_s: float | None = None
    """All passes of the denoiser (s)."""
    decoder_s: float | None = None
    """Decoders of latents, or of tokens (s)."""
    convolution_s: float
    """Convolutions (s)."""
    gemm_s: float
    """Matrix multiplications on the busiest rank (s)."""
    attention_s: float
    """Attention kernels (s)."""
    memory_bound_s: float
    """Normalisation, activations, casts, loss and other kernels that stream (s)."""
    exposed_cp_s: float
    """Context-parallel collectives while no kernel runs (s)."""
    exposed_data_s: float
    """Transfers of gradients and weights between replicas and shards while no kernel runs (s)."""
    host_s: float
    """Launch gaps and host work that the GPU waits for (s)."""
    parameters: int
    """Parameters of all stages."""
    memory_bytes_per_gpu: float
    """Peak memory of the rank that needs most: allocated memory, CUDA context and NCCL (B)."""
    memory_fits: bool
    """False where that does not fit the memory of the GPU: in training where memory_verdict is 'does not fit', with
    offload also by what lies in host memory and on drives, where the node's file tells their size; in inference where
    it is more than the engine's share."""
    activations_memory_bytes: float
    """Part of the memory: activations of the microbatches in flight (B)."""
    gradients_memory_bytes: float | None = None
    """Part of the memory: gradients (B)."""
    optimizer_memory_bytes: float | None = None
    """Part of the memory: master weights and optimizer states (B)."""
    reserve_memory_bytes: float
    """Part of the memory: CUDA context and NCCL (B)."""
    compute_s_p10: float
    compute_s_p90: float
    flop_per_s_per_gpu_p10: float
    flop_per_s_per_gpu_p90: float
    mfu_p10: float
    mfu_p90: float
