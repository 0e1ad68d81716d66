"""Hardware files against the conventions of datasheets: what looks wrong, and as what.

A peak is multiprocessors x FLOP a clock x clock, and FLOP a clock is a power of two; peaks of an architecture stand in
fixed ratios; a memory's rate is its bus times what a pin carries; a capacity is a whole number of GiB; a link's rate is
of one direction, of generations that standards name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from simgpu.catalog import KINDS, Catalogue
from simgpu.documents import Document, read_yaml
from simgpu.errors import InputError
from simgpu.hardware.plausible import doubts as far_off
from simgpu.hardware.spec import GPUSpec, LinkSpec, Peak, PeakRule
from simgpu.render.data import print_csv, print_json
from simgpu.render.table import grid, print_notes
from simgpu.schema_errors import validate
from simgpu.units import format_si

Level = Literal["wrong", "doubt"]
NEAR = 0.03
"""How near (relative) a figure must come to what it is held against."""
PCIE = (0.25e9, 0.5e9, 0.98462e9, 1.96923e9, 3.93846e9, 7.5625e9)
"""B/s of a lane and direction, PCIe 1.0 to 6.0 after line coding (PCI Express Base Specification)."""
NVLINK = (20e9, 25e9, 14.0625e9, 50e9, 56.25e9)
"""B/s of a link and direction: NVLink 1; 2, 3 and 4; of GA102; 5; bridges (NVIDIA whitepapers of P100 to B200)."""
NETWORK_MOST = 100e9
"""B/s of a port and direction of the fastest network adapters: 800 Gb/s."""


@dataclass(frozen=True)
class Doubt:
    """What looks wrong: file, line, key, and as what."""

    file: str
    line: int | None
    key: str
    level: Level
    reason: str


@dataclass(frozen=True)
class Linted:
    """What was found in how many files."""

    files: int
    doubts: Sequence[Doubt]


def lint(places: Sequence[Path], catalogue: Catalogue) -> Linted:
    """Hold files, folders of files, or the whole catalogue against the conventions. Raises `InputError`."""
    files = [file for place in places for file in _files(place)] if places else _of(catalogue)
    if not files:
        raise InputError("holds no file of a GPU or a link (*.yaml)", file=places[0] if places else None)
    found: list[Doubt] = []
    seen = 0
    for file in files:
        document = read_yaml(file)
        kind = _kind(document.data)
        if kind is None:
            continue
        seen += 1
        found += _file(document, kind, catalogue)
    if not seen:
        raise InputError("holds no file of a GPU or a link", file=places[0])
    return Linted(seen, found)


def _of(catalogue: Catalogue) -> list[Path]:
    named = [(kind, name) for kind in ("gpus", "links") for name in catalogue.names(kind)]
    return [file for kind, name in named if (file := catalogue.find(kind, name)) is not None]


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted([*place.rglob("*.yaml"), *place.rglob("*.yml")])
    return [place]


def _kind(data: Any) -> str | None:
    if "compute" in data and "peak" in data:
        return "gpus"
    return "links" if "lane_bandwidth" in data else None


def _file(document: Document, kind: str, catalogue: Catalogue) -> Iterator[Doubt]:
    spec = validate(KINDS[kind], document.data, lambda path, problem: document.error(problem, path))
    made = _gpu(spec, catalogue) if isinstance(spec, GPUSpec) else _link(spec) if isinstance(spec, LinkSpec) else ()
    for path, level, reason in made:
        key = ".".join(map(str, path))
        yield Doubt(str(document.file), document.line_of(path), key, level, reason)


Found = tuple[tuple[Any, ...], Level, str]


# ---- GPUs --------------------------------------------------------------------------------------------


def _gpu(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Found]:
    try:
        architectures = list(catalogue.architectures(gpu))
    except InputError as error:
        yield ("architecture",), "wrong", error.problem
        return
    rules = next((one.peak_rules for one in architectures if one.peak_rules), [])
    peaks = list(_peaks(gpu, rules))
    yield from peaks
    yield from _clocks(gpu)
    yield from _capacity(gpu)
    yield from _ports(gpu, catalogue)
    told = {path[:2] for path, _, _ in peaks}
    for doubt in far_off(gpu, architectures):
        path = tuple(doubt.split(" ", 1)[0].removeprefix("gpu.").rstrip(":").split("."))
        if path[:1] != ("peak",) or not told:
            yield path, "doubt", doubt


def _peaks(gpu: GPUSpec, rules: Sequence[PeakRule]) -> Iterator[Found]:
    """Peaks against the ratios of their architecture; the peak that more ratios blame is named."""
    known = {peak.key: (n, peak) for n, peak in enumerate(gpu.peak)}
    broken: list[tuple[PeakRule, float]] = []
    sound: set[str] = set()
    for rule in rules:
        if rule.peak in known and rule.of in known:
            factor = known[rule.peak][1].datasheet / (rule.ratio.si * known[rule.of][1].datasheet)
            if abs(factor - 1) <= NEAR:
                sound |= {rule.peak, rule.of}
            else:
                broken.append((rule, factor))
    blamed: dict[str, tuple[str, float]] = {}
    for rule, factor in broken:
        counts = {
            key: sum(key in (one.peak, one.of) for one, _ in broken) - 2 * (key in sound)
            for key in (rule.peak, rule.of)
        }
        worse = rule.of if counts[rule.of] > counts[rule.peak] else rule.peak
        blamed.setdefault(
            worse, (rule.of if worse == rule.peak else rule.peak, factor if worse == rule.peak else 1 / factor)
        )
    for key, (other, size) in blamed.items():
        reason = f"{key} is {size:.3g} times what its architecture's ratio to {other} gives{_as_what(size)}"
        yield ("peak", known[key][0]), "wrong", reason
    if not broken and gpu.half_peak.engine == "tensor":
        yield from _whole(gpu, known)


def _as_what(size: float) -> str:
    if abs(size / 2 - 1) <= 2 * NEAR:
        return ": is it with sparsity, or of sums in fp16?"
    if abs(size / 4 - 1) <= 2 * NEAR:
        return ": is it with sparsity and of sums in fp16, or of a type half as wide?"
    if abs(size * 2 - 1) <= 2 * NEAR:
        return ": is it of sums in fp32, or are multiply-adds counted once?"
    return ""


def _whole(gpu: GPUSpec, known: dict[str, tuple[int, Peak]]) -> Iterator[Found]:
    """The tensor peak is multiprocessors x FLOP a clock x clock, FLOP a clock a power of two."""
    if gpu.vendor != "NVIDIA":
        return
    peak = gpu.half_peak
    each = peak.datasheet / (gpu.compute.sm_count.si * gpu.compute.boost_clock.si)
    power = 2 ** round(math.log2(each))
    if abs(each / power - 1) > NEAR and peak.key in known:
        clock = peak.datasheet / (gpu.compute.sm_count.si * power)
        yield (
            ("peak", known[peak.key][0]),
            "doubt",
            (
                f"{peak.key} is {each:.4g} FLOP a clock and multiprocessor, no power of two: {power} would take "
                f"{format_si(clock, 'Hz')}; is the clock of another peak, or the count that of the full chip?"
            ),
        )


def _clocks(gpu: GPUSpec) -> Iterator[Found]:
    base, boost, top = gpu.compute.base_clock, gpu.compute.boost_clock, gpu.compute.max_clock
    if base is not None and base.si > boost.si:
        yield ("compute", "base_clock"), "wrong", f"the base clock {format_si(base.si, 'Hz')} is above the boost clock"
    if top is not None and top.si < boost.si:
        yield ("compute", "max_clock"), "wrong", f"the highest clock {format_si(top.si, 'Hz')} is below the boost clock"
    if gpu.vendor == "NVIDIA":
        clocks = [one.si for one in (boost, top) if one is not None]
        each = [gpu.vector_peak.datasheet / (2 * clock * gpu.compute.sm_count.si) for clock in clocks]
        lanes = min(each, key=_from_lanes)
        if _from_lanes(lanes) > NEAR:
            yield (
                ("compute", "boost_clock"),
                "doubt",
                (
                    f"the fp32 peak over multiprocessors and clock is {lanes:.4g} lanes, no multiple of 32: is the "
                    "clock that of the tensor peaks (then max_clock is missing), or the count that of the full chip?"
                ),
            )


def _from_lanes(lanes: float) -> float:
    """How far (relative) a number of lanes is from a multiple of 32."""
    return abs(lanes / (32 * max(1, round(lanes / 32))) - 1)


def _capacity(gpu: GPUSpec) -> Iterator[Found]:
    size = gpu.memory.capacity.si
    gib, gb = size / 2**30, size / 1e9
    if abs(gib - round(gib)) > 1e-6 and abs(gb - round(gb)) < 1e-6 and gpu.memory.type.startswith(("GDDR", "HBM2")):
        yield (
            ("memory", "capacity"),
            "doubt",
            f"{gb:.0f} GB are {gib:.4g} GiB: memories of {gpu.memory.type} come in whole GiB",
        )


def _ports(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Found]:
    """Rates of ports that override those of their link."""
    for key, port in (("nvlink", gpu.nvlink), ("host_link", gpu.host_link)):
        if port is None or port.bandwidth is None or catalogue.find("links", port.link) is None:
            continue
        link = catalogue.spec("links", port.link)
        assert isinstance(link, LinkSpec)
        whole = port.lanes.si * link.lane_bandwidth.si
        factor = port.bandwidth.si / whole
        lanes = f"{port.lanes.si:g} lanes of {port.link}"
        what = f"{format_si(port.bandwidth.si, 'B/s')} against {format_si(whole, 'B/s')} of {lanes}"
        if abs(factor / 2 - 1) <= NEAR:
            yield (key, "bandwidth"), "wrong", f"{what}: twice that, both directions added"
        elif abs(factor / 8 - 1) <= NEAR:
            yield (key, "bandwidth"), "wrong", f"{what}: eight times that, bits for bytes"


# ---- links -------------------------------------------------------------------------------------------


def _link(link: LinkSpec) -> Iterator[Found]:
    rate = link.lane_bandwidth.si
    path = ("lane_bandwidth",)
    if link.kind in ("pcie", "nvlink"):
        known = PCIE if link.kind == "pcie" else NVLINK
        name = "PCIe" if link.kind == "pcie" else "NVLink"
        if any(abs(rate / one - 1) <= NEAR for one in known):
            return
        twice = next((one for one in known if abs(rate / (2 * one) - 1) <= NEAR), None)
        eight = next((one for one in known if abs(rate / (8 * one) - 1) <= NEAR), None)
        whole = next((one for one in known if link.kind == "pcie" and abs(rate / (16 * one) - 1) <= NEAR), None)
        if twice is not None:
            yield (
                path,
                "wrong",
                f"{format_si(rate, 'B/s')} is twice a lane of {name}, {format_si(twice, 'B/s')}: both directions added",
            )
        elif eight is not None:
            yield path, "wrong", f"{format_si(rate, 'B/s')} is eight times a lane of {name}: bits for bytes"
        elif whole is not None:
            yield path, "wrong", f"{format_si(rate, 'B/s')} is sixteen lanes of {name}; expected one"
        elif link.kind == "pcie":
            yield path, "doubt", f"{format_si(rate, 'B/s')} is a lane of no generation of {name}"
    elif link.kind == "network" and rate > NETWORK_MOST * (1 + NEAR):
        yield (
            path,
            "doubt",
            f"{format_si(rate, 'B/s')} is above any port of today ({format_si(NETWORK_MOST, 'B/s')}): bits for bytes?",
        )


def show(found: Linted, style: str, out: IO[str]) -> None:
    """Print what was found as a table or as JSON."""
    if style == "json":
        print_json({"files": found.files, "doubts": [vars(one) for one in found.doubts]}, out)
        return
    if style == "csv":
        print_csv([vars(one) for one in found.doubts], out)
        return
    if found.doubts:
        rows = [
            (f"{one.file}:{one.line}" if one.line else one.file, one.key, one.level, one.reason) for one in found.doubts
        ]
        grid("What looks wrong", ("file", "key", "level", "reason"), rows, out)
    print_notes([f"{found.files} files, {len(found.doubts)} doubts."], out)
