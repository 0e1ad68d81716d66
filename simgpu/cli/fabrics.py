"""Commands about fabrics: what-breaks, share, place."""

from __future__ import annotations

import sys

import click

from simgpu.cli.base import (
    file_argument,
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    progress_bar,
    quiet_option,
    set_option,
)


@main.command(
    "what-breaks",
    short_help="Break every link, NIC, switch and GPU in turn.",
    epilog="Example: simgpu what-breaks lost_nic",
)
@file_argument
@set_option
@click.option("--case", "number", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Row.")
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def what_breaks(
    folders: tuple[str, ...], file: str, settings: tuple[str, ...], number: int, style: str, quiet: bool
) -> None:
    """Break every link, NIC, switch and GPU of a training job in turn; print which failure makes its step longest."""
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.failures import print_failures
    from simgpu.study.search.ranked import open_experiment
    from simgpu.study.whatif.failures import what_breaks as broken

    catalogue = open_catalogue(folders)
    with progress_bar(quiet) as progress:
        done = broken(open_experiment(file, settings, catalogue), number, catalogue, progress).document()
    if style == "json":
        print_json(done, sys.stdout)
    elif style == "csv":
        print_csv(done["rows"], sys.stdout)
    else:
        print_failures(done, sys.stdout)


@main.command(
    short_help="Run the jobs of a file on one fabric at once.",
    epilog="Example: simgpu share two_jobs",
)
@file_argument
@set_option
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def share(folders: tuple[str, ...], file: str, settings: tuple[str, ...], style: str, quiet: bool) -> None:
    """Run the training jobs of FILE, one in each row, on one fabric at once, and print how much each is slowed.

    Where the nodes of a job stand says `hardware: {cluster.placement: ...}` of its row.
    """
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.failures import print_shared
    from simgpu.study.search.ranked import open_experiment
    from simgpu.study.whatif.sharing import share as shared

    catalogue = open_catalogue(folders)
    with progress_bar(quiet) as progress:
        done = shared(open_experiment(file, settings, catalogue), catalogue, progress).document()
    if style == "json":
        print_json(done, sys.stdout)
    elif style == "csv":
        print_csv(done["rows"], sys.stdout)
    else:
        print_shared(done, sys.stdout)


@main.command(
    short_help="Search where the nodes of a job should stand.",
    epilog="Example: simgpu place placement --free 'node[4-9,20-99]'",
)
@file_argument
@set_option
@click.option("--case", "number", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Row.")
@click.option("--free", metavar="NODES", help="Nodes that are free, as Slurm lists them. Default: all.")
@click.option(
    "--tries", type=click.IntRange(1, 1000), default=12, show_default=True, metavar="N", help="Placements to simulate."
)
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def place(
    folders: tuple[str, ...], file: str, settings: tuple[str, ...], number: int, free: str | None, tries: int,
    style: str, quiet: bool,
) -> None:  # fmt: skip
    """Search the placement of a training job's nodes on its fabric that makes the step shortest.

    Prints the nodes in the order of ranks, for `cluster.placement` or a host file, and what they buy.
    """
    from simgpu.errors import InputError
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.failures import print_placed
    from simgpu.study.search.ranked import open_experiment
    from simgpu.study.whatif.placing import place as placed

    if free is not None and not free.strip():  # as where nothing is free
        raise InputError("names no nodes; expected such as 'node[0-3,8]', or no --free for all", key="--free")
    catalogue = open_catalogue(folders)
    with progress_bar(quiet) as progress:
        done = placed(
            open_experiment(file, settings, catalogue), number, free or "", tries, catalogue, progress
        ).document()
    if style == "json":
        print_json(done, sys.stdout)
    elif style == "csv":
        print_csv(done["rows"], sys.stdout)
    else:
        print_placed(done, sys.stdout)
