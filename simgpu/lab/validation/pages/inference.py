"""docs/validation-inference.md: inference runs against their measurements, row by row, with goals and the farthest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simgpu.lab.validation.pages.goals import INFERENCE_GOALS
from simgpu.lab.validation.pages.training import page_of
from simgpu.lab.validation.run import Validation
from simgpu.lab.validation.score import OPERATOR, groups
from simgpu.lab.validation.steps import errors_of, step_rows
from simgpu.render.validation import percent

HEAD = """\
<!-- generated, do not edit: simgpu validate inference --data DIR --page docs/validation-inference.md -->
# Inference: predicted against measured

Every row of the tables of whole inference runs, deployed and simulated by itself: a model, a precision, a plan, a
runtime, a load; and the operators of inference that others measured. The command prints every row beside its
prediction; anyone can run it on tables of the same columns (without a folder, on the published figures that come with
simgpu):

    simgpu validate inference --data DIR --out DIR

Errors are predicted / measured - 1, in percent. Nothing is fitted to a model or a row; the constants of each runtime
were chosen on all rows of their source, [inference.md](inference.md) names them. `decode` and `prefill` are whole runs
of llama-bench and forwards of transformers, `ttft`, `tpot` and `e2e` (TTFT + TPOT x (output - 1)) means of load tests.
"""
PICTURE = "![Predicted against measured inference runs](images/inference_parity.png)\n"


def page_text(done: Validation) -> str:
    """The page of inference as Markdown."""
    more = ["\n".join(_runs(done)), "\n".join(_operators(done))]
    return page_of(done, HEAD, PICTURE, INFERENCE_GOALS, more, every=False)


def _runs(done: Validation) -> Iterator[str]:
    """Errors of whole runs by runtime and model."""
    members: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for row in step_rows(done):
        key = (row["origin"], row["op"], row["framework"].split()[0], row["model"])
        members.setdefault(key, []).append(row)
    yield "## By runtime and model\n"
    yield "| source | what | runtime | model | rows | median / mean / P90 % | bias % | within |"
    yield "|---|---|---|---|---:|---|---:|---:|"
    for key, rows in sorted(members.items()):
        found = errors_of(rows)
        errors = " / ".join(percent(found[name]) for name in ("median_ape", "mape", "p90_ape"))
        cells = [*key, str(found["rows"]), errors, percent(found["bias"], signed=True)]
        yield f"| {' | '.join(cells)} | {100 * found['coverage80']:.0f} % |"
    yield ""


def _operators(done: Validation) -> Iterator[str]:
    """Errors of single operators."""
    yield "## Operators\n"
    yield "| source | GPU | operator | rows | median / mean / P90 % | bias % | within | roofline, median % |"
    yield "|---|---|---|---:|---|---:|---:|---:|"
    for group in groups(done):
        if group.op == OPERATOR:
            errors = " / ".join(percent(value) for value in (group.median_ape, group.mape, group.p90_ape))
            cells = [group.source, group.gpu, group.part.replace("_", " "), f"{group.rows:,}", errors]
            cells += [
                percent(group.bias, signed=True),
                f"{100 * group.coverage80:.0f} %",
                percent(group.sol_median_ape),
            ]
            yield f"| {' | '.join(cells)} |"
    yield ""
