"""The version of this simgpu, and a digest of the code that computes results."""

from __future__ import annotations

import hashlib
from pathlib import Path

from simgpu.memo import remembered
from simgpu.version import __version__

PACKAGE = Path(__file__).resolve().parents[2]
"""The folder simgpu/."""

_DECIDES = ("analysis", "engine", "hardware", "model", "operations", "plan", "simulation", "timing", "workload")
_DECIDES_TOO = ("catalog.py", "columns.csv", "columns.py", "memo.py", "overrides.py", "scenario.py", "units.py")


@remembered(1)
def code_digest() -> str:
    """A digest of the code that computes results: a changed checkout is another version."""
    files = [PACKAGE / name for name in _DECIDES_TOO]
    for room in _DECIDES:
        files += [file for file in sorted((PACKAGE / room).rglob("*")) if file.suffix in (".py", ".csv")]
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(PACKAGE)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> tuple[str, str]:
    """The version of simgpu, and that of the code that computes results."""
    return __version__, code_digest()
