"""The steps of `simgpu measure`: find the GPU, plan, measure, print what happened."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.lab.calibration.command import kinds_of
from simgpu.lab.measurement.backend import Backend, Operation
from simgpu.lab.measurement.device import name_of
from simgpu.lab.measurement.operations import KINDS, dtypes_of, plan
from simgpu.lab.measurement.run import Outcome, Progress, measure
from simgpu.lab.measurement.table import MeasuredFile
from simgpu.terminal import plain, tell


@dataclass(frozen=True)
class MeasureOptions:
    """The options of the command."""

    what: str = ""
    dtype: str = "bfloat16"
    gpu: str | None = None
    quick: bool = False
    sustained: bool = False


def run(
    catalogue: Catalogue,
    out: Path,
    options: MeasureOptions,
    quiet: bool,
    messages: IO[str],
    backend: Backend | None = None,
) -> Outcome:
    """Measure into `out`. Ctrl-C leaves a good file."""
    what, dtypes = kinds_of(options.what, KINDS), dtypes_of(options.dtype)
    if not out.name.endswith(".csv"):
        raise InputError("expected a file named .csv", file=out, key="--out")
    if backend is None:
        from simgpu.lab.measurement.torch_backend import TorchBackend

        backend = TorchBackend()
    try:
        device = backend.device()
        name = name_of(device, catalogue, options.gpu)
        operations = plan(device, what, dtypes, options.quick, options.sustained)
        if not operations:
            raise InputError(f"nothing to measure: {', '.join(what)} on {device.count} GPU", key="--what")
        file = MeasuredFile(out, name)
        with ExitStack() as stack:
            progress = _progress(stack, operations, name, messages, quiet)
            outcome = measure(operations, backend, file, device, progress)
    except KeyboardInterrupt:
        tell(f"what was measured is in {out}; run the same command again to go on", messages)
        raise
    finally:
        backend.close()
    if not quiet:
        _report(outcome, out, name, messages)
    return outcome


def _progress(stack: ExitStack, operations: list[Operation], name: str, messages: IO[str], quiet: bool) -> Progress:
    """A bar on a terminal; nothing elsewhere."""
    if quiet or not messages.isatty():
        return lambda _done, _operation: None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn(f"measuring {name}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = stack.enter_context(Bars(*columns, TextColumn("{task.description}"), console=Console(file=messages)))
    task = bars.add_task("", total=len(operations))

    def show(done: int, operation: Operation) -> None:
        bars.update(task, completed=done, description=plain(str(operation)))

    return show


def _report(outcome: Outcome, out: Path, name: str, messages: IO[str]) -> None:
    known = f", {outcome.known} were there" if outcome.known else ""
    tell(f"measured: {outcome.measured} rows{known}: {out}", messages)
    for operation, reason in outcome.failed[:10]:
        tell(f"not measured: {operation}: {reason}", messages)
    if len(outcome.failed) > 10:
        tell(f"not measured: {len(outcome.failed) - 10} more", messages)
    if outcome.noisy:
        tell(f"noisy: {outcome.noisy} rows (column spread above 0.2); is the GPU used by others?", messages)
    tell(f"next: simgpu calibrate {out} --gpu {name} --out my-catalogue", messages)
