"""Commands of traces: write one of an experiment, list one that others recorded, compare it with predictions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simgpu.cli.base import (
    Shown,
    answer_options,
    file_argument,
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    out_option,
    quiet_option,
    run_file,
    set_option,
    tell,
    tell_refused,
    tell_written,
)
from simgpu.cli.names import MACHINES, names_of

if TYPE_CHECKING:
    pass


class TraceCommands(click.Group):
    """The group `trace`; what is none of its commands is an experiment, whose timelines are written."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the command before an experiment."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["write", *args]
        return super().parse_args(ctx, args)


@main.group(
    cls=TraceCommands,
    short_help="Write timelines; list or compare recorded traces.",
    epilog="Example: simgpu trace tp2_scaling -o trace.json",
    subcommand_metavar="FILE | list TRACE | compare TRACE",
)
def trace() -> None:
    """Write the timelines of an experiment as a trace (ui.perfetto.dev); list or compare one that others recorded."""


@trace.command(
    short_help="Write the timelines of an experiment, for ui.perfetto.dev.",
    epilog="Example: simgpu trace write tp2_scaling -o trace.json",
)
@file_argument
@set_option
@click.option(
    "-o",
    "--out",
    "--output",
    "output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default=Path("trace.json"),
    show_default=True,
    help="File to write; missing folders are created.",
)
@quiet_option
@click.pass_obj
@one_line_errors
def write(folders: tuple[str, ...], file: str, settings: tuple[str, ...], output: Path, quiet: bool) -> None:
    """Write the timelines of an experiment as a trace for the Perfetto UI (ui.perfetto.dev)."""
    from simgpu.study.report import rows as report

    outcome, _ = run_file(file, settings, folders, quiet)
    left_out = report.write_trace(outcome, output)
    if not quiet:
        tell(f"trace{f' ({left_out})' if left_out else ''}: {output}")
    tell_refused(outcome.refused, len(outcome.results))


top_option = click.option(
    "--top", type=click.IntRange(min=1), metavar="N", default=30, show_default=True, help="Rows of the table."
)


@trace.command(
    "list",
    short_help="List what a trace of PyTorch's profiler or Chakra says that ran.",
    epilog="Example: simgpu trace list step.pt.trace.json.gz",
)
@click.argument("file", metavar="TRACE", type=click.Path(path_type=Path))
@top_option
@format_option("table", "json", "csv")
@one_line_errors
def list_(file: Path, top: int, style: str) -> None:
    """List operators, collectives and copies of a trace, with shapes, counts and times.

    TRACE is one of PyTorch's profiler (Chrome JSON, also .gz), a report of Nsight Systems exported to SQLite, or a
    Chakra execution trace (.et, or JSON).
    """
    from simgpu.lab.traces import command

    command.show(command.listed(file), style, top, sys.stdout)


@trace.command(
    short_help="Compare the times in a trace with predictions.",
    epilog="Example: simgpu trace compare step.pt.trace.json.gz --gpu h100-sxm",
)
@click.argument("file", metavar="TRACE", type=click.Path(path_type=Path))
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=names_of("gpus"),
    help="GPU it was recorded on.  [default: the one that the trace names]",
)
@click.option(
    "--cluster",
    metavar="NAME",
    shell_complete=names_of(*MACHINES),
    help="Machine it was recorded on, for collectives too.",
)
@top_option
@answer_options("table", "json", "csv")
@click.pass_obj
@one_line_errors
def compare(folders: tuple[str, ...], file: Path, gpu: str | None, cluster: str | None, top: int, shown: Shown) -> None:
    """Compare measured with predicted times, by class of operator and by shape, and draw one over the other.

    TRACE needs shapes: record it with torch.profiler.profile(record_shapes=True).
    """
    from simgpu.errors import InputError
    from simgpu.lab.traces import command

    if gpu is not None and cluster is not None:
        raise InputError("--gpu and --cluster contradict each other", key="--gpu")
    done = command.compared(file, open_catalogue(folders), gpu, cluster)
    command.show(done, shown.style, top, sys.stdout)
    folder = shown.folder(file.name.partition(".")[0] or "trace")
    tell_written(command.write(done, folder, shown.plots, shown.formats), shown.quiet)


@main.command(
    short_help="Play a recorded step on another machine.",
    epilog="Example: simgpu replay step.pt.trace.json.gz --gpu h100-sxm --to-gpu b200-sxm",
)
@click.argument("file", metavar="TRACE", type=click.Path(path_type=Path))
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=names_of("gpus"),
    help="GPU it was recorded on.  [default: the one that the trace names]",
)
@click.option(
    "--cluster",
    metavar="NAME",
    shell_complete=names_of(*MACHINES),
    help="Machine it was recorded on, for collectives too.",
)
@click.option(
    "--of",
    "experiment",
    metavar="EXPERIMENT",
    shell_complete=names_of("experiments", files=True),
    help="The experiment that it is of.  [default: as it says]",
)
@click.option(
    "--case", "number", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Its case."
)
@click.option(
    "--to-gpu", metavar="NAME", shell_complete=names_of("gpus"), help="GPU that is asked for.  [default: the same]"
)
@click.option(
    "--to-cluster",
    metavar="NAME",
    shell_complete=names_of(*MACHINES),
    help="Machine that is asked for, for collectives too.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="batch, tokens or ranks=WAS:ASKED, dtype=TYPE, hardware, or a key of its experiment; repeatable.",
)
@out_option("FILE.json", "Write both timelines, for ui.perfetto.dev.")
@top_option
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def replay(
    folders: tuple[str, ...], file: Path, experiment: str | None, number: int, out: Path | None, top: int, style: str,
    quiet: bool, **asked: Any,
) -> None:  # fmt: skip
    """Play a recorded step again, elsewhere: measured time x predicted (new) / predicted (old), operator by operator.

    TRACE is one of PyTorch's profiler, Nsight Systems (SQLite), Chakra or simgpu. Gaps of the host stay, or hide behind
    slower kernels. What has no model keeps its time, and is named. docs/replay.md has more.

    With the experiment that it is of (simgpu's own traces say it), any key of it may be asked: --set plan.tp=4,
    plan.pp=2, plan.ep=8, workload.batch=512, cluster=NAME.
    """
    from simgpu.api_evidence import recorded_cases
    from simgpu.lab.replay import command

    recorded, catalogue = command.read(file), open_catalogue(folders)
    done: command.Answer | command.ScaledAnswer
    said, wanted = recorded.info.get("experiment"), command.Asked(**asked)
    if experiment is not None or command.is_scaled(wanted, said is not None):
        was, new = recorded_cases(experiment, said, number, catalogue, file, wanted)
        done = command.run_scaled(recorded, file, catalogue, was, new)
    else:
        done = command.run(recorded, file, catalogue, wanted)
    if out is not None:
        command.write(done, out)
    command.show(done, style, top, sys.stdout)
    if out is not None and not quiet:
        tell(f"trace: {out}")
