"""What an experiment file can ask to be drawn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class PlotFields(BaseModel):
    """A plot of the rows: bars over a label or lines over a number, one panel for each of `y`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["bar", "line"]
    x: str
    y: Annotated[list[str], Field(min_length=1, max_length=4)]
    series: str | None = None
    marks: dict[str, str] = {}  # column of y -> label that holds a published figure to mark
    title: str = ""
    name: str = ""
