"""Names of attention libraries: which one a table of measurements used, and which one a GPU uses by default.

The constants of `kernel: attention:` stand under these names, because libraries differ from each other by 14-29 %
(median) on the same GPU and shapes.
"""

from __future__ import annotations

from simgpu.hardware.inherit import DEFAULT

LIBRARIES = {
    "fa2": "FlashAttention 2 and the pre-Hopper kernels of the FlashAttention 3 package (mma.sync, cp.async)",
    "fa3": "FlashAttention 3 (wgmma, TMA, warp specialisation), Hopper",
    "flashinfer": "FlashInfer's FA2-style kernels with planned work, ragged prefill and paged decode",
    "triton": "the Triton kernels of SGLang and vLLM",
    "trtllm-mha": "TensorRT-LLM generated kernels (trtllm-gen), datacentre Blackwell",
}
"""Libraries that can be named, and what they are."""

BEST = {
    "ampere": "fa2",
    "ada": "flashinfer",
    "hopper": "fa3",
    "blackwell": "trtllm-mha",
}
"""The library that serving and training stacks choose on an architecture; elsewhere the constants of any library."""

_SOURCES = {
    "fa2": "fa2",
    "fa3": "fa3",
    "flash_attention_3": "fa3",
    "flash_attention_2": "fa2",
    "flashinfer": "flashinfer",
    "triton": "triton",
    "trtllm_mha": "trtllm-mha",
    "trtllm-gen": "trtllm-mha",
}


def default_library(architecture: str) -> str:
    """The library a GPU of the architecture uses when none is named."""
    return BEST.get(architecture, DEFAULT)


def library_of(framework: str, kernel_source: str, architecture: str) -> str | None:
    """The library behind the `framework` and `kernel_source` columns of a table; None where it is not known.

    `flash_attention` is the FlashAttention package as the framework builds it: version 3 on Hopper, its kernels for
    older GPUs elsewhere. vLLM measures name no kernel: it uses FlashAttention 2, or 3 on Hopper.
    """
    source = kernel_source.strip().lower().replace("-", "_")
    if source in ("flash_attention", "fa") or (not source and framework.lower() == "vllm"):
        return "fa3" if architecture == "hopper" else "fa2"
    return _SOURCES.get(source) or _SOURCES.get(source.replace("_", "-"))


__all__ = ["BEST", "LIBRARIES", "default_library", "library_of"]
