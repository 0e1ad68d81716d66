"""Commands that read what others wrote: import a machine or an ONNX file, capture a module of PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simgpu.cli.base import (
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    out_option,
    plot_options,
    quiet_option,
    tell_written,
)
from simgpu.cli.names import MACHINES, names_of

if TYPE_CHECKING:
    from simgpu.model.imported.pieces import Imported


GPU = "h100-sxm"
"""What experiments of networks run on where nothing is said."""


def graph_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options of what becomes of a network: fused or not, unknown operators, files."""
    for option in (
        quiet_option,
        format_option("table", "json", "csv"),
        click.option(
            "--gpu",
            metavar="NAME",
            default=GPU,
            show_default=True,
            shell_complete=names_of(*MACHINES),
            help="GPU or cluster of the experiment.",
        ),
        out_option("FILE", "A .json file for the graph; or a .yaml for an experiment, and the graph beside it."),
        click.option(
            "--unknown",
            type=click.Choice(["refuse", "memory"]),
            default="refuse",
            show_default=True,
            help="Operators that are not known: refuse the network, or take them as bound by memory.",
        ),
        click.option(
            "--fused/--eager",
            default=False,
            show_default=True,
            help="Join pointwise operators and attention as a compiler does; or a kernel for each operator.",
        ),
    ):
        command = option(command)
    return command


@main.command(
    "import",
    short_help="Read a machine's own files, or an ONNX network.",
    epilog="Example: simgpu import topo.txt gpus.csv -o node.yaml",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=names_of(*MACHINES),
    help="GPU that the files do not name; of a network, what its experiment runs on.",
)
@click.option("--network", metavar="LINK", help="What network adapters are, such as infiniband-ndr.")
@click.option("--nodes", type=click.IntRange(1, 100_000), metavar="N", help="Write a cluster of N such nodes.")
@click.option("--as-built", is_flag=True, help="Write a machine with a fault as it was built.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=N", help="ONNX: value of a free dimension; repeatable.")
@click.option(
    "--fused/--eager", default=False, help="ONNX: join kernels as a compiler does; or one each.  [default: eager]"
)
@click.option(
    "--unknown", type=click.Choice(["refuse", "memory"]), help="ONNX: operators not known.  [default: refuse]"
)
@out_option("FILE", "Node or cluster (.yaml); of a network its graph (.json) or an experiment.")
@plot_options()
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def import_(folders: tuple[str, ...], files: tuple[str, ...], **options: Any) -> None:
    """Read what a machine tells of itself, and write a node or cluster that every command runs on.

    FILE is an output of nvidia-smi (topo -m, -q, -L, --query-gpu), XML of NCCL or lstopo, ibnetdiscover, Slurm's
    topology.conf, labels of Kubernetes nodes, a topology of ASTRA-sim or SimAI, or a cloud's name such as p5.48xlarge.
    Several are joined. What they do not tell is said.

    A single ONNX file is a network: its operators are printed, and a graph is written that experiments run.
    """
    if len(files) == 1 and is_network(Path(files[0])):
        _import_network(folders, Path(files[0]), **options)
    else:
        _import_machine(folders, files, **options)


def is_network(file: Path) -> bool:
    """True for a file of a network: by its name, or because it is no text."""
    if file.suffix == ".onnx" or not file.is_file():
        return file.suffix == ".onnx"
    with file.open("rb") as stream:
        start = stream.read(1024)
    return b"\x00" in start and start[:2] not in (b"\xff\xfe", b"\xfe\xff")


def _import_network(
    folders: tuple[str, ...],
    file: Path,
    dims: tuple[str, ...],
    fused: bool,
    unknown: str | None,
    gpu: str | None,
    network: str | None,
    nodes: int | None,
    as_built: bool,
    formats: tuple[str, ...],
    **options: Any,
) -> None:
    """`simgpu import FILE.onnx`."""
    from simgpu.errors import InputError
    from simgpu.model.imported.onnx_operators import read_onnx
    from simgpu.study.report.imported import dimensions

    for name, given in (
        ("--network", network),
        ("--nodes", nodes),
        ("--as-built", as_built),
        ("--plot-format", formats),
    ):
        if given:
            raise InputError("is of a machine; expected it without", file=file, key=name)
    _finish(folders, lambda: read_onnx(file, dimensions(dims), fused, unknown == "memory"), gpu=gpu or GPU, **options)


def _import_machine(
    folders: tuple[str, ...],
    files: tuple[str, ...],
    dims: tuple[str, ...],
    fused: bool,
    unknown: str | None,
    gpu: str | None,
    network: str | None,
    nodes: int | None,
    as_built: bool,
    style: str,
    out: Path | None,
    plots: bool,
    formats: tuple[str, ...],
    quiet: bool,
) -> None:
    """`simgpu import FILE...` of a machine."""
    from simgpu.errors import InputError
    from simgpu.lab.importing import command
    from simgpu.lab.importing.building import Options

    for name, given in (("--dim", dims), ("--fused", fused), ("--unknown", unknown)):
        if given:
            raise InputError("is of a network (ONNX); expected it without", key=name)
    if out is not None:
        command.check_ending(out)
    options = Options(gpu, network, as_built, command.name_of(out), nodes)
    machine = command.import_machine(files, options, open_catalogue(folders))
    written = command.write(machine, out, plots, formats) if out is not None else []
    command.show(machine, style, sys.stdout)
    tell_written(written, quiet)


@main.command(
    short_help="Capture a PyTorch module: operators, FLOPs, bytes.",
    epilog="Example: simgpu capture torchvision.models:resnet50 --input 8,3,224,224",
)
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SIZES[:TYPE]",
    help="Sizes of an input, such as 8,3,224,224 or 8,128:int64; repeatable.  [default: what the function returns]",
)
@click.option("--dtype", metavar="TYPE", help="Type of the parameters: float32, float16, bfloat16.  [default: float32]")
@graph_options
@click.pass_obj
@one_line_errors
def capture(folders: tuple[str, ...], target: str, inputs: tuple[str, ...], dtype: str | None, **options: Any) -> None:
    """Capture a PyTorch module on meta tensors with torch.export, and write a graph that experiments run.

    FUNCTION of the Python module MODULE returns a torch.nn.Module, or (module, inputs) or (module, inputs, keywords).
    Its code runs. Needs PyTorch: pip install 'simgpu[torch]'.
    """
    from simgpu.model.imported.torch_capture import capture_module

    _finish(
        folders,
        lambda: capture_module(target, inputs, dtype, options["fused"], options["unknown"] == "memory"),
        **options,
    )


def _finish(
    folders: tuple[str, ...],
    read: Callable[[], Imported],
    style: str,
    out: Path | None,
    gpu: str,
    quiet: bool,
    **_: Any,
) -> None:
    """Read a network, print what it holds, write its files."""
    from simgpu.study.report import imported as report

    if out is not None:
        report.check_ending(out)
        open_catalogue(folders).cluster(gpu)
    found = read()
    content = report.summary(found)
    written = report.write(found, out, gpu) if out is not None else []
    report.show(content, style, sys.stdout)
    tell_written(written, quiet)
