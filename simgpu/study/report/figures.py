"""Figures that an experiment file asks for: of its rows, or of the runs behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simgpu.plan.memory import Memory
from simgpu.plan.serving_memory import ServingMemory
from simgpu.render.fields import PlotFields, rows_of
from simgpu.simulation.result import Result

if TYPE_CHECKING:
    from simgpu.study.experiment.loading import Case
    from simgpu.study.experiment.running import Experiment, ExperimentResult

Run = tuple[Any, Result]
"""A case and what came of it."""


def figures_of(outcome: ExperimentResult) -> dict[str, Any]:
    """The figures of an experiment, by the names of their files, without those that cannot be drawn."""
    plots = [(i, plot) for i, plot in enumerate(outcome.experiment.fields.plots) if i not in outcome.undrawn]
    return {plot.name or f"plot{i + 1}": figure_of(outcome, plot) for i, plot in plots}


def figure_of(outcome: ExperimentResult, plot: PlotFields) -> Any:
    """The figure of one plot."""
    from simgpu.render.plots import heading_of
    from simgpu.render.rows import ROW_KINDS, figure_of_rows

    settings = outcome.experiment.settings
    if plot.kind in ROW_KINDS:
        return figure_of_rows(outcome.rows, plot, settings, subject_of(outcome.experiment))
    rows = outcome.rows
    wanted = {id(row) for row in rows_of(rows, plot)}
    runs = [
        (case, result)
        for case, result, row in zip(outcome.experiment.cases, outcome.results, rows, strict=True)
        if id(row) in wanted
    ]
    heading = heading_of(plot, settings, _WORDS[plot.kind], subject_of(outcome.experiment))
    if plot.kind == "topology":
        return _topology(outcome, runs[0], heading)
    if plot.kind == "tornado":
        from simgpu.render.rows import bar_name
        from simgpu.study.report.sensitivity import plotted

        return plotted(outcome, plot, [bar_name(row, plot) for row in rows], outcome.catalogue, heading)
    if plot.kind == "timeline":
        from simgpu.render.timeline import timeline_figure

        return timeline_figure(runs[0][1].execution, heading, plot.window, plot.ranks, runs[0][1].row)
    if plot.kind == "server":
        from simgpu.render.server import server_figure

        server: Any = runs[0][1]
        return server_figure(server.served, heading)
    if plot.kind == "steps":
        from simgpu.render.steps import steps_figure

        stepped: Any = runs[0][1]
        return steps_figure(stepped.served, heading, plot.window)
    return _several(plot, runs, heading)


_WORDS = {
    "roofline": "operators under the roof",
    "memory": "memory of a GPU",
    "pipeline": "",
    "power": "power of a GPU over time",
    "server": "a server over time",
    "steps": "steps of a server",
    "timeline": "timeline",
    "topology": "load of the links",
    "turns": "requests by their place in a session",
    "tornado": "which input of the hardware matters",
}
"""The subject of each kind of plot, for a title where the file gives none."""


def subject_of(experiment: Experiment) -> str:
    """The subject of an experiment's rows: its title, else its name."""
    return experiment.fields.title or experiment.name


def _several(plot: PlotFields, runs: Sequence[Run], heading: str) -> Any:
    """A figure with a bar or a panel for each run."""
    from simgpu.render.rows import bar_name

    named: list[tuple[str, Any]] = [(bar_name(result.row, plot), result) for _, result in runs]
    if plot.kind == "roofline":
        from simgpu.render.roofline import roofline_figure
        from simgpu.study.report.roofs import roofs_of

        return roofline_figure([roofs_of(result, name) for name, result in named], heading)
    if plot.kind == "power":
        from simgpu.render.power import power_figure

        boards = [(name, result.power_trace(), result.board.levels) for name, result in named if result.board]
        return power_figure(boards, heading)
    if plot.kind == "turns":
        from simgpu.render.turns import turns_figure

        return turns_figure([(name, result.served) for name, result in named], heading)
    held = [(name, result) for name, result in named if result.memory]
    if plot.kind == "memory":
        from simgpu.render.memory import memory_figure

        if plot.x == "stage" and "stage" not in runs[0][1].row:
            bars = {str(one.stage): one.as_dict() for one in runs[0][1].memory}
            return memory_figure(bars, heading, "Pipeline stage")
        return memory_figure({name: _fullest(result).as_dict() for name, result in held}, heading)
    from simgpu.render.passes import panel_of
    from simgpu.render.pipeline import pipeline_figure

    training = [(name, result) for name, result in held if result.row["workload"] == "training"]
    return pipeline_figure([panel_of(one.execution, one.row["pp"], name) for name, one in training], heading)


def _topology(outcome: ExperimentResult, run: Run, heading: str) -> Any:
    """The cluster of a run with the loads of its links."""
    from simgpu.analysis.loads import link_loads
    from simgpu.render.loads import loads_figure
    from simgpu.render.topology import MAX_NODES
    from simgpu.scenario import resolve_cluster

    case: Case = run[0]
    cluster = resolve_cluster(case.scenario, outcome.catalogue, case.origins)
    loads = link_loads(run[1].execution, case.scenario.plan.plan(), cluster, MAX_NODES)
    gpus, world = min(loads.nodes * cluster.gpus_per_node, cluster.gpu_count), run[1].row["gpus"]
    part = f"  (drawn: {loads.nodes} of {-(-world // cluster.gpus_per_node)} nodes)" if world > gpus else ""
    return loads_figure(loads, heading + part)


def _fullest(result: Result) -> Memory | ServingMemory:
    """The stage that needs most memory."""
    stages: list[Memory | ServingMemory] = list(result.memory)
    return max(stages, key=lambda stage: stage.total)
