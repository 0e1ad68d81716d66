"""JSON of any size with a list of events in it, read piece by piece: what is not kept is forgotten at once.

Of a large trace most events are frames of Python, arrows and arguments that nobody asks for. Each event is parsed by
Python's own scanner where it stands in the text, so that this takes no longer than `json.load`, and a fraction of its
memory.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from simgpu.errors import InputError
from simgpu.reading import is_pipe, read_bytes, readable

PIECE = 1 << 22
"""Bytes that are read at a time."""
MOST_BYTES = 20_000_000_000
"""Bytes of a trace, unpacked: memory stays flat, but time does not."""
MOST_VALUE = 600_000_000
"""Characters of one value that is no list of events, and bytes of a pipe, which can be read once."""
MOST_KEPT = 6_000_000
"""Events that are kept: some six gigabytes of memory."""

Keep = Callable[[dict[str, Any]], dict[str, Any] | None]
"""What is kept of an event: the event, another, or None."""

OPEN = ("Unterminated string", "Invalid")
"""How errors begin that the end of a window makes, however far from it."""
TOKEN = 32
"""Characters of a word or number at most."""

_SPACE = re.compile(r"[ \t\r\n]*")
_SCAN = json.JSONDecoder().raw_decode


class _Text:
    """The text of a file from where it is read, in a window that moves over it."""

    def __init__(self, stream: IO[bytes], file: Path) -> None:
        self.stream, self.file = stream, file
        self.text, self.at, self.lines, self.ended = "", 0, 1, False
        self._read = 0
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode

    def more(self) -> bool:
        """Read on, as much as the window holds or a piece; false at the end."""
        if self.ended:
            return False
        kept = self.text[self.at :]
        self.lines += self.text.count("\n", 0, self.at)
        try:
            raw = self.stream.read(max(PIECE, len(kept)))
        except EOFError:
            raise InputError("is cut off: the end of the compressed data is missing", file=self.file) from None
        except (zlib.error, gzip.BadGzipFile):
            raise InputError("is damaged: it cannot be unpacked", file=self.file) from None
        self._read += len(raw)
        if self._read > MOST_BYTES:
            raise InputError(f"is larger than {MOST_BYTES:,} bytes unpacked, expected a trace of a few steps",
                             file=self.file)  # fmt: skip
        self.ended = not raw
        self.text, self.at = kept + self._decode(raw, self.ended), 0
        return True

    def space(self) -> str:
        """Pass over space; the character that stands then, '' at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found is not None
            self.at = found.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The value that begins here. Raises `json.JSONDecodeError`."""
        while True:
            try:
                found, end = _SCAN(self.text, self.at)
                cut_at = len(self.text) - (TOKEN if isinstance(found, (int, float)) else 0)  # '0.' goes on as 0.5
                if end < cut_at or not self.more():
                    self.at = end
                    return found
            except json.JSONDecodeError as error:
                cut = error.msg.startswith(OPEN) or error.pos > len(self.text) - TOKEN
                if not cut or len(self.text) - self.at > MOST_VALUE or not self.more():
                    raise

    def wrong(self, expected: str) -> json.JSONDecodeError:
        """An error of what stands here."""
        return json.JSONDecodeError(f"Expecting {expected}", self.text, self.at)


def read(file: Path, keep: Keep | None = None) -> dict[str, Any]:
    """The object in a file of JSON, or of gzipped JSON; a list of events becomes one.

    Of its events (`traceEvents`) those are kept that `keep` returns. Raises `InputError`.
    """
    with readable(file), _opened(file) as stream:
        return _document(_Text(stream, file), keep or (lambda event: event))


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked."""
    with BytesIO(read_bytes(file, MOST_VALUE, "a trace")) if is_pipe(file) else file.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            with gzip.open(raw) as unpacked:
                yield cast(IO[bytes], unpacked)
        else:
            yield raw


def _document(text: _Text, keep: Keep) -> dict[str, Any]:
    """The whole document. Raises `InputError`."""
    try:
        first = text.space()
        if first == "{":
            data = dict(_members(text, keep))
        elif first == "[":
            data = {"traceEvents": _events(text, keep)}
        else:
            text.value()
            raise InputError("expected a JSON object or a list of events", file=text.file, line=1)
        if text.space():
            raise text.wrong("the end of the file")
        return data
    except UnicodeDecodeError:
        raise InputError("is not text; expected a trace in JSON, or in gzipped JSON", file=text.file) from None
    except json.JSONDecodeError as error:
        ended = "; it ends in the middle" if text.ended and error.pos >= len(error.doc.rstrip()) - 1 else ""
        line = text.lines + error.lineno - 1
        raise InputError(f"is not valid JSON ({error.msg}{ended})", file=text.file, line=line) from None
    except (RecursionError, ValueError):
        said = "is not valid JSON (nested too deeply, or a number too long)"
        raise InputError(said, file=text.file) from None


def _members(text: _Text, keep: Keep) -> Iterator[tuple[str, Any]]:
    """Keys and values of an object that begins here."""
    text.at += 1
    here = text.space()
    while here != "}":
        if here != '"':
            raise text.wrong("property name enclosed in double quotes")
        key = text.value()
        if text.space() != ":":
            raise text.wrong("':' delimiter")
        text.at += 1
        if text.space() == "[" and key == "traceEvents":
            yield key, _events(text, keep)
        else:
            yield key, text.value()
        here = _next(text, "}")
    text.at += 1


def _next(text: _Text, end: str) -> str:
    """Pass over the comma before another member; the character that stands then."""
    here = text.space()
    if here == ",":
        text.at += 1
        here = text.space()
        if here != end:
            return here
    elif here == end:
        return here
    raise text.wrong("',' delimiter" if here != end else "value")


def _events(text: _Text, keep: Keep) -> list[dict[str, Any]]:
    """What is kept of the events of a list that begins here; what is no object is passed over."""
    text.at += 1
    kept: list[dict[str, Any]] = []
    here = text.space()
    while here != "]":
        event = text.value()
        if isinstance(event, dict):
            own = keep(event)
            if own is not None:
                kept.append(own)
                if len(kept) > MOST_KEPT:
                    said = f"holds more than {MOST_KEPT:,} kernels, launches and operators"
                    raise InputError(f"{said}; record fewer steps", file=text.file)
        here = _next(text, "]")
    text.at += 1
    return kept


__all__ = ["Keep", "read"]
