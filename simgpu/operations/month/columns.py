"""Columns of a month of use: hours, the bill by its parts, and from how many hours on owning costs less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, exp, isfinite, log, sqrt
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.operations.fields import CostFields, RestartFields
from simgpu.operations.fitting import fits
from simgpu.operations.hourly import priced_hour
from simgpu.operations.month.bill import HAD, Band, Machine, Session, bill_of, break_even_hours
from simgpu.operations.month.fields import BILLED, WEEKDAYS, MonthFields, StartUpFields, UseFields
from simgpu.operations.prices import RENTS, Wanted, base_gpu, price_book
from simgpu.operations.quantities import HOUR

DAY_HOURS = 24.0
BY_TOKENS = "output_tokens_per_s"


def month_columns(
    fields: MonthFields, cost: CostFields | None, row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue,
    pue: float,
) -> dict[str, Any]:  # fmt: skip
    """Columns of a month of use. Raises `InputError` (key only). A job that does not fit the memory has none."""
    if not fits(row):
        return {}
    known = cost or CostFields()
    hours, seen = len(fields.weekdays) * DAY_HOURS, dict[tuple[Any, ...], Machine]()
    uses, used, words = [], 0.0, []
    for number, use in enumerate((fields, *fields.also)):
        key = "month" if number == 0 else f"month.also.{number - 1}"
        where = _place(use, cluster, catalogue, key)
        said = row if where is cluster else _like(use, where)
        machine = _machine(use, use.cost(known), said, where, catalogue, pue, key)
        machine = seen.setdefault((machine.name, machine.gpus, machine.rent, machine.fixed, machine.rounded), machine)
        sessions = sessions_of(use, fields.weekdays, row, key)
        uses.append((machine, use.use, sessions, start_up_of(use.use, fields.start_up, machine, row)))
        used += sum(session.hours for session in sessions)
        words.append(f"{machine.gpus} x {machine.name} {_way(use.cost(known))} for {use.use}")
    _check_room(uses, hours)
    bill = bill_of(uses, hours)
    columns = {
        "month_used": "; ".join(dict.fromkeys(words)),
        "hours_per_month": used,
        "paid_hours_per_month": sum(item.hours for item in bill.items if item.use != HAD),
        "start_ups_per_month": sum(len(sessions) for _, _, sessions, _ in uses),
        "start_up_s": uses[0][3],
        "start_up_usd_per_month": bill.usd() - bill_of([(m, u, s, 0.0) for m, u, s, _ in uses], hours).usd(),
        "rent_usd_per_month": bill.rent(),
        "owned_usd_per_month": bill.owned(),
        **_with_ends("usd_per_month", (bill.usd(0), bill.usd(1), bill.usd(2)), _time_spread(fields, row)),
    }
    return columns | _break_even(fields, known, row, cluster, catalogue, pue, uses[0], hours)


def sessions_of(use: UseFields, weekdays: Sequence[int], row: Mapping[str, Any], key: str) -> list[Session]:
    """The intervals of a use in a month; hours without days are spread evenly. Raises `InputError` (key only)."""
    if use.days is not None and use.a_day is not None:
        wanted = {WEEKDAYS.index(day) for day in use.days}
        return _joined([Session(day, use.start, use.a_day) for day, of in enumerate(weekdays) if of in wanted])
    total = _total(use, row, key)
    each = use.session or total
    count = max(ceil(total / each - 1e-9), 1)
    lengths = [each] * (count - 1) + [total - each * (count - 1)]
    return [Session(n * len(weekdays) // count, use.start, length) for n, length in enumerate(lengths)]


def _joined(sessions: Sequence[Session]) -> list[Session]:
    """Sessions in order; those that go on where the one before ends are one."""
    found: list[Session] = []
    for one in sessions:
        if found and abs((one.day - found[-1].day) * DAY_HOURS + one.start - found[-1].start - found[-1].hours) < 1e-9:
            last = found.pop()
            one = Session(last.day, last.start, last.hours + one.hours)
        found.append(one)
    return found


def start_up_of(use: str, fields: StartUpFields, machine: Machine, row: Mapping[str, Any]) -> float:
    """Seconds from the start of a session until it works: instance and image of a rented machine, and the job's own."""
    begun = 0.0 if machine.kept else fields.provision + fields.image * 1e9 / fields.image_rate
    if use == "development":
        return begun
    each = machine.gpus / max(int(row.get("dp") or 1), 1)  # replicas read the same weights
    weights = float(row.get("weights_bytes_per_gpu") or 0.0) * each / fields.weights
    if use == "serving":
        return begun + weights + fields.compile + fields.graphs
    usual = RestartFields()
    return begun + weights + (usual.start + usual.warm_up if fields.launch is None else fields.launch)


def _total(use: UseFields, row: Mapping[str, Any], key: str) -> float:
    """Hours a month of a use that is not by the calendar."""
    if use.tokens is not None:
        if not row.get(BY_TOKENS):
            raise InputError("the job of the scenario makes no output tokens; expected hours", key=f"{key}.tokens")
        return use.tokens / float(row[BY_TOKENS]) / HOUR
    if use.hours == "run":
        days = row.get("training_days_with_failures", row.get("training_days"))
        if days is None:
            problem = "'run' is of training with workload.train_tokens; expected hours"
            raise InputError(problem, key=f"{key}.hours")
        return float(days) * DAY_HOURS
    assert isinstance(use.hours, float)
    return use.hours


def _place(use: UseFields, cluster: Cluster, catalogue: Catalogue, key: str) -> Cluster:
    """The machine of a use. Raises `InputError` (key only) for one that is not known."""
    if not use.on:
        return cluster
    try:
        return catalogue.cluster(use.on)
    except InputError as error:
        raise error if error.file else InputError(error.problem, key=f"{key}.on") from None


def _like(use: UseFields, cluster: Cluster) -> dict[str, Any]:
    """What is known of a job on a machine that the scenario does not simulate."""
    kind = "training" if use.use == "training" else "inference"
    return {"gpus": use.gpus or 1, "gpu": cluster.gpu.name, "workload": kind}


def _machine(
    use: UseFields, cost: CostFields, row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue, pue: float,
    key: str,
) -> Machine:  # fmt: skip
    """A machine and what its hour costs, by the usual, the cheapest and the dearest quote."""
    gpus = use.gpus or int(row["gpus"])
    try:
        found = priced_hour(cost, row, cluster, catalogue, pue)
    except InputError as error:
        raise InputError(error.problem, key=error.key if key == "month" else f"{key}.price") from None
    hour, (low, high) = found.hourly, spread_of(cost, cluster, catalogue)
    if found.owned is None:
        rent = hour.fixed * gpus
        always = str(cost.price).startswith("reserved")
        return Machine(
            cluster.name, gpus, rent=(rent, rent * low, rent * high), always=always, rounded=BILLED[use.billed],
            useful=hour.useful,
        )  # fmt: skip
    chips = hour.parts["chips"]
    ends = [(hour.fixed + chips * (ratio - 1.0)) * gpus for ratio in (1.0, low, high)]
    energy, idle = hour.energy * gpus, hour.idle * gpus
    return Machine(cluster.name, gpus, fixed=(ends[0], ends[1], ends[2]), energy=energy, idle=idle)


def spread_of(cost: CostFields, cluster: Cluster, catalogue: Catalogue) -> tuple[float, float]:
    """The cheapest and the dearest of the quotes that a price was chosen from, over it; 1 of a price set by hand."""
    kind = "purchase" if cost.price == "owned" else str(cost.price)
    if (kind == "purchase" and cost.chips is not None) or kind not in ("purchase", *RENTS):
        return 1.0, 1.0
    wanted = Wanted(kind, cost.vendor, cost.region, cost.date)
    known = price_book(catalogue, cost.prices).find(base_gpu(cluster.gpu.name), wanted)
    return (known.least / known.value, known.most / known.value) if known is not None else (1.0, 1.0)


def _check_room(uses: Sequence[tuple[Machine, str, Sequence[Session], float]], hours: float) -> None:
    """Raise `InputError` (key only) for a machine that is there once and is used twice at a time, or for too long."""
    for machine in dict.fromkeys(machine for machine, *_ in uses if machine.kept):
        mine = [(use, one) for other, use, sessions, _ in uses if other == machine for one in sessions]
        total = sum(one.hours for _, one in mine)
        if total > hours + 1e-6:
            problem = f"{total:,.4g} h of a {machine.name} that is there once; a month has {hours:g}"
            raise InputError(f"{problem}: expected fewer hours, or a machine that is rented", key="month.hours")
        mine.sort(key=lambda pair: (pair[1].day, pair[1].start))
        for (use, one), (other, next_) in pairwise(mine):
            if use != other and one.day == next_.day and one.start + one.hours > next_.start + 1e-9:
                problem = f"{use} and {other} overlap on day {one.day + 1} on a {machine.name} that is there once"
                raise InputError(f"{problem}; expected another start, or another machine (on)", key="month.also")


def _break_even(
    fields: MonthFields, cost: CostFields, row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue, pue: float,
    first: tuple[Machine, str, Sequence[Session], float], hours: float,
) -> dict[str, float]:  # fmt: skip
    """Hours from which on owning the scenario's machine costs less than renting it for these sessions."""
    try:
        pair = []
        for price in ("owned", cost.against if cost.price == "owned" or cost.price in _KEPT else cost.price):
            had = cost.model_copy(update={"price": price})
            pair.append(_machine(fields, had, row, cluster, catalogue, pue, "month"))
    except InputError:  # nobody sells it, or nobody lets it
        return {}
    owned, rented = pair
    if rented.rent is None or rented.always:
        return {}
    _, use, sessions, _ = first
    start_up = start_up_of(use, fields.start_up, rented, row)
    overhead = sum(rented.paid(one, start_up) for one in sessions) / sum(one.hours for one in sessions)
    found = [break_even_hours(owned, rented, overhead, hours, ends) for ends in ((0, 0), (1, 2), (2, 1))]
    ends = ("", "_p10", "_p90")
    return {f"break_even_hours_per_month{end}": one for end, one in zip(ends, found, strict=True) if isfinite(one)}


_KEPT = ("reserved_1y", "reserved_3y")


def _way(cost: CostFields) -> str:
    price = cost.price
    return f"at {price:g} USD/h" if isinstance(price, (int, float)) else price.replace("_", " ")


def _time_spread(fields: MonthFields, row: Mapping[str, Any]) -> tuple[float, float]:
    """P10 and P90 of the hours of the first use over their middle, where they follow from the job."""
    name = BY_TOKENS if fields.tokens is not None else "step_s" if fields.hours == "run" else ""
    ends = [row.get(f"{name}_{end}") for end in ("p10", "p90")]
    if not name or not all(ends):
        return 1.0, 1.0
    low, high = (float(end) / float(row[name]) for end in ends if end)
    return (1.0 / high, 1.0 / low) if name == BY_TOKENS else (low, high)


def _with_ends(column: str, band: Band, time: tuple[float, float]) -> dict[str, float]:
    """A cost, and what it is by the cheapest and the dearest quote and at the ends of the time: independent of each."""
    usd, *ends = band
    found = {column: usd}
    for end, by_quote, by_time in zip(("p10", "p90"), ends, time, strict=True):
        width = sqrt(log(by_quote / usd) ** 2 + log(by_time) ** 2) if usd > 0 and by_quote > 0 else 0.0
        found[f"{column}_{end}"] = usd * exp(-width if end == "p10" else width)
    return found
