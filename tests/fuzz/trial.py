"""One input is run, and what came of it is judged."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import signal
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from .inputs import Input

SECONDS = 20
"""Processor time that an input may take."""
BYTES = 2 * 10**9
"""Memory that an input may take beside what the process held before."""

ANSWERED, REFUSED = "answered", "refused"


@dataclass(frozen=True)
class Outcome:
    """`answered`, `refused`, or the name of a defect, with what was seen."""

    name: str
    detail: str = ""
    seconds: float = 0.0

    @property
    def defect(self) -> bool:
        return self.name not in (ANSWERED, REFUSED)


class TooSlow(BaseException):
    """The processor time is up."""


def limit_memory() -> None:
    """Let this process take no more than is judged, and a bit: what asks for more gets a `MemoryError`."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2 * BYTES, resource.RLIM_INFINITY))


def trial(given: Input, folder: Path) -> Outcome:
    """Run an input in an empty folder."""
    for name, content in given.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    before, home, began = _below(folder), Path.cwd(), _processor_seconds()
    held = _peak_memory(again=True)
    os.chdir(folder)
    try:
        with _time_limit(), warnings.catch_warnings():
            warnings.simplefilter("always")
            found = _called(given.call) if given.call else _commanded(given.arguments)
    except TooSlow:
        found = Outcome("too slow", f"more than {SECONDS} s of processor time")
    except MemoryError:
        found = Outcome("too much memory", "MemoryError")
    finally:
        os.chdir(home)
    seconds, peak = _processor_seconds() - began, _peak_memory() - held
    if peak > BYTES and not found.defect:
        found = Outcome("too much memory", f"{peak / 1e9:.1f} GB")
    if found.name == REFUSED and (new := _changed(before, _below(folder))):
        found = Outcome("file left", f"{', '.join(new)}; {found.detail}")
    return Outcome(found.name, found.detail, seconds)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_memory(again: bool = False) -> int:
    """Bytes that this process held at most since the count last began `again`; 0 where Linux does not say."""
    try:
        if again:
            Path("/proc/self/clear_refs").write_text("5")
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _below(folder: Path) -> dict[str, bytes]:
    """Files and folders with their contents, but for what SQLite itself keeps beside a file that is read."""
    found = (path for path in sorted(folder.rglob("*")) if not path.name.endswith(("-wal", "-shm")))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in found}


def _changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Names of files that are new, gone or other; SQLite may write a store that is only opened."""
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name) and not (name in before and "sqlite" in name)]


# ---- commands ----------------------------------------------------------------------------------------


def _commanded(arguments: tuple[str, ...]) -> Outcome:
    from click.testing import CliRunner

    from simgpu.cli import main

    result = CliRunner().invoke(main, list(arguments))
    error = result.exception
    if isinstance(error, TooSlow):
        raise error
    if error is not None and not isinstance(error, SystemExit):
        if isinstance(error, MemoryError):
            raise error
        return Outcome("traceback", "".join(traceback.format_exception(error)))
    if "Warning: " in result.stderr:
        return Outcome("warning", result.stderr)
    if result.exit_code == 0:
        return _answer(arguments, result.stdout)
    if result.exit_code != 2:
        return Outcome("exit code", f"{result.exit_code}: {result.stderr}")
    *told, last = result.stderr.splitlines(keepends=True) or [""]
    if _SOME_LEFT_OUT.match(last):  # the other rows are answered; what was written is said before
        problem = _message(last) or ("several lines" if told and "-q" in arguments else "")
        return Outcome("message", f"{problem}: {result.stderr!r}") if problem else _answer(arguments, result.stdout)
    problem = _message(result.stderr)
    if problem:
        return Outcome("message", f"{problem}: {result.stderr!r}")
    if result.stdout:
        return Outcome("answer and error", f"{result.stdout[:300]!r}; {result.stderr}")
    return Outcome(REFUSED, result.stderr)


_SOME_LEFT_OUT = re.compile(r"simgpu: [1-9][0-9]* of [0-9]+ rows left out; row [0-9]+ .*cannot run: .")
"""The last line on stderr where some rows of an experiment are answered and others cannot run."""


def _message(stderr: str) -> str:
    """What is wrong with how a refusal reads, or ''."""
    if stderr.startswith("Usage: "):  # click's own, of a wrong command line
        last = stderr.rstrip("\n").splitlines()[-1]
        return "" if last.startswith("Error: ") else "usage without its error"
    if not stderr.startswith("simgpu: ") or not stderr.endswith("\n"):
        return "not a line of simgpu"
    line = stderr[len("simgpu: ") : -1]
    if not line.strip():
        return "empty message"
    if "\n" in line:
        return "several lines"
    return "" if line.isprintable() and len(line) <= 1500 else "not printable, or endless"


def _answer(arguments: tuple[str, ...], stdout: str) -> Outcome:
    if "--format" not in arguments or "json" not in arguments:
        return Outcome(ANSWERED)
    try:
        document = json.loads(stdout, parse_constant=_no_number)
    except ValueError as error:
        return Outcome("not JSON", f"{error}: {stdout[:300]!r}")
    command = next(word for word in (*arguments, "") if word not in ("--catalog", "cat"))
    if command in ("run", "sweep", "search", "explain"):
        for row in _rows(document):
            if problem := impossible(row):
                return Outcome("impossible number", problem)
    return Outcome(ANSWERED)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is not a number")


def _rows(document: Any) -> Iterator[dict[str, Any]]:
    """Every row of results in a document."""
    if isinstance(document, dict):
        if "gpus" in document and "cluster" in document:
            yield document
        document = list(document.values())
    for below in document if isinstance(document, list) else ():
        yield from _rows(below)


def impossible(row: Any) -> str:
    """The first number of a row that cannot be, or ''."""
    from simgpu.columns import COLUMNS, UNCERTAIN

    for name, value in row.items():
        if name in COLUMNS and isinstance(value, (int, float)) and not 0 <= value < float("inf"):
            return f"{name} is {value}"
    for name in UNCERTAIN:
        low, value, high = (row.get(key) for key in (f"{name}_p10", name, f"{name}_p90"))
        if low is not None and high is not None and value is not None and not low <= high:
            return f"{name}: P10 {low}, P90 {high}"
    return ""


# ---- calls -------------------------------------------------------------------------------------------


def _called(call: str) -> Outcome:
    import numpy as np

    import simgpu

    names = {"simgpu": simgpu, "np": np, "nan": float("nan"), "inf": float("inf"), "Path": Path, "Decimal": Decimal}
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            found = eval(call, names)  # written by `calls`
    except simgpu.SimgpuError as error:
        problem = _message(f"simgpu: {error}\n")
        return Outcome("message", f"{problem}: {error!r}") if problem else Outcome(REFUSED, str(error))
    except MemoryError:
        raise
    except Exception as error:
        return Outcome("traceback", "".join(traceback.format_exception(error)))
    if "Warning: " in stderr.getvalue():
        return Outcome("warning", stderr.getvalue())
    rows = [found.row] if isinstance(found, simgpu.Result) else getattr(found, "rows", ())
    for row in rows if isinstance(rows, (list, tuple)) else ():
        if isinstance(row, dict) and "gpus" in row and (problem := impossible(row)):
            return Outcome("impossible number", problem)
    return Outcome(ANSWERED)
