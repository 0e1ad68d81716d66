"""A server at a steady load, in closed form: a fixed number of clients that each wait for their answer.

Of `concurrency` requests so many are in the batch as the cache holds; the others queue. In the time that the server
makes the output of one request, one prompt of every other request passes too, and decodes wait for it:

    B    = min(concurrency, cache / (prompt + output / 2))                          in the batch
    TPOT = t_decode(B) + share (B - 1) t_prompt / output
    TTFT = T0 + (1 - 1/B) (join TPOT + t_prompt) + t_own + together B t_prompt / 2
              + (concurrency / B - 1) (service time)

`t_prompt` is what a prompt adds to a step of decodes where a runtime mixes them (`share` 1), and a step of its own
where prompts go first: equal requests that started together then stay together, and of the prompts of all the others
a request's decodes see a half (`share` 1/2). `together` is the part of the prompts that arrive at once.

A request that comes to a busy engine waits for `join` steps: the rest of the one that runs, half of it on average, and,
where the host prepares steps ahead, the one that the GPU has been sent already (vLLM, v1/engine/core.py,
step_with_batch_queue). The step of its own, `t_own`, holds the decodes of others where the engine mixes. Clients that
wait for their answers send together, as they are answered in the same steps: of another prompt, on average, it waits
for the whole. Requests that come at a rate (`simgpu.workload.inference.open_load`) do not.

Clients stay together as long as their requests are equally long. Lengths that are drawn take them apart within a few
answers, and then prompts meet by chance, as in a queue of one server with equal service (M/D/1; Kleinrock, Queueing
Systems I, 5.6), for an engine that mixes:

    TTFT = T0 + (1 - 1/B) (join + 1/2) TPOT + t_own + [(1 - 1/W) rho / (2 (1 - rho)) + (B - 1) / (2 W)] t_prompt

with `rho` the share of the time that steps with the prompts of others take. The first of the `W` requests that each
client sends come all at once, and wait for half of each other. An answer, and so the next request, comes as a step
ends: of the next it waits for all, not for half.

A request takes no less time than the GPUs are busy with the B requests of the batch. Where outputs are short, several
prompts join each step, and this decides:

    service time >= S t_step(c prompts, d decodes),   c = B / S,   d = B (output - 1) / S

`S` steps pass B prompts and B (output - 1) other tokens: `output` of them, or more where a step has no room for c.

Batches of 1, 2, 3, 4, 6, 8, 12 and so on are worked out; between two of these a server is in the one for a part of the
time and in the other for the rest. A batch gets no less done than a smaller one, as some of its requests could wait:
where kernel models say otherwise (one tile more, a longer burst that is throttled) its times are cut. So throughput
never falls as clients are added. What all of this leaves out: lengths that differ, preemption, and the order of a real
queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from math import ceil

from simgpu.model.serving import Group
from simgpu.plan.serving_memory import most_sequences
from simgpu.workload.inference.deployment import Deployment, StepTime
from simgpu.workload.inference.generation import CHUNKS, decode_seconds, pipelined, prefill_runs


@dataclass(frozen=True)
class Load:
    """Requests at a time, and tokens of each; `cached` of the prompt are in the cache already.

    `closed`: clients that wait for their answers; else requests come whatever the server does. `look` are seconds of
    the vision tower for the images of one. `drawn`: lengths differ, the ones given are means, and `waves` requests of
    each client are counted (0: so many that the first one does not matter). `front` are seconds of a request outside of
    the engine, beside those of the runtime.
    """

    concurrency: float
    prompt: int
    output: int
    cached: int = 0
    closed: bool = True
    look: float = 0.0
    drawn: bool = False
    waves: float = 0.0
    front: float = 0.0

    @property
    def new(self) -> int:
        """Tokens of a prompt that are not in the cache."""
        return self.prompt - self.cached

    @property
    def context(self) -> int:
        """Tokens of a request half-way through its output."""
        return self.prompt + self.output // 2


Shares = tuple[tuple[StepTime, float], ...]
"""Steps of decodes, and the part of the tokens that each makes."""


@dataclass(frozen=True)
class Batch:
    """The behaviour of a replica with `size` requests in its batch; times in s."""

    size: float
    ttft: float
    tpot: float
    decode: Shares
    decode_s: float
    interference_s: float
    output: int

    @property
    def total(self) -> float:
        """Seconds from the time that a request joins the batch to its last token."""
        return self.ttft + self.tpot * (self.output - 1)

    @property
    def rate(self) -> float:
        """Requests/s."""
        return self.size / self.total

    def no_slower(self, rate: float) -> Batch:
        """The same, in so much shorter times that it gets as much done as a smaller batch of that rate."""
        if self.rate >= rate:
            return self
        part = self.rate / rate
        decode = tuple((step.scaled(part), share) for step, share in self.decode)
        times = (self.ttft, self.tpot, self.decode_s, self.interference_s)
        ttft, tpot, decode_s, interference_s = (part * seconds for seconds in times)
        return Batch(self.size, ttft, tpot, decode, decode_s, interference_s, self.output)


@dataclass(frozen=True)
class Serving:
    """The behaviour of a server under a load; times in s, rates of output tokens, all replicas together."""

    load: Load
    batch: float  # requests in the batch of a replica
    waiting: float  # requests of a replica that queue
    ttft: float
    tpot: float
    decode: Shares
    decode_s: float  # of a step of decodes
    interference_s: float  # of TPOT: prompts of others
    requests_per_s: float

    @property
    def total(self) -> float:
        """Seconds from the arrival of a request to its last token."""
        return self.ttft + self.tpot * (self.load.output - 1)

    @property
    def saturated(self) -> bool:
        """True if requests queue for a place in the batch."""
        return self.waiting > 0.02 * self.batch


def serve(deployment: Deployment, load: Load) -> Serving:
    """The steady state of a server under a load, prefill and decode on the same GPUs."""
    replicas = deployment.plan.dp
    each = load.concurrency / replicas
    done = best_batch(deployment, load, min(each, max(room_for(deployment, load), 1.0)))
    waiting = each - done.size
    ttft = done.ttft + waiting / done.size * done.total
    return Serving(
        load, done.size, waiting, ttft, done.tpot, done.decode, done.decode_s, done.interference_s, replicas * done.rate
    )


def best_batch(deployment: Deployment, load: Load, most: float) -> Batch:
    """The batch of `most` requests, or a smaller one where that is no slower."""
    sizes = [*takewhile(lambda size: size < most, batch_sizes())]
    above = next(size for size in batch_sizes() if size >= most)
    one = batch_of(deployment, load, 1)
    found = [one]
    for size in reversed(sizes[1:]):
        if len(found) > 1 and size <= max(made.rate for made in found) * LEAST * one.total:
            break  # smaller ones get less done, even if they took no longer than one request
        found.append(batch_of(deployment, load, size))
    best = max(made.rate for made in found)
    below = found[1] if len(found) > 1 else one
    return _between(below.no_slower(best), batch_of(deployment, load, above).no_slower(best), most)


LEAST = 0.9
"""A request in any batch takes at least so much of the time that one alone takes."""


def batch_sizes() -> Iterator[int]:
    """Batches that are worked out: 1, 2, 3, 4, 6, 8, 12 and so on."""
    yield 1
    size = 2
    while True:
        yield size
        yield size * 3 // 2
        size *= 2


def batch_of(deployment: Deployment, load: Load, size: int) -> Batch:
    """A replica with `size` requests in its batch."""
    run, output = deployment.runtime, load.output
    step, decode_s = decode_seconds(deployment, size, load.context)
    alone = pipelined(prefill_runs(deployment, 1, load.prompt, load.cached), run.queue) + load.look
    passage = prompts_between(deployment, load, size, decode_s, alone)
    interference = passage.share * (size - 1) * passage.added / passage.steps
    tpot = decode_s + interference
    busy = 1 - 1 / size  # others in the batch
    own = alone if size == 1 or not run.mixes else max(decode_s + passage.added, alone)
    join, others = run.join_steps, 0.0
    if load.closed and load.drawn and run.mixes:
        join, others = join + 0.5, alone * prompts_by_chance(interference / tpot, size, load.waves)
    elif load.closed:
        others = busy * alone + min(run.together * size * alone / 2, passage.busy)
    first = run.first_s + load.front + busy * join * tpot + own + others
    first = max(first, passage.busy - tpot * (output - 1))  # where outputs are short, prompts queue
    return Batch(size, first, tpot, ((step, 1.0),), decode_s, interference, output)


def prompts_by_chance(rho: float, size: int, waves: float) -> float:
    """Prompts of others that a request waits for where lengths are drawn; `rho`: share of the time with such prompts.

    Of the first of `waves` requests of each client it waits for half of those of the others.
    """
    most = (size - 1) / 2
    queue = min(rho / (2 * (1 - rho)), most) if rho < 1 else most
    first = 1 / waves if waves else 0.0
    return (1 - first) * queue + first * most


def _between(below: Batch, above: Batch, size: float) -> Batch:
    """A batch of `size` requests: of `below` and `above` for as much of the time as makes that on average."""
    if above.size == size:
        return above
    if size < 1:  # fewer clients than replicas: a request is alone wherever it runs
        return replace(above, size=size)
    part = (size - below.size) / (above.size - below.size)

    def mixed(name: str) -> float:
        low, high = getattr(below, name), getattr(above, name)
        return float(low + part * (high - low))

    shares = [(below.decode, 1 - part), (above.decode, part)]
    return Batch(
        size,
        mixed("ttft"),
        mixed("tpot"),
        tuple((step, share * weight) for made, weight in shares if weight for step, share in made),
        mixed("decode_s"),
        mixed("interference_s"),
        above.output,
    )


def room_for(deployment: Deployment, load: Load) -> float:
    """Requests of a replica whose caches fit, half-way through their outputs on average, as far as it takes them."""
    capacity = deployment.cluster.gpu.memory.capacity.si
    held = load.prompt + (load.output + 1) // 2
    room = most_sequences(deployment.served, held, capacity) / deployment.plan.dp
    return min(room, deployment.seats or room)


# ---- prompts -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Passage:
    """The way prompts of a batch are prefilled between its decodes.

    A prompt adds `added` seconds; all of them are spread over `steps` steps of decodes. A request's decodes meet
    `share` of those of others. The GPUs are `busy` for so many seconds with the prompts and outputs of the batch.
    """

    added: float
    steps: float
    share: float
    busy: float


def prompts_between(deployment: Deployment, load: Load, size: int, decode_s: float, alone: float) -> Passage:
    """How the prompts of `size` requests pass between their decodes.

    A step of these takes `decode_s`; a prompt `alone` takes so long.
    """
    output, run = load.output, deployment.runtime
    if run.mixes and deployment.plan.pp == 1:
        return _mixed(deployment, load, size, alone)
    whole = pipelined(prefill_runs(deployment, size, load.prompt, load.cached), run.queue) + size * load.look
    if not run.mixes:
        return Passage(whole / size, output, 0.5, whole + (output - 1) * decode_s)
    added = alone / deployment.plan.pp if size <= output else whole / size
    return Passage(added, output, 1.0, max(whole, size * added + output * decode_s))


def _mixed(deployment: Deployment, load: Load, size: int, alone: float) -> Passage:
    """Prompts that share steps with decodes: as many in each as come in the time of a step, and as its tokens allow.

    There are `size * chunks / joined` mixed steps and at least as many steps in all. So a request waits for a mean of
    mixed and plain steps in which no weight is below zero: faster hardware, which shortens both, never slows it.
    """
    output, limit = load.output, deployment.chunk
    chunks = ceil(load.new / limit)
    joined = max(min(ceil(size / output), limit // (load.new + output - 1)), 1)
    steps = max(output, size * chunks / joined)
    decodes = size if steps == output else max(round(size * (output - 1) / steps), 1)
    plain = deployment.decode(decodes, load.context).seconds
    added = prompt_beside(deployment, load, joined, decodes) + load.look
    least = size * alone if chunks > 1 else 0.0  # chunks are no faster beside decodes than without them
    return Passage(added, steps, 1.0, max(steps * plain + size * added, least))


def prompt_beside(deployment: Deployment, load: Load, joined: int, decodes: int) -> float:
    """Seconds that each of `joined` prompts adds to steps of decodes, in chunks where it is long."""
    limit, context = deployment.chunk, load.context
    plain = deployment.decode(decodes, context).seconds
    starts = list(range(load.cached, load.prompt, limit))
    shown = starts[len(starts) // 2 :][:1] if len(starts) > CHUNKS else starts
    found = 0.0
    for start in shown:
        queries = min(limit, load.prompt - start)
        mixed = deployment.step(Group(joined, queries, start + queries), Group(decodes, 1, context))
        found += max(mixed.seconds - plain, 0.0)
    return found * len(starts) / len(shown) / joined
