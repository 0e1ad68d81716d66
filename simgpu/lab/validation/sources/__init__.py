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
    **dict.fromkeys(
        ("checkpoint", "failures", "goodput", "mtbf", "repair"),
        "checkpoints and failures of whole clusters: what `reliability` is held to, no times of kernels or steps",
    ),
    "acceptance_lengths": "tokens that a draft gets accepted, not times",
    "cache_tokens": "bytes and blocks of caches of keys and values, not times",
    "energy_llm": "power and energy of served models: see 'validate energy'",
    "grid": "CO2 of a kWh by country and year (simgpu/operations/power/grids.yaml)",
    "kv_tier_ttft_h20": "first tokens of prefixes in the cache of a host: no tier of the cache is simulated",
    "litgpt_memory": "peak memory of fine-tuning: see 'validate training' of tables with memory columns",
    "llmservingsim_requests": "a server under a load of its own, request by request",
    "llmservingsim_serving_summary": "a server under a load of its own, request by request",
    "mlengineering_links": "link rates, not operators",
    "memory_rows": "peak memory of steps, without times: see 'validate training' of tables with memory columns",
    "nemo_rl_grpo_steps": "steps of reinforcement learning: generation and training in turns, of which means are known",
    "node_power": "power of whole nodes: what the overhead of a node is taken from (docs/operations.md)",
    "power_inference_phases": "power by phase of single streams: no times, see docs/operations.md",
    "power_limit_training": "times of small trainings under power caps: what the law of caps is held to",
    "prices": "prices of GPUs by vendor and date (hardware/prices)",
    "serving_loadtests": "servers under loads of their own: see 'validate serving'",
    "serving_timeseries": "states of a server over time, not times of operators",
    "simai_busbw_ratio": "factors of another simulator, not measurements",
    "simumax_op_efficiency": "shares of a peak by layout of a product: no model tells the layouts apart",
    "sustained_rates": "rates of products in loops: what the law of clocks is fitted to (simgpu/hardware/power.py)",
}
"""Published tables that hold no measurement of what simgpu predicts, and what they hold instead."""


@remembered(1)
def known() -> Mapping[str, Source]:
    """Every table that simgpu reads, by its name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: import_module(f"{__name__}.{name}").SOURCE for name in names}
