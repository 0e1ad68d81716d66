"""How weights are stored: bits of one weight, scales and zero points included.

A weight that is stored in fewer bits than it is multiplied in is converted on the way; what that costs is the concern
of `simgpu.timing`. GGUF types hold blocks of 32 or 256 weights (ggml-org/llama.cpp, ggml/src/ggml-common.h: bytes of a
block). AWQ and GPTQ keep a 16-bit scale and a 4-bit zero point for each group of weights along the input (casper-hansen
AutoAWQ, awq/modules/linear/gemm.py). NVFP4 has an 8-bit scale for 16 weights, MXFP4 for 32 (OCP Microscaling v1.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

GROUP = 128
"""Weights of a group with one scale, in AWQ and GPTQ unless said otherwise."""


@dataclass(frozen=True)
class Format:
    """A way to store weights. `bits` of one weight; `block` weights share scales."""

    name: str
    bits: float
    block: int = 1

    @property
    def bytes(self) -> float:
        """Bytes of one weight."""
        return self.bits / 8


def _gguf(name: str, block_bytes: int, block: int) -> Format:
    return Format(name, 8 * block_bytes / block, block)


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("fp32", 32),
        Format("tf32", 32),
        Format("fp64", 64),
        Format("fp16", 16),
        Format("bf16", 16),
        Format("fp8", 8),
        Format("fp8-block", 8 + 32 / 128**2, 128),  # an fp32 scale for each 128 x 128 (DeepSeek-V3, section 3.3.2)
        Format("int8", 8),
        Format("fp4", 4 + 8 / 16, 16),
        Format("mxfp4", 4 + 8 / 32, 32),
        _gguf("q8_0", 34, 32),
        _gguf("q6_k", 210, 256),
        _gguf("q5_k", 176, 256),
        _gguf("q5_0", 22, 32),
        _gguf("q4_k", 144, 256),
        _gguf("q4_0", 18, 32),
        _gguf("q3_k", 110, 256),
        _gguf("q2_k", 84, 256),
    )
}
"""Formats by name. `int4` comes with its group: see `int4`."""

GGUF = frozenset(name for name in FORMATS if name[0] == "q")
"""Block formats of llama.cpp."""


SYMMETRIC = "-sym"
"""Ends the name of integers that are symmetric about zero: groups have a scale but no zero point."""


def int4(group: int = GROUP, symmetric: bool = False) -> Format:
    """4-bit integers with a 16-bit scale and a 4-bit zero point for each `group` weights (AWQ, GPTQ).

    Where they are `symmetric` there is no zero point (compressed-tensors, 'pack-quantized').
    """
    if symmetric:
        return Format(f"int4-g{group}{SYMMETRIC}", 4 + 16 / group, group)
    return Format("int4" if group == GROUP else f"int4-g{group}", 4 + (16 + 4) / group, group)


FORMATS["int4"] = int4()


def format_of(name: str) -> Format:
    """A format by name; 'int4-g32' has groups of 32, 'q4_k+q6_k' is as much of one as of the other."""
    if "+" in name:
        return Format(name, fmean(format_of(part).bits for part in name.split("+")))
    if name.startswith("int4-g"):
        return int4(int(name.removeprefix("int4-g").removesuffix(SYMMETRIC)), name.endswith(SYMMETRIC))
    return FORMATS[name]
