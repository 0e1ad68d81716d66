"""Fields of the `recommend:` section of an experiment file."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _as_list(given: Any) -> Any:
    return given if isinstance(given, list) or given is None else [given]


class RecommendFields(BaseModel):
    """What a choice between the machines of a file goes by: its rows are the machines.

    objective
        The column that ranks them (default: what the job costs, or without prices its time).
    limits
        Columns and what they may be at most, such as `ttft_s: 2 s`, `training_days: 30 days`, `power: 20 kW`; of a rate
        at least.
    require
        fit (the job fits the memory), ecc, mig (the GPU can be split), nvlink.
    against
        The second column of the Pareto front (default: a time).
    batches
        Factors of the batch, or of the clients of a server, that are tried too: does another machine win there?
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    objective: str | None = None
    against: str | None = None
    limits: dict[str, Any] = {}
    require: Annotated[list[Literal["fit", "ecc", "mig", "nvlink"]], BeforeValidator(_as_list)] = ["fit"]
    batches: Annotated[list[Annotated[float, Field(gt=0, le=1024)]], BeforeValidator(_as_list)] = []
