"""All that an experiment can be launched with, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.launching import engines, huggingface, manifests, megatron, nemo, torchtitan
from simgpu.launching.answer import Launch
from simgpu.launching.asked import Asked, ask
from simgpu.study.experiment.running import Given

TARGETS: dict[str, Callable[[Asked], Launch]] = {
    "vllm": engines.vllm,
    "sglang": engines.sglang,
    "trtllm": engines.trtllm,
    "llama.cpp": engines.llama_cpp,
    "dynamo": manifests.dynamo,
    "llm-d": manifests.llm_d,
    "megatron": megatron.megatron,
    "nemo": nemo.nemo,
    "torchtitan": torchtitan.torchtitan,
    "deepspeed": huggingface.deepspeed,
    "accelerate": huggingface.accelerate,
    "axolotl": huggingface.axolotl,
}


def launch(
    file: Given, target: str, settings: Sequence[str], catalogue: Catalogue, row: str | int | None = None
) -> Launch:
    """The command, files or manifest that run a row of an experiment. Raises `InputError`."""
    name = target.lower()
    if name not in TARGETS:
        raise InputError(f"{shown(target)} is not known{nearest(name, TARGETS, most=12)}", key="--for")
    asked = ask(file, settings, catalogue, row)
    made = TARGETS[name](asked)
    return made.with_notes(_tight(asked))


def _tight(asked: Asked) -> list[str]:
    """What a reader should know of the memory."""
    chance = asked.row.get("fit_probability")
    if chance is None or chance >= 0.95:
        return []
    return [f"the memory is tight: it fits with a probability of {chance:.0%}"]
