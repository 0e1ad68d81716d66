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
    "--gpu", "--cluster", "machine", required=True, metavar="NAME", shell_complete=names_of(*MACHINES),
    help="GPU, node or cluster.",
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
def largest(folders: tuple[str, ...], settings: tuple[str, ...], style: str, **given: Any) -> None:
    """Find the largest model of the catalogue that a machine takes, the largest size of its family, and what binds.

    A second table says what one more option buys: recomputation, offload, a loss in chunks, fewer bits.
    """
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.table import print_table
    from simgpu.study.largest import command

    found = command.largest(open_catalogue(folders), settings=settings, **given)
    if style == "json":
        print_json({"machine": found.machine, "models": found.models, "sizes": found.sizes}, sys.stdout)
    elif style == "csv":
        print_csv(found.rows, sys.stdout)
    else:
        models, sizes = shown(found.models), shown(found.sizes)
        print_table(models, list(models[-1]), found.title, [], sys.stdout)
        if sizes:
            print_table(sizes, list(sizes[0]), "One more option", found.notes, sys.stdout)


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with parameters in billions, as people say them, and without the machine's own figures."""
    return [
        {key: f"{value / 1e9:.3g} B" if key == "parameters" else value for key, value in row.items()
         if key != "memory_capacity_bytes"}
        for row in rows
    ]  # fmt: skip
