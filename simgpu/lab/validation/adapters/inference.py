"""The adapter of a table of whole inference runs: each row is deployed, and its step, batch or load simulated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simgpu.errors import InputError, MisfitError
from simgpu.lab.validation.adapters.inference_prediction import PredictedRun, predict
from simgpu.lab.validation.adapters.inference_runs import DECODE, E2E, PREFILL, TPOT, TTFT, MeasuredRun, Translate
from simgpu.lab.validation.adapters.models import plan_text
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.batches import Adapter, Batch, Detail, Machine, Part, Unpredicted
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.workload.runtime_files import runtime

IMPOSSIBLE = 0.9
"""Of the time that the datasheet's bandwidth and peak allow: what is measured below it is no such run."""

SHAPE = ("concurrency", "tp_size", "decode_num_workers", "num_gpus")
"""Columns that say what a row is, beside its details."""

TOO_FAST = "measured faster than the datasheet lets weights and cache be read and multiplied"


def adapter(columns: Columns, translate: Translate, measured: str = "latency_s") -> Adapter:
    """The adapter of a table with these columns, of which `translate` understands a row.

    `measured` is the column of its main figure.
    """

    def parts(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
        return _parts(translate, table, rows, machine)

    return Adapter("inference", columns, parts, measured)


def _parts(translate: Translate, table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    scored: dict[tuple[str, str, str, str, bool], list[tuple[int, MeasuredRun, PredictedRun]]] = {}
    refused: dict[tuple[str, str, bool, str, bool], list[int]] = {}  # fields of `Unpredicted` but `again`
    for row in rows.tolist():
        try:
            quantities = list(translate(Reader(table, row, machine)))
        except InputError as error:  # a cell that means nothing
            refused.setdefault(("all", str(error.problem), False, error.key or "", False), []).append(row)
            continue
        words = next((run for run in quantities if isinstance(run, str)), None)
        if words is not None:
            refused.setdefault(("all", words, False, "", False), []).append(row)
            continue
        wanted = [run for run in quantities if not isinstance(run, str)]
        try:
            found = [predict(machine, run) for run in wanted]
        except InputError as error:
            misfit = isinstance(error, MisfitError)
            refused.setdefault((wanted[0].op, str(error.problem), False, "", misfit), []).append(row)
            continue
        if any(_impossible(run, one) for run, one in zip(wanted, found, strict=True)):
            refused.setdefault(("all", TOO_FAST, True, "", False), []).append(row)
            continue
        for i, (run, one) in enumerate(zip(wanted, found, strict=True)):
            key = (run.op, run.dtype, runtime(run.engine.runtime).engine, run.engine.caveat, i > 0)
            scored.setdefault(key, []).append((row, run, one))
    for (op, reason, left_out, column, misfit), at in refused.items():
        yield Unpredicted(op, np.asarray(at, np.intp), reason, left_out, key=column, misfit=misfit)
    for key, entries in scored.items():
        yield _batch(table, *key, entries)


def _impossible(run: MeasuredRun, found: PredictedRun) -> bool:
    """Whether a run was measured faster than the datasheet allows."""
    return run.op in (TPOT, E2E, DECODE, PREFILL) and run.measured < IMPOSSIBLE * found.sol_s


def _batch(
    table: Table, op: str, dtype: str, library: str, caveat: str, again: bool,
    entries: list[tuple[int, MeasuredRun, PredictedRun]],
) -> Batch:  # fmt: skip
    values = np.asarray([found.seconds for _, _, found in entries])
    sol_s = np.asarray([found.sol_s for _, _, found in entries])
    return Batch(
        op,
        dtype,
        np.asarray([row for row, _, _ in entries], np.intp),
        lambda: values,
        lambda: sol_s,
        "gemm",
        library,
        SHAPE,
        caveat=caveat,
        measured=np.asarray([run.measured for _, run, _ in entries]),
        kernels=(
            values * np.asarray([found.kernels[0] for _, _, found in entries]),
            values * np.asarray([found.kernels[1] for _, _, found in entries]),
        ),
        details=tuple(_detail(table, row, run, found) for row, run, found in entries),
        again=again,
    )


def _detail(table: Table, row: int, run: MeasuredRun, found: PredictedRun) -> Detail:
    engine = run.engine
    load = f"{run.rate:g}/s of" if run.rate else f"{run.batch} x"
    load += f" {run.prompt:,}+{run.output:,}"
    words = [plan_text(engine.plan), load, engine.precision]
    words += ["prefill-apart"] if run.apart else []
    reader = Reader(table, row)
    gpus = engine.plan.world * run.instances[1]
    if run.apart is not None:
        gpus += run.apart.plan.world * run.instances[0]
    served, version = runtime(engine.runtime), reader.word("version")
    name = f"{served.engine} {version}".strip()
    return Detail(
        table.source, engine.config.name, gpus, " ".join(filter(None, words)), name, found.caveat or run.caveat,
        version=served.measured, layout=engine.caveat,
        load=run.served and (run.batch > 1 or run.rate > 0),
        queue=run.op == TTFT and (run.apart is not None or bool(found.caveat)),
        ends=served.decode_ends if run.op == DECODE else (1.0, 1.0),
    )  # fmt: skip
