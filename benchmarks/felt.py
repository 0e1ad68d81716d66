"""What a user waits for, in CPU time of importing numpy on the same machine in the same run, beside the goals.

    python benchmarks/felt.py            print, and append to benchmarks/history.csv
    python benchmarks/felt.py --no-history

A unit is a process that imports numpy and does nothing else, so that a slow or busy machine counts the same. Each row
of the history is one figure of one commit; a figure that is a tenth worse than the best of its history is marked: above
it, or of a rate below it.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from math import inf
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scenarios import GPT3, NODE

import simgpu
from simgpu.scenario import Scenario
from simgpu.study.experiment.search_fields import SearchFields
from simgpu.study.search.deciding import FIRST, Limits, decide
from simgpu.study.search.workers import SearchInputs

ROOT = Path(__file__).parents[1]
HISTORY = Path(__file__).parent / "history.csv"
COLUMNS = ("date", "commit", "what", "value", "unit", "goal", "numpy_import_s")
REPEATS = 3
SLOWER = 1.1
"""A figure this much worse than the best of its history is said to have become slower."""

COLD = {
    "simgpu --help": (("--help",), 0.3),
    "simgpu run tp2_scaling --no-plots": (("run", "tp2_scaling", "--no-plots", "-q"), 3.5),
    "simgpu run tp2_scaling": (("run", "tp2_scaling", "-q"), 7.0),
}
"""Commands in a process of their own, and the goal in imports of numpy."""


def spent(*command: str, cwd: str, python: str = sys.executable) -> float:
    """CPU seconds of a process of Python and of those it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPATH"] = str(ROOT)
    subprocess.run([python, *command], check=True, capture_output=True, cwd=cwd, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def warm_step() -> Callable[[], object]:
    """A training step of GPT-3 on 1,024 A100, as in gpt3_plans."""
    cluster, model = simgpu.load_cluster("dgx-a100-ib", cluster__nodes=128), simgpu.load_model("gpt3-175b")
    plan = simgpu.Plan(tp=8, pp=8, dp=16, micro_batch=1, sequence_parallel=True)
    return lambda: simgpu.simulate(cluster, simgpu.Training(batch=1536, tokens=2048), model, plan)


def warm_prefill() -> Callable[[], object]:
    """A prompt of Llama 2 70B on eight H100."""
    cluster, model, plan = simgpu.load_cluster("dgx-h100"), simgpu.load_model("llama-2-70b"), simgpu.Plan(tp=8)
    return lambda: simgpu.simulate(cluster, simgpu.Prefill(batch=1, tokens=4096), model, plan)


def large_collectives() -> Callable[[], object]:
    """1 GiB of all-reduce and all-to-all over 16,384 H100, on a cluster that is new each time."""
    nodes = count(2048)

    def work() -> None:
        cluster = simgpu.load_cluster("h100-fat-tree-3", cluster__nodes=next(nodes), cluster__fabric__radix=128)
        for kind in ("all_reduce", "all_to_all"):
            simgpu.time_collective(cluster, kind, [2.0**30], 16_384)

    return work


def new_steps() -> Callable[[], object]:
    """The step of GPT-3 under plans that were not seen before: microbatches of other lengths each time."""
    cluster, model = simgpu.load_cluster("dgx-a100-ib", cluster__nodes=128), simgpu.load_model("gpt3-175b")
    plan = simgpu.Plan(tp=8, pp=8, dp=16, micro_batch=1, sequence_parallel=True)
    tokens = count(2048, -8)
    return lambda: simgpu.simulate(cluster, simgpu.Training(batch=1536, tokens=next(tokens)), model, plan)


def large_step(replicas: int) -> Callable[[], Callable[[], object]]:
    """A training step of Llama 3.1 405B on 128 GPUs for each replica."""

    def make() -> Callable[[], object]:
        cluster = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=16 * replicas)
        model = simgpu.load_model("llama-3.1-405b")
        plan = simgpu.Plan(tp=8, pp=16, dp=replicas, vp=8, sequence_parallel=True, micro_batch=1, zero=1)
        return lambda: simgpu.simulate(cluster, simgpu.Training(batch=16 * replicas, tokens=8192), model, plan)

    return make


WARM = {
    "training step of GPT-3 on 1,024 GPUs": (warm_step, 10.0),
    "the same, of sequences of another length each time": (new_steps, 10.0),
    "training step of Llama 405B on 16,384 GPUs": (large_step(128), 500.0),
    "training step of Llama 405B on 131,072 GPUs": (large_step(1024), 2000.0),
    "prefill at TP 8": (warm_prefill, 2.0),
    "1 GiB all-reduce and all-to-all on 16,384 GPUs": (large_collectives, 500.0),
}
"""Calls that were made before, with the same arguments but where it says so, and the goal in ms."""


def decided() -> float:
    """Plans/s of CPU time while bounds decide: GPT-3 on 4,096 A100, the space of `scenarios.py` gone through again."""
    asked = SearchInputs(
        Scenario.model_validate(GPT3), SearchFields.model_validate({"space": NODE, "top": 3, "front": False}), ()
    )
    problem = asked.problem()
    structures = [one for group in problem.groups().values() for one in group]
    decide(problem, structures, NO_LIMIT, 3, FIRST)  # what plans share is worked out
    start = time.process_time()
    plans = decide(problem, structures, NO_LIMIT, 3, FIRST).plans
    return plans / (time.process_time() - start)


def swept() -> float:
    """Scenarios/s of CPU time of a sweep in one process that keeps its rows in a store."""
    scenario = {"model": "llama-3.1-8b", "cluster": "dgx-h100", "workload": {"kind": "prefill", "tokens": 1024}}
    vary = {"workload.tokens": [128 * n for n in range(1, 51)], "workload.batch": [1, 2, 4, 8, 16, 32]}
    experiment = {"experiment": "felt", "title": "Prompts", "scenario": scenario, "vary": vary}
    with tempfile.TemporaryDirectory() as folder:
        start = everything()
        rows = len(simgpu.sweep(experiment, store=Path(folder) / "store.sqlite", jobs=1).rows)
        return rows / (everything() - start)


def everything() -> float:
    """CPU seconds of this process and of those it started."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(one.ru_utime + one.ru_stime for one in map(resource.getrusage, who))


NO_LIMIT = Limits(inf)
RATES = {
    "plans decided by bounds": (decided, 20_000.0, "plans/s"),
    "scenarios swept with the store": (swept, 500.0, "scenarios/s"),
}
"""What is counted in a second of CPU time of one core, the goal, and the unit: more is better."""


def warmed(make: Callable[[], Callable[[], object]]) -> float:
    """CPU milliseconds of a call that was made before."""
    work, times = make(), []
    work()
    for _ in range(3 * REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


def measured() -> list[dict[str, object]]:
    """The figures of this run, each a row of the history."""
    with tempfile.TemporaryDirectory() as folder:
        unit, cold = [], {what: [] for what in COLD}
        for number in range(REPEATS + 1):  # in turn, so that a machine that changes speed changes it for all
            unit.append(spent("-c", "import numpy", cwd=folder))
            for what, (words, _) in COLD.items():
                cold[what].append(spent("-m", "simgpu", *words, cwd=folder))
            if not number:  # the first round compiles
                unit.clear()
                cold = {what: [] for what in COLD}
    numpy_s = statistics.median(unit)
    said = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    base = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": said.strip(), "numpy_import_s": round(numpy_s, 4)}
    rows = [
        base | {"what": what, "value": round(statistics.median(times) / numpy_s, 2), "unit": "imports of numpy"}
        for what, times in cold.items()
    ]
    rows += [base | {"what": what, "value": round(warmed(make), 1), "unit": "ms"} for what, (make, _) in WARM.items()]
    rows += [base | {"what": what, "value": round(rate(), 1), "unit": unit} for what, (rate, _, unit) in RATES.items()]
    goals = {what: goal for what, (_, goal, *_) in (*COLD.items(), *WARM.items(), *RATES.items())}
    return [row | {"goal": goals[str(row["what"])]} for row in rows]


def history() -> list[dict[str, str]]:
    """Rows of earlier runs."""
    if not HISTORY.is_file():
        return []
    with HISTORY.open() as stream:
        return list(csv.DictReader(stream))


def main() -> None:
    """Measure, print beside the best of the history, and append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-history", action="store_true", help="only print")
    asked = parser.parse_args()
    earlier, rows = history(), measured()
    table = Table(title="What a user waits for (CPU time, median)", title_justify="left")
    for column in ("what", "now", "unit", "goal", "best before", ""):
        table.add_column(column, justify="left" if column in ("what", "unit", "") else "right")
    for row in rows:
        rate = row["what"] in RATES
        before = [float(one["value"]) for one in earlier if one["what"] == row["what"]]
        best = (max if rate else min)(before, default=None)
        now = float(str(row["value"]))
        worse = best is not None and (now * SLOWER < best if rate else now > SLOWER * best)
        cells = (row["value"], row["unit"], row["goal"], "" if best is None else best, "slower" if worse else "")
        table.add_row(str(row["what"]), *map(str, cells))
    Console().print(table)
    if not asked.no_history:
        with HISTORY.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            if not earlier:
                writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
