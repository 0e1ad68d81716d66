"""Rules of an engine's scheduler, and how much it may hold."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.workload.server.slots import Loading
from simgpu.workload.server.tiers import Levels


@dataclass(frozen=True)
class Rules:
    """The rules by which a replica forms its steps.

    chunk
        New tokens of a step at most: a token of each decode, then of prompts.
    seats
        Requests at a time at most.
    blocks, block
        Blocks of its cache, and tokens of each.
    keeps
        Whether blocks that are given back keep their contents (prefix caching).
    mixes
        Whether prompts and decodes share steps; else a step of prompts alone comes first, and decodes wait.
    ahead
        Whether a step is formed while the one before runs: a request that comes in the meantime joins the step after.
    watermark
        Share of the blocks that stay free when a request is admitted.
    reserve, reserve_floor, reserve_steps, reserve_most
        Share of the output tokens for which room is kept at admission, of at most so many tokens of a request: 0 (none;
        where no block is left, the last to come gives its blocks back and is computed again), 1 (all: nothing is ever
        computed again), or between; it falls to the floor over so many steps, and is back where a request lost its
        place.
    front_s
        Seconds of a request outside the engine.
    image_tokens, look_s
        Tokens of the images of each prompt, and seconds of the vision tower for them in the step that begins it.
    policy
        Who is admitted first: 'fcfs', or 'priority': those of the most urgent class.
    preempts
        Whether a request that finds no place takes that of one of a later class.
    brings, queries
        Tokens that a sequence gets in a step on average, and tokens of it that are computed: more than 1 where a draft
        guesses.
    swap_tokens, swap_s
        Tokens of caches that the host's memory takes in, and seconds of a token on the way there or back.
    tiers
        What is behind the prefix cache.
    adapters
        Slots of adapters, and how they are loaded.
    """

    chunk: int
    seats: int
    blocks: int
    block: int = 16
    keeps: bool = True
    mixes: bool = True
    ahead: bool = False
    watermark: float = 0.0
    reserve: float = 0.0
    reserve_floor: float = 0.0
    reserve_steps: int = 0
    reserve_most: int = 4096
    front_s: float = 0.0
    image_tokens: int = 0
    look_s: float = 0.0
    policy: str = "fcfs"
    preempts: bool = False
    brings: float = 1.0
    queries: int = 1
    swap_tokens: int = 0
    swap_s: float = 0.0
    tiers: Levels | None = None
    adapters: Loading | None = None

    @property
    def whole(self) -> bool:
        """Whether a request gets the blocks of its whole output at once."""
        return self.reserve >= 1.0
