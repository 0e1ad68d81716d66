"""Names of libraries of experts: grouped products of a mixture-of-experts layer, by kernel and type.

The constants of `kernel: moe:` stand under these names. A layer takes twice as long in one library as in another, above
all with few tokens (`docs/validation.md`), and an engine chooses by type and architecture (`experts` of its file).
"""

from __future__ import annotations

from simgpu.hardware.inherit import DEFAULT

LIBRARIES = {
    "cutlass-fp8": "CUTLASS grouped products in fp8 (TensorRT-LLM)",
    "cutlass-fp4": "CUTLASS grouped products in NVFP4 (TensorRT-LLM)",
    "cutlass-block": "CUTLASS grouped products in fp8 with scales of blocks (FlashInfer, as vLLM calls it)",
    "deepgemm": "grouped products in fp8 with scales of blocks: DeepGEMM, or CUTLASS of TensorRT-LLM on Hopper",
    "triton": "fused_moe in Triton (vLLM, SGLang) in 16 bits",
    "triton-fp8": "the same in fp8, one scale for an expert",
    "triton-block": "the same in fp8 with scales of blocks",
    "triton-mxfp4": "the same of MXFP4 weights, converted in the kernel (SGLang)",
    "oai-triton-mxfp4": "OpenAI's Triton kernels of MXFP4 weights, converted in the kernel (vLLM on Hopper)",
    "trtllm-mxfp4": "TensorRT-LLM's kernels of MXFP4 weights, converted in the kernel",
    "marlin-int4": "Marlin on 4-bit integers, converted in the kernel",
    "marlin-mxfp4": "Marlin on MXFP4 weights, converted in the kernel",
    "trtllm-gen": "kernels generated for TensorRT-LLM (trtllm-gen, in FlashInfer), datacentre Blackwell, in 16 bits",
    "trtllm-gen-fp8": "the same in fp8, one scale for an expert",
    "trtllm-gen-block": "the same in fp8 with scales of blocks",
    "trtllm-gen-fp4": "the same in NVFP4",
    "trtllm-gen-int4": "the same of 4-bit integers, converted in the kernel",
    "trtllm-gen-mxfp4": "the same of MXFP4 weights, converted in the kernel",
    "trtllm-gen-mxfp8": "the same of MXFP4 weights and MXFP8 activations",
}
"""Libraries that can be named, and what they are; the default is CUTLASS in 16 bits."""

_WIDER = {"trtllm-gen-mxfp8": "fp8"}


def multiplied_in(library: str, dtype: str) -> str:
    """The type that a library multiplies in, where activations are of a type and weights may be stored narrower."""
    return _WIDER.get(library, dtype)


_FAMILIES = (
    ("deepgemm", "deepgemm"),
    ("flashinfer_trtllm", "trtllm-gen"),
    ("marlin", "marlin"),
    ("oaitriton", "oai-triton"),
    ("triton", "triton"),
    ("fused_moe", "triton"),
    ("cutlass", "cutlass"),
    ("nongated", "cutlass"),
    ("torch_flow", "trtllm"),
)
"""Families of kernels by what their names in tables hold; the first counts."""

_TYPES = {
    "bfloat16": "",
    "fp8": "-fp8",
    "fp8_block": "-block",
    "nvfp4": "-fp4",
    "int4_wo": "-int4",
    "w4a16_mxfp4": "-mxfp4",
    "w4a8_mxfp4_mxfp8": "-mxfp8",
}


def library_of(engine: str, kernel: str, dtype: str) -> str | None:
    """The library behind the engine, kernel and data type of a row of a table; None where it is not known.

    TensorRT-LLM's rows in fp8 with scales of blocks are those that `deepgemm` was fitted on, whatever they are named.
    """
    name = kernel.strip().lower()
    family = next((family for part, family in _FAMILIES if part in name), "")
    if engine.strip().lower() == "trtllm" and dtype == "fp8_block":
        return "deepgemm"
    found = f"{family}{_TYPES.get(dtype, '?')}" if family else ""
    if found == "cutlass":
        return DEFAULT
    return found if found in LIBRARIES else None


__all__ = ["LIBRARIES", "library_of", "multiplied_in"]
