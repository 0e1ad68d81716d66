"""Errors a user can cause: each is one line that names the place, the value and what was expected."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

from simgpu.terminal import plain


class SimgpuError(Exception):
    """Something is wrong with what the user gave. The message is one line; the command line exits with 2."""


class InputError(SimgpuError):
    """A file, a key or an option that cannot be used.

    The message reads `file:line: key: what is wrong`, as far as each is known.
    """

    def __init__(self, problem: str, *, file: object = None, line: int | None = None, key: str | None = None) -> None:
        self.problem = _one_line(problem)
        self.file = None if file is None else str(file)
        self.line = line
        self.key = key
        place = "" if self.file is None else _one_line(self.file, 300) + (f":{line}" if line else "") + ": "
        super().__init__(place + (f"{_one_line(key)}: " if key else "") + self.problem)


class ArgumentError(InputError, TypeError):
    """An argument of a call in Python that is of the wrong type."""


class MisfitError(InputError):
    """What was asked for does not fit into the memory of the GPU."""


def shown(value: object) -> str:
    """`value` for a message: quoted as in the file, on one line, and not endless."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    short.maxlevel, short.maxlist, short.maxdict = 3, 4, 4
    try:
        return _one_line(short.repr(value), 80)
    except ValueError:  # an integer of more digits than Python prints
        return "a number of thousands of digits"
    except Exception:  # whatever a stranger's __repr__ does
        return f"a {type(value).__name__}"


def nearest(word: object, known: Iterable[str], most: int = 24) -> str:
    """`; did you mean 'x'?` for the known name nearest to `word`, else the names themselves if they are at `most` so
    many."""
    import difflib

    names = sorted(known)
    text = word if isinstance(word, str) else shown(word)
    close = difflib.get_close_matches(text[:80].lower(), [name.lower() for name in names], n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{next(name for name in names if name.lower() == close[0])}'?"
    if names and len(names) <= most:
        return f"; expected one of {', '.join(names)}"
    return ""


def members(word: object, known: Iterable[str]) -> str:
    """`; did you mean one of a-x, a-y?` for names that hold the words of `word` between hyphens and more, or ''."""
    parts = set(str(word)[:80].lower().split("-"))
    found = [name for name in sorted(known) if parts < set(name.split("-"))]
    more = " ..." if len(found) > 6 else ""
    return f"; did you mean one of {', '.join(found[:6])}{more}?" if len(found) > 1 else ""


def _one_line(text: str, limit: int = 600) -> str:
    """`text` with white space folded, what cannot be printed escaped, and cut at `limit`."""
    line = plain(" ".join(str(text)[: 4 * limit].split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."
