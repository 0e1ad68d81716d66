"""The command of the review page: report."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from simgpu.cli.base import (
    main,
    one_line_errors,
    open_catalogue,
    out_option,
    price_option,
    progress_bar,
    quiet_option,
    say,
    set_option,
    tell_written,
    with_price,
)


@main.command(
    short_help="Put studies on one page for a review: HTML, PDF, slide.",
    epilog="Example: simgpu report tp2_scaling -o review.html",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@set_option
@price_option
@click.option("--value", metavar="COLUMN", help="Column that the answer is about.  [default: that of the first plot]")
@click.option("--tornado", is_flag=True, help="Vary each input of the answer's row: what would change it (runs more).")
@out_option("FILE", "The page.  [default: review.html]", default="review.html")
@click.option("--markdown", is_flag=True, help="Write the same as Markdown beside the page.")
@click.option("--pdf", is_flag=True, help="Print the page beside it, with a browser that is installed.")
@click.option(
    "--slide", type=click.Path(path_type=Path), metavar="FILE", help="Write one slide too: FILE.png, .svg or .pdf."
)
@quiet_option
@click.pass_obj
@one_line_errors
def report(
    folders: tuple[str, ...],
    files: tuple[str, ...],
    settings: tuple[str, ...],
    price: str | None,
    value: str | None,
    tornado: bool,
    out: Path,
    markdown: bool,
    pdf: bool,
    slide: Path | None,
    quiet: bool,
) -> None:
    """Put experiments, searches, finished runs, stores of sweeps or claims on one page that needs no network.

    FILE is an experiment (one with a `search:` or `recommend:` section is searched or ranked), the result.json of a
    run, the .sqlite of a sweep, or a file of claims. The answer of each is printed.
    """
    from simgpu.review.report import Wanted
    from simgpu.review.report import report as made
    from simgpu.review.sources import Asked

    asked = Asked(with_price(settings, price), value, tornado)
    with progress_bar(quiet) as progress:
        done = made(files, asked, open_catalogue(folders), Wanted(out, markdown, pdf, slide), progress)
    for one in done.subjects:
        say(f"{one.question}: {one.answer}" if len(done.subjects) > 1 else one.answer)
    sys.stdout.flush()
    tell_written(done.written, quiet)
