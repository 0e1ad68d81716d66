"""A server request by request, from what a user asks to a row of numbers, with the closed form beside it.

The interval is that of the whole chain: the load is served three times, with kernels as they are predicted and at both
ends of their interval. Queues make a small error of a step a large one of the wait: where one end is stationary and the
other is not, the row says `unsure`, and the interval is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simgpu.errors import InputError
from simgpu.model.config import TransformerConfig
from simgpu.plan.serving_memory import ServingMemory, most_sequences, serving_memory
from simgpu.simulation.inference import asked, capacity_of, held, kernel_ends, memory_of, run_spread_of, times
from simgpu.simulation.traffic_parts import adapters_of, classes_of, sessions_of, turns_of
from simgpu.timing.uncertainty import distance_of
from simgpu.workload.execution import Execution
from simgpu.workload.inference.deploying import speculation_of
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.generation import Run, prefill_runs
from simgpu.workload.inference.open_load import serve_at_rate
from simgpu.workload.inference.serving import Load, Serving, serve
from simgpu.workload.inference.timeline import timeline_of
from simgpu.workload.server.answer import Served, joined, serve_ends, serve_middle
from simgpu.workload.server.care import CANCELLED, FAILED, TIMED_OUT, TURNED_AWAY
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.started import check_traffic
from simgpu.workload.server.tally import Sample

SHARES = (50.0, 90.0, 95.0, 99.0)
"""Percentiles of a row."""

RATES = ("requests_per_s", "output_tokens_per_s", "output_tokens_per_s_per_gpu", "total_tokens_per_s", "slo_goodput")
"""Columns that are lower where steps are slower."""


@dataclass(frozen=True)
class Answered:
    """A server under a load: its timeline, memory, row, and what it did."""

    execution: Execution
    memory: tuple[ServingMemory, ...]
    row: dict[str, Any]
    served: Served
    prompts: Execution | None = None  # the prefill of a mean prompt


def answer(
    deployment: Deployment, job: Traffic, require_fit: bool, draft: TransformerConfig | None = None,
    others: Sequence[Deployment] = (),
) -> Answered:  # fmt: skip
    """Serve a load with steps as predicted and at the ends of their interval. Raises `InputError` (key only)."""
    check_traffic(deployment, job)
    plan = deployment.plan
    speculation = speculation_of(deployment, job.speculative, draft, job.longest)
    if speculation is not None:
        deployment = replace(deployment, drafter=speculation.drafter.served)
    for one in (deployment, *others):
        memory_of(one, one.plan.dp, max(job.longest, 2), require_fit)
    pieces = serve_middle(deployment, job, speculation, others)
    part = _figures(pieces[0])
    first = pieces[0].stationary
    done = joined(pieces)
    prompt, output = done.prompts / done.requests, done.outputs / done.requests
    series = done.tally.series.rows()
    running = sum(row["running"] for row in series) * done.tally.series.width / done.end
    batch = max(round(running / done.replicas), 1)
    step = deployment.decode(batch, round(prompt + output / 2))
    tpot = max(done.tpot.mean, 1e-12)
    runs = [Run(step, max(output - 1, 1.0), tpot, 1.0, together=1.0)]
    spread = run_spread_of(deployment, "tpot", tpot, kernel_ends(runs), load=True)
    low, high, *fewer = serve_ends(deployment, job, (spread.low, spread.high), speculation, others)
    if fewer:
        part, first = _figures(fewer[0]), fewer[0].stationary
    holds = _held_at_once(deployment, job, batch * plan.dp, round(prompt + output / 2))
    memory = serving_memory(deployment.served, holds, round(prompt + output / 2), capacity_of(deployment))
    row = {
        **asked(deployment, prompt=prompt, output=output),
        **times(done.total.mean, runs, deployment, per=1.0 / max(output - 1, 1)),
        **{name: value for name, value in _figures(done).items() if name != "e2e_s"},
        **_state(done, series, job),
        **_managed(done, deployment, job),
        **turns_of(done),
        **adapters_of(done),
        "stationary": _in_words(job, [low.stationary, first, done.stationary, high.stationary]),
        **({} if others else _steady(deployment, job, prompt, output, done.rules.look_s)),
        **held(deployment, memory, holds, round(prompt + output)),
        "distance": distance_of(deployment.cluster.kernel, spread.layers, deployment.runtime.engine),
    }
    if job.images is not None:
        row |= {"image_tokens": done.rules.image_tokens, "vision_s": done.rules.look_s}
    middle, fast, slow = (_figures(one) for one in (done, low, high))
    for name, value in middle.items():
        if name in ("interference_s", "e2e_s"):
            continue
        over = value / part[name] if part[name] else 1.0  # the ends are of some replicas alone
        ends = [value, over * fast[name], over * slow[name]]
        row[f"{name}_p10"], row[f"{name}_p90"] = min(ends), max(ends)
    totals = (done.total.mean, *(one.total.mean * done.total.mean / part["e2e_s"] for one in (low, high)))
    row["step_s_p10"], row["step_s_p90"] = min(totals), max(totals)
    alone = timeline_of(prefill_runs(deployment, 1, max(round(prompt), 1)), [])
    return Answered(timeline_of([], runs), memory, row, done, alone)


def _held_at_once(deployment: Deployment, job: Traffic, batch: int, tokens: int) -> int:
    """Sequences of so many tokens that take the memory of a mean batch: fewer where requests share what they hold.

    An engine runs no more than its cache holds.
    """
    most = most_sequences(deployment.served, tokens, capacity_of(deployment))
    return min(batch, most) if most and job.cache_tokens is None else batch


VARYING = ("burst", "ramp", "stages", "profile", "day", "trace")
"""Arrivals that are not steady themselves."""


def _in_words(job: Traffic, stationary: list[bool]) -> str:
    if job.process in VARYING:
        return "varies"
    return "yes" if all(stationary) else "unsure" if any(stationary) else "no"


def _figures(done: Served) -> dict[str, float]:
    """Columns that have an interval."""
    gpus = done.gpus * done.replica_s / done.replicas / done.end
    number = done.requests
    rate = number / done.end
    found = {
        "ttft_s": done.ttft.mean,
        "tpot_s": done.tpot.mean,
        "requests_per_s": rate,
        "output_tokens_per_s": done.outputs / done.end,
        "output_tokens_per_s_per_user": 1 / done.tpot.mean if done.tpot.mean else 0.0,
        "output_tokens_per_s_per_gpu": done.outputs / done.end / gpus,
        "total_tokens_per_s": (done.prompts + done.outputs) / done.end,
        "interference_s": done.parts[3] / max(done.outputs - number, 1),
        "itl_s": done.tally.itl.mean,
        "e2e_s": done.total.mean,
    }
    for name, sample in _samples(done).items():
        values = sample.percentiles(SHARES)
        found |= {f"{name}_{share:.0f}th_s": value for share, value in zip(SHARES, values, strict=True)}
    if done.sessions.ended:
        found |= sessions_of(done)
    if len(done.classes) > 1:
        found |= classes_of(done)
    return found | {
        "slo_goodput": done.good / done.end,
        "queue_s": done.parts[1] / number,
        "own_prompt_s": done.parts[2] / number,
    }


def _samples(done: Served) -> Mapping[str, Sample]:
    return {"ttft": done.ttft, "tpot": done.tpot, "itl": done.tally.itl, "e2e": done.total}


def _state(done: Served, series: list[dict[str, float]], job: Traffic) -> dict[str, Any]:
    """Columns of the load, and of the server's state over time."""
    tally, width = done.tally, done.tally.series.width
    blocks, seconds = done.blocks, done.replica_s

    def mean(name: str) -> float:
        return sum(row[name] for row in series) * width / done.end

    open_load = job.process not in ("closed", "burst") and done.last_sent > 0
    return {
        "arrival_rate": done.requests / (done.last_sent if open_load else done.end),
        "requests_served": done.requests,
        "duration_s": done.end,
        "waiting": mean("waiting"),
        "running": mean("running"),
        "cache_use": mean("used") / blocks,
        "most_cache_use": tally.most_used / done.rules.blocks,
        "hit_rate": done.hit_rate,
        "preemptions": tally.preemptions,
        "busy": tally.busy_s / seconds,
    }


def _managed(done: Served, deployment: Deployment, job: Traffic) -> dict[str, Any]:
    """Columns of what clients and operators did, where the job has any."""
    row: dict[str, Any] = {}
    fates = {
        TURNED_AWAY: job.turns_away,
        TIMED_OUT: job.times_out,
        CANCELLED: job.patience_s is not None,
        FAILED: job.failures is not None,
    }
    row |= {fate: done.fates[fate] for fate, asked in fates.items() if asked}
    if job.retries:
        row["client_retries"] = done.retries
    if job.failures is not None:
        row["engine_failures"], row["available"] = done.failures, done.up
    if job.scaling is not None:
        row["mean_replicas"], row["most_replicas"] = done.replica_s / done.end, done.most_replicas
    if deployment.experts.replicas > 1:
        row["dummy_share"] = done.tally.dummy_s / max(done.tally.dummy_s + done.tally.busy_s, 1e-12)
    if job.gateway is not None:
        row["gateway_s"] = max(done.parts[0] / done.requests - done.rules.front_s, 0.0)
    if job.apart:
        row["transfer_s"] = done.transfer_s
    if done.rules.tiers is not None:
        row |= _tiers(done)
    return row


PLACES = {
    "": "computed_ttft_s",
    "gpu": "gpu_ttft_s",
    "host": "host_ttft_s",
    "ssd": "ssd_ttft_s",
    "store": "store_ttft_s",
}
"""Columns of the mean TTFT by where the farthest of the tokens that were not computed lay."""


def _tiers(done: Served) -> dict[str, Any]:
    """Columns of tiers of cache."""
    tally, levels = done.tally, done.rules.tiers
    assert levels is not None
    row: dict[str, Any] = {"tier_hit_rate": sum(tally.loaded.values()) / done.prompts}
    row |= {f"{one.kind}_hit_rate": tally.loaded[one.kind] / done.prompts for one in levels.levels}
    row |= {"load_s": tally.load_s / max(tally.loads, 1), "loaded_bytes": tally.loaded_bytes}
    row["written_bytes"] = tally.written_bytes
    row |= {PLACES[place]: seconds / number for place, (number, seconds) in sorted(done.places.items())}
    if levels.notes:
        row["tiers_unused"] = "; ".join(levels.notes)
    return row


def _steady(deployment: Deployment, job: Traffic, prompt: float, output: float, look: float) -> dict[str, float]:
    """TTFT and TPOT of the closed form at the mean lengths; none where the load has no steady state."""
    length, tokens = max(round(prompt), 1), max(round(output), 2)
    cached = min(job.prefix_tokens, length - 1)
    try:
        done: Serving
        if job.process == "closed" and job.clients is not None:
            done = serve(deployment, Load(job.clients, length, tokens, cached, look=look))
        elif job.rate is not None and job.process in ("poisson", "constant", "gamma"):
            done = serve_at_rate(deployment, job.rate, length, tokens, cached, look)
        else:
            return {}
    except InputError:
        return {}
    return {"steady_ttft_s": done.ttft, "steady_tpot_s": done.tpot}
