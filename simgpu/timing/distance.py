"""How far a prediction stands from what was measured, and what each part of that distance adds to its interval.

Errors come in layers. Rows of one source lie about the median of their source, medians of sources about that of an
architecture or an engine, and those about the prediction: variance components. `components.csv` beside this module
holds, by class, the standard deviation of log(measured / predicted) of each layer that a prediction can be far in:

    source        the machine and whoever ran it: another node, another driver, another way to time
    relative      constants of another GPU of its architecture
    architecture  no row of this class was measured on a GPU of this architecture
    software      no row was measured with this library, engine, version or framework
    experts       a mixture of experts in software whose mixtures nobody measured
    nodes         a collective that leaves its node; `nodes long`: one of more than 200 us, where rates decide
    queue         of first tokens: a saturated server, whose wait has no bound, or prompts that other GPUs take
    library       of kernels in such software: shapes about the median of the library, each for itself
    stretch       of kernels: spread about the median, of a new architecture over that of a measured one (a factor)
    within        of whole runs: spread about the median in software that no row is of

Layers that apply are summed in squares; a handful of groups stands behind each, so that ends are quantiles of Student's
t (`freedom` degrees of freedom), not of the normal distribution. The table is made by
`simgpu validate all --data DIR --write-residuals FILE`: constants of one architecture predict another, sources that
chose no constant are held against the predictions, a component that few sources stand behind is drawn towards that of
like classes, and none is below what first predictions for sources that nobody had seen make it
(`simgpu/lab/validation/first_looks.csv`).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from simgpu.memo import remembered

TABLE = Path(__file__).with_name("components.csv")

SOURCE, RELATIVE, ARCHITECTURE = "source", "relative", "architecture"
SOFTWARE, EXPERTS, NODES, QUEUE = "software", "experts", "nodes", "queue"
NODES_LONG = "nodes long"
LIBRARY, STRETCH, WITHIN = "library", "stretch", "within"
LAYERS = (ARCHITECTURE, RELATIVE, SOFTWARE, EXPERTS, QUEUE, NODES, SOURCE)
"""What a prediction can be far in, the farthest first."""

RATES = "rate"
OF = {
    "tpot": "served",
    "e2e": "served",
    "decode": RATES,
    "ttft": "ttft",
    "prefill": "prefill",
    "step_time": "step_time",
}
"""Class of components of a whole run: a training step, tokens of a server under load, decode of one batch, the first
token, a prompt alone."""

ALONE = {"served": RATES, "ttft": "prefill"}
"""Class of components of the same quantity where one batch runs by itself, without a load."""


def class_of_run(op: str, load: bool) -> str:
    """Class of components of a whole run, of a server under `load` or of one batch.

    >>> class_of_run("ttft", load=False)
    'prefill'
    """
    return OF[op] if load else ALONE.get(OF[op], OF[op])


_Z90 = 1.2815515655446004  # 90 % quantile of the normal distribution


def student(z: float, freedom: float) -> float:
    """The quantile of Student's t at the level of the quantile `z` of the normal distribution.

    Abramowitz and Stegun, 26.7.5; to 0.01 from three degrees of freedom on.

    >>> round(student(1.2816, 6), 2), round(student(1.2816, 1e9), 4)
    (1.44, 1.2816)
    """
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


@dataclass(frozen=True)
class Component:
    """One layer of the error of a class.

    `sd` is its standard deviation in the logarithm, for a member of no measured group, and `freedom` the degrees of
    freedom behind it.
    """

    sd: float
    freedom: float

    @property
    def reach(self) -> float:
        """Distance of the P10 or P90 from the middle, in the logarithm."""
        return self.sd * student(_Z90, self.freedom)


NONE = Component(0.0, 30.0)


_INSTEAD: ContextVar[Mapping[tuple[str, str], Component] | None] = ContextVar("components", default=None)


@contextmanager
def instead(table: Mapping[tuple[str, str], Component]) -> Iterator[None]:
    """Other components of whole runs than those of the table: what it would be without some source, to test on that."""
    before = _INSTEAD.set(table)
    try:
        yield
    finally:
        _INSTEAD.reset(before)


@remembered(1)
def components() -> dict[tuple[str, str], Component]:
    """The table: (class, layer) and its component; empty where there is none."""
    if not TABLE.is_file():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(line for line in stream if not line.startswith("#"))
        return {(row["class"], row["component"]): Component(float(row["sd"]), float(row["freedom"])) for row in rows}


def component(of: str, layer: str) -> Component:
    """The component of a class; nothing where the table has none."""
    other = _INSTEAD.get()
    return (components() if other is None else other).get((of, layer), NONE)


def reach(of: str, layers: Iterable[str]) -> float:
    """What layers of a class add to the distance of an end of its interval, in the logarithm, summed in squares."""
    return math.sqrt(sum(component(of, layer).reach ** 2 for layer in layers))


def ends(of: str, layers: Iterable[str], mean: float = 0.0) -> tuple[float, float]:
    """Factors from a prediction to its P10 and P90 that layers of a class alone make.

    They are for quantities without residuals of their own: `ends("memory", ("exact",))` where every option of a trainer
    was said, ("other",) elsewhere.

    `mean` is what measurements lie above the prediction on average, in the logarithm: it widens the interval and does
    not move the prediction, which it always holds.
    """
    away = reach(of, layers)
    return math.exp(min(mean - away, 0.0)), math.exp(max(mean + away, 0.0))


def widened(low: float, high: float, more: float) -> tuple[float, float]:
    """The interval [low, high] of factors, each end `more` farther in the logarithm, in squares."""
    return math.exp(-math.hypot(math.log(low), more)), math.exp(math.hypot(math.log(high), more))


def narrowed(low: float, high: float, less_low: float, less_high: float) -> tuple[float, float]:
    """The interval [low, high] of factors without the part [less_low, less_high] of it.

    It is what is left of each end in squares of logarithms, none of it where that part is the wider.

    >>> [round(end, 3) for end in narrowed(0.8, 1.25, 0.8, 1.0)]
    [1.0, 1.25]
    """
    down = math.sqrt(max(math.log(low) ** 2 - math.log(min(less_low, 1.0)) ** 2, 0.0))
    up = math.sqrt(max(math.log(high) ** 2 - math.log(max(less_high, 1.0)) ** 2, 0.0))
    return math.exp(-down), math.exp(up)


# ---- in words ----------------------------------------------------------------------------------------

CALIBRATED, SAME, NEW = "calibrated on this GPU", "same architecture", "new architecture"
HERE = "calibrated on this machine"
STEPS = "measured on this machine"
RUNS = "no whole run on its architecture measured"
WORDS = {
    ARCHITECTURE: NEW,
    SOFTWARE: "software version never measured",
    EXPERTS: "experts never measured in this software",
    QUEUE: "first tokens wait without bound (saturated): their order of magnitude alone",
    NODES: "between nodes",
}
"""Layers as a user reads them."""

MEANING = {
    HERE: "you measured its kernels",
    CALIBRATED: "its kernels were measured, on machines of others",
    SAME: "constants of another GPU of its architecture",
    NEW: "constants of other architectures",
    RUNS: "its kernels were",
    WORDS[SOFTWARE]: "another version or engine stands in",
    WORDS[EXPERTS]: "dense models were",
}
"""What the words mean, for whoever reads them for the first time."""


def in_words(regime: str, layers: Iterable[str], here: bool = False, kernels: bool = True) -> str:
    """How far a result stands from measurements, such as 'new architecture; software version never measured'.

    `regime` is that of the constants of its kernels, `here` whether the user calibrated them on the machine itself,
    `kernels` whether it is they that are new where the architecture is, or whole runs on it alone.
    """
    found = set(layers)
    new = ARCHITECTURE in found and kernels and not here
    near = [NEW if new else HERE if here else CALIBRATED if regime == "calibrated" else SAME]
    if ARCHITECTURE in found and not new:
        near.append(RUNS)
    return "; ".join([*near, *(WORDS[layer] for layer in LAYERS if layer in found - {ARCHITECTURE, RELATIVE, SOURCE})])
