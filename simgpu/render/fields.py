"""Fields of a plot in an experiment file."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from simgpu.errors import shown


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or len(name) > 100 or not all(c.isalnum() or c in " ._+-" for c in name):
        raise ValueError(f"{shown(name)} cannot name a file; expected letters, digits, blanks, '.', '_', '+' or '-'")
    return name


PlainName = Annotated[str, AfterValidator(_plain_name)]
"""A name that becomes a file or folder."""

STEP_PARTS = (
    *("gemm_s", "attention_s", "experts_s", "memory_bound_s", "optimizer_s", "host_s"),
    *(
        "exposed_tp_s",
        "exposed_cp_s",
        "exposed_ep_s",
        "exposed_pp_s",
        "exposed_data_s",
        "exposed_offload_s",
        "bubble_s",
    ),
)
"""Columns that make up a training step between them."""

MAX_PANELS = 4

Kind = Literal[
    "bar", "breakeven", "cost", "curve", "heatmap", "line", "matrix", "memory", "parity", "pareto", "pipeline",
    "power", "roofline", "scaling", "server", "stack", "steps", "timeline", "topology", "tornado", "turns",
]  # fmt: skip

_ONE_COLUMN = ("curve", "heatmap", "matrix", "pareto", "parity")
_NO_COLUMN = ("memory", "pipeline", "power", "roofline", "server", "steps", "timeline", "topology", "turns")
_DEFAULT_X = {"scaling": "gpus", "server": "", "steps": "", "timeline": "", "topology": ""}
"""Defaults of x for kinds of plots that may leave it out; for parity it follows from y."""


class PlotFields(BaseModel):
    """A plot of the rows.

    bar, line: bars over a label or lines over a number, one panel for each of `y`.
    scaling: speed-up and efficiency over a number (`x`, default: gpus), against one GPU, or, where `y` names a time or
    a rate, against the smallest x of each line.
    stack: bars made of the columns of `y` (default: the parts of a training step), one for each `x`.
    cost: bars made of the parts of a cost (`y`, default: that of the job), one for each `x`.
    breakeven: the same cost over utilisation: a curve for each owned machine, a line for each rented one.
    memory: bars made of the parts of a GPU's memory, for the fullest stage of each `x`, or with `x: stage` for every
    stage of the only row.
    pipeline: a timeline of the pipeline stages for each `x`.
    power: power of a GPU over time for each `x`, as it draws it and as its board's controller sees it.
    timeline: the streams of the only row: of one rank, or of the first `ranks`; between the two times of `window`
    (seconds), by default the whole step or as much of its start as can be told apart.
    curve: points of one number (`y`) over another (`x`), joined in the order of the rows, a line for each `series`;
    each says its `label`.
    pareto: the same two numbers of all rows, with the front that no row beats in both (`better` says which way where
    the column does not) and the row that is `chosen`.
    parity: `y` predicted over what was published or measured (`x`, default: claimed_ and the column).
    matrix: a table of `x` across and `series` down, each cell the number `y` as colour and text.
    heatmap: the same over two axes of numbers or words, with a bar of colours; what does not fit is hatched, the best
    framed.
    roofline: operators of each row by intensity and achieved FLOP/s under the roofs of the GPU, a panel for each `x`.
    server: the only row of requests that are followed: TTFT, queue and cache over time, and how latencies spread.
    steps: the steps of the same, one by one: prompt tokens and decodes of each, and its seconds, in a `window`.
    turns: requests of sessions by their place in them: hit rate and TTFT, a line for each `x`.
    topology: the graph of the cluster of the only row, with the load of its links as colour.
    tornado: what `y` (default: the natural answer of the job) does when each input of the hardware is a little less and
    a little more, a panel for each `x`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    kind: Kind
    y: Annotated[list[str], Field(max_length=16, validate_default=True)] = []
    x: Annotated[str, Field(validate_default=True)] = ""
    series: str | None = None
    label: str | None = None
    where: dict[str, str | int | float | bool] = {}  # only rows with these values
    marks: dict[str, str] = {}  # column of y -> label that holds a published figure to mark
    better: dict[str, Literal["lower", "higher"]] = {}  # column -> which way is better
    chosen: dict[str, str | int | float | bool] = {}  # the row that a pareto plot marks
    window: tuple[float, float] | None = None  # s, of a timeline
    ranks: Annotated[int, Field(ge=1, le=16)] | None = None  # how many of a timeline
    title: str = ""
    name: PlainName | None = None

    @field_validator("y")
    @classmethod
    def _as_the_kind_needs(cls, y: list[str], info: ValidationInfo) -> list[str]:
        kind = info.data.get("kind")
        if kind in ("bar", "line") and not 1 <= len(y) <= MAX_PANELS:
            raise ValueError(f"{len(y)} columns; a plot of kind {kind} needs at least 1 and at most {MAX_PANELS}")
        if kind in _ONE_COLUMN and len(y) != 1:
            raise ValueError(f"{len(y)} columns; a plot of kind {kind} needs one")
        if kind in ("cost", "breakeven") and len(y) > 1:
            raise ValueError(f"{len(y)} columns; a plot of kind {kind} has one, or none for the cost of the job")
        if kind in ("scaling", "tornado") and len(y) > 1:
            otherwise = "to compare with one GPU" if kind == "scaling" else "for the answer of the job"
            raise ValueError(f"{len(y)} columns; a plot of kind {kind} has one, or none {otherwise}")
        if kind in _NO_COLUMN and y:
            raise ValueError(f"is not supported for a plot of kind {kind}; leave it out")
        if kind == "stack" and len(set(y)) < len(y):
            raise ValueError("names a column twice; the bars would count it twice")
        return y

    @field_validator("x")
    @classmethod
    def _x(cls, x: str, info: ValidationInfo) -> str:
        kind, y = info.data.get("kind"), info.data.get("y")
        if kind == "parity" and y and not x:
            return f"claimed_{y[0]}"
        if x or kind is None:
            if x and _DEFAULT_X.get(str(kind)) == "":
                raise ValueError(f"is not supported for a plot of kind {kind}; leave it out")
            return x
        if kind not in _DEFAULT_X and kind != "parity":
            raise PydanticCustomError("missing", "Field required")
        return _DEFAULT_X.get(str(kind), "")

    @field_validator("window")
    @classmethod
    def _window(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and not 0 <= window[0] < window[1] < float("inf"):
            raise ValueError(f"{shown(list(window))} is not a start and a later end, in seconds")
        return window


def rows_of(rows: Sequence[Mapping[str, Any]], plot: PlotFields) -> list[Mapping[str, Any]]:
    """The rows that a plot is about."""
    return [row for row in rows if all(row.get(key) == value for key, value in plot.where.items())]
