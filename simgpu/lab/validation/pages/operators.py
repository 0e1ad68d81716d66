"""docs/validation.md: goals and what is reached, the noise of the data, the plain roofline, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.lab.validation.batches import DATASHEET, FAMILY, FULL
from simgpu.lab.validation.between_nodes import section
from simgpu.lab.validation.pages.goals import GOALS, Errors, Goal
from simgpu.lab.validation.pages.intervals import intervals_section
from simgpu.lab.validation.reasons import reason
from simgpu.lab.validation.run import Listed, Scored, Validation, validate, validate_all
from simgpu.lab.validation.score import Row, groups, scores, worst
from simgpu.lab.validation.tables import Array

_ERRORS = ("median_ape", "mape", "p90_ape")
FACTOR = 3.0
"""Rows off by more than this are named."""

HEAD = """\
<!-- generated, do not edit: simgpu validate all --data DIR --page docs/validation.md -->
# Validation: predicted against measured

Every number on this page comes from one command, which anyone can run again on tables of the same columns:

    simgpu validate all --data DIR --page docs/validation.md

Errors are |predicted / measured - 1|, as median / mean / P90 in percent. The plain roofline beside them is
max(FLOPs / peak, bytes / bandwidth) from the datasheet alone; for collectives, bytes over the rate of the link. Whole
training steps have a page of their own, [validation-training.md](validation-training.md).
*Within* is the share of rows inside the predicted 80 % interval, counted over rows that did not make the table of the
intervals.
"""


GOALS_HEAD = """\
## Goals

*All*: every constant that the catalogue has for the GPU. *Family*: those of its architecture alone, which in a family
of one measured GPU are that GPU's. *Datasheet*: those of any GPU, what a GPU that nobody measured gets. Of collectives
over NVLink, the last two hold 8 MB and more. A goal is reached when all three errors are; else the table says by how
much they are over.
"""


def page_text(done: Validation, catalogue: Catalogue) -> str:
    """The page as Markdown. Wider regimes are predicted again from the same folder."""
    runs = {done.regime: done}
    for regime in (FULL, FAMILY, DATASHEET):
        if regime not in runs:
            again = validate_all if regime == FULL else partial(validate, without="training")
            runs[regime] = again(done.target, done.folder, catalogue, regime)
    blocks = [
        HEAD,
        "\n".join(_goals(runs)),
        "\n".join(_missed(runs)),
        "\n".join(section(runs[FULL].scored)),
        "\n".join(intervals_section(runs[FULL], picture=True)),
        "\n".join(_noise(runs[FULL])),
        "\n".join(_groups(runs[FULL])),
    ]
    blocks += ["\n".join(_far(runs[FULL])), "\n".join(_listed(runs[FULL]))]
    return "\n".join(block.rstrip("\n") + "\n" for block in blocks if block)


def errors_of(parts: Sequence[Scored], goal: Goal, stranger: bool = False) -> dict[str, Any] | None:
    """Scores of the rows of a goal, or of what it asks of a stranger; None where there are none."""
    where = goal.stranger_where if stranger and goal.stranger_where else goal.where
    found = scores([part for part in parts if goal.takes(part)], where)
    return found if found["rows"] else None


def reached(found: dict[str, float], wanted: Errors) -> bool:
    """Whether median, mean and P90 are all within the goal, after rounding to a tenth of a percent."""
    return all(round(100 * found[name], 1) <= bound for name, bound in zip(_ERRORS, wanted, strict=True))


def _goals(runs: dict[str, Validation]) -> Iterator[str]:
    yield GOALS_HEAD
    columns = ("class", "GPU", "constants", "rows", "goal", "errors", "reached", "over by", "within")
    yield f"| {' | '.join(columns)} | plain roofline | best known |"
    yield "|---|---|---|---:|---|---|---|---|---:|---|---|"
    for goal in GOALS:
        for gpu in _gpus(runs, goal):
            for regime, words in ((FULL, "all"), (FAMILY, "family"), (DATASHEET, "datasheet")):
                parts = [part for part in runs[regime].scored if part.gpu == gpu]
                yield from _goal_row(parts, goal, gpu, words, own=regime == FULL)


def _goal_row(parts: Sequence[Scored], goal: Goal, gpu: str, words: str, own: bool) -> Iterator[str]:
    """How near a GPU comes to a goal with its `own` constants or a stranger's; nothing where no goal is set for it."""
    found = errors_of(parts, goal, stranger=not own)
    wanted = goal.measured.get(gpu, goal.measured.get("")) if own else goal.stranger
    if found is not None and wanted is not None:
        verdict = "yes" if reached(found, wanted) else "no"
        cells = [goal.title, gpu, words, f"{found['rows']:,}", _triple(wanted), _errors(found), verdict]
        cells += [_over(found, wanted), _within(parts, goal), _sol(found), goal.known if own else ""]
        yield f"| {' | '.join(cells)} |"


def _missed(runs: dict[str, Validation]) -> Iterator[str]:
    """Why goals are missed, for those that are."""
    yield "### Why, where a goal is missed\n"
    for goal in GOALS:
        found = [errors_of([p for p in runs[FULL].scored if p.gpu == gpu], goal) for gpu in _gpus(runs, goal)]
        wanted = [goal.measured.get(gpu, goal.measured.get("")) for gpu in _gpus(runs, goal)]
        pairs = [(f, w) for f, w in zip(found, wanted, strict=True) if f is not None and w is not None]
        if goal.missed and not all(reached(f, w) for f, w in pairs):
            yield f"- **{goal.title}.** {goal.missed}"


def _gpus(runs: dict[str, Validation], goal: Goal) -> list[str]:
    return sorted({part.gpu for part in runs[FULL].scored if goal.takes(part)})


def _triple(errors: Errors) -> str:
    return " / ".join(f"{value:g}" for value in errors)


def _errors(found: dict[str, float]) -> str:
    return " / ".join(f"{100 * found[name]:.1f}" for name in _ERRORS)


def _within(parts: Sequence[Scored], goal: Goal) -> str:
    """Coverage of the rows of a goal that did not make the table of residuals."""
    chosen = [part for part in parts if goal.takes(part)]
    found = scores(chosen, lambda part: goal.where(part) & part.reserved)
    return f"{100 * found['coverage80']:.0f} %" if found["rows"] else ""


def _over(found: dict[str, float], wanted: Errors) -> str:
    """By how many points the errors are over a goal."""
    over = [100 * found[name] - bound for name, bound in zip(_ERRORS, wanted, strict=True)]
    return "" if reached(found, wanted) else " / ".join(f"{value:.1f}" if value >= 0.05 else "-" for value in over)


def _sol(found: dict[str, float]) -> str:
    return " / ".join(f"{100 * found[name]:.0f}" for name in ("sol_median_ape", "sol_mape"))


def _noise(done: Validation) -> Iterator[str]:
    """How far two measurements of the same thing lie apart."""
    rows = [*_repeats_of_gemm(done), *_repeats_of_collectives(done)]
    if not rows:
        return
    yield "## Noise of the data"
    yield ""
    yield "How far a second measurement of the same operation lies from the first: no model can be asked to be closer."
    yield ""
    yield "| what is compared | GPU | rows | median / mean / P90 % |"
    yield "|---|---|---:|---|"
    for what, gpu, off in rows:
        numbers = " / ".join(f"{100 * value:.1f}" for value in (np.median(off), off.mean(), np.quantile(off, 0.9)))
        yield f"| {what} | {gpu} | {len(off):,} | {numbers} |"


def _repeats_of_gemm(done: Validation) -> Iterator[tuple[str, str, Array]]:
    """The same cuBLAS call by two collectors."""
    for part in done.scored:
        if part.source == "aic_gemm" and part.batch.dtype == "bfloat16":
            texts = part.table.word("latency_trtllm_s", part.batch.rows)
            both = np.asarray([float(text or "nan") for text in texts])
            off = np.abs(both / part.measured - 1)
            if np.isfinite(off).any():
                yield "GEMM bf16: same shape, another collector and CUDA", part.gpu, off[np.isfinite(off)]


def _repeats_of_collectives(done: Validation) -> Iterator[tuple[str, str, Array]]:
    """The same bytes as float16 and as int8."""
    seen: dict[str, dict[tuple[Any, ...], dict[str, float]]] = {}
    for part in done.scored:
        if part.source == "aic_nccl":
            rows = part.batch.rows
            sizes, gpus = part.table.number("message_bytes", rows), part.table.number("num_gpus", rows)
            for i, dtype in enumerate(part.table.word("dtype", rows)):
                same = seen.setdefault(part.gpu, {}).setdefault((part.batch.op, sizes[i], gpus[i]), {})
                same[str(dtype)] = float(part.measured[i])
    for gpu, operations in sorted(seen.items()):
        pairs = [two for two in operations.values() if len(two) == 2]
        off = np.asarray([abs(two["int8"] / two["float16"] - 1) for two in pairs if {"int8", "float16"} <= set(two)])
        if len(off):
            yield "NCCL: the same bytes as int8 and as float16", gpu, off


def _groups(done: Validation) -> Iterator[str]:
    yield "## All tables"
    yield ""
    yield "| source | GPU | operator | dtype | rows | median / mean / P90 % | bias % | within | roofline | constants |"
    yield "|---|---|---|---|---:|---|---:|---:|---:|---|"
    unseen = _unseen_coverage(done)
    for group in groups(done):
        found = {"median_ape": group.median_ape, "mape": group.mape, "p90_ape": group.p90_ape}
        cells = [group.source, group.gpu, group.op, group.dtype, f"{group.rows:,}", _errors(found)]
        within = unseen.get((group.source, group.gpu, group.op, group.dtype))
        cells += [f"{100 * group.bias:+.1f}", "" if within is None else f"{100 * within:.0f} %"]
        cells += [f"{100 * group.sol_median_ape:.0f}", group.regime]
        yield f"| {' | '.join(cells)} |"


def _unseen_coverage(done: Validation) -> dict[tuple[str, str, str, str], float]:
    """Coverage of rows that did not make the table of residuals, by group."""
    inside: dict[tuple[str, str, str, str], list[np.ndarray]] = {}
    for part in done.scored:
        kept = part.reserved
        held = ((part.low <= part.measured) & (part.measured <= part.high))[kept]
        inside.setdefault((part.source, part.gpu, part.batch.op, part.batch.dtype), []).append(held)
    joined = {key: np.concatenate(found) for key, found in inside.items()}
    return {key: float(found.mean()) for key, found in joined.items() if len(found)}


def _far(done: Validation) -> Iterator[str]:
    """Rows off by more than a factor of three, by what they have in common."""
    rows = worst(done, None, FACTOR)
    total = sum(len(part.measured) for part in done.scored)
    yield f"## Rows off by more than {FACTOR:g}x"
    yield ""
    yield f"{len(rows):,} of {total:,} rows. Those of one table, GPU, operator and reason stand together; the worst is"
    yield "named."
    yield ""
    yield "| source | GPU | operator | dtype | rows | worst | which | why |"
    yield "|---|---|---|---|---:|---:|---|---|"
    together: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        together.setdefault((row.source, row.gpu, row.op, row.dtype, reason(row)), []).append(row)
    for (source, gpu, op, dtype, why), members in sorted(together.items()):
        first = members[0]
        way = "slow" if first.predicted_s > first.measured_s else "fast"
        cells = [source, gpu, op, dtype, str(len(members)), f"{first.factor:.1f}x too {way}"]
        cells += [f"line {first.line}: {first.what}", why or "not explained yet"]
        yield f"| {' | '.join(cells)} |"


def sections(done: Validation) -> list[tuple[str, Sequence[Listed]]]:
    """Rows that are listed with a reason, by the heading of their list."""
    found: list[tuple[str, Sequence[Listed]]] = [("Not predicted", done.not_predicted), ("Left out", done.left_out)]
    return [*found, ("Said not to fit the memory, though they ran", done.misfits)]


def _listed(done: Validation) -> Iterator[str]:
    for title, entries in sections(done):
        yield f"## {title}"
        yield ""
        yield from _reasons(entries)
        yield ""
    yield "## Not read"
    yield ""
    for file, why in done.not_read:
        yield f"- `{file}`: {why}"


def _reasons(entries: Sequence[Listed]) -> Iterator[str]:
    if not entries:
        yield "Nothing."
        return
    yield "| source | GPU | operators | rows | why |"
    yield "|---|---|---|---:|---|"
    together: dict[tuple[str, str, str], list[Listed]] = {}
    for entry in entries:
        together.setdefault((entry.source, entry.gpu, entry.reason), []).append(entry)
    for (source, gpu, why), members in together.items():
        count = sum(entry.rows for entry in members)
        yield f"| {source} | {gpu} | {', '.join(entry.op for entry in members)} | {count:,} | {why} |"
