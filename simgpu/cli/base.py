"""What all commands share: the group, options, errors in one line, progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simgpu.version import __version__

if TYPE_CHECKING:
    from simgpu.catalog import Catalogue
    from simgpu.study.experiment import ExperimentResult, Refused

LISTED = ("models", "gpus", "nodes", "clusters", "links", "architectures", "experiments")


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Errors a user can cause end in one line and exit code 2; Ctrl-C in 130; a closed pipe quietly."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from simgpu.errors import SimgpuError

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # a terminal that knows only ASCII still gets an answer
                stream.reconfigure(errors="backslashreplace")
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except SimgpuError as error:
            click.echo(f"simgpu: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("simgpu: interrupted", err=True)
            sys.exit(130)
        except BrokenPipeError:  # the reader has gone; what is still buffered must not raise again at exit
            _drop_stdout()
            sys.exit(0)
        except OSError as error:
            _drop_stdout()
            click.echo(f"simgpu: {error.filename or 'stdout'}: cannot be written ({error.strerror})", err=True)
            sys.exit(2)

    return run


def _drop_stdout() -> None:
    """Send what is still buffered for stdout to nowhere, so that leaving does not raise again."""
    with suppress(OSError, ValueError):  # a stand-in for stdout has no file to redirect
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


file_argument = click.argument("file", metavar="FILE")
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a scenario field or hardware parameter in every scenario; repeatable.",
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No messages on stderr.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="simgpu")
@click.option(
    "--catalog",
    "folders",
    multiple=True,
    metavar="DIR",
    help="A folder of your own specifications; repeatable. Also: SIMGPU_CATALOG.",
)
@click.pass_context
def main(context: click.Context, folders: tuple[str, ...]) -> None:
    """How long does this model, split this way, take on this cluster? simgpu needs no GPU.

    FILE is an experiment file, or the name of one that comes with simgpu (see: simgpu list experiments).
    """
    context.obj = folders


def open_catalogue(folders: Sequence[str]) -> Catalogue:
    from simgpu.catalog import Catalogue

    return Catalogue(*folders)


def run_file(
    file: str, settings: Sequence[str], folders: Sequence[str], quiet: bool
) -> tuple[ExperimentResult, Catalogue]:
    from simgpu.study.experiment import find_experiment, load_experiment, run_experiment

    catalogue = open_catalogue(folders)
    experiment = load_experiment(find_experiment(file, catalogue), settings, catalogue)
    show = not quiet and sys.stderr.isatty() and len(experiment.cases) > 1
    with click.progressbar(length=len(experiment.cases), label="simulating", file=sys.stderr, hidden=not show) as bar:
        outcome = run_experiment(experiment, catalogue, lambda done, total: bar.update(done - bar.pos))
    return outcome, catalogue


def tell_refused(refused: Sequence[Refused], rows: int) -> None:
    """Say on stderr that some of the rows cannot run, and leave with exit code 2. Nothing where all ran."""
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        click.echo(f"simgpu: {len(refused)} of {rows + len(refused)} rows left out; {refused[0]}{more}", err=True)
        sys.exit(2)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Takes (done, total) of simulations; a bar on a terminal, nothing elsewhere."""
    with click.progressbar(
        length=1, label="simulating", file=sys.stderr, hidden=quiet or not sys.stderr.isatty()
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress


store_option = click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where results are kept.  [default: $SIMGPU_STORE, else results/store.sqlite]",
)
