"""Checks of what callers of a timer give: known names, possible sizes. They run before anything is timed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.model.formats import FORMATS, SYMMETRIC
from simgpu.model.operators import BYTES
from simgpu.timing.parts import ArrayLike

WIDEST_HEAD = 1024
"""Largest head dimension that is accepted: no kernel takes more (FlashAttention 256, latent attention 576)."""


def check_name(word: object, names: Iterable[str], key: str) -> None:
    """Raise `InputError` at `key` unless `word` is one of `names`."""
    names = list(names)
    if not isinstance(word, str) or word not in names:
        raise InputError(f"unknown {key} {shown(word)}{nearest(word, names)}", key=key)


def check_dtypes(dtype: str, **others: str | None) -> None:
    """Raise `InputError` for a data type that is not known.

    `others` are further data types by the name of their argument; None stands for the same as `dtype`.
    """
    for key, name in {"dtype": dtype, **others}.items():
        if name is not None or key == "dtype":
            check_name(name, BYTES, key)


NARROW = [name for name, one in FORMATS.items() if one.bits < 16]
"""Formats of weights that are narrower than the type in which they are multiplied."""


def check_format(name: str, key: str = "weights") -> None:
    """Raise `InputError` at `key` unless `name` is a way to store weights, or several, as in 'q4_k+q4_k+q6_k'."""
    if "+" in name:
        for part in name.split("+"):
            check_format(part, key)
        return
    group = name.removeprefix("int4-g").removesuffix(SYMMETRIC)
    if name in BYTES and BYTES[name] >= 2:
        raise InputError(f"{shown(name)} is not a narrow format; expected one of {', '.join(NARROW)}", key=key)
    if name not in FORMATS and not (name.startswith("int4-g") and group.isdigit() and 0 < int(group) <= 100_000):
        raise InputError(f"unknown {key} {shown(name)}{nearest(name, NARROW)}", key=key)


def check_library(library: str, constants: Calibration, kind: str, more: Iterable[str] = ()) -> None:
    """Raise `InputError` unless there are constants of a library, for a class of operators `kind`.

    `more` are names that are accepted too; they use the constants of the default library.
    """
    if library != DEFAULT:
        check_name(library, dict.fromkeys((DEFAULT, *constants.libraries(kind), *more)), "library")


LARGEST = 1e18
"""Largest size that is accepted by default: products of a few such sizes are still finite."""


def check_sizes(least: float = 1.0, most: float = LARGEST, **sizes: ArrayLike | None) -> None:
    """Raise `InputError` unless sizes are finite numbers from `least` to `most`.

    `sizes` are numbers or arrays by the name of their argument; None is skipped.
    """
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
    """Raise `InputError` unless `kv_heads` divides `heads`. Both are checked sizes."""
    some, few = np.asarray(heads, float), np.asarray(kv_heads, float)
    bad = some % few != 0
    if bad.any():
        pair = [np.broadcast_to(array, bad.shape)[bad].flat[0] for array in (few, some)]
        raise InputError("{:g} does not divide heads = {:g}; expected a divisor".format(*pair), key="kv_heads")


def check_keys(keys: ArrayLike, queries: ArrayLike) -> None:
    """Raise `InputError` unless there are at least as many keys as queries: keys count the new tokens too."""
    short = np.asarray(keys, float) < np.asarray(queries, float)
    if short.any():
        pair = [np.broadcast_to(np.asarray(array, float), short.shape)[short].flat[0] for array in (keys, queries)]
        problem = "{:g} is less than queries = {:g}; keys count the new tokens with the cached ones".format(*pair)
        raise InputError(problem, key="keys")
