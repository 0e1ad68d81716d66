"""Lists of hosts as Slurm writes them: 'node[01-04,7]' is five names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from simgpu.errors import InputError, shown

MOST = 1_000_000
"""Most hosts of a file."""
_PART = re.compile(r"\[([^\]]*)\]|([^\[,]+)|(,)")


def hosts_of(text: str, file: Path, line: int) -> list[str]:
    """The names of a list. Raises `InputError` for one that cannot be read or is too long.

    >>> hosts_of("a[1-2],b07", Path("topology.conf"), 1)
    ['a1', 'a2', 'b07']
    """
    names: list[str] = []
    for entry in _entries(text):
        choices = [list(_choices(piece, file, line)) for piece in re.findall(r"\[[^\]]*\]|[^\[\]]+", entry)]
        count = 1
        for one in choices:
            count *= len(one)
        if "[" in re.sub(r"\[[^\]]*\]", "", entry) or "]" in re.sub(r"\[[^\]]*\]", "", entry):
            raise InputError(f"{shown(entry)} has a bracket too many or too few", file=file, line=line)
        if len(names) + count > MOST:
            raise InputError(f"{shown(text)} names more than {MOST:,} hosts", file=file, line=line)
        names += ["".join(parts) for parts in product(*choices)]
    return names


def _entries(text: str) -> Iterator[str]:
    """What stands between commas outside brackets."""
    depth, begun = 0, 0
    for i, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            yield text[begun:i]
            begun = i + 1
    if text[begun:]:
        yield text[begun:]


def _choices(piece: str, file: Path, line: int) -> Iterator[str]:
    if not piece.startswith("["):
        yield piece
        return
    for part in piece[1:-1].split(","):
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or (dash and int(high) < int(low)):
            raise InputError(f"{shown(part)} is no range of hosts; expected one such as 01-04", file=file, line=line)
        if dash and int(high) - int(low) >= MOST:
            raise InputError(f"{shown(part)} names more than {MOST:,} hosts", file=file, line=line)
        yield from (f"{n:0{len(low)}d}" for n in range(int(low), int(high or low) + 1))
