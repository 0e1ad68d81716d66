"""A server at a steady load, in closed form: a fixed number of clients that each wait for their answer.

Of `concurrency` requests so many are in the batch as the cache holds; the others queue. In the time that the server
makes the output of one request, one prompt of every other request passes too, and decodes wait for it:

    B    = min(concurrency, cache / (prompt + output / 2))                          in the batch
    TPOT = t_decode(B) + share (B - 1) t_prompt / output
    TTFT = T0 + (2 - 1/B) t_prompt + together B t_prompt / 2 + (concurrency / B - 1) (service time)

`t_prompt` is what a prompt adds to a step of decodes where a runtime mixes them (`share` 1), and a step of its own
where prompts go first: equal requests that started together then stay together, and of the prompts of all the others
a request's decodes see a half (`share` 1/2). `together` is the part of the prompts that arrive at once. What this
leaves out: lengths that differ, preemption, and the order of a real queue.
"""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.model.serving import Group
from simgpu.plan.serving_memory import most_sequences
from simgpu.workload.inference.deployment import Deployment, StepTime
from simgpu.workload.inference.generation import CHUNKS, decode_seconds, pipelined, prefill_runs


@dataclass(frozen=True)
class Load:
    """Requests at a time, and tokens of each; `cached` of the prompt are in the cache already."""

    concurrency: int
    prompt: int
    output: int
    cached: int = 0


@dataclass(frozen=True)
class Serving:
    """What a server does under a load; times in s, rates of output tokens, all replicas together."""

    load: Load
    batch: float  # requests in the batch of a replica
    waiting: float  # requests of a replica that queue
    ttft: float
    tpot: float
    decode: StepTime
    decode_s: float  # of a step of decodes
    interference_s: float  # of TPOT: prompts of others
    replicas: int

    @property
    def total(self) -> float:
        """From the arrival of a request to its last token."""
        return self.ttft + self.tpot * (self.load.output - 1)

    @property
    def requests_per_s(self) -> float:
        return self.load.concurrency / self.total

    @property
    def saturated(self) -> bool:
        """Whether requests queue for room in the cache."""
        return self.waiting > 0.02 * self.batch


def serve(deployment: Deployment, load: Load) -> Serving:
    """The steady state of a server under a load, prefill and decode on the same GPUs."""
    run, plan = deployment.runtime, deployment.plan
    each = load.concurrency / plan.dp
    batch = min(each, max(room_for(deployment, load), 1.0))
    whole = max(round(batch), 1)
    context = load.prompt + load.output // 2
    step, decode_s = decode_seconds(deployment, whole, context)
    alone = pipelined(prefill_runs(deployment, 1, load.prompt, load.cached), run.queue)
    if run.mixes:
        added, share = prompt_beside(deployment, load, whole, context), 1.0
    else:
        added, share = alone, 0.5
    interference = share * max(batch - 1, 0.0) * added / load.output
    tpot = decode_s + interference
    prompts = 1 + (batch - 1) / batch  # its own, and on average what is under way when it comes
    first = run.first_s + prompts * alone + run.together * batch * alone / 2
    # each of the batch's prompts passes once in the time of a request: where outputs are short, they queue
    busy = batch * min(added, alone) + (load.output - 1) * decode_s
    first = max(first, busy - tpot * (load.output - 1))
    waiting = each - batch
    first += waiting / batch * (first + tpot * (load.output - 1))
    return Serving(load, batch, waiting, first, tpot, step, decode_s, interference, plan.dp)


def room_for(deployment: Deployment, load: Load) -> float:
    """Requests of a replica whose caches fit, half-way through their outputs on average."""
    capacity = deployment.cluster.gpu.memory.capacity.si
    held = load.prompt + (load.output + 1) // 2
    return most_sequences(deployment.served, held, capacity) / deployment.plan.dp


def prompt_beside(deployment: Deployment, load: Load, batch: int, context: int) -> float:
    """Seconds that a prompt adds to steps of decodes, in chunks where it is long."""
    limit = deployment.chunk
    if deployment.plan.pp > 1:
        return pipelined(prefill_runs(deployment, 1, load.prompt, load.cached)) / deployment.plan.pp
    plain = deployment.decode(batch, context).seconds
    starts = list(range(load.cached, load.prompt, limit))
    shown = starts[len(starts) // 2 :][:1] if len(starts) > CHUNKS else starts
    found = 0.0
    for start in shown:
        queries = min(limit, load.prompt - start)
        mixed = deployment.step(Group(1, queries, start + queries), Group(batch, 1, context))
        found += max(mixed.seconds - plain, 0.0)
    return found * len(starts) / len(shown)
