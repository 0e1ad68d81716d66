"""The YAML of fitted constants: a fragment to paste, or the GPU's whole file with it merged in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.inherit import CALIBRATE, DEFAULT
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.calibration.outcome import Calibrated, Group
from simgpu.lab.calibration.trial import unit_of
from simgpu.schema_errors import validate
from simgpu.terminal import plain
from simgpu.version import __version__

_UNITS = {"s": ("us", 1e-6), "B/s": ("GB/s", 1e9), "B": ("KiB", 1024.0), "J/FLOP": ("pJ/FLOP", 1e-12)}
"""Units in which constants are written."""

Kernel = dict[str, Any]


def constants_of(done: Calibrated, date: str) -> tuple[dict[str, str], Kernel]:
    """The contents of `sources` and of `kernel` in a GPU's file."""
    sources: dict[str, str] = {}
    kernel: Kernel = {}
    for constant, group in done.moved:
        kind, library, name = constant.path
        key = "calibrated_streams" if not constant.fitted else _source_key(group)
        sources[key] = _source(done, group, date, constant.fitted)
        unit = unit_of(constant.path)
        word, scale = _UNITS.get(unit, ("", 1.0))
        figure: dict[str, Any] = {"value": float(f"{constant.after / scale:.4g}")}
        kernel.setdefault(kind, {}).setdefault(library, {})[name] = (
            figure | ({"unit": word} if word else {}) | {"source": key}
        )
    return sources, kernel


def _source_key(group: Group) -> str:
    """Name of a source; plain letters, so that no YAML needs quotes."""
    words = ["calibrated", group.kind, *([group.library] if group.library != DEFAULT else [])]
    return re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower())


def _source(done: Calibrated, group: Group, date: str, fitted: bool) -> str:
    """The source of a constant in words: files, date, rows, and by how much it lowers errors."""
    files = ", ".join(file.name for file in done.files)
    if not fitted:
        moved = f"by the same factor as memory_fraction of {group.kind}"
        return f"{moved}, fitted to {files}, {date}; {CALIBRATE} {__version__}"
    what = " and ".join(dict.fromkeys(op.replace("_", " ") for op in group.ops))
    dtypes = f" ({', '.join(group.dtypes)})" if group.dtypes else ""
    errors = f"median error {100 * group.before.median_ape:.1f} to {100 * group.after.median_ape:.1f} %"
    where = f"of {group.held_out} rows held out" if group.held_out else "of the same rows, too few to hold any out"
    rows = f"{group.fitted} row{'s' if group.fitted != 1 else ''}"
    return f"{files}, {date}, {what}{dtypes} fitted to {rows}, {errors} {where}; {CALIBRATE} {__version__}"


# ---- writing -------------------------------------------------------------------------------------------


def fragment(done: Calibrated, date: str) -> str:
    """Entries for `sources:` and `kernel:` of the GPU's file."""
    sources, kernel = constants_of(done, date)
    head = f"# Constants of {done.gpu.name} by simgpu calibrate: merge into hardware/gpus/{done.gpu.name}.yaml\n"
    return head + "sources:\n" + _sources(sources) + "kernel:\n" + _kernel(kernel)


def whole_file(done: Calibrated, catalogue: Catalogue, date: str) -> str:
    """The GPU's file with the constants in it; comments outside `kernel` stay."""
    return with_constants(catalogue, done.gpu.name, *constants_of(done, date))


def with_constants(catalogue: Catalogue, gpu: str, sources: Mapping[str, str], kernel: Kernel) -> str:
    """The text of a GPU's file with constants in it, and with their sources."""
    file = catalogue.find("gpus", gpu)
    assert file is not None
    data = catalogue.document(file).data
    merged = _merged(data.get("kernel", {}), kernel)
    expected = {**data, "sources": {**data.get("sources", {}), **sources}, "kernel": merged}
    text = _spliced(file.read_text(encoding="utf-8-sig"), sources, merged)
    try:
        same = yaml.safe_load(text) == yaml.safe_load(json.dumps(expected))
    except yaml.YAMLError:
        same = False
    if not same:  # written in a style that lines cannot be put into
        text = yaml.safe_dump(expected, sort_keys=False, allow_unicode=True, width=10_000)
    _check(text)
    return text


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Kernel:
    """The mapping `old` with the values of `new`, at every level down to a figure."""
    merged = dict(old)
    for key, value in new.items():
        deeper = isinstance(value, dict) and "value" not in value
        merged[key] = _merged(merged.get(key) or {}, value) if deeper else value
    return merged


def _spliced(text: str, sources: Mapping[str, str], kernel: Kernel) -> str:
    """`text` with the sources behind its own, and with another `kernel` block."""
    blocks = re.split(r"(?m)^(?=\S)", text if text.endswith("\n") else text + "\n")
    lines, done = [], False
    for block in blocks:
        if block.startswith("kernel:"):
            continue
        lines.append(block)
        if block.rstrip() != "sources:" and block.startswith("sources:"):
            kept = [line for line in block.splitlines(keepends=True) if line.split(":")[0].strip() not in sources]
            lines[-1] = "".join(kept) + _sources(sources)
            done = True
    return "".join(lines) + ("" if done else "sources:\n" + _sources(sources)) + "kernel:\n" + _kernel(kernel)


def _check(text: str) -> None:
    """Raise unless the catalogue would take the file."""

    def refuse(path: tuple[Any, ...], problem: str) -> InputError:
        return InputError(f"the fitted constants do not fit the schema: {'.'.join(map(str, path))} {problem}")

    validate(GPUSpec, yaml.safe_load(text), refuse)


def _sources(sources: Mapping[str, str]) -> str:
    return "".join(f"  {key}: {_quoted(text)}\n" for key, text in sources.items())


def _kernel(kernel: Mapping[str, Any], depth: int = 1) -> str:
    """Constants as the catalogue writes them: one figure a line."""
    lines = []
    for key, value in kernel.items():
        if isinstance(value, dict) and "value" not in value:
            lines.append(f"{'  ' * depth}{key}:\n{_kernel(value, depth + 1)}")
        elif isinstance(value, dict):
            parts = ", ".join(f"{name}: {_scalar(part)}" for name, part in value.items())
            lines.append(f"{'  ' * depth}{key}: {{{parts}}}\n")
        else:
            lines.append(f"{'  ' * depth}{key}: {_scalar(value)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:.10g}" if "e" not in f"{value:.10g}" else repr(float(value))
    return str(value) if re.fullmatch(r"[A-Za-z_][\w/-]*", str(value)) else _quoted(str(value))


def _quoted(text: str) -> str:
    return "'" + plain(text).replace("\n", " ").replace("'", "''") + "'"


def is_folder(out: Path) -> bool:
    """True if `--out` is a folder for a whole file, not a file for a fragment."""
    return out.suffix not in (".yaml", ".yml") and (out.is_dir() or not out.exists())
