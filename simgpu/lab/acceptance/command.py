"""`simgpu accept CLUSTER --log FILE ...`: what a new cluster measured against what it should do."""

from __future__ import annotations

import datetime
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.acceptance.checks import BELOW, COUNTED, ODD, OK, Check, apart, blamed, judged
from simgpu.lab.acceptance.logs import Asked, checks_of, warnings
from simgpu.settings import hardware_overrides
from simgpu.units import format_si
from simgpu.version import __version__

SHOWN = 24
"""Most lines of a table; what is below comes first, links that are alike stand together."""


@dataclass(frozen=True)
class Acceptance:
    """The checks of a cluster, and what is below in words."""

    cluster: Cluster
    checks: tuple[Check, ...]
    findings: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def below(self) -> bool:
        """True if something is below what it should be."""
        return any(one.below for one in self.checks)

    @property
    def verdict(self) -> str:
        """The answer in one line."""
        wrong = sum(one.below for one in self.checks)
        if not wrong:
            return f"all {len(self.checks):,} checks are as they should be"
        return f"{wrong:,} of {len(self.checks):,} checks are below what they should be"


def accept(name: str, logs: Sequence[Path], settings: Sequence[str], asked: Asked, catalogue: Catalogue) -> Acceptance:
    """Hold logs against a cluster. Raises `InputError` for a log that cannot be read or is of another machine."""
    cluster = catalogue.cluster(name, hardware_overrides(settings))
    if not logs:
        raise InputError("no log is given; expected --log FILE", key="--log")
    checks = judged(apart(check for log in logs for check in checks_of(log, cluster, asked, catalogue)))
    odd = tuple(warning for log in logs for warning in warnings(log))
    return Acceptance(cluster, tuple(checks), tuple(blamed(checks)), odd)


def lines(done: Acceptance) -> list[dict[str, str]]:
    """A line for each check that is below, one for the pairs of a GPU that are, and one for those that are alike."""
    below: dict[tuple[str, str, str], list[Check]] = {}
    for one in sorted((one for one in done.checks if one.below), key=lambda one: one.speed):
        below.setdefault((one.file, one.test, one.status), []).append(one)
    rows = [row for group in below.values() for row in _of_one_device(group)]
    good: dict[tuple[str, str, str], list[Check]] = {}
    for one in done.checks:
        if not one.below:
            good.setdefault((one.file, one.test, f"{one.predicted or 0:.6g}"), []).append(one)
    return rows + [_line(group[0]) if len(group) == 1 else _together(group) for group in good.values()]


def _of_one_device(group: Sequence[Check]) -> list[dict[str, str]]:
    """Lines of checks that are below: one where all of them are pairs of one device."""
    shared = set(group[0].devices).intersection(*(one.devices for one in group))
    if len(group) < 3 or len(shared) != 1 or len(group[0].devices) != 2:
        return [_line(one) for one in group]
    where = f"{len(group)} pairs of {shared.pop()}"
    return [{**_together(group), "where": where, "verdict": group[0].status}]


def _line(one: Check) -> dict[str, str]:
    between = f"{format_si(one.p10, one.unit)} to {format_si(one.p90, one.unit)}" if one.predicted and one.p90 else ""
    return {
        "log": Path(one.file).name, "test": one.test, "where": one.place,
        "measured": _value(one.measured, one.unit),
        "predicted": format_si(one.predicted, one.unit) if one.predicted else "", "80 % interval": between,
        "of it": f"{100 * one.speed:.0f} %" if one.predicted or one.usual else "", "verdict": one.status,
    }  # fmt: skip


def _value(measured: float, unit: str) -> str:
    return f"{measured:g} {unit if measured != 1 else unit[:-1]}" if unit in COUNTED else format_si(measured, unit)


def _together(group: Sequence[Check]) -> dict[str, str]:
    """One line of several checks with one prediction."""
    least, most = min(one.measured for one in group), max(one.measured for one in group)
    unit = group[0].unit
    spread = _value(least, unit) if least == most else f"{_value(least, unit)} to {_value(most, unit)}"
    worst = min(group, key=lambda one: one.speed)
    return {**_line(worst), "where": f"{len(group)} {_kind(group[0])}", "measured": spread, "verdict": OK}


def _kind(one: Check) -> str:
    return "pairs" if len(one.devices) == 2 else "GPUs" if "GPU" in one.place else "places"


def show(done: Acceptance, style: str, out: IO[str]) -> None:
    """Print the checks, and what is below in words."""
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.table import print_table

    if style == "json":
        print_json(document(done), out)
    elif style == "csv":
        print_csv([one.row() for one in done.checks], out)
    else:
        rows = lines(done)
        notes = [*done.findings[:SHOWN], *done.warnings, done.verdict]
        if len(rows) > SHOWN:
            notes.insert(0, f"{len(rows) - SHOWN} more lines: --format csv has all of them")
        print_table(rows[:SHOWN], tuple(rows[0]), f"{done.cluster.name}: {done.cluster.gpu.title}", notes, out)


def document(done: Acceptance) -> dict[str, Any]:
    """The answer for programs."""
    return {
        "cluster": done.cluster.name, "below": done.below, "verdict": done.verdict, "findings": list(done.findings),
        "warnings": list(done.warnings),
        "checks": [one.row() for one in done.checks],
    }  # fmt: skip


# ---- the page --------------------------------------------------------------------------------------------


def check_page(file: Path) -> None:
    """Raise `InputError` for a page that is neither Markdown nor HTML by its name."""
    if file.suffix not in (".md", ".html"):
        raise InputError("expected a page named .md or .html", file=file)


def write_page(done: Acceptance, file: Path) -> None:
    """Write a page to send to whoever built the cluster."""
    from simgpu.render.files import written_whole

    check_page(file)
    text = _markdown(done) if file.suffix == ".md" else _html(done)
    with written_whole(file) as stream:
        stream.write(text)


def _heading(done: Acceptance) -> str:
    nodes = int(done.cluster.spec.nodes.si)
    what = f"{nodes} x {done.cluster.node.title}" if nodes > 1 else done.cluster.node.title
    return f"Acceptance of {what}"


def _explained(done: Acceptance) -> str:
    day = datetime.date.today().isoformat()
    return (
        f"Measured on the machine, predicted by simgpu {__version__} for '{done.cluster.name}', {day}. 80 % of machines"
        f" in order lie within the interval. '{BELOW}' is beyond its slow end; '{ODD}' is far behind what is alike on"
        " the same machine."
    )


def _markdown(done: Acceptance) -> str:
    rows = lines(done)
    names = list(rows[0])
    body = "\n".join("| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows)
    findings = "\n".join(f"- {one}" for one in done.findings) or "- nothing is below"
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    return (
        f"# {_heading(done)}\n\n**{done.verdict}**\n\n{findings}\n\n## Checks\n\n{head}\n{body}\n\n{_explained(done)}\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _html(done: Acceptance) -> str:
    rows = lines(done)
    names = list(rows[0])
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "\n".join(
        f"<tr{'' if row['verdict'] == OK else ' class=below'}>"
        + "".join(f"<td>{html.escape(row[name])}</td>" for name in names) + "</tr>" for row in rows
    )  # fmt: skip
    findings = "\n".join(f"<li>{html.escape(one)}</li>" for one in done.findings) or "<li>nothing is below</li>"
    look = ("body{font:15px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
            "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left}.below{background:#fde8e4}")  # fmt: skip
    heading, verdict, explained = (html.escape(text) for text in (_heading(done), done.verdict, _explained(done)))
    return (
        f"<!doctype html>\n<meta charset=utf-8>\n<title>{heading}</title>\n<style>{look}</style>\n<h1>{heading}</h1>\n"
        f"<p><b>{verdict}</b></p>\n<ul>\n{findings}\n</ul>\n<table>\n<tr>{head}</tr>\n{body}\n</table>\n"
        f"<p>{explained}</p>\n"
    )
