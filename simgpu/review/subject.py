"""What one study puts on the table: question, answer, rows, pictures, inputs with their sources."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simgpu.columns import better
from simgpu.errors import InputError, nearest
from simgpu.render.columns import cell, cell_of, interval_of, title, unsure
from simgpu.study.experiment.answers import natural
from simgpu.timing.distance import MEANING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simgpu.render.fields import PlotFields

Row = Mapping[str, Any]
Rows = Sequence[Row]

NO_LABELS = ("claimed_", "rank")
DISTANCE = "how far from measurements"
"""The beginning of notes on the distance of rows from what was measured."""
OF_PARTS = ("stack", "cost", "breakeven")
"""Kinds of plots whose columns are parts of an answer."""
SAME = 5e-4
"""Shares below it are printed as 0.0 %: two figures so near are the same."""
MOST_PERCENT = 10.0
"""Up to here a figure is so many per cent higher; above, so many times as much."""
MOST_WORDS = 4
"""Settings that name a row in a sentence, and rows of which a sentence tells each."""


@dataclass(frozen=True)
class Picture:
    """A picture of a study: its title, what it shows in a sentence, and how it is drawn.

    `figure` is drawn here; `svg` was written by an earlier run. `plot` says which columns of the rows it shows, where
    it shows rows: those of the study, unless `rows` says otherwise.
    """

    name: str
    words: str
    figure: Figure | None = None
    svg: str = ""
    plot: PlotFields | None = None
    rows: Rows | None = None


@dataclass(frozen=True)
class Given:
    """An input of a scenario: its key, its value in words, where it comes from, and how it came there.

    `how` is 'asked' of what the file or the command says, 'catalogue' of a figure with a source, 'default' of the rest.
    """

    key: str
    value: str
    source: str
    how: str


@dataclass(frozen=True)
class Subject:
    """One study, ready to be written down.

    `column` is what the answer is about, `chosen` the position of its row, None where the study has no single answer.
    `ranked` says that the rows stand best first. `inputs` are those of one row, which `about` names where there are
    several: that of the answer, else the first. `change` is the sensitivity of the same row.
    """

    name: str
    question: str
    description: str
    columns: Sequence[str]
    rows: Rows
    answer: str = ""
    column: str | None = None
    chosen: int | None = None
    pictures: Sequence[Picture] = ()
    inputs: Sequence[Given] = ()
    about: str = ""
    distances: Sequence[str] = ()
    notes: Sequence[str] = ()
    change: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()
    text: str = ""


def answer_column(rows: Rows, plots: Sequence[PlotFields] = (), wanted: str | None = None) -> str | None:
    """The column that the answer is about: `wanted`, the first of a plot that has a better end, or the usual.

    Raises `InputError` for a column that no row has a number in.
    """
    numbers = {
        key for row in rows for key, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }  # fmt: skip
    if wanted is not None:
        if wanted not in numbers:
            raise InputError(f"no row has a number '{wanted}'{nearest(wanted, numbers)}", key="--value")
        return wanted
    for plot in (one for one in plots if one.kind not in OF_PARTS):
        for column in plot.y:
            if column in numbers and better(column) is not None and not column.startswith("claimed_"):
                return column
    usual = natural(rows[0]) if rows and "workload" in rows[0] else None
    return usual if usual in numbers else None


def best(rows: Rows, column: str) -> tuple[int | None, list[int]]:
    """Position of the best row by a column, and those that were weighed.

    Rows that do not fit the memory, fall behind their load, or miss the column are not; nor, where others have an
    interval, are rows without one: their times were given, not simulated.
    """
    able = [n for n, row in enumerate(rows) if _number(row.get(column)) and _runs(row)]
    simulated = [n for n in able if interval_of(column, rows[n])]
    weighed = simulated or able
    way = better(column)
    if not weighed or way is None:
        return None, weighed
    pick = min if way == "lower" else max
    return pick(weighed, key=lambda n: rows[n][column]), weighed


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _runs(row: Row) -> bool:
    fits = row.get("memory_fits") is not False and row.get("weights_fit") is not False
    return fits and row.get("saturated") is not True and row.get("stationary") not in (False, "no", "unsure")


def alike(rows: Rows) -> bool:
    """True if rows are of one kind of job on one model: those of others are no answer to the same question."""
    return len({(row.get("workload"), row.get("model")) for row in rows}) < 2


def _each(rows: Rows, columns: Sequence[str]) -> str:
    """The main figure of each of rows that no one figure compares."""
    said = []
    for n, row in enumerate(rows[:MOST_WORDS]):
        column = natural(row) if "workload" in row else ""
        if _number(row.get(column)):
            said.append(f"{row_words(rows, columns, n)}: {title(column)} {figure_with_interval(column, row)}")
    more = f"; and {len(rows) - MOST_WORDS:,} more" if len(rows) > MOST_WORDS else ""
    return f"The rows are of different jobs or models, which no one figure ranks: {'; '.join(said)}{more}."


def figure_with_interval(column: str, row: Row) -> str:
    """A value in words with its interval, in the digits of the table: '1.262 ms (80 % interval 1.17-1.46)'."""
    shown = cell_of(column, row)
    if interval_of(column, row) is None:
        return f"{shown} (no interval of its own)"
    if unsure(row):
        return f"{shown} (80 % interval)"
    value, _, ends = shown.rpartition(" (")
    return f"{value} (80 % interval {ends}"


def row_words(rows: Rows, columns: Sequence[str], number: int) -> str:
    """Words that tell a row from the others: its settings among the columns shown, those alone that differ."""
    row = rows[number]
    for name in ("plan", "machine"):
        told = [key for key in (name, "cluster") if row.get(key) and key in (name, *columns)]
        if row.get(name) and _kinds(told, rows) == len(rows):
            return ", ".join(str(row[key]) for key in told)
    names: list[str] = []
    for column in columns:
        if _is_setting(column, rows) and _kinds([*names, column], rows) > _kinds(names, rows):
            names.append(column)
    words = [_said(column, row) for column in names[:MOST_WORDS] if row.get(column) is not None]
    return ", ".join(words) or f"row {number + 1}"


def _said(column: str, row: Row) -> str:
    value = row[column]
    return str(value) if isinstance(value, str) else f"{title(column)} {cell(column, value)}"


def _is_setting(column: str, rows: Rows) -> bool:
    if column.startswith(NO_LABELS) or better(column) is not None:
        return False
    return not any(isinstance(row.get(column), bool) or interval_of(column, row) for row in rows)


def _kinds(columns: Sequence[str], rows: Rows) -> int:
    """The number of different rows that these columns tell apart."""
    return len({tuple(repr(row.get(column)) for column in columns) for row in rows})


def answer_of(rows: Rows, columns: Sequence[str], column: str | None, chosen: int | None, ranked: bool = False) -> str:
    """The answer in one sentence, with its 80 % interval."""
    if not rows:
        return "No row could be run."
    if column is None:
        return f"{len(rows):,} rows stand in the table; none of its columns is better at one end."
    if chosen is None and alike(rows) is False:
        return _each(rows, columns)
    if chosen is None:
        return f"No row answers it: none of {len(rows):,} both fits and has a {title(column)} with a better end."
    value = f"{title(column)} {figure_with_interval(column, rows[chosen])}"
    if len(rows) == 1:
        return f"{value[0].upper()}{value[1:]}."
    words = row_words(rows, columns, chosen)
    if ranked:
        return f"{words} ranks first of {len(rows):,}: {value}."
    first, weighed = best(rows, column)
    if first != chosen:  # somebody chose it
        return f"{words}: {value}."
    left = f" ({_left_out(rows, column, weighed)})" if len(weighed) < len(rows) else ""
    way = "lowest" if better(column) == "lower" else "highest"
    first_of = f"{words} has the {way} {title(column)} of {len(weighed):,} rows{left}"
    return f"{first_of}: {value}{_next(rows, columns, column, weighed)}."


def _left_out(rows: Rows, column: str, weighed: Sequence[int]) -> str:
    """Why rows were not weighed, in a few words."""
    out = [row for n, row in enumerate(rows) if n not in set(weighed)]
    given = sum(1 for row in out if _number(row.get(column)) and _runs(row))
    words = [f"{given:,} more without an interval"] if given else []
    words += [f"{len(out) - given:,} more do not fit or fall behind"] if len(out) > given else []
    return ", ".join(words)


def _next(rows: Rows, columns: Sequence[str], column: str, weighed: Sequence[int]) -> str:
    """How far the second is behind, and whether the intervals overlap; '' where there is none."""
    order = sorted(weighed, key=lambda n: rows[n][column], reverse=better(column) == "higher")
    if len(order) < 2 or not rows[order[0]][column]:
        return ""
    one, two = rows[order[0]], rows[order[1]]
    apart = abs(two[column] / one[column] - 1)
    if apart < SAME:
        more = sum(abs(rows[n][column] / one[column] - 1) < SAME for n in order[2:])
        others = f" and {more} more" if more else ""
        return f"; {row_words(rows, columns, order[1])}{others} {'have' if more else 'has'} the same"
    ends = interval_of(column, one), interval_of(column, two)
    over = ""
    if ends[0] and ends[1]:
        meet = ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]
        over = "; their intervals overlap" if meet else "; their intervals are apart"
    way = "lower" if two[column] < one[column] else "higher"
    far = f"{100 * apart:.1f} % {way}" if apart < MOST_PERCENT else f"{1 + apart:.3g} times as much"
    return f"; next {row_words(rows, columns, order[1])}, {far}{over}"


def distances_of(rows: Rows) -> list[str]:
    """The distance of rows from what was measured, in the words of their column."""
    words = dict.fromkeys(row["distance"] for row in rows if row.get("distance"))
    return [f"{DISTANCE}: {'; '.join(map(_meant, one.split('; ')))}" for one in words]


def _meant(phrase: str) -> str:
    """A phrase of the column with its meaning behind it."""
    return f"{phrase} ({MEANING[phrase]})" if phrase in MEANING else phrase


def command_line(
    name: str, given: object, settings: Sequence[str], value: str | None = None, tornado: bool = False
) -> str:  # fmt: skip
    """A command line that gives the same again."""
    words = ["simgpu", name, str(given) if isinstance(given, (str, Path)) else "FILE"]
    words += [word for setting in settings for word in ("--set", setting)]
    words += ["--value", value] if value else []
    words += ["--tornado"] if tornado else []
    return " ".join(shlex.quote(word) for word in words)
