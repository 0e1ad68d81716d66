"""The command line. Thin: it reads options, calls the library, and prints."""

from simgpu.cli import (
    claims,
    completing,
    doctor,
    exploring,
    fabrics,
    imports,
    largest,
    launching,
    logs,
    models,
    reports,
    running,
    servers,
    studies,
    traces,
)
from simgpu.cli.base import LISTED, main

__all__ = [
    "LISTED",
    "claims",
    "completing",
    "doctor",
    "exploring",
    "fabrics",
    "imports",
    "largest",
    "launching",
    "logs",
    "main",
    "models",
    "reports",
    "running",
    "servers",
    "studies",
    "traces",
]
