"""Precisions of inference: the formats of weights, the types of products, and the tensors that stay wide.

A precision names the format of the matrices in the layers, those that differ, and the type that activations are
brought to for the products (none: weights are converted to the type of the activations, 'weight-only'). Embeddings,
norms, routers and mostly the head stay unquantised, as checkpoints have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from simgpu.errors import InputError, nearest, shown
from simgpu.memo import remembered
from simgpu.model.config import TransformerConfig
from simgpu.model.formats import GGUF, SYMMETRIC, format_of, int4
from simgpu.model.operators import (
    ACCUMULATE,
    BYTES,
    Attention,
    Embedding,
    ExpertLayer,
    Kernel,
    Matmul,
    Operator,
    Pointwise,
)
from simgpu.model.quantised import NARROW_EXPERTS

WIDE_MATRICES = ("router", "q_absorb", "v_absorb")
"""Products that no precision narrows: few weights, or made of those of another."""


PARTS: Mapping[str, tuple[str, ...]] = {
    "attention": ("qkv", "q", "k", "v", "q_down", "q_up", "kv_down", "kv_up", "attention_out", "head_gate",
                  "output_gate", "index_q", "index_k"),
    "state": ("state_in", "state_out", "steps_in", "steps", "factors_in", "factors", "gate_in", "gate"),
    "shared": ("shared_up", "shared_gate", "shared_down"),
    "dense": ("ffn_up", "ffn_gate", "ffn_down"),
}  # fmt: skip
"""Matrices of the parts that a checkpoint may leave in 16 bits (`simgpu.model.quantised`)."""


@dataclass(frozen=True)
class Precision:
    """The types that the weights of a model are stored and multiplied in.

    weights
        Format of the matrices of layers (`simgpu.model.formats`); empty: the type of the activations.
    products
        Type of both operands of their products; empty: that of the activations, weights are converted on the way.
    head, embedding
        Formats of the output matrix and of the table of tokens; empty: the type of the activations.
    special, boosted
        Formats of other tensors by name; those of layers that llama.cpp gives more bits (`more_bits`).
    experts_only
        Only the experts are narrow (gpt-oss).
    wide
        Matrices that stay as activations are, besides.
    library
        Of products, where it is not that of their type.
    """

    name: str
    title: str
    source: str
    weights: str = ""
    products: str = ""
    head: str = ""
    embedding: str = ""
    special: Mapping[str, str] = field(default_factory=dict)
    boosted: Mapping[str, str] = field(default_factory=dict)
    experts_only: bool = False
    wide: tuple[str, ...] = ()
    library: str = ""
    norms: float = 2.0  # bytes of a parameter of norms and biases
    converted: bool = False  # narrow types that the GPU lacks: weights are converted on the way

    def __hash__(self) -> int:
        return hash((self.name, self.weights, self.products, self.converted))

    @property
    def weight_only(self) -> bool:
        """True if narrow weights are converted to the type of the activations."""
        return bool(self.weights) and not self.products

    def stored(self, name: str, more: bool = False) -> str:
        """Format of a matrix by the name of its operator; empty: the type of the activations."""
        if name in WIDE_MATRICES or name in self.wide or (self.experts_only and name not in ("experts", "lm_head")):
            return ""
        if name == "lm_head":
            return self.head
        boosted = self.boosted.get(name) if more else None
        return boosted or self.special.get(name) or self.weights


def _gguf(name: str, title: str, weights: str, head: str, **more: object) -> Precision:
    source = "ggml-org/llama.cpp, src/llama-quant.cpp (llama_tensor_get_type), ggml/src/ggml-common.h (blocks)"
    return Precision(name, title, source, weights, "", head, weights, norms=4.0, **more)  # type: ignore[arg-type]


_SAFETENSORS = "checkpoints of vllm-project/llm-compressor and NVIDIA ModelOpt: embeddings, norms and head are ignored"

PRECISIONS: dict[str, Precision] = {
    one.name: one
    for one in (
        Precision("fp32", "32-bit floats", "plain", norms=4.0),
        Precision("tf32", "32-bit floats, products in tf32", "plain", norms=4.0),
        Precision("fp16", "16-bit floats", "plain"),
        Precision("bf16", "16-bit brain floats", "plain"),
        Precision("fp8", "FP8 weights and activations, a scale for each row", _SAFETENSORS, "fp8", "fp8"),
        Precision(
            "fp8-block", "FP8 in blocks of 128 (DeepSeek)", "DeepSeek-V3 technical report, section 3.3.2", "fp8-block",
            "fp8", library="fp8-block",
        ),
        Precision("int8", "INT8 weights and activations (W8A8)", _SAFETENSORS, "int8", "int8"),
        Precision("w8a16", "INT8 weights only", _SAFETENSORS, "int8"),
        Precision("int4", "INT4 weights only, groups of 128 (AWQ, GPTQ)", "casper-hansen/AutoAWQ, awq/modules", "int4"),
        Precision("fp4", "NVFP4 weights and activations (Blackwell)", _SAFETENSORS, "fp4", "fp4"),
        Precision(
            "mxfp4", "MXFP4 experts, all else in 16 bits (gpt-oss)", "OpenAI, gpt-oss model card, section 2.1", "mxfp4",
            experts_only=True,
        ),
        _gguf("q8_0", "GGUF Q8_0", "q8_0", "q8_0"),
        _gguf("q6_k", "GGUF Q6_K", "q6_k", "q6_k"),
        _gguf("q5_k_m", "GGUF Q5_K_M", "q5_k", "q6_k", boosted={"v": "q6_k", "ffn_down": "q6_k"}),
        _gguf("q4_k_m", "GGUF Q4_K_M", "q4_k", "q6_k", boosted={"v": "q6_k", "ffn_down": "q6_k"}),
        _gguf("q4_0", "GGUF Q4_0", "q4_0", "q6_k"),
        _gguf("q3_k_m", "GGUF Q3_K_M", "q3_k", "q6_k",
              special={"v": "q4_k", "attention_out": "q4_k", "ffn_down": "q4_k"}),
        _gguf("q2_k", "GGUF Q2_K", "q2_k", "q6_k", special={"v": "q4_k", "attention_out": "q3_k", "ffn_down": "q3_k"}),
    )
}  # fmt: skip
"""Precisions by name. Any `int4-gN` has groups of N."""

GGUF_MXFP4 = _gguf("mxfp4", "GGUF MXFP4: experts, all else in Q8_0", "q8_0", "q8_0", special={"experts": "mxfp4"})
"""The precision `mxfp4` in a GGUF file (LLAMA_FTYPE_MOSTLY_MXFP4_MOE)."""

FEW_EXPERTS = 8
"""Experts of a layer with which llama.cpp keeps keys and values in 8 bits (Mixtral)."""

LARGE_GROUPS = 8
"""Heads that share a KV head from which llama.cpp takes 5 bits for values (its 70B models)."""


def precision_of(name: str, key: str = "workload.precision") -> Precision:
    """A precision by name. Raises `InputError` at `key`."""
    text = str(name)
    if text.startswith("int4-g"):
        group = text.removeprefix("int4-g").removesuffix(SYMMETRIC)
        if not group.isdigit() or not 8 <= int(group) <= 4096:
            raise InputError(f"{shown(name)}: groups have 8 to 4096 weights, such as int4-g128", key=key)
        return replace(PRECISIONS["int4"], name=text, weights=int4(int(group), text.endswith(SYMMETRIC)).name)
    if text not in PRECISIONS:
        raise InputError(f"unknown precision {shown(name)}{nearest(text, PRECISIONS)}", key=key)
    return PRECISIONS[text]


def as_published(precision: Precision, config: TransformerConfig) -> Precision:
    """`precision` with what the checkpoint of a model leaves in 16 bits, where it is the precision that has."""
    if precision.name != config.published or not config.published_wide or is_gguf(precision):
        return precision
    wide = tuple(name for part in config.published_wide.split(",") for name in PARTS.get(part, ()))
    special = (
        {**precision.special, "experts": "mxfp4"} if NARROW_EXPERTS in config.published_wide else precision.special
    )
    return replace(precision, wide=wide, special=special)


def more_bits(layer: int, layers: int) -> bool:
    """True if llama.cpp gives a layer's values and second feed-forward matrix more bits (use_more_bits)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def is_boosted(precision: Precision, layer: int, layers: int) -> bool:
    """True if a layer has the formats of `boosted`."""
    return bool(precision.boosted) and more_bits(layer, layers)


def applied(
    operators: Iterable[Operator], precision: Precision, config: TransformerConfig, more: bool = False
) -> tuple[Operator, ...]:
    """`operators` with the formats of their weights and the types of their products."""
    return tuple(_applied(op, precision, config, more) for op in operators)


def _applied(op: Operator, precision: Precision, config: TransformerConfig, more: bool) -> Operator:
    if isinstance(op, (Matmul, ExpertLayer)) and (not isinstance(op, Matmul) or op.weight or op.name == "lm_head"):
        stored = _format(op.name, precision, config, more)
        if not stored or stored == op.dtype:
            return op
        if precision.products and not precision.converted:
            if precision.products == "int8" and isinstance(op, Matmul):  # whatever other products sum in
                return replace(op, dtype="int8", accumulate=ACCUMULATE["int8"])
            return replace(op, dtype=precision.products)
        return replace(op, stored=stored)
    return op


def _format(name: str, precision: Precision, config: TransformerConfig, more: bool) -> str:
    stored = precision.stored(name, more)
    if not is_gguf(precision):
        return stored
    if name in ("k", "v") and config.experts == FEW_EXPERTS:
        return "q8_0"
    if name == "v" and stored == "q4_k" and config.heads // config.kv_heads >= LARGE_GROUPS:
        return "q5_k"
    if (
        name == "experts" and "experts" not in precision.special
    ):  # the second matrix has more bits where that of a dense layer has
        down = precision.stored("ffn_down", more)
        return stored if down == stored else "+".join([stored] * (2 if config.gated else 1) + [down])
    return stored


def bytes_of(op: Kernel, precision: Precision, config: TransformerConfig, dtype: str, more: bool = False) -> float:
    """Bytes of the weights that an operator holds."""
    wide = BYTES[dtype]
    if isinstance(op, (Matmul, ExpertLayer)):
        stored = _format(op.name, precision, config, more)
        each = format_of(stored).bytes if stored else wide
        if isinstance(op, Matmul):
            biases = op.batch * op.n_size * op.bias
            return (op.weights - biases) * each + biases * min(precision.norms, wide if not stored else precision.norms)
        return op.weights * each
    if isinstance(op, Embedding):
        return op.weights * (format_of(precision.embedding).bytes if precision.embedding else wide)
    return op.weights * precision.norms if isinstance(op, (Pointwise, Attention)) else 0.0


@remembered(256)
def is_gguf(precision: Precision) -> bool:
    """True if a precision is one of llama.cpp's block formats."""
    return precision.weights in GGUF


__all__ = [
    "GGUF_MXFP4", "PRECISIONS", "Precision", "applied", "as_published", "bytes_of", "is_boosted", "is_gguf",
    "more_bits", "precision_of",
]  # fmt: skip
