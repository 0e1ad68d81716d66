"""inference-perf: `inference-perf -c FILE.yaml`, with flags that replace keys of the file (kubernetes-sigs, July 2026).

Each stage of a load is a run of its own, as its report has them. Loads of type `constant` have exponential gaps that
are stretched to the stage's seconds (loadgen/load_timer.py, `ConstantLoadTimer`), those of type `poisson` are not
stretched; `concurrent` keeps so many requests on their way. Lengths are normal unless the file says another
distribution, cut to their ends; prompts of `shared_prefix` share one prefix of a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any, NoReturn

from simgpu.documents import Document, parse_value, read_yaml
from simgpu.errors import InputError, shown
from simgpu.tree import replaced
from simgpu.workload.server.tools.words import Given, Keys, Meant, Tool, needs_lengths

_LENGTHS = {"min": 10, "max": 1024, "mean": 512, "std_dev": 200}
"""A distribution where the file says nothing (inference_perf/config.py)."""


def _instead(value: Any, _: Any) -> Any:
    return value


class _File:
    """The file of a run with what flags replace, and how to blame a place in it."""

    def __init__(self, given: Given) -> None:
        self.given = given
        file = given("--config-file")
        self.document = read_yaml(Path(file)) if file else Document("flags", {}, {})
        data = self.document.data
        if not isinstance(data, dict):
            raise InputError("holds no keys; expected those of inference-perf", file=file)
        for name, text in given.values.items():
            if "." in name:
                path = tuple(part.replace("-", "_") for part in name.removeprefix("--").split("."))
                value = parse_value(text, f"--like {name}", name)
                data = replaced(data, path, partial(_instead, value))
        self.data = data

    def at(self, *path: str, default: Any = None) -> Any:
        """The value at a place."""
        value: Any = self.data
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return default if value is None else value

    def refuse(self, problem: str, *path: str) -> NoReturn:
        """Raise `InputError` at a place."""
        raise self.document.error(problem, path)

    def number(self, *path: str, default: float | None = None, least: float = 0.0) -> float:
        """A number at a place, at least so large."""
        value = self.at(*path, default=default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e12:
            self.refuse(f"{shown(value)}: expected a number of {least:g} or more", *path)
        return float(value)


def read(given: Given) -> Meant:
    """What a run of inference-perf sends."""
    if "--config-file" not in given and not any("." in name for name in given.values):
        given.refuse("--config_file", "is missing; expected the YAML file of the run")
    file = _File(given)
    meant = Meant(model=str(file.at("server", "model_name", default="")))
    meant.load(_lengths(file))
    timeout = file.number("load", "request_timeout") if file.at("load", "request_timeout") is not None else None
    meant.load({"seed": file.at("load", "base_seed"), "timeout_s": timeout, **_slo(file)})
    meant.loads(_stages(file, str(file.at("load", "type", default="constant"))))
    if not file.at("server", "ignore_eos", default=True):
        meant.notes.append("outputs are simulated to their full length; without ignore_eos some end earlier")
    return meant


def _stages(file: _File, kind: str) -> list[tuple[str, Keys]]:
    """A load for each stage."""
    if file.at("load", "sweep") is not None:
        file.refuse("is not read; expected stages, with rates of your own", "load", "sweep")
    stages = file.at("load", "stages", default=[])
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, dict) for stage in stages):
        file.refuse("expected a list of stages", "load", "stages")
    if kind not in ("constant", "poisson", "concurrent"):
        file.refuse(f"{shown(kind)} is not modelled; expected constant, poisson or concurrent", "load", "type")
    found = []
    for place, stage in enumerate(stages):
        one = _Stage(file, place, stage)
        if kind == "concurrent":
            clients, total = round(one.number("concurrency_level")), round(one.number("num_requests"))
            found.append((f"{clients} clients", {"clients": clients, "requests": total}))
            continue
        rate, seconds = one.number("rate"), one.number("duration")
        keys: Keys = {"rate": rate}
        keys |= {"requests": max(int(rate * seconds), 1), "scaled": True} if kind == "constant" else {
            "duration_s": seconds
        }  # fmt: skip
        found.append((f"{rate:g}/s", keys))
    return found


class _Stage:
    """A stage of a load."""

    def __init__(self, file: _File, place: int, stage: Mapping[str, Any]) -> None:
        self.file, self.place, self.stage = file, place, stage

    def number(self, key: str) -> float:
        """A number above 0."""
        value = self.stage.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            problem = f"{key} of stage {self.place} is {shown(value)}; expected a number above 0"
            raise self.file.document.error(problem, ("load", "stages"))
        return float(value)


def _slo(file: _File) -> Keys:
    """Limits that headers name, in the unit that the file says."""
    headers, unit = file.at("api", "headers", default={}), file.at("api", "slo_unit", default="ms")
    factor = {"s": 1.0, "ms": 1e-3, "us": 1e-6}.get(unit)
    if factor is None:
        file.refuse(f"{shown(unit)} is not known; expected s, ms or us", "api", "slo_unit")
    found: Keys = {}
    for name in ("ttft", "tpot"):
        header = file.at("api", f"slo_{name}_header", default=f"x-slo-{name}-{unit}")
        if isinstance(headers, dict) and header in headers:
            try:
                found[f"{name}_limit_s"] = float(headers[header]) * factor
            except (TypeError, ValueError):
                file.refuse(f"{shown(headers[header])} is not a number", "api", "headers", header)
    return found


# ---- lengths -----------------------------------------------------------------------------------------


def _lengths(file: _File) -> Keys:
    kind = str(file.at("data", "type", default="mock"))
    if kind == "shared_prefix":
        return _shared(file)
    if kind not in ("synthetic", "random"):
        return needs_lengths(file.given, "--config_file data.type", kind)
    return _both(file, ("data", "input_distribution"), ("data", "output_distribution"))


def _shared(file: _File) -> Keys:
    shared = ("data", "shared_prefix")
    groups = round(file.number(*shared, "num_groups", default=10, least=1))
    prefix = round(file.number(*shared, "system_prompt_len", default=100))
    asked, answered = (
        file.at(*shared, f"{name}_distribution") is not None for name in ("question", "output")
    )  # fmt: skip
    if asked and answered:
        lengths = _both(file, (*shared, "question_distribution"), (*shared, "output_distribution"))
    elif asked or answered:
        file.refuse("expected question_distribution and output_distribution, or neither", *shared)
    else:
        lengths = {
            "prompt": round(file.number(*shared, "question_len", default=50, least=1)),
            "output": round(file.number(*shared, "output_len", default=50, least=1)),
        }
    return {**lengths, "prefixes": groups, "prefix_tokens": prefix}


def _both(file: _File, prompts: tuple[str, ...], outputs: tuple[str, ...]) -> Keys:
    """Lengths by two distributions, which are of one kind, or one of them fixed."""
    found: Keys = {}
    kinds = set()
    for name, spread, path in (("prompt", "spread", prompts), ("output", "output_spread", outputs)):
        made, kind = _distribution(file, name, spread, path)
        found |= made
        kinds.add(kind)
    kinds.discard("fixed")
    if len(kinds) > 1:
        file.refuse("prompts and outputs are of two distributions; expected the same of both", *outputs, "type")
    return {**found, "lengths": kinds.pop() if kinds else None}


def _distribution(file: _File, name: str, spread: str, path: tuple[str, ...]) -> tuple[Keys, str]:
    kind = str(file.at(*path, "type", default="normal"))
    low, high = (round(file.number(*path, key, default=_LENGTHS[key], least=1)) for key in ("min", "max"))
    if low > high:
        file.refuse(f"min {low} is more than max {high}", *path, "min")
    if kind == "uniform":
        return {name: round((low + high) / 2), f"{name}_range": [low, high]}, "uniform"
    mean = max(round(file.number(*path, "mean", default=_LENGTHS["mean"], least=1)), 1)
    if not low <= mean <= high and kind != "fixed":
        file.refuse(f"mean {mean} is not between min {low} and max {high}", *path, "mean")
    if kind == "fixed":
        return {name: mean, spread: 0.0}, "fixed"
    if kind not in ("normal", "lognormal", "poisson"):
        file.refuse(f"{shown(kind)} is not modelled; expected normal, lognormal, uniform or fixed", *path, "type")
    deviation = sqrt(mean) if kind == "poisson" else _deviation(file, path)
    if not deviation:
        return {name: mean, spread: 0.0}, "fixed"
    shape = "lognormal" if kind == "lognormal" else "normal"
    return {name: mean, spread: deviation / mean, f"{name}_range": [low, high]}, shape


def _deviation(file: _File, path: tuple[str, ...]) -> float:
    if file.at(*path, "variance") is not None:
        return sqrt(file.number(*path, "variance"))
    return file.number(*path, "std_dev", default=_LENGTHS["std_dev"])


_KEYS = (
    *("api.type", "api.streaming", "api.headers", "api.slo_unit", "data.type", "data.path", "load.type", "load.stages"),
    *("load.interval", "load.num_workers", "load.base_seed", "load.worker_max_concurrency", "load.request_timeout"),
    *("server.type", "server.model_name", "server.base_url", "server.ignore_eos"),
    *(f"data.{side}_distribution.{key}" for side in ("input", "output")
      for key in ("min", "max", "mean", "std_dev", "variance", "type", "total_count")),
    *(f"data.shared_prefix.{key}" for key in ("num_groups", "num_prompts_per_group", "system_prompt_len",
                                              "question_len", "output_len", "seed")),
)  # fmt: skip

TOOL = Tool(
    name="'inference-perf --config_file FILE'",
    starts=("inference-perf", "inference_perf", r"inference_perf\.main", r"(.*/)?inference_perf/main\.py"),
    source="inference-perf (kubernetes-sigs) at 00ab9cc",
    read=read,
    kinds={"--config-file": str, **{f"--{key}": str for key in _KEYS}},
    nothing="--log-level --analyze --unified-analysis-dir --storage.local-storage.path --metrics.type",
    short={"-c": "--config-file", "-a": "--analyze", "-u": "--unified-analysis-dir"},
)
