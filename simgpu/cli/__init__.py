"""The command line. Thin: it reads options, calls the library, and prints."""

from simgpu.cli import models, running, servers, studies
from simgpu.cli.base import LISTED, main

__all__ = ["LISTED", "main", "models", "running", "servers", "studies"]
