"""Speed of a server request by request, beside SimPy with the same steps of the same requests.

SimPy runs one event for each step of a batch; leaps over equal steps are what it cannot know. Vidur reports about 900
requests/s (Agrawal et al., 2024), which is printed as a reference and not measured here. `--day` serves a day of ten
million requests instead.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import simpy
from rich.console import Console
from rich.table import Table

from simgpu import Catalogue, Plan, Traffic, simulate
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.server.answer import serve_traffic
from simgpu.workload.server.load import requests_of
from simgpu.workload.server.steps import steps_of

VIDUR = 900
REQUESTS = 20_000


def timed(work: Callable[[], object]) -> float:
    """Seconds of a core that a call takes, the best of three: other work on the machine does not count."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def with_simpy(deployment: Deployment, job: Traffic) -> None:
    """A batch without limits, one timeout for each step."""
    steps, env = steps_of(deployment), simpy.Environment()
    waiting, wake = [], [env.event()]

    def arrive():
        for one in requests_of(job):
            yield env.timeout(max(one.sent - env.now, 0))
            waiting.append(one)
            if not wake[0].triggered:
                wake[0].succeed()

    def run():
        batch: list[list[int]] = []
        while True:
            if not (batch or waiting):
                wake[0] = env.event()
                yield wake[0]
            new, waiting[:] = waiting[:], []
            held = sum(one[0] for one in batch)
            if new:
                yield env.timeout(steps.mixed(len(batch), held, [(one.prompt, 0) for one in new]))
            else:
                yield env.timeout(steps.decode(len(batch), held + len(batch)))
            batch = [[tokens + 1, left - 1] for tokens, left in batch if left > 1]
            batch += [[one.prompt, one.output - 1] for one in new]

    env.process(arrive())
    env.process(run())
    env.run(until=REQUESTS / job.rate + 60)


DAY = 10_000_000


def day() -> None:
    """A day of ten million requests over 100 replicas, with its interval: the time and the memory that it takes."""
    job = {"kind": "traffic", "arrivals": "day", "rate": DAY / 86400, "requests": DAY, "prompt": 1000, "output": 200,
           "lengths": "lognormal", "spread": 0.8, "ttft_limit_s": 1.0, "tpot_limit_s": 0.04}  # fmt: skip
    start = time.perf_counter()
    row = simulate("dgx-h100-ib", job, "llama-3.1-8b", {"dp": 100}).row
    wall, kinds = time.perf_counter() - start, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    seconds, peak = sum(one.ru_utime + one.ru_stime for one in used), max(one.ru_maxrss for one in used) / 1024
    console = Console()
    console.print(
        f"{row['requests_served']:,} requests in {wall:,.0f} s, {seconds:,.0f} s of cores, {peak:,.0f} MiB a process"
    )
    for name in ("ttft_50th_s", "ttft_99th_s", "tpot_50th_s", "tpot_99th_s", "e2e_99th_s"):
        console.print(f"{name} {row[name]:.4g} ({row[name + '_p10']:.4g} to {row[name + '_p90']:.4g})")


def main() -> None:
    """Print requests per second of a core by load."""
    known, table = Catalogue(), Table("load", "replicas", "simgpu, requests/s", "SimPy, requests/s", "Vidur, its paper")
    loads = (5.0, 1, "round_robin"), (20.0, 1, "round_robin"), (160.0, 8, "round_robin"), (768.0, 64, "least_requests")
    for rate, replicas, router in loads:
        job = Traffic(
            rate=rate, requests=REQUESTS, prompt=1000, output=200, lengths="lognormal", spread=0.8, router=router
        )
        engine, plan = known.runtime(job.runtime), Plan(dp=replicas)
        made = deploy(known.cluster("dgx-h100"), job.served(), known.model("llama-3.1-8b"), plan, engine)
        serve_traffic(made, job)  # the table of steps is made once
        own = REQUESTS / timed(lambda made=made, job=job: serve_traffic(made, job))
        other = REQUESTS / timed(lambda made=made, job=job: with_simpy(made, job)) if replicas == 1 else None
        table.add_row(f"{rate:g}/s", str(replicas), f"{own:,.0f}", f"{other:,.0f}" if other else "", f"{VIDUR:,}")
    Console().print(table)


if __name__ == "__main__":
    day() if "--day" in sys.argv[1:] else main()
