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
    out_option,
    quiet_option,
    set_option,
    tell,
)
from simgpu.cli.names import MACHINES, names_of


@main.command(
    short_help="Say what logs of trainers and servers measured.",
    epilog="Example: simgpu observe train.log bench.json",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--of", "experiment", metavar="EXPERIMENT", help="The experiment that the logs are of: learn from them.")
@click.option(
    "--case", "numbers", type=int, multiple=True, metavar="N", help="With --of: the case of each run, in order."
)
@out_option("FILE.yaml", "With --of: write what was learned, to be named wherever a cluster is.")
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def observe(
    folders: tuple[str, ...],
    files: tuple[Path, ...],
    experiment: str | None,
    numbers: tuple[int, ...],
    out: Path | None,
    style: str,
    quiet: bool,
) -> None:
    """Say what each FILE is and what it measured: step times, memory, latencies, rates.

    FILE is the log of a trainer, the results of a load generator, a table of llama-bench, or a server's /metrics page:
    docs/logs.md lists them. Warm-up, evaluation and checkpoint steps are told apart.

    With --of, fit a few factors of the machine to them: kernels of the framework or the engine, and its links.
    """
    from simgpu.errors import InputError
    from simgpu.lab.logs import command

    runs = command.observe(files)
    if experiment is None:
        if out is not None or numbers:
            raise InputError("says what the logs are of; expected --of EXPERIMENT with it", key="--out or --case")
        command.show_observed(runs, style, sys.stdout)
        return
    from simgpu.study.search.ranked import open_experiment

    catalogue = open_catalogue(folders)
    cases = open_experiment(experiment, (), catalogue).cases
    done = command.learn(cases, numbers, runs, catalogue)
    if out is not None:
        command.write_overlay(done, out)
    command.show_learned(done, style, sys.stdout)
    if out is not None and not quiet:
        tell(f"written: {out}; cluster: {out} uses it")


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
    from simgpu.study.search.ranked import open_experiment

    catalogue = open_catalogue(folders)
    cases = open_experiment(file, settings, catalogue).cases
    if number > len(cases):
        raise InputError(f"{number}: the experiment has {len(cases)}", key="--case")
    case = cases[number - 1]
    command.show_compared(command.compare(case.scenario, case.origins, catalogue, logs), style, sys.stdout)


@main.command(
    short_help="Hold a new cluster's first tests against what it should do.",
    epilog="Example: simgpu accept dgx-h100 --log nccl.log --log p2p.txt --page vendor.md",
)
@click.argument("cluster", shell_complete=names_of(*MACHINES))
@click.option(
    "--log",
    "logs",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Log of nccl-tests, nvbandwidth, ib_write_bw, ..., or nvidia-smi topo -m; repeatable.",
)
@click.option("--collective", "-c", metavar="NAME", help="Of logs of nccl-tests that do not say it: all_reduce, ...")
@click.option("--gpus", "-g", type=click.IntRange(min=2), metavar="N", help="Of logs of nccl-tests without ranks.")
@click.option(
    "--page", type=click.Path(path_type=Path), metavar="FILE", help="Write a page for the vendor (.md or .html)."
)
@set_option
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def accept(
    folders: tuple[str, ...],
    cluster: str,
    logs: tuple[Path, ...],
    collective: str | None,
    gpus: int | None,
    page: Path | None,
    settings: tuple[str, ...],
    style: str,
    quiet: bool,
) -> None:
    """Say which link, adapter or GPU of CLUSTER is below what it should do, by how much, beyond its interval or not.

    Reads logs of nccl-tests, p2pBandwidthLatencyTest, nvbandwidth, ib_write_bw, BabelStream, gpu_burn and mamf-finder,
    tables of kernels as simgpu measure writes them, and nvidia-smi topo -m of one node or several; what mpirun, srun
    or kubectl put before lines is taken off.

    Ends with exit code 1 where something is below.
    """
    from simgpu.lab.acceptance import command
    from simgpu.lab.acceptance.logs import Asked

    if page is not None:
        command.check_page(page)
    done = command.accept(cluster, logs, settings, Asked(collective, gpus), open_catalogue(folders))
    if page is not None:
        command.write_page(done, page)
    command.show(done, style, sys.stdout)
    if page is not None and not quiet:
        tell(f"written: {page}")
    if done.below:
        sys.stdout.flush()
        sys.exit(1)
