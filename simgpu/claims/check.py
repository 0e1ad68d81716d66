"""Check claims: every entry of files and folders, or one that a program or a command line holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.claims.bench import Bench
from simgpu.claims.case import Case
from simgpu.claims.conclusions import compared
from simgpu.claims.decisions import decided
from simgpu.claims.entry import Cell, Entry, Record
from simgpu.claims.finding import REPRODUCED, VERDICTS, Checked
from simgpu.claims.judge import judged
from simgpu.claims.reading import entry_of, files_of, read_entries
from simgpu.claims.relations import RELATIONS
from simgpu.documents import Document
from simgpu.tabular import Tabular


@dataclass(frozen=True, repr=False)
class Claims(Tabular):
    """Checked entries; `.rows` has one for each cell."""

    entries: Sequence[Checked]

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        """A flat row for each cell: claimed, computed, simulated, measured in SI, verdict, reason."""
        return [finding.row_of_table for entry in self.entries for finding in entry.findings]

    @property
    def survivals(self) -> Sequence[dict[str, Any]]:
        """A row for each conclusion: the order as printed, corrected, simulated, with probabilities."""
        return [one.row_of_table for entry in self.entries for one in entry.survivals]

    @property
    def rules(self) -> Sequence[dict[str, Any]]:
        """A row for each decision rule."""
        return [one.row_of_table for entry in self.entries for one in entry.rules]

    @property
    def counts(self) -> Mapping[str, int]:
        """Entries by verdict, worst first."""
        found = [one.verdict for one in self.entries]
        return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}


def check(given: Sequence[str | Path], catalogue: Catalogue, told: Callable[[int, int], None] | None = None) -> Claims:
    """Check the entries of files and of folders of files. Raises `InputError` at the place of what cannot be read."""
    bench = Bench(catalogue)
    files = [file for one in given for file in files_of(Path(one))]
    entries = [entry for file in files for entry in read_entries(file, bench.catalogue)]
    done = []
    for number, entry in enumerate(entries, 1):
        done.append(checked(bench, entry))
        if told is not None:
            told(number, len(entries))
    return Claims(done)


def check_entry(data: Mapping[str, Any], bench: Bench) -> Checked:
    """Check an entry that a program holds, as a mapping with the keys of a file. Raises `InputError`."""
    return checked(bench, entry_of(data, Document("<claim>", data, {}), bench.catalogue))


def checked(bench: Bench, entry: Entry) -> Checked:
    """Every cell, conclusion and rule of an entry."""
    findings = [judged(case) for case in _cases(bench, entry)]
    survivals = []
    for one in entry.compared:
        finding, survival = compared(bench, entry, one)
        if one.winner is not None or finding is None or finding.verdict != REPRODUCED or survival.simulated:
            survivals.append(survival)
        if finding is not None:
            findings.append(finding)
    findings.sort(key=lambda one: [(0, part) if isinstance(part, int) else (1, 0) for part in one.path])
    fields = entry.fields
    return Checked(
        fields.id, fields.kind, fields.title or fields.claim, entry.source, findings, survivals, decided(bench, entry),
        fields.comment,
    )  # fmt: skip


def _cases(bench: Bench, entry: Entry) -> Iterator[Case]:
    for record in entry.records:
        for cell in record.cells.values():
            if cell.quantity.role != "input" and not _is_condition(entry, record, cell):
                yield Case(bench, entry, record, cell, _beside(entry, record, cell))


def _is_condition(entry: Entry, record: Record, cell: Cell) -> bool:
    """True for a price that another figure of its row is computed from: that figure is the claim."""
    if cell.quantity.role != "price" or entry.fields.kind == "spec":
        return False
    others = {name for one in entry.records if one.row == record.row for name in one.cells}
    return any(relation.target in others and cell.quantity.name in relation.inputs for relation in RELATIONS.values())


def _beside(entry: Entry, record: Record, cell: Cell) -> list[tuple[Record, Cell]]:
    """Cells of the same quantity in the same row."""
    found = []
    for one in entry.records:
        other = one.cells.get(cell.quantity.name)
        if one.row == record.row and other is not None:
            found.append((one, other))
    return found
