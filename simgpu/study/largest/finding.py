"""The largest model of the catalogue that fits, the largest size of a family, and what one more option buys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, SimgpuError
from simgpu.model.config import TransformerConfig
from simgpu.study.largest.asked import Asked, fits
from simgpu.tabular import Tabular

SHOWN = 5
"""Models of the catalogue that are shown: the largest that fit."""
MOST_LAYERS = 512


@dataclass(frozen=True, repr=False)
class Largest(Tabular):
    """The largest models that a machine takes.

    machine, gpus
        The name of the machine, and how many GPUs it has.
    models
        Rows of the largest models of the catalogue that fit, and of the smallest above them that does not.
    sizes
        Rows of the largest size of a family, as asked and with one more option each.
    title, notes
        What was asked, and sentences on the answer.
    """

    machine: str
    gpus: int
    title: str
    models: list[dict[str, Any]]
    sizes: list[dict[str, Any]]
    notes: list[str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Models of the catalogue, largest first."""
        return self.models

    @property
    def best(self) -> dict[str, Any] | None:
        """The largest model of the catalogue that fits."""
        return next((row for row in self.models if row["fits"]), None)


def largest(
    asked: Asked, catalogue: Catalogue, family: str | None = None, epoch_tokens: float | None = None
) -> Largest:
    """Find the largest models. Raises `InputError` where none fits at all, with what the smallest one needs."""
    if family is not None:
        catalogue.model(family)
    known = sorted(_models(catalogue), key=lambda one: -one[1].parameters)
    rows: list[dict[str, Any]] = []
    above: dict[str, Any] | None = None
    for name, config in known:
        if _surely_too_large(config, asked):
            continue
        row = asked.run(name, catalogue)
        if isinstance(row, str):
            continue
        found = _row(name, config, row, epoch_tokens)
        if not found["fits"]:
            above = found if not rows else above
            continue
        rows.append(found)
        if len(rows) == SHOWN:
            break
    if not rows:
        need = "" if above is None else f"; the smallest tried, {above['model']}, needs " \
            f"{above['memory_bytes_per_gpu'] / 2**30:.3g} GiB"  # fmt: skip
        raise InputError(f"no model of the catalogue fits {asked.cluster.name}{need}")
    base = family or rows[0]["model"]
    sizes = list(_sizes(asked, catalogue, base))
    models = ([above] if above else []) + rows
    return Largest(asked.cluster.name, asked.gpus, _title(asked), models, sizes, _notes(asked, base))


def beside(found: Sequence[Largest]) -> list[dict[str, Any]]:
    """A row for each machine: its largest model, the largest size of the family, and the option that buys most."""
    rows = []
    for one in found:
        row: dict[str, Any] = {"machine": one.machine, "gpus": one.gpus, **(one.best or {})}
        row = {key: value for key, value in row.items() if key not in ("fits", "memory_capacity_bytes")}
        if one.sizes:
            most = max(one.sizes, key=lambda size: float(size["parameters"]))
            row |= {"family": most["family"], "family_parameters": one.sizes[0]["parameters"]}
            row |= {"option": most["option"], "option_parameters": most["parameters"]}
        rows.append(row)
    return rows


def _models(catalogue: Catalogue) -> Iterator[tuple[str, TransformerConfig]]:
    """Language models of the catalogue, each shape once."""
    seen: set[TransformerConfig] = set()
    for name in catalogue.names("models"):
        config = catalogue.model(name)
        if isinstance(config, TransformerConfig) and config.causal and config.lm_head and config not in seen:
            seen.add(config)
            yield name, config


def _surely_too_large(config: TransformerConfig, asked: Asked) -> bool:
    """True if the weights alone are more than all memory, at the fewest bits of anything that runs."""
    least = {"": 0.25, "qlora": 0.5, "lora": 2.0, "full": 4.0}[asked.finetune]
    offloads = asked.plan.get("offload", "none") != "none" or asked.workload.get("offload")
    return not offloads and least * config.parameters > asked.gpus * asked.cluster.gpu.memory.capacity.si


def _row(name: str, config: TransformerConfig, row: Mapping[str, Any], epoch: float | None) -> dict[str, Any]:
    rate = row.get("tokens_per_s") or row.get("output_tokens_per_s")
    found = {
        "model": name, "parameters": config.parameters, "fits": fits(row),
        "fit_probability": row.get("fit_probability", 1.0 if row["memory_fits"] else 0.0),
        "memory_bytes_per_gpu": row["memory_bytes_per_gpu"], "memory_capacity_bytes": row["memory_capacity_bytes"],
        "binds": binds(row),
        "tokens_per_s" if "tokens_per_s" in row else "output_tokens_per_s": rate,
    }  # fmt: skip
    if epoch and rate:
        found["epoch_s"] = epoch / rate
    return found


PARTS = {"weights_bytes_per_gpu": "weights", "gradients_memory_bytes": "gradients",
         "optimizer_memory_bytes": "optimizer", "activations_memory_bytes": "activations",
         "temporary_memory_bytes": "temporary tensors",
         "kv_cache_memory_bytes": "cache", "logits_memory_bytes": "logits"}  # fmt: skip


def binds(row: Mapping[str, Any]) -> str:
    """The largest part of the memory, in words."""
    held = {name: float(row.get(column) or 0.0) for column, name in PARTS.items()}
    most = max(held, key=lambda name: held[name])
    return f"{most} ({held[most] / max(row['memory_bytes_per_gpu'], 1):.0%})"


# ---- sizes -------------------------------------------------------------------------------------------


def _sizes(asked: Asked, catalogue: Catalogue, base: str) -> Iterator[dict[str, Any]]:
    """The largest size of a family as asked, and with one more option each."""
    first = _size(asked, catalogue, base)
    for words, one in [("as asked", asked), *_more(asked)]:
        found = first if one is asked else _size(one, catalogue, base)
        if found is None or (first and found["parameters"] < first["parameters"]):
            continue
        yield {"option": words, **found,
               "gain": found["parameters"] / first["parameters"] - 1 if first else None}  # fmt: skip


def _size(asked: Asked, catalogue: Catalogue, base: str) -> dict[str, Any] | None:
    """The largest number of layers of a family that fits, by halving; None where not even one does."""

    def fitting(layers: int) -> dict[str, Any] | None:
        name = f"{base}@layers={layers}"
        row = asked.run(name, catalogue)
        return None if isinstance(row, str) or not fits(row) else row

    low, high = 0, 1
    held: dict[str, Any] | None = None
    while high <= MOST_LAYERS and (row := fitting(high)) is not None:
        low, high, held = high, 2 * high, row
    while high - low > 1:
        middle = (low + high) // 2
        row = fitting(middle)
        if row is None:
            high = middle
        else:
            low, held = middle, row
    if held is None:
        return None
    try:
        config = catalogue.model(f"{base}@layers={low}")
    except SimgpuError:
        return None
    rate = held.get("tokens_per_s") or held.get("output_tokens_per_s")
    return {"family": base, "layers": low, "parameters": config.parameters, "binds": binds(held),
            "tokens_per_s" if "tokens_per_s" in held else "output_tokens_per_s": rate}  # fmt: skip


def _more(asked: Asked) -> list[tuple[str, Asked]]:
    """One more option each, where it is not asked already."""
    options: list[tuple[str, dict[str, Any], dict[str, Any]]]
    if asked.finetune:
        options = [
            ("all layers recomputed", {}, {"recompute": "full"}),
            ("loss in chunks", {"loss_chunks": 16}, {}),
            ("fused loss", {"loss": "fused"}, {}),
            ("states in 16 bits", {"states": "bf16"}, {}),
            ("optimizer in host memory", {}, {"offload": "optimizer"}),
        ]
        if asked.gpus > 1:
            options.append(("weights in host memory, too", {}, {"offload": "parameters"}))
        if asked.finetune != "qlora":
            smaller = "lora" if asked.finetune == "full" else "qlora"
            options.append((smaller, {"finetune": smaller}, {}))
    else:
        options = [
            ("weights in fp8", {"precision": "fp8"}, {}),
            ("weights in int4", {"precision": "int4"}, {}),
            ("cache in fp8", {"kv_cache": "fp8"}, {}),
            ("a half of the layers' weights in host memory", {"offload": 0.5}, {}),
        ]
    job, plan = asked.job()
    return [
        (words, asked.under(workload, split))
        for words, workload, split in options
        if not all(job.get(key) == value for key, value in workload.items())
        or not all(plan.get(key) == value for key, value in split.items())
    ]


def _title(asked: Asked) -> str:
    what = f"fine-tune ({asked.finetune}) on sequences of {asked.tokens:,} tokens" if asked.finetune else \
        f"serve with {asked.tokens:,} tokens of context"  # fmt: skip
    return f"The largest model to {what} on {asked.cluster.name} ({asked.gpus} x {asked.cluster.gpu.name})"


def _notes(asked: Asked, base: str) -> list[str]:
    notes = [f"sizes: {base} with other numbers of layers; a model of that size is as wide"]
    if asked.finetune:
        notes.append(
            "fits: with a probability of a half or more; the first row is the smallest larger one that does not"
        )
    return notes
