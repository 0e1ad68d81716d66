"""The command line. Thin: it reads options, calls the library, and prints."""

from __future__ import annotations

import os
import signal
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
    from simgpu.study.experiment import ExperimentResult

LISTED = ("models", "gpus", "nodes", "clusters", "experiments")


def _one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
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


_file = click.argument("file", metavar="FILE")
_set = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a scenario field or hardware parameter in every scenario; repeatable.",
)
_quiet = click.option("--quiet", "-q", is_flag=True, help="No messages on stderr.")


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


def _catalogue(folders: Sequence[str]) -> Catalogue:
    from simgpu.catalog import Catalogue

    return Catalogue(*folders)


def _run(file: str, settings: Sequence[str], folders: Sequence[str], quiet: bool) -> tuple[ExperimentResult, Catalogue]:
    from simgpu.study.experiment import find_experiment, load_experiment, run_experiment

    catalogue = _catalogue(folders)
    experiment = load_experiment(find_experiment(file, catalogue), settings, catalogue)
    show = not quiet and sys.stderr.isatty() and len(experiment.cases) > 1
    with click.progressbar(length=len(experiment.cases), label="simulating", file=sys.stderr, hidden=not show) as bar:
        outcome = run_experiment(experiment, catalogue, lambda done, total: bar.update(done - bar.pos))
    return outcome, catalogue


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Takes (done, total) of simulations; a bar on a terminal, nothing elsewhere."""
    with click.progressbar(
        length=1, label="simulating", file=sys.stderr, hidden=quiet or not sys.stderr.isatty()
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress


@main.command()
@_file
@_set
@click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where files go.  [default: results/<name>]"
)
@click.option("--no-plots", is_flag=True, help="Draw no pictures; data and trace are written all the same.")
@click.option(
    "--plot-format",
    "formats",
    multiple=True,
    type=click.Choice(["png", "svg", "pdf"]),
    help="Of the pictures; repeatable.  [default: as the file says, else png and svg]",
)
@click.option("--memory", is_flag=True, help="Of training: a table of the memory of every scenario, by part and stage.")
@click.option("--require-fit", is_flag=True, help="Of training: a plan that does not fit the GPU's memory is an error.")
@_quiet
@click.pass_obj
@_one_line_errors
def run(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    style: str,
    out: Path | None,
    no_plots: bool,
    formats: tuple[str, ...],
    memory: bool,
    require_fit: bool,
    quiet: bool,
) -> None:
    """Run an experiment: its table, its plots, its trace, its data."""
    from simgpu.study import report

    if formats and no_plots:
        raise click.UsageError("--plot-format has no meaning with --no-plots.")
    settings = (*settings, "require_fit=true") if require_fit else settings
    outcome, catalogue = _run(file, settings, folders, quiet)
    document = report.build(outcome, catalogue)
    folder = out or Path("results") / outcome.experiment.name
    written = report.write(outcome, document, folder, not no_plots, formats)
    if style == "json":
        report.print_json(document, sys.stdout)
    elif style == "csv":
        report.print_csv(outcome.rows, sys.stdout)
    else:
        report.print_report(outcome, document, sys.stdout, memory)
    if not quiet:
        for what, path in written:
            click.echo(f"{what + ':':8} {path}", err=True)


_store = click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where results are kept.  [default: $SIMGPU_STORE, else results/store.sqlite]",
)


@main.command()
@_file
@_set
@_store
@click.option("--jobs", "-j", type=int, metavar="N", help="Worker processes.  [default: all cores]")
@click.option("--limit", type=int, metavar="N", help="Run at most so many scenarios now.")
@click.option("--retry-failed", is_flag=True, help="Run those again that failed.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on a Dask cluster, such as tcp://host:8786.")
@click.option("--dask-workers", type=int, metavar="N", help="Run on a Dask cluster of N workers on this machine.")
@click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where files go.  [default: results/<name>]"
)
@click.option("--no-plots", is_flag=True, help="Draw no pictures.")
@_quiet
@click.pass_obj
@_one_line_errors
def sweep(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    style: str,
    out: Path | None,
    no_plots: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Run the scenarios of an experiment that the store lacks, over all cores or a cluster, and keep them there.

    Stopped or killed at any time, the same command goes on from what is finished.
    """
    from simgpu.render.progress import ProgressLine
    from simgpu.study.experiment import find_experiment
    from simgpu.study.sweep import command, report

    catalogue = _catalogue(folders)
    with ProgressLine(None if quiet else sys.stderr, "sweep") as line:
        done = command.run(
            find_experiment(file, catalogue),
            settings,
            catalogue,
            command.Asked(**asked),
            lambda p: line.update(**vars(p)),
        )
    if done.interrupted:
        click.echo(f"simgpu: {report.interrupted(done)}", err=True)
        sys.exit(130)
    try:
        written = report.write(done, out or Path("results") / done.experiment.name, plots=not no_plots)
    finally:  # a plot that cannot be drawn takes nothing else away
        report.show(done, style, sys.stdout)
    if not quiet:
        for what, path in [("store", done.store), *written]:
            click.echo(f"{what + ':':8} {path}", err=True)


@main.command()
@click.argument("key", required=False)
@_store
@click.option("--experiment", metavar="NAME", help="Only of this experiment, as its file last was.")
@click.option("--where", metavar="CONDITION", help="Only rows for which this holds: 'mfu > 0.4 and memory_fits'.")
@click.option("--status", type=click.Choice(["ok", "failed", "all"]), default="ok", show_default=True)
@click.option("--columns", default="", metavar="A,B", help="What to show.  [default: labels and the most telling]")
@click.option("--sort", metavar="COLUMN", help="In the order of a column; -COLUMN from the largest down.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="So many rows.  [default: 50 in a table]")
@click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--export", type=click.Path(path_type=Path), metavar="FILE", help="Write FILE.csv, .parquet or .json.")
@_one_line_errors
def results(key: str | None, store: Path | None, columns: str, style: str, export: Path | None, **asked: Any) -> None:
    """What sweeps have kept: rows, or with KEY (or its beginning) everything of one scenario."""
    from simgpu.study import results as study

    if key is not None:
        study.show_scenario(study.scenario(store, key), sys.stdout)
        return
    wanted = study.Asked(**asked)
    found = study.results(store, wanted)
    chosen = [column.strip() for column in columns.split(",") if column.strip()]
    if export is not None:
        click.echo(f"written: {study.export(found, export, chosen)} ({len(found):,} rows)", err=True)
        return
    study.show(found, wanted, chosen, style, sys.stdout)
    if style == "table":
        for line in study.experiments(store):
            click.echo(line, err=True)


@main.command()
@_file
@_set
@click.pass_obj
@_one_line_errors
def resolve(folders: tuple[str, ...], file: str, settings: tuple[str, ...]) -> None:
    """Print every input of every scenario with its source: defaults, overrides, catalogue figures (JSON)."""
    from simgpu.study import report

    outcome, _ = _run(file, settings, folders, quiet=True)
    report.print_json({"experiment": outcome.experiment.name, "scenarios": report.scenarios(outcome)}, sys.stdout)


@main.command()
@_file
@_set
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one for each core]")
@click.option("--top", type=click.IntRange(1, 1000), metavar="N", help="Plans to list.  [default: as in the file]")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where plans that were simulated are kept.  [default: $SIMGPU_STORE, else results/store.sqlite]",
)
@click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where files go.  [default: results/<name>]"
)
@click.option("--no-plots", is_flag=True, help="Draw no pictures.")
@_quiet
@click.pass_obj
@_one_line_errors
def search(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    jobs: int | None,
    top: int | None,
    store: Path | None,
    style: str,
    out: Path | None,
    no_plots: bool,
    quiet: bool,
) -> None:
    """Find the best plans of a model on a cluster, why the others lose, and what less memory or fewer GPUs cost."""
    from simgpu.render.progress import SearchLine
    from simgpu.study.search import command

    with SearchLine(None if quiet else sys.stderr) as line:
        answer = command.search(file, settings, _catalogue(folders), jobs, top, store, lambda p: line.update(**vars(p)))
    if not answer.whole:  # another Ctrl-C shall not take away the answer to the first
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    written = command.write(answer, out or Path("results") / answer.name, plots=not no_plots)
    command.show(answer, style, sys.stdout)
    if not quiet:
        for what, path in written:
            click.echo(f"{what + ':':8} {path}", err=True)
    if not answer.whole:
        sys.exit(130)


@main.command()
@_file
@_set
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("trace.json"), show_default=True)
@_quiet
@click.pass_obj
@_one_line_errors
def trace(folders: tuple[str, ...], file: str, settings: tuple[str, ...], output: Path, quiet: bool) -> None:
    """Write the timelines of an experiment as a trace for the Perfetto UI (ui.perfetto.dev)."""
    from simgpu.study import report

    outcome, _ = _run(file, settings, folders, quiet)
    left_out = report.write_trace(outcome, output)
    if not quiet:
        click.echo(f"trace{f' ({left_out})' if left_out else ''}: {output}", err=True)


@main.command()
@_file
@_set
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Operators to show.")
@click.pass_obj
@_one_line_errors
def explain(folders: tuple[str, ...], file: str, settings: tuple[str, ...], style: str, top: int) -> None:
    """Where the time goes, operator by operator: bounds, fraction of the speed of light, constants, sources."""
    from simgpu.study import report
    from simgpu.study.experiment import find_experiment, load_experiment
    from simgpu.study.explain import explain as explained

    catalogue = _catalogue(folders)
    found = explained(load_experiment(find_experiment(file, catalogue), settings, catalogue), catalogue)
    if style == "json":
        scenarios = [
            {"scenario": one.name, "row": one.result.row, "operators": one.operators, "constants": one.constants}
            for one in found
        ]
        report.print_json({"scenarios": scenarios}, sys.stdout)
        return
    from simgpu.render.explain import print_explanations

    shown = [(one.name, one.result.row, one.operators, one.constants) for one in found]
    print_explanations(shown, top, sys.stdout)


@main.command()
@_file
@_set
@click.option("--value", "values", multiple=True, metavar="COLUMN", help="The answer; repeatable.  [default: by job]")
@click.option("--case", "cases", multiple=True, metavar="ROW", help="A number, a label, or all; repeatable.")
@click.option("--change", default="10%", show_default=True, metavar="SHARE", help="Of each input, less and more.")
@click.option("--price", type=float, metavar="USD", help="Of a GPU-hour: adds the cost as an answer.")
@click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where files go.  [default: results/<name>]"
)
@click.option("--no-plots", is_flag=True, help="Draw no pictures.")
@_quiet
@click.pass_obj
@_one_line_errors
def sensitivity(
    folders: tuple[str, ...],
    file: str,
    settings: tuple[str, ...],
    change: str,
    style: str,
    out: Path | None,
    no_plots: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """What an answer hangs on: every input of the hardware a little less and more, elasticities, a tornado plot."""
    from simgpu.study import sensitivity_report as report
    from simgpu.study.sensitivity import Asked, parse_change

    wanted = Asked(change=parse_change(change), **asked)
    with _progress(quiet) as progress:
        experiment, found = report.run(file, settings, _catalogue(folders), wanted, progress)
    written = report.write(experiment, found, out or Path("results") / experiment.name, plots=not no_plots)
    report.show(experiment, found, style, sys.stdout)
    for what, path in () if quiet else written:
        click.echo(f"{what + ':':8} {path}", err=True)


@main.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@_set
@click.option("--set-a", "settings_a", multiple=True, metavar="KEY=VALUE", help="The same in A alone.")
@click.option("--set-b", "settings_b", multiple=True, metavar="KEY=VALUE", help="The same in B alone.")
@click.option("--value", metavar="COLUMN", help="The answer that is compared.  [default: by job]")
@click.option("--all", "everything", is_flag=True, help="Every figure that differs, not only those that were asked.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_quiet
@click.pass_obj
@_one_line_errors
def diff(folders: tuple[str, ...], a: str, b: str, everything: bool, style: str, quiet: bool, **asked: Any) -> None:
    """Two scenarios: what differs in input and in time, what explains it, whether it is beyond the error bars.

    A and B are FILE, FILE:NUMBER (a row, from 1) or FILE:LABEL; both may be in one file.
    """
    from simgpu.study import difference, report

    with _progress(quiet) as progress:
        done = difference.diff(a, b, _catalogue(folders), progress=progress, **asked).document()
    if style == "json":
        report.print_json(done, sys.stdout)
        return
    from simgpu.render.difference import print_difference

    print_difference(done, everything, sys.stdout)


@main.command("list")
@click.argument("kind", required=False, type=click.Choice(LISTED))
@click.pass_obj
@_one_line_errors
def list_(folders: tuple[str, ...], kind: str | None) -> None:
    """What the catalogue holds."""
    from simgpu.study.inventory import listing

    catalogue = _catalogue(folders)
    for one in [kind] if kind else LISTED:
        if not kind:
            click.echo(f"{one}:")
        entries = listing(catalogue, one)
        width = max((len(name) for name, _ in entries), default=0)
        for name, title in entries:
            click.echo(f"{'' if kind else '  '}{name:{width}}  {title}".rstrip())


@main.command()
@click.argument("name")
@_set
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the picture of a node or cluster goes.  [default: results/show/NAME.png]",
)
@click.option("--nodes", type=click.IntRange(1, 64), default=2, show_default=True, help="Nodes of a cluster to draw.")
@click.option("--no-plots", is_flag=True, help="Draw no picture.")
@click.option("--constants", is_flag=True, help="Of a GPU: every constant of its kernels, with its whole source.")
@click.pass_obj
@_one_line_errors
def show(
    folders: tuple[str, ...],
    name: str,
    settings: tuple[str, ...],
    out: Path | None,
    nodes: int,
    no_plots: bool,
    constants: bool,
) -> None:
    """A specification: every figure with unit and source; for a node or cluster also its graph as a picture."""
    from simgpu.study import inventory

    catalogue = _catalogue(folders)
    subject = inventory.find(catalogue, name, settings, nodes)
    picture = None
    if out is not None or (subject.cluster is not None and not no_plots):
        picture = inventory.draw(subject, out or Path("results/show") / f"{name}.png")
    inventory.show(catalogue, subject, sys.stdout, constants)
    if picture is not None:
        click.echo(f"picture: {picture}", err=True)


@main.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--gpu", "gpus", multiple=True, metavar="NAME", help="Kind of GPU; repeatable.  [default: eight kinds]")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="NAME",
    help="bf16, fp8, int8, int4, mxfp4, q4_k_m, ...; repeatable.  [default: the usual ones that the runtime has]",
)
@click.option("--context", type=int, metavar="TOKENS", help="Of each user.  [default: 8192, or all the model takes]")
@click.option("--users", type=int, default=1, show_default=True, help="Sequences at once.")
@click.option(
    "--runtime",
    type=click.Choice(["vllm", "sglang", "trtllm", "llama.cpp", "eager", "compiled"]),
    help="Whose reserve is taken off.  [default: vllm; of GGUF types llama.cpp]",
)
@click.option("--kv-cache", type=click.Choice(["fp32", "fp16", "bf16", "fp8", "int8"]), help="Type of the cache.")
@click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write data and picture there.")
@_quiet
@click.pass_obj
@_one_line_errors
def fit(
    folders: tuple[str, ...], models: tuple[str, ...], style: str, out: Path | None, quiet: bool, **asked: Any
) -> None:
    """Does it fit: how many of which GPU hold MODEL, with how much context for how many users."""
    from simgpu.study import fitting

    done = fitting.fit(_catalogue(folders), models, fitting.Asked(**asked))
    written = fitting.write(done, out) if out is not None else []
    fitting.show(done, style, sys.stdout)
    if not quiet:
        for path in written:
            click.echo(f"written: {path}", err=True)


@main.command()
@click.argument("what", type=click.Choice(["kernels", "collectives", "training", "inference", "all"]))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Tables of measurements.  [default: $SIMGPU_MEASUREMENTS, else published figures that come with simgpu]",
)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write data and plots there.")
@click.option(
    "--regime",
    type=click.Choice(["full", "family", "datasheet"]),
    default="full",
    show_default=True,
    help="Which constants: all; without the GPU's own; without those of its architecture either.",
)
@click.option("--page", type=click.Path(path_type=Path), metavar="FILE", help="Write the page of goals and results.")
@click.option(
    "--write-residuals",
    "residuals",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the error bars' table.",
)
@_quiet
@click.pass_obj
@_one_line_errors
def validate(
    folders: tuple[str, ...],
    what: str,
    data: Path | None,
    style: str,
    out: Path | None,
    regime: str,
    page: Path | None,
    residuals: Path | None,
    quiet: bool,
) -> None:
    """Predictions against measurements: errors by file, GPU and operator, beside the plain datasheet roofline."""
    from simgpu.study.validation import command

    outcome = command.run(what, data, _catalogue(folders), regime)
    written = command.write(outcome, out, page, residuals)
    command.show(outcome, style, sys.stdout)
    if not quiet:
        for path in written:
            click.echo(f"written: {path}", err=True)


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--gpu", metavar="NAME", help="Whose constants to fit.  [default: the one GPU of the rows]")
@click.option("--what", default="", metavar="KINDS", help="stream, l2, gemm, attention, moe, nccl.  [default: all]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A .yaml file for the fragment; or a folder that gets the GPU's whole file, for --catalog.",
)
@click.option(
    "--regime",
    type=click.Choice(["full", "family", "datasheet"]),
    default="full",
    show_default=True,
    help="Where constants start: the GPU's own; its family's; those of any GPU.",
)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_quiet
@click.pass_obj
@_one_line_errors
def calibrate(
    folders: tuple[str, ...],
    files: tuple[Path, ...],
    gpu: str | None,
    what: str,
    out: Path | None,
    regime: str,
    style: str,
    quiet: bool,
) -> None:
    """Fit a GPU's constants to measured rows (CSV, see docs/calibration.md), and say what that brings."""
    from simgpu.study.calibration import command

    catalogue = _catalogue(folders)
    progress = (lambda text: None) if quiet or not sys.stderr.isatty() else (lambda text: click.echo(text, err=True))
    done = command.run(files, catalogue, gpu, what, regime, progress)
    written = command.write(done, catalogue, out) if out is not None else None
    command.show(done, style, sys.stdout, with_fragment=out is None)
    for doubt in () if quiet else done.doubts:
        click.echo(f"warning: {doubt}", err=True)
    if out is not None and not quiet:
        nothing = "nothing written: no constant improved the rows held out"
        click.echo(f"written: {written}" if written else nothing, err=True)


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.csv", help="Rows go there.")
@click.option("--what", default="", metavar="KINDS", help="stream, l2, gemm, attention, nccl.  [default: all]")
@click.option("--dtype", default="bfloat16", show_default=True, metavar="TYPES", help="Of products and attention.")
@click.option("--gpu", metavar="NAME", help="The catalogue's name of this GPU.  [default: told by the device]")
@click.option("--quick", is_flag=True, help="The few rows that say most: about a minute.")
@click.option("--sustained", is_flag=True, help="Time products in a long run, throttled, instead of in bursts.")
@_quiet
@click.pass_obj
@_one_line_errors
def measure(folders: tuple[str, ...], out: Path, quiet: bool, **asked: Any) -> None:
    """Measure this machine's GPU for `simgpu calibrate`. Needs PyTorch (pip install 'simgpu[measure]') and CUDA.

    Rows that FILE.csv has already are not measured again.
    """
    from simgpu.study.measurement import command

    command.run(_catalogue(folders), out, command.Asked(**asked), quiet, sys.stderr)


@main.command("nccl-tests")
@click.argument("cluster")
@click.option("--collective", "-c", default="all_reduce", show_default=True, help="all_reduce, all_gather, ...")
@click.option("--gpus", "-g", type=int, metavar="N", help="GPUs that take part.  [default: those of one node]")
@click.option("--minbytes", "-b", default="8", show_default=True, metavar="SIZE", help="Smallest size; 1M is 2^20.")
@click.option("--maxbytes", "-e", default="8G", show_default=True, metavar="SIZE", help="Largest size.")
@click.option("--stepfactor", "-f", default=2.0, show_default=True, help="From one size to the next.")
@click.option("--dtype", "-d", default="float", show_default=True, help="As nccl-tests or simgpu call it.")
@click.option("--algorithm", default="auto", show_default=True, help="auto, ring, tree, nvls, direct.")
@click.option("--protocol", default="auto", show_default=True, help="auto, ll, ll128, simple, ideal.")
@click.option("--library", default="nccl", show_default=True, help="nccl, or custom: kernels of serving frameworks.")
@click.option("--compare", "log", type=click.Path(path_type=Path), metavar="FILE", help="A log of nccl-tests.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_set
@click.pass_obj
@_one_line_errors
def nccl_tests(folders: tuple[str, ...], cluster: str, settings: tuple[str, ...], style: str, **asked: Any) -> None:
    """The table that nccl-tests would print on CLUSTER (a cluster or node), predicted; or a log against it."""
    from simgpu.study import nccl_tests as study

    study.run(_catalogue(folders), cluster, settings, study.Asked(**asked), style, sys.stdout)


if __name__ == "__main__":
    main()
