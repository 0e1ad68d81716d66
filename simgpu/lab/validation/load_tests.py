"""Load tests of servers that others published with their command lines, each served again (serving_loadtests.csv).

A row has means and percentiles of a whole run. Its server is what its command line starts, read as `simgpu serve
--server` reads it; its load is what the run itself counted: requests, mean lengths, clients. Where these are the
nominal lengths of a random data set, they scatter as the tool has it. Pages print the command of one of their tests
alone: a test whose section is of random lengths sent equal ones, and where a run counted other lengths than the command
asks for, it sent ShareGPT, whose lengths it is served with, as many tokens as were counted. A row that cannot be served
again says why.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.lab.machines import cluster_for
from simgpu.model.published import precision_named
from simgpu.plan.parallelism import Plan
from simgpu.plan.serving_memory import cache_bytes
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.runtimes import Runtime
from simgpu.workload.server.answer import Served, serve_traffic
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.lengths import lengths_of
from simgpu.workload.server.like import load_like, server_like

FILE = "serving_loadtests.csv"

FIGURES = {
    ("ttft", "mean"): "ttft_mean_s",
    ("ttft", "p50"): "ttft_p50_s",
    ("tpot", "mean"): "tpot_mean_s",
    ("tpot", "p50"): "tpot_p50_s",
    ("throughput", "all"): "output_tokens_per_s",
}
"""Columns of the table by figure and statistic."""

ENGINES = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm"}

AHEAD = "--async-scheduling"
"""The flag of vLLM 0.10 to 0.13 that lets its loop work ahead."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class Retried:
    """A row that was served again: what was measured, and what the server did."""

    row: Row
    name: str
    gpus: int
    done: Served

    def values(self) -> Iterator[tuple[str, str, float, float]]:
        """Figure, statistic, measured, predicted, where the row has them."""
        done = self.done
        predicted = {
            ("ttft", "mean"): done.ttft.mean,
            ("ttft", "p50"): done.ttft.percentiles((50.0,))[0],
            ("tpot", "mean"): done.tpot.mean,
            ("tpot", "p50"): done.tpot.percentiles((50.0,))[0],
            ("throughput", "all"): done.outputs / done.end,
        }
        for key, column in FIGURES.items():
            measured = float(self.row[column] or 0)
            if measured > 0:
                yield (*key, measured, predicted[key])


class LoadTests:
    """The rows of a file; `refused` counts those that could not be served again, by reason."""

    def __init__(self, file: Path, catalogue: Catalogue) -> None:
        self.file, self.catalogue = file, catalogue
        self.refused: Counter[str] = Counter()
        self._made: dict[str, Deployment] = {}

    def served(self) -> Iterator[Retried]:
        """Every row that can be served again."""
        with self.file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            try:
                yield self._again(row)
            except InputError as error:
                self.refused[_reason(error)] += 1

    def _again(self, row: Row) -> Retried:
        if row["suspicious"]:
            raise InputError(f"set aside: {row['suspicious']}")
        if not row["gpu"] or row["framework"] not in ENGINES or not float(row["tpot_mean_s"] or 0):
            raise InputError("no GPU, engine or times are known")
        keys = self._server(row)
        model = _model(row["model"], self.catalogue)
        tp, dp = (int(keys.pop(f"plan.{name}", 1)) for name in ("tp", "dp"))
        precision = precision_named(server_like(row["serve"]).model) if row["serve"] else None
        if precision is not None:
            keys.setdefault("workload.precision", precision)
        plan = Plan(tp=tp, dp=dp, pp=int(keys.pop("plan.pp", 1)), ep=int(keys.pop("plan.ep", 1)))
        version = _version(row["framework"], row["framework_version"], self.catalogue)
        given = {key.removeprefix("workload."): value for key, value in keys.items() if key.startswith("workload.")}
        job = Traffic(**{**given, **_load(row), "runtime": version})
        known = f"{row['gpu']} {model} {plan} {version} {AHEAD in row['serve']} {given}"
        made = self._made.get(known)
        if made is None:
            cluster = cluster_for(self.catalogue, row["gpu"], plan.world)
            engine = self._engine(version, row)
            made = self._made[known] = deploy(cluster, job.served(), self.catalogue.model(model), plan, engine)
        if row["kv_cache_gib"]:
            each = cache_bytes(made.served, 1024, 0) / 1024
            job = job.model_copy(update={"cache_tokens": int(float(row["kv_cache_gib"]) * 2**30 / each)})
        name = f"{row['model']} on {row['gpu']}, {version}: {row['source'].rpartition('/')[2]}"
        return Retried(row, name, plan.world, serve_traffic(made, job))

    def _engine(self, version: str, row: Row) -> Runtime:
        """The runtime of a version, which works ahead where the command line asks for what is vLLM's default since."""
        engine = self.catalogue.runtime(version)
        if AHEAD not in row["serve"]:
            return engine
        later = self.catalogue.runtime("vllm")
        return replace(engine, overlaps_host=True, join_steps=later.join_steps, between_s=later.between_s)

    def _server(self, row: Row) -> dict[str, Any]:
        """Keys of the server of a row."""
        if row["serve"]:
            return server_like(row["serve"]).keys
        pods = re.match(r"(\d+) GPU pods? hosts? .*", row["hardware"])
        if pods is None or "different nodes" in row["hardware"]:
            raise InputError("no command of the server is known")
        return {"plan.tp": int(pods[1])}


def _reason(error: InputError) -> str:
    """Why a row cannot be served again, in words that rows share."""
    text = error.problem if error.key is None else f"{error.key}: {error.problem}"
    return re.sub(r"\d[\d,.]*", "N", text)[:110]


def _model(name: str, catalogue: Catalogue) -> str:
    """The model of the catalogue that a published name means."""
    known = catalogue.published(name)
    plain = name.rpartition("/")[2].lower()
    for ending in ("", "-fp8", "-2507", "-instruct"):
        plain = plain.removesuffix(ending) if ending else plain
        if known is None and catalogue.find("models", plain):
            known = plain
    if known is None:
        raise InputError(f"the model {name} is not in the catalogue")
    return known


def _version(engine: str, version: str, catalogue: Catalogue) -> str:
    """The runtime of an engine's version; without one that which stands for it."""
    if not version:
        return engine
    short = ".".join(version.split(".")[:2])
    try:
        catalogue.runtime(f"{engine}@{short}")
    except InputError:
        return engine
    return f"{engine}@{short}"


def _load(row: Row) -> dict[str, Any]:
    """Keys of the load of a row: what its run counted."""
    prompt, output = (max(round(float(row[f"mean_{name}_tokens"] or 0)), 1) for name in ("input", "output"))
    requests, rate = int(float(row["requests"] or 0)), float(row["request_rate"] or "inf")
    if not requests or output < 2:
        raise InputError("no lengths or number of requests are known")
    load: dict[str, Any] = {"requests": requests, "prompt": prompt, "output": output, **_scatter(row, prompt, output)}
    load |= {"arrivals": "burst"} if rate == float("inf") else {"rate": rate}
    if row["max_concurrency"]:
        load["max_concurrency"] = int(float(row["max_concurrency"]))
    return load


NEAR = 0.08
"""Relative distance of a mean from the nominal one within which a run sent what its command line says; a mean of few
requests may be further off, by the inverse root of their number."""


def _scatter(row: Row, prompt: int, output: int) -> dict[str, Any]:
    """How lengths scatter about their means."""
    if not row["bench"] or "random" in row["section"]:
        return {}
    try:
        meant = load_like(row["bench"]).keys
    except InputError:
        meant = {}
    nominal = meant.get("workload.prompt"), meant.get("workload.output")
    near = NEAR + float(row["requests"]) ** -0.5
    if all(
        isinstance(one, int) and abs(one / of - 1) < near for one, of in zip(nominal, (prompt, output), strict=True)
    ):
        ranges = {name: meant.get(f"workload.{name}_range") for name in ("prompt", "output")}
        if any(ranges.values()):
            return {"lengths": "uniform", **{f"{name}_range": ends for name, ends in ranges.items()}}
        return {}
    return _as_counted(int(float(row["requests"])), prompt, output)


def _as_counted(requests: int, prompt: int, output: int) -> dict[str, Any]:
    """ShareGPT, of which the requests of a run have as many tokens as it counted."""
    job = Traffic(arrivals="burst", requests=requests, prompt=prompt, output=output, lengths="sharegpt")
    drawn = [(one, other) for one, other, _ in islice(lengths_of(job), requests)]
    of_prompt, of_output = (fmean(some) for some in zip(*drawn, strict=True))
    return {
        "lengths": "sharegpt",
        "prompt": round(prompt * prompt / of_prompt),
        "output": round(output * output / of_output),
    }
