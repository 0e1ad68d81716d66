"""The tables of measurements that simgpu knows: one module for each, with the name of the table.

A module holds `SOURCE`, a `simgpu.lab.validation.source.Source`: the citation, the columns, how a row becomes a call of
a model and what the way of measuring adds, and why some rows are far off. To add a table, add a module: nothing lists
them. docs/measurements.md goes through it step by step.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from simgpu.lab.validation.source import Source
from simgpu.memo import remembered

NOT_PREDICTED = {
    "acceptance_lengths": "tokens that a draft gets accepted, not times",
    "energy_llm": "power and energy of served models: see 'validate energy'",
    "kv_tier_ttft_h20": "first tokens of prefixes in the cache of a host: no tier of the cache is simulated",
    "litgpt_memory": "peak memory of fine-tuning: see 'validate training' of tables with memory columns",
    "llmservingsim_requests": "a server under a load of its own, request by request",
    "llmservingsim_serving_summary": "a server under a load of its own, request by request",
    "mlengineering_links": "link rates, not operators",
    "nemo_rl_grpo_steps": "steps of reinforcement learning: generation and training in turns, of which means are known",
    "simai_busbw_ratio": "factors of another simulator, not measurements",
    "simumax_op_efficiency": "shares of a peak by layout of a product: no model tells the layouts apart",
}
"""Published tables that hold no measurement of what simgpu predicts, and what they hold instead."""


@remembered(1)
def known() -> Mapping[str, Source]:
    """Every table that simgpu reads, by its name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: import_module(f"{__name__}.{name}").SOURCE for name in names}
