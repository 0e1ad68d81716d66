"""What the measurements give, predicted once: all tests that ask for it share it, in one worker of pytest-xdist.

The folder is `$SIMGPU_MEASUREMENTS`, or `../shared/measurements` beside the checkout. A file whose tests call
`predicted` says `pytestmark = together`, so that no second worker predicts the same rows again.
"""

import os
from functools import cache
from pathlib import Path

import pytest

from simgpu.catalog import Catalogue
from simgpu.lab.validation.batches import FULL
from simgpu.lab.validation.run import Validation, validate

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[2] / "shared/measurements"))
together = pytest.mark.xdist_group("measurements")
CATALOGUE = Catalogue()


def needs(table):
    """Skips a test where a table is not at hand."""
    return pytest.mark.skipif(not any(FOLDER.glob(f"{table}.csv*")), reason=f"no measurements in {FOLDER}")


def predicted(target, regime=FULL, place=FOLDER):
    """`simgpu validate TARGET` of a folder. Raises `InputError` where it has no table for it, each time."""
    return _predicted(target, regime, place)


@cache
def _predicted(target, regime, place):  # by place alone: `cache` tells arguments by name, and left out, from others
    return validate(target, place, CATALOGUE, regime)


def joined(*targets, regime=FULL):
    """What several targets find in the folder; a table that two of them show counts once."""
    parts, found = [predicted(target, regime) for target in targets], Validation("all", FOLDER, regime)
    for part in parts:
        known = {one.source for one in (*found.scored, *found.not_predicted, *found.left_out)}
        for name in ("scored", "not_predicted", "left_out", "misfits"):
            getattr(found, name).extend(one for one in getattr(part, name) if one.source not in known)
    return found
