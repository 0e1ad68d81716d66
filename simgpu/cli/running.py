"""Commands of one experiment or of the catalogue: run, resolve, trace, explain, list, show."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from simgpu.cli.base import (
    LISTED,
    Words,
    as_family,
    as_option,
    file_argument,
    folder_option,
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    out_option,
    plot_options,
    price_option,
    quiet_option,
    run_file,
    set_option,
    tell,
    tell_refused,
    tell_written,
    with_price,
)
from simgpu.cli.names import SHOWN, names_of
from simgpu.render.data import print_json


@main.command(
    short_help="Run an experiment: its table, plots, trace and data.",
    epilog="Example: simgpu run llama70b_tp --set plan.tp=4",
)
@file_argument
@set_option
@price_option
@format_option("table", "json", "csv")
@folder_option
@plot_options("Draw no pictures; data and trace are written all the same.")
@click.option(
    "--memory",
    is_flag=True,
    help="Print the memory of every scenario, by part and stage (training and inference only).",
)
@click.option(
    "--require-fit",
    is_flag=True,
    help="Treat a plan that does not fit in GPU memory as an error (training and inference only).",
)
@click.option(
    "--requests",
    type=click.Choice(("csv", "parquet", "both")),
    help="Write every request of kind traffic, and seconds.",
)
@quiet_option
@click.pass_obj
@one_line_errors
def run(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    price: str | None,
    style: str,
    out: Path | None,
    plots: bool,
    formats: tuple[str, ...],
    memory: bool,
    require_fit: bool,
    requests: str | None,
    quiet: bool,
) -> None:
    """Run an experiment: print its table, write its plots, trace and data."""
    from simgpu.render.data import print_csv
    from simgpu.study.report import rows as report

    settings = with_price((*settings, "require_fit=true") if require_fit else settings, price)
    outcome, catalogue = run_file(file, settings, folders, quiet)
    document = report.build(outcome, catalogue)
    folder = out or Path("results") / outcome.experiment.name
    tables = ("csv", "parquet") if requests == "both" else (requests,) if requests else ()
    written = report.write(outcome, document, folder, False, (), tables)
    gone = None
    try:  # the answer is on the screen before the first picture is drawn
        if style == "json":
            print_json(document, sys.stdout)
        elif style == "csv":
            print_csv(outcome.rows, sys.stdout)
        else:
            report.print_report(outcome, document, sys.stdout, memory)
        sys.stdout.flush()
    except OSError as error:  # the reader has gone; files are written all the same
        gone = error
    written += report.draw(outcome, folder, formats) if plots else []
    if gone is not None:
        raise gone
    tell_written(written, quiet)
    undrawn = list(outcome.undrawn.values()) if plots else []
    for problem in undrawn:
        tell(f"simgpu: {problem}")
    tell_refused(outcome.refused, len(outcome.results))
    if undrawn and not outcome.experiment.settings:  # by --set a row that a plot asks for may go: that is no fault
        sys.exit(2)


@main.command(
    short_help="Print every input of every scenario with its source.", epilog="Example: simgpu resolve llama70b_tp"
)
@file_argument
@set_option
@format_option("json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def resolve(folders: tuple[str, ...], file: str, settings: tuple[str, ...], style: str, quiet: bool) -> None:
    """Print every input of every scenario with its source: defaults, overrides, catalogue figures."""
    from simgpu.render.data import print_csv
    from simgpu.study.report import rows as report

    outcome, _ = run_file(file, settings, folders, quiet)
    if style == "json":
        print_json({"experiment": outcome.experiment.name, "scenarios": report.scenarios(outcome)}, sys.stdout)
    else:
        print_csv(report.inputs(outcome), sys.stdout)
    tell_refused(outcome.refused, len(outcome.results))


@main.command(
    short_help="Print where the time goes, operator by operator.",
    epilog="Example: simgpu explain gpt3_search#2",
)
@file_argument
@set_option
@format_option("table", "json", "csv")
@click.option(
    "--top", type=click.IntRange(min=1), metavar="N", default=20, show_default=True, help="Operators in each table."
)
@click.pass_obj
@one_line_errors
def explain(folders: tuple[str, ...], file: str, settings: tuple[str, ...], style: str, top: int) -> None:
    """Print where the time goes, operator by operator: what limits each, % of ideal, constants and their sources."""
    from simgpu.render.data import print_csv
    from simgpu.study.report.explain import explain_each
    from simgpu.study.search.ranked import open_experiment

    catalogue = open_catalogue(folders)
    explanations, refused = explain_each(open_experiment(file, settings, catalogue), catalogue)
    if style == "json":
        scenarios = [
            {
                "scenario": one.name,
                "row": one.result.row,
                "operators": one.operators,
                "constants": one.constants,
                "notes": one.notes,
            }
            for one in explanations
        ]
        print_json({"scenarios": scenarios}, sys.stdout)
        tell_refused(refused, len(explanations))
        return
    if style == "csv":
        print_csv([{"scenario": one.name, **row} for one in explanations for row in one.operators], sys.stdout)
        tell_refused(refused, len(explanations))
        return
    from simgpu.render.explain import print_explanations

    shown = [(one.name, one.result.row, one.operators, one.constants, one.notes) for one in explanations]
    print_explanations(shown, top, sys.stdout)
    tell_refused(refused, len(explanations))


@main.command("list", short_help="List what the catalogue holds.", epilog="Example: simgpu list gpus")
@click.argument("kind", required=False, metavar="[KIND]", type=Words(LISTED))
@format_option("table", "json", "csv")
@click.pass_obj
@one_line_errors
def list_(folders: tuple[str, ...], kind: str | None, style: str) -> None:
    """List what the catalogue holds.

    KIND is models, networks, families, gpus, nodes, clusters, instances, links, architectures, runtimes, frameworks,
    experiments, prices (of each GPU and what stands beside it, as results take them), reliability (failure rates),
    quality (what narrower weights keep of a model's, as published) or cooling (kinds of it); without it all are listed.
    """
    from simgpu.study.report.catalogue import listing, print_listing

    catalogue = open_catalogue(folders)
    entries = {one: listing(catalogue, one) for one in ([kind] if kind else LISTED)}  # all read, or nothing printed
    print_listing(entries, style, sys.stdout)


@main.command(
    short_help="Write a commented start: an experiment, a GPU, a model.",
    epilog="Example: simgpu new training -o mine.yaml",
)
@click.argument("kind", type=Words(["training", "inference", "traffic", "search", "gpu", "node", "cluster", "model"]))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="New file; its name becomes that of the part or experiment.  [default: print it]",
)
@quiet_option
@one_line_errors
def new(kind: str, out: Path | None, quiet: bool) -> None:
    """Write a commented file to start from: an experiment that runs, or your own GPU, node, cluster or model."""
    from simgpu.errors import InputError
    from simgpu.render.files import written_whole
    from simgpu.study.experiment.templates import template

    if out is None:
        click.echo(template(kind), nl=False)
        return
    if out.exists():
        raise InputError("exists already; name a new file", file=out)
    with written_whole(out) as stream:
        stream.write(template(kind, out.stem))
    tell_written([("written", out)], quiet)


@main.command(
    short_help="Print a specification: every figure with unit and source.",
    epilog="Example: simgpu show dgx-h100 --out dgx-h100.png",
)
@click.argument("name", shell_complete=names_of(*SHOWN, files=True))
@as_option
@set_option
@out_option("FILE", "Draw the graph of a node or cluster there (.png, .svg or .pdf).")
@format_option("table", "json", "csv")
@click.option(
    "--nodes", type=click.IntRange(1, 64), metavar="N", default=2, show_default=True, help="Nodes of a cluster to draw."
)
@click.option("--constants", is_flag=True, help="Print every kernel constant of a GPU with its full source.")
@quiet_option
@click.pass_obj
@one_line_errors
def show(
    folders: tuple[str, ...],
    name: str,
    family: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    style: str,
    nodes: int,
    constants: bool,
    quiet: bool,
) -> None:
    """Print a specification: every figure with unit and source. --out draws the graph of a node or cluster."""
    from simgpu.study.report import catalogue as inventory

    catalogue = open_catalogue(folders)
    subject = inventory.find(catalogue, as_family(name, family), settings, nodes)
    picture = inventory.draw(subject, out) if out is not None else None
    if style == "table":
        inventory.show(catalogue, subject, sys.stdout, constants)
    else:
        inventory.print_data(catalogue, subject, style, sys.stdout)
    if picture is not None:
        tell_written([("picture", picture)], quiet)
