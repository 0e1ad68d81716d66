"""Why some rows are off by more than a factor of three: written by people, looked up by what a row is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simgpu.study.validation.score import Row


@dataclass(frozen=True)
class Reason:
    """`text` explains rows of `op` whose description holds all of `words`, on `gpus` (all where empty)."""

    op: str
    text: str
    words: Sequence[str] = ()
    gpus: Sequence[str] = ()
    sources: Sequence[str] = ()

    def explains(self, row: Row) -> bool:
        """Whether this is why."""
        told = row.what.split()
        return (
            self.op == row.op
            and all(word in told for word in self.words)
            and (not self.gpus or row.gpu in self.gpus)
            and (not self.sources or row.source in self.sources)
        )


REASONS: tuple[Reason, ...] = ()


def reason(row: Row) -> str:
    """Why a row is off; '' where nobody has said."""
    return next((known.text for known in REASONS if known.explains(row)), "")
