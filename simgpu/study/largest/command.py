"""The question as the command line and Python ask it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, shown
from simgpu.settings import parse_settings
from simgpu.study.largest.asked import FINETUNE, Asked
from simgpu.study.largest.finding import Largest
from simgpu.study.largest.finding import largest as find

SCALES = {"k": 1024, "K": 1024, "M": 10**6, "m": 10**6, "B": 10**9, "b": 10**9}


def largest(
    catalogue: Catalogue, machine: str, finetune: str | None = None, serve: str | int | None = None,
    tokens: str | int = 2048, settings: Sequence[str] = (), epoch: str | float | None = None,
    family: str | None = None, **more: Any,
) -> Largest:  # fmt: skip
    """The largest model that a machine fine-tunes, or serves. Raises `InputError`."""
    if (finetune is None) == (serve is None):
        raise InputError("expected one of --finetune full, lora or qlora, and --serve TOKENS")
    if finetune is not None and finetune not in FINETUNE:
        from simgpu.errors import nearest

        raise InputError(f"{shown(finetune)} is not known{nearest(finetune, FINETUNE)}", key="--finetune")
    length = tokens_of(tokens, "--tokens") if finetune else tokens_of(serve or 0, "--serve")
    asked = Asked(catalogue.cluster(machine), finetune or "", length, **_without_none(more))
    workload: dict[str, Any] = {}
    plan: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for setting in parse_settings(settings):
        where = {"workload": workload, "plan": plan}.get(str(setting.path[0]))
        if where is not None and len(setting.path) == 2:
            where[setting.path[1]] = setting.value
        elif setting.path in (("framework",),):
            other["framework"] = setting.value
        else:
            problem = "is not asked here; expected workload.KEY, plan.KEY or framework"
            raise InputError(problem, file="--set", key=setting.key)
    from dataclasses import replace

    asked = replace(asked, **other).under(workload, plan)
    return find(asked, catalogue, family, float(tokens_of(epoch, "--epoch")) if epoch else None)


def _without_none(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def tokens_of(text: str | float, key: str) -> int:
    """Tokens: 2048, 32k (1024 each), 5M (a million). Raises `InputError`."""
    scale = SCALES.get(str(text)[-1:], 1)
    try:
        value = float(str(text)[:-1] if scale > 1 else text) * scale
    except ValueError:
        value = 0.0
    if not 2 <= value <= 1e15 or value != int(value):
        raise InputError(f"{shown(text)}: expected tokens, 2 or more, such as 2048 or 32k", key=key)
    return int(value)
