"""Errors a user can cause: each is one line that names the place, the value and what was expected."""

from __future__ import annotations

import re
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
    """The job does not fit into the memory of the GPU."""


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


_FLAGS = {"true": ("yes", "y", "on", "1", "1.0", "true", "t"), "false": ("no", "n", "off", "0", "0.0", "false", "f")}
"""What people write for a flag, by what it means."""


def no_flag(value: object) -> str:
    """The message for a value that is not true or false, with the one that it may mean.

    >>> no_flag("yes")
    "'yes' is not true or false; did you mean true?"
    """
    word = str(value).strip().lower() if isinstance(value, (str, int, float)) else ""
    meant = next((f"; did you mean {flag}?" for flag, words in _FLAGS.items() if word in words), "")
    return f"{shown(value)} is not true or false{meant}"


def nearest(word: object, known: Iterable[str], most: int = 24, where: str = "") -> str:
    """The end of a message that helps with an unknown name: `; did you mean 'x'?`.

    It names the known name that `word` is a slip of, else the names themselves if they are at `most` so many, else
    those that differ in numbers alone, else `where` the names are listed.
    """
    import difflib

    names = sorted(known)
    text = (word if isinstance(word, str) else shown(word))[:80].lower()
    lowered = {name.lower(): name for name in reversed(names)}
    close = [lowered[one] for one in difflib.get_close_matches(text, lowered, n=5, cutoff=0.6)]
    meant = next((name for name in close if is_slip(text, name.lower())), None)
    if meant is not None:
        return f"; did you mean '{meant}'?"
    if names and len(names) <= most:
        return f"; expected one of {', '.join(names)}"
    near = [name for name in close if _letters(name.lower()) == _letters(text)]
    if near:
        return f"; names like it: {', '.join(sorted(near))}"
    return f"; {where}" if where else ""


def is_slip(word: str, name: str) -> bool:
    """True if `word` is `name` with a slip of the fingers, shortened or with a word too many.

    It is false for another thing whose name is like it.

    >>> is_slip("bandwidht", "bandwidth"), is_slip("gpt_neox", "gpt_oss"), is_slip("fp6", "fp64")
    (True, False, False)
    """
    digits, others = ([letter for letter in one if letter.isdigit()] for one in (word, name))
    if digits and digits != others:
        return sorted(digits) == sorted(others) and _edits(word, name) == 1  # two that changed places
    if len(word) > 2 and (name.startswith(word) or (len(name) > 3 and word.startswith(name))):
        return True
    mine, its = (set(re.split(r"[-_. ]", one)) for one in (word, name))
    if mine <= its or its <= mine:
        return True
    letters = iter(name)
    if word[:1] == name[:1] and 10 * len(word) >= 6 * len(name) and all(letter in letters for letter in word):
        return True
    return _edits(word, name) <= max(1, (len(name) + 2) // 4)


def _letters(text: str) -> set[str]:
    """The words of a name without its numbers."""
    return set(re.findall(r"[a-z]+", text))


def _edits(word: str, other: str) -> int:
    """The number of letters to put in, take out, replace or swap with their neighbour."""
    above: list[int] = []
    line = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        before, above, line = above, line, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(above[j] + 1, line[j - 1] + 1, above[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and (letter, word[i - 2]) == (other[j - 2], wanted):
                cost = min(cost, before[j - 2] + 1)
            line.append(cost)
    return line[-1]


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
