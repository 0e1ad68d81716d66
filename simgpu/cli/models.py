"""Commands about memory and about how good predictions are: fit, validate, calibrate, measure, nccl-tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simgpu.cli.base import (
    as_family,
    as_option,
    format_option,
    main,
    one_line_errors,
    open_catalogue,
    out_option,
    plot_options,
    quiet_option,
    set_option,
    tell,
    tell_written,
)
from simgpu.cli.names import MACHINES, names_of
from simgpu.errors import InputError, nearest, shown

if TYPE_CHECKING:
    from simgpu.catalog import Catalogue


@main.command(
    short_help="Print how many GPUs of each kind a model needs.",
    epilog="Example: simgpu fit llama-3.3-70b --gpu h100-sxm --context 32768",
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", shell_complete=names_of("models", files=True))
@as_option
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="NAME",
    shell_complete=names_of("gpus"),
    help="Kind of GPU; repeatable.  [default: eight kinds]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="NAME",
    help="bf16, fp8, int8, int4, mxfp4, q4_k_m, ...; repeatable.  [default: the usual ones that the runtime has]",
)
@click.option(
    "--context", type=int, metavar="TOKENS", help="Context of each user.  [default: 8192, or the longest of the model]"
)
@click.option("--users", type=int, metavar="N", default=1, show_default=True, help="Users served at once.")
@click.option(
    "--runtime",
    metavar="NAME",
    help="Runtime whose reserved memory is subtracted: vllm, vllm@0.14, ...  [default: vllm; llama.cpp for GGUF types]",
)
@click.option(
    "--kv-cache", type=click.Choice(["fp32", "fp16", "bf16", "fp8", "int8"]), help="Data type of the KV cache."
)
@format_option("table", "json", "csv")
@out_option("DIR", "Write data and picture there.  [default: write nothing]")
@plot_options()
@quiet_option
@click.pass_obj
@one_line_errors
def fit(
    folders: tuple[str, ...],
    models: tuple[str, ...],
    family: str | None,
    style: str,
    out: Path | None,
    plots: bool,
    formats: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Print how many GPUs of each kind MODEL needs, with how much context for how many users."""
    from simgpu.study.report import capacity as fitting

    models = tuple(as_family(one, family) for one in models)
    done = fitting.fit(open_catalogue(folders), models, fitting.CapacityQuery(**options))
    written = fitting.write(done, out, plots, formats) if out is not None else []
    fitting.show(done, style, sys.stdout)
    tell_written((("written", path) for path in written), quiet)


TABLES = ("kernels", "collectives", "training", "inference", "networks", "serving", "energy", "all")
"""What `simgpu validate` compares with measurements."""


def _tables(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:  # noqa: ARG001 - click's signature
    """Complete names of tables, or files of logs after --with."""
    from click.shell_completion import CompletionItem

    found = [CompletionItem(name) for name in TABLES if name.startswith(incomplete)]
    return [CompletionItem(incomplete, type="file")] if context.params.get("mine") else found


@main.command(
    short_help="Compare predictions with measurements.",
    epilog="Example: simgpu validate kernels",
)
@click.argument("words", nargs=-1, required=True, metavar="WHAT|FILE...", shell_complete=_tables)
@click.option(
    "--with", "mine", metavar="MINE.yaml", help="Hold what simgpu observe learned against further logs: FILE..."
)
@click.option("--of", "experiment", metavar="EXPERIMENT", help="With --with: the experiment that the logs are of.")
@click.option("--case", "numbers", type=int, multiple=True, metavar="N", help="With --with: the case of each log.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of measured tables.  [default: $SIMGPU_MEASUREMENTS, else published figures that come with simgpu]",
)
@format_option("table", "json", "csv")
@out_option("DIR", "Write data and plots there.  [default: write nothing]")
@plot_options()
@click.option(
    "--regime",
    type=click.Choice(["full", "family", "datasheet"]),
    default="full",
    show_default=True,
    help="Constants to use: all; without those measured on the GPU; without those of its architecture either.",
)
@click.option(
    "--page", type=click.Path(path_type=Path), metavar="FILE", help="Write a page of goals and results (Markdown)."
)
@click.option(
    "--write-residuals",
    "residuals",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the table that intervals are computed from.",
)
@quiet_option
@click.pass_obj
@one_line_errors
def validate(
    folders: tuple[str, ...],
    words: tuple[str, ...],
    mine: str | None,
    experiment: str | None,
    numbers: tuple[int, ...],
    data: Path | None,
    style: str,
    out: Path | None,
    plots: bool,
    formats: tuple[str, ...],
    regime: str,
    page: Path | None,
    residuals: Path | None,
    quiet: bool,
) -> None:
    """Compare predictions with measurements: errors by file, GPU and operator, beside the plain datasheet roofline.

    WHAT is one of kernels, collectives, training, inference, networks, serving, energy and all.

    With --with, hold what `simgpu observe` learned of a machine against further logs of it, FILE...
    """
    from simgpu.lab.validation import command

    if mine is not None:
        if data or out or page or residuals or regime != "full":
            raise InputError("takes --of, --case and --format", key="validate --with")
        _validate_with(mine, experiment, numbers, words, open_catalogue(folders), style)
        return
    if experiment is not None or numbers:
        raise InputError("says what logs are of; expected --with MINE.yaml with it", key="--of or --case")
    what = _table_of(words)
    if what in ("serving", "energy"):
        if out is not None or residuals is not None or regime != "full":
            raise InputError("takes --data, --format and --page", key=f"validate {what}")
        alone = command.serve if what == "serving" else command.draw
        tell_written((("written", path) for path in alone(data, open_catalogue(folders), style, page)), quiet)
        return
    outcome = command.run(what, data, open_catalogue(folders), regime)
    written = command.write(outcome, out, page, residuals, plots, formats)
    command.show(outcome, style, sys.stdout)
    tell_written((("written", path) for path in written), quiet)


def _table_of(words: tuple[str, ...]) -> str:
    """The one table that is asked for."""
    if len(words) == 1 and words[0] in TABLES:
        return words[0]
    unknown = next((word for word in words if word not in TABLES), "")
    wrong = f"{shown(unknown)} is not known{nearest(unknown, TABLES)}; logs need --with MINE.yaml"
    raise InputError(wrong if unknown else f"is given {len(words)} times; expected one", key="validate WHAT")


def _validate_with(
    mine: str,
    experiment: str | None,
    numbers: tuple[int, ...],
    files: tuple[str, ...],
    catalogue: Catalogue,
    style: str,
) -> None:
    """`simgpu validate --with`."""
    from simgpu.lab.logs import command, holding
    from simgpu.study.experiment.running import find_experiment, load_experiment

    if experiment is None:
        raise InputError("says what the logs are of; expected --of EXPERIMENT", key="validate --with")
    runs = command.observe(Path(file) for file in files)
    cases = load_experiment(find_experiment(experiment, catalogue), (), catalogue).cases
    found = holding.hold(command.of_cases(cases, numbers, runs), mine, catalogue)
    holding.show(found, mine, style, sys.stdout)


@main.command(
    short_help="Fit a GPU's constants to measured rows (CSV).",
    epilog="Example: simgpu calibrate rows.csv --gpu h100-sxm -o own/",
)
@click.argument("files", nargs=-1, metavar="[FILE...]", type=click.Path(path_type=Path))
@click.option("--step", metavar="EXPERIMENT", help="Calibrate with one measured step of this experiment, without FILE.")
@click.option("--case", "number", type=click.IntRange(min=1), metavar="N", help="With --step: its case.  [default: 1]")
@click.option("--measured", metavar="TIME", help="With --step: of the step, the batch, or a server's token: '1.23 s'.")
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=names_of("gpus"),
    help="GPU whose constants to fit.  [default: the one GPU of the rows]",
)
@click.option("--what", default="", metavar="KINDS", help="stream, l2, gemm, attention, moe, nccl.  [default: all]")
@out_option("PATH", "A .yaml file for the fragment; or a folder that gets the GPU's whole file, for --catalog.")
@click.option(
    "--regime",
    type=click.Choice(["full", "family", "datasheet"]),
    default="full",
    show_default=True,
    help="Constants to start from: those of the GPU; of its architecture; generic ones.",
)
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def calibrate(
    folders: tuple[str, ...],
    files: tuple[Path, ...],
    out: Path | None,
    style: str,
    quiet: bool,
    **asked: Any,
) -> None:
    """Fit a GPU's constants to measured rows (CSV, see docs/calibration.md), and print by how much the errors fall.

    Or move its steps towards one that you measured: --step.
    """
    from simgpu.lab.calibration import command

    catalogue = open_catalogue(folders)
    step, number, measured = (asked.pop(name) for name in ("step", "number", "measured"))
    if step is not None:
        if files:
            raise InputError("is given a file of rows too; expected one or the other", key="--step")
        _calibrate_step(step, number or 1, measured, catalogue, out, style, quiet)
        return
    for name, value in (("--case", number), ("--measured", measured)):
        if value is not None:
            raise InputError("is of a step; expected --step EXPERIMENT with it", key=name)
    if not files:
        raise InputError("no file of rows is given; expected FILE..., or --step EXPERIMENT --measured TIME", key="FILE")
    gpu, what, regime = (asked[name] for name in ("gpu", "what", "regime"))
    progress = (lambda _: None) if quiet or not sys.stderr.isatty() else tell
    done = command.run(files, catalogue, gpu, what, regime, progress)
    written = command.write(done, catalogue, out) if out is not None else None
    command.show(done, style, sys.stdout, with_fragment=out is None)
    for doubt in () if quiet else done.doubts:
        tell(f"warning: {doubt}")
    if out is not None and not quiet:
        nothing = "nothing written: no constant improved the rows held out"
        tell(f"written: {written}" if written else nothing)


def _calibrate_step(
    step: str, number: int, measured: str | None, catalogue: Catalogue, out: Path | None, style: str, quiet: bool
) -> None:
    """`simgpu calibrate --step`."""
    from simgpu.lab.calibration import step_command
    from simgpu.study.search.ranked import open_experiment

    cases = open_experiment(step, (), catalogue).cases
    if number > len(cases):
        raise InputError(f"{number}: the experiment has {len(cases)}", key="--case")
    case = cases[number - 1]
    name = f"{Path(step).stem} case {number}"
    done = step_command.run(case.scenario, case.origins, catalogue, measured, name)
    written = step_command.write(done, out) if out is not None else None
    step_command.show(done, style, sys.stdout)
    if written is not None and not quiet:
        tell(f"written: {written}; simgpu --catalog {out} uses it")


@main.command(
    short_help="Measure this machine's GPU, or plan what to.",
    epilog="Example: simgpu measure --quick -o rows.csv",
)
@out_option("FILE.csv", "Rows go there; needed without --plan.")
@click.option(
    "--plan", "planned", metavar="EXPERIMENT", help="Say what would narrow its intervals most, measure nothing."
)
@click.option("--case", "number", type=click.IntRange(min=1), metavar="N", help="With --plan: its case.  [default: 1]")
@set_option
@click.option("--what", default="", metavar="KINDS", help="stream, l2, gemm, attention, nccl.  [default: all]")
@click.option(
    "--dtype", default="bfloat16", show_default=True, metavar="TYPES", help="Data types of GEMMs and attention."
)
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=names_of("gpus"),
    help="The catalogue's name of this GPU.  [default: detected from the device]",
)
@click.option("--quick", is_flag=True, help="Measure only the few most informative rows: about a minute.")
@click.option("--sustained", is_flag=True, help="Time GEMMs in a long, throttled run instead of in bursts.")
@format_option("table", "json", "csv")
@quiet_option
@click.pass_obj
@one_line_errors
def measure(
    folders: tuple[str, ...],
    out: Path | None,
    planned: str | None,
    number: int | None,
    settings: tuple[str, ...],
    style: str,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure this machine's GPU for `simgpu calibrate`. Needs PyTorch (pip install 'simgpu[measure]') and CUDA.

    Rows that FILE.csv has already are not measured again.

    With --plan, and without a GPU: which measurements would narrow the interval of a prediction most, as commands.
    """
    if planned is not None:
        if out is not None:
            raise InputError("a plan is printed, not written; expected --plan or --out", key="--out")
        _plan_measurements(planned, number or 1, settings, open_catalogue(folders), style)
        return
    for name, value in (("--case", number), ("--set", settings)):
        if value:
            raise InputError("says which prediction is to be surer; expected --plan EXPERIMENT with it", key=name)
    if out is None:
        raise InputError("no file is named; expected -o rows.csv, or --plan EXPERIMENT", key="--out")
    from simgpu.lab.measurement import command

    command.run(open_catalogue(folders), out, command.MeasureOptions(**options), quiet, sys.stderr)


def _plan_measurements(name: str, number: int, settings: tuple[str, ...], catalogue: Catalogue, style: str) -> None:
    """`simgpu measure --plan`."""
    from simgpu.lab.measurement import planned, planning
    from simgpu.study.search.ranked import open_experiment

    cases = open_experiment(name, settings, catalogue).cases
    if number > len(cases):
        raise InputError(f"{number}: the experiment has {len(cases)}", key="--case")
    case = cases[number - 1]
    planned.show(planning.plan(case.scenario, case.origins, catalogue, name, number), style, sys.stdout)


@main.command(
    "nccl-tests",
    short_help="Predict the table that nccl-tests would print.",
    epilog="Example: simgpu nccl-tests dgx-h100 -c all_reduce -b 1M",
)
@click.argument("cluster", shell_complete=names_of(*MACHINES))
@click.option("--collective", "-c", default="all_reduce", show_default=True, help="all_reduce, all_gather, ...")
@click.option("--gpus", "-g", type=int, metavar="N", help="Number of GPUs.  [default: those of one node]")
@click.option("--minbytes", "-b", default="8", show_default=True, metavar="SIZE", help="Smallest size; 1M is 2^20.")
@click.option("--maxbytes", "-e", default="8G", show_default=True, metavar="SIZE", help="Largest size.")
@click.option("--stepfactor", "-f", default=2.0, show_default=True, help="Factor from one size to the next.")
@click.option("--dtype", "-d", default="float", show_default=True, help="Data type, as nccl-tests or simgpu call it.")
@click.option(
    "--algorithm", default="auto", show_default=True, help="Algorithm: auto, ring, tree, nvls, collnet, direct."
)
@click.option("--protocol", default="auto", show_default=True, help="Protocol: auto, ll, ll128, simple, ideal.")
@click.option(
    "--library", default="nccl", show_default=True, help="nccl, custom (kernels of serving frameworks), or gloo."
)
@click.option(
    "--compare",
    "log",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A log of nccl-tests to compare with the prediction.",
)
@format_option("table", "json", "csv")
@set_option
@click.pass_obj
@one_line_errors
def nccl_tests(folders: tuple[str, ...], cluster: str, settings: tuple[str, ...], style: str, **options: Any) -> None:
    """Predict the table that nccl-tests would print on CLUSTER (a cluster or node), or compare a log with it."""
    from simgpu.lab import nccl_tests as study

    study.run(open_catalogue(folders), cluster, settings, study.NcclTestsOptions(**options), style, sys.stdout)
