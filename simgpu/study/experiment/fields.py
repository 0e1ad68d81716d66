"""Fields of an experiment file, and the checks that need nothing but the file."""

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from simgpu.errors import shown
from simgpu.render.fields import PlainName, PlotFields
from simgpu.study.experiment.recommend_fields import RecommendFields
from simgpu.study.experiment.search_fields import SearchFields


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{shown(value)} is not a finite number")
    return value


Scalar = Annotated[str | int | float | bool | None, AfterValidator(_finite)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class CompareStep(_Strict):
    """Keys that are changed together, and a name for that."""

    what: str
    keys: Annotated[list[str], Field(min_length=1)]


class CompareFields(_Strict):
    """A walk from one row to another, one assumption at a time, that says what each moves."""

    value: str
    between: str  # the label or column in which the two rows differ
    start: Scalar
    end: Scalar
    match: Annotated[list[str], Field(min_length=1)]  # labels or columns in which they agree
    steps: list[CompareStep] = []


class ExperimentFields(_Strict):
    """All fields of an experiment file. `scenario` and `cases` hold scenario keys."""

    experiment: PlainName | None = None
    title: str = ""
    description: str = ""
    scenario: dict[str, Any] = {}
    cases: list[dict[str, Any]] = []
    vary: dict[str, Any] = {}  # of each key a list, or a range; see `simgpu.study.experiment.axes`
    zip: list[dict[str, Any]] = []  # keys that move together
    where: Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)] = []
    """Conditions that a scenario must fulfil, see `simgpu.study.experiment.conditions` and `names`."""
    table: list[str] = []
    plots: list[PlotFields] = []
    formats: Annotated[list[Literal["png", "svg", "pdf"]], Field(min_length=1)] = ["png", "svg"]  # of the plots
    compare: CompareFields | None = None
    search: SearchFields | None = None
    recommend: RecommendFields | None = None

    @property
    def varied(self) -> set[str]:
        """Keys that the file varies."""
        return {*self.vary, *(key for group in self.zip for key in group)}
