"""Columns of failures of a row: mean time between them, checkpoints, goodput, days and cost of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.operations.checkpoints import Checkpoint, checkpoint, saving_of
from simgpu.operations.fields import CostFields, ReliabilityFields
from simgpu.operations.fitting import MISFIT, fits
from simgpu.operations.goodput import Saving, straggler_slowdown
from simgpu.operations.hourly import Priced, nodes_of
from simgpu.operations.quantities import DAY
from simgpu.operations.rates import JobRates, RatesFile, job_rates, rates_of
from simgpu.operations.run import ACCOUNTS, Plan, Runs, simulate_runs
from simgpu.operations.spares import expected_share, nodes_away, spares_for, waiting_share
from simgpu.operations.spot import Preempted, preempted_of

RATE_RANGE = (0.6, 1.7)
"""P10 and P90 of another cluster's failure rate over that of the file: RSC-2 to RSC-1 around the others."""

NEVER = 1e-3
"""Below this goodput a run never finishes."""

MOST_INTERRUPTIONS = 100_000
"""Interruptions that are simulated for one row, all its runs together."""


@dataclass(frozen=True)
class Reliability:
    """A job's failures and what it does about them: rates, how it saves, how often, its spares.

    late
        s of work that a silent error takes beside that since the last save: until somebody sees it.
    length
        s of the run, at whose start all spares are there.
    """

    rates: JobRates
    file: RatesFile
    saved: Checkpoint
    saving: Saving
    interval: float
    nodes: int
    spares: int | None
    repair: float
    late: float = 0.0
    taken: Preempted | None = None
    elastic: bool = False
    nodes_of_replica: int = 1
    length: float = inf

    def goodput(self, factor: float = 1.0) -> float:
        """Training goodput by the closed form, at `factor` times the failures.

        Preemptions whose notice is too short for a save are failures with a restart of their own.
        """
        saving, mttf, left = self.saving, self.rates.mttf / factor, 1.0
        if self.taken is not None and self.taken.announced(saving):
            left = self.taken.useful(saving)
        elif self.taken is not None:
            saving, mttf = with_preemptions(saving, mttf, self.taken)
        if self.spares is not None:
            away = nodes_away(self.rates.replaced * factor, self.repair, self.length)
            works = (
                expected_share(away, self.spares, self.nodes, self.nodes_of_replica)
                if self.elastic
                else (1.0 - waiting_share(away, self.spares))
            )
            left *= works
        late = self.rates.silent * factor * self.late
        stops = self.rates.planned * self.saving.restart
        return max(saving.goodput(self.interval, mttf) * (1.0 - late) * left - stops, 0.0)


def with_preemptions(saving: Saving, mttf: float, taken: Preempted) -> tuple[Saving, float]:
    """Saves and the mean time between interruptions, preemptions among them: restarts are those of both on average."""
    rate = 1.0 / mttf + taken.rate
    mean = (saving.restart / mttf + taken.restart * taken.rate) / rate
    return replace(saving, restart=mean), 1.0 / rate


def reliability_of(
    fields: ReliabilityFields, parameters: float, row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue,
    cost: CostFields | None = None,
) -> Reliability:  # fmt: skip
    """The failures of a training job, preemptions among them. Raises `InputError` for rates that are not there."""
    file, gpus = rates_of(catalogue, fields.rates), int(row["gpus"])
    rates = job_rates(file, gpus, cluster.gpus_per_node, fields.factor, fields.ecc, fields.planned)
    saved = checkpoint(parameters, cluster, gpus, fields.checkpoint)
    step = row["step_s"]
    contended = (row.get("exposed_communication_s") or 0.0) / step if nodes_of(row, cluster) > 1 else 0.0
    saving = saving_of(saved, fields.checkpoint, fields.restart, min(contended, 1.0))
    given = fields.checkpoint.interval
    taken = preempted_of(cost, row, cluster, fields.restart, saved.read_s)
    stopped = rates.mttf
    if taken is not None and not taken.announced(saving):
        stopped = with_preemptions(saving, stopped, taken)[1]
    interval = saving.optimum(stopped, step) if given is None else given
    if interval <= 0:
        raise InputError("0 s: expected a time above it, such as '10 min'", key="reliability.checkpoint.interval")
    if interval == inf:  # nothing ever fails: one save at the end
        interval = 365 * DAY
    repair = fields.repair if fields.repair is not None else file.repair.mean
    return Reliability(
        rates, file, saved, saving, interval, nodes_of(row, cluster), fields.spares, repair, fields.detection_delay,
        taken, fields.elastic, max(-(-int(row["gpus"]) // (row.get("dp") or 1) // cluster.gpus_per_node), 1),
        row["training_days"] * DAY if row.get("training_days") else fields.length,
    )  # fmt: skip


def plan_of(fields: ReliabilityFields, found: Reliability, useful: float = inf, wall: float = inf) -> Plan:
    """What is simulated of a job: until its work is done, or for a time."""
    rates = found.rates
    return Plan(
        found.saving, found.interval, rates.causes, useful, wall, rates.silent, found.late, rates.planned, 0.0,
        rates.replaced / rates.unplanned if rates.unplanned else 0.0, found.repair, found.spares, found.nodes,
        fields.lemons, fields.shape, found.taken, found.nodes_of_replica if fields.elastic else 0,
    )  # fmt: skip


def failure_columns(
    fields: ReliabilityFields, parameters: float, row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue,
    hour: Priced | None = None, cost: CostFields | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Columns of the failures of a row. Raises `InputError` for a run that never finishes.

    Of a job that does not train only how often it stops is said.
    """
    if not fits(row):
        return {"rates_used": MISFIT}
    found = reliability_of(fields, parameters, row, cluster, catalogue, cost)
    columns: dict[str, Any] = {"rates_used": found.file.name, "mttf_s": found.rates.mttf}
    if row.get("workload") != "training":
        return columns
    if found.taken is not None:
        columns["preempted_s"] = 1.0 / found.taken.rate
    slow = straggler_slowdown(int(row["gpus"]), **fields.stragglers.model_dump())
    goodput, low, high = (found.goodput(factor) for factor in (1.0, RATE_RANGE[1], RATE_RANGE[0]))
    if goodput < NEVER:
        problem = f"a run of {row['gpus']:,} GPUs that fails every {found.rates.mttf / 60:.3g} min never finishes"
        problem += f" with saves of {found.saving.stall:.3g} s and restarts of {found.saving.restart:.3g} s"
        raise InputError(f"{problem}; expected shorter ones, or fewer GPUs", key="reliability")
    spares = found.spares if found.spares is not None else spares_for(nodes_away(found.rates.replaced, found.repair))
    columns |= {
        "training_goodput": goodput,
        "training_goodput_p10": low,
        "training_goodput_p90": high,
        "goodput_mfu": row["mfu"] * goodput / slow,
        "straggler_slowdown": slow,
        "checkpoint_bytes": found.saved.bytes,
        "checkpoint_interval_s": found.interval,
        "checkpoint_s": found.saved.write_s if fields.checkpoint.save is None else fields.checkpoint.save,
        "checkpoint_stall_s": found.saving.stall,
        "restart_s": found.saving.restart,
        "spare_nodes": spares,
    }
    columns |= _of_run(row, columns, slow, hour, found.nodes)
    columns |= _simulated(fields, found, row, columns)
    return columns


def _of_run(
    row: Mapping[str, Any], columns: Mapping[str, Any], slow: float, hour: Priced | None, nodes: int
) -> dict[str, Any]:
    """Days and cost of a run of known length, with failures; spare nodes are paid for too, but draw idle power."""
    if row.get("training_days") is None:
        return {}
    goodput = columns["training_goodput"]
    days = row["training_days"] * slow / goodput
    ends = _spread(
        days, (row["training_days_p10"], row["training_days"], row["training_days_p90"]),
        (columns["training_goodput_p10"], goodput, columns["training_goodput_p90"]),
    )  # fmt: skip
    found: dict[str, Any] = {"training_days_with_failures": days, **_named("training_days_with_failures", ends)}
    found["interruptions"] = days * DAY / columns["mttf_s"]
    if hour is not None:
        spare = columns["spare_nodes"] / nodes * hour.hourly.fixed / hour.hourly.utilisation
        used = hour.hourly.used * hour.hourly.useful  # what preemptions take is in the goodput
        usd = (used + spare) * row["gpus"] * days * 24.0
        found["usd_per_run_with_failures"] = usd
        found |= _named("usd_per_run_with_failures", (usd * ends[0] / days, usd * ends[1] / days))
    return found


def _named(column: str, ends: tuple[float, float]) -> dict[str, float]:
    return {f"{column}_p10": ends[0], f"{column}_p90": ends[1]}


def _spread(value: float, time: tuple[float, float, float], goodput: tuple[float, float, float]) -> tuple[float, float]:
    """P10 and P90 of a time over a goodput: both are independent, so that squares of logarithms add."""
    low = sqrt(log(time[1] / time[0]) ** 2 + log(goodput[2] / goodput[1]) ** 2)
    high = sqrt(log(time[2] / time[1]) ** 2 + log(goodput[1] / max(goodput[0], NEVER)) ** 2)
    return value * exp(-low), value * exp(high)


def _simulated(
    fields: ReliabilityFields, found: Reliability, row: Mapping[str, Any], columns: Mapping[str, Any]
) -> dict[str, Any]:
    """The share of the time in each account, of runs that were simulated one failure after another."""
    days = columns.get("training_days_with_failures")
    useful = row["training_days"] * DAY * columns["straggler_slowdown"] if days else inf
    wall = inf if days else fields.length
    often = found.rates.all + (found.taken.rate if found.taken is not None else 0.0)
    each = (days * DAY if days else wall) * (often + 1e-12)
    runs = min(fields.runs, int(MOST_INTERRUPTIONS / max(each, 1.0)))
    if not runs:
        return {}
    done = simulate_runs(plan_of(fields, found, useful, wall), runs, fields.seed)
    mean, _ = done.mean("goodput")
    low, high = done.ends("goodput")
    shares = {f"{name}_share": _share(done, name) for name in ACCOUNTS}
    return {"simulated_goodput": mean, "simulated_goodput_p10": low, "simulated_goodput_p90": high, **shares}


def _share(done: Runs, account: str) -> float:
    """The mean share of the time that went to an account."""
    return float((done.of(account) / done.of("wall")).mean())


def with_interval(found: Reliability, interval: float) -> Reliability:
    """The same job with another interval between its saves."""
    return replace(found, interval=interval)
