"""Reasons why a plan lost to the best: the parts of the time that are longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.render.columns import title
from simgpu.render.fields import STEP_PARTS
from simgpu.units import format_seconds

SAME = 1e-9
"""Steps that differ by less are the same."""

_SERVING_PARTS = (
    *("gemm_s", "attention_s", "experts_s", "memory_bound_s", "exposed_tp_s", "exposed_ep_s", "exposed_pp_s", "host_s"),
    *("copies_s", "idle_s"),
)
_SERVING_TITLES = {"idle_s": "prompts of others"}


def parts_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of a training step by part, or GPU-seconds of one output token, by part."""
    if row["workload"] == "training":
        return {name: row.get(name, 0.0) for name in STEP_PARTS}
    share = row["gpus"] / row["batch"]
    seconds = {name: row.get(name, 0.0) * share for name in _SERVING_PARTS}
    whole = 1.0 / row["output_tokens_per_s_per_gpu"] if row.get("output_tokens_per_s_per_gpu") else 0.0
    seconds["first tokens and queue"] = whole - sum(seconds.values())
    return seconds


def why(row: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """Words on how much slower a plan is: the parts that make it so, largest first, and those that are faster."""
    mine, theirs = parts_of(row), parts_of(best)
    scale = row["gpus"] / best["gpus"] if row["workload"] == "training" else 1.0
    more = {name: mine[name] * scale - theirs.get(name, 0.0) for name in mine}
    total = sum(more.values())
    if abs(total) <= SAME * sum(theirs.values()):
        return "the same time"
    against = sorted((name for name in more if more[name] > 0), key=lambda name: -more[name])
    words: list[str] = []
    left = sum(more[name] for name in against)
    for name in against[:3]:
        if words and more[name] < 0.1 * left:
            break
        words.append(f"{_title(name)} {_signed(more[name])}")
    gains = sorted((name for name in more if more[name] < -0.1 * left), key=lambda name: more[name])
    words += [f"but {_title(name)} {_signed(more[name])}" for name in gains[:1]]
    return f"{100 * total / sum(theirs.values()):+.1f} %: {', '.join(words)}"


def _title(name: str) -> str:
    return _SERVING_TITLES.get(name) or title(name)


def _signed(seconds: float) -> str:
    return f"{'+' if seconds > 0 else '-'}{format_seconds(float(f'{abs(seconds):.3g}'))}"
