"""Whether a job fits a GPU, and the largest model that does: by the models of the catalogue, from small to large."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simgpu.claims import scenarios as make
from simgpu.claims.answers import Answer, Simulated
from simgpu.claims.bench import Bench
from simgpu.claims.entry import Record
from simgpu.claims.facts import gpu_of, precisions_of, transformer
from simgpu.claims.printed import Printed
from simgpu.claims.scenarios import OPEN, corners, place
from simgpu.errors import InputError

SPAN = (0.3e9, 500e9)
"""Parameters of the models that are tried."""


def fits(bench: Bench, record: Record, kind: str) -> Answer:
    """1 where the job fits the memory, else 0, at every corner of what the words leave open."""
    method = record.word("method")
    if method in ("full", "lora", "qlora", "pretraining"):
        return _trained_fits(bench, record)
    model, gpu = record.word("model"), gpu_of(bench.catalogue, record)
    if model is None or gpu is None:
        return Answer(missing=("model", "gpu"), refused="the words do not say model and gpu")
    seq, batch = record.known("seq"), record.known("batch")
    found = []
    for precision in precisions_of(record):
        for context in (int(seq.value),) if seq else (2048, 8192):
            row = bench.fit(model, gpu.name, precision, context, int(batch.value) if batch else 1)
            room, needed = float(row["usable_bytes"]), float(row["needed_bytes"])
            gpus = record.known("gpus")
            held = row["fits_one"] if gpus is None else 0 < row["smallest_gpus"] <= gpus.value
            words = f"{precision}, context {context:,}: {needed / 1e9:.4g} GB needed, {room / 1e9:.4g} GB usable"
            if gpus is not None and gpus.value > 1:
                fewest = int(row["smallest_gpus"])
                words = f"{precision}, context {context:,}: " + (
                    f"{fewest} GPUs hold it" if fewest else "32 GPUs do not hold it"
                )
            found.append(Simulated(float(held), float(held), float(held), words))
    return Answer(tuple(found), () if seq else ("context",))


def _trained_fits(bench: Bench, record: Record) -> Answer:
    asked, found, refused = corners(record, "training"), [], ""
    for corner in asked.choices:
        where = place(bench.catalogue, corner)
        if where is None or "model" not in corner:
            return Answer(missing=("model", "gpu"), refused="the words do not say model and gpu")
        try:
            row = bench.run(make.training(corner, where, int(corner.get("gpus", 1))))
        except InputError as error:
            refused = error.problem
            continue
        held = float(bool(row["memory_fits"]))
        words = f"batch {corner['batch']:g}, {corner['seq']:g} tokens, states in {corner['states']}: "
        words += f"{row['memory_bytes_per_gpu'] / 1e9:.4g} GB"
        found.append(Simulated(held, held, held, words))
    return Answer(tuple(found), asked.missing, refused)


def ladder(bench: Bench) -> Sequence[tuple[float, str]]:
    """Dense language models of the catalogue without sparsity of any kind, by parameters."""
    found = []
    for name in bench.catalogue.names("models"):
        config = transformer(bench.catalogue, name)
        if (
            config is None
            or config.experts > 1
            or config.state
            or config.vision
            or not config.lm_head
            or config.kv_rank
        ):
            continue
        if config.gated and SPAN[0] <= config.parameters <= SPAN[1]:
            found.append((float(config.parameters), name))
    return sorted(found)


def ceiling(bench: Bench, record: Record, kind: str) -> Answer:
    """Parameters of the largest model that fits, from the heaviest to the lightest use that the words allow.

    The limit of a use lies between the largest model of the catalogue that fits and the smallest that does not.
    """
    if gpu_of(bench.catalogue, record) is None:
        return Answer(missing=("gpu",), refused="the words do not say gpu")
    models = ladder(bench)
    found = [_limit(bench, record, kind, models, whole) for whole in (all, any)]
    return Answer(tuple(found), ("sequence length and batch",))


def _limit(
    bench: Bench, record: Record, kind: str, models: Sequence[tuple[float, str]], whole: Callable[[list[bool]], bool]
) -> Simulated:
    """The limit where a model must fit at all corners, or at any."""

    def held(name: str) -> bool:
        words = {**record.words, "model": (name,)}
        inputs = dict(record.inputs)
        if record.words.get("method"):  # use grows with all of them: one corner is the heaviest, one the lightest
            light = whole is any
            words["states"] = ("bf16",) if light and record.word("method") in ("full", "pretraining") else ("fp32",)
            for key in ("batch", "seq"):
                options = [one.value for one in inputs.get(key, ())] or OPEN["training"][key]
                value = float(min(options) if light else max(options))
                inputs[key] = (Printed(f"{value:g}", value, value, value),)
        answer = fits(bench, Record(record.row, record.label, words, inputs, {}), kind)
        return bool(answer.corners) and whole([bool(corner.value) for corner in answer.corners])

    low, high = 0, len(models)  # models[:low] fit, models[high:] do not
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if held(models[middle][1]) else (low, middle)
    use = "heaviest use" if whole is all else "lightest use"
    if low == 0:
        return Simulated(0.0, models[0][0] / 2, models[0][0], f"{use}: {models[0][1]} does not fit")
    below = models[low - 1]
    above = models[low] if low < len(models) else (below[0] * 2, "no larger model")
    return Simulated(below[0], (below[0] * above[0]) ** 0.5, above[0], f"{use}: {below[1]} fits, {above[1]} does not")
