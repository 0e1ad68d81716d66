"""Reading an ONNX file without its weights: the bytes, and what other kinds of files look like."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from simgpu.errors import InputError
from simgpu.model.imported.wire import WireError, without_weights
from simgpu.reading import kind_of

NEEDS = "the library onnx is missing; pip install 'simgpu[onnx]'"

MOST_BYTES = 2**31
"""Bytes that a message of protocol buffers may have, without the weights here."""

OTHER = (
    (
        b"PK\x03\x04",
        "is an archive, such as PyTorch's: weights and pickled code, no graph; simgpu capture reads modules",
    ),
    (b"\x80", "is a pickle, which may run code and holds no graph; simgpu capture reads PyTorch modules"),
    (b"GGUF", "is a GGUF file: it holds weights, no graph; expected an ONNX file"),
    (b"\x89HDF", "is an HDF5 file; expected an ONNX file"),
    (b"\x1f\x8b", "is compressed; expected an ONNX file, unpacked"),
    (b"{", "is JSON; expected an ONNX file"),
)
"""How other files begin, and what to say of them."""


def load(file: Path) -> Any:
    """The model of an ONNX file, without the elements of its weights. Raises `InputError`."""
    try:
        import onnx
    except ImportError:
        raise InputError(NEEDS) from None
    from google.protobuf.message import DecodeError

    kept = _kept(file)
    if len(kept) > MOST_BYTES:
        raise InputError(f"is larger than {MOST_BYTES:,} bytes without its weights", file=file)
    try:
        model = onnx.load_model_from_string(kept)
    except (DecodeError, ValueError, RuntimeError):
        raise InputError("is not an ONNX file, or it is damaged", file=file) from None
    if not model.HasField("graph") or not model.opset_import or not model.graph.output:
        raise InputError("is not an ONNX file: it holds no graph", file=file)
    if not model.graph.node:
        raise InputError("holds a graph without operators", file=file)
    if model.functions:
        from onnx.inliner import inline_local_functions

        try:
            model = inline_local_functions(model)
        except Exception as error:  # the inliner raises whatever its checks do
            raise InputError(f"its functions cannot be put in place ({first_line(error)})", file=file) from None
    return model


def _kept(file: Path) -> bytes:
    """The bytes of a file without those of weights. Raises `InputError`."""
    try:
        mode = file.stat().st_mode
        if kind_of(mode) != "a file":
            raise InputError(f"is {kind_of(mode)}, expected an ONNX file", file=file)
        if not file.stat().st_size:
            raise InputError("is empty, expected an ONNX file", file=file)
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            _check_kind(bytes(mapped[:9]), file)
            return without_weights(mapped)
    except FileNotFoundError:
        raise InputError("no such file", file=file) from None
    except WireError as error:
        raise InputError(f"is not an ONNX file, or it is cut off: it {error}", file=file) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", file=file) from None


def _check_kind(start: bytes, file: Path) -> None:
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30:
        raise InputError("is a safetensors file: it holds weights, no graph; expected an ONNX file", file=file)
    for begin, problem in OTHER:
        if start.startswith(begin):
            raise InputError(problem, file=file)


def first_line(error: Exception) -> str:
    """The first line of what an error says, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
