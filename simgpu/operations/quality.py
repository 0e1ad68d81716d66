"""What narrower weights keep of a model's quality: figures that others published, from files of `hardware/quality/`.

Nothing is predicted here. Of a precision the figures of the model itself are taken, or of models that are near in size,
and of those the lowest; without any a row says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simgpu.catalog import Catalogue
from simgpu.errors import nearest, shown
from simgpu.model.config import TransformerConfig
from simgpu.operations.prices import Date
from simgpu.plan.precision import PRECISIONS
from simgpu.schema_errors import validate

COLUMN = "quality_kept"
"""The column of what is kept; `min_quality` is a limit of it."""

LIMIT = "min_quality"

WIDE = ("fp32", "tf32", "fp16", "bf16")
"""Precisions that nothing is lost in: models are published in them."""

MADE_FOR = ("fp8-block", "mxfp4")
"""Precisions that models are trained in: of a checkpoint that is published in one of them nothing is lost."""

NEAR = 2.0
"""Models up to this much larger or smaller are near in size."""

NONE = "no published figure"
"""What stands for the quality of a precision that nobody has measured, as far as the files know."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Published(_Strict):
    """What somebody measured of a model in 16 bits (`wide`) and in a narrower precision (`narrow`).

    parameters
        Of the model, in units of 1e9.
    measure
        score (of tests, more is better) or perplexity (less is better).
    """

    precision: str
    method: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]
    parameters: Positive
    measure: Literal["score", "perplexity"]
    wide: Positive
    narrow: Positive
    date: Date
    source: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {shown(self.precision)} is not known{nearest(self.precision, PRECISIONS)}")
        return self

    @property
    def kept(self) -> float:
        """What is kept: the score over that in 16 bits; of perplexities their ratio the other way round.

        The latter is the geometric mean of the probability that the right token is given, over that in 16 bits.
        """
        return self.narrow / self.wide if self.measure == "score" else self.wide / self.narrow


class QualityFile(_Strict):
    """A file of figures, and the sources that they name."""

    name: str
    title: str
    sources: dict[str, Annotated[str, Field(min_length=1)]]
    figures: Annotated[list[Published], Field(min_length=1)]

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        for one in self.figures:
            if one.source not in self.sources:
                raise ValueError(
                    f"{shown(one.source)} is not one of the file's sources{nearest(one.source, self.sources)}"
                )
        return self


@dataclass(frozen=True)
class Kept:
    """What a precision keeps (None: nobody has published it), and whose figure that is."""

    share: float | None
    words: str


def quality_of(precision: str, model: str, parameters: float, own: bool, catalogue: Catalogue) -> Kept:
    """What a precision keeps of the quality of a model.

    Figures of the model itself come first, then those of models near in size, then those of the nearest; scores come
    before perplexities, and of several the lowest counts. `own` says that the checkpoint is published in it.
    """
    if precision in WIDE:
        return Kept(1.0, "16 bits or more")
    if own and precision in MADE_FOR:
        return Kept(1.0, "the checkpoint's own precision")
    known = [pair for pair in figures(catalogue) if pair[0].precision == _plain(precision)]
    scores = [pair for pair in known if pair[0].measure == "score"]
    same = [pair for pair in known if pair[0].model == model]
    chosen = [pair for pair in scores if pair[0].model == model] or same or _near(scores or known, parameters)
    if not chosen:
        return Kept(None, NONE)
    least, source = min(chosen, key=lambda pair: pair[0].kept)
    among = f", lowest of {len(chosen)}" if len(chosen) > 1 else ""
    measured = "score" if least.measure == "score" else "perplexity"
    return Kept(least.kept, f"{measured} of {least.model}, {least.method}, {least.date}{among}: {source}")


def quality_columns(row: Mapping[str, Any], model: TransformerConfig, catalogue: Catalogue) -> dict[str, Any]:
    """Columns of the quality that the weights of a served model keep; none of a job without a precision."""
    precision = str(row.get("precision", "")).partition(" ")[0].rstrip(",")
    if precision not in PRECISIONS and not precision.startswith("int4-g"):
        return {}
    kept = quality_of(precision, str(row["model"]), model.parameters, model.published == precision, catalogue)
    return {COLUMN: kept.share, "quality_used": kept.words} if kept.share is not None else {"quality_used": kept.words}


def quality_notes(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Notes on a ranking, best first, in which precisions differ: what the first gives up, and whose figures these are.

    A first row whose weights are narrower than those of another wins by answering differently.
    """
    found = [row for row in rows if row.get("quality_used")]
    if len({row["precision"] for row in found}) < 2 or "quality_used" not in rows[0]:
        return []
    first, kept = rows[0], rows[0].get(COLUMN)
    wider = next((row for row in found[1:] if (row.get(COLUMN) or 0.0) > (kept or 0.0)), None)
    notes = []
    if wider is not None:
        said = f"keeps {kept:.1%} of the quality in 16 bits" if kept is not None else f"is of unknown quality: {NONE}"
        notes.append(f"Quality differs: {names[0]} is first, but {first['precision']} {said}.")
    used = dict.fromkeys((row["precision"], row["quality_used"]) for row in found if row["precision"] not in WIDE)
    return notes + [f"Quality of {precision}: {words}." for precision, words in used]


def listing(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Precisions that have figures, and from where to where these reach."""
    found = []
    for precision in dict.fromkeys(one.precision for one, _ in figures(catalogue)):
        words = []
        for measure in ("score", "perplexity"):
            some = [one for one, _ in figures(catalogue) if (one.precision, one.measure) == (precision, measure)]
            if some:
                least, most = (end(one.kept for one in some) for end in (min, max))
                words.append(f"{measure} {least:.1%} to {most:.1%} ({len(some)} figures)")
        found.append((precision, "; ".join(words)))
    return found


def figures(catalogue: Catalogue) -> Sequence[tuple[Published, str]]:
    """Every figure of the catalogue, with its source in words. Raises `InputError` with file and line."""
    if catalogue not in _READ:
        _READ[catalogue] = [pair for name in catalogue.names("quality") for pair in _read(catalogue, name)]
    return _READ[catalogue]


def _read(catalogue: Catalogue, name: str) -> list[tuple[Published, str]]:
    file = catalogue.find("quality", name)
    assert isinstance(file, Path)
    document = catalogue.document(file)
    made = validate(QualityFile, document.data, lambda path, problem: document.error(problem, path))
    return [(one, made.sources[one.source]) for one in made.figures]


def _plain(precision: str) -> str:
    """The precision whose figures hold: groups of 128, symmetric or not, are those of AWQ and GPTQ."""
    return "int4" if precision.removesuffix("-sym") == "int4-g128" else precision


def _near(known: Sequence[tuple[Published, str]], parameters: float) -> list[tuple[Published, str]]:
    """The figures of models near in size; without any, those of the nearest."""

    def far(pair: tuple[Published, str]) -> float:
        return abs(log(pair[0].parameters * 1e9 / max(parameters, 1.0)))

    within = max(log(NEAR), min(map(far, known), default=0.0))
    return [pair for pair in known if far(pair) <= within + 1e-9]


_READ: WeakKeyDictionary[Catalogue, list[tuple[Published, str]]] = WeakKeyDictionary()
"""The figures that a catalogue has read."""
