"""What tests of a server request by request share: steps of invented times, loads, and runs of a small server."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from simgpu.workload.server.care import PLAIN, Care
from simgpu.workload.server.fleet import Clients, Fleet
from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Path, Request
from simgpu.workload.server.routing import ROUTERS
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.tally import Tally

RULES = Rules(chunk=2048, seats=64, blocks=2000, block=16)
ONE = Rules(chunk=10**6, seats=1, blocks=10**6, block=16, keeps=False)
"""One request at a time."""


@dataclass
class Steps:
    """Steps whose seconds are a sum of terms."""

    base: float = 0.005
    sequence: float = 1e-5
    context: float = 1e-8
    prompt: float = 2e-5

    def line(self, n: int, held: int) -> tuple[int, float, float]:
        return 10**12, self.base + self.sequence * n, self.context

    def decode(self, n: int, held: int) -> float:
        return self.base + self.sequence * n + self.context * held

    def mixed(self, n: int, held: int, chunks: Sequence[tuple[int, int]]) -> float:
        return self.decode(n, held) + sum(self.prompt * (new + 0.01 * past) for new, past in chunks)


STEPS = Steps()
OPEN = Clients()
SERVICE = Steps(base=1.0, sequence=0.0, context=0.0, prompt=0.0)
"""Every step takes a second."""


def poisson(
    count: int, rate: float, seed: int = 0, prompts: Sequence[int] = (100, 1000), outputs: Sequence[int] = (1, 200),
    paths: Sequence[Path] = ((),),
) -> Iterator[Request]:  # fmt: skip
    """Requests that come at random, with lengths between two numbers."""
    random, now = Random(seed), 0.0
    for number in range(count):
        now += random.expovariate(rate)
        path = random.choice(paths)
        prompt = random.randint(*prompts) + (path[-1][1] if path else 0)
        yield Request(number, now, prompt, random.randint(*outputs), path)


@dataclass
class Ran:
    """A server that has run, and its requests by number."""

    fleet: Fleet
    tally: Tally
    requests: list[Request]


def run(
    load: Iterator[Request], rules: Rules = RULES, steps: object = STEPS, replicas: int = 1,
    router: str = "round_robin", clients: Clients = OPEN, leaps: bool = True, care: Care = PLAIN,
) -> Ran:  # fmt: skip
    tally, done = Tally(), []
    servers = [Replica(rules, steps, tally, leaps) for _ in range(replicas)]
    fleet = Fleet(servers, ROUTERS[router](0), done.append, clients, care=care)
    fleet.run(load)
    return Ran(fleet, tally, sorted(done, key=lambda one: one.number))


def vllm(**changed: object) -> Rules:
    return replace(RULES, **changed)
