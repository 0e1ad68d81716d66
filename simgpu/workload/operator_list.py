"""The job of operators in order, without a model: those of an experiment file, or of a graph file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from simgpu.errors import InputError
from simgpu.model.config import TransformerConfig
from simgpu.model.graph import ModelGraph, Segment
from simgpu.model.operators import Operator
from simgpu.plan.parallelism import Plan
from simgpu.workload.fields import Strict
from simgpu.workload.graph_files import GraphFile, read_graph
from simgpu.workload.listed import Listed, ListedAttention, ListedCollective, ListedConvolution, ListedMatmul
from simgpu.workload.networks.stacks import Stack, stack


class OperatorList(Strict):
    """Operators in order, `repeat` times over: written out, or those of the `file` of a graph. Needs no model.

    `simgpu import` and `simgpu capture` write such files (`simgpu.workload.graph_files`).
    """

    kind: Literal["operators"] = "operators"
    file: str | None = None
    operators: Annotated[list[Listed], Field(min_length=1)] | None = Field(default=None, validate_default=True)
    repeat: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 1
    stack: str | None = None
    """The software that launches them, as of networks of stages (`pytorch`, `compiled` ...): its host's time for each
    kernel, and how much slower its kernels stream. Default: kernels follow each other without gaps."""

    @field_validator("operators")
    @classmethod
    def _one_of_both(cls, operators: list[Listed] | None, info: ValidationInfo) -> list[Listed] | None:
        if operators is None and info.data.get("file") is None:
            raise PydanticCustomError("missing", "operators, or the file of a graph, are missing")
        if operators is not None and info.data.get("file") is not None:
            raise ValueError("file is given too; expected one of both")
        return operators

    def software(self) -> Stack | None:
        """The stack by its name. Raises `InputError` (key only)."""
        return None if self.stack is None else stack(self.stack)

    @property
    def listed(self) -> list[Listed]:
        """The operators. Raises `InputError` where their file is not good."""
        return self._file.operators if self.operators is None else self.operators

    @property
    def digest(self) -> str:
        """A digest of the file's content; '' where there is none."""
        return "" if self.file is None else self._file.digest

    @property
    def assumed(self) -> Mapping[str, int]:
        """Operators of the file that are not known and run as bound by memory, with their counts."""
        return {} if self.file is None else self._file.unknown

    @property
    def _file(self) -> GraphFile:
        return read_graph(Path(self.file or ""))

    def own_dtypes(self) -> Iterator[tuple[str, str, str | None]]:
        """(key, dtype, accumulate) of each operator that does not use the scenario's dtype."""
        for i, entry in enumerate(self.listed):
            if not isinstance(entry, ListedCollective) and entry.dtype is not None:
                sums = entry.accumulate if isinstance(entry, ListedMatmul) else None
                yield f"workload.operators.{i}.dtype", entry.dtype, sums

    def graph(self, model: TransformerConfig | None, plan: Plan, dtype: str, accumulate: str) -> ModelGraph:
        """The operators of the list. Raises `InputError` (key only) where the plan cannot split one of them."""
        if model is not None:
            raise InputError(f"'{model.name}' is not supported for a list of operators; leave it out", key="model")
        built = [_built(entry, i, plan, dtype, accumulate) for i, entry in enumerate(self.listed)]
        if plan.dp > 1:
            raise InputError(f"{plan.dp}: a list of operators has no batch to split; expected 1", key="plan.dp")
        if plan.sequence_parallel:
            raise InputError("is not supported for a list of operators; expected false", key="plan.sequence_parallel")
        name = "operators" if self.file is None else self._file.name
        return ModelGraph(name, (Segment("operators", tuple(built), self.repeat),))


def _built(entry: Listed, i: int, plan: Plan, dtype: str, accumulate: str) -> Operator:
    """The operator of an entry. Raises `InputError` (key only) where the plan cannot split it."""
    key = f"workload.operators.{i}"
    if not isinstance(entry, ListedCollective) and plan.tp > 1:
        if entry.split is None:
            raise InputError(f"this key is missing; tp {plan.tp} needs the axis to split, or none", key=f"{key}.split")
        cut = entry.split_size()
        if cut and cut[1] % plan.tp:
            raise InputError(f"tp {plan.tp} does not divide {cut[0]} = {cut[1]}", key=f"{key}.{cut[0]}")
    if isinstance(entry, (ListedAttention, ListedConvolution)):
        entry.check(key, plan.tp)
    return entry.build(entry.name or f"{entry.op}{i}", dtype, accumulate)
