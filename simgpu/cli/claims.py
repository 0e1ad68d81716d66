"""Commands that hold what others print against physics: claims, lint, mfu."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from simgpu.cli.base import (
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    out_option,
    plot_options,
    progress_bar,
    quiet_option,
    tell_written,
)
from simgpu.cli.names import names_of
from simgpu.errors import InputError


@main.command(
    short_help="Hold published claims against physics.",
    epilog="Example: simgpu claims experiments/claims/",
)
@click.argument("given", nargs=-1, metavar="[FILE|DIR|QUANTITY=FIGURE]...")
@click.option("--kind", metavar="KIND", help="Of one claim: spec, kernel, decode, serving, training, cost, ...")
@click.option("--gpu", metavar="NAME", shell_complete=names_of("gpus"), help="Of one claim.")
@click.option("--model", metavar="NAME", shell_complete=names_of("models"), help="Of one claim.")
@click.option("--precision", metavar="NAME", help="Of one claim: fp16, int4, q4_k_m, ...")
@click.option("--runtime", metavar="NAME", help="Of one claim: vllm, llama.cpp, ...")
@click.option("--method", metavar="NAME", help="Of one claim of training: full, lora, qlora.")
@click.option("--all", "every", is_flag=True, help="Print every cell, those that hold too.")
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Put tables into a Markdown page with marks for them.",
)
@format_option("table", "json", "csv", "markdown")
@out_option("DIR", "Write Markdown, HTML, data and the picture there.  [default: write nothing]")
@plot_options()
@quiet_option
@click.pass_obj
@one_line_errors
def claims(
    folders: tuple[str, ...],
    given: tuple[str, ...],
    kind: str | None,
    every: bool,
    page: Path | None,
    style: str,
    out: Path | None,
    plots: bool,
    formats: tuple[str, ...],
    quiet: bool,
    **words: Any,
) -> None:
    """Say of every figure of published claims whether it is reproduced, plausible, off, or cannot be.

    FILE holds entries (docs/claims.md), DIR several files. One claim can stand in the command: words as options and
    figures as QUANTITY=FIGURE (--kind decode --gpu rtx-4090 --model llama-2-7b tokens_per_s=130), or 'check' and a
    sentence (check "RTX 4090 runs Llama 2 7B in FP16 at 130 tokens/s").
    """
    from simgpu.claims import summary
    from simgpu.claims.bench import Bench
    from simgpu.claims.check import Claims, check, check_entry
    from simgpu.claims.short import sentence, short

    catalogue = open_catalogue(folders)
    if given[:1] == ("check",):
        if len(given) != 2:
            raise InputError("expected one sentence in quotes behind 'check'", key="check")
        done = Claims([check_entry(sentence(given[1], catalogue), Bench(catalogue))])
    elif kind is not None or any("=" in one and not Path(one).exists() for one in given):
        if kind is None:
            raise InputError("is missing; expected the kind of the claim, such as decode", key="--kind")
        done = Claims([check_entry(short(kind, words, given), Bench(catalogue))])
    else:
        if not given:
            raise InputError("nothing is given; expected files or folders of claims, or one claim", key="claims")
        with progress_bar(quiet) as progress:
            done = check([str(catalogue.place(one)) for one in given], catalogue, progress)
    if page is not None:
        from simgpu.claims.sections import put_in

        put_in(page, done)
        tell_written([("page", page)], quiet)
        return
    written = summary.write(done, out, plots, formats) if out is not None else []
    summary.show(done, style, every, sys.stdout)
    tell_written(written, quiet)


@main.command(short_help="Say what looks wrong in hardware files.", epilog="Example: simgpu lint hardware/gpus")
@click.argument("places", nargs=-1, metavar="[DIR|FILE|NAME]...")
@format_option("table", "json", "csv")
@click.pass_obj
@one_line_errors
def lint(folders: tuple[str, ...], places: tuple[str, ...], style: str) -> None:
    """Say what looks wrong in hardware files: links of both directions, sparse peaks, GB for GiB, peaks and clocks.

    Without DIR, FILE or NAME of a GPU or link the whole catalogue is read. The exit code is 1 if anything is wrong.
    """
    from simgpu.claims import linter

    catalogue = open_catalogue(folders)
    named = [catalogue.find("gpus", place) or catalogue.find("links", place) for place in places]
    files = [found or catalogue.place(place) for found, place in zip(named, places, strict=True)]
    found = linter.lint(files, catalogue)
    linter.show(found, style, sys.stdout)
    if any(one.level == "wrong" for one in found.doubts):
        sys.exit(1)


@main.command(
    short_help="Translate tokens/s, TFLOP/s and MFU.",
    epilog="Example: simgpu mfu --model mpt-7b --gpu l4 --seq 2048 mfu_percent=40",
)
@click.argument("figures", nargs=-1, required=True, metavar="QUANTITY=FIGURE...")
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    shell_complete=names_of("models", files=True),
    help="Model of the catalogue, or the path of a config.json.",
)
@click.option("--gpu", required=True, metavar="NAME", shell_complete=names_of("gpus"), help="GPU of the catalogue.")
@click.option("--seq", type=click.IntRange(min=1), required=True, metavar="TOKENS", help="Tokens of a sequence.")
@click.option("--precision", default="bf16", show_default=True, metavar="NAME", help="Type whose dense peak MFU is of.")
@format_option("table", "json", "csv")
@click.pass_obj
@one_line_errors
def mfu(
    folders: tuple[str, ...], figures: tuple[str, ...], model: str, gpu: str, seq: int, precision: str, style: str
) -> None:
    """Translate tokens/s of a GPU to TFLOP/s to MFU and back, under each published convention.

    Give one of tokens_per_s_per_gpu, tflops, mfu; with two of them the conventions that fit the pair are named.
    """
    from simgpu.claims import mfu as translator

    asked = translator.asked(figures, model, gpu, seq, precision)
    translator.show(translator.translate(asked, open_catalogue(folders)), style, sys.stdout)
