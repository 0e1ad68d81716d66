"""Tokens/s of a GPU, TFLOP/s and MFU, from one to the others, under each published way of counting FLOPs.

With N parameters, E of them in the table of tokens, L layers whose heads are H x Q wide, and T tokens of a sequence, a
token of training costs 6 FLOPs a parameter (2 forward, 4 backward) and 12 L H Q T in attention if its masked half is
counted, half of that if not. Conventions differ in what they count; `CONVENTIONS` names each with its source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.claims.bounds import peak_of
from simgpu.claims.entry import KNOWN_PRECISIONS
from simgpu.claims.evidence import CONSTANTS, meets
from simgpu.claims.printed import Printed, printed
from simgpu.claims.quantities import TABLE, quantity_of
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.spec import GPUSpec
from simgpu.model.config import TransformerConfig
from simgpu.render.data import print_csv, print_json
from simgpu.render.table import grid, print_notes

GIVEN = ("tokens_per_s_per_gpu", "achieved", "mfu")
"""Quantities that can be given."""


@dataclass(frozen=True)
class Shape:
    """What the conventions count: parameters of a token, those of the table, of the head, attention."""

    parameters: float
    table: float
    head: float
    attention: float  # 12 L H Q T
    tied: bool = False  # the head has the weights of the table

    @classmethod
    def of(cls, model: TransformerConfig, seq: int) -> Shape:
        """The shape of a model at a sequence length; experts that a token does not meet are not counted."""
        table = float(model.vocab * (model.embedding_width or model.hidden))
        head = float(model.vocab * model.hidden) if model.lm_head else 0.0
        counted = float(model.active_parameters)
        attention = 12.0 * model.layers * model.heads * model.head_dim * seq
        return cls(counted, table, head, attention, model.tied_embeddings)

    @property
    def matrices(self) -> float:
        """Parameters that are multiplied: all but the table of tokens, the head with its own or tied weights."""
        return self.parameters if self.tied else self.parameters - self.table


@dataclass(frozen=True)
class Convention:
    """A published way of counting: FLOPs of a token of training, and whether recomputation is in them."""

    name: str
    counts: str
    flop: Callable[[Shape], float]
    source: str
    recomputed: bool = False


CONVENTIONS: Sequence[Convention] = (
    Convention("PaLM", "6N + 12LHQT: all parameters, attention in full", lambda s: 6 * s.parameters + s.attention,
               "Chowdhery et al. 2022, arXiv 2204.02311, appendix B"),
    Convention("Megatron 2021", "matrices, head and attention in full, layers with recomputation (8 instead of 6)",
               lambda s: 8 * (s.matrices - s.head) + 4 / 3 * s.attention + 6 * s.head,
               "Narayanan et al. 2021, arXiv 2104.04473, equation 3", recomputed=True),
    Convention("Megatron 2022", "matrices, head and attention in full, no recomputation",
               lambda s: 6 * s.matrices + s.attention, "Korthikanti et al. 2022, arXiv 2205.05198, appendix A"),
    Convention("Megatron 2025", "matrices, head and the causal half of attention",
               lambda s: 6 * s.matrices + s.attention / 2,
               "NVIDIA/Megatron-LM, megatron/training/training.py, num_floating_point_operations, since 2025"),
    Convention("MosaicML", "6N + 12LdT: all parameters, attention in full", lambda s: 6 * s.parameters + s.attention,
               "mosaicml/llm-foundry, scripts/train/benchmarking/README.md"),
    Convention("MosaicML, MFU*", "6N: all parameters, no attention", lambda s: 6 * s.parameters,
               "mosaicml/llm-foundry, scripts/train/benchmarking/README.md"),
    Convention("Meta", "6(N - E) + 12LHQT: without the table of tokens, attention in full",
               lambda s: 6 * (s.parameters - s.table) + s.attention, "pytorch/torchtitan, get_num_flop_per_token"),
    Convention("HFU, full recomputation", "matrices and attention in full, forward twice (8 instead of 6)",
               lambda s: 8 * s.matrices + 4 / 3 * s.attention, "Korthikanti et al. 2022, arXiv 2205.05198, appendix A",
               recomputed=True),
)  # fmt: skip
"""The published conventions."""


@dataclass(frozen=True)
class Asked:
    """A question: figures that are given, SI, for a model, a GPU, a sequence length and a precision."""

    given: Mapping[str, Printed]
    model: str
    gpu: str
    seq: int
    precision: str


@dataclass(frozen=True)
class Line:
    """One convention's answer."""

    convention: Convention
    flop_per_token: float
    tokens_per_s: float
    flop_per_s: float
    mfu: float
    fits: bool | None


@dataclass(frozen=True)
class Translated:
    """Every convention's answer, and the peak that MFU is of."""

    asked: Asked
    peak: float
    lines: Sequence[Line]

    @property
    def fitting(self) -> Sequence[str]:
        """The conventions that a given pair fits; empty where one figure alone is given."""
        return [line.convention.name for line in self.lines if line.fits]


def asked(figures: Sequence[str], model: str, gpu: str, seq: int, precision: str) -> Asked:
    """The question in words. Raises `InputError` for figures that are none of the three quantities."""
    given: dict[str, Printed] = {}
    for one in figures:
        name, equals, value = one.partition("=")
        if not equals:
            raise InputError(f"{shown(one)} is no figure; expected NAME=FIGURE, such as mfu_percent=43", key="mfu")
        try:
            quantity, scale = quantity_of(name if name != "tflops_per_gpu" else "achieved_tflops")
            figure = printed(value)
        except ValueError as problem:
            raise InputError(f"{shown(one)} {problem}", key="mfu") from None
        if quantity.name in GIVEN and figure is not None and figure.value <= 0:
            raise InputError(f"{shown(one)} is out of range; expected more than zero", key="mfu")
        if quantity.name not in GIVEN or figure is None:
            hint = nearest(quantity.name, GIVEN)
            raise InputError(f"{shown(one)} is none of tokens/s, TFLOP/s of a GPU and MFU{hint}", key="mfu")
        if quantity.name in given:
            raise InputError("is given twice", key=name)
        given[quantity.name] = figure.scaled(scale)
    if precision not in KNOWN_PRECISIONS:
        raise InputError(f"unknown precision {shown(precision)}{nearest(precision, KNOWN_PRECISIONS)}", key="precision")
    return Asked(given, model, gpu, seq, precision)


def translate(asked: Asked, catalogue: Catalogue) -> Translated:
    """The figures under every convention. Raises `InputError` for unknown names.

    >>> q = Asked({"mfu": Printed("0.4", 0.4, 0.4, 0.4)}, "llama-3.1-8b", "h100-sxm", 8192, "bf16")
    >>> round(translate(q, Catalogue()).lines[0].tokens_per_s)
    6481
    """
    model = catalogue.model(asked.model)
    gpu = catalogue.spec("gpus", asked.gpu)
    assert isinstance(gpu, GPUSpec)
    if not model.causal:
        raise InputError(f"'{asked.model}' is no language model that is trained token by token", key="model")
    peak = peak_of(gpu, asked.precision)
    shape = Shape.of(model, asked.seq)
    return Translated(asked, peak, [_line(one, one.flop(shape), peak, asked.given) for one in CONVENTIONS])


def _line(convention: Convention, flop: float, peak: float, given: Mapping[str, Printed]) -> Line:
    name, figure = next(iter(given.items()))
    per_token = {"tokens_per_s_per_gpu": 1.0, "achieved": 1 / flop, "mfu": peak / flop}
    rate = figure.value * per_token[name]
    fits = None
    if len(given) > 1:
        ranges = [(one.low * per_token[key], one.high * per_token[key]) for key, one in given.items()]
        first = Printed("", ranges[0][0], rate, ranges[0][1])
        fits = all(meets(first, interval, CONSTANTS / 3) for interval in ranges[1:])
    return Line(convention, flop, rate, rate * flop, rate * flop / peak, fits)


def show(done: Translated, style: str, out: IO[str]) -> None:
    """Print the answer as a table or as JSON."""
    if style == "json":
        print_json(document(done), out)
        return
    if style == "csv":
        print_csv(document(done)["conventions"], out)
        return
    rows = [
        (line.convention.name, f"{line.flop_per_token / 1e9:.4g}", f"{line.tokens_per_s:.5g}",
         f"{line.flop_per_s / 1e12:.4g}", f"{100 * line.mfu:.3g} %",
         {None: "", True: "yes", False: "no"}[line.fits], line.convention.counts)
        for line in done.lines
    ]  # fmt: skip
    asked = done.asked
    title = (
        f"{asked.model} on {asked.gpu}, {asked.seq:,} tokens, of {done.peak / 1e12:.4g} TFLOPS dense {asked.precision}"
    )
    columns = ["convention", "GFLOP/token", "tokens/s/GPU", "TFLOP/s/GPU", "MFU", "fits the pair", "counts"]
    kept = [n for n in range(len(columns)) if n != 5 or len(asked.given) > 1]
    grid(title, [columns[n] for n in kept], [[row[n] for n in kept] for row in rows], out, right=(1, 2, 3, 4))
    notes = []
    if len(asked.given) > 1:
        names = ", ".join(done.fitting)
        notes.append(
            f"The pair fits: {names}." if names else "The pair fits no convention: one figure is of something else."
        )
    if any(line.mfu > 1 for line in done.lines if not line.convention.recomputed):
        notes.append("More than the peak under some conventions: impossible there.")
    print_notes(notes, out)


def document(done: Translated) -> dict[str, Any]:
    """The answer as plain data, SI."""
    lines = [
        {"convention": one.convention.name, "counts": one.convention.counts, "source": one.convention.source,
         "flop_per_token": one.flop_per_token, TABLE["tokens_per_s_per_gpu"].name: one.tokens_per_s,
         "flop_per_s_per_gpu": one.flop_per_s, "mfu": one.mfu, "fits": one.fits}
        for one in done.lines
    ]  # fmt: skip
    return {"model": done.asked.model, "gpu": done.asked.gpu, "seq": done.asked.seq, "precision": done.asked.precision,
            "peak_flop_per_s": done.peak, "conventions": lines, "fitting": list(done.fitting)}  # fmt: skip
