"""Commands of many scenarios: sweep, results, search, recommend, sensitivity, diff."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click

from simgpu.cli.base import (
    Shown,
    answer_options,
    file_argument,
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    pool_options,
    price_option,
    progress_bar,
    quiet_option,
    set_option,
    store_option,
    tell,
    tell_written,
    with_price,
)
from simgpu.cli.names import names_of
from simgpu.render.data import print_json

min_quality_option = click.option(
    "--min-quality", metavar="SHARE", help="Of the quality in 16 bits, as published (simgpu list quality): 98%."
)


def _quality(given: str | None) -> float | None:
    """The share of an option. Raises `InputError`."""
    from simgpu.operations.quantities import share_of

    return share_of(given, "--min-quality", above=True) if given is not None else None


@main.command(
    short_help="Run many scenarios over all cores, and keep their rows.",
    epilog="Example: simgpu sweep plan_sweep --jobs 8",
)
@file_argument
@set_option
@price_option
@store_option
@pool_options
@click.option("--limit", type=int, metavar="N", help="Run at most N scenarios now.")
@click.option("--retry-failed", is_flag=True, help="Run failed scenarios again.")
@answer_options("table", "json", "csv")
@click.pass_obj
@one_line_errors
def sweep(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    price: str | None,
    shown: Shown,
    store: Path | None,
    limit: int | None,
    retry_failed: bool,
    **where: Any,
) -> None:
    """Run the scenarios of an experiment that the store lacks, on all cores or a cluster, and store their rows.

    Stopped or killed at any time, the same command goes on from what is finished.
    """
    from simgpu.render.progress import ProgressLine
    from simgpu.study.experiment.running import find_experiment
    from simgpu.study.pools.where import Where
    from simgpu.study.report import sweeps as report
    from simgpu.study.sweep import command

    catalogue = open_catalogue(folders)
    with ProgressLine(None if shown.quiet else sys.stderr, "sweep") as line:
        done = command.run(
            find_experiment(file, catalogue),
            with_price(settings, price),
            catalogue,
            command.SweepOptions(store, Where(**where), limit, retry_failed),
            lambda p: line.update(**vars(p)),
        )
    if done.interrupted:
        tell(f"simgpu: {report.interrupted(done)}")
        sys.exit(130)
    try:
        written = report.write(done, shown.folder(done.experiment.name), plots=shown.plots, formats=shown.formats)
    finally:  # a plot that cannot be drawn takes nothing else away
        report.show(done, shown.style, sys.stdout)
    tell_written([("store", done.store), *written], shown.quiet)


@main.command(
    short_help="List the rows that sweeps stored, or all of one scenario.",
    epilog="Example: simgpu results --where 'mfu > 0.4' --sort -mfu",
)
@click.argument("key", required=False)
@store_option
@click.option("--experiment", metavar="NAME", help="Only rows of the latest version of this experiment.")
@click.option("--where", metavar="CONDITION", help="Only rows that satisfy this: 'mfu > 0.4 and memory_fits'.")
@click.option(
    "--status",
    type=click.Choice(["ok", "failed", "all"]),
    default="ok",
    show_default=True,
    help="Rows to list.",
)
@click.option("--columns", default="", metavar="A,B", help="Columns to show.  [default: labels and the main results]")
@click.option("--sort", metavar="COLUMN", help="Sort by a column; -COLUMN sorts in descending order.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N rows.  [default: 50 in a table]")
@format_option("table", "json", "csv")
@click.option(
    "-o",
    "--export",
    "--out",
    "export",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write FILE.csv, .parquet or .json.",
)
@quiet_option
@one_line_errors
def results(
    key: str | None, store: Path | None, columns: str, style: str, export: Path | None, quiet: bool, **asked: Any
) -> None:
    """List the rows that sweeps stored; with KEY (or its beginning), print everything about one scenario."""
    from simgpu.study.sweep import results as study

    if key is not None:
        study.show_scenario(study.scenario(store, key), sys.stdout)
        return
    wanted = study.ResultsQuery(**asked)
    found = study.results(store, wanted)
    chosen = [column.strip() for column in columns.split(",") if column.strip()]
    if export is not None:
        written = study.export(found, export, chosen)
        tell_written([(f"written ({len(found):,} rows)", written)], quiet)
        return
    study.show(found, wanted, chosen, style, sys.stdout)
    if style == "table" and not quiet:
        for line in study.experiments(store):
            tell(line)


@main.command(
    short_help="Find the best plans, and why others are slower.", epilog="Example: simgpu search gpt3_search --top 5"
)
@file_argument
@set_option
@price_option
@pool_options
@click.option("--top", type=click.IntRange(1, 1000), metavar="N", help="Plans to list.  [default: as in the file]")
@min_quality_option
@store_option
@answer_options("table", "json", "csv")
@click.pass_obj
@one_line_errors
def search(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    price: str | None,
    shown: Shown,
    top: int | None,
    min_quality: str | None,
    store: Path | None,
    **where: Any,
) -> None:
    """Find the best plans for a model on a cluster, why others are slower, and what less memory or fewer GPUs cost."""
    from simgpu.render.progress import SearchLine
    from simgpu.study.pools.where import Where
    from simgpu.study.search import command

    with SearchLine(None if shown.quiet else sys.stderr) as line:
        answer = command.search(
            file,
            with_price(settings, price),
            open_catalogue(folders),
            Where(**where),
            command.Wish(top, _quality(min_quality)),
            store,
            lambda p: line.update(**vars(p)),
        )
    if not answer.complete:  # another Ctrl-C shall not take away the answer to the first
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    written = command.write(answer, shown.folder(answer.name), plots=shown.plots, formats=shown.formats)
    command.show(answer, shown.style, sys.stdout)
    tell_written(written, shown.quiet)
    if not answer.complete:
        sys.exit(130)


@main.command(
    short_help="Which machine for a workload, and why not the others.",
    epilog="Example: simgpu recommend a100_or_4090",
)
@file_argument
@set_option
@price_option
@min_quality_option
@answer_options("table", "json", "csv")
@click.pass_obj
@one_line_errors
def recommend(
    folders: tuple[str, ...], file: str, settings: tuple[str, ...], price: str | None, min_quality: str | None,
    shown: Shown,
) -> None:  # fmt: skip
    """Rank the machines of FILE, an experiment whose rows are machines, by what its `recommend:` section asks for.

    Prints why each loses, which are on the Pareto front, how sure the order is, and which price, utilisation or batch
    would change it.
    """
    from simgpu.study.choice import recommending, report

    with progress_bar(shown.quiet) as told:
        found = recommending.recommend(
            file, with_price(settings, price), open_catalogue(folders), told, _quality(min_quality)
        )
    written = report.write(found, shown.folder(found.name), plots=shown.plots, formats=shown.formats)
    report.show(found, shown.style, sys.stdout)
    tell_written(written, shown.quiet)


@main.command(
    short_help="What a result depends on, input by input.",
    epilog="Example: simgpu sensitivity what_matters --case 1 --change 10%",
)
@file_argument
@set_option
@click.option(
    "--value",
    "values",
    multiple=True,
    metavar="COLUMN",
    help="Result to analyse; repeatable.  [default: by kind of job]",
)
@click.option(
    "--case", "cases", multiple=True, metavar="ROW", help="Row to analyse: a number, a label, or all; repeatable."
)
@click.option("--change", default="10%", show_default=True, metavar="SHARE", help="Change of each input, down and up.")
@price_option
@pool_options
@answer_options("table", "json", "csv")
@click.pass_obj
@one_line_errors
def sensitivity(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    price: str | None,
    shown: Shown,
    change: str,
    **asked: Any,
) -> None:
    """Print what a result depends on: vary each input of the hardware down and up; elasticities, a tornado plot."""
    from simgpu.study.pools.where import Where
    from simgpu.study.report import sensitivity as report
    from simgpu.study.whatif.sensitivity import Asked, parse_change

    where = Where(**{name: asked.pop(name) for name in ("jobs", "scheduler", "dask_workers")})
    wanted = Asked(change=parse_change(change), **asked)
    with progress_bar(shown.quiet) as progress:
        priced = with_price(settings, price)
        experiment, found = report.run(file, priced, open_catalogue(folders), wanted, progress, where)
    written = report.write(experiment, found, shown.folder(experiment.name), plots=shown.plots, formats=shown.formats)
    report.show(experiment, found, shown.style, sys.stdout)
    tell_written(written, shown.quiet)


@main.command(
    short_help="Compare two scenarios: what differs, and why.",
    epilog='Example: simgpu diff gpt3_search#1 gpt3_search#1 --set-b "NIC bandwidth=2x"',
)
@click.argument("a", metavar="A", shell_complete=names_of("experiments", files=True))
@click.argument("b", metavar="B", shell_complete=names_of("experiments", files=True))
@set_option
@click.option("--set-a", "settings_a", multiple=True, metavar="KEY=VALUE", help="The same, in A only.")
@click.option("--set-b", "settings_b", multiple=True, metavar="KEY=VALUE", help="The same, in B only.")
@click.option("--value", metavar="COLUMN", help="Result to compare.  [default: by kind of job]")
@price_option
@click.option(
    "--all", "everything", is_flag=True, help="Show every figure that differs, not only those given in the files."
)
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def diff(
    folders: tuple[str, ...], a: str, b: str, everything: bool, style: str, quiet: bool, price: str | None, **asked: Any
) -> None:  # fmt: skip
    """Compare two scenarios: which inputs and times differ, what explains it, whether it is beyond the error bars.

    A and B are FILE, FILE:NUMBER (a row, from 1) or FILE:LABEL; both may be in one file.
    """
    from simgpu.render.data import print_csv
    from simgpu.study.whatif import difference

    asked["settings"] = with_price(asked["settings"], price)
    with progress_bar(quiet) as progress:
        done = difference.diff(a, b, open_catalogue(folders), progress=progress, **asked).document()
    if style == "json":
        print_json(done, sys.stdout)
        return
    if style == "csv":
        print_csv(done["explained"], sys.stdout)
        return
    from simgpu.render.difference import print_difference

    print_difference(done, everything, sys.stdout)
