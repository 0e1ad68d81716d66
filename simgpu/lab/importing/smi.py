"""Lists of GPUs that nvidia-smi prints: `-L`, `-q` and `--query-gpu=... --format=csv`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from simgpu.errors import InputError, shown
from simgpu.lab.importing.parts import Facts, Found
from simgpu.lab.importing.text import unmarked

_GPU = re.compile(r"^\s*GPU\s+(\d+):\s+(.+?)\s*\(UUID:")
_MIG = re.compile(r"^\s*MIG\s+(\S+)\s+Device\s+\d+:")
_BLOCK = re.compile(r"^GPU\s+([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d)\s*$")
_PAIR = re.compile(r"^(\s*)([A-Za-z][\w ./()-]*?)\s*:\s+(.*?)\s*$")
_UNITS = {"mib": 2.0**20, "gib": 2.0**30, "mhz": 1e6, "w": 1.0, "ghz": 1e9, "": 1.0}
_COLUMNS = {
    "model": ("name", "gpu_name"),
    "memory": ("memory.total",),
    "clock": ("clocks.max.sm", "clocks.max.graphics", "clocks.max.gr"),
    "limit": ("power.limit", "enforced.power.limit"),
    "most": ("power.default_limit",),
}
"""Columns of a query, by what they tell."""
MOST = 4096
"""Most GPUs of a list."""


def is_list(text: str) -> bool:
    """True for an output of `nvidia-smi -L`."""
    return any(_GPU.match(unmarked(line)) for line in text.splitlines()[:400])


def is_long(text: str) -> bool:
    """True for an output of `nvidia-smi -q`."""
    return "Attached GPUs" in text[:20_000] and "Product Name" in text


def is_query(text: str) -> bool:
    """True for a table of `nvidia-smi --query-gpu`."""
    return _header(text) is not None


def read_list(file: Path, text: str) -> Found:
    """Names of GPUs, and their slices where MIG is on."""
    models: list[str] = []
    slices: list[list[str]] = []
    for line in text.splitlines():
        if named := _GPU.match(unmarked(line)):
            models.append(named[2])
            slices.append([])
        elif (cut := _MIG.match(unmarked(line))) and slices:
            slices[-1].append(cut[1])
    facts = tuple(Facts(model, slices=tuple(parts)) for model, parts in zip(models[:MOST], slices, strict=False))
    return Found(str(file), "nvidia-smi -L", facts=facts)


def read_long(file: Path, text: str) -> Found:
    """Names, memory, highest clocks and power limits of the GPUs of `nvidia-smi -q`."""
    blocks: list[dict[str, str]] = []
    section: dict[int, str] = {}
    for line in text.splitlines():
        plain = unmarked(line)
        if _BLOCK.match(plain):
            blocks.append({})
            section = {}
            continue
        if not blocks:
            continue
        if pair := _PAIR.match(plain):
            blocks[-1].setdefault(f"{_above(section, len(pair[1]))}{pair[2]}", pair[3])
        elif plain.strip():
            depth = len(plain) - len(plain.lstrip())
            section = {at: name for at, name in section.items() if at < depth} | {depth: plain.strip()}
    if not blocks:
        raise InputError("names no GPU (a line such as 'GPU 00000000:1B:00.0'); is it cut?", file=file)
    return Found(str(file), "nvidia-smi -q", facts=tuple(_long_facts(block, file) for block in blocks[:MOST]))


def _above(section: Mapping[int, str], depth: int) -> str:
    """The innermost heading above a line, with a slash."""
    outer = [name for at, name in sorted(section.items()) if at < depth]
    return f"{outer[-1]}/" if outer else ""


def _long_facts(block: Mapping[str, str], file: Path) -> Facts:
    def of(*keys: str) -> float:
        return next((_figure(block[key], file, key) for key in keys if key in block), 0.0)

    model = block.get("Product Name", "")
    if not model:
        raise InputError("a GPU has no Product Name; is it cut?", file=file)
    limits = [f"{above}/{name}" for above in ("GPU Power Readings", "Power Readings")
              for name in ("Current Power Limit", "Power Limit", "Enforced Power Limit")]  # fmt: skip
    usual = [f"{above}/Default Power Limit" for above in ("GPU Power Readings", "Power Readings")]
    return Facts(
        model, of("FB Memory Usage/Total"), of("Max Clocks/SM", "Max Clocks/Graphics"), of(*limits), of(*usual)
    )


def _figure(text: str, file: Path, key: str) -> float:
    """A figure with its unit in SI units; 0 for 'N/A', '[Not Supported]' and the like."""
    found = re.fullmatch(r"([\d.,]+)\s*(\w*)", text.strip())
    if found is None:
        return 0.0
    if "," in found[1]:
        raise InputError(f"{shown(text)} has a decimal comma; expected an output with LC_ALL=C", file=file, key=key)
    try:
        return float(found[1]) * _UNITS.get(found[2].lower(), 1.0)
    except ValueError:
        return 0.0


def _header(text: str) -> tuple[int, list[str]] | None:
    """The line of column names of a query, and the names without units."""
    for n, line in enumerate(text.splitlines()[:50]):
        cells = [cell.strip().lower() for cell in line.split(",")]
        names = [re.sub(r"\s*\[.*\]$", "", cell) for cell in cells]
        if any(name in _COLUMNS["model"] for name in names) and len(names) > 1:
            return n, [*cells]
    return None


def read_query(file: Path, text: str) -> Found:
    """Rows of `nvidia-smi --query-gpu=name,... --format=csv`, with units in cells or (nounits) in the header."""
    found = _header(text)
    assert found is not None
    start, header = found
    facts = list(_rows(file, text.splitlines()[start + 1 :], header, start + 2))
    if not facts:
        raise InputError("has a header and no rows", file=file, line=start + 1)
    return Found(str(file), "nvidia-smi --query-gpu", facts=tuple(facts[:MOST]))


def _rows(file: Path, lines: list[str], header: list[str], first: int) -> Iterator[Facts]:
    names = [re.sub(r"\s*\[.*\]$", "", cell) for cell in header]
    units = [found[1] if (found := re.search(r"\[(\w+)\]$", cell)) else "" for cell in header]
    for number, cells in enumerate(csv.reader(lines, skipinitialspace=True), first):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise InputError(f"{len(cells)} cells under {len(names)} columns; is it cut?", file=file, line=number)
        row = {name: (cell.strip(), unit) for name, cell, unit in zip(names, cells, units, strict=True)}
        told: dict[str, tuple[str, str]] = {
            what: next((row[one] for one in columns if one in row), ("", "")) for what, columns in _COLUMNS.items()
        }
        figures = {what: _figure(f"{text} {unit}" if text.replace(".", "").isdigit() else text, file, what)
                   for what, (text, unit) in told.items() if what != "model"}  # fmt: skip
        yield Facts(told["model"][0], figures["memory"], figures["clock"], figures["limit"], figures["most"])
