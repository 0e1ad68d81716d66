"""Operators of ONNX in the words of an operator list.

Names and inputs: https://onnx.ai/onnx/operators; those of the domain com.microsoft:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simgpu.errors import InputError
from simgpu.model.imported.aten import einsum_sizes
from simgpu.model.imported.convolutions import convolution
from simgpu.model.imported.fusing import fused
from simgpu.model.imported.onnx_file import first_line, load
from simgpu.model.imported.onnx_shapes import Node, Shapes
from simgpu.model.imported.pieces import Imported, Pieces, Tensor, check_known
from simgpu.model.imported.recurrent import GATES, recurrent

VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Optional", "OptionalGetElement"}
"""Operators that move nothing: in inference dropout is one."""

COPIES = {
    "Transpose", "Slice", "Expand", "Pad", "Tile", "GatherElements", "GatherND", "DepthToSpace", "SpaceToDepth",
    "Resize", "Upsample", "Trilu", "CenterCropPad", "ReverseSequence", "Cast", "CastLike", "GridSample",
}  # fmt: skip
"""Operators that move elements: as many are read as written, or those there are."""

ACTIVATIONS = {
    "Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "Gelu", "Mish", "Swish", "SwiGLU", "Sigmoid", "HardSigmoid",
    "HardSwish", "Softplus", "Softsign", "ThresholdedRelu", "Tanh", "Erf", "com.microsoft.FastGelu",
    "com.microsoft.Gelu", "com.microsoft.QuickGelu", "com.microsoft.BiasGelu",
}  # fmt: skip

POINTWISE = {
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
    "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Clip", "Concat", "Cos", "Cosh",
    "CumSum", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Equal", "Exp", "Floor", "GlobalAveragePool",
    "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "LRN", "Less", "LessOrEqual", "Log",
    "LpPool", "Max", "MaxPool", "Mean", "Min", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "Pow", "QuantizeLinear",
    "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Round", "ScatterElements", "ScatterND", "Shrink", "Sign", "Sin",
    "Sinh", "Split", "Sqrt", "Sub", "Sum", "Tan", "TopK", "Where", "Xor", "RandomNormalLike", "RandomUniformLike",
    "RandomNormal", "RandomUniform", "ConstantOfShape", "Range", "EyeLike", "com.microsoft.RotaryEmbedding",
    "TensorScatter",
}  # fmt: skip
"""Operators that read each of their tensors once and write their outputs."""

NORMS = {
    "LayerNormalization": 1, "RMSNormalization": 1, "com.microsoft.SkipLayerNormalization": 2,
    "SimplifiedLayerNormalization": 1, "com.microsoft.SimplifiedLayerNormalization": 1,
    "com.microsoft.SkipSimplifiedLayerNormalization": 2, "LpNormalization": 1, "MeanVarianceNormalization": 1,
}  # fmt: skip
"""Normalisations of rows, and the inputs before their weights."""


def read_onnx(
    file: Path, dims: Mapping[str, int] | None = None, fuse: bool = False, unknown_as_memory: bool = False
) -> Imported:
    """The operators of an ONNX file. Raises `InputError`.

    `dims` gives values of free dimensions; `fuse`: as a compiler runs it; else each operator is a kernel.
    """
    model = load(file)
    shapes = Shapes(model, file, dims or {})
    pieces = Pieces(outputs=tuple(one.name for one in model.graph.output))
    try:
        for node in shapes.nodes():
            for out, source in shapes.aliases.items():
                pieces._alias.setdefault(out, source)
            _operator(pieces, node)
    except InputError as error:
        raise error if error.file else InputError(error.problem, file=file) from None
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a damaged file can make the library and the rules for operators raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        problem = f"cannot be read: it is damaged, or an operator stands in it as simgpu does not expect ({reason})"
        raise InputError(problem, file=file) from None
    check_known(pieces.unknown, unknown_as_memory, file)
    found = fused(pieces) if fuse else pieces.found
    if not found:
        raise InputError("holds no operator that runs a kernel: views and constants alone", file=file)
    opset = ", ".join(f"{name} {version}" for name, version in shapes.opsets.items())
    producer = f", {model.producer_name} {model.producer_version}".rstrip() if model.producer_name else ""
    return Imported(
        file.stem, f"{file.name} (ONNX, opset {opset}{producer})", shapes.dtype(), shapes.inputs,
        tuple(one.entry for one in found), pieces.parameters, fuse, dict(pieces.unknown),
    )  # fmt: skip


def _operator(pieces: Pieces, node: Node) -> None:
    """Add the kernels of one operator."""
    kind = node.kind
    if not node.outputs:
        return
    if kind in VIEWS:
        _check_view(node)
        pieces.view(node.out, node.of(0))
    elif not node.out.elements:
        return
    elif kind in _RULES:
        _RULES[kind](pieces, node)
    elif kind in COPIES:
        pieces.copy(node.name, node.of(0), node.out)
    elif kind in ACTIVATIONS:
        pieces.pointwise(node.name, node.given, node.outputs, "activation")
    elif kind in POINTWISE:
        pieces.pointwise(node.name, node.given, node.outputs)
    elif kind in NORMS:
        _norm(pieces, node)
    else:
        pieces.missing(kind, node.name, node.given, node.outputs)


def _check_view(node: Node) -> None:
    """Raise `InputError` where a file fixes a shape that no longer fits: another value was given for a dimension."""
    given, made = node.of(0).elements, node.out.elements
    if given != made:
        problem = f"operator '{node.name}' ({node.kind}) makes {made:,} elements of {given:,}"
        raise InputError(f"{problem}: the file fixes this shape; a dimension it fixes cannot be changed by --dim")


def _matmul(pieces: Pieces, node: Node) -> None:
    a, b = node.of(0), node.of(1)
    if not b.shape or not a.shape:
        raise InputError(f"operator '{node.name}' (MatMul) multiplies scalars")
    pieces.product(node.name, a, b, node.out)


def _integer_matmul(pieces: Pieces, node: Node) -> None:
    at = 3 if node.kind == "QLinearMatMul" else 1
    pieces.product(node.name, node.of(0), _counted(node.of(at)), node.out, dtype="int8")


def _counted(tensor: Tensor) -> Tensor:
    """Weights in integers: parameters all the same."""
    return Tensor(tensor.name, tensor.shape, tensor.parameter)


def _gemm(pieces: Pieces, node: Node) -> None:
    a, b, (m, n) = node.of(0), node.of(1), node.out.shape[-2:]
    k = a.shape[0] if node.attributes.get("transA") else a.shape[1]
    pieces.matmul(node.name, (a, b), node.out, (m, n, k, 1), node.input(2))


def _conv(pieces: Pieces, node: Node) -> None:
    quantised = node.kind in ("ConvInteger", "QLinearConv")
    x, w = node.of(0), node.of(3 if node.kind == "QLinearConv" else 1)
    bias = None if node.kind == "ConvInteger" else node.input(8 if node.kind == "QLinearConv" else 2)
    ways = len(w.shape) - 2
    given = node.attributes
    pads = list(given.get("pads", [0] * (2 * ways)))[:ways]
    if given.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = [(size - 1) // 2 for size in w.shape[2:]]
    stride, dilation = given.get("strides", [1] * ways), given.get("dilations", [1] * ways)
    pads = [pad - (far - 1) * (size - 1) // 2 for pad, far, size in zip(pads, dilation, w.shape[2:], strict=True)]
    more = {"dtype": "int8"} if quantised else {}
    convolution(pieces, node.name, (x, _counted(w), bias, node.out), stride, pads, int(given.get("group", 1)),
                node.kind == "ConvTranspose", **more)  # fmt: skip


def _batch_norm(pieces: Pieces, node: Node) -> None:
    """In inference: a factor and a summand for each channel. Its mean and variance are no parameters."""
    pieces.pointwise(node.name, [node.of(0), *(one for one in node.inputs[1:3] if one)], node.outputs[:1])


def _norm(pieces: Pieces, node: Node) -> None:
    x, first = node.of(0), NORMS[node.kind]
    axis = node.attributes.get("axis", -1)
    width = math.prod(x.shape[axis:] if node.kind in ("LayerNormalization", "RMSNormalization") else x.shape[-1:])
    pieces.normalise(node.name, x, node.out, width, node.inputs[first:])
    if first == 2:  # the sum before it is written too
        pieces.found[-1].entry |= {"reads": 2, "writes": 2}


def _groups(pieces: Pieces, node: Node) -> None:
    x = node.of(0)
    groups = node.attributes.get("num_groups", node.attributes.get("groups", x.shape[1]))
    pieces.normalise(node.name, x, node.out, x.elements // max(x.shape[0] * groups, 1), node.inputs[1:3])


def _softmax(pieces: Pieces, node: Node) -> None:
    pieces.softmax(node.name, node.of(0), node.out, node.attributes.get("axis", -1))


def _gather(pieces: Pieces, node: Node) -> None:
    if node.attributes.get("axis", 0) == 0 and len(node.of(0).shape) > 1:
        pieces.lookup(node.name, node.of(0), node.out)
    else:
        pieces.copy(node.name, node.of(0), node.out)


def _einsum(pieces: Pieces, node: Node) -> None:
    """A product of two tensors, by the letters that they and the result share."""
    equation = node.attributes["equation"].decode().replace(" ", "")
    sizes = einsum_sizes(equation, [one.shape for one in node.given])
    if sizes is None:
        pieces.missing("Einsum", node.name, node.given, node.outputs)
    else:
        pieces.matmul(node.name, (node.of(0), node.of(1)), node.out, sizes)


def attention_entry(name: str, sizes: Sequence[int], causal: bool) -> dict[str, Any]:
    """An attention of the sizes batch, queries, keys, heads, heads of keys, width."""
    batch, queries, keys, heads, kv_heads, width = sizes
    entry = {"op": "attention", "name": name, "batch": batch, "queries": queries, "keys": keys, "heads": heads}
    entry |= {"kv_heads": kv_heads} if kv_heads != heads else {}
    return entry | {"head_dim": width, "causal": bool(causal) and keys >= queries}


def _attention(pieces: Pieces, node: Node) -> None:
    """Attention of ONNX 23, and MultiHeadAttention and GroupQueryAttention of ONNX Runtime."""
    q, k, given = node.of(0), node.input(1), node.attributes
    heads = given.get("q_num_heads", given.get("num_heads", 0))
    kv_heads = given.get("kv_num_heads", heads)
    causal = bool(given.get("is_causal", given.get("unidirectional", node.kind.endswith("GroupQueryAttention"))))
    if k is None or len(q.shape) not in (3, 4) or len(k.shape) != len(q.shape):
        pieces.missing(node.kind, node.name, node.given, node.outputs)
        return
    if len(q.shape) == 4:
        (batch, heads, queries, width), (kv_heads, keys) = q.shape, k.shape[1:3]
    else:
        batch, queries, wide = q.shape
        keys, width = k.shape[1], wide // max(heads, 1)
    past = next((one for one in node.inputs[3:] if one is not None and len(one.shape) == 4
                 and one.shape[-1] == width and one.shape[1] == kv_heads), None)  # fmt: skip
    keys += past.shape[2] if past is not None else 0
    entry = attention_entry(node.name, (batch, queries, keys, heads, kv_heads, width), causal)
    pieces.add(entry, node.given, node.outputs)


def _quantised_matmul(pieces: Pieces, node: Node) -> None:
    """MatMulNBits of ONNX Runtime: weights in a few bits; they count as the numbers they stand for."""
    n, k = node.attributes["N"], node.attributes["K"]
    table = Tensor(node.of(1).name, (k, n), True)
    pieces.product(node.name, node.of(0), table, node.out)


_RULES: dict[str, Callable[[Pieces, Node], None]] = {
    "MatMul": _matmul, "com.microsoft.FusedMatMul": _matmul, "MatMulInteger": _integer_matmul,
    "QLinearMatMul": _integer_matmul, "Gemm": _gemm, "Conv": _conv, "ConvTranspose": _conv, "ConvInteger": _conv,
    "QLinearConv": _conv, "BatchNormalization": _batch_norm, "InstanceNormalization": _groups,
    "GroupNormalization": _groups, "com.microsoft.GroupNorm": _groups, "Softmax": _softmax, "LogSoftmax": _softmax,
    "Hardmax": _softmax, "Gather": _gather, "Einsum": _einsum, "Attention": _attention,
    "com.microsoft.MultiHeadAttention": _attention, "com.microsoft.GroupQueryAttention": _attention,
    "com.microsoft.MatMulNBits": _quantised_matmul, **dict.fromkeys(GATES, recurrent),
    "RotaryEmbedding": lambda pieces, node: pieces.pointwise(
        node.name, node.given, node.outputs, "rope"
    ),
}  # fmt: skip
