"""Speed of single scenarios through the Python API, and of searches for plans, beside Calculon's published figures.

python benchmarks/scenarios.py            # both, a minute
python benchmarks/scenarios.py --large    # besides: every plan of GPT-3 175B on 4,096 A100, millions of them
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

import simgpu
from simgpu.plan.space import KEYS, USUAL
from simgpu.scenario import Scenario
from simgpu.study.experiment.search_fields import SearchFields
from simgpu.study.pools.where import Where, cores
from simgpu.study.search.searching import Progress, Search
from simgpu.study.search.workers import SearchInputs, Workers

CALCULON = "about 300 plans/s per core, 2 ms a plan, 7.5 million plans in 7 core-hours (GPT-3 175B, 4,096 A100)"
WARM = 20
GOAL_PLANS, GOAL_MS = 3000, 2.0

GPT3: dict[str, Any] = {
    "model": "gpt3-175b",
    "cluster": "dgx-a100-ib",
    "framework": "megatron-2022",
    "workload": {"kind": "training", "batch": 3072, "tokens": 2048},
    "plan": {"sequence_parallel": True},
    "hardware": {"cluster.nodes": 512},
}
STATES = {"offload": ["none", "optimizer"]}
NODE = {"tp": [1, 2, 4, 8], "cp": [1], **{key: "all" for key in USUAL if key not in ("tp", "cp")}, **STATES}
ONE_COPY = {
    **{key: "all" for key in KEYS if key not in ("shard", "recompute_layers", "offload_to")},
    "cp": [1],
    **STATES,
}
EVERYTHING = {**{key: "all" for key in KEYS if key not in ("shard", "offload_to")}, "cp": [1, 2, 4], **STATES}


def table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right")
    return made


def single(console: Console) -> None:
    """One scenario after another, with what simulations of its like have worked out."""
    small, large = simgpu.load_model("llama-3.1-8b"), simgpu.load_model("gpt3-175b")
    node, many = simgpu.load_cluster("dgx-h100"), simgpu.load_cluster("dgx-a100-ib", cluster__nodes=128)
    step = simgpu.Training(batch=1536, tokens=2048)
    deep = simgpu.Plan(tp=8, pp=8, dp=16, micro_batch=2, sequence_parallel=True, recompute="selective", zero=1)
    works: dict[str, Callable[[], object]] = {
        "prefill, 1 GPU": lambda: simgpu.simulate(node, simgpu.Prefill(tokens=4096), small),
        "prefill, TP 2": lambda: simgpu.simulate(node, simgpu.Prefill(tokens=4096), small, simgpu.Plan(tp=2)),
        "prefill, TP 8": lambda: simgpu.simulate(node, simgpu.Prefill(tokens=4096), small, simgpu.Plan(tp=8)),
        "batch of 8, 128 tokens, TP 2": lambda: simgpu.simulate(
            node, simgpu.Inference(batch=8, prompt=1024, output=128), small, simgpu.Plan(tp=2)
        ),
        "server of 8 clients, TP 2": lambda: simgpu.simulate(
            node, simgpu.Serving(concurrency=8, prompt=1024, output=128), small, simgpu.Plan(tp=2)
        ),
        "training step, 8 GPUs, ZeRO-1": lambda: simgpu.simulate(
            node, simgpu.Training(batch=64, tokens=4096), small, simgpu.Plan(dp=8, zero=1, micro_batch=1)
        ),
        "training step, 1,024 GPUs, PP 8, 48 microbatches": lambda: simgpu.simulate(many, step, large, deep),
    }
    made = table(
        f"One scenario through the Python API (ms, goal: {GOAL_MS:g} warm)", "what", "cold", "warm", "scenarios/s"
    )
    for what, work in works.items():
        start = time.perf_counter()
        work()
        cold = time.perf_counter() - start
        times = []
        for _ in range(WARM):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        warm = statistics.median(times)
        made.add_row(what, f"{1e3 * cold:.1f}", f"{1e3 * warm:.1f}", f"{1 / warm:,.0f}")
    console.print(made)


def search(console: Console, title: str, space: dict[str, Any], top: int, front: bool, tolerance: float = 0.0) -> None:
    """A search in as many processes as there are cores."""
    fields = {"space": space, "top": top, "front": front, "tolerance": tolerance}
    asked = SearchInputs(Scenario.model_validate(GPT3), SearchFields.model_validate(fields), ())
    problem = asked.problem()
    jobs = cores()
    workers = Workers(asked, problem, Where(jobs))  # type: ignore[arg-type]
    shown = [time.monotonic()]

    def tell(progress: Progress) -> None:
        if time.monotonic() - shown[0] > 30:
            shown[0] = time.monotonic()
            console.print(f"[dim]{progress}[/dim]", highlight=False)

    try:
        found = Search(problem, workers, tell).run()  # type: ignore[arg-type]
        memory = max(workers.peak_memory(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    finally:
        workers.close()
    plans = found.progress.plans
    made = table(title, "what", "simgpu", "goal")
    made.add_row("plans", f"{plans:,}", "")
    made.add_row("do not fit, simulated", f"{found.progress.misfits:,}, {found.progress.simulated:,}", "")
    made.add_row("seconds, processes", f"{found.seconds:.1f}, {jobs}", "")
    made.add_row("plans decided/s per core, all in all", f"{plans / found.seconds / jobs:,.0f}", f"{GOAL_PLANS:,}")
    made.add_row("the same, while bounds decide", f"{plans / found.deciding_s / jobs:,.0f}", "")
    made.add_row("largest process", f"{memory / 1e6:,.0f} MB", "flat")
    made.add_row("best step", f"{found.simulated[0].cost:.3f} s", "")
    made.caption = f"Calculon (reference): {CALCULON}"
    console.print(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="every plan of GPT-3 175B on 4,096 A100")
    large = parser.parse_args().large
    console = Console()
    single(console)
    search(console, "Search: GPT-3 175B on 4,096 A100, TP within a node, no CP; top 3", NODE, 3, False)
    search(console, "Search: the same, every choice but of layers to recompute; top 1", ONE_COPY, 1, False)
    if large:
        search(console, "Search: the same, every choice there is, CP up to 4; top 1", EVERYTHING, 1, False)


if __name__ == "__main__":
    main()
