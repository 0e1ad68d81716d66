"""What an experiment file can ask to be drawn."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from simgpu.errors import shown


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or len(name) > 100 or not all(c.isalnum() or c in " ._+-" for c in name):
        raise ValueError(f"{shown(name)} cannot name a file; expected letters, digits, blanks, '.', '_', '+' or '-'")
    return name


PlainName = Annotated[str, AfterValidator(_plain_name)]
"""A name that becomes a file or folder."""


class PlotFields(BaseModel):
    """A plot of the rows: bars over a label or lines over a number, one panel for each of `y`."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    kind: Literal["bar", "line"]
    x: str
    y: Annotated[list[str], Field(min_length=1, max_length=4)]
    series: str | None = None
    marks: dict[str, str] = {}  # column of y -> label that holds a published figure to mark
    title: str = ""
    name: PlainName | None = None
