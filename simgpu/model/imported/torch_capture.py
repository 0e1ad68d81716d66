"""A PyTorch module as a list of operators: exported on meta tensors, so that no weight is ever made.

torch.export: https://docs.pytorch.org/docs/stable/export.html. Needs PyTorch.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any

from simgpu.errors import InputError, nearest, shown
from simgpu.model.imported.aten import Call, add_call, base_name
from simgpu.model.imported.fusing import fused
from simgpu.model.imported.pieces import Imported, Pieces, Tensor, check_known

NEEDS = "PyTorch is missing; pip install 'simgpu[torch]'"
TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}
FLOATING = (*TYPES.values(), "fp8")


def capture_module(
    target: str, inputs: Sequence[str] = (), dtype: str | None = None, fuse: bool = False,
    unknown_as_memory: bool = False,
) -> Imported:  # fmt: skip
    """The operators of what the function `target` ('module:function') returns. Raises `InputError`."""
    torch = _torch()
    if dtype is not None and dtype not in TYPES:
        raise InputError(f"{shown(dtype)} is not known{nearest(dtype, TYPES)}", key="--dtype")
    function = _function(target)
    made = _run(target, lambda: _on_meta(torch, function, dtype))
    module, arguments, keywords = _parts(torch, target, made)
    if inputs:
        arguments = tuple(_input(torch, text, dtype) for text in inputs)
    if not arguments and not keywords:
        raise InputError("returns a module without inputs; give their sizes, such as --input 8,3,224,224", key=target)
    return capture(module, arguments, keywords, target, fuse, unknown_as_memory)


def capture(
    module: Any, arguments: Sequence[Any], keywords: Mapping[str, Any] | None = None, name: str = "module",
    fuse: bool = False, unknown_as_memory: bool = False,
) -> Imported:  # fmt: skip
    """The operators of a module and its inputs, in inference. Raises `InputError`."""
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"is of type {type(module).__name__}; expected a torch.nn.Module", key="module")

    def exported() -> Any:
        with torch.no_grad():
            here = module.to("meta").eval()
            given = torch.utils._pytree.tree_map_only(torch.Tensor, lambda one: one.to("meta"), tuple(arguments))
            named = torch.utils._pytree.tree_map_only(torch.Tensor, lambda one: one.to("meta"), dict(keywords or {}))
            return torch.export.export(here, given, named, strict=False)

    program = _run(name, exported, "cannot be exported")
    reader = _Reader(torch, module, program)
    try:
        for call in reader.calls():
            add_call(reader.pieces, call)
    except InputError as error:
        raise InputError(error.problem, key=name) from None
    pieces = reader.pieces
    check_known(pieces.unknown, unknown_as_memory, name)
    found = fused(pieces) if fuse else pieces.found
    if not found:
        raise InputError("runs no operator", key=name)
    source = f"{name} (torch.export, PyTorch {torch.__version__.partition('+')[0]})"
    return Imported(
        name.rpartition(":")[2], source, reader.dtype(), reader.inputs, tuple(one.entry for one in found),
        sum(one.numel() for one in module.parameters()), fuse, dict(pieces.unknown),
    )  # fmt: skip


def _torch() -> Any:
    """The module `torch`. Raises `InputError` where it is missing."""
    try:
        return import_module("torch")
    except ImportError:
        raise InputError(NEEDS) from None


class _Reader:
    """Calls of an exported program, with shapes and what each tensor is."""

    def __init__(self, torch: Any, module: Any, program: Any) -> None:
        self.torch, self.program = torch, program
        signature = program.graph_signature
        first: dict[int, str] = {}
        names = {name: first.setdefault(id(one), name) for name, one in module.named_parameters(remove_duplicate=False)}
        self.parameters = {node: names.get(name, name) for node, name in signature.inputs_to_parameters.items()}
        self.constants = {*signature.inputs_to_buffers, *signature.inputs_to_lifted_tensor_constants}
        self.pieces = Pieces(outputs=tuple(str(one) for one in signature.user_outputs))
        self.inputs = {
            node.name: tuple(map(int, node.meta["val"].shape))
            for node in program.graph.nodes
            if node.op == "placeholder" and node.name in signature.user_inputs and self._is_tensor(node.meta.get("val"))
        }
        self.known: dict[str, Tensor | tuple[Tensor, ...]] = {}

    def dtype(self) -> str:
        """The type of most parameters."""
        counts: dict[str, int] = {}
        for one in self.program.parameters():
            kind = TYPES.get(str(one.dtype).removeprefix("torch."), "fp32")
            counts[kind] = counts.get(kind, 0) + one.numel()
        return max(counts, key=lambda kind: counts[kind]) if counts else "fp32"

    def calls(self) -> Iterator[Call]:
        """Calls of operators in order; tensors of other nodes are known afterwards."""
        for node in self.program.graph.nodes:
            value = node.meta.get("val")
            if node.op == "call_function" and hasattr(node.target, "_schema"):
                outputs = self._outputs(node.name, value)
                call = self._call(node, outputs)
                self.known[node.name] = outputs if isinstance(value, (list, tuple)) else outputs[0] if outputs else ()
                yield call
            elif node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem":
                part = self.known.get(node.args[0].name, ())
                found = part[node.args[1]] if isinstance(part, tuple) and part else None
                if found is not None:
                    self.known[node.name] = found
            elif node.op == "call_function" and self._is_tensor(value):
                raise InputError(f"holds control flow ({node.target}), which is not supported")
            elif node.op in ("placeholder", "get_attr") and self._is_tensor(value):
                self.known[node.name] = self._leaf(node, value)

    def _leaf(self, node: Any, value: Any) -> Tensor:
        if node.name in self.parameters:
            return self._tensor(self.parameters[node.name], value, True)
        constant = node.name in self.constants or node.op == "get_attr"
        shape = tuple(map(int, value.shape))
        return Tensor(node.name, shape, constant, False) if constant else self._tensor(node.name, value, False)

    def _call(self, node: Any, outputs: tuple[Tensor, ...]) -> Call:
        schema = node.target._schema
        arguments = [
            node.args[i] if i < len(node.args) else node.kwargs.get(one.name, one.default_value)
            for i, one in enumerate(schema.arguments)
        ]
        tensors: list[Tensor | None] = []
        values: list[Any] = []
        for one in arguments:
            known = self.known.get(one.name) if self._is_node(one) else None
            tensors.append(known if isinstance(known, Tensor) else None)
            values.append(self._value(one))
        viewed = self._viewed(node, arguments)
        return Call(node.name, schema.name, tensors, values, outputs, viewed)

    def _value(self, one: Any) -> Any:
        """An argument that is no tensor; a list of tensors as such."""
        if isinstance(one, (list, tuple)):
            return [self.known.get(item.name) if self._is_node(item) else item for item in one]
        return None if self._is_node(one) else one

    def _viewed(self, node: Any, arguments: Sequence[Any]) -> bool:
        """True if an operator that may copy gives a view: same layout and type, or a shape that strides allow."""
        kind, torch = base_name(node.target._schema.name), self.torch
        value: Any = node.meta.get("val")
        source: Any = arguments[0].meta.get("val") if arguments and self._is_node(arguments[0]) else None
        if not self._is_tensor(value) or not self._is_tensor(source):
            return False
        if kind.endswith("dropout"):
            return True
        if kind == "clone" or value.dtype != source.dtype:
            return False
        if kind in ("reshape", "flatten"):
            try:
                torch.empty_strided(source.shape, source.stride(), device="meta").view(value.shape)
            except RuntimeError:
                return False
            return True
        return bool(value.stride() == source.stride())

    def _outputs(self, name: str, value: Any) -> tuple[Tensor, ...]:
        if self._is_tensor(value):
            return (self._tensor(name, value, False),)
        some = value if isinstance(value, (list, tuple)) else ()
        return tuple(self._tensor(f"{name}.{i}", one, False) for i, one in enumerate(some) if self._is_tensor(one))

    def _tensor(self, name: str, value: Any, parameter: bool) -> Tensor:
        shape = value.shape
        if any(not isinstance(size, int) for size in shape):
            raise InputError(f"tensor '{name}' has a size that depends on values: {list(map(str, shape))}")
        return Tensor(name, tuple(shape), parameter, value.dtype.is_floating_point)

    def _is_tensor(self, value: Any) -> bool:
        return isinstance(value, self.torch.Tensor)

    def _is_node(self, value: Any) -> bool:
        return isinstance(value, self.torch.fx.Node)


def _function(target: str) -> Any:
    """The function of 'module:function'; modules of the folder that one is in count too."""
    place, _, name = target.partition(":")
    if not place or not name:
        raise InputError(f"{shown(target)}: expected MODULE:FUNCTION, such as torchvision.models:resnet50")
    if "" not in sys.path:
        sys.path.insert(0, "")
    found = _run(target, lambda: import_module(place.removesuffix(".py").replace("/", ".")), "cannot be imported")
    for part in name.split("."):
        if not hasattr(found, part):
            known = [one for one in vars(found) if not one.startswith("_") and callable(getattr(found, one))]
            raise InputError(f"module '{place}' has no '{name}'{nearest(name, known)}", key=target)
        found = getattr(found, part)
    if not callable(found):
        raise InputError("is no function or class that returns a module", key=target)
    return found


def _on_meta(torch: Any, function: Any, dtype: str | None) -> Any:
    usual = torch.get_default_dtype()
    if dtype is not None:
        torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device("meta"):
            return function()
    finally:
        torch.set_default_dtype(usual)


def _parts(torch: Any, target: str, made: Any) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    parts = made if isinstance(made, tuple) else (made,)
    module, arguments, keywords = (*parts, (), {})[:3] if len(parts) == 1 else (*parts, {})[:3]
    if not isinstance(module, torch.nn.Module) or len(parts) > 3 or not isinstance(keywords, Mapping):
        problem = f"returned {shown(type(module).__name__)}; expected a torch.nn.Module, or (module, inputs)"
        raise InputError(problem, key=target)
    return module, arguments if isinstance(arguments, tuple) else tuple(
        arguments if isinstance(arguments, list) else (arguments,)
    ), keywords  # fmt: skip


def _input(torch: Any, text: str, dtype: str | None) -> Any:
    """A meta tensor of '8,3,224,224' or '8,128:int64'."""
    sizes, _, kind = text.partition(":")
    found = getattr(torch, kind or dtype or "float32", None)
    try:
        shape = [int(size) for size in sizes.split(",")]
    except ValueError:
        shape = []
    if not shape or min(shape) < 1 or not isinstance(found, torch.dtype):
        raise InputError(f"{shown(text)}: expected sizes and a type, such as 8,3,224,224 or 8,128:int64", key="--input")
    return torch.empty(shape, dtype=found, device="meta")


def _run(target: str, call: Any, what: str = "failed") -> Any:
    """What a call of the user's code returns; what it prints is dropped. Raises `InputError`: its error in a line."""
    logging.getLogger("torch").setLevel(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            return call()
    except (KeyboardInterrupt, MemoryError, InputError):
        raise
    except BaseException as error:  # whatever the code of a user raises, SystemExit too
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
        raise InputError(f"{what} ({reason})", key=target) from None
