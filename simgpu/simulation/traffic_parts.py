"""Columns of a server's row that only some jobs have: of sessions, of classes, of adapters."""

from __future__ import annotations

from typing import Any

from simgpu.workload.server.answer import Served


def sessions_of(done: Served) -> dict[str, float]:
    """Columns of sessions that have an interval."""
    sessions = done.sessions
    half, most = sessions.seconds.percentiles((50.0, 99.0))
    return {
        "session_s": sessions.seconds.mean,
        "session_50th_s": half,
        "session_99th_s": most,
        "session_server_s": sessions.server_s / sessions.ended,
        "sessions_per_s": sessions.ended / done.end,
        "answer_s": sessions.seen.mean,
    }


def adapters_of(done: Served) -> dict[str, Any]:
    """Columns of adapters."""
    tally = done.tally
    if done.rules.adapters is None:
        return {}
    return {
        "adapters_per_step": tally.adapter_s / tally.busy_s if tally.busy_s else 0.0,
        "adapter_hit_rate": 1 - tally.adapter_loads / max(tally.adapter_joins, 1),
        "adapter_load_s": tally.adapter_load_s / max(tally.adapter_loads, 1),
        "adapter_load_share": tally.adapter_load_s / tally.busy_s if tally.busy_s else 0.0,
    }


def classes_of(done: Served) -> dict[str, float]:
    """Columns of the first and the last class."""
    row: dict[str, float] = {}
    for name, count in {"urgent": done.classes[0], "last": done.classes[-1]}.items():
        row[f"{name}_ttft_99th_s"] = count.ttft.percentiles((99.0,))[0]
        row[f"{name}_within"] = count.within
    return row


def turns_of(done: Served) -> dict[str, Any]:
    """Columns of sessions that are counts and shares."""
    sessions = done.sessions
    if not sessions.begun:
        return {}
    first, later = sessions.turns[0], sessions.turns[1:]
    prompts = sum(row[1] for row in later)
    found: dict[str, Any] = {
        "sessions_ended": sessions.ended,
        "sessions_unfinished": sessions.begun - sessions.ended,
        "first_hit_rate": first[2] / first[1] if first[1] else 0.0,
    }
    if prompts:
        found["later_hit_rate"] = sum(row[2] for row in later) / prompts
    return found
