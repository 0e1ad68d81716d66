"""What a launch comes to: files, the command that starts them, each flag with the key that it follows from."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from simgpu.errors import InputError, shown
from simgpu.launching.asked import Asked
from simgpu.tabular import Tabular


@dataclass(frozen=True)
class Flag:
    """A flag of a command or a key of a file: its name, its value, and the key of the scenario it follows from.

    `key` is in words where no key of the scenario says it ("model", "limits of memory"). A switch has the value None.
    """

    flag: str
    value: Any
    key: str

    @property
    def words(self) -> list[str]:
        """The flag as words of a command line."""
        if self.value is None:
            return [self.flag]
        several = self.value if isinstance(self.value, (list, tuple)) else [self.value]
        return [self.flag, *map(plain, several)] if self.flag else [plain(one) for one in several]


def plain(value: Any) -> str:
    """A value as command lines have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def command_of(start: str, flags: Iterable[Flag]) -> str:
    """A command line with a flag on each line."""
    parts = [start, *(shlex.join(flag.words) for flag in flags)]
    return " \\\n  ".join(parts)


@dataclass(frozen=True)
class Check:
    """How the prediction is held against the machine: a command, what to read of what it prints, what is expected.

    `expected` are (what, value, P10, P90, unit) of the simulation.
    """

    command: str
    reads: str
    expected: tuple[tuple[str, float, float | None, float | None, str], ...] = ()


@dataclass(frozen=True, repr=False)
class Launch(Tabular):
    """The command, files or manifest that run a row of an experiment.

    name, target, version
        The experiment; what it is launched with, and the version whose flags were read.
    command
        The command that starts it.
    files
        Contents of files, by their names.
    flags
        Each flag with the key it follows from.
    missing
        What the framework cannot do as the row says, in sentences.
    notes
        What else a reader should know.
    check
        How the prediction is checked.
    """

    name: str
    target: str
    version: str
    command: str
    files: Mapping[str, str]
    flags: Sequence[Flag]
    missing: Sequence[str] = ()
    notes: Sequence[str] = ()
    check: Check | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each flag: its name, its value, and the key of the scenario that it follows from."""
        return [
            {"flag": flag.flag, "value": "" if flag.value is None else _written(flag.value), "follows_from": flag.key}
            for flag in self.flags
        ]

    @property
    def expected(self) -> list[dict[str, Any]]:
        """What the check should print: what, value, P10, P90, unit."""
        names = ("what", "value", "p10", "p90", "unit")
        return [dict(zip(names, one, strict=True)) for one in (self.check.expected if self.check else ())]

    def data(self) -> dict[str, Any]:
        """All of it as plain data."""
        check = None if self.check is None else {"command": self.check.command, "expected": self.expected}
        said: dict[str, Any] = {"experiment": self.name, "target": self.target, "version": self.version}
        said |= {"command": self.command, "files": dict(self.files), "flags": self.rows}
        return said | {"missing": list(self.missing), "notes": list(self.notes), "check": check}

    def with_notes(self, notes: Sequence[str]) -> Launch:
        """The same with further notes."""
        return replace(self, notes=[*self.notes, *notes]) if notes else self

    def write(self, folder: Path) -> list[Path]:
        """Write the files, and `launch.sh` with the command where no file holds it. Returns what was written."""
        from simgpu.render.files import written_whole

        contents = dict(self.files)
        if not any(name.endswith((".sh", ".sbatch")) for name in contents):
            contents["launch.sh"] = f"#!/bin/sh\n{self.command}\n"
        if self.check is not None:
            contents["check.sh"] = f"#!/bin/sh\n{_commented(self.told())}\n{self.check.command}\n"
        written = []
        for name, text in contents.items():
            with written_whole(folder / name) as stream:
                stream.write(text)
            written.append(folder / name)
        return written

    def told(self) -> list[str]:
        """What is expected of the machine, a line each."""
        if self.check is None:
            return []
        lines = [self.check.reads]
        for what, value, low, high, unit in self.check.expected:
            ends = "" if low is None or high is None else f", 80 % interval {_figure(low)} to {_figure(high)}"
            lines.append(f"expected {what}: {_figure(value)} {unit}{ends}".replace(" %,", " %,"))
        return lines

    def show(self, stream: TextIO, traced: bool = True) -> None:
        """Print the files and the command, what each flag follows from, what is missing, and the check."""
        for name, text in self.files.items():
            stream.write(f"# ---- {name}\n{text.rstrip()}\n\n")
        if self.command:
            stream.write(f"# ---- {self.target} {self.version}\n{self.command}\n\n")
        if traced:
            width = max((len(_named(flag)) for flag in self.flags), default=0)
            stream.write("# what each follows from\n")
            for flag in self.flags:
                stream.write(f"#   {_named(flag):{width}}  {flag.key}\n")
            stream.write("\n")
        for line in self.missing:
            stream.write(f"# cannot: {line}\n")
        for line in self.notes:
            stream.write(f"# note: {line}\n")
        if self.check is not None:
            stream.write(f"# check: {self.check.command}\n")
            for line in self.told():
                stream.write(f"#   {line}\n")


def _named(flag: Flag) -> str:
    return f"{flag.flag}{'' if flag.value is None else ' ' + _written(flag.value)}".strip()


def _written(value: Any) -> str:
    return " ".join(map(plain, value)) if isinstance(value, (list, tuple)) else plain(value)


def _commented(lines: Iterable[str]) -> str:
    return "\n".join(f"# {line}" for line in lines)


def _figure(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


@dataclass
class Draft:
    """A launch that is being written: flags and what is missing, by the keys that writers take."""

    asked: Asked
    flags: list[Flag] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, flag: str, value: Any, key: str) -> None:
        """Add a flag with a value; None adds a switch."""
        self.flags.append(Flag(flag, value, key))

    def set(
        self, flag: str, key: str, default: Any = None, names: Mapping[Any, Any] | None = None,
        always: bool = False, make: Callable[[Any], Any] | None = None,
    ) -> None:  # fmt: skip
        """Add the flag of a key where it is not the target's `default`.

        `names` are the target's words for simgpu's values; a value that has none is named as missing.
        """
        value = self.asked.take(key)
        if value is None or (value == default and not always):
            return
        if names is not None:
            if value not in names:
                self.lacks(key, value)
                return
            value = names[value]
        self.put(flag, make(value) if make else value, key)

    def switch(self, flag: str, key: str, on: Any = True) -> None:
        """Add a switch where a key has the value `on`."""
        if self.asked.take(key) == on:
            self.put(flag, None, key)

    def lacks(self, key: str, value: Any, why: str = "") -> None:
        """Say that the framework has no way to do what a key says."""
        self.missing.append(f"{key}: {shown(value).strip(chr(39))}{': ' + why if why else ' has no counterpart there'}")

    def close(self) -> None:
        """Name every key that was said and that no flag follows from."""
        for key, value in self.asked.left():
            self.lacks(key, value, self.reasons.get(key, ""))


def of_kind(asked: Asked, kinds: Sequence[str], target: str) -> None:
    """Raise `InputError` where a target runs jobs of another kind."""
    if asked.job.kind not in kinds:
        problem = f"'{target}' runs {', '.join(kinds)}, and '{asked.name}' is {asked.job.kind}"
        raise InputError(problem, key="--for")
