"""What all tests share: no width from outside, and no clock.

Workers of pytest-xdist have COLUMNS set, which tables honour. A busy machine is no failure, so that hypothesis has no
deadline.
"""

import os

import hypothesis

os.environ.pop("COLUMNS", None)
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")
