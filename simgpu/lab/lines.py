"""Lines of logs as terminals leave them: packed, with colours and progress bars."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from simgpu.errors import InputError
from simgpu.reading import is_pipe, what_it_is

LONGEST = 1 << 20
"""Longest line that is read, bytes; of longer ones the rest is passed over."""
MOST = 20_000_000_000
"""Most bytes of a log, unpacked: lines are read one at a time, so memory stays flat, but time does not."""

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")


def lines_of(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a log with their numbers from 1, plain or gzipped, colours taken out.

    Of a progress bar that was drawn over itself each state is a line with the same number. Raises `InputError` for a
    file that cannot be read or is no text.
    """
    number, read = 0, 0
    if is_pipe(file):  # opening one waits for whoever writes it
        raise InputError("is a pipe; expected a file", file=file)
    try:
        with file.open("rb") as raw:
            start = raw.read(64)
            raw.seek(0)
            packed = start[:2] == b"\x1f\x8b"
            wrong = "" if packed else what_it_is(start)
            if wrong or (b"\x00" in start[:64] and not packed):
                raise InputError(wrong or "is no text; expected a log", file=file)
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            while piece := stream.readline(LONGEST):
                read += len(piece)
                if read > MOST:
                    raise InputError(f"is larger than {MOST:,} bytes; cut it", file=file)
                number += 1
                whole = piece.endswith(b"\n")
                while not whole and (rest := stream.readline(LONGEST)):
                    whole = rest.endswith(b"\n")
                for state in _COLOUR.sub("", piece.decode("utf-8-sig", errors="replace")).split("\r"):
                    if state.strip():
                        yield number, state.rstrip("\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"is cut or damaged after line {number} ({error})", file=file) from None
    except FileNotFoundError:
        raise InputError("no such file", file=file) from None
    except IsADirectoryError:
        raise InputError("is a folder; expected a log", file=file) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=file) from None
