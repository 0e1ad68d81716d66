"""What an experiment file can ask to be drawn."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from simgpu.errors import shown


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or len(name) > 100 or not all(c.isalnum() or c in " ._+-" for c in name):
        raise ValueError(f"{shown(name)} cannot name a file; expected letters, digits, blanks, '.', '_', '+' or '-'")
    return name


PlainName = Annotated[str, AfterValidator(_plain_name)]
"""A name that becomes a file or folder."""

STEP_PARTS = (
    *("gemm_s", "attention_s", "experts_s", "memory_bound_s", "optimizer_s", "host_s"),
    *("exposed_tp_s", "exposed_cp_s", "exposed_ep_s", "exposed_pp_s", "exposed_data_s", "bubble_s"),
)
"""Columns that make up a training step between them."""

MAX_PANELS = 4


class PlotFields(BaseModel):
    """A plot of the rows.

    bar, line: bars over a label or lines over a number, one panel for each of `y`.
    stack: bars made of the columns of `y` (default: the parts of a training step), one for each `x`.
    memory: bars made of the parts of a GPU's memory, for the fullest stage of each `x`, or with `x: stage` for every
    stage of the only row.
    pipeline: a timeline of the pipeline stages for each `x`.
    curve: points of one number (`y`) over another (`x`), joined in the order of the rows, a line for each `series`;
    each says its `label`.
    matrix: a table of `x` across and `series` down, each cell the number `y` as colour and text.
    roofline: operators of each row by intensity and achieved FLOP/s under the roofs of the GPU, a panel for each `x`.
    tornado: what `y` (default: the natural answer of the job) does when each input of the hardware is a little less and
    a little more, a panel for each `x`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    kind: Literal["bar", "line", "stack", "memory", "pipeline", "curve", "matrix", "roofline", "tornado"]
    x: str
    y: Annotated[list[str], Field(max_length=16, validate_default=True)] = []
    series: str | None = None
    label: str | None = None
    where: dict[str, str | int | float | bool] = {}  # only rows with these values
    marks: dict[str, str] = {}  # column of y -> label that holds a published figure to mark
    title: str = ""
    name: PlainName | None = None

    @field_validator("y")
    @classmethod
    def _as_the_kind_needs(cls, y: list[str], info: ValidationInfo) -> list[str]:
        kind = info.data.get("kind")
        if kind in ("bar", "line") and not 1 <= len(y) <= MAX_PANELS:
            raise ValueError(f"{len(y)} columns; a plot of kind {kind} needs at least 1 and at most {MAX_PANELS}")
        if kind in ("curve", "matrix") and len(y) != 1:
            raise ValueError(f"{len(y)} columns; a plot of kind {kind} needs one")
        if kind == "tornado" and len(y) > 1:
            raise ValueError(f"{len(y)} columns; a plot of kind {kind} needs one at most")
        if kind in ("memory", "pipeline", "roofline") and y:
            raise ValueError(f"has no meaning for a plot of kind {kind}; leave it out")
        if kind == "stack" and len(set(y)) < len(y):
            raise ValueError("names a column twice; the bars would count it twice")
        return y


def rows_of(rows: Sequence[Mapping[str, Any]], plot: PlotFields) -> list[Mapping[str, Any]]:
    """The rows that a plot is about."""
    return [row for row in rows if all(row.get(key) == value for key, value in plot.where.items())]
