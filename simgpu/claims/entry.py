"""Files of claims: what they may say, and the records that their rows come to.

An entry is a table as it was printed. A column is a quantity (`tokens_per_s`), a word (`gpu`, `model`), a GPU (its
cells are the quantity that the row or the table names), or a mapping: a quantity of a subject
(`{is: tokens_per_s, gpu: l4}`), a ratio of two columns, or a winner. Cells of one row that share a subject are one
record, within which equations hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from simgpu.claims.printed import Printed
from simgpu.claims.quantities import UNITS, Quantity
from simgpu.documents import Document
from simgpu.errors import InputError
from simgpu.plan.precision import PRECISIONS

Kind = Literal[
    "spec", "derived_spec", "kernel", "collective", "tp_scaling", "memory", "decode", "serving", "training",
    "finetune_capacity", "image", "cost", "power", "reliability", "mig", "capacity_planning", "decision",
]  # fmt: skip
LABELS = ("label", "configuration", "workload", "task", "case", "use", "metric", "note")
"""Words of a row that name it and mean nothing else."""
WORDS = (
    "gpu", "cluster", "model", "precision", "runtime", "framework", "method", "profile", "offload", "interconnect",
    "convention",
)  # fmt: skip
"""Words that say what a row is about; each may be a list of what the source allows."""
METHODS = ("full", "lora", "qlora", "pretraining", "inference")
KNOWN_PRECISIONS = ("fp32", "fp16", "bf16", *PRECISIONS)


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Cited(_Fields):
    """A measurement that others published, for cells of a quantity whose subject agrees with `where`."""

    quantity: str
    value: Any
    source: str = Field(min_length=8)
    where: dict[str, Any] = {}


class Rule(_Fields):
    """A rule of a decision: where the condition holds, choose that GPU ('neither' for none)."""

    when: str
    choose: list[str] | str


class EntryFields(_Fields):
    """What an entry may say."""

    id: str = Field(min_length=1, max_length=80)
    kind: Kind
    source: str | dict[str, str]
    title: str = ""
    claim: str = ""
    comment: str = ""
    convention: dict[str, str] = {}
    inputs: dict[str, Any] = {}
    quantity: str | None = None
    columns: list[str | dict[str, Any]] = []
    rows: list[list[Any] | dict[str, Any]] = []
    values: dict[str, Any] = {}
    cited: list[Cited] = []
    grid: dict[str, list[Any]] = {}
    rules: list[Rule] = []


@dataclass(frozen=True)
class Cell:
    """One printed figure: its quantity, the figure in SI, what it is of, and where it stands."""

    quantity: Quantity
    figure: Printed
    column: str
    path: tuple[Any, ...]
    scale: float

    @property
    def unit(self) -> str:
        """The unit of its column, as `UNITS` names it."""
        units = UNITS[self.quantity.dimension]
        return next((unit for unit, factor in units.items() if factor == self.scale), self.quantity.unit)


@dataclass(frozen=True)
class Record:
    """Cells of one row about one subject. `shared` are those of the row that every subject of it can use."""

    row: int
    label: str
    words: Mapping[str, tuple[str, ...]]
    inputs: Mapping[str, tuple[Printed, ...]]  # conditions, with every value that the words allow
    cells: Mapping[str, Cell]
    shared: Mapping[str, Cell] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """What the cells are of, for people."""
        count = self.known("gpus")
        several = f"{count.text} x " if count is not None and count.value > 1 else ""
        place = self.words.get("gpu", ()) or self.words.get("cluster", ())
        parts = [several + " or ".join(place[:2])] if place else []
        parts += [] if self.label else list(self.words.get("model", ())[:1])
        return ", ".join(parts)

    def word(self, key: str) -> str | None:
        """The word if the source leaves one only."""
        options = self.words.get(key, ())
        return options[0] if len(options) == 1 else None

    def known(self, name: str) -> Printed | None:
        """The figure of a quantity that the row gives, a condition with one value among them."""
        cell = self.cells.get(name) or self.shared.get(name)
        if cell is not None:
            return cell.figure
        options = self.inputs.get(name, ())
        return options[0] if len(options) == 1 else None


@dataclass(frozen=True)
class Compared:
    """A cell that compares two columns of its row: a ratio, or a winner with the factor by which it wins."""

    row: int
    label: str
    quantity: str | None  # SI name; None: the quantity that both columns have
    first: str
    second: str
    figure: Printed | None
    winner: str | None
    better: str
    path: tuple[Any, ...]


@dataclass(frozen=True)
class Entry:
    """A claim as it was read."""

    fields: EntryFields
    document: Document
    path: tuple[Any, ...]
    records: Sequence[Record]
    compared: Sequence[Compared]

    @property
    def source(self) -> str:
        """Where the claim was published, in one line."""
        given = self.fields.source
        return given if isinstance(given, str) else ", ".join(given.values())

    def error(self, problem: str, path: tuple[Any, ...] = ()) -> InputError:
        """An error at a path of the entry."""
        return self.document.error(problem, (*self.path, *path))


def subjects(records: Sequence[Record], row: int, name: str) -> Iterator[Record]:
    """Records of a row about a GPU, cluster or other subject of that name."""
    for record in records:
        if record.row == row and any(name in options for options in record.words.values()):
            yield record


def narrowed(record: Record, **words: str) -> Record:
    """A record with words fixed to one option each."""
    return replace(record, words={**record.words, **{key: (value,) for key, value in words.items()}})
