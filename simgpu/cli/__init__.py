"""The command line. Thin: it reads options, calls the library, and prints."""

from simgpu.cli import claims, imports, logs, models, reports, running, servers, studies, traces
from simgpu.cli.base import LISTED, main

__all__ = [
    "LISTED",
    "claims",
    "imports",
    "logs",
    "main",
    "models",
    "reports",
    "running",
    "servers",
    "studies",
    "traces",
]
