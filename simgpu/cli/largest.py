"""The command of the largest model that a machine takes."""

from __future__ import annotations

import sys
from typing import Any

import click

from simgpu.cli.base import format_option, main, one_line_errors, open_catalogue, set_option
from simgpu.cli.names import MACHINES, names_of


@main.command(
    short_help="Find the largest model that a machine takes.",
    epilog="Example: simgpu largest --gpu rtx-4090 --finetune qlora --tokens 2048",
)
@click.option(
    "--gpu", "--cluster", "machines", required=True, multiple=True, metavar="NAME", shell_complete=names_of(*MACHINES),
    help="GPU, node or cluster; repeatable: a row for each.",
)  # fmt: skip
@click.option("--finetune", metavar="HOW", help="full, lora or qlora.")
@click.option("--serve", metavar="TOKENS", help="Serve with that much context: 32k.")
@click.option("--tokens", default="2048", show_default=True, metavar="N", help="Of a sequence of the fine-tuning.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences at a time.")
@click.option("--precision", metavar="NAME", help="Of the weights that are served.  [default: the checkpoint's]")
@click.option(
    "--family",
    metavar="MODEL",
    shell_complete=names_of("models"),
    help="Model whose layers are varied.  [default: the largest that fits]",
)
@click.option("--epoch", metavar="TOKENS", help="Tokens of an epoch, for its time: 5M.")
@set_option
@format_option("table", "json", "csv")
@click.pass_obj
@one_line_errors
def largest(
    folders: tuple[str, ...], machines: tuple[str, ...], settings: tuple[str, ...], style: str, **given: Any
) -> None:  # fmt: skip
    """Find the largest model of the catalogue that a machine takes, the largest size of its family, and what binds.

    A second table says what one more option buys: recomputation, offload, a loss in chunks, fewer bits. Of several
    machines there is one table, with the option that buys most.
    """
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.table import print_table
    from simgpu.study.largest import command
    from simgpu.study.largest.finding import beside

    catalogue = open_catalogue(folders)
    every = [command.largest(catalogue, machine, settings=settings, **given) for machine in dict.fromkeys(machines)]
    found = every[0]
    if len(every) > 1:
        _print_several(beside(every), found.title.rpartition(" on ")[0], style)
    elif style == "json":
        print_json({"machine": found.machine, "models": found.models, "sizes": found.sizes}, sys.stdout)
    elif style == "csv":
        print_csv(found.rows, sys.stdout)
    else:
        models, sizes = shown(found.models), shown(found.sizes)
        print_table(models, list(models[-1]), found.title, [], sys.stdout)
        if sizes:
            print_table(sizes, list(sizes[0]), "One more option", found.notes, sys.stdout)


def _print_several(rows: list[dict[str, Any]], title: str, style: str) -> None:
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.table import print_table

    if style == "json":
        print_json({"machines": rows}, sys.stdout)
    elif style == "csv":
        print_csv(rows, sys.stdout)
    else:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        print_table(shown(rows), columns, title, [], sys.stdout)


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with parameters in billions, as people say them, and without the machine's own figures."""
    return [
        {key: f"{value / 1e9:.3g} B" if key.endswith("parameters") else value for key, value in row.items()
         if key != "memory_capacity_bytes"}
        for row in rows
    ]  # fmt: skip
