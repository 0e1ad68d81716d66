"""How the words of a command line become flags with values, and what a tool is to this reading.

A tool is data: the words that its command line begins with, its flags and their kinds, those that change nothing of the
times, and those whose effect is not modelled. A flag that is none of these is refused, with the nearest that it knows.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from simgpu.errors import InputError, nearest, shown

Keys = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """Rates that a tool finds by itself: of one client, of all it can send, and `count` - 2 evenly in between."""

    count: int
    constant: bool = True
    most: int = 512  # requests on their way where it sends all it can


@dataclass
class Meant:
    """What a command line means.

    keys
        Keys of a scenario.
    model
        The model as it names it.
    ignored
        Flags that change nothing of the times.
    unknown
        Flags that are not the tool's, or not modelled, where these are no error.
    notes
        Sentences on what is not as the tool does it.
    cases
        Loads that it sends one after the other, each with a name and its own keys; none: one load.
    sweep
        Where the tool finds its rates by itself.
    """

    keys: Keys = field(default_factory=dict)
    model: str = ""
    ignored: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cases: list[tuple[str, Keys]] = field(default_factory=list)
    sweep: Sweep | None = None

    def load(self, keys: Mapping[str, Any]) -> None:
        """Add keys of the workload; None is nothing said."""
        self.keys |= {f"workload.{key}": value for key, value in keys.items() if value is not None}

    def loads(self, loads: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Add loads that are sent one after the other, each with a name; one alone has none."""
        if len(loads) == 1:
            self.load(loads[0][1])
            return
        for name, keys in loads:
            self.cases.append((name, {f"workload.{key}": value for key, value in keys.items() if value is not None}))


class Given:
    """Flags of a command line with their values.

    `option` is the option of simgpu that has it, for messages; `told`: lengths are given elsewhere.
    """

    def __init__(self, option: str, values: Mapping[str, Any], words: Sequence[str], told: bool = False) -> None:
        self.option, self.values, self.words, self.told = option, dict(values), list(words), told

    def __call__(self, flag: str, default: Any = None) -> Any:
        """The value of a flag."""
        return self.values.get(flag, default)

    def __contains__(self, flag: str) -> bool:
        return flag in self.values

    def first(self, *flags: str, default: Any = None) -> Any:
        """The value of the first of several flags that is there."""
        return next((self.values[flag] for flag in flags if flag in self.values), default)

    def refuse(self, flag: str, problem: str) -> NoReturn:
        """Raise `InputError` at a flag."""
        raise InputError(problem, key=f"{self.option} {flag}".strip())

    def share(self, flag: str, default: float) -> float:
        """A value between 0 and 1."""
        value = float(self(flag, default))
        if not 0 <= value <= 1:
            self.refuse(flag, f"{value:g} is out of range; expected 0 to 1")
        return value


Kind = Callable[[str], Any]
Reader = Callable[[Given], Meant]


@dataclass(frozen=True)
class Tool:
    """A tool: what its command line begins with, and what its flags are.

    starts
        Words of which its command line begins with one, as patterns of `re`.
    source
        The version whose source was read for the meaning of its flags.
    kinds
        Flags that matter, and what makes a value of a word (`bool`: a switch, `list`: several words).
    nothing, switches
        Flags with and without a value that change nothing of the times.
    refused
        Flags whose effect is not modelled, with what to do instead.
    short
        Other names of flags.
    append
        Flags that may stand several times.
    """

    name: str
    starts: tuple[str, ...]
    source: str
    read: Reader
    kinds: Mapping[str, Any]
    nothing: str = ""
    switches: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=dict)
    append: tuple[str, ...] = ()

    def rest(self, words: list[str]) -> list[str] | None:
        """The words behind its name; None of another tool's."""
        for start in self.starts:
            parts = start.split(" ")
            if len(words) >= len(parts) and all(re.fullmatch(part, words[i]) for i, part in enumerate(parts)):
                return words[len(parts) :]
        return None


# ---- reading -----------------------------------------------------------------------------------------


def understood(
    text: str, option: str, tools: Sequence[Tool], told: bool = False, unknown: list[str] | None = None
) -> Meant:
    """What a command line of one of the tools means; `told`: lengths are given elsewhere. Raises `InputError`.

    With a list for `unknown`, flags that are not known or not modelled are added to it instead of being an error.
    """
    words = _words(text, option)
    for tool in tools:
        rest = tool.rest(words)
        if rest is not None:
            given, ignored = _flags(tool, rest, option, unknown)
            given.told = told
            meant = tool.read(given)
            meant.ignored, meant.unknown = ignored + meant.ignored, list(unknown or ())
            return meant
    known = ", ".join(tool.name for tool in tools)
    raise InputError(f"{shown(text[:60])} is no command line that is known; expected one of {known}", key=option)


def _words(text: str, option: str) -> list[str]:
    """Words of a command line, less variables of the shell before it and the Python that runs it."""
    try:
        words = shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise InputError(f"{shown(text)}: {error}".lower(), key=option) from None
    while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0], re.DOTALL):
        words = words[1:]
    if words and re.fullmatch(r"(.*/)?python[0-9.]*", words[0]):
        words = words[2:] if words[1:2] == ["-m"] else words[1:]
    return words


def _plain(flag: str) -> str:
    """A flag as it is compared: parsers of tools take dashes and underscores for one another."""
    return flag.replace("_", "-")


def _flags(tool: Tool, words: list[str], option: str, unknown: list[str] | None = None) -> tuple[Given, list[str]]:
    """Values of flags, words that belong to none, and flags that change nothing."""
    names = {_plain(name): name for name in (*tool.kinds, *tool.nothing.split(), *tool.switches.split(), *tool.refused)}
    switches = set(tool.switches.split())
    found: dict[str, Any] = {}
    rest, ignored, queue = [], [], list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-"):
            rest.append(word)
            continue
        written, equals, value = word.partition("=")
        name = names.get(_plain(tool.short.get(written, written)))
        if name is None or name in tool.refused:
            _not_read(tool, written, name, names, option, unknown)
            _values(queue, several=True)
            continue
        kind = tool.kinds.get(name)
        values = [value] if equals else []
        if not equals and kind is not bool and name not in switches:
            values = _values(queue, several=kind is list)
        if kind is None:
            ignored.append(written)
        elif kind is bool:
            found[name] = not equals or value.lower() not in ("false", "0", "no")
        elif not values:
            raise InputError("expected a value", key=f"{option} {written}")
        else:
            made = values if kind is list else _value(values[0], kind, f"{option} {written}")
            found[name] = [*found.get(name, []), *(made if kind is list else [made])] if name in tool.append else made
    return Given(option, found, rest), ignored


def _not_read(
    tool: Tool, written: str, name: str | None, names: Mapping[str, str], option: str, unknown: list[str] | None
) -> None:
    """A flag that is not the tool's, or not modelled: an error, or one of `unknown`."""
    if unknown is not None:
        unknown.append(written if name is None else f"{written}: {tool.refused[name]}")
    elif name is None:
        raise InputError(f"unknown flag {shown(written)}{_nearest(written, names)}", key=option)
    else:
        raise InputError(tool.refused[name], key=f"{option} {written}")


def _values(queue: list[str], several: bool) -> list[str]:
    values = []
    while queue and (not queue[0].startswith("-") or re.fullmatch(r"-\d+(\.\d+)?", queue[0])):
        values.append(queue.pop(0))
        if not several:
            break
    return values


def _nearest(flag: str, names: Mapping[str, str]) -> str:
    """The end of a message: the name that was meant, else that the tool has others."""
    hint = nearest(_plain(flag), names, most=12)
    for plain, name in names.items():
        hint = hint.replace(f"'{plain}'", f"'{name}'")
    return hint or "; it is none of this tool, or not modelled"


def _value(text: str, kind: Kind, key: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        problem = str(error) if str(error).startswith("expected") else f"expected {_NAMES.get(kind, 'a value')}"
        raise InputError(f"{shown(text)}: {problem}", key=key) from None


# ---- kinds of values ---------------------------------------------------------------------------------


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    value = int(text)
    if value < 0:
        raise ValueError("expected 0 or more")
    return value


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    value = int(text)
    if value < 1:
        raise ValueError("expected 1 or more")
    return value


def number(text: str) -> float:
    """A number, 0 or more; 'inf' is one."""
    value = float(text)
    if not value >= 0:
        raise ValueError("expected 0 or more")
    return value


def numbers(text: str) -> list[float]:
    """Numbers above 0 between commas."""
    values = [float(part) for part in text.split(",")]
    if not all(0 < value < float("inf") for value in values):
        raise ValueError("expected numbers above 0")
    return values


def pairs(text: str) -> dict[str, str]:
    """Names and values: `a=1,b=2`, or a JSON object, also one that lost its quotes to a shell."""
    if text.lstrip().startswith("{"):
        import json

        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = dict(re.findall(r"(\w+):([^,{}]+)", text))
            if not data:
                raise ValueError("expected a JSON object") from None
        return {str(name): str(value) for name, value in data.items()}
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(equals and name.strip() for name, equals, _ in parts):
        raise ValueError("expected names and values as in a=1,b=2")
    return {name.strip(): value.strip() for name, _, value in parts}


_NAMES: Mapping[Any, str] = {
    whole: "a whole number",
    positive: "a whole number",
    int: "a whole number",
    number: "a number",
    float: "a number",
    numbers: "numbers between commas",
}


# ---- what tools share --------------------------------------------------------------------------------


def arrivals(rate: float, burstiness: float = 1.0) -> Keys:
    """Requests at a rate, or all at once where it is infinite; a burstiness of infinity means equal gaps."""
    inf = float("inf")
    if rate == inf:
        return {"arrivals": "burst"}
    if burstiness == inf:
        return {"arrivals": "constant", "rate": rate}
    return {"rate": rate} if burstiness == 1.0 else {"arrivals": "gamma", "rate": rate, "burstiness": burstiness}


LIMITS = {
    "ttft": "ttft_limit_s",
    "tpot": "tpot_limit_s",
    "e2el": "e2e_limit_s",
    "time_to_first_token": "ttft_limit_s",
    "inter_token_latency": "tpot_limit_s",
    "request_latency": "e2e_limit_s",
}
"""Names of limits in `--goodput`, ms."""


def limits(given: Given, flag: str = "--goodput") -> Keys:
    """Limits as `--goodput ttft:1000 tpot:50` has them, ms."""
    found: Keys = {}
    for one in " ".join(given(flag, [])).split():
        name, _, value = one.partition(":")
        if name not in LIMITS:
            given.refuse(flag, f"{shown(one)}: expected NAME:MS{nearest(name, LIMITS)}")
        try:
            found[LIMITS[name]] = number(value) / 1000
        except ValueError:
            given.refuse(flag, f"{shown(one)}: {shown(value)} is not a number")
    return found


def between(name: str, mean: int, low: int, high: int) -> Keys:
    """Lengths that are uniform from the lowest to the highest."""
    return {name: max(min(mean, high), low), f"{name}_range": [low, high]}


def needs_lengths(given: Given, flag: str, data: str) -> Keys:
    """Nothing, where lengths are given elsewhere; raises for a data set whose lengths nobody can know without it."""
    if not given.told:
        problem = f"{shown(data)} has lengths of its own; expected random ones, or --set workload.lengths_file=FILE"
        given.refuse(flag, problem)
    return {}
