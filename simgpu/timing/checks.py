"""What callers of a timer give, checked before anything is timed: names that are known, sizes that can be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.model.formats import FORMATS
from simgpu.model.operators import BYTES
from simgpu.timing.parts import ArrayLike

WIDEST_HEAD = 1024
"""Elements of a head: no kernel takes more (FlashAttention 256, latent attention 576)."""


def check_name(word: object, known: Iterable[str], key: str) -> None:
    """Raise `InputError` at `key` unless `word` is one of `known`."""
    names = list(known)
    if not isinstance(word, str) or word not in names:
        raise InputError(f"unknown {key} {shown(word)}{nearest(word, names)}", key=key)


def check_dtypes(dtype: str, **others: str | None) -> None:
    """A data type, and others by the name of their argument, where None stands for the same."""
    for key, name in {"dtype": dtype, **others}.items():
        if name is not None or key == "dtype":
            check_name(name, BYTES, key)


NARROW = [name for name, one in FORMATS.items() if one.bits < 16]
"""Formats that weights are narrower in than what they are multiplied in."""


def check_format(name: str, key: str = "weights") -> None:
    """Raise `InputError` at `key` unless `name` is a way to store weights, or several, as in 'q4_k+q4_k+q6_k'."""
    if "+" in name:
        for part in name.split("+"):
            check_format(part, key)
        return
    group = name.removeprefix("int4-g")
    if name in BYTES and BYTES[name] >= 2:
        raise InputError(f"{shown(name)} is no narrow format; expected one of {', '.join(NARROW)}", key=key)
    if name not in FORMATS and not (name.startswith("int4-g") and group.isdigit() and 0 < int(group) <= 100_000):
        raise InputError(f"unknown {key} {shown(name)}{nearest(name, NARROW)}", key=key)


def check_library(library: str, constants: Calibration, kind: str, more: Iterable[str] = ()) -> None:
    """A library that some level has constants of, or one of `more`: names that fall back to the default's constants."""
    if library != DEFAULT:
        check_name(library, dict.fromkeys((DEFAULT, *constants.libraries(kind), *more)), "library")


LARGEST = 1e18
"""A size at most, unless said otherwise: no kernel counts further, and products of a few such sizes are finite."""


def check_sizes(least: float = 1.0, most: float = LARGEST, **sizes: ArrayLike | None) -> None:
    """Numbers or arrays, by the name of their argument, from `least` to `most` and finite; None is not given."""
    for key, size in sizes.items():
        if size is None:
            continue
        try:
            array = np.asarray(size, dtype=float)
        except (TypeError, ValueError):
            raise InputError(f"{shown(size)}: expected numbers", key=key) from None
        except OverflowError:  # an integer beyond every float
            raise InputError(f"{shown(size)}: expected finite numbers", key=key) from None
        if array.size and not (array.min() >= least and array.max() <= most):
            wrong = array[~((array >= least) & (array <= most))].flat[0]
            upper = f" to {most:g}" if most < LARGEST or wrong > most else " on"
            raise InputError(f"{wrong:g}: expected finite numbers from {least:g}{upper}", key=key)


def check_heads(heads: ArrayLike, kv_heads: ArrayLike) -> None:
    """Every key-value head serves as many heads as the others. Both are checked sizes."""
    some, few = np.asarray(heads, float), np.asarray(kv_heads, float)
    bad = some % few != 0
    if bad.any():
        pair = [np.broadcast_to(array, bad.shape)[bad].flat[0] for array in (few, some)]
        raise InputError("{:g} does not divide heads = {:g}; expected a divisor".format(*pair), key="kv_heads")


def check_keys(keys: ArrayLike, queries: ArrayLike) -> None:
    """Keys count the new tokens too, so there are at least as many as queries."""
    short = np.asarray(keys, float) < np.asarray(queries, float)
    if short.any():
        pair = [np.broadcast_to(np.asarray(array, float), short.shape)[short].flat[0] for array in (keys, queries)]
        problem = "{:g} is less than queries = {:g}; keys count the new tokens with the cached ones".format(*pair)
        raise InputError(problem, key="keys")
