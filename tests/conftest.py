"""What all tests share: no width from outside, and no clock.

Workers of pytest-xdist have COLUMNS set, which tables honour. A busy machine is no failure, so that hypothesis has no
deadline.
"""

import os

import hypothesis
import pytest

os.environ.pop("COLUMNS", None)
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With `--dist loadgroup` the tests of a file run in one worker, so that what its tests share is made once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
