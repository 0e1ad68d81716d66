"""By how much a deployment does not fit the memory, and the smallest change or split that does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simgpu.model.config import TransformerConfig
from simgpu.plan.checks import dense_widths, splits_kv
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import precision_of
from simgpu.plan.serving_memory import Served, fullest, longest_context, most_sequences, serving_memory

GIB = 2.0**30
DEGREES = (1, 2, 4, 8, 16, 32)

MOST_SHARE = 0.95
"""The largest share of a GPU's memory that is suggested for an engine (vLLM's page on optimisation suggests it)."""


@dataclass(frozen=True)
class Fit:
    """How much of a model fits GPUs of `capacity` bytes.

    `gpus` is the fewest GPUs that hold it (None: no number that was tried does), with the plan that splits it over
    them, the sequences that they hold at a context, and the longest context of those asked for.
    """

    served: Served
    capacity: float
    gpus: int | None
    sequences: int = 0
    longest: int = 0

    @property
    def split(self) -> str:
        """The plan as a configuration file would write it: 'tp: 4'; for llama.cpp, which splits by layers, 'pp: 4'."""
        plan = self.served.plan
        return f"pp: {plan.pp}" if plan.pp > 1 else f"tp: {plan.tp}"


def splits(config: TransformerConfig, most: int = DEGREES[-1], by_layers: bool = False) -> Iterator[Plan]:
    """Plans that divide the model over at most `most` GPUs, smallest first.

    They are tensor-parallel ones, in which experts are split by width, or by number where a width does not divide; or
    layers spread over GPUs, as llama.cpp does.
    """
    if by_layers:
        yield from (Plan(pp=pp) for pp in range(1, min(most, config.layers) + 1))
        return
    for tp in (n for n in DEGREES if n <= most):
        if config.heads % tp or not splits_kv(config, tp) or (config.state is not None and config.state.heads % tp):
            continue
        if any(width % tp for width in dense_widths(config, bool(config.experts == 1 or config.dense_layers))):
            continue
        if config.experts == 1 or config.expert_width % tp == 0:
            yield Plan(tp=tp)
        elif config.experts % tp == 0:
            yield Plan(tp=tp, ep=tp)


def smallest(served: Served, capacity: float, tokens: int, sequences: int = 1, most: int = DEGREES[-1]) -> Fit:
    """The smallest split with which `sequences` of `tokens` tokens each fit."""
    for plan in splits(served.config, most, served.by_layers):
        split = replace(served, plan=plan)
        if all(memory.fits for memory in serving_memory(split, sequences, tokens, capacity)):
            held = most_sequences(split, tokens, capacity), longest_context(split, sequences, capacity)
            return Fit(split, capacity, plan.world, *held)
    return Fit(served, capacity, None)


def misfit_text(
    served: Served, batch: int, tokens: int, capacity: float, most: int, gpus: Sequence[tuple[str, float]] = (),
    join: int = DEGREES[-1],
) -> str:  # fmt: skip
    """One line: the memory that a plan needs, by how much that is too much, and what would help.

    `gpus` are others by name and capacity, `most` the number of GPUs of this kind, `join` the number that can work
    together.
    """
    worst = fullest(serving_memory(served, batch, tokens, capacity))
    need = f"needs {worst.total / GIB:.1f} GiB of {worst.budget / GIB:.1f} GiB"
    if worst.fits:
        return need
    return (
        f"{need} ({worst.short_by / GIB:.1f} GiB too much); {helps(served, batch, tokens, capacity, most, gpus, join)}"
    )


def helps(
    served: Served, batch: int, tokens: int, capacity: float, most: int, gpus: Sequence[tuple[str, float]] = (),
    join: int = DEGREES[-1],
) -> str:  # fmt: skip
    """Single changes that would make it fit, in words."""
    local = -(-batch // served.plan.dp)
    suggestions = list(_settings(served, batch, tokens, capacity))
    wider = smallest(replace(served, plan=replace(served.plan, dp=1)), capacity, tokens, local, join)
    if wider.gpus is not None and wider.gpus > served.plan.tp * served.plan.pp:
        suggestions.append(wider.split + (f" on {wider.gpus} such GPUs" if wider.gpus > most else ""))
    for name in _narrower(served):
        if _fits(replace(served, precision=precision_of(name)), batch, tokens, capacity):
            suggestions.append(f"precision: {name}")
            break
    if not served.kv_dtype and _fits(replace(served, kv_dtype="fp8"), batch, tokens, capacity):
        suggestions.append("kv_cache: fp8")
    fewer = most_sequences(served, tokens, capacity)
    if 0 < fewer < batch:
        suggestions.append(f"{fewer} sequence{'s' if fewer > 1 else ''}")
    shorter = longest_context(served, batch, capacity)
    if 0 < shorter < tokens:
        suggestions.append(f"{shorter:,} tokens each")
    larger = [name for name, size in sorted(gpus, key=lambda one: one[1]) if _fits(served, batch, tokens, size)]
    if larger:
        suggestions.append(f"a GPU such as {larger[0]}")
    if not suggestions:
        return _both(served, batch, tokens, capacity, join)
    return "fits with " + (
        suggestions[0] if len(suggestions) == 1 else f"{', '.join(suggestions[:-1])}, or {suggestions[-1]}"
    )


def _settings(served: Served, batch: int, tokens: int, capacity: float) -> Iterator[str]:
    """Settings of an engine with which it starts on this GPU: fewer sequences at a time, more of its memory."""
    kept, local = served.reserve, -(-batch // served.plan.dp)
    seats = 1 << max(kept.seats - 1, 0).bit_length() >> 1 if kept.sampler else 0
    while seats >= local:  # of powers of two
        if _fits(replace(served, reserve=replace(kept, seats=seats)), batch, tokens, capacity):
            yield f"sequences: {seats}"
            break
        seats //= 2
    more = replace(served, reserve=replace(kept, share=max(kept.share, MOST_SHARE)))
    if kept.share_of == "total" and _fits(more, batch, tokens, capacity):
        yield f"memory_share: {MOST_SHARE}"


def _both(served: Served, batch: int, tokens: int, capacity: float, join: int) -> str:
    """The change that helps where no single one does: narrow weights on the fewest GPUs."""
    for name in _narrower(served):
        narrow = replace(served, precision=precision_of(name), plan=replace(served.plan, dp=1))
        fit = smallest(narrow, capacity, tokens, -(-batch // served.plan.dp), join)
        if fit.gpus is not None:
            where = f" and {fit.split} on {fit.gpus} such GPUs" if fit.gpus > 1 else ""
            return f"fits with precision: {name}{where}"
    return f"not even {join} such GPUs hold it" if join > 1 else "nothing of this kind holds it"


def _narrower(served: Served) -> Sequence[str]:
    return [name for name in served.narrower if name != served.precision.name]


def _fits(served: Served, batch: int, tokens: int, capacity: float) -> bool:
    return all(memory.fits for memory in serving_memory(served, batch, tokens, capacity))
