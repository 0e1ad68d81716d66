"""The command `simgpu doctor`."""

from __future__ import annotations

import sys

import click

from simgpu.cli.base import main, one_line_errors, say


@main.command(
    short_help="Check this installation: a line each, exit code 1 on a fault.",
    epilog="Example: simgpu doctor",
)
@click.pass_obj
@one_line_errors
def doctor(folders: tuple[str, ...]) -> None:
    """Check this installation: Python, packages, every file of the catalogue, measurements, where files go, extras.

    One line each; exit code 1 if one of them is a fault.
    """
    from simgpu.lab.health import examined

    well = True
    for found in examined(folders):
        say(f"{'ok' if found.well else 'FAULT':6}{found.what:13} {found.text}")
        well = well and found.well
    if not well:
        sys.exit(1)
