"""The precision that a checkpoint is stored in, by the section `quantization_config` of its `config.json`.

Methods name it in words of their own: 'fp8' with or without blocks, 'awq' and 'gptq' with bits and a group, 'mxfp4',
'compressed-tensors' (vllm-project/llm-compressor) with groups of modules, 'modelopt' (NVIDIA) with an algorithm or the
same groups, 'bitsandbytes'. Modules that they leave alone are named, or matched by patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simgpu.documents import Document
from simgpu.errors import shown
from simgpu.model.formats import SYMMETRIC

SECTION = "quantization_config"

PARTS: Mapping[str, str] = {
    "attention": r"(self_attn|\.attn|attention)(\W*$|.*(q_a|q_b|kv|q|o|qkv)_?(a|b)?_proj)",
    "state": r"(linear_attn|mamba|mixer)(\W*$|.*(in|out)_proj(?!_(a|b|ba)\b))",
    "shared": r"shared_experts?\W*$|shared_experts?\..*proj",
    "dense": r"mlp\\?\.\(?(gate|up|gate_up|down)(\||_proj)|mlp\.(gate|up|down)_proj",
}
"""Parts of a model that a checkpoint may leave in 16 bits, each with what its modules are called."""

NARROW_EXPERTS = "experts in fp4"
"""Stands among the parts where experts are stored in MXFP4 and the rest in what the file names."""

FURTHER = "further"
"""Stands among the parts where modules that predict further tokens stay in 16 bits."""

_WHOLE = re.compile(r"(?:(^|\W)mtp(\.layers\.\d+)?|layers\.(?P<layer>\d+))\.?\*$")
"""A pattern that matches all of one layer, or all modules that predict further tokens."""

_ANYWHERE = re.compile(r"^re:|\*\.|^\*|layers\.\*")
"""A pattern that matches modules of many layers."""


_CONTAINER = re.compile(r"(self_attn|attn|attention|mamba|mixer|mlp|shared_experts?)$")
"""Modules that hold matrices. compressed-tensors compares whole names (vLLM, compressed_tensors/utils.py,
`should_ignore_layer`): one of these without a pattern leaves nothing in 16 bits, and is listed for being no matrix."""


@dataclass(frozen=True)
class Checkpoint:
    """`precision` by its name in simgpu, empty: none; `wide` parts that stay in 16 bits; `kv` type of the cache."""

    precision: str = ""
    wide: tuple[str, ...] = ()
    kv: str = ""


def checkpoint_of(document: Document, layers: int) -> Checkpoint:
    """What a `config.json` says of how its weights are stored. Raises `InputError` for what it cannot mean."""
    stored = document.data.get(SECTION)
    if stored is None:
        return Checkpoint()
    if not isinstance(stored, dict):
        raise document.error(f"{shown(stored)} is not a mapping", (SECTION,))
    method = str(stored.get("quant_method", "modelopt" if "quant_algo" in stored else "")).lower()
    precision = _precision(method, stored)
    if not precision:
        return Checkpoint()
    left = [*_texts(stored, "ignore"), *_texts(stored, "exclude_modules"), *_texts(stored, "modules_to_not_convert")]
    if method == "compressed-tensors":
        left = [one for one in left if one.startswith("re:") or not _CONTAINER.search(one)]
    wide = tuple(part for part, words in PARTS.items() if _covers(left, words, layers))
    if document.data.get("expert_dtype") == "fp4" and precision != "fp4":  # DeepSeek V4: experts alone are narrower
        wide = (*wide, NARROW_EXPERTS)
    if any(int(found["layer"] or layers) >= layers for one in left if (found := _WHOLE.search(one))):
        wide = (*wide, FURTHER)
    return Checkpoint(precision, wide, "fp8" if _narrow_cache(stored) else "")


def _precision(method: str, stored: Mapping[str, Any]) -> str:
    if method == "fp8":
        return "fp8-block" if stored.get("weight_block_size") else "fp8"
    if method in ("awq", "gptq", "gptqmodel", "auto-round", "awq_marlin", "gptq_marlin"):
        return _integers(
            stored.get("bits", stored.get("w_bit", 4)), stored.get("group_size", stored.get("q_group_size"))
        )
    if method == "mxfp4":
        return "mxfp4"
    if method == "bitsandbytes":
        return "int4-g64" if stored.get("load_in_4bit") else "w8a16"
    if method == "fbgemm_fp8":
        return "fp8"
    algorithm = str(stored.get("quant_algo", "")).upper()
    if "NVFP4" in algorithm:
        return "fp4"
    if algorithm.startswith("W4A16"):
        return _integers(4, stored.get("group_size"))
    if algorithm.startswith("FP8"):
        return "fp8-block" if "BLOCK" in algorithm else "fp8"
    return _of_groups(stored)


def _of_groups(stored: Mapping[str, Any]) -> str:
    """The precision of the first group of modules that names one."""
    groups = stored.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            continue
        bits, size = weights.get("num_bits"), weights.get("group_size")
        if weights.get("type") == "float":
            if bits == 8:
                return "fp8-block" if weights.get("strategy") == "block" else "fp8"
            return "fp4" if size in (None, 16) else "mxfp4"
        if bits == 4 and weights.get("symmetric") is True and isinstance(size, int) and 8 <= size <= 4096:
            return f"int4-g{size}{SYMMETRIC}"
        return _integers(bits, size) if bits == 4 or not group.get("input_activations") else "int8"
    return ""


def _integers(bits: Any, group: Any) -> str:
    if bits == 8:
        return "w8a16"
    size = group if isinstance(group, int) and 8 <= group <= 4096 else 128
    return "int4" if size == 128 else f"int4-g{size}"


def _texts(stored: Mapping[str, Any], key: str) -> Iterable[str]:
    value = stored.get(key)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _covers(left: Iterable[str], words: str, layers: int) -> bool:
    """True if modules that are left alone are a part of most layers."""
    found = [one for one in left if "norm" not in one and re.search(words, one)]
    return any(_ANYWHERE.search(one) for one in found) or 2 * len(found) > layers


def _narrow_cache(stored: Mapping[str, Any]) -> bool:
    scheme = stored.get("kv_cache_scheme")
    named = str(stored.get("kv_cache_quant_algo") or (scheme if isinstance(scheme, str) else "")).upper()
    return "FP8" in named or (
        isinstance(scheme, dict) and scheme.get("num_bits") == 8 and scheme.get("type") == "float"
    )
