"""Why no kernel runs at times: what the next kernel waited for."""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.lab.replay.flow import Graph
from simgpu.lab.traces.records import Ran

HOST, WAITED, BETWEEN = "the host launches", "the host waited for the GPU", "between kernels"
CAUSES = (HOST, WAITED, BETWEEN)
"""The host launches the next kernel when the GPU is idle already; it does so since it waited for the GPU before; or it
had launched it in time, so that the gap is the GPU's own, or that of what the trace does not show."""


def gaps(graph: Graph, runs: Sequence[Ran]) -> dict[str, float]:
    """Seconds without a kernel, by cause; `runs` are the kernels of the graph in its order."""
    found = dict.fromkeys(CAUSES, 0.0)
    launches = {node.launch for node in graph.nodes}
    order = sorted(range(len(runs)), key=lambda i: runs[i].start)
    until = runs[order[0]].start if order else 0.0
    for i in order:
        ran = runs[i]
        if ran.start > until:
            late = ran.launched is not None and ran.launched > until
            cause = BETWEEN if not late else WAITED if _waited(graph, graph.nodes[i].launch, launches) else HOST
            found[cause] += ran.start - until
        until = max(until, ran.end)
    return found


def jump(runs: Sequence[Ran]) -> tuple[float, float]:
    """The longest time without a kernel, s, and when it begins, after the first start; 0 where there is none."""
    longest = at = 0.0
    order = sorted(runs, key=lambda ran: ran.start)
    until = order[0].start if order else 0.0
    for ran in order:
        if ran.start - until > longest:
            longest, at = ran.start - until, until - order[0].start
        until = max(until, ran.end)
    return longest, at


def _waited(graph: Graph, launch: int | None, launches: set[int | None]) -> bool:
    """True if the host waited for the GPU since the launch before this one."""
    before = (launch or 0) - 1
    while before >= 0 and before not in launches:
        if graph.host[before].waits_for:
            return True
        before -= 1
    return False
