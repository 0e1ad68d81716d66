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
from functools import partial

from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.speculation import Speculation
from simgpu.workload.server.pieces import Pieces

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
    """Seconds of the steps of an engine; all times are `factor` times as long, those of the host apart.

    Where a draft guesses, those of decodes are seconds per token: a cycle over the tokens that it brings.
    """

    def __init__(self, pieces: Pieces, factor: float = 1.0) -> None:
        self.pieces, self.factor = pieces, factor
        self._step_s, self._sequence_s, self._prompt_s = pieces.step_s, pieces.sequence_s, pieces.prompt_s
        self._between_s, self._hides = pieces.between_s, pieces.hides
        self._brings, self._queries = pieces.brings, pieces.queries
        self._plain = Curve(pieces.decodes, finest=4)
        self._layers = Curve(pieces.layers)
        self._experts = Curve(pieces.experts)
        self._head = Curve(pieces.head, finest=8)
        self._drafts = Curve(pieces.drafts, finest=8)
        self._adapters: dict[int, Curve] = {}
        self._shared = pieces.deployment.experts.replicas > 1
        self._decode_attention: dict[tuple[int, int], float] = {}
        self._prompt_attention: dict[tuple[int, int], float] = {}
        self._chunks: dict[Chunk, float] = {}
        self._lines: dict[tuple[int, int, int, int], tuple[Line, ...]] = {}

    def scaled(self, factor: float) -> Steps:
        """The same steps, of which the GPU's times are `factor` times as long."""
        made = copy(self)
        made.factor, made._lines = factor, {}
        return made

    # ---- what a server asks --------------------------------------------------------------------------

    def line(self, n: int, held: int, rows: int = 0, adapters: int = 0) -> Line:
        """The line on which a step of n decodes lies that then hold `held` tokens together.

        `rows` are those of the largest rank, to which the others are padded (0: n); they name so many `adapters`.
        """
        place = (held // n).bit_length()
        lines = self._lines.get((n, place, rows, adapters))
        if lines is None:
            lines = self._lines[n, place, rows, adapters] = self._make(n, place, rows or n, adapters)
        for one in lines:
            if held <= one[0]:
                return one
        return lines[-1]

    def decode(self, n: int, held: int) -> float:
        """Seconds of a step of n decodes that then hold `held` tokens together."""
        _, start, slope = self.line(n, held)
        return start + slope * held

    def mixed(self, n: int, held: int, chunks: Sequence[Chunk], adapters: int = 0) -> float:
        """Seconds of a step with chunks of prompts, beside n decodes that then hold `held` tokens together."""
        gpu, host, tokens = self._own(n, held, chunks)
        if adapters:
            gpu += self.factor * self._beside(tokens, adapters)
        if self._shared:
            gpu += self.factor * self._experts.at(tokens)
        return self._with_host(gpu, host)

    def lockstep(self, ranks: Sequence[tuple[int, int, Sequence[Chunk]]], count: int) -> float:
        """Seconds of a step with prompts of `count` ranks that share experts, of which these have any work.

        Each is as long as its own tokens make it, but for the experts, to which all bring theirs; the slowest decides.
        """
        own = [self._own(*one) for one in ranks]
        tokens = -(-sum(one[2] for one in own) // count)
        gpu = max(one[0] for one in own) + self.factor * self._experts.at(tokens)
        return self._with_host(gpu, max(one[1] for one in own))

    def _own(self, n: int, held: int, chunks: Sequence[Chunk]) -> tuple[float, float, int]:
        """Seconds of the GPU without shared experts and of the host, and the tokens of a step."""
        tokens, attention = n * self._queries, 0.0
        for chunk in chunks:
            tokens += chunk[0]
            seconds = self._chunks.get(chunk)
            if seconds is None:
                if len(self._chunks) > REMEMBERED:
                    self._chunks.clear()
                seconds = self._chunks[chunk] = self._chunk(*chunk)
            attention += seconds
        count = n + len(chunks)
        if n:
            attention += self._attention(n, held / n)
            if self._queries > 1:
                attention += self._drafts.at(n)
        gpu = self.factor * (self._layers.at(tokens) + self._head.at(n * self._queries + len(chunks)) + attention)
        return gpu, self._step_s + self._sequence_s * count + self._prompt_s * len(chunks), tokens

    # ---- lines ---------------------------------------------------------------------------------------

    def _with_host(self, gpu: float, host: float) -> float:
        return (max(gpu, host) if self._hides else gpu + host) + self._between_s

    def _beside(self, tokens: int, adapters: int) -> float:
        """Seconds of the kernels of so many different adapters, between the nodes around that number."""
        nodes = _nodes_of(adapters)
        values = []
        for one in nodes:
            if one not in self._adapters:
                self._adapters[one] = Curve(partial(self.pieces.adapters, distinct=one), finest=8)
            values.append(self._adapters[one].at(tokens))
        share = (adapters - nodes[0]) / (nodes[1] - nodes[0]) if len(nodes) > 1 else 0.0
        return values[0] * (1 - share) + values[-1] * share

    def _make(self, n: int, place: int, rows: int, adapters: int) -> tuple[Line, ...]:
        """Lines of n decodes whose mean context lies between two powers of two, cut where the host takes over."""
        lines, brings = self._cycles(n, place, rows, adapters), self._brings
        return tuple((end, start / brings, slope / brings) for end, start, slope in lines) if brings > 1 else lines

    def _cycles(self, n: int, place: int, rows: int, adapters: int) -> tuple[Line, ...]:
        """Lines of whole steps."""
        low, high = 1 << max(place - 1, 0), 1 << place
        rest = self._decodes(rows) + (self._beside(rows, adapters) if adapters else 0.0)
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

    def _decodes(self, rows: int) -> float:
        """All but attention of a step of decodes: as long as at the next size of a graph, where there are some."""
        sizes = self.pieces.sizes
        return self.pieces.decodes(rows) if sizes and rows <= sizes[-1] else self._plain.at(rows)

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
            found = self._decode_attention[n, context] = self.pieces.decode_attention(n, context)
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
            found = self._prompt_attention[new, past] = self.pieces.prompt_attention(new, past)
        return found


def steps_of(deployment: Deployment, sizes: Sequence[int] = (), speculation: Speculation | None = None) -> Steps:
    """The steps of a deployment, which it keeps; with CUDA graphs of some sizes, with guesses of a draft."""
    if sizes or speculation is not None:
        return Steps(Pieces(deployment, sizes, speculation))
    found: Steps = vars(deployment).setdefault("_server_steps", Steps(Pieces(deployment)))
    return found


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
