"""Reading the bytes of any file a user names: never more than a limit, and never waiting for ever at a pipe."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simgpu.errors import InputError

UNOPENED_SECONDS = 5.0
"""Seconds that a pipe may be without a writer."""
SILENT_SECONDS = 60.0
"""Seconds that the writer of a pipe may write nothing."""

_PIECE = 1 << 16


def built_in_folder() -> Path:
    """The catalogue that comes with simgpu: the checkout's own folders, or those in the installed package."""
    package = Path(__file__).resolve().parent
    installed = package / "_catalogue"
    return installed if installed.is_dir() else package.parent


WEIGHTS = "a model is the config.json beside it, which names its shape"
"""What to say of files that hold weights."""

_KINDS = (
    (b"PK\x03\x04", f"is an archive, such as PyTorch's weights; {WEIGHTS}"),
    (b"GGUF", f"is a GGUF file of weights; {WEIGHTS}"),
    (b"\x89HDF", f"is an HDF5 file, such as Keras' weights; {WEIGHTS}"),
    (b"\x1f\x8b", "is compressed; expected text"),
    (b"%PDF", "is a PDF; expected text"),
    (b"\x7fELF", "is a program; expected text"),
    (b"PAR1", "is a Parquet file; expected text"),
)
"""How files that are no text begin, and what they are."""


def what_it_is(start: bytes) -> str:
    """What a file is in words, by its first bytes, where it is of a kind that is given for text by mistake; else ''."""
    if start[8:10] == b'{"' and 2 <= int.from_bytes(start[:8], "little") < 1 << 30:
        return f"is a safetensors file of weights; {WEIGHTS}"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"is a pickle, such as PyTorch's weights; {WEIGHTS}"
    return next((said for begin, said in _KINDS if start.startswith(begin)), "")


def read_bytes(file: Path, most: int, expected: str = "a short text file") -> bytes:
    """The content of a file of at most `most` bytes; a pipe is read to its end. Raises `InputError`."""
    with readable(file):
        raw = _pipe(file, most + 1) if is_pipe(file) else _file(file, most + 1)
    if len(raw) > most:
        raise InputError(what_it_is(raw) or f"is larger than {most:,} bytes, expected {expected}", file=file)
    return raw


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Say in one line why a file cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise InputError("no such file", file=file) from None
    except IsADirectoryError:
        raise InputError("is a folder, expected a file", file=file) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=file) from None
    except ValueError as error:  # a name with a zero byte, or one that is no text
        raise InputError(f"cannot be read ({error})", file=file) from None


def start_of(file: Path, count: int) -> bytes:
    """The first bytes of a file. Raises `InputError`, also for a pipe, which can be read once."""
    if is_pipe(file):
        raise InputError("is a pipe; expected a file", file=file)
    with readable(file):
        return _file(file, count)


def is_pipe(file: Path) -> bool:
    """True if a file name means a pipe, such as bash's `<(command)`: it can be read once."""
    try:
        return stat.S_ISFIFO(file.stat().st_mode)
    except (OSError, ValueError):
        return False


def kind_of(mode: int) -> str:
    """The kind of a file in words: 'a file', 'a folder', 'a pipe', 'a device', 'a disk' or 'a socket'."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a disk"}
    return {**kinds, stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(mode), "a file")


def _file(file: Path, most: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(most)


def _pipe(file: Path, most: int) -> bytes:
    """Open a pipe without waiting for a writer.

    It yields no bytes without a writer, and raises `BlockingIOError` for one that is not ready.
    """
    pipe = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        content = bytearray()
        began, patience = time.monotonic(), UNOPENED_SECONDS
        while len(content) < most:
            try:
                piece = os.read(pipe, min(_PIECE, most - len(content)))
                if not piece and content:
                    break
            except BlockingIOError:
                piece, patience = b"", SILENT_SECONDS
            if piece:
                content += piece
                began = time.monotonic()
            elif time.monotonic() - began > patience:
                raise InputError(f"is a pipe into which nobody wrote anything for {patience:g} s", file=file)
            else:
                select.select([pipe], [], [], 0.05)
                time.sleep(0.01)  # a pipe whose writer has gone without a word counts as ready
        return bytes(content)
    finally:
        os.close(pipe)
