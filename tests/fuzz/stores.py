"""Stores of results: the file that a small sweep leaves, damaged."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from .mutations import CELLS
from .mutations import damaged as damaged_tree

EXPERIMENT: dict[str, Any] = {
    "experiment": "kept",
    "scenario": {"cluster": "l4", "model": "llama-3.2-1b", "workload": {"kind": "prefill", "tokens": 64}},
    "vary": {"workload.batch": [1, 2]},
}
_CLOCK = "2026-01-01T00:00:00+00:00"


@cache
def whole() -> bytes:
    """The bytes of a store of two scenarios; dates and hosts are always the same."""
    from simgpu.catalog import Catalogue
    from simgpu.documents import as_text
    from simgpu.study.pools.where import Where
    from simgpu.study.sweep import command

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.sqlite"
        command.run(as_text(EXPERIMENT), (), Catalogue(), command.SweepOptions(file, Where(1)))
        with sqlite3.connect(file) as db:
            db.execute("UPDATE scenarios SET host='h', seconds=1, started=?, finished=?", (_CLOCK, _CLOCK))
            db.execute("UPDATE sweeps SET began=?", (_CLOCK,))
        db.close()
        return file.read_bytes()


def damaged(draw: random.Random) -> bytes:
    """The store with cells changed, a table lost, or its bytes flipped or cut off."""
    raw, way = whole(), draw.random()
    if way < 0.15:
        return raw[: draw.randrange(len(raw))]
    if way < 0.3:
        found = bytearray(raw)
        for _ in range(draw.choice((1, 4, 64))):
            found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
        return bytes(found)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.sqlite"
        file.write_bytes(raw)
        db = sqlite3.connect(file, isolation_level=None)
        try:
            _change(draw, db)
        finally:
            db.close()
        return file.read_bytes()


def _change(draw: random.Random, db: sqlite3.Connection) -> None:
    db.execute("PRAGMA ignore_check_constraints=1")
    table = draw.choice(("scenarios", "scenarios", "scenarios", "members", "members", "sweeps", "parts"))
    way = draw.random()
    if way < 0.08:
        db.execute(f"DROP TABLE {table}")
        return
    if way < 0.14:
        db.execute(f"DELETE FROM {table}")
        return
    if way < 0.2:
        db.execute(f"PRAGMA {draw.choice(('user_version', 'application_id'))} = {draw.choice((0, 2, 99, -1))}")
        return
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    column = draw.choice(("row", "row", "row", "asked", *columns)) if table == "scenarios" else draw.choice(columns)
    (old,) = db.execute(f"SELECT {column} FROM {table}").fetchone()
    for new in (_other(draw, old), None, draw.choice((b"\xff\0", 10**15, -1, 1e300))):
        try:
            db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid IS NOT 0" if table == "sweeps" else
                       f"UPDATE {table} SET {column} = ?", (new,))  # fmt: skip
            return
        except sqlite3.Error:  # a key that two rows would share, or a cell that must hold something
            continue


def _other(draw: random.Random, old: Any) -> Any:
    text = draw.choice(
        ("[1]", "5", "null", "NaN", "1e999", "9" * 400, '{"step_s": NaN}', '{"a": {}}', '"x"', "{", "[[1]]")
    )
    if draw.random() < 0.4:
        return text
    try:
        found = json.dumps(damaged_tree(draw, json.loads(old)))
        found.encode()
        return found
    except (TypeError, ValueError):
        return draw.choice(CELLS)
