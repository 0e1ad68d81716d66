"""A pool of workers, and the setup that each worker gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Setup(Protocol):
    """The setup that a worker gets when it starts. It is sent to other processes and machines."""

    def run(self, tasks: Sequence[Any]) -> Sequence[Any]:
        """Do tasks in a worker, which keeps its objects warm between calls; an answer for each."""


Answer = tuple[Sequence[Any], Sequence[Any] | None, str]
"""Tasks that were handed out together, their answers (None: the worker died), and how it died."""


class Pool(Protocol):
    """Workers, here or elsewhere, that run tasks. They end with this process, however it ends."""

    patience: int
    """Times that a task may lose its worker before it counts as failed."""

    @property
    def capacity(self) -> int:
        """The number of groups of tasks that are taken at a time."""

    @property
    def busy(self) -> int:
        """The number of groups of tasks that are under way."""

    def submit(self, tasks: Sequence[Any]) -> None:
        """Hand out a group of tasks, while `busy` is below `capacity`."""

    def answers(self, seconds: float) -> list[Answer]:
        """Answers that are finished, after waiting for at most `seconds`."""

    def close(self) -> None:
        """End the workers; work that is under way is lost."""
