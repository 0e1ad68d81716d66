"""What comes back from a simulation: every column of its row is an attribute, with its type and its unit.

Which job has which columns: `simgpu.simulation.result` those of every job, and of every job whose layers are split;
`step_result` one call of a model and a training step, `inference_result` batches, single steps and servers. Names,
units and meanings are those of `columns.csv`; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from simgpu.analysis.critical import Link, critical_path
from simgpu.analysis.power import Board
from simgpu.analysis.power_trace import PowerTrace, trace_of
from simgpu.columns import TABLE, following_ends
from simgpu.engine import Timeline
from simgpu.errors import ArgumentError, nearest, shown
from simgpu.simulation.memory_use import MemoryUse
from simgpu.simulation.operated import Operated
from simgpu.workload.execution import Execution

Inputs = Callable[[], Mapping[str, Mapping[str, Any]]]


class Row(dict[str, Any]):
    """The numbers of a result by column: a dict that cannot be changed. `dict(row)` is a copy that can."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ArgumentError("the row of a result cannot be changed; dict(row) is a copy that can")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


@dataclass(frozen=True)
class Interval:
    """A value and its P10 and P90: 80 % of measurements would lie between them. It unpacks to its ends.

    >>> low, high = Interval(0.2, 0.18, 0.25)
    >>> low, high
    (0.18, 0.25)
    """

    value: float
    p10: float
    p90: float

    def __iter__(self) -> Iterator[float]:
        return iter((self.p10, self.p90))


@dataclass(frozen=True, repr=False, kw_only=True)
class Result(Operated):
    """One simulated scenario: its figures, SI units, the timeline, and where every input came from (`resolved`).

    `row` holds the same figures by column, for tables. Of `simulate` comes the class of its job: `StepResult`,
    `TrainingResult`, `BatchResult`, `MixedStepResult`, `ServingResult`, `TrafficResult` or `NetworkResult`.
    """

    HEADLINE: ClassVar[tuple[str, ...]] = ("step_s", "mfu")
    """The columns that its `repr` shows."""

    execution: Execution
    """The run: its activities and streams."""
    memory: MemoryUse
    """Memory of the rank that needs most, by part, and of each pipeline stage."""
    board: Board | None = None
    """The levels of power of its GPU."""
    inputs: Inputs = dict
    """The function that makes `resolved`, which is called only when that is read."""
    order: tuple[str, ...] = ()
    """The columns of the result, in the order in which tables print them."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """Labels of a row of an experiment and what the file varies, which stand first in the row."""

    model: str
    """Model of the catalogue; 'operators' for a list of operators, or the name of its graph."""
    workload: str
    """Kind of job: prefill, training, inference, mixed, serving, operators."""
    cluster: str
    """Cluster or node."""
    gpu: str
    """GPU of the cluster."""
    dtype: str
    """Data type of weights and activations."""
    tp: int
    """Tensor-parallel ranks."""
    dp: int
    """Data-parallel ranks."""
    sequence_parallel: bool
    """Sequence parallelism beside tensor parallelism."""
    gpus: int
    """GPUs used, tp x cp x pp x dp."""
    distance: str
    """How far it stands from what was measured, which sets its intervals: calibrated on this machine, calibrated on
    this GPU, same architecture, new architecture; then software version never measured, experts never measured in
    this software, steps measured on this machine."""
    data_s: float | None = None
    """Seconds in which the data pipeline makes the samples of a step, with workload.data (s)."""
    data_wait_s: float | None = None
    """Part of the step in which GPUs wait for samples (s)."""
    data_samples_per_s: float | None = None
    """Samples per second that the data pipeline can make, all GPUs (1/s)."""
    data_samples_per_s_p10: float | None = None
    data_samples_per_s_p90: float | None = None
    data_limit: str | None = None
    """What limits samples per second: step (the GPUs), or of the data pipeline workers, cores, storage, requests or
    link."""
    data_buys: str | None = None
    """What the data pipeline needs so that no GPU waits."""
    step_s: float
    """Time of the step (s)."""
    step_s_p10: float
    step_s_p90: float
    compute_s: float
    """Time the compute stream of the last rank to finish is busy (s)."""
    exposed_communication_s: float
    """The part of it during which no kernel runs (s)."""
    idle_s: float
    """Time with neither (s)."""
    flop: float
    """FLOPs of the step, all GPUs (matrix multiplications 2mnk, attention by the causal half) (FLOP)."""
    flop_per_s_per_gpu: float
    """Flop / step_s / gpus (FLOP/s)."""
    flop_per_s_per_gpu_p10: float
    flop_per_s_per_gpu_p90: float
    mfu: float
    """Time of the flop at the dense datasheet peaks of the types they are multiplied in, over gpus x step_s (share)."""
    mfu_p10: float
    mfu_p90: float
    power_w_per_gpu: float
    """Mean power of a GPU's board over the run: kernels, collectives that nothing hides, waiting (W)."""
    power_w_per_gpu_p10: float
    power_w_per_gpu_p90: float
    power_regime: str
    """Where the levels of power come from: calibrated (measured on this GPU), inherited (from its architecture),
    datasheet (any GPU)."""
    energy_j_per_step: float | None = None
    """Energy of all GPUs in the step; of a server there is none (J)."""
    energy_j_per_step_p10: float | None = None
    energy_j_per_step_p90: float | None = None
    energy_j_per_token: float | None = None
    """Energy of all GPUs for a token: taken in, or of inference put out with its share of the prompts (J)."""
    energy_j_per_token_p10: float | None = None
    energy_j_per_token_p90: float | None = None
    tokens_per_j: float | None = None
    """1 / energy_j_per_token: tokens/s of a W, performance per watt (tokens/J)."""
    tokens_per_j_p10: float | None = None
    tokens_per_j_p90: float | None = None
    weights_bytes_per_gpu: float
    """Bytes of the weights a GPU holds (B)."""
    memory_capacity_bytes: float
    """Memory of the GPU (B)."""
    weights_fit: bool
    """Whether the weights alone fit into it."""

    node_power_w: float | None = None
    """Power of a node, all of its GPUs at work: these, and what else it draws under load (W)."""
    node_power_w_p10: float | None = None
    node_power_w_p90: float | None = None
    site_power_w: float | None = None
    """Power of the job at the meter of the site: its GPUs and their share of the nodes, times PUE (W)."""
    site_power_w_p10: float | None = None
    site_power_w_p90: float | None = None
    energy_kwh_per_run: float | None = None
    """Energy of workload.train_tokens, or of the step, at the meter of the site (kWh)."""
    energy_kwh_per_run_p10: float | None = None
    energy_kwh_per_run_p90: float | None = None
    co2_kg_per_h: float | None = None
    """CO2 of an hour of site_power_w by the grid of the site: operational, location-based; not of making the machines
    (kg/h)."""
    co2_kg_per_h_p10: float | None = None
    co2_kg_per_h_p90: float | None = None
    co2_kg_per_run: float | None = None
    """CO2 of energy_kwh_per_run by the grid of the site (kg)."""
    co2_kg_per_run_p10: float | None = None
    co2_kg_per_run_p90: float | None = None
    grid_used: str | None = None
    """The PUE and the grid that energy and CO2 were reckoned with: country, year, g/kWh."""
    nodes_per_rack: int | None = None
    """Nodes that the rack of the site takes, by power, height and cooling."""
    rack_bound: str | None = None
    """What a rack has no more of: power, height or cooling."""
    rack_peak_w: float | None = None
    """Power of a full rack: GPUs at their limit, nodes at their rating (W)."""
    fleet_gpus: int | None = None
    """GPUs that the budget of the site feeds, nodes at their peak and PUE counted."""
    fleet_rate_per_s: float | None = None
    """Tokens, images or sequences per second of a fleet under the budget of the site, all of it on this job (1/s)."""
    fleet_rate_per_s_p10: float | None = None
    fleet_rate_per_s_p90: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], execution: Execution, memory: MemoryUse, board: Board | None = None) -> Self:
        """A result from its columns; those that follow from a time get the interval of that time."""
        whole = {**row, **following_ends(row)}
        made = object.__new__(cls)  # ten times as fast as the setters of a frozen dataclass, of which it has a hundred
        vars(made).update(
            whole, execution=execution, memory=memory, order=tuple(whole), inputs=dict, labels={}, board=board
        )
        return made

    def told(self, inputs: Inputs | None = None, labels: Mapping[str, Any] | None = None) -> Self:
        """A copy of the result with another function that makes `resolved`, or with other labels."""
        made = object.__new__(type(self))
        kept = {name: value for name, value in vars(self).items() if name not in ("row", "resolved")}
        vars(made).update(kept, inputs=inputs or self.inputs, labels=self.labels if labels is None else labels)
        return made

    def operated(self, columns: Mapping[str, Any]) -> Self:
        """A copy of the result with columns of operations; those that follow from a time get its interval."""
        kept = {name: value for name, value in vars(self).items() if name not in ("row", "resolved")}
        row = {name: kept[name] for name in self.order}
        whole = {**columns, **following_ends({**row, **columns})}
        made = object.__new__(type(self))
        vars(made).update(kept, **whole, order=tuple(dict.fromkeys([*self.order, *whole])))
        return made

    @cached_property
    def row(self) -> Row:
        """Labels of the result, and every figure by its column."""
        return Row({**self.labels, **{name: getattr(self, name) for name in self.order}})

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The one row, as other answers have several."""
        return [self.row]

    def __repr__(self) -> str:
        """What was simulated, and the main figures, in a line."""
        from simgpu.render.columns import cell

        figures = []
        for name in self.HEADLINE:
            if (value := getattr(self, name)) is not None:
                said, unit = cell(name, value), TABLE[name].unit
                figures.append(f"{said} {unit}" if unit.endswith("/s") else f"{TABLE[name].title} {said}")
        job = self.model if self.workload == self.model else f"{self.workload} of {self.model}"
        held = [self.memory.words()] if self.memory else []
        return f"{type(self).__name__}({job} on {self.gpus:,} x {self.gpu}: {', '.join([*figures, *held])})"

    @cached_property
    def resolved(self) -> Mapping[str, Mapping[str, Any]]:
        """Every input, defaults and catalogue figures included: {key: {value, unit, source}}, SI."""
        return self.inputs()

    def power_trace(self, rank: int = 0) -> PowerTrace:
        """Power of the board of a rank over the run; `.windowed()` is its mean as the board's controller sees it."""
        assert self.board is not None
        return trace_of(self.execution, self.board, rank)

    @property
    def timeline(self) -> Timeline:
        """Start and end of every activity, s, on each stream."""
        return self.execution.timeline

    @cached_property
    def critical_path(self) -> Sequence[Link]:
        """Activities that the step waits for, from its start to its end: `start` and `seconds`, `activity.name`."""
        return critical_path(self.execution)

    def interval(self, column: str) -> Interval:
        """A column with its P10 and P90. Raises `ArgumentError` for what is no column, or has no interval."""
        if column not in self.row:
            raise ArgumentError(f"no column {shown(column)}{nearest(column, self.row)}", key="Result.interval")
        found = self.intervals.get(column)
        if found is None:
            known = ", ".join(self.intervals)
            raise ArgumentError(f"'{column}' has no interval; expected one of {known}", key="Result.interval")
        return found

    @cached_property
    def intervals(self) -> Mapping[str, Interval]:
        """The columns that have an interval, by name."""
        row = self.row
        return {
            name: Interval(value, row[f"{name}_p10"], row[f"{name}_p90"])
            for name, value in row.items()
            if f"{name}_p10" in row and f"{name}_p90" in row
        }

    if not TYPE_CHECKING:  # a type checker shall find a name that is not there

        def __getattr__(self, name: str) -> NoReturn:
            if name in TABLE:
                raise AttributeError(f"{type(self).__name__} has no '{name}': it is a column of other jobs")
            super().__getattr__(name)


@dataclass(frozen=True, repr=False, kw_only=True)
class SplitResult(Result):
    """A job of a model whose layers and caches are split over GPUs: where its time goes, and its memory."""

    pp: int
    """Pipeline stages."""
    cp: int
    """Context-parallel ranks."""
    ep: int
    """Expert-parallel ranks, of dp x cp in training, of tp x dp in inference."""
    gemm_s: float
    """Matrix multiplications on the busiest rank (s)."""
    attention_s: float
    """Attention kernels (s)."""
    memory_bound_s: float
    """Normalisation, activations, casts, loss and other kernels that stream (s)."""
    experts_s: float
    """Grouped multiplications of experts (s)."""
    host_s: float
    """Launch gaps and host work that the GPU waits for (s)."""
    exposed_tp_s: float
    """Tensor-parallel collectives while no kernel runs (s)."""
    exposed_cp_s: float
    """Context-parallel collectives while no kernel runs (s)."""
    exposed_ep_s: float
    """Expert-parallel collectives while no kernel runs (s)."""
    exposed_pp_s: float
    """Transfers of activations between stages while no kernel runs (s)."""
    memory_bytes_per_gpu: float
    """Peak memory of the rank that needs most: allocated memory, CUDA context and NCCL (B)."""
    memory_fits: bool
    """False where that does not fit the memory of the GPU: in training where memory_verdict is 'does not fit', with
    offload also by what lies in host memory and on drives, where the node's file tells their size; in inference where
    it is more than the engine's share."""
    activations_memory_bytes: float
    """Part of the memory: activations of the microbatches in flight (B)."""
    reserve_memory_bytes: float
    """Part of the memory: CUDA context and NCCL (B)."""
