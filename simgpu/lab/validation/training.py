"""Adapters of tables of training steps: each row is a machine, a plan and a model, and simulated by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from simgpu.errors import InputError
from simgpu.lab.validation import training_megatron, training_rows
from simgpu.lab.validation.batches import Batch, Detail, Machine, Part, Unpredicted
from simgpu.lab.validation.tables import Rows, Table
from simgpu.lab.validation.training_models import Predicted, predict
from simgpu.lab.validation.training_rows import Case, Reader, Translate, Wanted
from simgpu.plan.parallelism import Plan

STEP, MEMORY = "step_time", "memory"


def adapter(translate: Translate) -> Callable[[Table, Rows, Machine], Iterator[Part]]:
    """The adapter of tables whose rows `translate` understands."""

    def parts(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
        return _parts(translate, table, rows, machine)

    return parts


foundry, megatron, memory, torchtitan, neusight, ml_engineering, lambda_labs, stated = map(
    adapter,
    (
        training_rows.foundry,
        training_megatron.megatron,
        training_megatron.memory_of_megatron,
        training_rows.torchtitan,
        training_rows.neusight,
        training_rows.ml_engineering,
        training_rows.lambda_labs,
        training_rows.stated,
    ),
)


def _parts(translate: Translate, table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Each row is in one part; further quantities of a row are parts that say so."""
    scored: dict[tuple[str, str, str, bool], list[tuple[int, Wanted, Predicted]]] = {}
    refused: dict[tuple[str, str, str, bool], list[int]] = {}
    for row in rows.tolist():
        try:
            quantities = list(translate(Reader(table, row, machine)))
        except InputError as error:  # a cell that means nothing
            refused.setdefault((STEP, str(error.problem), error.key or "", False), []).append(row)
            continue
        for i, wanted in enumerate(quantities):
            if isinstance(wanted, str):
                refused.setdefault((STEP, wanted, "", i > 0), []).append(row)
                continue
            try:
                found = predict(machine, wanted)
            except InputError as error:
                refused.setdefault((wanted.quantity, str(error.problem), "", i > 0), []).append(row)
                continue
            key = (wanted.quantity, wanted.dtype, wanted.part, i > 0)
            scored.setdefault(key, []).append((row, wanted, found))
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
    entries: list[tuple[int, Wanted, Predicted]],
    machine: Machine,
) -> Batch:
    values, low, high = (np.asarray([getattr(p, n) for _, _, p in entries]) for n in ("value", "low", "high"))
    baseline = np.asarray([_plain(machine, wanted) for _, wanted, _ in entries])
    return Batch(
        op,
        dtype,
        np.asarray([row for row, _, _ in entries], np.intp),
        lambda: values,
        lambda: baseline,
        "gemm",
        shape=("source", "model", "task", "num_gpus", "seq_len", "global_batch_size", "global_batch"),
        measured=np.asarray([wanted.measured for _, wanted, _ in entries]),
        ends=(low, high),
        details=tuple(_detail(table, row, wanted, found) for row, wanted, found in entries),
        part=part,
        again=again,
    )


def _plain(machine: Machine, wanted: Wanted) -> float:
    """The back of an envelope: 6 N FLOPs a token at the datasheet's peak; 18 bytes a parameter over all GPUs."""
    case = wanted.cases[0]
    if wanted.quantity == MEMORY:
        return 1.0 if wanted.part == "relative" else 18.0 * case.config.parameters / (case.plan.tp * case.plan.pp)
    flops = 6 * case.config.parameters * case.batch * case.tokens
    return flops / (machine.peak(case.dtype) * case.gpus)


def _detail(table: Table, row: int, wanted: Wanted, found: Predicted) -> Detail:
    """Where a row comes from and what it is."""
    case: Case = wanted.cases[0]
    origin = Reader(table, row).word("source") or table.source
    return Detail(
        origin,
        case.config.name,
        Reader(table, row).count("num_gpus", case.gpus),
        described(wanted),
        case.framework,
        wanted.caveat,
        found.needed,
    )


def described(wanted: Wanted) -> str:
    """Plan of the most usual case in a few words: tp8 pp8 vp3, microbatch of 1 ..."""
    case = wanted.cases[0]
    words = [plan_text(case.plan), f"{case.batch} x {case.tokens:,}", case.dtype]
    numerics = dict(case.numerics)
    words += ["no-optimizer"] if numerics.get("optimizer") == "none" else []
    words += [f"reduce-{numerics['reduce']}"] if case.plan.zero and "reduce" in numerics else []
    words += [case.link.replace(" ", "-")] if case.link else []
    if wanted.part:
        words.append(wanted.part)
    if len(wanted.cases) > 1 and wanted.part != "relative":
        words.append(f"(one of {len(wanted.cases)})")
    return " ".join(words)


def plan_text(plan: Plan) -> str:
    """Degrees above one and whatever else is not the default."""
    words = [f"{name}{getattr(plan, name)}" for name in ("tp", "cp", "pp", "vp", "ep", "dp") if getattr(plan, name) > 1]
    words += [f"zero{plan.zero}"] if plan.zero else []
    words += ["sp"] if plan.sequence_parallel else []
    words += ["async-tp"] if plan.async_tp else []
    words += [f"mb{plan.micro_batch}"] if plan.micro_batch else []
    words += [f"recompute-{plan.recompute}"] if plan.recompute != "none" else []
    return " ".join(words)
