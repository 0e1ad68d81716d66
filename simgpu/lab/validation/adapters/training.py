"""The adapter of a table of training steps: each row is a machine, a plan and a model, and simulated by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simgpu.errors import InputError
from simgpu.lab.validation.adapters.models import plan_text
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.training_prediction import PredictedStep, predict
from simgpu.lab.validation.adapters.training_steps import Case, MeasuredStep, Translate
from simgpu.lab.validation.batches import Adapter, Batch, Detail, Machine, Part, Unpredicted
from simgpu.lab.validation.tables import Columns, Rows, Table

STEP, MEMORY = "step_time", "memory"


def adapter(columns: Columns, translate: Translate) -> Adapter:
    """The adapter of a table with these columns, of which `translate` understands a row."""

    def parts(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
        return _parts(translate, table, rows, machine)

    return Adapter("training", columns, parts)


def _parts(translate: Translate, table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Each row is in one part; further quantities of a row are parts that say so."""
    scored: dict[tuple[str, str, str, bool], list[tuple[int, MeasuredStep, PredictedStep]]] = {}
    refused: dict[tuple[str, str, str, bool], list[int]] = {}
    for row in rows.tolist():
        try:
            quantities = list(translate(Reader(table, row, machine)))
        except InputError as error:  # a cell that means nothing
            refused.setdefault((STEP, str(error.problem), error.key or "", False), []).append(row)
            continue
        for i, step in enumerate(quantities):
            if isinstance(step, str):
                refused.setdefault((STEP, step, "", i > 0), []).append(row)
                continue
            try:
                found = predict(machine, step)
            except InputError as error:
                refused.setdefault((step.quantity, str(error.problem), "", i > 0), []).append(row)
                continue
            key = (step.quantity, step.dtype, step.part, i > 0)
            scored.setdefault(key, []).append((row, step, found))
    for (op, reason, column, again), at in refused.items():
        yield Unpredicted(op, np.asarray(at, np.intp), reason, again=again, key=column)
    for (op, dtype, part, again), entries in scored.items():
        yield _batch(table, op, dtype, part, again, entries, machine)


def _batch(
    table: Table,
    op: str,
    dtype: str,
    part: str,
    again: bool,
    entries: list[tuple[int, MeasuredStep, PredictedStep]],
    machine: Machine,
) -> Batch:
    values, low, high = (np.asarray([getattr(p, n) for _, _, p in entries]) for n in ("value", "low", "high"))
    baseline = np.asarray([_plain(machine, step) for _, step, _ in entries])
    return Batch(
        op,
        dtype,
        np.asarray([row for row, _, _ in entries], np.intp),
        lambda: values,
        lambda: baseline,
        "gemm",
        shape=("source", "model", "task", "num_gpus", "seq_len", "global_batch_size", "global_batch"),
        measured=np.asarray([step.measured for _, step, _ in entries]),
        ends=(low, high) if op == MEMORY else None,
        kernels=None if op == MEMORY else (low, high),
        details=tuple(_detail(table, row, step, found) for row, step, found in entries),
        part=part,
        again=again,
    )


def _plain(machine: Machine, step: MeasuredStep) -> float:
    """The back of an envelope: 6 N FLOPs a token at the datasheet's peak; 18 bytes a parameter over all GPUs."""
    case = step.cases[0]
    if step.quantity == MEMORY:
        return 1.0 if step.part == "relative" else 18.0 * case.config.parameters / (case.plan.tp * case.plan.pp)
    flops = 6 * case.config.parameters * case.batch * case.tokens
    return flops / (machine.peak(case.dtype) * case.gpus)


def _detail(table: Table, row: int, step: MeasuredStep, found: PredictedStep) -> Detail:
    """Where a row comes from and what it is."""
    case: Case = step.cases[0]
    origin = Reader(table, row).word("source") or table.source
    return Detail(
        origin,
        case.config.name,
        Reader(table, row).count("num_gpus", case.gpus),
        described(step),
        case.framework,
        step.caveat,
        found.needed,
        case.config.experts > 1,
        not step.mapped,
    )


def described(step: MeasuredStep) -> str:
    """Plan of the most usual case in a few words: tp8 pp8 vp3, microbatch of 1 ..."""
    case = step.cases[0]
    words = [plan_text(case.plan), f"{case.batch} x {case.tokens:,}", case.dtype]
    numerics = dict(case.numerics)
    words += ["no-optimizer"] if numerics.get("optimizer") == "none" else []
    words += [f"reduce-{numerics['reduce']}"] if case.plan.zero and "reduce" in numerics else []
    words += [case.link.replace(" ", "-")] if case.link else []
    if step.part:
        words.append(step.part)
    if len(step.cases) > 1 and step.part != "relative":
        words.append(f"(one of {len(step.cases)})")
    return " ".join(words)
