"""Times of an engine's steps as a table that fills itself, for a server that asks for millions of them.

A step of n sequences that decode, which hold C tokens together, and of prompts' chunks of q new tokens behind `past`:

    t = layers(tokens) + head(rows) + attention(n, C / n) + sum over chunks of attention(q, past)

beside the host's time, which adds or hides as the runtime says (`simgpu.workload.inference.deployment`). Each term is
asked of `Deployment.step` at nodes, when it is first needed, and is linear between them. Nodes of `layers` and `head`
are halved until the middle of two lies within `TOLERANCE` of their line; attention stands at powers of two in the
context, where it is nearly linear. So the time of decodes is a line in C from node to node, and many equal steps have
a sum in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

from simgpu.model.serving import Group
from simgpu.workload.inference.deployment import Deployment, StepTime

Chunk = tuple[int, int]
"""New tokens of a prompt in a step, and tokens of it that the cache holds already."""

Line = tuple[int, float, float]
"""Up to C tokens: seconds are the second entry plus the third times C."""

TOLERANCE = 0.004
"""Relative deviation of a middle from its line at which a node is added."""

FINEST = 16
"""Tokens between two nodes, above which halving goes on."""


REMEMBERED = 100_000
"""Chunks whose seconds are remembered."""


class Curve:
    """A function of a whole number, asked at nodes and linear between them."""

    def __init__(self, ask: Callable[[int], float], finest: int = FINEST) -> None:
        self._ask, self._finest = ask, finest
        self._nodes: dict[int, float] = {}
        self._split: dict[tuple[int, int], bool] = {}
        self._known: dict[int, float] = {}

    def node(self, x: int) -> float:
        """The value at a node."""
        found = self._nodes.get(x)
        if found is None:
            found = self._nodes[x] = self._ask(x)
        return found

    def at(self, x: int) -> float:
        """The value at `x`."""
        found = self._known.get(x)
        if found is None:
            found = self._known[x] = self._between(x)
        return found

    def _between(self, x: int) -> float:
        low = 1 << (max(x, 1).bit_length() - 1)
        high = 2 * low
        while low < x < high:
            middle = (low + high) // 2
            if high - low < 2 * self._finest or not self._splits(low, middle, high):
                part = (x - low) / (high - low)
                return self.node(low) * (1 - part) + self.node(high) * part
            low, high = (low, middle) if x < middle else (middle, high)
        return self.node(low if x <= low else high)

    def _splits(self, low: int, middle: int, high: int) -> bool:
        """True where the middle, or a quarter, of two nodes lies off their line."""
        found = self._split.get((low, high))
        if found is None:
            ends = (self.node(low), self.node(high))
            found = any(
                abs(self.node(x) / (ends[0] + (ends[1] - ends[0]) * (x - low) / (high - low)) - 1) > TOLERANCE
                for x in (middle, low + (high - low) // 4, high - (high - low) // 4)
            )
            self._split[low, high] = found
        return found


class Steps:
    """Seconds of the steps of a deployment; all times are `factor` times as long, those of the host apart."""

    def __init__(self, deployment: Deployment, factor: float = 1.0) -> None:
        self.deployment, self.factor = deployment, factor
        run = deployment.runtime
        self._step_s, self._sequence_s, self._prompt_s = run.step_s, run.sequence_s, run.prompt_s
        self._between_s, self._hides = run.between_s, run.overlaps_host
        self._plain = Curve(lambda n: self._rest(_decodes(n, 2)), finest=4)
        self._layers = Curve(lambda tokens: self._without_head(_prompt(tokens, 0)))
        self._head = Curve(lambda rows: self._only_head(_rows(rows)), finest=8)
        self._decode_attention: dict[tuple[int, int], float] = {}
        self._prompt_attention: dict[tuple[int, int], float] = {}
        self._chunks: dict[Chunk, float] = {}
        self._lines: dict[tuple[int, int], tuple[Line, ...]] = {}

    def scaled(self, factor: float) -> Steps:
        """The same steps, of which the GPU's times are `factor` times as long."""
        made = copy(self)
        made.factor, made._lines = factor, {}
        return made

    # ---- what a server asks --------------------------------------------------------------------------

    def line(self, n: int, held: int) -> Line:
        """The line on which a step of n decodes lies that then hold `held` tokens together."""
        place = (held // n).bit_length()
        lines = self._lines.get((n, place))
        if lines is None:
            lines = self._lines[n, place] = self._make(n, place)
        for one in lines:
            if held <= one[0]:
                return one
        return lines[-1]

    def decode(self, n: int, held: int) -> float:
        """Seconds of a step of n decodes that then hold `held` tokens together."""
        _, start, slope = self.line(n, held)
        return start + slope * held

    def mixed(self, n: int, held: int, chunks: Sequence[Chunk]) -> float:
        """Seconds of a step with chunks of prompts, beside n decodes that then hold `held` tokens together."""
        tokens, attention = n, 0.0
        for chunk in chunks:
            tokens += chunk[0]
            seconds = self._chunks.get(chunk)
            if seconds is None:
                if len(self._chunks) > REMEMBERED:
                    self._chunks.clear()
                seconds = self._chunks[chunk] = self._chunk(*chunk)
            attention += seconds
        if n:
            attention += self._attention(n, held / n)
        count = n + len(chunks)
        gpu = self.factor * (self._layers.at(tokens) + self._head.at(count) + attention)
        return self._with_host(gpu, self._step_s + self._sequence_s * count + self._prompt_s * len(chunks))

    # ---- lines ---------------------------------------------------------------------------------------

    def _with_host(self, gpu: float, host: float) -> float:
        return (max(gpu, host) if self._hides else gpu + host) + self._between_s

    def _make(self, n: int, place: int) -> tuple[Line, ...]:
        """Lines of n decodes whose mean context lies between two powers of two, cut where the host takes over."""
        low, high = 1 << max(place - 1, 0), 1 << place
        rest = self._plain.at(n)
        first, last = (self.factor * (rest + self._attention(n, one)) for one in (low, high))
        slope = (last - first) / (high - low) / n
        start = first - slope * low * n
        host, end = self._step_s + self._sequence_s * n, high * n - 1
        if not self._hides:
            return ((end, start + host + self._between_s, slope),)
        busy = (end, start + self._between_s, slope)
        idle = (end, host + self._between_s, 0.0)
        if min(first, last) >= host:
            return (busy,)
        if max(first, last) <= host or slope <= 0:
            return (idle,)
        return ((int((host - start) / slope), *idle[1:]), busy)

    def _attention(self, n: int, context: float) -> float:
        """Seconds of attention of n decodes at a mean context, between the four nodes around them."""
        rows = _nodes_of(n)
        place = max(int(context).bit_length(), 1)
        low, high = 1 << (place - 1), 1 << place
        part = (context - low) / (high - low)
        values = [self._attends(row, low) * (1 - part) + (self._attends(row, high) * part if part else 0.0)
                  for row in rows]  # fmt: skip
        if len(rows) == 1:
            return values[0]
        share = (n - rows[0]) / (rows[1] - rows[0])
        return values[0] * (1 - share) + values[1] * share

    def _attends(self, n: int, context: int) -> float:
        found = self._decode_attention.get((n, context))
        if found is None:
            found = self._decode_attention[n, context] = _attention_of(self._step(_decodes(n, context)))
        return found

    def _chunk(self, new: int, past: int) -> float:
        """Seconds of attention of a chunk: seconds of a token are linear in both, as those of keys are."""
        values = []
        behind = _spread(past)
        for row in (rows := _nodes_of(new)):
            ends = [self._chunk_node(row, one) for one in behind]
            part = (past - behind[0]) / (behind[1] - behind[0]) if len(ends) > 1 else 0.0
            values.append((ends[0] * (1 - part) + ends[-1] * part) / row)
        share = (new - rows[0]) / (rows[1] - rows[0]) if len(rows) > 1 else 0.0
        return new * (values[0] * (1 - share) + values[-1] * share)

    def _chunk_node(self, new: int, past: int) -> float:
        found = self._prompt_attention.get((new, past))
        if found is None:
            found = self._prompt_attention[new, past] = _attention_of(self._step(_prompt(new, past)))
        return found

    # ---- what the deployment says --------------------------------------------------------------------

    def _step(self, group: Group) -> StepTime:
        return self.deployment.step(group)

    def _rest(self, group: Group) -> float:
        step = self._step(group)
        return sum(step.each) - _attention_of(step)

    def _without_head(self, group: Group) -> float:
        step = self._step(group)
        return sum(step.each) - _attention_of(step) - _head_of(step)

    def _only_head(self, group: Group) -> float:
        return _head_of(self._step(group))


def steps_of(deployment: Deployment) -> Steps:
    """The steps of a deployment, which it keeps."""
    found: Steps = vars(deployment).setdefault("_server_steps", Steps(deployment))
    return found


def _decodes(n: int, context: int) -> Group:
    return Group(n, 1, max(context, 2))


def _prompt(new: int, past: int) -> Group:
    return Group(1, new, past + new)


def _rows(rows: int) -> Group:
    """Short prompts, of which each has a row of logits."""
    return Group(rows, 32, 32)


def _nodes_of(n: int) -> tuple[int, ...]:
    """The nodes around n: 1, 2, 3, 4, 6, 8, 12 and so on; n alone where it is one."""
    low = 1 << (n.bit_length() - 1)
    middle = low + low // 2
    if n in (low, middle):
        return (n,)
    return (low, middle) if n < middle else (middle, 2 * low)


def _spread(past: int) -> tuple[int, ...]:
    """The nodes around a number of tokens: 0, 256, 512, 1024 and so on."""
    if past == 0:
        return (0,)
    if past <= 256:
        return (0, 256)
    low = 1 << (past.bit_length() - 1)
    return (low,) if past == low else (low, 2 * low)


def _attention_of(step: StepTime) -> float:
    """Seconds of a step in attention."""
    return sum(
        part.exposed * count
        for stage in step.stages
        for block, count in stage
        for part in block.parts
        if part.activity.category == "compute" and part.activity.uncertainty.group == "attention"
    )


def _head_of(step: StepTime) -> float:
    """Seconds of a step in the head."""
    return sum(block.seconds * count for stage in step.stages for block, count in stage if block.name == "head")
