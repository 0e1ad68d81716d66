"""A shell script that starts a program: its variables and arrays put in, the words of the command that is started.

Only what launch scripts are made of is read: `NAME=value`, `${NAME:-default}`, `NAME=( words )`, `"${NAME[@]}"`, and
lines that go on behind a backslash. Nothing is run; `$(commands)` stay as they are written.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from simgpu.errors import InputError, shown

MOST = 2_000_000
"""Characters of a script, and of a line after its variables are put in."""
_ASSIGNED = re.compile(r"^(?:export\s+|local\s+|declare\s+(?:-\w+\s+)?)?([A-Za-z_]\w*)(\+?)=(.*)$", re.DOTALL)
_NAMED = re.compile(r"\$\{([A-Za-z_]\w*)(?:\[[@*]\])?(?::?-([^}]*))?\}|\$([A-Za-z_]\w*)")
DEPTH = 20
"""Variables in variables that are followed."""


@dataclass(frozen=True)
class Script:
    """Lines of a script with variables put in, and the variables."""

    lines: tuple[str, ...]
    variables: Mapping[str, str]

    def words(self, line: str) -> list[str]:
        """Words of a line. Raises `InputError` for a quotation that does not end."""
        try:
            return shlex.split(line, comments=True)
        except ValueError as error:
            raise InputError(f"{shown(line)}: {error}".lower()) from None


def read_script(text: str) -> Script:
    """Read a script. Raises `InputError` for one that is too long or that puts itself in without end."""
    if len(text) > MOST:
        raise InputError(f"{len(text):,} characters are no launch script; expected at most {MOST:,}")
    variables: dict[str, str] = {}
    lines = []
    for line in _joined(text):
        found = _ASSIGNED.match(line)
        if found is None or _has_command(found[3]):
            lines.append(_put_in(line, variables))
            continue
        name, more, value = found[1], found[2], found[3].strip()
        body = value[1:-1].strip() if value.startswith("(") and value.endswith(")") else _unquoted(value)
        body = _put_in(body, variables)
        variables[name] = f"{variables.get(name, '')} {body}".strip() if more else body
    return Script(tuple(lines), variables)


def _joined(text: str) -> list[str]:
    """Lines of a script, those that go on joined: behind a backslash, or in an array that is not closed."""
    lines: list[str] = []
    held = ""
    for raw in text.splitlines():
        line = _uncommented(raw).rstrip()
        held = f"{held} {line.strip()}" if held else line.strip()
        if held.endswith("\\"):
            held = held[:-1].rstrip()
            continue
        if re.match(r"^(?:export\s+|declare\s+(?:-\w+\s+)?)?[A-Za-z_]\w*\+?=\(", held) and not held.endswith(")"):
            continue
        if re.match(r'^(?:export\s+)?[A-Za-z_]\w*\+?="', held) and held.count('"') % 2:
            continue
        if held:
            lines.append(held)
        held = ""
    return [*lines, held] if held else lines


def _uncommented(line: str) -> str:
    """A line without its comment."""
    return re.sub(r"(^|\s)#(?!SBATCH).*$", "", line)


def _has_command(value: str) -> bool:
    """True if words follow a value: a command with a variable of its own before it."""
    return bool(re.match(r"^[^\s\"'(]*\s+\S", value))


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _put_in(line: str, variables: Mapping[str, str]) -> str:
    """A line with the values of its variables; those that are not set stay as they are written."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        return variables.get(name, found[2] if found[2] is not None else found[0])

    for _ in range(DEPTH):
        done = _NAMED.sub(value, re.sub(r'"(\$\{[A-Za-z_]\w*\[[@*]\]\})"', r"\1", line))
        if len(done) > MOST:
            raise InputError("its variables hold each other without end")
        if done == line:
            return done
        line = done
    return line
