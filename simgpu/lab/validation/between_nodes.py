"""Collectives between nodes against nccl-tests: errors by size, operation, nodes and network, and what strangers meet.

Sizes are 1 KiB to 16 GiB, as in the goal. *By source*: a publisher counts once, whatever rows it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from simgpu.lab.validation.run import Scored
from simgpu.lab.validation.tables import Array
from simgpu.timing.collectives.between import PLUGIN, VERBS
from simgpu.timing.uncertainty import BOUNDS

SMALLEST, LARGEST = 2.0**10, 2.0**34
BANDS = {
    "1 to 64 KiB": 2.0**16,
    "64 KiB to 1 MiB": 2.0**20,
    "1 to 64 MiB": 2.0**26,
    "64 MiB to 1 GiB": 2.0**30,
    "above 1 GiB": LARGEST,
}
"""Sizes, the upper end included."""
NODES = {"2 nodes": 2.0, "3 to 8": 8.0, "9 to 32": 32.0, "33 to 128": 128.0, "above 128": math.inf}
NETWORKS = ("Slingshot", "EFA", "RoCE", "Ethernet")
"""Networks by the first of these words that a row's `fabric` has; InfiniBand, or not stated, where it has none."""
GOAL = (0.12, 0.18)
"""Median and mean of the errors that are to be reached over all rows."""
FEWEST = 3
"""Rows of a publisher whose median counts."""
USUAL = 0.25
"""Standard deviation of the medians of publishers that is believed before any is seen: what is left of what version 0.1
was off by on networks (0.35 to 0.66) once each network has constants of its own."""

Cells = tuple[str, str, str, str]  # of a row: band of sizes, operation, nodes, network


def _named(value: float, ends: Mapping[str, float]) -> str:
    """The first band whose upper end a value does not exceed."""
    return next(name for name, end in ends.items() if value <= end)


def _network(fabric: str) -> str:
    return next((name for name in NETWORKS if name.lower() in fabric.lower()), "InfiniBand or not stated")


class Rows:
    """The rows between nodes of a validation: what each is, who measured it, and how far off it is."""

    def __init__(self, scored: Sequence[Scored]):
        self.cells: list[Cells] = []
        self.publishers: list[str] = []
        found: list[tuple[float, float, bool]] = []
        for part in scored:
            table = part.table
            if part.batch.caveat not in (VERBS, PLUGIN) or "nodes" not in table.numbers:
                continue
            for i, row in enumerate(part.batch.rows.tolist()):
                size = float(table.numbers["size_bytes"][row])
                if not SMALLEST <= size <= LARGEST:
                    continue
                self.cells.append((
                    _named(size, BANDS), part.batch.op, _named(float(table.numbers["nodes"][row]), NODES),
                    _network(str(table.words["fabric"][row])),
                ))  # fmt: skip
                self.publishers.append(str(table.words["source"][row]))
                inside = bool(part.low[i] <= part.measured[i] <= part.high[i])
                found.append((float(part.predicted[i]), float(part.measured[i]), inside))
        self.predicted, self.measured = (np.asarray([one[i] for one in found], float) for i in (0, 1))
        self.inside = np.asarray([one[2] for one in found], bool)

    @property
    def residuals(self) -> Array:
        """log(measured / predicted)."""
        made: Array = np.log(self.measured / self.predicted)
        return made


def error_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Errors of collectives between nodes over all, by size, operation, nodes and network; none without such rows."""
    rows = Rows(scored)
    if not rows.cells:
        return []
    every = np.ones(len(rows.cells), bool)
    found = [_errors("all", "1 KiB to 16 GiB", rows, every)]
    for place, (by, names) in enumerate(
        (("size", tuple(BANDS)), ("operation", ()), ("nodes", tuple(NODES)), ("network", ()))
    ):
        values = np.asarray([cells[place] for cells in rows.cells])
        shown = names or sorted(set(values.tolist()))
        found += [_errors(by, name, rows, values == name) for name in shown if (values == name).any()]
    return found


def _errors(by: str, group: str, rows: Rows, chosen: np.ndarray[Any, Any]) -> dict[str, Any]:
    error = np.abs(rows.predicted / rows.measured - 1)[chosen]
    publishers = np.asarray(rows.publishers)[chosen]
    medians = [float(np.median(error[publishers == one])) for one in sorted(set(publishers.tolist()))]
    return {
        "by": by,
        "group": group,
        "rows": int(chosen.sum()),
        "sources": len(medians),
        "median_ape": float(np.median(error)),
        "mape": float(np.mean(error)),
        "median_by_source": float(np.median(medians)),
        "bias": float(np.exp(-np.median(rows.residuals[chosen])) - 1),
        "coverage80": float(np.mean(rows.inside[chosen])),
    }


def section(scored: Sequence[Scored]) -> Iterator[str]:
    """Lines of a page: the table of errors."""
    rows = error_rows(scored)
    if not rows:
        return
    whole = rows[0]
    verdict = "reached" if (whole["median_ape"], whole["mape"]) <= GOAL and whole["mape"] <= GOAL[1] else "missed"
    yield "## Collectives between nodes\n"
    yield (
        f"nccl-tests of 2 to 540 nodes; goal over all rows: median {100 * GOAL[0]:.0f}, mean {100 * GOAL[1]:.0f} %, "
        f"{verdict}. *By source*: the middle of the medians of publishers. Bias above zero: predicted too slow.\n"
    )
    yield "| by | | rows | sources | median / mean % | by source % | bias % | within |"
    yield "|---|---|---:|---:|---|---:|---:|---:|"
    for row in rows:
        errors = f"{100 * row['median_ape']:.1f} / {100 * row['mape']:.1f}"
        yield (
            f"| {row['by']} | {row['group']} | {row['rows']:,} | {row['sources']} | {errors} | "
            f"{100 * row['median_by_source']:.1f} | {100 * row['bias']:+.1f} | {100 * row['coverage80']:.0f} % |"
        )
    yield ""


# ---- what a stranger's network is off by ------------------------------------------------------------------


def medians_left_out(scored: Sequence[Scored], long: bool) -> dict[tuple[str, str, str], float]:
    """How far each publisher lies off, with what its own rows did to the constants of its network taken back.

    By network, publisher and band of sizes: the median of log(measured / predicted), times k/(k-1) where k publishers
    set that network's constants: what a mean of k leaves of one of them when it is left out. A publisher that is alone
    on its network, such as Slingshot's, says nothing of the next one. `long`: of predictions above 200 us, where rates
    decide; else of those below, where latencies do.
    """
    rows = Rows(scored)
    chosen = (rows.predicted > BOUNDS[-1]) == long
    groups: dict[tuple[str, str, str], list[float]] = {}
    for (band, _, _, network), publisher, use, residual in zip(
        rows.cells, rows.publishers, chosen, rows.residuals, strict=True
    ):
        if use:
            groups.setdefault((network, publisher, band), []).append(float(residual))
    known: dict[str, set[str]] = {}
    for network, publisher in {key[:2] for key in groups}:
        known.setdefault(network, set()).add(publisher)
    return {
        key: float(np.median(found)) * len(known[key[0]]) / (len(known[key[0]]) - 1)
        for key, found in groups.items()
        if len(found) >= FEWEST and len(known[key[0]]) > 1
    }


def stranger(
    scored: Sequence[Scored], long: bool, shrunk: Callable[[Sequence[float], float], float]
) -> tuple[float, int]:
    """Standard deviation of a publisher's median between nodes, left out, and the publishers behind it.

    `shrunk` draws the mean of squares towards what was believed before. A publisher's bands of sizes count together
    as one.
    """
    squares: dict[str, list[float]] = {}
    for (_, publisher, _), median in medians_left_out(scored, long).items():
        squares.setdefault(publisher, []).append(median**2)
    return shrunk([float(np.mean(one)) for one in squares.values()], USUAL), len(squares)
