"""Parts that all commands share: the group, options, errors in one line, progress."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EBADF
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from simgpu import terminal
from simgpu.cli.names import command_for, names_of
from simgpu.terminal import plain
from simgpu.version import __version__

if TYPE_CHECKING:
    from simgpu.catalog import Catalogue
    from simgpu.study.experiment.running import ExperimentResult, Refused

LISTED = (
    "models",
    "networks",
    "families",
    "gpus",
    "nodes",
    "clusters",
    "instances",
    "links",
    "architectures",
    "runtimes",
    "frameworks",
    "experiments",
    "prices",
    "reliability",
    "quality",
    "cooling",
)


def say(text: str) -> None:
    """Print a line of the answer."""
    click.echo(plain(text))


def tell(text: str) -> None:
    """Print a line of news, on stderr."""
    terminal.tell(text, sys.stderr)


def tell_written(written: Iterable[tuple[str, Path]], quiet: bool) -> None:
    """Print the files that were written, by their kind."""
    for what, path in () if quiet else written:
        tell(f"{what + ':':8} {path}")


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that users' errors end in one line and exit code 2.

    Ctrl-C ends in 130, a closed pipe quietly.
    """

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
            tell(f"simgpu: {error}")
            sys.exit(2)
        except KeyboardInterrupt:
            tell("simgpu: interrupted")
            sys.exit(130)
        except BrokenPipeError:  # the reader has gone; what is still buffered must not raise again at exit
            _drop_stdout()
            sys.exit(0)
        except MemoryError:
            _drop_stdout()
            tell("simgpu: out of memory")
            sys.exit(2)
        except OSError as error:
            _end(error)

    return run


def _end(error: OSError) -> NoReturn:
    """Leave after a stream or file that could not be used."""
    _drop_stdout()
    reason = "it is closed" if error.errno == EBADF else error.strerror or error
    tell(f"simgpu: {error.filename or 'stdout'}: cannot be written ({reason})")
    sys.exit(2)


def _drop_stdout() -> None:
    """Send what is still buffered for stdout to nowhere, so that leaving does not raise again."""
    with suppress(OSError, ValueError):  # a stand-in for stdout has no file to redirect
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Reserve the numbers of closed streams (`>&-`), so that the next file that is opened does not take them.

    That file would get what is printed. What is printed to a closed stdout is an error; news for a closed stderr go
    nowhere.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY), True)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))


class Words(click.Choice):  # type: ignore[type-arg]
    """A choice among words, whose error names the word that is meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word. Fails for one that is not among them."""
        from simgpu.errors import nearest

        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not known{nearest(value, map(str, self.choices))}", param, ctx)


GARBAGE = 200_000, 50, 50
"""When circles of garbage are looked for: new objects, and rounds. A start makes a million objects that all stay; with
Python's own 700 the search takes 5 % of it."""


class Commands(click.Group):
    """The group of all commands; streams are in order before any of them or their help runs."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, after closed streams were set right."""
        _open_closed_streams()
        gc.set_threshold(*GARBAGE)
        atexit.register(gc.freeze)  # else Python looks through all that there is once more, a fifth of a short run
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # help, which no command prints
            _end(error)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named. For a file or a name of the catalogue in its place, the error names one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if meant := command_for(args[0], ctx.params.get("folders") or ()):
                raise click.UsageError(f"'{args[0]}' is no command. Did you mean 'simgpu {meant}'?", ctx) from None
            raise error


file_argument = click.argument("file", metavar="FILE", shell_complete=names_of("experiments", files=True))
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a scenario field or hardware parameter in every scenario; repeatable.",
)
price_option = click.option(
    "--price",
    metavar="PRICE",
    help="What a GPU-hour costs: USD, owned, on_demand, reserved_1y, reserved_3y, spot; adds cost.",
)


def with_price(settings: Sequence[str], price: str | None) -> tuple[str, ...]:
    """Settings with the price of `--price`; it counts before them, so that they can refine it."""
    if price is None:
        return tuple(settings)
    return (f"cost.price={price}", *settings)


as_option = click.option(
    "--as", "family", metavar="FAMILY", help="Read the file of an architecture that is not known as one of this family."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No messages on stderr.")


def as_family(model: str, family: str | None) -> str:
    """The name of a model that is to be read as a family: `FILE@as=FAMILY`."""
    if family is None:
        return model
    return f"{model},as={family}" if "@" in model and not os.path.exists(model) else f"{model}@as={family}"


def pool_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options that say where work runs: `--jobs` processes here, or a Dask cluster."""
    for option in (
        click.option("--dask-workers", type=int, metavar="N", help="Run on a Dask cluster of N workers here."),
        click.option("--scheduler", metavar="ADDRESS", help="Run on a Dask cluster, such as tcp://host:8786."),
        click.option("-j", "--jobs", type=int, metavar="N", help="Worker processes.  [default: one for each core]"),
    ):
        command = option(command)
    return command


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: simgpu run tp2_scaling",
)
@click.version_option(__version__, prog_name="simgpu")
@click.option(
    "--catalog",
    "folders",
    multiple=True,
    metavar="DIR",
    help="Folder of your own models and hardware; repeatable. Also: SIMGPU_CATALOG.",
)
@click.pass_context
def main(context: click.Context, folders: tuple[str, ...]) -> None:
    """How long does this model, split this way, take on this cluster? simgpu needs no GPU.

    FILE is an experiment file, or the name of one that comes with simgpu (see: simgpu list experiments). FILE#2 is the
    second best plan that the search of a file finds.
    """
    context.obj = folders


def open_catalogue(folders: Sequence[str]) -> Catalogue:
    """The catalogue over the folders of `--catalog`."""
    from simgpu.catalog import Catalogue

    return Catalogue(*folders)


def run_file(
    file: str, settings: Sequence[str], folders: Sequence[str], quiet: bool
) -> tuple[ExperimentResult, Catalogue]:
    """Load and simulate an experiment, with a progress bar unless `quiet`."""
    from simgpu.study.experiment.running import run_experiment
    from simgpu.study.search.ranked import open_experiment

    catalogue = open_catalogue(folders)
    experiment = open_experiment(file, settings, catalogue)
    show = not quiet and sys.stderr.isatty() and len(experiment.cases) > 1
    with click.progressbar(length=len(experiment.cases), label="simulating", file=sys.stderr, hidden=not show) as bar:
        outcome = run_experiment(experiment, catalogue, lambda done, _: bar.update(done - bar.pos))
    return outcome, catalogue


def tell_refused(refused: Sequence[Refused], rows: int) -> None:
    """Say on stderr that some of the rows cannot run, and leave with exit code 2. Nothing where all ran."""
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        tell(f"simgpu: {len(refused)} of {rows + len(refused)} rows left out; {refused[0]}{more}")
        sys.exit(2)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A function for (done, total) of simulations, which draws a bar on a terminal, nothing elsewhere."""
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
    help="File where results are stored.  [default: $SIMGPU_STORE, else results/store.sqlite]",
)


def out_option(metavar: str, text: str, **more: Any) -> Callable[[Any], Any]:
    """The option `--out`, or `-o`: where a command writes."""
    return click.option("-o", "--out", type=click.Path(path_type=Path), metavar=metavar, help=text, **more)


def format_option(*kinds: str) -> Callable[[Any], Any]:
    """The option `--format`: how a command prints its answer; the first of `kinds` by default."""
    return click.option(
        "--format",
        "style",
        type=Words(kinds),
        default=kinds[0],
        show_default=True,
        help="Format of what is printed.",
    )


def plot_options(no_plots: str = "Draw no pictures.") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options `--no-plots` and `--plot-format`: the command gets `plots`, whether to draw, and `formats`."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(*args: Any, no_plots: bool, formats: tuple[str, ...], **kwargs: Any) -> None:
            if formats and no_plots:
                raise click.UsageError("--plot-format and --no-plots contradict each other.")
            command(*args, plots=not no_plots, formats=formats, **kwargs)

        kinds = click.option(
            "--plot-format",
            "formats",
            multiple=True,
            type=Words(["png", "svg", "pdf"]),
            help="Format of the pictures; repeatable.  [default: as the file says, else png and svg]",
        )
        return click.option("--no-plots", is_flag=True, help=no_plots)(kinds(run))

    return add


folder_option = out_option("DIR", "Where files go.  [default: results/<name>]")


@dataclass(frozen=True)
class Shown:
    """How an answer is shown.

    `style` is the format of what is printed, `out` the folder of files (None: results/NAME), `plots` and `formats` say
    whether pictures are drawn and in which formats; `quiet` tells nothing on stderr.
    """

    style: str
    out: Path | None
    plots: bool
    formats: tuple[str, ...]
    quiet: bool

    def folder(self, name: str) -> Path:
        """Where the files of an answer of a name go."""
        return self.out or Path("results") / name


def answer_options(*kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--format` of `kinds`, `--out`, those of pictures and `--quiet`: the command gets them as `shown`."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(
            *args: Any, style: str, out: Path | None, plots: bool, formats: tuple[str, ...], quiet: bool, **kwargs: Any
        ) -> None:
            command(*args, shown=Shown(style, out, plots, formats, quiet), **kwargs)

        return format_option(*kinds)(folder_option(plot_options()(quiet_option(run))))  # type: ignore[no-any-return]

    return add
