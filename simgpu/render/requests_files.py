"""Files of a server that was followed: every request, its state over time, and both as a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simgpu.errors import InputError
from simgpu.render.data import print_csv
from simgpu.render.files import written_whole
from simgpu.render.requests_trace import request_events
from simgpu.render.trace import write_events

TABLES = ("csv", "parquet")
"""Formats of tables."""


def tables_of(served: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows of requests by number, of the state over time, of places in sessions, of classes."""
    from simgpu.workload.server.answer import COLUMNS

    requests = [dict(zip(COLUMNS, one, strict=False)) for one in sorted(served.records)]
    rates = {row["time_s"]: row for row in served.rates.rows()}
    state = [{**row, **_answered(rates, row["time_s"])} for row in served.tally.series.rows()]
    found = {"requests": requests, "seconds": state}
    if served.sessions.begun:
        found["turns"] = served.sessions.rows()
    if len(served.classes) > 1:
        found["classes"] = [one.row(place) for place, one in enumerate(served.classes, 1)]
    return found


def _answered(rates: Mapping[float, Mapping[str, float]], time: float) -> dict[str, float]:
    """Requests and tokens/s that were answered about a time, where both series have the same bins."""
    row = rates.get(time)
    return {} if row is None else {"requests_per_s": row["requests"], "output_tokens_per_s": row["output"]}


def write_requests(served: Any, folder: Path, tables: Sequence[str] = ("csv",), trace: bool = False) -> list[Path]:
    """Write requests and seconds in each format, and `requests_trace.json`; returns the files. Raises `InputError`."""
    found = tables_of(served)
    if "parquet" in tables:
        _needs_pyarrow()
    written = []
    for name, rows in found.items():
        for kind in tables:
            file = folder / f"{name}.{kind}"
            _write(rows, file)
            written.append(file)
    if trace:
        written.append(write_events(request_events(served), folder / "requests_trace.json"))
    return written


def _write(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    if file.suffix == ".csv":
        with written_whole(file) as stream:
            print_csv(rows, stream)
        return
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    with written_whole(file, binary=True) as stream:
        parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), stream)


def _needs_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError("parquet needs pyarrow: pip install 'simgpu[tables]'", key="--tables") from None
