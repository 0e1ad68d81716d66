"""Servers request by request against measured ones: every request of a run, and stages of an open load.

`llmservingsim_requests.csv` has each request of a run with its lengths and times: the run is served again with the same
arrivals, and distributions are compared; `serving_timeseries.csv` has the server's state of the same each second.
`vllm_openloop_h100.csv` has means and percentiles of stages at constant rates. Prompts of the latter repeat: a stage
sends few different ones, which are cached but for their last token. `serving_loadtests.csv` has load tests with their
command lines (`load_tests.py`).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.lab.machines import cluster_for
from simgpu.lab.validation import load_tests
from simgpu.plan.parallelism import Plan
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.server.answer import Served, serve_traffic
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.tally import Sample

REQUESTS, SUMMARY, OPEN = "llmservingsim_requests.csv", "llmservingsim_serving_summary.csv", "vllm_openloop_h100.csv"
SECONDS = "serving_timeseries.csv"

STATISTICS = {"mean": None, "p50": 50.0, "p90": 90.0, "p99": 99.0}

NOTES = {
    "requests": "every request of one run of vLLM 0.19 on an RTX 4090 (casys-kaist/LLMServingSim, MIT): the engine "
    "alone, without an HTTP server; lengths, arrivals, cache and limits are those of the run",
    "seconds": "the state of the same run, each second as the engine logged it: averages over time of requests that "
    "run and wait, and of the cache in use",
    "load tests": "published runs with their command lines (gpustack, SGLang cookbook), each served again with the "
    "data set, lengths and clients that it counted; nothing was fitted to them. Qwen3 14B on one H100 behaves as on an "
    "H100 PCIe; first tokens of bursts wait for a front end that is not modelled (see serving.md). Some rows cannot be "
    "what they say: gpt-oss-20b in SGLang on A100 gives 266 tokens/s, a tenth of its neighbours",
    "open load": "stages at constant rates of vLLM 0.15.1 on one to four H100 (inference-sim/training at ed5c1d2): "
    "prompts repeat; each stage is served from an empty server; near saturation an error of the steps is magnified",
}


@dataclass(frozen=True)
class Compared:
    """A figure of a run: measured and predicted, s."""

    source: str
    run: str
    figure: str
    statistic: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted / self.measured - 1

    def row(self) -> dict[str, Any]:
        """The same as columns."""
        return {**vars(self), "error_percent": 100 * self.error}


def compare(folder: Path, catalogue: Catalogue, told: Callable[[str], None] = lambda _: None) -> list[Compared]:
    """All runs of a folder; `told` hears of rows that are left out. Raises `InputError` where it has none."""
    found: list[Compared] = []
    requests, opened, tested = (_file(folder, name) for name in (REQUESTS, OPEN, load_tests.FILE))
    if requests is not None:
        found += _requests(requests, _file(folder, SUMMARY), _file(folder, SECONDS), catalogue)
    if opened is not None:
        found += _stages(opened, catalogue)
    if tested is not None:
        found += _tests(tested, catalogue, told)
    if not found:
        raise InputError(f"holds neither {REQUESTS} nor {OPEN} nor {load_tests.FILE}", file=folder, key="data")
    return found


def _tests(file: Path, catalogue: Catalogue, told: Callable[[str], None]) -> Iterator[Compared]:
    """Load tests; tells what could not be served again, and why."""
    tests = load_tests.LoadTests(file, catalogue)
    for again in tests.served():
        several = "one" if again.gpus == 1 else "several"
        source = f"load tests, {again.row['framework']} on {several} {again.row['gpu']}"
        for figure, statistic, measured, predicted in again.values():
            yield Compared(source, again.name, figure, statistic, measured, predicted)
    for reason, count in tests.refused.most_common():
        told(f"{count} load tests are not served again: {reason}")


def _file(folder: Path, name: str) -> Path | None:
    return next((one for one in (folder / name, folder / "reports" / name) if one.is_file()), None)


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---- every request of a run --------------------------------------------------------------------------


def _requests(file: Path, summary: Path | None, seconds: Path | None, catalogue: Catalogue) -> Iterator[Compared]:
    """Distributions of the runs of a file, each served again."""
    limits = {_key(row): row for row in _rows(summary)} if summary is not None else {}
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in _rows(file):
        runs.setdefault(_key(row), []).append(row)
    for key, rows in runs.items():
        if int(rows[0]["dp_size"]) > 1 or key not in limits:
            continue  # ranks in lockstep are not modelled; limits of the run are needed
        yield from _run(rows, limits[key], _states(seconds, rows[0]), catalogue)


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("gpu", "model", "tp_size", "dp_size"))


def _states(file: Path | None, row: dict[str, str]) -> list[dict[str, str]]:
    """Rows of each second of a run, whose name is its GPU and its model without dashes in the first."""
    name = f"{row['gpu'].replace('-', '')}_{row['model']}".lower()
    return [one for one in (_rows(file) if file is not None else []) if one["run"].lower() == name]


STATES = {"running": ("running", 1.0), "waiting": ("waiting", 1.0), "cache %": ("kv_cache_pct", 100.0)}
"""Columns of the state, and what one is in their unit."""


def _over_time(name: str, states: Sequence[dict[str, str]], done: Served) -> Iterator[Compared]:
    """Averages over the seconds that were logged, measured and predicted."""
    if not states:
        return
    last = float(states[-1]["t"])
    rows = [row for row in done.tally.series.rows() if row["time_s"] <= last]
    blocks = done.rules.blocks * done.replicas
    for figure, (column, one) in STATES.items():
        key = "used" if figure == "cache %" else figure
        share = one / blocks if key == "used" else one
        measured = fmean(float(state[column]) for state in states)
        yield Compared("seconds", name, figure, "mean", measured, share * fmean(row[key] for row in rows))


def _run(
    rows: Sequence[dict[str, str]], limits: dict[str, str], states: Sequence[dict[str, str]], catalogue: Catalogue
) -> Iterator[Compared]:
    engine, _, version = limits["framework"].partition(" ")
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.csv"
        lines = [",".join(row[name] for name in ("arrival_s", "input_tokens", "output_tokens")) for row in rows]
        trace.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *lines]), encoding="utf-8")
        job = Traffic(
            trace=str(trace), runtime=f"{engine}@{version}", sequences=int(limits["max_num_seqs"]), front_s=0.0,
            chunk=int(limits["max_num_batched_tokens"]), cache_tokens=int(limits["kv_cache_tokens"]),
        )  # fmt: skip
        done = _served(job, rows[0]["gpu"], rows[0]["model"], int(rows[0]["tp_size"]), catalogue)
    times = [[float(row[name]) for name in ("arrival_s", "first_token_s", "last_token_s")] for row in rows]
    outputs = [int(row["output_tokens"]) for row in rows]
    measured = {
        "ttft": _sample(first - sent for sent, first, _ in times),
        "tpot": _sample(
            (last - first) / (output - 1) for (_, first, last), output in zip(times, outputs, strict=True) if output > 1
        ),
        "e2e": _sample(last - sent for sent, _, last in times),
    }
    name = f"{rows[0]['model']} on {rows[0]['gpu']}, {limits['framework']}"
    for figure, sample in measured.items():
        for statistic, share in STATISTICS.items():
            values = (_value(one, share) for one in (sample, _of(done, figure)))
            yield Compared("requests", name, figure, statistic, *values)
    yield Compared("requests", name, "duration", "all", max(last for _, _, last in times), done.end)
    yield from _over_time(name, states, done)


def _served(job: Traffic, gpu: str, model: str, tp: int, catalogue: Catalogue) -> Served:
    known = catalogue.published(model) or model.lower()
    deployment = deploy(
        cluster_for(catalogue, gpu, tp),
        job.served(),
        catalogue.model(known),
        Plan(tp=tp),
        catalogue.runtime(job.runtime),
    )
    return serve_traffic(deployment, job)


def _sample(values: Iterator[float]) -> Sample:
    made = Sample()
    for value in values:
        made.add(value)
    return made


def _of(done: Served, figure: str) -> Sample:
    return {"ttft": done.ttft, "tpot": done.tpot, "e2e": done.total}[figure]


def _value(sample: Sample, share: float | None) -> float:
    return sample.mean if share is None else sample.percentiles((share,))[0]


# ---- stages of an open load --------------------------------------------------------------------------


def _stages(file: Path, catalogue: Catalogue) -> Iterator[Compared]:
    for row in _rows(file):
        if not row["rate_requests_per_s"] or row["flag"]:
            continue  # a mean over stages, or a row that is set aside
        engine, _, version = row["engine"].partition(" ")
        prompt, output = round(float(row["prompt_tokens_mean"])), int(row["output_tokens"]) + 1
        job = Traffic(
            arrivals="constant", rate=float(row["rate_requests_per_s"]), duration_s=float(row["duration_s"]),
            prompt=1, prefix_tokens=prompt - 1, output=output, runtime=f"{engine}@{version}",
            prefixes=int(row["system_prompts"]) * int(row["users_per_system_prompt"]),
            chunk=int(row["max_num_batched_tokens"]), sequences=int(row["max_num_seqs"]),
        )  # fmt: skip
        done = _served(job, row["gpu"], row["model"], int(row["tp"]), catalogue)
        name = f"{row['experiment']} {row['stage']} at {job.rate:g}/s"
        latency = float(row["latency_s_mean"])
        tpot = (latency - float(row["ttft_s_mean"])) / (output - 1)  # the table's own is half of it
        yield Compared("open load", name, "tpot", "mean", tpot, done.tpot.mean)
        yield Compared("open load", name, "e2e", "mean", latency, done.total.mean)
        for statistic, share in STATISTICS.items():
            measured = float(row["ttft_s_median" if statistic == "p50" else f"ttft_s_{statistic}"])
            yield Compared("open load", name, "ttft", statistic, measured, _value(done.ttft, share))


# ---- what is printed ---------------------------------------------------------------------------------


def summary(found: Sequence[Compared]) -> list[dict[str, Any]]:
    """Errors by source, figure and statistic, percent."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for one in found:
        groups.setdefault((one.source, one.figure, one.statistic), []).append(100 * one.error)
    return [
        {
            "source": source, "figure": figure, "statistic": statistic, "rows": len(errors),
            "median_percent": median(map(abs, errors)), "mean_percent": fmean(map(abs, errors)),
            "bias_percent": fmean(errors),
        }
        for (source, figure, statistic), errors in groups.items()
    ]  # fmt: skip


def page_text(found: Sequence[Compared]) -> str:
    """The page of results, as Markdown."""
    lines = ["<!-- generated, do not edit: simgpu validate serving --data DIR --page docs/validation-serving.md -->"]
    lines += ["# Servers request by request: predicted against measured", ""]
    lines += [
        "Each run is served again, with its arrivals and lengths where they are known (see [serving.md](serving.md)):",
        "",
    ]
    lines += ["    simgpu validate serving --data DIR", "", "Errors are predicted / measured - 1, in percent.", ""]
    lines += ["| source | figure | statistic | rows | median % | mean % | bias % |", "|---|---|---|---|---|---|---|"]
    for one in summary(found):
        numbers = " | ".join(f"{one[name]:.1f}" for name in ("median_percent", "mean_percent", "bias_percent"))
        lines.append(f"| {one['source']} | {one['figure']} | {one['statistic']} | {one['rows']} | {numbers} |")
    lines += ["", *(f"- {source}: {text}." for source, text in NOTES.items()), ""]
    return "\n".join(lines)


def show(found: Sequence[Compared], style: str, out: IO[str]) -> None:
    """Print the errors: in full as JSON or CSV, else by source and figure."""
    from simgpu.render.data import print_csv, print_json

    rows = [one.row() for one in found]
    if style == "json":
        print_json({"rows": rows, "groups": summary(found)}, out)
    elif style == "csv":
        print_csv(rows, out)
    else:
        out.write(page_text(found))
