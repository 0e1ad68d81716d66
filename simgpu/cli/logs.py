"""Commands of logs that users have: what they say, and an experiment held against them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from simgpu.cli.base import (
    file_argument,
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    set_option,
)


@main.command(
    short_help="Say what logs of trainers and servers measured.",
    epilog="Example: simgpu observe train.log bench.json",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@format_option("table", "json", "csv")
@one_line_errors
def observe(files: tuple[Path, ...], style: str) -> None:
    """Say what each FILE is and what it measured: step times, memory, latencies, rates.

    FILE is the log of a trainer, the results of a load generator, a table of llama-bench, or a server's /metrics page:
    docs/logs.md lists them. Warm-up, evaluation and checkpoint steps are told apart.
    """
    from simgpu.lab.logs import command

    command.show_observed(command.observe(files), style, sys.stdout)


@main.command(
    short_help="Hold an experiment against logs of the real run.",
    epilog="Example: simgpu compare my-run.yaml --case 2 --log train.log",
)
@file_argument
@set_option
@click.option(
    "--case", "number", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Its case."
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    required=True,
    metavar="LOG",
    type=click.Path(path_type=Path),
    help="Log of the real run, as `simgpu observe` reads it; repeatable.",
)
@format_option("table", "json", "csv")
@click.pass_obj
@one_line_errors
def compare(
    folders: tuple[str, ...], file: str, settings: tuple[str, ...], number: int, logs: tuple[Path, ...], style: str
) -> None:
    """Print measured beside predicted, with its interval, and the largest differences in words.

    A log of another job is refused: other batch, lengths or GPUs, or other FLOPs of a step.
    """
    from simgpu.errors import InputError
    from simgpu.lab.logs import command
    from simgpu.study.experiment.running import find_experiment, load_experiment

    catalogue = open_catalogue(folders)
    cases = load_experiment(find_experiment(file, catalogue), settings, catalogue).cases
    if number > len(cases):
        raise InputError(f"{number}: the experiment has {len(cases)}", key="--case")
    case = cases[number - 1]
    command.show_compared(command.compare(case.scenario, case.origins, catalogue, logs), style, sys.stdout)
