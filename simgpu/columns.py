"""Every column of a result, from one table (`columns.csv`): unit, title, direction, what it follows from, meaning.

Results, tables, plots, what-if, sweeps, searches and docs/results.md read it. Names outside it (labels of a file, keys
that vary) go by their endings, which are a contract: `_s` is seconds, `_bytes` bytes, `_usd` money.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Direction = Literal["lower", "higher"]

COLUMNS_PAGE = "docs/results.md names all columns"
"""For a message about a column that no row has."""

_OF_RESULTS = ("any", "training", "inference", "network", "post-training", "shared", "operations")


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    name
        Its key in a row, with the SI unit at its end.
    jobs
        Whose rows have it: 'any' job, 'training' (inference shares some: `pp`, parts of the time), 'inference',
        'network' (networks of stages, which share some of both), 'post-training' (which shares some of both, too);
        'shared' (several models on one GPU);
        'operations' (what a scenario adds to a simulation: its site, its cost, its failures); 'collective'
        (`nccl-tests`) and 'study' (searches) are not in the rows of a simulation.
    unit
        As tables print it: s, GiB (bytes of memory), B, FLOP, FLOP/s, tokens/s, share (printed in percent), ...; ''
        for names, yes or no, and plain counts.
    title
        Heading in tables and on axes.
    better
        'lower' for times, bytes and costs, 'higher' for rates, shares of the peak and what fits; '' where only the
        reader knows.
    follows
        The time that it is something certain times ('step_s') or over ('1/step_s'): it is as unsure as that time.
    measured
        'yes' where it has an interval of its own, put together from those of kernels, collectives and whole runs.
    meaning
        In words.
    """

    name: str
    jobs: str
    unit: str
    title: str
    better: str
    follows: str
    measured: str
    meaning: str


def _read() -> dict[str, Column]:
    with Path(__file__).with_name("columns.csv").open(encoding="utf-8", newline="") as stream:
        return {row["name"]: Column(**row) for row in csv.DictReader(stream)}


TABLE: Mapping[str, Column] = _read()
"""All columns by name."""

FOLLOWS: Mapping[str, tuple[str, int]] = {
    one.name: (one.follows.removeprefix("1/"), -1 if one.follows.startswith("1/") else 1)
    for one in TABLE.values()
    if one.follows
}
"""Columns that are something certain over a time (-1) or times it (1). They are as unsure as that time."""

PLAIN_COLUMNS = tuple(one.name for one in TABLE.values() if one.jobs in _OF_RESULTS)
"""Columns of results, without the ends of intervals."""

UNCERTAIN = tuple(name for name in PLAIN_COLUMNS if TABLE[name].measured or name in FOLLOWS)
"""Columns that have an interval: `NAME_p10` and `NAME_p90` beside them."""

COLUMNS: Mapping[str, str] = {name: TABLE[name].meaning for name in PLAIN_COLUMNS} | {
    f"{name}_{end}": f"{name}: {share} % of measurements would lie below, by residuals of such "
    f"{'peaks' if 'memory' in name else 'operators'}"
    for name in UNCERTAIN
    for end, share in (("p10", 10), ("p90", 90))
}
"""Keys of a result row and what they mean. These names are a contract."""

_OF_A_SERVER = {"output_tokens_per_s": "step_s", "flop_per_s_per_gpu": "tpot_s", "mfu": "tpot_s"}
"""A server's output is that of its whole requests, and its FLOPs are those of a token."""


def plain(column: str) -> str:
    """The column without the prefix of a claim and the suffix of an interval's end."""
    return column.removeprefix("claimed_").removesuffix("_p10").removesuffix("_p90")


def unit(column: str) -> str:
    """Unit of a column as tables print it; '' for names and plain counts."""
    name = plain(column)
    if name in TABLE:
        return TABLE[name].unit
    if name.startswith("usd_") or name.endswith("_usd"):
        return "USD"
    if name.endswith("efficiency"):
        return "share"
    if "flop_per_s" in name:
        return "FLOP/s"
    if name.endswith("_per_s"):
        return "1/s"
    if name.endswith("_s"):
        return "s"
    if "bytes" in name:
        return "GiB" if "memory" in name else "B"
    return ""


def better(column: str) -> Direction | None:
    """The direction in which a column is better; claimed columns and ends of intervals go the same way."""
    name = plain(column)
    if name in TABLE:
        direction = TABLE[name].better
        return "lower" if direction == "lower" else "higher" if direction else None
    if name.startswith("usd_") or name.endswith("_usd"):  # first: 'usd_per_step' is no rate
        return "lower"
    if name.endswith(("_per_s", "_per_s_per_gpu", "_per_s_per_user")):
        return "higher"
    return "lower" if name.endswith("_s") or ("bytes" in name and "capacity" not in name) else None


def sign(column: str) -> int:
    """+1 where more is better, -1 where less is, 0 where it depends."""
    return {"higher": 1, "lower": -1, None: 0}[better(column)]


def time_of(column: str, row: Mapping[str, Any]) -> str:
    """The time that a column of a row follows from; a column that follows from none is its own."""
    if row.get("workload") in ("serving", "traffic") and column in _OF_A_SERVER:
        return _OF_A_SERVER[column]
    return FOLLOWS[column][0] if column in FOLLOWS else column


def following_ends(row: Mapping[str, Any]) -> dict[str, float]:
    """P10 and P90 of all columns of a row that follow from a time of it which has both.

    A rate is at its P10 where its time is at its P90.
    """
    ends: dict[str, float] = {}
    for column, (_, power) in FOLLOWS.items():
        value, time = row.get(column), time_of(column, row)
        if value is None or f"{time}_p10" not in row or f"{column}_p10" in row:
            continue
        for end, of in zip(("p10", "p90"), ("p10", "p90")[::power], strict=True):
            ratio = row[f"{time}_{of}"] / row[time] if row[time] else 1.0
            ends[f"{column}_{end}"] = value * ratio**power
    return ends


COST = {"step": "usd_per_step", "tokens": "usd_per_million_output_tokens", "images": "usd_per_image"}
"""The cost that people ask of a job: training, prefill and lists; inference and servers; networks that draw images."""

COST_PARTS = ("chips", "server", "network", "storage", "hosting", "staff", "software", "spares", "rent", "energy")
"""The parts of `usd_per_gpu_hour`, each a column PART_usd_per_gpu_hour."""


def cost_column(row: Mapping[str, Any]) -> str | None:
    """The column of a row that holds its main cost; None where it has none."""
    return next((column for column in reversed(COST.values()) if row.get(column) is not None), None)
