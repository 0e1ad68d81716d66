"""Settings of the command line: `key=value`, keys as people write them, and the key that a misspelt one means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from simgpu.documents import parse_value
from simgpu.errors import InputError, is_slip, shown
from simgpu.hardware.cluster_spec import ClusterSpec
from simgpu.hardware.figure import Figure
from simgpu.hardware.spec import GPUSpec, LinkSpec, NodeSpec
from simgpu.memo import remembered
from simgpu.overrides import HARDWARE_ROOTS, Override
from simgpu.scenario import Key, PlanFields, Scenario
from simgpu.schema_errors import models_in
from simgpu.workload.jobs import JOBS

SCENARIO = tuple(sorted(key for key in Scenario.model_fields if key != "hardware"))
"""Keys at the top of a scenario; hardware parameters stand beside them by what they are of."""
_SPECS: dict[str, type[BaseModel]] = {"gpu": GPUSpec, "node": NodeSpec, "cluster": ClusterSpec, "link.NAME": LinkSpec}


@dataclass(frozen=True)
class Setting:
    """A `key=value` of the command line."""

    key: str
    path: Key
    value: Any


def scenario_path(key: str) -> Key:
    """The place of a dotted key in a scenario. Hardware parameters keep their key whole."""
    root, _, rest = key.partition(".")
    if root in HARDWARE_ROOTS and rest:
        return ("hardware", key)
    return ("hardware", rest) if root == "hardware" and rest else tuple(key.split("."))


def parse_settings(texts: Sequence[str]) -> list[Setting]:
    """'key=value' texts of the command line; values are read as YAML reads them. Raises `InputError`."""
    settings = []
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise InputError(f"{shown(text)} is not understood; expected key=value, such as plan.tp=4", file="--set")
        path = scenario_path(key)
        if path[0] != "hardware" and "" in path:
            hardware = path[0] in HARDWARE_ROOTS
            problem = "expected the name of a parameter, such as 'gpu.memory.bandwidth'" if hardware else "unknown key"
            raise InputError(problem, file="--set", key=key)
        if problem := unknown_root(key):
            raise InputError(problem, file="--set", key=key)
        settings.append(Setting(key, path, parse_value(value, "--set", key)))
    return settings


def hardware_overrides(settings: Sequence[str]) -> list[Override]:
    """'key=value' texts of which each sets a hardware parameter. Raises `InputError`."""
    overrides = []
    for setting in parse_settings(settings):
        if setting.path[0] != "hardware" or len(setting.path) != 2:
            problem = "is not a hardware parameter, such as gpu.memory.bandwidth"
            raise InputError(problem, file="--set", key=setting.key)
        overrides.append(Override(setting.path[1], setting.value, "--set"))
    return overrides


def unknown_root(key: str, *more: str) -> str:
    """The error for a key whose first word no scenario has, with the key that may be meant; '' for known keys.

    `more` are words that may stand here beside the keys of a scenario.
    """
    root = key.partition(".")[0]
    roots = [*Scenario.model_fields, *HARDWARE_ROOTS, *more]
    if root in roots:
        return ""
    meant = [whole for whole in _whole_keys() if whole.endswith(f".{key}")]
    if not meant:
        close = difflib.get_close_matches(root.lower(), roots, n=1, cutoff=0.6)
        meant = [close[0] + key[len(root) :]] if close and is_slip(root.lower(), close[0]) else _ends_nearly_with(key)
    if meant:
        some = " one of " + ", ".join(meant[:4]) if len(meant) > 1 else f" '{meant[0]}'"
        return f"unknown key; did you mean{some}?"
    hardware = ", ".join(f"{name}." for name in HARDWARE_ROOTS)
    return (
        f"unknown key; expected one of {', '.join((*SCENARIO, *more))}, or a hardware parameter ({hardware} such as "
        "gpu.memory.bandwidth)"
    )


def _ends_nearly_with(key: str) -> list[str]:
    """Whole keys that end like `key` but for a slip in it."""
    length = key.count(".") + 1
    tails: dict[str, list[str]] = {}
    for whole in _whole_keys():
        parts = whole.split(".")
        if len(parts) > length:
            tails.setdefault(".".join(parts[-length:]), []).append(whole)
    close = difflib.get_close_matches(key.lower(), tails, n=1, cutoff=0.8)
    return tails[close[0]] if close and is_slip(key.lower(), close[0]) else []


@remembered(1)
def _whole_keys() -> tuple[str, ...]:
    """Every key of a plan and of the workloads, and the hardware parameters that are not items of lists."""
    keys = {f"plan.{key}": None for key in PlanFields.model_fields}
    keys |= {f"workload.{key}": None for job in JOBS.values() for key in job.model_fields}
    for root, spec in _SPECS.items():
        keys |= dict.fromkeys(_figures(spec, root))
    return tuple(keys)


def _figures(kind: type[BaseModel], root: str, depth: int = 4) -> list[str]:
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        inner: list[Any] = models_in(field.annotation)
        if any(issubclass(one, Figure) for one in inner):
            keys.append(f"{root}.{name}")
        elif depth and "list" not in str(field.annotation):
            keys += [key for one in inner for key in _figures(one, f"{root}.{name}", depth - 1)]
    return keys
