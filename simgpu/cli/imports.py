"""Commands that read what others wrote: import an ONNX file, capture a module of PyTorch."""

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
    quiet_option,
    tell_written,
)
from simgpu.cli.names import MACHINES, names_of

if TYPE_CHECKING:
    from simgpu.model.imported.pieces import Imported


def graph_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options of what becomes of a network: fused or not, unknown operators, files."""
    for option in (
        quiet_option,
        format_option("table", "json", "csv"),
        click.option(
            "--gpu",
            metavar="NAME",
            default="h100-sxm",
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
    short_help="Read an ONNX file: operators, FLOPs, bytes, parameters.",
    epilog="Example: simgpu import resnet50.onnx --dim batch=8 -o resnet50.yaml",
)
@click.argument("file", metavar="FILE.onnx", type=click.Path(path_type=Path))
@click.option("--dim", "dims", multiple=True, metavar="NAME=N", help="Value of a free dimension; repeatable.")
@graph_options
@click.pass_obj
@one_line_errors
def import_(folders: tuple[str, ...], file: Path, dims: tuple[str, ...], **options: Any) -> None:
    """Read the operators of an ONNX file, and write a graph that experiments run. Weights are not read."""
    from simgpu.model.imported.onnx_operators import read_onnx
    from simgpu.study.report.imported import dimensions

    _finish(
        folders,
        lambda: read_onnx(file, dimensions(dims), options["fused"], options["unknown"] == "memory"),
        **options,
    )


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
