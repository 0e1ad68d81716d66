"""What an experiment file can ask to be drawn."""

from typing import Annotated, Literal

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
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    kind: Literal["bar", "line", "stack", "memory", "pipeline"]
    x: str
    y: Annotated[list[str], Field(max_length=16, validate_default=True)] = []
    series: str | None = None
    marks: dict[str, str] = {}  # column of y -> label that holds a published figure to mark
    title: str = ""
    name: PlainName | None = None

    @field_validator("y")
    @classmethod
    def _as_the_kind_needs(cls, y: list[str], info: ValidationInfo) -> list[str]:
        kind = info.data.get("kind")
        if kind in ("bar", "line") and not 1 <= len(y) <= MAX_PANELS:
            raise ValueError(f"{len(y)} columns; a plot of kind {kind} needs at least 1 and at most {MAX_PANELS}")
        if kind in ("memory", "pipeline") and y:
            raise ValueError(f"has no meaning for a plot of kind {kind}; leave it out")
        if kind == "stack" and len(set(y)) < len(y):
            raise ValueError("names a column twice; the bars would count it twice")
        return y
