"""A few of many cases in `make test`, all of them in `make test-slow`."""

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], every: int, *, first: int = 0) -> list[Any]:
    """The cases for `parametrize`: one of `every` runs among the quick tests, the others are marked slow.

    A case of several values is a tuple, as `parametrize` takes it. Which ones are quick follows from their order alone.
    """
    return [case if n % every == first else _slow(case) for n, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    if hasattr(case, "marks"):  # a `pytest.param`
        return pytest.param(*case.values, marks=[*case.marks, pytest.mark.slow], id=case.id)
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
