"""The table that nccl-tests prints, predicted; and a real log of nccl-tests against it, row by row.

https://github.com/NVIDIA/nccl-tests: sizes in bytes, times in us, bandwidths in GB/s (1e9); `count` is the number
of elements of the argument of the call, so a rank's part for all-gather, reduce-scatter and all-to-all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from simgpu.catalog import Catalogue
from simgpu.columns import following_ends
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.lab.nccl_logs import DTYPES, Log, Measured, check_kind, read_log
from simgpu.model.operators import BYTES
from simgpu.settings import hardware_overrides
from simgpu.terminal import plain
from simgpu.timing.collectives.traffic import KINDS, REDUCING, ROOTED, bus_factor, kind_of

if TYPE_CHECKING:
    from simgpu.timing.parts import Array

_NAMES = {"fp32": "float", "fp16": "half", "bf16": "bfloat16", "int8": "int8", "fp64": "double", "fp8": "f8e4m3"}
_WORDS = {
    "ring": "Ring",
    "tree": "Tree",
    "nvls": "NVLS",
    "collnet": "CollNet",
    "direct": "P2P",
    "tcp": "TCP",
    "ll": "LL",
    "ll128": "LL128",
}


MAX_SIZES = 10_000
"""Rows of a table."""


@dataclass(frozen=True)
class Row:
    """A predicted row. Times in s, rates in bytes/s. 80 % of measurements lie between P10 and P90."""

    size: int
    count: int
    dtype: str
    redop: str
    root: int
    time_s: float
    algbw: float
    busbw: float
    algorithm: str
    protocol: str
    channels: int
    time_s_p10: float
    time_s_p90: float
    algbw_p10: float
    algbw_p90: float
    busbw_p10: float
    busbw_p90: float
    note: str = ""  # where NCCL chooses what is not the fastest way

    def holds(self, seconds: float | None) -> bool | None:
        """True if a measured time lies in the interval; None without a time, or without an interval (ideal links)."""
        if seconds is None or self.time_s_p90 <= self.time_s_p10:
            return None
        return self.time_s_p10 <= seconds <= self.time_s_p90


@dataclass(frozen=True)
class Compared:
    """A measured row, its prediction, and the error predicted / measured - 1 of each column."""

    measured: Measured
    predicted: Row
    out_of_place: float
    in_place: float | None


# ---- predicting --------------------------------------------------------------------------------------------


def sizes(minbytes: str, maxbytes: str, factor: float) -> list[int]:
    """Sizes from one to the other ('8', '64K', '1M', '8G'), each `factor` times the one before, as nccl-tests steps."""
    least, most = _bytes(minbytes, "-b"), _bytes(maxbytes, "-e")
    if least > most:
        raise InputError(f"{minbytes} to {maxbytes} is not a range of sizes; expected -b at most -e", key="-e")
    if not 1 < factor < math.inf:
        raise InputError(f"{factor:g} does not grow; expected more than 1, and no infinity", key="-f")
    if math.log(most / least) > MAX_SIZES * math.log(factor):
        problem = f"{factor:.10g} makes more than {MAX_SIZES:,} sizes from {minbytes} to {maxbytes}"
        raise InputError(f"{problem}; expected larger steps", key="-f")
    listed, size = [], least
    while size <= most * (1 + 1e-12):
        listed.append(int(size))
        size *= factor
    return listed


def predict(
    cluster: Cluster,
    collective: str,
    gpus: int,
    wanted: Sequence[int],
    dtype: str = "float",
    algorithm: str = "auto",
    protocol: str = "auto",
    library: str = "nccl",
) -> list[Row]:
    """The table over `gpus` GPUs of a cluster: one row for each size, in whole elements as nccl-tests rounds."""
    from simgpu.timing.collectives import collective_notes, collective_time

    collective = _collective(collective)
    _check_gpus(gpus)
    known = _dtype(dtype)
    width = BYTES[known]
    parts = gpus if collective in ("all_gather", "reduce_scatter", "all_to_all") else 1
    counts = [int(size // (width * parts)) for size in wanted]
    whole = [int(count * width * parts) for count in counts]
    times = collective_time(cluster, collective, gpus, whole, known, algorithm, protocol, library)
    redop = "sum" if collective in REDUCING else "none"
    root = 0 if collective in ROOTED else -1
    low, high = interval(cluster, collective, times.seconds, protocol, library, gpus > cluster.gpus_per_node)
    numbers = (whole, counts, times.seconds, times.algbw, times.busbw, low, high)
    choices = (times.algorithm, times.protocol, times.channels)
    free = algorithm == protocol == "auto" and library == "nccl"
    notes = collective_notes(cluster, collective, gpus, whole, known) if free else [""] * len(whole)
    name = dtype if dtype in DTYPES else _NAMES[known]
    return [
        Row(
            size, count, name, redop, root, float(t), float(a), float(b), str(how), str(proto), int(channels),
            **_ends(float(t), float(a), float(b), float(lo), float(hi)), note=note,
        )
        for size, count, t, a, b, lo, hi, how, proto, channels, note in zip(*numbers, *choices, notes, strict=True)
    ]  # fmt: skip


def _ends(seconds: float, algbw: float, busbw: float, low: float, high: float) -> dict[str, Any]:
    """P10 and P90 of a time, by factors, and of the bandwidths that follow from it."""
    row = {"time_s": seconds, "time_s_p10": seconds * low, "time_s_p90": seconds * high}
    ends = {name: row[name] for name in ("time_s_p10", "time_s_p90")}
    return ends | following_ends(row | {"algbw": algbw, "busbw": busbw})


def interval(
    cluster: Cluster, collective: str, seconds: Array, protocol: str, library: str, far: bool
) -> tuple[Array, Array]:
    """Factors from predicted times to their P10 and P90, wider where the GPUs stand in several nodes.

    Ideal links have ones: they are what they are.
    """
    import numpy as np

    from simgpu.timing.collectives.between import measured_on
    from simgpu.timing.collectives.gloo import GLOO, SPREAD
    from simgpu.timing.uncertainty import spread

    if protocol == "ideal":
        return np.ones(seconds.shape), np.ones(seconds.shape)
    if library == GLOO:
        low, high = SPREAD
        return np.full(seconds.shape, low), np.full(seconds.shape, high)
    kernel = cluster.kernel
    regime, measured = kernel.regime("collective", library), f"{library} {measured_on(cluster)}" if far else library
    seen = kernel.by_user("collective", library)
    factors = spread(
        collective,
        seconds,
        architecture=kernel.architecture,
        regime=regime,
        library=measured,
        seen=seen,
        nodes=far,
    )
    return factors.low, factors.high


def _collective(name: str) -> str:
    """The collective of any spelling."""
    found = kind_of(name)
    if found is None:
        raise InputError(f"unknown '{name}'{nearest(name, KINDS)}", key="--collective")
    return found


def _check_gpus(gpus: int) -> None:
    if gpus < 2:
        raise InputError(f"{shown(gpus)} GPUs cannot communicate; expected 2 or more", key="gpus")


def _dtype(name: str) -> str:
    """The dtype of simgpu, by either name."""
    if name in _NAMES:
        return name
    if name not in DTYPES:
        raise InputError(f"unknown dtype '{name}'{nearest(name, {*DTYPES, *_NAMES})}", key="dtype")
    return DTYPES[name]


def print_table(rows: Sequence[Row], cluster: Cluster, gpus: int, collective: str, factor: float, out: IO[str]) -> None:
    """Print lines as nccl-tests does, with the choice of NCCL in place of the in-place columns."""
    from simgpu.render.layout import wrapped
    from simgpu.render.table import width_of

    width = width_of(out)
    program = {"all_to_all": "alltoall", "send_recv": "sendrecv"}.get(collective, collective)
    out.write(f"# Collective test starting: {program}_perf (predicted by simgpu)\n")
    least, most = (rows[i].size if rows else 0 for i in (0, -1))
    out.write(
        f"# nThread 1 nGpus {gpus} minBytes {least} maxBytes {most} step: {factor:g}(factor)\n#\n# Using devices\n"
    )
    per_node = cluster.gpus_per_node
    name, title = plain(cluster.name), plain(cluster.gpu.title)
    for rank in range(gpus):
        out.write(f"#  Rank {rank:2d} on {name} node {rank // per_node} device {rank % per_node:2d} {title}\n")
    out.write("#\n#" + " " * 62 + "out-of-place\n")
    heads = ["size", "count", "type", "redop", "root", "time", "algbw", "busbw", "algo", "proto", "channels"]
    units = ["(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)", "", "", ""]
    lines = [[*heads, "time p10", "time p90"], [*units, "(us)", "(us)"]]
    lines += [
        [str(row.size), str(row.count), row.dtype, row.redop, str(row.root), _us(row.time_s), f"{row.algbw / 1e9:.2f}",
         f"{row.busbw / 1e9:.2f}", _WORDS.get(row.algorithm, row.algorithm),
         _WORDS.get(row.protocol, row.protocol.capitalize()), str(row.channels), _us(row.time_s_p10),
         _us(row.time_s_p90)]
        for row in rows
    ]  # fmt: skip
    shown, widths = _columns(lines, width)
    for n, words in enumerate(lines):
        line = "  ".join(f"{words[i]:>{width}}" for i, width in zip(shown, widths, strict=True))
        out.write((("#" + line[1:]) if n < 2 else line).rstrip() + "\n")
    if len(shown) < len(heads) + 2:
        out.write(
            f"# without {', '.join(lines[0][i] for i in _LEAST if i not in shown)}: --format json has all columns\n"
        )
    if rows:
        out.write(f"# Avg bus bandwidth    : {sum(row.busbw for row in rows) / len(rows) / 1e9:.4f}\n#\n")
    noted = [row for row in rows if row.note]
    notes = [f"{row.size} B: {row.note}" for row in noted[:3]]
    if len(noted) > 3:
        notes.append(f"... and the same at {len(noted) - 3} other sizes (--format json names them)")
    for note in notes:
        for line in wrapped(note, width - 2) if width else [note]:
            out.write(f"# {line}\n")


_WIDTHS = (12, 12, 8, 6, 6, 9, 7, 7, 7, 7, 9, 9, 9)
"""Widths of the columns, as nccl-tests sets them."""
_LEAST = (4, 3, 1, 2)
"""Columns that a narrow terminal goes without: root, redop, count, type."""


def _columns(lines: Sequence[Sequence[str]], width: int | None) -> tuple[list[int], list[int]]:
    """Columns that a terminal of `width` has room for, and the width of each."""
    shown = list(range(len(_WIDTHS)))
    if width is None or sum(_WIDTHS) + 2 * (len(_WIDTHS) - 1) <= width:
        return shown, list(_WIDTHS)
    tight = [max(len(line[i]) for line in lines) for i in shown]
    tight[0] += 1  # the mark of a comment
    for gone in _LEAST:
        if sum(tight[i] for i in shown) + 2 * (len(shown) - 1) <= width:
            break
        shown.remove(gone)
    return shown, [tight[i] for i in shown]


def _us(seconds: float) -> str:
    """Microseconds in seven characters or so, as nccl-tests shortens them."""
    us = seconds * 1e6
    return f"{us:.2f}" if us < 1e4 else f"{us:.1f}" if us < 1e6 else f"{us:.0f}"


# ---- comparing ---------------------------------------------------------------------------------------------


def compare(
    log: Log,
    cluster: Cluster,
    collective: str,
    gpus: int,
    algorithm: str = "auto",
    protocol: str = "auto",
    library: str = "nccl",
) -> list[Compared]:
    """Each row of a log with its prediction."""
    collective = _collective(collective)
    _check_gpus(gpus)
    check_kind(log, collective, gpus)
    rows = [row for row in log.rows if row.size]
    guesses: dict[tuple[str, int], Row] = {}
    for dtype in dict.fromkeys(row.dtype for row in rows):
        wanted = list(dict.fromkeys(row.size for row in rows if row.dtype == dtype))
        predicted = predict(cluster, collective, gpus, wanted, dtype, algorithm, protocol, library)
        guesses |= {(dtype, size): guess for size, guess in zip(wanted, predicted, strict=True)}
    compared: list[Compared] = []
    for row in rows:
        guess = guesses[row.dtype, row.size]
        inside = guess.time_s / row.in_place - 1 if row.in_place is not None else None
        compared.append(Compared(row, guess, guess.time_s / row.out_of_place - 1, inside))
    return compared


def summary(rows: Sequence[Compared]) -> dict[str, dict[str, float]]:
    """Median, mean and P90 of |error|, the mean error and how many lie in the interval, out-of-place and in-place."""
    import numpy as np

    scores = {}
    for what in ("out_of_place", "in_place"):
        errors = np.asarray([error for row in rows if (error := getattr(row, what)) is not None])
        if errors.size:
            size = np.abs(errors)
            scores[what] = {
                "rows": int(errors.size),
                "median_ape": float(np.median(size)),
                "mape": float(size.mean()),
                "p90_ape": float(np.percentile(size, 90)),
                "bias": float(errors.mean()),
                **_inside(rows, what),
            }
    return scores


def _inside(rows: Sequence[Compared], what: str) -> dict[str, int]:
    """The number of measured times in the interval of their prediction, where there is one."""
    known = [held for row in rows if (held := row.predicted.holds(getattr(row.measured, what))) is not None]
    return {"in_interval": sum(known)} if known else {}


def print_comparison(rows: Sequence[Compared], n: int, collective: str, out: IO[str]) -> None:
    """Measured and predicted times and bus bandwidths, row by row, with the error of each."""
    factor = bus_factor(collective, n)
    out.write("#       size      type     measured    predicted    error   in-place    error   busbw measured")
    out.write(
        "   predicted     algo    proto        p10        p90  inside\n#        (B)                   (us)         (us)"
    )
    out.write("                (us)                     (GB/s)      (GB/s)                       (us)       (us)\n")
    for row in rows:
        measured, guess = row.measured, row.predicted
        inside = f"{_us(measured.in_place):>9}  {row.in_place:>+7.1%}" if row.in_place is not None and (
            measured.in_place is not None) else f"{'':>9}  {'':>7}"  # fmt: skip
        busbw = measured.size / measured.out_of_place * factor / 1e9
        out.write(
            f"{measured.size:>12}  {measured.dtype:>8}  {_us(measured.out_of_place):>11}  {_us(guess.time_s):>11}"
        )
        out.write(f"  {row.out_of_place:>+7.1%}  {inside}  {busbw:>14.2f}  {guess.busbw / 1e9:>10.2f}")
        out.write(f"  {_WORDS.get(guess.algorithm, guess.algorithm):>7}")
        out.write(f"  {_WORDS.get(guess.protocol, guess.protocol.capitalize()):>7}")
        held = {True: "yes", False: "no", None: ""}[guess.holds(measured.out_of_place)]
        out.write(f"  {_us(guess.time_s_p10):>9}  {_us(guess.time_s_p90):>9}  {held:>6}".rstrip() + "\n")
    for what, figures in summary(rows).items():
        out.write(f"# {what.replace('_', '-')}: {figures['rows']:.0f} rows, |error| median {figures['median_ape']:.1%}")
        out.write(f", mean {figures['mape']:.1%}, P90 {figures['p90_ape']:.1%}, bias {figures['bias']:+.1%}")
        if "in_interval" in figures:
            out.write(f"; {figures['in_interval']} of {figures['rows']:.0f} measured in the 80 % interval")
        out.write("\n")


def document(rows: Sequence[Row] | Sequence[Compared]) -> dict[str, Any]:
    """The rows for machines: seconds and bytes/s."""
    compared = [row for row in rows if isinstance(row, Compared)]
    if not compared:
        return {"rows": [asdict(row) for row in rows]}
    return {"rows": list(_flat(compared)), "summary": summary(compared)}


def _flat(rows: Sequence[Compared]) -> Iterator[dict[str, Any]]:
    for row in rows:
        measured = {"line": row.measured.line, "out_of_place_s": row.measured.out_of_place}
        errors = {"out_of_place_error": row.out_of_place, "in_place_error": row.in_place}
        held = {
            "out_of_place_in_interval": row.predicted.holds(row.measured.out_of_place),
            "in_place_in_interval": row.predicted.holds(row.measured.in_place),
        }
        yield {**asdict(row.predicted), **measured, "in_place_s": row.measured.in_place, **errors, **held}


# ---- the command -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NcclTestsOptions:
    """Options of `simgpu nccl-tests`."""

    collective: str = "all_reduce"
    gpus: int | None = None
    minbytes: str = "8"
    maxbytes: str = "8G"
    stepfactor: float = 2.0
    dtype: str = "float"
    algorithm: str = "auto"
    protocol: str = "auto"
    library: str = "nccl"
    log: Path | None = None


def run(
    catalogue: Catalogue, name: str, settings: Sequence[str], options: NcclTestsOptions, style: str, out: IO[str]
) -> None:
    """Print the table of a cluster, or a log against it."""
    collective = _collective(options.collective)
    if not (catalogue.find("clusters", name) or catalogue.find("nodes", name) or name in catalogue.instances):
        known = catalogue.names("clusters") + catalogue.names("nodes")
        where = "simgpu list clusters and simgpu list nodes name them"
        hint = catalogue.elsewhere(name) or nearest(name, known, where=where)
        raise InputError(f"unknown cluster or node '{name}'{hint}")
    cluster = catalogue.cluster(name, hardware_overrides(settings))
    log = read_log(options.log) if options.log else None
    gpus = options.gpus
    if gpus is None:
        gpus = log.ranks if log and log.ranks else cluster.usual_ranks
    how = options.algorithm, options.protocol, options.library
    if log is not None:
        compared = compare(log, cluster, collective, gpus, *how)
        if style != "table":
            _print_data(document(compared), style, out)
        else:
            print_comparison(compared, gpus, collective, out)
        return
    wanted = sizes(options.minbytes, options.maxbytes, options.stepfactor)
    rows = predict(cluster, collective, gpus, wanted, options.dtype, *how)
    if style != "table":
        _print_data(document(rows), style, out)
    else:
        print_table(rows, cluster, gpus, collective, options.stepfactor, out)


def _print_data(document: Mapping[str, Any], style: str, out: IO[str]) -> None:
    """The rows for machines, as JSON or CSV."""
    from simgpu.render.data import print_csv, print_json

    if style == "json":
        print_json(document, out)
    else:
        print_csv(document["rows"], out)


def _bytes(text: str, key: str) -> float:
    """A size as nccl-tests takes it: 8, 64K, 1M, 8G, in powers of 1024."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        size = float(number) * 1024 ** ("", "K", "M", "G", "T").index(unit)
    except ValueError:
        raise InputError(f"{shown(text)} is not a size; expected one such as 8, 64K, 1M or 8G", key=key) from None
    if not 1 <= size < 1e18:
        raise InputError(f"{shown(text)} is out of range; expected 1 byte or more, such as 8, 64K, 1M or 8G", key=key)
    return float(size)
