"""Commands between an experiment and the software that runs it: launch, import-config."""

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
    tell_written,
)
from simgpu.cli.names import MACHINES, names_of


@main.command(
    short_help="Write the command, file or manifest that runs a plan.",
    epilog="Example: simgpu launch launch_llama70b#vllm --for vllm -o run",
)
@file_argument
@click.option(
    "--for", "target", required=True, metavar="TARGET",
    help="vllm, sglang, trtllm, llama.cpp, dynamo, llm-d; megatron, nemo, torchtitan, deepspeed, accelerate, axolotl.",
)  # fmt: skip
@set_option
@format_option("table", "json", "csv")
@out_option("DIR", "Write the files and check.sh there.  [default: write nothing]")
@quiet_option
@click.pass_obj
@one_line_errors
def launch(
    folders: tuple[str, ...],
    file: str,
    target: str,
    settings: tuple[str, ...],
    style: str,
    out: Path | None,
    quiet: bool,
) -> None:
    """Print what runs a row of FILE (FILE#ROW, by its number or a label) with an engine, a trainer or on Kubernetes.

    Each flag stands with the key that it follows from. What the software cannot do as the row says is named. A
    measurement that checks the prediction comes with the expected figures and their interval.
    """
    from simgpu.launching import targets
    from simgpu.render.data import print_csv, print_json

    made = targets.launch(file, target, settings, open_catalogue(folders))
    if style == "json":
        print_json(made.data(), sys.stdout)
    elif style == "csv":
        print_csv(made.rows, sys.stdout)
    elif out is None or not quiet:
        made.show(sys.stdout)
    if out is not None:
        tell_written((("written", path) for path in made.write(out)), quiet)


@main.command(
    "import-config",
    short_help="Make an experiment of a configuration or a command line.",
    epilog="Example: simgpu import-config train.toml --cluster dgx-h100 --gpus 8",
)
@click.argument("file", metavar="FILE", shell_complete=names_of(files=True))
@click.option(
    "--cluster",
    required=True,
    metavar="NAME",
    shell_complete=names_of(*MACHINES),
    help="Cluster, node or GPU that it runs on.",
)
@click.option(
    "--model",
    default="",
    metavar="NAME",
    shell_complete=names_of("models"),
    help="Model of the catalogue.  [default: the one that it names]",
)
@click.option("--gpus", type=click.IntRange(min=1), default=None, metavar="N", help="GPUs, where it does not say.")
@set_option
@out_option("FILE", "Experiment file to write.  [default: print it]")
@quiet_option
@click.pass_obj
@one_line_errors
def import_config(
    folders: tuple[str, ...],
    file: str,
    cluster: str,
    model: str,
    gpus: int | None,
    settings: tuple[str, ...],
    out: Path | None,
    quiet: bool,
) -> None:
    """Make an experiment file of a framework's configuration, a launch script, or a command line in quotes.

    FILE is a script that starts Megatron-LM or a server, a TOML of TorchTitan, a JSON of DeepSpeed, a YAML of
    Accelerate, axolotl, Dynamo or llm-d. Names that change nothing of the times are listed, and unknown ones, too.
    """
    from simgpu.launching.importing import Given, import_config
    from simgpu.render.files import written_whole

    made = import_config(file, Given(cluster, model, gpus or 0, settings), open_catalogue(folders))
    if out is None:
        click.echo(made.text, nl=False)
    else:
        with written_whole(out) as stream:
            stream.write(made.text)
        tell_written([("written", out)], quiet)
    for name in () if quiet else made.unknown:
        tell(f"not known here, and left out: {name}")
