"""The store of many results: one SQLite file, written by any number of sweeps at once.

A scenario is a row of `scenarios` under its key (`simgpu.study.sweep.identity`); it is written once, in one transaction
with those that finished beside it, and what is written survives a killed process. A sweep is a row of `sweeps`;
`members` say which scenarios are its points, in which order and under which labels, so a scenario can belong to many.
`parts` hold what scenarios refer to (a GPU with all its figures), once for all that share it.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simgpu.errors import InputError, shown
from simgpu.reading import kind_of

DEFAULT = "results/store.sqlite"
VARIABLE = "SIMGPU_STORE"
APPLICATION = 0x53474755  # 'SGGU', in the file's header: this is a store of simgpu
VERSION = 1
BUSY_SECONDS = 60.0

_TABLES = """
CREATE TABLE scenarios (
    key TEXT PRIMARY KEY, status TEXT NOT NULL CHECK (status IN ('ok', 'failed')), row TEXT, reason TEXT,
    asked TEXT NOT NULL, parts TEXT NOT NULL, experiment TEXT NOT NULL, file TEXT NOT NULL,
    simgpu TEXT NOT NULL, code TEXT NOT NULL, python TEXT NOT NULL, host TEXT NOT NULL,
    started TEXT NOT NULL, finished TEXT NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE parts (digest TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sweeps (
    id INTEGER PRIMARY KEY, experiment TEXT NOT NULL, file TEXT NOT NULL, text TEXT NOT NULL, settings TEXT NOT NULL,
    began TEXT NOT NULL, UNIQUE (experiment, text, settings)
);
CREATE TABLE members (
    sweep INTEGER NOT NULL REFERENCES sweeps, position INTEGER NOT NULL, key TEXT NOT NULL, labels TEXT NOT NULL,
    PRIMARY KEY (sweep, position)
) WITHOUT ROWID;
CREATE INDEX members_of ON members (key);
"""


@dataclass(frozen=True)
class Finished:
    """A scenario that ran, or could not. `row` holds physical results alone; times are ISO 8601 in UTC."""

    key: str
    status: str  # 'ok' or 'failed'
    row: Mapping[str, Any] | None
    reason: str | None
    asked: Mapping[str, Any]  # the scenario with its defaults filled in
    parts: Mapping[str, str]  # digests of what it refers to
    started: str
    finished: str
    seconds: float
    host: str
    python: str


@dataclass(frozen=True)
class StoredPoint:
    """A finished point of a sweep. `labels` and varied values stand before the results in its row."""

    experiment: str
    position: int
    labels: Mapping[str, Any]
    key: str
    status: str
    row: Mapping[str, Any]
    reason: str | None
    seconds: float
    host: str
    finished: str

    @property
    def whole_row(self) -> dict[str, Any]:
        """The row as `simgpu run` prints it."""
        return {**self.labels, **self.row}


class Store:
    """An open store. Every error of SQLite becomes one line (`InputError`); what was written before stays written."""

    def __init__(self, file: Path, create: bool = True) -> None:
        self.file = file
        _check_header(file, create)
        with self._plainly():
            if create:
                _make_folder(file)
            self._db = self._connect(create)
            self._db.row_factory = sqlite3.Row
        try:
            self._open(create)
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is pending."""
        self._db.close()

    def _connect(self, create: bool) -> sqlite3.Connection:
        if create:
            return sqlite3.connect(self.file, timeout=BUSY_SECONDS, isolation_level=None)
        place = f"file:{_escaped(self.file)}"
        try:
            database = sqlite3.connect(f"{place}?mode=ro", timeout=BUSY_SECONDS, isolation_level=None, uri=True)
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:  # a folder in which nothing can be written: nobody writes the file either
            database = sqlite3.connect(f"{place}?immutable=1", timeout=BUSY_SECONDS, isolation_level=None, uri=True)
        return database

    def _open(self, create: bool) -> None:
        """Make the tables of an empty file; refuse one that is not a store, or a newer one."""
        with self._plainly():
            # tables first: whoever makes the store at this moment sets the marks in the same transaction
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            application, version = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in _MARKS)
        if application != APPLICATION and (tables or application):
            raise InputError("is an SQLite database, but not a simgpu results store; name another file", file=self.file)
        if version > VERSION:
            problem = f"is a store of a newer simgpu (version {version}, this one reads {VERSION})"
            raise InputError(f"{problem}; upgrade simgpu or name another file", file=self.file)
        if not create:
            if not tables:
                raise InputError("is empty, not a simgpu results store", file=self.file)
            return
        with self._plainly():
            self._switch_to_wal()
            self._db.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            with self._transaction():
                if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:  # nobody was faster
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id = {APPLICATION}")
                    self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _switch_to_wal(self) -> None:
        """Switch to write-ahead logging; SQLite does not wait by itself where several switch at once."""
        until = time.monotonic() + BUSY_SECONDS
        while self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                if self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                    return  # a file system that cannot
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    # ---- writing -------------------------------------------------------------------------------------

    def begin(
        self, experiment: str, file: str, text: str, settings: Sequence[str],
        members: Iterable[tuple[str, Mapping[str, Any]]], parts: Mapping[str, str],
    ) -> int:  # fmt: skip
        """Remember a sweep's points: (key, labels) in order. Returns its number; the same again has the same.

        `text` is a digest of the file; sweeps of one file with other `settings` stand beside each other.
        """
        written, began = json.dumps(list(settings)), now()
        rows = [(n, key, _json(labels)) for n, (key, labels) in enumerate(members)]
        with self._transaction():
            self._db.execute(
                "INSERT INTO sweeps (experiment, file, text, settings, began) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET file = excluded.file, began = excluded.began",
                (experiment, file, text, written, began),
            )
            query = "SELECT id FROM sweeps WHERE experiment = ? AND text = ? AND settings = ?"
            number = int(self._db.execute(query, (experiment, text, written)).fetchone()[0])
            self._db.execute("DELETE FROM members WHERE sweep = ?", (number,))
            self._db.executemany(f"INSERT INTO members VALUES ({number}, ?, ?, ?)", rows)
            self._db.executemany("INSERT OR IGNORE INTO parts VALUES (?, ?)", parts.items())
        return number

    def keep(self, finished: Sequence[Finished], provenance: Mapping[str, str]) -> int:
        """Write finished scenarios, all or none; returns how many were new.

        One that is there already stays as it is, but a failed one gives way to another try. `provenance` has the
        experiment and its file, and version and code digest of simgpu.
        """
        rows = [
            (one.key, one.status, _json(one.row), one.reason, _json(one.asked), _json(one.parts),
             *(provenance[name] for name in ("experiment", "file", "simgpu", "code")), one.python, one.host,
             one.started, one.finished, one.seconds)
            for one in finished
        ]  # fmt: skip
        with self._transaction():
            before = self._db.total_changes
            self._db.executemany(_KEEP, rows)
            return self._db.total_changes - before

    # ---- reading -------------------------------------------------------------------------------------

    def statuses(self, keys: Iterable[str]) -> dict[str, str]:
        """'ok' or 'failed' for those of `keys` that are there."""
        wanted = list(keys)
        statuses: dict[str, str] = {}
        with self._plainly():
            for start in range(0, len(wanted), 500):
                some = wanted[start : start + 500]
                marks = ", ".join("?" * len(some))
                statuses |= dict(self._db.execute(f"SELECT key, status FROM scenarios WHERE key IN ({marks})", some))
        return statuses

    def row(self, key: str) -> dict[str, Any] | None:
        """The physical results of a scenario that succeeded, without labels; None if it is not there."""
        with self._plainly():
            found = self._db.execute("SELECT row FROM scenarios WHERE key = ? AND status = 'ok'", (key,)).fetchone()
        return self._checked({"key": key, "row": found["row"]})["row"] if found else None

    def experiments(self) -> list[dict[str, Any]]:
        """(experiment, points, ok, failed, last) of each experiment whose points are known."""
        with self._plainly():
            return [self._checked(one) for one in self._db.execute(_EXPERIMENTS)]

    def members(self, sweep: int | None = None, experiment: str | None = None) -> Iterator[StoredPoint]:
        """Finished points: of one sweep, or of an experiment (as its file last was), or all."""
        condition, values = "1", ()  # type: tuple[str, tuple[Any, ...]]
        if sweep is not None:
            condition, values = "members.sweep = ?", (sweep,)
        elif experiment is not None:
            condition, values = _OF_EXPERIMENT, (experiment, experiment)
        with self._plainly():
            for one in self._db.execute(f"{_MEMBERS} WHERE {condition} ORDER BY sweeps.id, position", values):
                known = self._checked(one)
                yield StoredPoint(**{**known, "row": known["row"] or {}})

    def scenario(self, key: str) -> list[dict[str, Any]]:
        """Scenarios whose key begins with `key`, at most two."""
        with self._plainly():
            asked = "SELECT * FROM scenarios WHERE substr(key, 1, ?) = ? LIMIT 2"
            return [self._checked(one) for one in self._db.execute(asked, (len(key), key))]

    def labels(self, key: str) -> list[dict[str, Any]]:
        """(experiment, position, labels) of every sweep that has the scenario."""
        with self._plainly():
            query = (
                "SELECT experiment, position, labels FROM members JOIN sweeps ON id = sweep WHERE key = ? ORDER BY id"
            )
            return [self._checked(one) for one in self._db.execute(query, (key,))]

    def contents(self, digests: Iterable[str]) -> dict[str, Any]:
        """The contents behind digests."""
        with self._plainly():
            asked = "SELECT content FROM parts WHERE digest = ?"
            found = {digest: self._db.execute(asked, (digest,)).fetchone() for digest in digests}
        return {digest: self._checked(row)["content"] if row else None for digest, row in found.items()}

    # ---- errors --------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A context in which all that is written takes effect, or nothing of it."""
        with self._plainly():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """A context in which errors of SQLite become one line."""
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(_problem(error), file=self.file) from None
        except UnicodeDecodeError:  # SQLite quotes what it cannot read
            raise InputError(_DAMAGED, file=self.file) from None

    def _checked(self, row: sqlite3.Row | Mapping[str, Any]) -> dict[str, Any]:
        """A row of the file with its JSON as data. Raises `InputError` for what simgpu would not have written."""
        known = dict(row)
        for name, value in known.items():
            try:
                known[name] = _CHECKS[name](value) if name in _CHECKS else _word(value)
            except (ValueError, OverflowError, RecursionError):
                which = f" of scenario {shown(known['key'])}" if "key" in known else ""
                raise InputError(f"is damaged ({name}{which}); {_AWAY}", file=self.file) from None
        return known


_MARKS = ("application_id", "user_version")
_KEEP = f"""
INSERT INTO scenarios VALUES ({", ".join("?" * 15)})
ON CONFLICT (key) DO UPDATE SET status = excluded.status, row = excluded.row, reason = excluded.reason,
    experiment = excluded.experiment, file = excluded.file, simgpu = excluded.simgpu, code = excluded.code,
    python = excluded.python, host = excluded.host, started = excluded.started, finished = excluded.finished,
    seconds = excluded.seconds
WHERE scenarios.status = 'failed'
"""
_MEMBERS = """
SELECT sweeps.experiment, position, labels, scenarios.key, status, row, reason, seconds, host, finished
FROM members JOIN sweeps ON sweeps.id = members.sweep JOIN scenarios ON scenarios.key = members.key
"""
_OF_EXPERIMENT = """
sweeps.experiment = ?
AND sweeps.text = (SELECT text FROM sweeps WHERE experiment = ? ORDER BY began DESC, id DESC LIMIT 1)
"""
_EXPERIMENTS = """
SELECT sweeps.experiment AS experiment, count(DISTINCT members.key) AS points,
    count(DISTINCT CASE WHEN status = 'ok' THEN members.key END) AS ok,
    count(DISTINCT CASE WHEN status = 'failed' THEN members.key END) AS failed, max(began) AS last
FROM sweeps LEFT JOIN members ON sweep = id LEFT JOIN scenarios ON scenarios.key = members.key
GROUP BY sweeps.experiment ORDER BY last
"""
_AWAY = "move it away to begin anew, or try `sqlite3 FILE .recover`"
_DAMAGED = f"is damaged; {_AWAY}"


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def store_file(file: str | Path | None) -> Path:
    """The file of the store: as given, else $SIMGPU_STORE, else results/store.sqlite."""
    return Path(file or os.environ.get(VARIABLE) or DEFAULT)


@contextmanager
def kept_in(file: str | Path | None) -> Iterator[Path]:
    """The file that a call in Python keeps rows in; where none is asked for, one that is gone after it."""
    if file is not None or os.environ.get(VARIABLE):
        yield store_file(file)
        return
    with tempfile.TemporaryDirectory(prefix="simgpu-") as folder:
        yield Path(folder, "store.sqlite")


def _check_header(file: Path, create: bool) -> None:
    """Refuse what SQLite would not read, before it is opened: SQLite may answer with anything."""
    try:
        if file.exists() and not file.is_file():
            raise InputError(f"is {kind_of(file.stat().st_mode)}, expected a file for the store", file=file)
        with file.open("rb") as stream:
            start = stream.read(16)
    except FileNotFoundError:
        if create:
            return
        raise InputError("no such store; `simgpu sweep FILE` makes one", file=file) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot be read as a store ({reason})", file=file) from None
    if start and start != b"SQLite format 3\x00":
        raise InputError("is not a simgpu results store (not an SQLite database); name another file", file=file)


def _make_folder(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", file=file) from None


def _escaped(file: Path) -> str:
    from urllib.parse import quote

    return quote(str(file.absolute()))


def _problem(error: sqlite3.Error) -> str:
    """The meaning of an error of SQLite, in words for the user."""
    text = str(error)
    if "full" in text:
        return (
            "cannot be written: the disk is full; what was finished before is kept, the same command goes on from there"
        )
    if "readonly" in text or "unable to open" in text or "disk I/O" in text:
        return f"cannot be {'written' if 'readonly' in text else 'opened or written'} ({text})"
    if "locked" in text or "busy" in text:
        return f"is locked by another program ({text})"
    if isinstance(error, sqlite3.OperationalError) and "no such" in text:
        return f"is a results store of another version ({text})"
    return _DAMAGED if type(error) is sqlite3.DatabaseError else f"cannot be used as a store ({text})"


def _json(data: Any) -> str | None:
    return None if data is None else json.dumps(data, allow_nan=False, separators=(",", ":"))


# ---- checks of what is read --------------------------------------------------------------------------------


def _word(value: Any) -> Any:
    """The value, which must be text or None. Raises `ValueError`."""
    if value is not None and not isinstance(value, str):
        raise ValueError("no text")
    return value


def _finite(value: Any) -> Any:
    """The data, in which all numbers must be finite at any depth, as JSON and tables need. Raises `ValueError`."""
    if isinstance(value, dict):
        for one in value.values():
            _finite(one)
    elif isinstance(value, list):
        for one in value:
            _finite(one)
    elif isinstance(value, (int, float)) and not math.isfinite(value):
        raise ValueError("no finite number")
    return value


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise ValueError("no number")
    return _finite(value)


def _mapping(text: Any) -> Any:
    """The mapping in a JSON text; None for no text. Raises `ValueError` for anything else."""
    if text is None:
        return None
    data = _finite(json.loads(_word(text)))
    if not isinstance(data, dict):
        raise ValueError("no mapping")
    if "\\ud" in text.lower():  # half of a letter: nothing could be written with it
        json.dumps(data, ensure_ascii=False).encode()
    return data


def _results(text: Any) -> Any:
    """The mapping to plain values in a JSON text, none below zero, ends of intervals in order. Raises `ValueError`."""
    data = _mapping(text)
    for name, value in (data or {}).items():
        if isinstance(value, (dict, list)):
            raise ValueError("no plain value")
        if isinstance(value, (int, float)):
            most = data.get(f"{name[:-4]}_p90") if name.endswith("_p10") else None
            if value < 0 or (isinstance(most, (int, float)) and most < value):
                raise ValueError("no result of simgpu")
    return data


_CHECKS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("labels", "asked", "parts", "content"), _mapping),
    **dict.fromkeys(("position", "seconds", "points", "ok", "failed"), _number),
    "row": _results,
}
"""Checks of columns that hold something other than words."""
