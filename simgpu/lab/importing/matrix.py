"""`nvidia-smi topo -m`: the matrix of links between GPUs and adapters, as people paste it.

The table is read as a stream of words, so that blanks for tabs, wrapped rows and signs of comments do not matter. A row
that is cut is filled from the other half of the matrix; what neither half shows is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from simgpu.errors import InputError
from simgpu.lab.importing.parts import Device, Found, Links
from simgpu.lab.importing.places import Seen, places_of
from simgpu.lab.importing.text import unmarked

KIND = "nvidia-smi topo -m"
MOST = 1024
"""Most devices of a matrix."""
_CELL = re.compile(r"X|SYS|SOC|NODE|PHB|PXB|PIX|PSB|NV\d{1,2}")
_GPU = re.compile(r"GPU\d{1,4}")
_LABEL = re.compile(r"[A-Za-z][\w.:/-]*")
_AFFINITY = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_NIC = re.compile(r"^\s*(NIC\d+):\s*(\S+)\s*$")
_LEGEND = re.compile(r"^\s*(SYS|SOC|PHB|PIX|PXB|NODE)\s+=")
_OLD = {"SOC": "SYS", "PSB": "PXB"}
"""Words of older drivers."""

Word = tuple[int, str]
"""A word and its line."""


@dataclass
class Row:
    """A row: cells in the order of the header, each with its line, and what stands behind them."""

    cells: list[Word] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)

    @property
    def cpus(self) -> str:
        """The CPU affinity; '' where there is none."""
        return self.rest[0] if self.rest and _AFFINITY.fullmatch(self.rest[0]) else ""

    @property
    def numa(self) -> tuple[int, ...]:
        """NUMA nodes, the nearest first."""
        behind = self.rest[1:] if self.cpus or self.rest[:1] == ["N/A"] else []
        if not behind or not _AFFINITY.fullmatch(behind[0]):
            return ()
        return tuple(int(part.partition("-")[0]) for part in behind[0].split(","))


def is_matrix(text: str) -> bool:
    """True if a text holds such a table, or what is left of one."""
    lines = text.splitlines()
    return _header(lines) is not None or sum(_is_row(unmarked(line).split()) for line in lines) > 1


def read(file: Path, text: str) -> Found:
    """The machine that a matrix shows. Raises `InputError` for one that is cut where it matters, or asymmetric."""
    lines = text.splitlines()
    start = _header(lines)
    if start is None:
        first = next(n for n, line in enumerate(lines, 1) if _is_row(unmarked(line).split()))
        raise InputError("has rows of a matrix, but no header (GPU0 GPU1 ...); expected the whole output of"
                         f" {KIND}", file=file, line=first)  # fmt: skip
    words = list(_words(lines, start))
    labels, body = _labels(words, file)
    rows = _rows(words[body:], labels)
    cells = _cells(rows, labels, file)
    names = {match[1]: match[2] for line in lines if (match := _NIC.match(unmarked(line)))}
    legend = any(_LEGEND.match(unmarked(line)) for line in lines)
    gpus = sorted((one for one in labels if _GPU.fullmatch(one)), key=lambda one: int(one[3:]))
    if not gpus:
        raise InputError("names no GPU", file=file, line=start + 1)
    links = _links(gpus, cells, hidden=legend and "NV#" not in text)
    seen = Seen(
        gpus, [one for one in labels if one not in gpus], {pair: _level(cell) for pair, cell in cells.items()},
        {gpu: rows[gpu].numa for gpu in gpus if gpu in rows}, {gpu: rows[gpu].cpus for gpu in gpus if gpu in rows},
    )  # fmt: skip
    places, notes = places_of(seen, lambda kind, name: Device(kind, names.get(name, name)))
    alone = [one.devices[0].name for place in places for one in place.groups if len(one.devices) == 1
             and one.devices[0].kind == "gpu"]  # fmt: skip
    if links.counts and len(alone) > 1:
        notes.append(
            f"links hide which of {alone[0]} ... {alone[-1]} share a PCIe switch: nvidia-smi topo -mp shows it"
        )
    cut = [gpu for gpu in gpus if gpu not in rows or len(rows[gpu].cells) < len(labels)]
    if cut:
        notes.append(f"the output is cut: {', '.join(cut)} told from the other half of the matrix")
    return Found(str(file), KIND, places, links, order=tuple(gpus), notes=tuple(notes))


def nearness(file: Path, text: str) -> dict[str, dict[str, str]]:
    """Of each GPU its adapters with how far each is on PCIe ('PIX', 'NODE', ...); none where the table has none."""
    lines = text.splitlines()
    words = list(_words(lines, _header(lines) or 0))
    labels, body = _labels(words, file)
    cells = _cells(_rows(words[body:], labels), labels, file)
    gpus = [one for one in labels if _GPU.fullmatch(one)]
    return {gpu: {one: cells[gpu, one] for one in labels if one not in gpus} for gpu in gpus}


def _is_row(words: Sequence[str]) -> bool:
    return len(words) > 2 and bool(_GPU.fullmatch(words[0])) and all(_CELL.fullmatch(one) for one in words[1:3])


def _header(lines: Sequence[str]) -> int | None:
    """The position of the line of column names: devices, each with a number, then 'CPU Affinity' or nothing."""
    for n, line in enumerate(lines):
        words = unmarked(line).split()
        names = words[: words.index("CPU")] if "CPU" in words else words
        if (
            any(_GPU.fullmatch(word) for word in names)
            and (len(names) > 1 or "CPU" in words)
            and all(_LABEL.fullmatch(word) and any(letter.isdigit() for letter in word) for word in names)
            and not any(_CELL.fullmatch(word) for word in names)
        ):
            return n
    return None


def _words(lines: Sequence[str], start: int) -> Iterator[Word]:
    """Words from the header on, up to the legend."""
    for n, line in enumerate(lines[start:], start + 1):
        plain = unmarked(line)
        if re.match(r"\s*(NIC )?Legend", plain):
            return
        yield from ((n, word) for word in plain.split())


def _labels(words: Sequence[Word], file: Path) -> tuple[list[str], int]:
    """Names of the columns, and the position of the first word behind them."""
    labels: list[str] = []
    for i, (line, word) in enumerate(words):
        if word in ("CPU", "NUMA", "GPU") or word in labels or not _LABEL.fullmatch(word):
            return labels, i
        labels.append(word)
        if len(labels) > MOST:
            raise InputError(f"has more than {MOST:,} columns", file=file, line=line)
    return labels, len(words)


def _rows(words: Sequence[Word], labels: Sequence[str]) -> dict[str, Row]:
    """Rows by name."""
    rows: dict[str, Row] = {}
    row: Row | None = None
    for i, (line, word) in enumerate(words):
        following = words[i + 1][1] if i + 1 < len(words) else ""
        if word in labels and _CELL.fullmatch(following):
            row = rows.setdefault(word, Row())
        elif row is not None and len(row.cells) < len(labels) and not row.rest and _CELL.fullmatch(word):
            row.cells.append((line, word))
        elif row is not None:
            row.rest.append(word)
    return rows


def _cells(rows: Mapping[str, Row], labels: Sequence[str], file: Path) -> dict[tuple[str, str], str]:
    """Cells by pair, each pair in both orders."""
    found: dict[tuple[str, str], str] = {}
    for a, row in rows.items():
        for b, (line, text) in zip(labels, row.cells, strict=False):
            word = _OLD.get(text, text)
            if (a == b) != (word == "X"):
                expected = "X" if a == b else "a link"
                raise InputError(f"{a} to {b} says {text}; expected {expected} (a column is missing or too many?)",
                                 file=file, line=line)  # fmt: skip
            other = found.get((b, a))
            if other is not None and other != word and a != b:
                there = rows[b].cells[labels.index(a)][0]
                raise InputError(f"{b} to {a} says {other} (line {there}), {a} to {b} says {word}; expected the same",
                                 file=file, line=line)  # fmt: skip
            found[a, b] = word
    for a, b in list(found):
        found.setdefault((b, a), found[a, b])
    gpus = [one for one in labels if _GPU.fullmatch(one)]
    unknown = [(a, b) for a in gpus for b in labels if a != b and (a, b) not in found]
    if unknown:
        a, b = unknown[0]
        lacking = [gpu for gpu in gpus if gpu not in rows]
        which = f"rows of {', '.join(lacking)} are missing" if lacking else f"the row of {a} ends before {b}"
        raise InputError(f"is cut: {which}; expected the whole output of {KIND}", file=file)
    return found


def _level(cell: str) -> str:
    """How far two devices are on PCIe: '' where a cell names their own links instead."""
    return "" if cell.startswith("NV") else cell


def _links(gpus: Sequence[str], cells: Mapping[tuple[str, str], str], hidden: bool) -> Links:
    counts = {(a, b): int(cells[a, b][2:]) for a, b in combinations(gpus, 2) if cells[a, b].startswith("NV")}
    return Links(counts, whole=not hidden)
