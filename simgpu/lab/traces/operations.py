"""From an operator as a trace writes it, its input shapes, types and arguments, to operators that are timed."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from simgpu.errors import InputError
from simgpu.lab.traces.records import Record
from simgpu.memo import remembered
from simgpu.model.convolution import DATA, WEIGHTS, Convolution
from simgpu.model.imported.aten import (
    ACTIVATIONS,
    CAUSAL_AT,
    NOTHING,
    POINTWISE,
    RULES,
    VIEWS,
    Call,
    add_call,
    base_name,
)
from simgpu.model.imported.pieces import Pieces, Shape, Tensor
from simgpu.model.operators import ACCUMULATE, Attention, Kernel
from simgpu.workload.listed import Listed

TYPES = {
    "float": "fp32", "c10::half": "fp16", "c10::bfloat16": "bf16", "double": "fp64", "c10::float8_e4m3fn": "fp8",
    "c10::float8_e5m2": "fp8", "c10::float8_e4m3fnuz": "fp8", "c10::float8_e5m2fnuz": "fp8", "long int": "fp64",
    "long": "fp64", "int": "fp32", "short": "fp16", "bool": "int8", "unsigned char": "int8", "signed char": "int8",
    "half": "fp16", "bfloat16": "bf16", "tensor(float)": "fp32", "tensor(c10::half)": "fp16",
    "tensor(c10::bfloat16)": "bf16", "tensor(long int)": "fp64",
}  # fmt: skip
"""Types of elements; whole numbers count by their width."""

MARKS = {
    "fp8": ("e4m3", "e5m2"), "bf16": ("bfloat16", "bf16"), "fp16": ("half", "fp16", "f16"),
    "tf32": ("tf32", "s1688", "tensorop_s", "xf32"),
}  # fmt: skip
"""Types by what stands in the names of kernels of cuBLAS, CUTLASS, flash attention and ATen."""

DAMAGED = (InputError, ValueError, LookupError, TypeError, ArithmeticError)
"""What shapes and arguments that do not fit together raise: they are whatever a file says."""

CALLED = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "_scaled_mm"}
"""Products that are one call of a library."""
PRODUCTS = {"linear", "matmul", "einsum", *CALLED}
COPIES = {"copy", "clone", "contiguous", "to", "_to_copy", "reshape", "flatten", "type_as"}

BACKWARD = {
    "convolution_backward", "_scaled_dot_product_flash_attention_backward", "_flash_attention_backward",
    "_flash_attn_backward",
    "_scaled_dot_product_efficient_attention_backward", "_scaled_dot_product_cudnn_attention_backward",
}  # fmt: skip
"""Gradients that are timed as a whole."""

FLASH = {"_flash_attention_forward", "_flash_attn_forward"}
"""Flash attention as it is called itself: by ATen, and by the package (flash_attn/flash_attn_interface.py)."""
HEADS_THIRD = FLASH | {"_flash_attention_backward", "_flash_attn_backward"}
"""Attention whose tensors are [sequences, tokens, heads, width]; elsewhere heads are second."""

REDUCED = {"sum", "mean", "max", "min", "amax", "amin", "prod", "var", "std", "norm", "argmax", "argmin", "any", "all",
           "var_mean", "logsumexp", "linalg_vector_norm", "count_nonzero", "mse_loss", "nll_loss_forward"}  # fmt: skip


def is_whole(name: str, math_attention: bool = False) -> bool:
    """True if all kernels below an operator count for it: attention, convolutions, norms and their gradients."""
    kind = base_name(name)
    if math_attention and kind in CAUSAL_AT:
        return False
    return (kind in RULES and kind not in PRODUCTS) or kind in BACKWARD | FLASH


def is_known(name: str) -> bool:
    """True if an operator can be timed."""
    kind = base_name(name)
    return (
        kind in RULES
        or kind in FLASH
        or kind in POINTWISE
        or kind in ACTIVATIONS
        or kind in COPIES
        or name.startswith("triton_")
    )


def is_product(name: str) -> bool:
    """True for a product that is one call of a library."""
    return base_name(name) in CALLED


def runs_alone(name: str) -> bool:
    """True if an operator that is timed runs a kernel even where it calls no other that does."""
    return (is_known(name) or is_whole(name)) and base_name(name) not in COPIES - {"copy"}


def operators_of(record: Record) -> list[Kernel]:
    """The operators that a record is timed as; none where it is not known or says no shapes.

    Raises `InputError` where its shapes do not fit together.
    """
    if record.op is not None:
        return [record.op]
    name, kind = record.name, base_name(record.name)
    dtype = dtype_of(record)
    tensors, values = list(_tensors(record.shapes, record.types)), [_value(one) for one in record.values]
    if not any(one is not None or isinstance(shape, list) for one, shape in zip(tensors, record.shapes, strict=True)):
        return []
    if kind in FLASH:
        found = _attention(name, [None, *tensors], values)
        return [_built(found, dtype)] if found is not None else []
    if kind in BACKWARD:
        return _backward(kind, name, tensors, values, dtype)
    lists = [_list(shape) for shape in record.shapes]
    values = [many or value for many, value in zip(lists, values + [None] * len(lists), strict=False)]
    given = [one for one in tensors if one is not None] + [one for many in lists for one in many]
    if not given or (not is_known(name) and kind not in NOTHING and kind not in VIEWS):
        return []
    pieces = Pieces()
    if name.startswith("triton_"):
        pieces.pointwise(name, given, given[-1:])
        entries = [piece.entry | {"writes": 0.0} for piece in pieces.found]
    else:
        outputs = _outputs(kind, tensors, values, given)
        reads = _without_written(kind, tensors)
        add_call(pieces, Call(name, name, reads, values, outputs))
        entries = [piece.entry for piece in pieces.found]
    return [_built(entry, dtype) for entry in entries]


def dtype_of(record: Record) -> str:
    """The type of an operator's largest input. Products in fp32 that ran in TF32 say so in the names of kernels."""
    sizes = [(math.prod(shape) if _is_shape(shape) else 0, str(kind)) for shape, kind in
             zip(record.shapes, record.types, strict=False)]  # fmt: skip
    nested = [(math.prod(one), str(kind[0] if isinstance(kind, list) and kind else kind)) for shape, kind in
              zip(record.shapes, record.types, strict=False) for one in _shapes(shape)]  # fmt: skip
    known = [(size, TYPES[kind.lower()]) for size, kind in (*sizes, *nested) if kind.lower() in TYPES and size]
    names = " ".join(record.kernels).lower()
    if not known:
        return next((dtype for dtype, marks in MARKS.items() if any(mark in names for mark in marks)), "fp32")
    dtype = max(known, key=lambda one: one[0])[1]
    if dtype == "fp32" and base_name(record.name) in RULES and any(mark in names for mark in MARKS["tf32"]):
        return "tf32"
    return dtype


def _built(entry: dict[str, Any], dtype: str) -> Kernel:
    kernel: Kernel = _adapter().validate_python(entry).build(str(entry["name"]), dtype, ACCUMULATE[dtype])
    return kernel


@remembered(1)
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Listed)


def _tensors(shapes: Sequence[Any], types: Sequence[Any]) -> Iterator[Tensor | None]:
    """Tensors by position; scalars and lists are None. A scalar tensor is one of shape [] with a type of elements."""
    for i, shape in enumerate(shapes):
        kind = str(types[i]).lower() if i < len(types) else ""
        is_tensor = _is_shape(shape) and (bool(shape) or kind in TYPES)
        yield Tensor(f"t{i}", tuple(shape), False) if is_tensor else None


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(isinstance(size, int) and 0 <= size < 1 << 48 for size in shape)


def _shapes(shape: Any) -> list[list[int]]:
    """The shapes of a list of tensors."""
    nested = isinstance(shape, list) and bool(shape) and all(isinstance(one, list) for one in shape)
    return [one for one in shape if _is_shape(one)] if nested else []


def _list(shape: Any) -> list[Tensor]:
    return [Tensor(f"l{i}", tuple(one), False) for i, one in enumerate(_shapes(shape))]


def _value(text: Any) -> Any:
    """An argument that the profiler wrote as text: '[2, 2]', 'True', '0.'; None for tensors and what is left out."""
    if not isinstance(text, str) or len(text) > 1000:
        return None if isinstance(text, str) else text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text or None


# ---- outputs ---------------------------------------------------------------------------------------------


def _outputs(
    kind: str, tensors: Sequence[Tensor | None], values: Sequence[Any], given: Sequence[Tensor]
) -> list[Tensor]:
    """The output of an operator, which a trace does not say."""
    shape = _shape(kind, tensors, values, given)
    return [Tensor("out", shape)] if shape is not None else []


def _shape(kind: str, tensors: Sequence[Tensor | None], values: Sequence[Any], given: Sequence[Tensor]) -> Shape | None:
    first = next((one for one in tensors if one is not None), given[0])
    if kind in PRODUCTS:
        return _of_product(kind, [one for one in tensors if one is not None], given)
    if kind.startswith("conv") or kind == "_convolution":
        return _of_convolution(kind, tensors, values)
    if kind == "embedding":
        return (*given[1].shape, *given[0].shape[1:]) if len(given) > 1 else None
    if kind in ("cat", "concat", "stack"):
        return (sum(one.elements for one in given),)
    if kind in REDUCED:
        return _reduced(first.shape, values[1] if len(values) > 1 else None)
    if kind in ("index", "index_select", "gather", "embedding_dense_backward"):
        return given[-1].shape if len(given) > 1 else first.shape
    if kind in RULES or kind in COPIES:
        return first.shape
    return _broadcast([one.shape for one in given])


def _of_product(kind: str, tensors: Sequence[Tensor], given: Sequence[Tensor]) -> Shape | None:
    if kind == "einsum":
        return given[0].shape[:-1] + given[-1].shape[-1:]
    at = 1 if kind in ("addmm", "baddbmm", "addmv") else 0
    if len(tensors) < at + 2:
        return None
    a, b = tensors[at].shape, tensors[at + 1].shape
    if not a or not b:
        return None
    if kind == "linear":
        return (*a[:-1], b[0]) if len(b) > 1 else a[:-1]
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        raise InputError(f"{kind} of {list(a)} and {list(b)} does not fit together")
    batch = _broadcast([a[:-2], b[:-2]]) if len(a) > 1 and len(b) > 1 else a[:-2]
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


def _of_convolution(kind: str, tensors: Sequence[Tensor | None], values: Sequence[Any]) -> Shape | None:
    if len(tensors) < 2 or tensors[0] is None or tensors[1] is None:
        return None
    x, w, turned = tensors[0].shape, tensors[1].shape, kind.startswith("conv_transpose")
    if kind in ("convolution", "_convolution"):
        turned = bool(values[6]) if len(values) > 6 else False
    ways = len(w) - 2
    if ways < 1 or len(x) != len(w):
        return None
    stride, pad, far = (_each(values, i, plain, ways) for i, plain in zip((3, 4, 5), (1, 0, 1), strict=True))
    if turned:
        far = _each(values, 5 if "convolution" in kind else 7, 1, ways)
        sizes = [(size - 1) * s - 2 * p + d * (k - 1) + 1
                 for size, s, p, d, k in zip(x[2:], stride, pad, far, w[2:], strict=True)]  # fmt: skip
        groups = values[8] if "convolution" in kind and len(values) > 8 else 1
        return (x[0], w[1] * int(groups or 1), *sizes)
    sizes = [(size + 2 * p - d * (k - 1) - 1) // s + 1
             for size, s, p, d, k in zip(x[2:], stride, pad, far, w[2:], strict=True)]  # fmt: skip
    return (x[0], w[0], *sizes)


def _each(values: Sequence[Any], at: int, plain: int, ways: int) -> list[int]:
    given = values[at] if at < len(values) else None
    if isinstance(given, int) and not isinstance(given, bool):
        return [given] * ways
    if not isinstance(given, (list, tuple)) or len(given) != ways:
        return [plain] * ways
    return [int(one) for one in given]


def _reduced(shape: Shape, axes: Any) -> Shape:
    """A shape without the axes that are summed over; all of them where none are said."""
    axes = [axes] if isinstance(axes, int) and not isinstance(axes, bool) else axes
    if not isinstance(axes, (list, tuple)) or not axes or not shape or not all(isinstance(one, int) for one in axes):
        return (1,)
    gone = {one % len(shape) for one in axes}
    return tuple(size for i, size in enumerate(shape) if i not in gone) or (1,)


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape that all fit into; the largest where they do not."""
    most = max((len(shape) for shape in shapes), default=0)
    result = []
    for sizes in zip(*((1,) * (most - len(shape)) + shape for shape in shapes), strict=True):
        wide = max(sizes)
        if any(size not in (1, wide) for size in sizes):
            return max(shapes, key=math.prod)
        result.append(0 if 0 in sizes else wide)
    return tuple(result)


def _without_written(kind: str, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Inputs that are read: a copy and a fill do not read what they write."""
    written = kind in ("copy", "fill", "zero") and tensors and tensors[0] is not None
    return [None, *tensors[1:]] if written else list(tensors)


# ---- gradients -------------------------------------------------------------------------------------------


def _backward(
    kind: str, name: str, tensors: Sequence[Tensor | None], values: Sequence[Any], dtype: str
) -> list[Kernel]:
    """Gradients of convolutions, by input and weights; of attention, 2.5 passes."""
    forward, rule = (
        (_attention, _of_attention) if "attention" in kind or kind in HEADS_THIRD else (_convolution, _of_conv)
    )
    found = forward(name, tensors, values)
    return rule(_built(found, dtype), values) if found is not None else []


def _convolution(name: str, tensors: Sequence[Tensor | None], values: Sequence[Any]) -> dict[str, Any] | None:
    """The convolution whose gradients are taken: grad, input, weights, sizes of the bias, stride, padding ..."""
    if len(tensors) < 3 or None in tensors[:3] or (len(values) > 7 and values[7]):
        return None
    grad, x, w = tensors[0], tensors[1], tensors[2]
    arguments = [None, None, None, *values[4:10]]
    pieces = Pieces()
    call = Call(name, "aten::convolution", [x, w, None], arguments, [grad] if grad else [])
    add_call(pieces, call)
    return pieces.found[0].entry if pieces.found else None


def _of_conv(op: Kernel, values: Sequence[Any]) -> list[Kernel]:
    assert isinstance(op, Convolution)
    mask = values[10] if len(values) > 10 and isinstance(values[10], list) else [True, True, False]
    wanted = [made for made, asked in zip((DATA, WEIGHTS), mask, strict=False) if asked]
    return [replace(op, made=made, bias=False) for made in wanted]


def _attention(name: str, tensors: Sequence[Tensor | None], values: Sequence[Any]) -> dict[str, Any] | None:
    """The attention of queries, keys, values, which stand behind what its gradients are taken of."""
    given = [one for one in tensors[1:4] if one is not None]
    if base_name(name) in HEADS_THIRD:
        given = [_heads_second(one) for one in given if len(one.shape) == 4]
    if len(given) < 3:
        return None
    pieces = Pieces()
    add_call(pieces, Call(name, "aten::scaled_dot_product_attention", given, [], given[:1]))
    causal = next((one for one in values if isinstance(one, bool)), False)
    return pieces.found[0].entry | {"causal": causal}


def _heads_second(tensor: Tensor) -> Tensor:
    sequences, tokens, heads, width = tensor.shape
    return replace(tensor, shape=(sequences, heads, tokens, width))


def _of_attention(op: Kernel, _: Sequence[Any]) -> list[Kernel]:
    assert isinstance(op, Attention)
    return [replace(op, passes=2.5)]
