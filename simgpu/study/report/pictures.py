"""The pictures that a command would write beside its answer, as figures for notebooks and slides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simgpu.errors import InputError
from simgpu.simulation.result import Result
from simgpu.study.experiment.running import ExperimentResult
from simgpu.study.report.capacity import Fitted
from simgpu.study.search.answer import Answer
from simgpu.study.sweep.command import Swept
from simgpu.study.whatif.sensitivity import Sensitivity
from simgpu.tabular import Tabular

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawn = Result | ExperimentResult | Swept | Answer | Sensitivity | Sequence[Sensitivity] | Fitted
"""Answers that have pictures."""


def drawn(answer: Tabular) -> dict[str, Figure]:
    """Figures of an answer; none of one that has no pictures."""
    some = (Result, ExperimentResult, Swept, Answer, Sensitivity, Fitted)
    return pictures(answer) if isinstance(answer, some) else {}


def pictures(answer: Drawn) -> dict[str, Figure]:
    """Figures by the names of their files, see `simgpu.figures`. Raises `InputError`."""
    if isinstance(answer, Result):
        return _of_result(answer)
    if isinstance(answer, ExperimentResult):
        from simgpu.study.report.figures import figures_of

        return figures_of(answer)
    if isinstance(answer, Swept):
        from simgpu.study.report import sweeps as report

        return report.figures_of(answer)
    if isinstance(answer, Answer):
        from simgpu.study.search import command

        return command.figures_of(answer)
    if isinstance(answer, Fitted):
        from simgpu.render.fitting import fit_figure

        return {"fit": fit_figure(answer.rows)}
    some = [answer] if isinstance(answer, Sensitivity) else answer
    if isinstance(some, Sequence) and some and all(isinstance(one, Sensitivity) for one in some):
        from simgpu.study.report import sensitivity as sensitivity_report

        return sensitivity_report.figures_of(some)
    problem = "expected a result of simulate, run_experiment, sweep, search, sensitivity or fit"
    raise InputError(f"a {type(answer).__name__} has no figures; {problem}")


def _of_result(result: Result) -> dict[str, Figure]:
    """The pictures of a single simulation.

    They are its timeline; of training and inference the memory of each stage; of training where the step goes, and the
    pipeline if there is one.
    """
    from simgpu.render.timeline import timeline_figure

    row: dict[str, Any] = dict(result.row)
    name = f"{row['model']} on {row['gpus']:,} x {row['gpu']}"
    drawn = {"timeline": timeline_figure(result.execution, name, row=row)}
    if result.memory:
        from simgpu.render.memory import memory_figure

        held = {str(one.stage): one.as_dict() for one in result.memory}
        drawn["memory"] = memory_figure(held, name, "Pipeline stage")
    if row["workload"] == "training":
        from simgpu.render.stack import stack_figure

        degrees = [f"{key.upper()}{row[key]}" for key in ("tp", "cp", "ep", "pp", "vp", "dp") if row[key] > 1]
        drawn["step"] = stack_figure({" ".join(degrees) or "one GPU": row}, [], name)
        if row["pp"] > 1:
            from simgpu.render.passes import panel_of
            from simgpu.render.pipeline import pipeline_figure

            drawn["pipeline"] = pipeline_figure([panel_of(result.execution, row["pp"], name)])
    return drawn
