"""What a key of a plan takes and means, and what absent keys come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simgpu.errors import InputError, shown

MOST_DEGREE = 1_000_000
"""Ranks of an axis that a plan may say at most: a greater number is a slip."""

STACK = "as the framework does"
"""What settings of a training stack come to where a plan says nothing."""


def schedule_of(vp: int) -> str:
    """The schedule where none is given."""
    return "interleaved" if vp > 1 else "1f1b"


def shard_of(dp: int, cp: int) -> int:
    """The default number of ranks that hold one sharded copy: all that hold copies."""
    return dp * cp


def micro_batch_of(batch: int, dp: int) -> int:
    """The default number of sequences in a microbatch: all of a replica."""
    return batch // dp


@dataclass(frozen=True)
class Key:
    """A key of a plan: the values that it takes, and its meaning.

    A value is one of `values`, else a whole number from `least` to `most`, or true or false where that is the default
    or it is a `flag`; a fraction too where it is `real`, and a list of whole numbers where it is `listed`. `absent`
    says what None comes to, and `rule` works it out from the values named in `of`: those of the plan, and the `batch`
    of the job.
    """

    about: str
    values: tuple[str, ...] = ()
    least: int = 1
    most: int = MOST_DEGREE
    absent: str = ""
    rule: Callable[..., Any] | None = None
    of: tuple[str, ...] = ()
    flag: bool = False
    real: bool = False
    listed: bool = False


def of_plan(default: Any, about: str, **more: Any) -> Any:
    """A field of a plan, with its key."""
    return field(default=default, metadata={"key": Key(about, **more)})


def number_of(name: str, given: Any, keys: Mapping[str, Key]) -> float:
    """A number above 0 of a key that takes fractions. Raises `InputError`."""
    good = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not good or not 0 < given <= keys[name].most:
        raise InputError(f"{shown(given)} is no number above 0 and up to {keys[name].most}", key=f"plan.{name}")
    return float(given)


def counts_of(name: str, given: Any, keys: Mapping[str, Key]) -> tuple[int, ...]:
    """Whole numbers of a key that takes a list of them. Raises `InputError`."""
    if not isinstance(given, (tuple, list)) or not given:
        raise InputError(f"{shown(given)} is not a list of whole numbers", key=f"plan.{name}")
    for count in given:
        if type(count) is not int or not keys[name].least <= count <= keys[name].most:
            problem = f"{shown(count)} is not a whole number from {keys[name].least} to {keys[name].most}"
            raise InputError(problem, key=f"plan.{name}")
    return tuple(given)
