"""What one published table of measurements is: who measured, how its rows are predicted, why some are far off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simgpu.lab.validation.batches import Adapter

TARGETS = ("kernels", "collectives", "training", "inference", "networks")
"""What `simgpu validate` can be asked for, beside all of them."""

Numbers = Mapping[str, float]
"""Numbers of a row by column, NaN where it has none, and `slow`: predicted over measured time."""


def _always(_: Numbers) -> bool:
    return True


@dataclass(frozen=True)
class Reason:
    """Why some rows of a table are far off. People write these; `text` is printed beside each row that it explains.

    It explains rows of `op` on `gpu` in `library` ('' stands for any of them) whose numbers pass `where`.
    """

    text: str
    op: str = ""
    gpu: str = ""
    library: str = ""
    where: Callable[[Numbers], bool] = _always

    def explains(self, op: str, gpu: str, library: str, numbers: Numbers) -> bool:
        """Whether this is why a row is off."""
        named = ((self.op, op), (self.gpu, gpu), (self.library, library))
        return all(mine in ("", its) for mine, its in named) and self.where(numbers)


@dataclass(frozen=True)
class Source:
    """A published table of measurements. The module that holds it has the table's name.

    `citation` says who measured and where it stands. The first of `adapters` predicts the table's rows; further ones
    predict other rows of the same table for another target (training steps beside forwards, say). `also` names
    targets that show the rows of the first adapter too. Of `reasons`, the first that explains a row is printed.
    `seen` says whether a constant of simgpu was ever chosen on its rows: those of a source that was not meet the
    predictions as an outsider does. `gpus` names those whose rows did; empty: all of them.
    """

    citation: str
    adapters: Sequence[Adapter]
    also: Sequence[str] = ()
    reasons: Sequence[Reason] = ()
    seen: bool = True
    gpus: Sequence[str] = ()

    def chose_constants(self, gpu: str) -> bool:
        """Whether constants were chosen on rows of a GPU, as the table spells it."""
        return self.seen and (not self.gpus or gpu in self.gpus)

    def adapter(self, target: str) -> Adapter | None:
        """The adapter that `simgpu validate TARGET` uses; None where it does not read this table."""
        own = next((adapter for adapter in self.adapters if adapter.target == target), None)
        return own or (self.adapters[0] if target in ("all", *self.also) else None)
