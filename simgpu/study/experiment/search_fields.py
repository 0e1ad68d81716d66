"""Fields of the `search:` section of an experiment file."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from simgpu.errors import InputError, nearest, shown
from simgpu.schema_errors import TrueFalse


def _as_list(given: Any) -> Any:
    return given if isinstance(given, list) or given is None else [given]


def _fraction(given: Any) -> Any:
    if isinstance(given, str) and given.strip().endswith("%"):
        return float(given.strip()[:-1]) / 100
    return given


def _values(given: Any) -> Any:
    if given != "all" and not (isinstance(given, list) and given):
        raise ValueError(f"{shown(given)} is not 'all' or a list of values")
    return given


Values = Annotated[Any, BeforeValidator(_values)]


class SearchFields(BaseModel):
    """The space of plans of one scenario, and the objective.

    gpus
        GPU counts to use (default: all of the cluster).
    objective
        A column: `step_s` or `tokens_per_s_per_gpu` of training; of inference one of the rates.
    limits
        Columns and what they may be at most, such as `ttft_s: 2 s` or `training_days_p90: 30 days`; of a rate at least
        (`simgpu.study.search.limits`).
    space
        Keys of the plan, each with its values or 'all'; of inference also keys of the workload, with lists.
    where
        Conditions that a plan must fulfil.
    price
        USD per GPU-hour, of all clusters or by cluster: adds what plans cost, by which they are ranked unless an
        objective is given.
    memory
        The share of a GPU's memory that a plan may take.
    front
        Whether the best plan within each budget of memory (or for each number of GPUs) is looked for too.
    tolerance
        A plan may be passed over that is this much better at most than the last of the top (default: none).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    gpus: Annotated[
        list[Annotated[int, Field(strict=True, gt=0, le=1_000_000)]] | None,
        Field(min_length=1),
        BeforeValidator(_as_list),
    ] = None
    objective: str | None = None
    limits: dict[str, Any] = {}
    space: dict[str, Values] = {}
    where: Annotated[list[str], BeforeValidator(_as_list)] = []
    top: Annotated[int, Field(strict=True, gt=0, le=1000)] = 10
    tolerance: Annotated[float, Field(ge=0, lt=1), BeforeValidator(_fraction)] = 0.0
    price: Annotated[float, Field(gt=0, allow_inf_nan=False)] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    memory: Annotated[float, Field(gt=0, le=1), BeforeValidator(_fraction)] = 1.0
    front: TrueFalse = True

    def price_on(self, cluster: str) -> float | None:
        """USD per GPU-hour. Raises `InputError` where prices are given by cluster, without this one."""
        if isinstance(self.price, dict) and cluster not in self.price:
            raise InputError(f"has no price of '{cluster}'{nearest(cluster, self.price)}", key="search.price")
        return self.price[cluster] if isinstance(self.price, dict) else self.price
