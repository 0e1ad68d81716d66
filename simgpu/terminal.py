"""Text on its way to a terminal or a picture: a title or a file name shall not move the cursor or rename the window."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from typing import IO

_JOINERS = "\u200c\u200d"
"""Letters of Persian and parts of one emoji are joined and parted by these; they do nothing else."""


def plain(text: str) -> str:
    r"""`text` with control and format characters written as in Python (`\x1b`); line ends stay.

    >>> plain("a\x1b[31m b\u202e")
    'a\\x1b[31m b\\u202e'
    """
    return "\n".join(line if line.isprintable() else "".join(map(_shown, line)) for line in text.split("\n"))


def _shown(letter: str) -> str:
    if letter.isprintable() or letter in _JOINERS:
        return letter
    return " " if unicodedata.category(letter) == "Zs" else repr(letter)[1:-1]  # other spaces are spaces


def tell(text: str, out: IO[str]) -> None:
    """A line of news to `out`; a full disk or a reader who has gone there must not cost the answer."""
    with suppress(OSError, ValueError):
        out.write(plain(text) + "\n")
        out.flush()
