"""Keys of a job `traffic` that say how its sessions go: tools, branches, hidden reasoning, pauses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simgpu.workload.fields import Size, Strict

Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Sessions(Strict):
    """What each session has beside its `turns`: messages of a user, each `think_s` after the answer to the one before.

    A turn is a request with the message, then one request for each call of a tool, behind all that was said before.
    """

    first_prompt: Size | None = None
    """Tokens of the first message, such as files that an agent is given; default: as of the others (`prompt`)."""
    tools: Annotated[int, Field(strict=True, ge=0, le=10_000)] = 0
    """Calls of tools in a turn; each sends a request with the result."""
    tool_tokens: Size | None = None
    """Tokens of the result of a tool, on average; default: as of a message."""
    tool_s: Seconds = 0.0
    """Seconds that a tool takes, on average."""
    branches: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    """Requests that the first answer of a turn sends at once, each with a task of `tool_tokens` behind all that was
    said before; when all are answered, a request with their answers goes on. 1: none."""
    reasoning: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Share of each output that comes first and is hidden from the user."""
    reasoning_kept: Literal["never", "turn", "always"] = "turn"
    """How long hidden tokens stay in the context of later requests: of none, of those of the same turn (as chat
    templates have it that drop them before the last message of the user), of all."""
    pauses: Literal["fixed", "exponential", "lognormal"] = "fixed"
    """How `think_s` and `tool_s` scatter; lognormal with a standard deviation as large as the mean."""
    away_share: Share = 0.0
    """Share of the pauses between turns in which the user stops, and resumes after `away_s`."""
    away_s: Seconds = 0.0
    """Seconds of such a pause."""

    @model_validator(mode="after")
    def _said(self) -> Sessions:
        if (self.away_share > 0) != (self.away_s > 0):
            raise ValueError("away_share and away_s say how often and how long users stop; expected both, or neither")
        if not self.tools and (self.tool_s or (self.tool_tokens and self.branches == 1)):
            raise ValueError("tool_s and tool_tokens are of tools; expected tools, the calls of a turn")
        if not self.reasoning and self.reasoning_kept != "turn":
            raise ValueError(
                f"reasoning_kept {self.reasoning_kept} is of hidden tokens; expected reasoning, their share"
            )
        return self

    @property
    def requests(self) -> int:
        """Requests of a turn that follow each other."""
        return 1 + self.tools + (self.branches > 1)

    def context(self, turns: int, prompt: int, output: int) -> int:
        """Tokens of the longest prompt of a session of so many turns, as far as means say it."""
        tool = self.tool_tokens or prompt
        seen = output - int(self.reasoning * output)
        kept = {"never": 0, "turn": self.requests, "always": turns * self.requests}[self.reasoning_kept]
        told = (self.first_prompt or prompt) + (turns - 1) * prompt + turns * self.tools * tool
        if self.branches > 1:
            told += turns * self.branches * seen
        answers = turns * self.requests - 1
        branch = tool + output if self.branches > 1 else 0
        return told + answers * seen + min(kept, answers) * (output - seen) + branch
