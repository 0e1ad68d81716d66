"""Names of attention libraries: which one a table of measurements used, and which one a GPU uses by default.

The constants of `kernel: attention:` stand under these names, because libraries differ from each other by 14-29 %
(median) on the same GPU and shapes.
"""

from __future__ import annotations

from simgpu.hardware.inherit import DEFAULT

LIBRARIES = {
    "fa2": "FlashAttention 2, as in vLLM and PyTorch on GPUs before Hopper",
    "fa3": "FlashAttention 3 (wgmma, TMA, warp specialisation), Hopper",
    "fa3-sm80": "the kernels for Ampere and Ada in the FlashAttention 3 package, as SGLang calls them",
    "flash-1": "FlashAttention 1 and the Triton kernels of its time, on mma instructions of Ampere wherever they run",
    "sdpa": "scaled_dot_product_attention of PyTorch: FlashAttention 2, on mma instructions wherever they run",
    "flashinfer": "FlashInfer's FA2-style kernels with planned work, ragged prefill and paged decode",
    "triton": "the Triton kernels of SGLang",
    "ggml": "kernels of llama.cpp that are not fused",
    "trtllm": "TensorRT-LLM's own kernels: FMHA for prompts, XQA for decodes",
    "trtllm-mha": "kernels generated for TensorRT-LLM (trtllm-gen), datacentre Blackwell",
}
"""Libraries that can be named, and what they are."""

NOT_LATENT = ("trtllm",)
"""Libraries whose constants say nothing of decodes on latents, which run in kernels of their own."""

BEST = {
    "ampere": "fa3-sm80",
    "ampere-ga10x": "fa2",
    "ada": "flashinfer",
    "hopper": "fa3",
    "blackwell": "trtllm-mha",
    "blackwell-ultra": "trtllm-mha",
    "blackwell-gb20x": "flashinfer",
}
"""The library that serving stacks choose on an architecture; elsewhere the constants of no library in particular."""

_KERNELS = {
    "fa2": "fa2",
    "flash_attention_2": "fa2",
    "fa3": "fa3",
    "flash_attention_3": "fa3",
    "flashinfer": "flashinfer",
    "triton": "triton",
    "trtllm_mha": "trtllm-mha",
    "trtllm_gen": "trtllm-mha",
    "torch_flow": "trtllm",  # as tables name it
    "torch_flow_flashinfer": "flashinfer",
    "flash_attn_fa2": "fa2",
    "flash_attn_fa3": "fa3",
    "flashinfer_fiprefill": "flashinfer",
    "flashinfer_fidecode": "flashinfer",
    "flashinfer_trtllmprefill": "trtllm-mha",
    "flashinfer_trtllmdecode": "trtllm-mha",
    "triton_attn": "triton",
}
_PACKAGE = {"hopper": "fa3", "ampere": "fa3-sm80", "ada": "fa3-sm80", "ampere-ga10x": "fa3-sm80"}
_VLLM = {"hopper": "fa3", "blackwell": "trtllm-mha", "blackwell-ultra": "trtllm-mha"}


def default_library(architecture: str) -> str:
    """The library a GPU of the architecture uses when none is named."""
    return BEST.get(architecture, DEFAULT)


def library_of(framework: str, kernel_source: str, architecture: str) -> str | None:
    """The library behind the `framework` and `kernel_source` columns of a table; None where it is not known.

    SGLang's `flash_attention` is the FlashAttention 3 package, which brings kernels of its own for older GPUs. Where
    vLLM names no kernel it is FlashAttention 3 on Hopper, TensorRT-LLM's on datacentre Blackwell, else version 2.
    """
    source = kernel_source.strip().lower().replace("-", "_").removeprefix("vllm_")
    if framework.strip().lower() == "vllm" and source in ("", "flash_attention", "flash_attn"):
        return _VLLM.get(architecture, "fa2")
    if source in ("flash_attention", "fa"):
        return _PACKAGE.get(architecture)
    return _KERNELS.get(source)


__all__ = ["BEST", "LIBRARIES", "NOT_LATENT", "default_library", "library_of"]
