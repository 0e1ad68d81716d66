"""The blocks of a replica's cache: who holds them, and what those that nobody holds still know.

A sequence takes a block when its tokens fill the one before. Decodes grow in step, so blocks are counted by phase: a
sequence whose tokens less the tick leave the remainder p needs a block at ticks congruent to -p, and what k ticks need
is known without a look at any sequence.

Blocks that are given back keep their contents until somebody takes them, the longest unused first and of a sequence its
end first (vLLM, v1/core/kv_cache_utils.py, FreeKVCacheBlockQueue). A shared prefix is a node: so many blocks, of which
the first ones are cached, held by so many requests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from simgpu.workload.server.requests import Path, Request


class Node:
    """Blocks that are known by a name: `cached` of them from the start on, held by `users` requests."""

    __slots__ = ("cached", "size", "users")

    def __init__(self, size: int) -> None:
        self.size, self.cached, self.users = size, 0, 0


class Growth:
    """How sequences that decode in step take blocks of `block` tokens, by phase."""

    __slots__ = ("block", "growing", "phases")

    def __init__(self, block: int) -> None:
        self.block = block
        self.phases = [0] * block
        self.growing = 0

    def needed(self, tick: int, ticks: int) -> int:
        """Blocks that decodes take in so many ticks from `tick` on."""
        if ticks == 1:
            return self.phases[-tick % self.block]
        whole, rest = divmod(ticks, self.block)
        if not rest:
            return whole * self.growing
        end = -tick % self.block + 1  # phases from there downwards, around the end
        start = end - rest
        phases = self.phases
        some = sum(phases[start:end]) if start >= 0 else sum(phases[:end]) + sum(phases[start:])
        return whole * self.growing + some

    def lasts(self, tick: int, most: int, free: int) -> int:
        """Ticks that so many free blocks last, at most `most`."""
        if self.growing * (most // self.block + 1) <= free or self.needed(tick, most) <= free:
            return most
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.needed(tick, middle) <= free else (low, middle)
        return low

    def joins(self, request: Request) -> None:
        """A request starts to grow, by its offset."""
        self.phases[request.offset % self.block] += 1
        self.growing += 1

    def leaves(self, request: Request) -> None:
        """A request grows no more."""
        self.phases[request.offset % self.block] -= 1
        self.growing -= 1


class Pool:
    """Blocks of a replica, `total` of `block` tokens each. `keeps`: given back blocks keep their contents."""

    def __init__(self, total: int, block: int, keeps: bool) -> None:
        self.total, self.block, self.keeps = total, block, keeps
        self.free = total
        self.nodes: dict[Any, Node] = {}
        self.idle: OrderedDict[Any, Node] = OrderedDict()
        self.idle_blocks = 0
        self.forgets: Callable[[Any], None] | None = None  # is told the names of which blocks are taken

    def take(self, count: int) -> None:
        """Take blocks for sequences that grow."""
        self.free -= count
        if self.free < self.idle_blocks:
            self._forget(self.idle_blocks - self.free)

    # ---- requests ------------------------------------------------------------------------------------

    def size(self, tokens: int) -> int:
        """Blocks of so many tokens."""
        return -(-tokens // self.block)

    def admit(self, request: Request, tokens: int, held: int, kept: int) -> int:
        """Take the blocks of a request whose cache is to hold `held` tokens, if `kept` blocks are left after that.

        Returns how many of the first `tokens` tokens the cache has, or -1 where there is no room.
        """
        if not self.keeps:
            request.blocks = self.size(held)
            if request.blocks > self.free - kept:
                return -1
            self.free -= request.blocks
            return 0
        nodes, block = self.nodes, self.block
        count = found = end = 0
        whole = True
        for name, until in request.path:
            size = until // block - end
            end += size
            node = nodes.get(name)
            if node is None or not node.users:
                count += size
            if whole:
                cached = node.cached if node else 0
                found += min(cached, size)
                whole = cached >= size
        own = nodes.get(request.number)
        if whole and own is not None and not own.users:
            found += own.cached
        request.blocks = self.size(held) - end
        count += request.blocks
        if count > self.free - kept:
            return -1
        self._hold(request)
        self.free -= count
        if self.free < self.idle_blocks:
            self._forget(self.idle_blocks - self.free)
        return min(found, (tokens - 1) // block) * block

    def found(self, request: Request) -> int:
        """Tokens of a request that the cache has."""
        total = end = 0
        for name, until in request.path:
            size = until // self.block - end
            end += size
            node = self.nodes.get(name)
            total += min(node.cached, size) if node else 0
            if node is None or node.cached < size:
                break
        return total * self.block

    def knows(self, path: Path) -> None:
        """Prefixes are in an empty cache, as far as they have room, and nobody holds them."""
        end = 0
        for name, until in path if self.keeps else ():
            size = until // self.block - end
            end += size
            node = self.nodes[name] = self.idle[name] = Node(size)
            node.cached = min(size, self.free - self.idle_blocks)
            self.idle_blocks += node.cached

    def release(self, request: Request, held: int, known: int) -> None:
        """Give back the blocks of a request that has room for `held` tokens, `known` of which are computed."""
        if not self.keeps:
            self.free += self.size(held)
            return
        end = 0
        for _, until in request.path:
            end = until // self.block
        self.free += self.size(held) - end
        cached = known // self.block - end
        if cached > 0:
            node = Node(cached)
            node.cached = cached
            self.nodes[request.number] = self.idle[request.number] = node
            self.idle_blocks += cached
        for name, _ in reversed(request.path):
            node = self.nodes[name]
            node.users -= 1
            if not node.users:
                self.free += node.size
                self.idle[name] = node
                self.idle_blocks += node.cached

    def _hold(self, request: Request) -> None:
        """Hold the prefixes of a request; what was cached of its own becomes its own again."""
        end = 0
        for name, until in request.path:
            size = until // self.block - end
            end += size
            node = self.nodes.get(name)
            if node is None:
                node = self.nodes[name] = Node(size)
            elif not node.users:
                self.idle_blocks -= node.cached
                self.idle.pop(name, None)
            node.users += 1
            node.size = node.cached = size
        own = self.idle.pop(request.number, None)
        if own is not None:
            self.idle_blocks -= own.cached
            del self.nodes[request.number]

    def _forget(self, count: int) -> None:
        """Take blocks from those that have been unused for longest, the last of each first."""
        self.idle_blocks -= count
        while count:
            name = next(iter(self.idle))
            node = self.idle[name]
            if self.forgets is not None:
                self.forgets(name)
            if node.cached > count:
                node.cached -= count
                return
            count -= node.cached
            del self.idle[name], self.nodes[name]
