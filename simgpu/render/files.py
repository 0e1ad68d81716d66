"""Writing files so that nobody ever sees half of one, and nothing but files is ever replaced."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ELOOP, ENXIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from simgpu.errors import InputError
from simgpu.reading import kind_of
from simgpu.render.style import FORMATS, style
from simgpu.terminal import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READER_SECONDS = 5.0
"""Seconds that a pipe may be without a reader."""


@contextmanager
def written_whole(file: Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A stream into a temporary file that takes the name of `file` when all went well. Folders are made as needed.

    Links are followed: the file they name is written, the links stay. A device or a pipe is written into, at the end;
    nothing takes its place. Raises `InputError` where that is not possible.
    """
    try:
        mode = file.stat().st_mode if os.path.exists(file) else None
        if mode is None or stat.S_ISREG(mode):
            with _replaced(Path(os.path.realpath(file)), mode, binary) as stream:
                yield stream
        elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            content = io.BytesIO()
            stream = content if binary else io.TextIOWrapper(content, "utf-8", newline="")
            yield stream
            stream.flush()
            _pour(content.getbuffer(), file)
        else:
            raise InputError(f"cannot be written (it is {kind_of(mode)}, expected a file)", file=file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot be written ({reason})", file=file) from None


@contextmanager
def _replaced(file: Path, mode: int | None, binary: bool) -> Iterator[IO[Any]]:
    """A temporary file beside `file`, with the permissions that `file` has or would get."""
    if file.is_symlink():  # the end of all links is a link: they go round
        raise OSError(ELOOP, os.strerror(ELOOP))
    if mode is not None and not os.access(file, os.W_OK):
        raise OSError(EACCES, os.strerror(EACCES))
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".simgpu-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb" if binary else "w", encoding=None if binary else "utf-8") as stream:
            yield stream
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(stat.S_IMODE(mode) if mode is not None else 0o666 & ~umask)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _pour(content: memoryview, file: Path) -> None:
    """Write into a device or a pipe. A pipe that nobody reads would be waited for without end."""
    until = time.monotonic() + READER_SECONDS
    while True:
        try:
            handle = os.open(file, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            break
        except OSError as error:
            if error.errno != ENXIO:
                raise
            if time.monotonic() > until:
                raise OSError(ENXIO, f"a pipe that nobody reads for {READER_SECONDS:g} s") from None
            time.sleep(0.05)
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)


def save(figure: Figure, *files: Path) -> list[Path]:
    """Write a figure to each file, in the format of its ending; a file is there whole or not at all."""
    from simgpu.render.text import quiet

    for file in files:
        kind = file.suffix.lstrip(".").lower()
        if kind not in FORMATS:
            raise InputError(
                f"'{file.suffix}' is not a picture simgpu can write; expected .png, .svg or .pdf", file=file
            )
        with written_whole(file, binary=True) as stream, style(), quiet():
            metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
            picture = io.BytesIO()
            figure.savefig(picture, format=kind, metadata=metadata)
            whole = picture.getvalue()
            stream.write(plain(whole.decode()).encode() if kind == "svg" else whole)  # XML has no control characters
    return list(files)
