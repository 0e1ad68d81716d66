"""Shapes of an ONNX graph, operator by operator, with the values that shapes are computed from.

Whatever depends on constants alone is a constant. Small ones are evaluated, so that the shapes that a graph computes
(Shape, Gather, Concat, Reshape ...) are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simgpu.errors import InputError, nearest
from simgpu.model.imported.pieces import MOST_ELEMENTS, Shape, Tensor

DTYPES = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16", 17: "fp8", 18: "fp8", 19: "fp8", 20: "fp8", 23: "fp4"}
"""Floating-point types of tensors by their number (onnx.proto, TensorProto.DataType)."""

MOST_VALUES = 4096
"""Elements of a constant that is evaluated."""

MOST_NODES = 200_000
"""Operators of a graph."""


@dataclass
class Node:
    """An operator with its attributes, and the tensors it takes and gives; a missing input is None."""

    name: str
    kind: str
    attributes: Mapping[str, Any]
    inputs: list[Tensor | None]
    outputs: list[Tensor]

    def input(self, i: int) -> Tensor | None:
        """An input, or None where it is left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def of(self, i: int) -> Tensor:
        """An input that the operator must have. Raises `InputError`."""
        found = self.input(i)
        if found is None:
            raise InputError(f"operator '{self.name}' ({self.kind}): input {i} is missing")
        return found

    @property
    def out(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    @property
    def given(self) -> list[Tensor]:
        """Inputs that are there."""
        return [one for one in self.inputs if one is not None]


@dataclass
class Shapes:
    """A walk over a graph. `aliases` names parameters that others are only a new arrangement of."""

    model: Any
    file: Path
    dims: Mapping[str, int] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.constant: set[str] = set()
        self.opsets = {one.domain or "ai.onnx": one.version for one in self.model.opset_import}
        graph = self.model.graph
        for one in graph.initializer:
            self._constant(one)
        for one in graph.sparse_initializer:
            raise self._error(f"weights '{one.values.name}' are sparse, which is not supported")
        self._inputs()
        self.used = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
        self.declared = {one.name: one.type for one in (*graph.value_info, *graph.output)}

    def _constant(self, tensor: Any, name: str = "") -> None:
        import onnx

        name = name or tensor.name
        self.types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        self.constant.add(name)
        size = 1
        for dim in tensor.dims:
            size *= dim
        whole = tensor.ByteSize() > 0 and (size == 0 or _has_data(tensor))
        if size <= MOST_VALUES and whole and tensor.data_location != onnx.TensorProto.EXTERNAL:
            self.values[name] = tensor

    def _inputs(self) -> None:
        """Shapes of what the graph takes in, free dimensions filled in. Raises `InputError` for those without value."""
        used, free, known = set[str](), [], set[str]()
        for one in self.model.graph.input:
            if one.name in self.constant:
                continue
            if not one.type.HasField("tensor_type") or not one.type.tensor_type.HasField("shape"):
                raise self._error(f"input '{one.name}' has no shape, or is no tensor")
            for i, dim in enumerate(one.type.tensor_type.shape.dim):
                place = f"{one.name}.{i}"
                names = [name for name in (place, dim.dim_param) if name]
                known |= set(names)
                name = next((name for name in names if name in self.dims), None)
                if name is not None:
                    used.add(name)
                    dim.dim_value = self.dims[name]
                elif dim.dim_value <= 0:
                    shown = " x ".join(d.dim_param or str(d.dim_value or "?") for d in one.type.tensor_type.shape.dim)
                    free.append((dim.dim_param or place, f"'{one.name}' [{shown}]"))
            self.types[one.name] = one.type
        wrong = next((name for name in self.dims if name not in used), None)
        if wrong is not None:
            raise InputError(f"'{wrong}' is no dimension of '{self.file}'{nearest(wrong, sorted(known))}", key="--dim")
        if free:
            names = list(dict.fromkeys(name for name, _ in free))
            problem = f"dimension{'s' if len(names) > 1 else ''} {', '.join(names)} of input {free[0][1]} need"
            example = " ".join(f"--dim {name}=1" for name in names[:4])
            raise self._error(f"{problem}{'' if len(names) > 1 else 's'} a value, such as {example}")
        self.inputs = {name: self._tensor(name).shape for name in self.types if name not in self.constant}

    # ---- the walk ---------------------------------------------------------------------------------------

    def nodes(self) -> Iterator[Node]:
        """Operators that run, in order: those that depend on constants alone do not. Raises `InputError`."""
        from onnx import helper

        if len(self.model.graph.node) > MOST_NODES:
            raise self._error(f"more than {MOST_NODES:,} operators")
        for number, proto in enumerate(self.model.graph.node):
            domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
            name, kind = (proto.name or f"{proto.op_type}_{number}")[-60:], f"{domain}{proto.op_type}"
            missing = next((one for one in proto.input if one and one not in self.types), None)
            if missing is not None:
                raise self._error(f"operator '{name}' ({kind}) takes '{missing}', which nothing before it makes")
            self._infer(proto, name, kind)
            if self._folded(proto):
                continue
            attributes = {one.name: helper.get_attribute_value(one) for one in proto.attribute}
            inputs = [self._tensor(one) if one else None for one in proto.input]
            outputs = [self._tensor(one, name, kind) for one in proto.output if one in self.used]
            yield Node(name, kind, attributes, inputs, outputs)

    def _infer(self, proto: Any, name: str, kind: str) -> None:
        """Types of the outputs of an operator, by its schema or as the file declares them."""
        from onnx import defs
        from onnx.shape_inference import InferenceError, infer_node_outputs

        domain = proto.domain if proto.domain != "ai.onnx" else ""
        found: Mapping[str, Any] = {}
        try:
            schema = defs.get_schema(proto.op_type, self.opsets.get(domain or "ai.onnx", 1), domain)
        except defs.SchemaError:
            schema = None
        if schema is not None:
            given = [one for one in proto.input if one]
            types = {one: self.types[one] for one in given}
            values = {one: self.values[one] for one in given if one in self.values}
            try:
                found = infer_node_outputs(
                    schema, proto, types, values, None, list(self.model.opset_import), self.model.ir_version
                )
            except (InferenceError, ValueError, RuntimeError) as error:
                reason = str(error).strip().splitlines() or ["unknown"]
                raise self._error(f"operator '{name}' ({kind}): its shape cannot be told ({reason[0][:160]})") from None
        for one in proto.output:
            if one:
                known = found.get(one)
                whole = known is not None and _whole(known)
                self.types[one] = known if whole or one not in self.declared else self.declared[one]

    def _folded(self, proto: Any) -> bool:
        """True if an operator's outputs are constants; small ones get their values."""
        given = [one for one in proto.input if one]
        if proto.op_type == "Constant" and not given:
            tensor = next((one.t for one in proto.attribute if one.name == "value"), None)
            if tensor is not None:
                self._constant(tensor, proto.output[0])
                return True
        shape_of = proto.op_type in ("Shape", "Size") and _whole(self.types[given[0]])
        if not shape_of and not all(one in self.constant for one in given):
            return False
        if proto.op_type.startswith("Random") or (not given and proto.op_type != "Constant"):
            return False
        self.constant |= set(proto.output)
        if shape_of or all(one in self.values for one in given):
            self._evaluate(proto, given if not shape_of else [])
        if (
            given
            and len(proto.output) == 1
            and _elements(self.types[proto.output[0]]) == _elements(self.types[given[0]])
        ):
            self.aliases[proto.output[0]] = given[0]
        return True

    def _evaluate(self, proto: Any, given: list[str]) -> None:
        """The values of a small constant. What cannot be evaluated stays a constant without values."""
        import numpy as np
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        outputs = [one for one in proto.output if one]
        if any(not _whole(self.types[one]) or _elements(self.types[one]) > MOST_VALUES for one in outputs):
            return
        if proto.op_type in ("Shape", "Size"):
            dims = [dim.dim_value for dim in self.types[proto.input[0]].tensor_type.shape.dim]
            known = {one.name: one.i for one in proto.attribute}
            part = dims[known.get("start", 0) : known.get("end", len(dims))]
            made = np.array(part if proto.op_type == "Shape" else int(np.prod(dims)), dtype=np.int64)
            self._constant(numpy_helper.from_array(made, outputs[0]))
            return
        takes = [helper.make_value_info(one, self.types[one]) for one in given]
        gives = [helper.make_value_info(one, self.types[one]) for one in outputs]
        alone = helper.make_model(
            helper.make_graph([proto], "one", takes, gives), opset_imports=self.model.opset_import
        )
        try:
            results = ReferenceEvaluator(alone).run(
                None, {one: numpy_helper.to_array(self.values[one]) for one in given}
            )
            for one, result in zip(outputs, results, strict=True):
                self._constant(numpy_helper.from_array(np.asarray(result), one))
        except Exception:  # the reference raises whatever its operators do; shapes that need the value will say so
            return

    # ---- tensors ----------------------------------------------------------------------------------------

    def _tensor(self, name: str, maker: str = "", kind: str = "") -> Tensor:
        """A tensor whose shape is known. Raises `InputError`."""
        known = self.types.get(name)
        if known is None or not _whole(known):
            what = f"operator '{maker}' ({kind}): its output" if maker else "tensor"
            raise self._error(f"{what} '{name}' has a shape that depends on values or is not declared, or is no tensor")
        shape = tuple(dim.dim_value for dim in known.tensor_type.shape.dim)
        size = 1
        for dim in shape:
            size *= dim
        if size > MOST_ELEMENTS:
            raise self._error(f"tensor '{name}' of {size:,} elements is larger than {MOST_ELEMENTS:,}")
        return Tensor(name, shape, name in self.constant, known.tensor_type.elem_type in DTYPES)

    def dtype(self) -> str:
        """The floating-point type of most parameters."""
        counts: dict[str, int] = {}
        for name in self.types:
            kind = DTYPES.get(self.types[name].tensor_type.elem_type)
            if kind and name in self.constant and _whole(self.types[name]):
                counts[kind] = counts.get(kind, 0) + _elements(self.types[name])
        return max(counts, key=lambda kind: counts[kind]) if counts else "fp32"

    def _error(self, problem: str) -> InputError:
        return InputError(problem, file=self.file)


def _whole(kind: Any) -> bool:
    """True if a type is a tensor whose dimensions are all known."""
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return False
    return all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in kind.tensor_type.shape.dim)


def _elements(kind: Any) -> int:
    size = 1
    for dim in kind.tensor_type.shape.dim:
        size *= dim.dim_value
    return size


_ELEMENTS = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def _has_data(tensor: Any) -> bool:
    return any(len(getattr(tensor, one)) for one in _ELEMENTS)
