"""Operators of PyTorch (ATen) in the words of an operator list: those of exported modules and of profiler traces.

Names and arguments: https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/native_functions.yaml.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.errors import InputError
from simgpu.model.imported.convolutions import convolution
from simgpu.model.imported.pieces import Entry, Pieces, Shape, Tensor

VIEWS = {
    "view", "_unsafe_view", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "expand_as", "select",
    "slice", "split", "split_with_sizes", "chunk", "unbind", "detach", "alias", "unflatten", "narrow", "as_strided",
    "movedim", "swapaxes", "numpy_T", "mT", "view_as", "unfold", "diagonal", "lift_fresh_copy", "tensor_split",
    "view_as_real", "view_as_complex", "_reshape_alias", "identity", "unsafe_chunk", "unsafe_split", "real",
}  # fmt: skip
"""Operators that move nothing."""

VIEWS_WHERE_THEY_CAN = {"reshape", "contiguous", "flatten", "dropout", "native_dropout", "to", "_to_copy", "type_as",
                        "clone", "alpha_dropout", "feature_dropout"}  # fmt: skip
"""Operators that copy where a view cannot do; dropouts do nothing in inference."""

NOTHING = {
    "sym_size", "sym_stride", "sym_numel", "_assert_async", "_assert_tensor_metadata", "_assert_scalar", "empty",
    "sym_constrain_range_for_size", "item", "_local_scalar_dense", "is_nonzero", "empty_like", "empty_strided",
    "new_empty", "size", "resolve_conj", "resolve_neg", "result_type", "set_", "record_stream", "resize_", "is_pinned",
    "sym_constrain_range", "_has_compatible_shallow_copy_type", "lift_fresh", "sym_storage_offset", "dim",
}  # fmt: skip
"""Operators without kernels."""

ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish", "sigmoid", "hardsigmoid",
    "hardswish", "hardtanh", "softplus", "softsign", "tanh", "glu", "log_sigmoid", "erf", "threshold",
}  # fmt: skip

POINTWISE = {
    "abs", "acos", "add", "addcdiv", "addcmul", "arange", "argmax", "argmin", "asin", "atan", "atan2", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "adaptive_max_pool2d", "amax", "amin", "any", "all", "bernoulli", "bitwise_and",
    "bitwise_not", "bitwise_or", "bitwise_xor", "cat", "ceil", "clamp", "clamp_min", "clamp_max", "concat", "copy",
    "cos", "cosh", "count_nonzero", "cumprod", "cumsum", "div", "eq", "exp", "exp2", "expm1", "eye", "fill", "flip",
    "floor", "floor_divide", "fmod", "full", "full_like", "gather", "ge", "gt", "index", "index_add", "index_copy",
    "index_fill", "index_put", "index_select", "isfinite", "isin", "isinf", "isnan", "le", "lerp", "linspace", "log",
    "log10", "log1p", "log2", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "logsumexp", "lt",
    "masked_fill", "masked_scatter", "max", "max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool3d",
    "maximum", "mean", "min", "minimum", "mse_loss", "mul", "multiply", "ne", "neg", "new_full", "new_ones",
    "new_zeros", "norm", "normal", "one_hot", "ones", "ones_like", "pad", "pow", "prod", "rand", "rand_like", "randint",
    "randn", "randn_like", "reciprocal", "reflection_pad1d", "reflection_pad2d", "remainder", "repeat",
    "repeat_interleave", "replication_pad2d", "roll", "round", "rsqrt", "rsub", "scatter", "scatter_add",
    "scatter_reduce", "scalar_tensor", "sgn", "sign", "sin", "sinh", "sort", "sqrt", "square", "stack", "std", "sub",
    "sum", "tan", "tile", "topk", "tril", "triu", "true_divide", "trunc", "uniform", "upsample_bicubic2d",
    "upsample_bilinear2d", "upsample_nearest2d", "upsample_nearest3d", "var", "var_mean", "where", "zeros",
    "zeros_like", "zero", "pixel_shuffle", "pixel_unshuffle", "constant_pad_nd", "channel_shuffle", "bucketize",
    "nll_loss_forward", "nll_loss_backward", "linalg_vector_norm", "cross_entropy_loss", "_foreach_add",
    "_foreach_mul", "_fused_adamw", "_fused_adam", "_foreach_norm", "_amp_update_scale", "threshold_backward",
    "gelu_backward", "silu_backward", "sigmoid_backward", "tanh_backward", "native_dropout_backward",
    "_softmax_backward_data", "_log_softmax_backward_data", "embedding_dense_backward", "native_layer_norm_backward",
    "max_pool2d_with_indices_backward", "avg_pool2d_backward", "_adaptive_avg_pool2d_backward", "complex", "polar",
    "native_batch_norm_backward", "cudnn_batch_norm_backward", "native_group_norm_backward", "unfold_backward",
    "slice_backward", "select_backward", "_safe_softmax_backward", "upsample_nearest2d_backward", "im2col", "col2im",
    "_unsafe_index", "hardtanh_backward", "hardswish_backward", "leaky_relu_backward", "masked_select", "nonzero",
}  # fmt: skip
"""Operators that read each of their tensors once and write their outputs."""


@dataclass(frozen=True)
class Call:
    """A call of an operator: its name without overload, tensors and other arguments by position, and its outputs.

    A list of tensors stands at its position among `values`; `tensors` has None there, as for other arguments.
    """

    name: str
    kind: str
    tensors: Sequence[Tensor | None]
    values: Sequence[Any]
    outputs: Sequence[Tensor]
    viewed: bool = False  # its output is a view, where that depends

    def of(self, i: int) -> Tensor:
        """A tensor that the operator must have. Raises `InputError`."""
        found = self.maybe(i)
        if found is None:
            raise InputError(f"operator '{self.name}' ({self.kind}): argument {i} is no tensor")
        return found

    def maybe(self, i: int) -> Tensor | None:
        """A tensor that may be left out."""
        return self.tensors[i] if i < len(self.tensors) else None

    def value(self, i: int, plain: Any = None) -> Any:
        """Another argument."""
        found = self.values[i] if i < len(self.values) else None
        return plain if found is None else found

    @property
    def given(self) -> list[Tensor]:
        """All tensors, those in lists among them."""
        lists = [one for value in self.values if isinstance(value, (list, tuple)) for one in value]
        return [one for one in (*self.tensors, *lists) if isinstance(one, Tensor)]

    @property
    def out(self) -> Tensor:
        """The first output."""
        return self.outputs[0]


def base_name(kind: str) -> str:
    """The name of an operator without namespace, overload and the mark of what changes its input: add of aten::add_."""
    name = kind.rpartition("::")[2].partition(".")[0]
    return name if name.startswith("__") or name in NOTHING or not name.endswith("_") else name[:-1]


def add_call(pieces: Pieces, call: Call) -> None:
    """Add the kernels of a call."""
    kind = base_name(call.kind)
    if kind in NOTHING or not call.outputs:
        return
    if kind in VIEWS or (kind in VIEWS_WHERE_THEY_CAN and call.viewed):
        for one in call.outputs if call.given else ():
            pieces.view(one, call.given[0])
    elif not call.out.elements:
        return
    elif kind in RULES:
        RULES[kind](pieces, call)
    elif kind in VIEWS_WHERE_THEY_CAN:
        pieces.copy(call.name, call.given[0], call.out)
    elif kind in ACTIVATIONS:
        pieces.pointwise(call.name, call.given, call.outputs, "activation")
    elif kind in POINTWISE:
        pieces.pointwise(call.name, call.given, call.outputs)
    else:
        pieces.missing(call.kind.replace("aten::", "aten."), call.name, call.given, call.outputs)


# ---- rules ---------------------------------------------------------------------------------------------


def _linear(pieces: Pieces, call: Call) -> None:
    """X [..., k] and weights [n, k]."""
    x, w = call.of(0), call.of(1)
    n, k = w.shape if len(w.shape) == 2 else (1, w.shape[0])
    pieces.matmul(call.name, (x, w), call.out, (x.elements // max(k, 1), n, k, 1), call.maybe(2))


def _mm(first: int) -> Callable[[Pieces, Call], None]:
    """A product of the tensors at `first` and behind it; what stands before is a bias."""

    def rule(pieces: Pieces, call: Call) -> None:
        a, b = call.of(first), call.of(first + 1)
        pieces.product(call.name, a, b, call.out, call.of(0) if first else None)

    return rule


def _scaled(pieces: Pieces, call: Call) -> None:
    pieces.product(call.name, call.of(0), call.of(1), call.out, dtype="fp8")


def _conv(at: tuple[int, int, int], transposed_at: int | None = None, ways: int = 0, groups_at: int = -1) -> Any:
    """A convolution whose stride, padding and dilation stand `at` these places."""

    def rule(pieces: Pieces, call: Call) -> None:
        x, w = call.of(0), call.of(1)
        count = ways or len(w.shape) - 2
        stride, padding, dilation = (_listed(call.value(i, plain), count) for i, plain in zip(at, (1, 0, 1)))  # noqa: B905
        transposed = bool(call.value(transposed_at, False)) if transposed_at is not None else False
        if call.value(at[1]) == "same":
            padding = [(size - 1) * far // 2 for size, far in zip(w.shape[2:], dilation, strict=True)]
        pads = [
            pad - (far - 1) * (size - 1) // 2 for pad, far, size in zip(padding, dilation, w.shape[2:], strict=True)
        ]
        groups = call.value(groups_at, 1)
        tensors = (x, w, call.maybe(2), call.out)
        convolution(pieces, call.name, tensors, stride, pads, groups, transposed or (groups_at == 6 and at[2] == 7))

    return rule


def _listed(value: Any, count: int) -> list[int]:
    """A number for each dimension."""
    if isinstance(value, (list, tuple)):
        return [int(one) for one in value] * (count if len(value) == 1 < count else 1)
    return [int(value) if isinstance(value, (int, float)) else 0] * count


def _attention(pieces: Pieces, call: Call) -> None:
    pieces.add(attention_entry(call), call.given, call.outputs[:1])


CAUSAL_AT = {
    "scaled_dot_product_attention": 5, "_scaled_dot_product_flash_attention": 4,
    "_scaled_dot_product_efficient_attention": 6, "_scaled_dot_product_cudnn_attention": 6,
    "_scaled_dot_product_flash_attention_for_cpu": 4, "_scaled_dot_product_fused_attention_overrideable": 5,
}  # fmt: skip
"""Places of `is_causal`."""


def attention_entry(call: Call) -> Entry:
    """Attention of q [batch, heads, queries, width]; keys and values may have fewer heads."""
    q, k, v = call.of(0), call.of(1), call.of(2)
    shape, keys = (1,) * (4 - len(q.shape)) + q.shape, (1,) * (4 - len(k.shape)) + k.shape
    if len(shape) != 4 or len(keys) != 4 or v.shape[-1] != q.shape[-1]:
        raise InputError(f"operator '{call.name}' ({call.kind}): queries of {q.shape} and values of {v.shape}")
    causal = bool(call.value(CAUSAL_AT.get(base_name(call.kind), 99), False))
    entry: Entry = {"op": "attention", "name": call.name, "batch": shape[0], "queries": shape[2], "keys": keys[2]}
    entry |= {"heads": shape[1]} | ({"kv_heads": keys[1]} if keys[1] != shape[1] else {})
    return entry | {"head_dim": shape[3], "causal": causal and keys[2] >= shape[2]}


def _norm(weights_at: int, width_at: int = 1) -> Callable[[Pieces, Call], None]:
    def rule(pieces: Pieces, call: Call) -> None:
        width = math.prod(_listed(call.value(width_at, call.of(0).shape[-1:]), 1))
        pieces.normalise(call.name, call.of(0), call.out, width, (call.maybe(weights_at), call.maybe(weights_at + 1)))

    return rule


def _rms_norm(pieces: Pieces, call: Call) -> None:
    width = math.prod(_listed(call.value(1), 1))
    pieces.normalise(call.name, call.of(0), call.out, width, (call.maybe(2),))


def _group_norm(pieces: Pieces, call: Call) -> None:
    x, native = call.of(0), base_name(call.kind) == "native_group_norm"
    groups, at = (call.value(6, 1), 1) if native else (call.value(1, 1), 2)
    width = x.elements // max(x.shape[0] * groups, 1)
    pieces.normalise(call.name, x, call.out, width, (call.maybe(at), call.maybe(at + 1)))


def _batch_norm(pieces: Pieces, call: Call) -> None:
    """In inference: a factor and a summand for each channel. Mean and variance are no parameters."""
    pieces.pointwise(call.name, [one for one in call.tensors[:3] if one is not None], call.outputs[:1])


def _softmax(pieces: Pieces, call: Call) -> None:
    pieces.softmax(call.name, call.of(0), call.out, call.value(1, -1))


def _embedding(pieces: Pieces, call: Call) -> None:
    pieces.lookup(call.name, call.of(0), call.out)


def _einsum(pieces: Pieces, call: Call) -> None:
    given = call.given
    equation = str(call.value(0, "")).replace(" ", "")
    sizes = einsum_sizes(equation, [one.shape for one in given])
    if sizes is None:
        pieces.missing("aten.einsum", call.name, given, call.outputs)
    else:
        pieces.matmul(call.name, (given[0], given[1]), call.out, sizes)


def einsum_sizes(equation: str, shapes: Sequence[Shape]) -> tuple[int, int, int, int] | None:
    """m, n, k and batch of a product of two tensors, by the letters that they and the result share; None: no such."""
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != 2 or len(shapes) != 2 or "." in equation or not right:
        return None
    sizes = {letter: size for term, shape in zip(terms, shapes, strict=True)
             for letter, size in zip(term, shape, strict=True)}  # fmt: skip
    first, second, out = (set(term) for term in (*terms, right))
    shared = first & second
    groups = (first & out - second, second & out - first, shared - out, shared & out)
    m, n, k, batch = (math.prod(sizes[letter] for letter in letters) for letters in groups)
    return m, n, k, batch


_PLAIN = _conv((3, 4, 5), ways=0, groups_at=6)
_WHOLE = _conv((3, 4, 5), transposed_at=6, groups_at=8)
_TURNED = _conv((3, 4, 7), groups_at=6)

RULES: dict[str, Callable[[Pieces, Call], None]] = {
    "linear": _linear, "mm": _mm(0), "bmm": _mm(0), "matmul": _mm(0), "addmm": _mm(1), "baddbmm": _mm(1),
    "addmv": _mm(1), "mv": _mm(0), "dot": _mm(0), "_scaled_mm": _scaled, "einsum": _einsum,
    "conv1d": _PLAIN, "conv2d": _PLAIN, "conv3d": _PLAIN, "convolution": _WHOLE, "_convolution": _WHOLE,
    "conv_transpose1d": _TURNED, "conv_transpose2d": _TURNED, "conv_transpose3d": _TURNED,
    **dict.fromkeys(CAUSAL_AT, _attention),
    "layer_norm": _norm(2), "native_layer_norm": _norm(2), "rms_norm": _rms_norm, "_fused_rms_norm": _rms_norm,
    "group_norm": _group_norm, "native_group_norm": _group_norm, "batch_norm": _batch_norm,
    "native_batch_norm": _batch_norm, "cudnn_batch_norm": _batch_norm, "_batch_norm_impl_index": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm, "_native_batch_norm_legit": _batch_norm,
    "softmax": _softmax, "_softmax": _softmax, "log_softmax": _softmax, "_log_softmax": _softmax,
    "_safe_softmax": _softmax, "embedding": _embedding,
}  # fmt: skip
"""Operators that are more than one pass over their tensors."""
