"""Speed of the engine, of the kernel models and of the command line, beside other simulators.

SimPy runs here, in the same process and run. SimGrid (C++), ASTRA-sim (C++) and Calculon are not installed by
`make bench`: their figures were measured once on a machine of two cores like the one this project is tested on,
and are printed as reference, so compare orders of magnitude and growth with them, not percents.
"""

from __future__ import annotations

import gc
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import simpy
from rich.console import Console
from rich.table import Table

from simgpu import Catalogue
from simgpu.engine import Phase, Simulator
from simgpu.hardware.spec import GPUSpec
from simgpu.hardware.topology import build_topology
from simgpu.timing.attention_work import AttentionWork
from simgpu.timing.collectives import ideal_phases
from simgpu.timing.timer import GPUTimer

SIMGRID_S = {100: 0.004, 1_000: 0.124, 10_000: 30.0}
ASTRA_SIM_S = {8: "<0.01", 64: "0.03", 256: "0.5", 1024: "9"}
CALCULON_COLD_S = 0.37
EVENTS = 300_000
REPEATS = 5
MATRICES = 1_000_000


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call, after a garbage collection."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def delays(processes: int) -> Callable[[], object]:
    """`EVENTS` delays over so many streams, submitted one by one."""

    def work() -> None:
        sim = Simulator()
        streams = [sim.add_stream(str(p)) for p in range(processes)]
        for _ in range(EVENTS // processes):
            for p, stream in enumerate(streams):
                sim.delay(stream, 1.0 + p * 1e-3)
        sim.run()

    return work


def sequences(processes: int) -> Callable[[], object]:
    """The same delays, submitted as one sequence for each stream, as simgpu does for runs of kernels."""

    def work() -> None:
        sim = Simulator()
        for p in range(processes):
            sim.sequence(sim.add_stream(str(p)), [1.0 + p * 1e-3] * (EVENTS // processes))
        sim.run()

    return work


def simpy_timeouts(processes: int) -> Callable[[], object]:
    """The same number of SimPy timeouts in so many processes."""

    def work() -> None:
        env = simpy.Environment()

        def process(p: int):  # type: ignore[no-untyped-def]
            for _ in range(EVENTS // processes):
                yield env.timeout(1.0 + p * 1e-3)

        for p in range(processes):
            env.process(process(p))
        env.run()

    return work


def star(flows: int) -> Callable[[], object]:
    """Flows of random sizes, each over a link of its own and one shared backbone, all started at once."""

    def work() -> None:
        chance = random.Random(1)
        sim = Simulator()
        backbone = sim.add_link(1e9)
        for n in range(flows):
            route = (sim.add_link(1e8), backbone)
            sim.transfer([sim.add_stream(str(n))], [Phase(1e-6, ((route, chance.uniform(1e5, 1e6)),))])
        sim.run()

    return work


def ring(gpus: int) -> Callable[[], object]:
    """A 1 GiB all-reduce over GPUs of DGX H100 nodes, from the graph on, nothing folded."""
    cluster = Catalogue().cluster("dgx-h100-ib")

    def work() -> None:
        topology = build_topology(cluster, -(-gpus // 8))
        sim = Simulator()
        streams = [sim.add_stream(str(g)) for g in range(gpus)]
        links: dict[tuple[Any, ...], int] = {}

        def link(edge: tuple[Any, ...]) -> int:
            if edge not in links:
                links[edge] = sim.add_link(topology.graph.edges[edge]["bandwidth"])
            return links[edge]

        phases = [
            Phase(phase.latency, tuple(flow.numbered(link) for flow in phase.flows))
            for phase in ideal_phases(topology, "all_reduce", range(gpus), 2**30, 2.5e-6, "ring")
        ]
        sim.transfer(streams, phases)
        sim.run()

    return work


def shapes(count: int) -> tuple[Any, ...]:
    """Random (m, n, k) between 1 and 65536, evenly in the logarithm."""
    chance = np.random.default_rng(1)
    return tuple(np.round(2.0 ** chance.uniform(0, 16, count)) for _ in range(3))


def kernels(console: Console) -> None:
    """Predictions per second of the models of kernels, on one core: many shapes in a call, and one by one."""
    catalogue = Catalogue()
    gpu = catalogue.spec("gpus", "h100-sxm")
    assert isinstance(gpu, GPUSpec)
    timer = GPUTimer(gpu, catalogue.kernel_constants(gpu))
    m, n, k = shapes(MATRICES)
    keys = np.maximum(m, 64)
    made = table("Kernels of an H100 on one core (s)", "what", "predictions", "s", "million/s")
    works: dict[str, tuple[int, Callable[[], object]]] = {
        "matrix multiplications, one call": (MATRICES, lambda: timer.gemm(m, n, k)),
        "attention (prefill), one call": (
            MATRICES // 10,
            lambda: timer.attention.prefill(AttentionWork(1, m[::10], keys[::10], 32, 8, 128)),
        ),
        "RMSNorm, one call": (MATRICES, lambda: timer.vector.normalization(m, n)),
        "matrix multiplications, one by one": (1000, lambda: [timer.gemm(*one) for one in zip(m[:1000], n, k)]),  # noqa: B905
    }
    for what, (count, work) in works.items():
        seconds = timed(work)
        made.add_row(what, f"{count:,}", f"{seconds:.2f}", f"{count / seconds / 1e6:.3f}")
    console.print(made)


LARGE_STEP = """
import simgpu
plan = simgpu.Plan(tp=8, pp=16, dp=128, vp=8, sequence_parallel=True, micro_batch=1, zero=1)
cluster = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=2048)
simgpu.simulate(cluster, simgpu.Training(batch=2048, tokens=8192), simgpu.load_model("llama-3.1-405b"), plan)
"""


def fresh(code: str) -> None:
    """Python code in a process of its own."""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def cold(*arguments: str) -> Callable[[], object]:
    """The command line in a process of its own."""
    return lambda: subprocess.run([sys.executable, "-m", "simgpu.cli", *arguments], check=True, capture_output=True)


def median(work: Callable[[], object], repeats: int = REPEATS) -> float:
    work()
    return statistics.median(timed(work) for _ in range(repeats))


def table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right")
    return made


def main() -> None:
    console = Console()
    events = table(f"Engine, {EVENTS:,} delays (million events/s, median of {REPEATS})", "streams", "one by one",
                   "as sequences", "SimPy", "one by one / SimPy", "sequences / SimPy")  # fmt: skip
    for processes in (1, 100):
        ours, batched, theirs = [], [], []
        for _ in range(REPEATS):  # in turn, so that a machine that changes speed changes it for all
            ours.append(timed(delays(processes)))
            batched.append(timed(sequences(processes)))
            theirs.append(timed(simpy_timeouts(processes)))
        rates = [EVENTS / statistics.median(times) / 1e6 for times in (ours, batched, theirs)]
        ratios = [f"{rates[0] / rates[2]:.2f}", f"{rates[1] / rates[2]:.2f}"]
        events.add_row(str(processes), *(f"{rate:.2f}" for rate in rates), *ratios)
    console.print(events)

    flows = table(
        "Flows over a star with one backbone (s)", "flows", "simgpu", "SimGrid (reference)", "SimGrid / simgpu"
    )
    for count, reference in SIMGRID_S.items():
        seconds = median(star(count))
        flows.add_row(f"{count:,}", f"{seconds:.4f}", f"{reference:g}", f"{reference / seconds:.1f}")
    console.print(flows)

    rings = table("1 GiB ring all-reduce, graph, routes and simulation, unfolded (s)", "GPUs", "simgpu",
                  "ASTRA-sim (reference)")  # fmt: skip
    for gpus, reference_s in ASTRA_SIM_S.items():
        rings.add_row(f"{gpus:,}", f"{median(ring(gpus), 3):.4f}", reference_s)
    console.print(rings)

    kernels(console)

    steps = table("Training step of Llama 3.1 405B, TP 8 x PP 16 x VP 8 x DP 128, in a process of its own (s)", "GPUs",
                  "simgpu", "goal")  # fmt: skip
    steps.add_row("16,384", f"{median(lambda: fresh(LARGE_STEP), 3):.2f}", "1 to 2")
    console.print(steps)

    starts = table("Command line, cold (s)", "command", "simgpu", "Calculon (reference)")
    starts.add_row("--help", f"{median(cold('--help')):.2f}", "")
    run = ("run", "tp2_scaling", "--no-plots", "--quiet")
    starts.add_row(" ".join(run), f"{median(cold(*run)):.2f}", f"{CALCULON_COLD_S}")
    console.print(starts)


if __name__ == "__main__":
    main()
