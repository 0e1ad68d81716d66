"""Pictures of a study beside those that its file asks for: the answer over the rows, and its machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simgpu.render.fields import PlotFields
from simgpu.review.subject import Picture, row_words
from simgpu.study.experiment.running import ExperimentResult

MOST_PICTURED = 12
"""Rows beyond which a study without plots has no picture of its own."""


def words_of(figure: Any, otherwise: str) -> str:
    """The title of a figure in one line, for those who do not see it."""
    return str(figure.get_suptitle() or otherwise).replace("\n", ": ")


def own_picture(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], column: str | None) -> list[Picture]:
    """Bars of the answer over the rows, for a study that draws nothing itself."""
    if column is None or not 2 <= len(rows) <= MOST_PICTURED:
        return []
    from simgpu.render.rows import figure_of_rows

    named = [{**row, "row": row_words(rows, columns, n)} for n, row in enumerate(rows)]
    if len({row["row"] for row in named}) < len(named):
        named = [{**row, "row": f"{n}: {row['row']}"} for n, row in enumerate(named, 1)]
    plot = PlotFields(kind="bar", x="row", y=[column], name="answer")
    figure = figure_of_rows(named, plot)
    return [Picture("answer", words_of(figure, "The answer over the rows"), figure, plot=plot, rows=named)]


def machine_of(outcome: ExperimentResult, number: int) -> list[Picture]:
    """The machine of the row of the answer, with its links; none of a lone GPU."""
    if any(plot.kind == "topology" for plot in outcome.experiment.fields.plots):
        return []
    from simgpu.hardware.topology import build_topology
    from simgpu.render.topology import MAX_NODES, topology_figure
    from simgpu.scenario import resolve_cluster

    case = outcome.experiment.cases[number]
    cluster = resolve_cluster(case.scenario, outcome.catalogue, case.origins)
    if cluster.gpu_count < 2:
        return []
    nodes = int(cluster.spec.nodes.si)
    topology = build_topology(cluster, min(MAX_NODES, nodes))
    words = f"Machine and fabric of the answer: {cluster.spec.title if nodes > 1 else cluster.node.title}"
    words += f" ({topology.nodes} of {nodes} nodes)" if nodes > topology.nodes else ""
    return [Picture("machine", words, topology_figure(topology, words))]
