"""Files of graphs, which `simgpu import` and `simgpu capture` write and a workload of operators names: JSON.

    {"simgpu_graph": 1, "name": "resnet50", "source": "resnet50.onnx (ONNX, opset 12)", "dtype": "fp32",
     "inputs": {"data": [1, 3, 224, 224]}, "fused": false, "parameters": 25557032, "unknown": {},
     "operators": [{"op": "convolution", "name": "conv1", ...}, ...]}

Operators are those that an experiment file lists (`simgpu.workload.listed`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from simgpu.documents import dotted
from simgpu.errors import InputError
from simgpu.memo import remembered
from simgpu.model.imported.pieces import Imported
from simgpu.reading import read_bytes
from simgpu.schema_errors import TrueFalse, validate
from simgpu.workload.listed import Listed

VERSION = 1
MOST_BYTES = 200_000_000
MOST_OPERATORS = 200_000

Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]


class GraphFile(BaseModel):
    """The content of a file. `unknown` counts operators that are not known and run as bound by memory."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    simgpu_graph: Literal[1]
    name: Annotated[str, Field(max_length=200)]
    source: str = ""
    dtype: str = ""
    inputs: dict[str, list[Count]] = {}
    fused: TrueFalse = False
    parameters: Count = 0
    unknown: dict[str, Count] = {}
    operators: Annotated[list[Listed], Field(min_length=1, max_length=MOST_OPERATORS)]
    digest: str = ""


def read_graph(file: Path) -> GraphFile:
    """The graph of a file. Raises `InputError`."""
    try:
        state = file.stat()
    except (OSError, ValueError):
        raise InputError("no such file; expected one that simgpu import or simgpu capture wrote", file=file) from None
    return _read(file, state.st_mtime_ns, state.st_size)


@remembered(16)
def _read(file: Path, _changed: int, _size: int) -> GraphFile:
    raw = read_bytes(file, MOST_BYTES, "a file that simgpu import wrote")
    try:
        data = json.loads(raw)
    except UnicodeDecodeError:
        raise InputError("is not text; expected a file that simgpu import wrote", file=file) from None
    except json.JSONDecodeError as error:
        raise InputError(f"is not valid JSON ({error.msg})", file=file, line=error.lineno) from None
    except (RecursionError, ValueError):
        raise InputError("is not valid JSON (nested too deeply, or a number too long)", file=file) from None
    if not isinstance(data, dict) or "simgpu_graph" not in data:
        raise InputError("is no graph; expected a file that simgpu import or simgpu capture wrote", file=file)

    def blame(path: tuple[Any, ...], problem: str) -> InputError:
        return InputError(problem, file=file, key=dotted(path))

    return validate(GraphFile, data | {"digest": hashlib.sha256(raw).hexdigest()}, blame)


def document(found: Imported) -> dict[str, Any]:
    """What a file holds of a network that was read."""
    return {
        "simgpu_graph": VERSION, "name": found.name[:200], "source": found.source, "dtype": found.dtype,
        "inputs": {name: list(shape) for name, shape in found.inputs.items()}, "fused": found.fused,
        "parameters": found.parameters, "unknown": dict(found.unknown), "operators": list(found.entries),
    }  # fmt: skip


def lines(content: Mapping[str, Any]) -> Iterator[str]:
    """The text of a file: an operator in each line."""
    head = {key: value for key, value in content.items() if key != "operators"}
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "operators": [\n'
    last = len(content["operators"]) - 1
    for i, entry in enumerate(content["operators"]):
        yield " " + json.dumps(entry, ensure_ascii=False) + (",\n" if i < last else "\n")
    yield "]}\n"
