"""What the simulator says of a quantity: its interval at every corner that the words of the claim leave open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from simgpu.claims import scenarios as make
from simgpu.claims.answers import Answer, Simulated
from simgpu.claims.bench import Bench
from simgpu.claims.ceilings import ceiling, fits
from simgpu.claims.entry import Record
from simgpu.claims.facts import precisions_of
from simgpu.claims.scenarios import Corner, corners, family_of, place
from simgpu.errors import InputError

Maker = Callable[[Bench, Record, Corner, str, int], Simulated]


def simulated(bench: Bench, record: Record, name: str, kind: str) -> Answer | None:
    """The simulator's answer for a quantity of a record; None where nothing is simulated for such a quantity."""
    if name in _SPECIAL:
        return _SPECIAL[name](bench, record, kind)
    family = family_of(record, kind, name)
    maker = _MAKERS.get((name, family))
    if maker is None:
        return None
    lacking = [key for key in _NEEDS[family] if key not in record.words and record.known(key) is None]
    if "gpu" in lacking and "cluster" in record.words:
        lacking.remove("gpu")
    if lacking:
        return Answer(missing=lacking, refused="the words do not say " + ", ".join(lacking))
    asked = corners(record, family, name)
    found, refused = [], ""
    for corner in asked.choices:
        count = int(corner.get("gpus", 1))
        where = place(bench.catalogue, corner)
        if where is None:
            refused = f"the catalogue has no node of {count} {corner.get('gpu', 'GPUs')}"
            continue
        try:
            found.append(maker(bench, record, corner, where, count))
        except InputError as error:
            refused = error.problem
    return Answer(tuple(found), tuple(asked.missing), refused)


_NEEDS = {
    "decode": ("model", "gpu"), "serving": ("model", "gpu"), "training": ("model", "gpu"), "image": ("model", "gpu"),
    "kernel": ("gpu",), "collective": ("gpu", "payload"), "memory": ("model", "gpu"),
}  # fmt: skip
"""What a run cannot do without."""
SAID = ("model", "gpu", "cluster", "gpus", "framework", "rank", "interconnect", "m", "n", "k", "payload", "output")


def _words(corner: Corner, record: Record) -> str:
    """What a corner adds to the words of its record."""
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in corner.items()
        if key not in SAID and record.word(key) is None and record.known(key) is None
    )


def _column(row: Mapping[str, Any], column: str, words: str, factor: float = 1.0) -> Simulated:
    value = float(row[column])
    low, high = float(row.get(f"{column}_p10", value)), float(row.get(f"{column}_p90", value))
    return Simulated(factor * low, factor * value, factor * high, words)


def _over(row: Mapping[str, Any], column: str, total: float, words: str) -> Simulated:
    """`total` over a time."""
    one = _column(row, column, words)
    return Simulated(total / one.high, total / one.value, total / one.low, words)


def _fit_or_say(row: Mapping[str, Any]) -> None:
    if row.get("memory_fits") is False:
        needed = row.get("memory_bytes_per_gpu", 0.0)
        raise InputError(f"does not fit the memory of the GPU: {needed / 1e9:.4g} GB are needed")


def _decoded(column: str) -> Maker:
    def made(bench: Bench, record: Record, corner: Corner, where: str, count: int) -> Simulated:
        row = bench.run(make.inference(corner, where, make.layers_or_tensors(corner, count)))
        _fit_or_say(row)
        return _column(row, column, _words(corner, record))

    return made


def _served(column: str) -> Maker:
    def made(bench: Bench, record: Record, corner: Corner, where: str, count: int) -> Simulated:
        row = bench.run(make.serving(corner, where, make.layers_or_tensors(corner, count)))
        _fit_or_say(row)
        return _column(row, column, _words(corner, record))

    return made


def _trained(column: str) -> Maker:
    def made(bench: Bench, record: Record, corner: Corner, where: str, count: int) -> Simulated:
        row = bench.run(make.training(corner, where, count))
        if column != "memory_bytes_per_gpu":
            _fit_or_say(row)
        return _column(row, column, _words(corner, record))

    return made


def _drawn(invert: bool, whole: bool = False) -> Maker:
    def made(bench: Bench, record: Record, corner: Corner, where: str, count: int) -> Simulated:
        row = bench.run(make.network(record, {**corner, "gpu": where}))
        _fit_or_say(row)
        batch = 1.0 if whole else float(corner.get("batch", 1))
        words = _words(corner, record)
        return _over(row, "step_s", batch, words) if invert else _column(row, "step_s", words, 1 / batch)

    return made


def _product(parts: bool, rate: bool) -> Maker:
    def made(bench: Bench, record: Record, corner: Corner, where: str, count: int) -> Simulated:
        if not {"m", "n", "k"} <= set(corner):
            raise InputError("the words do not say the shape of the product (m, n, k)")
        alone = bench.catalogue.cluster(where).gpu.name
        row = bench.run(make.kernel(corner, alone, count if parts else 1))
        if not rate:
            return _column(row, "step_s", "")
        return _over(row, "step_s", 2.0 * corner["m"] * corner["n"] * corner["k"], "")

    return made


def _reduced(bench: Bench, record: Record, corner: Corner, where: str, count: int) -> Simulated:
    if "payload" not in corner or count < 2:
        raise InputError("the words do not say the payload and the number of GPUs")
    return _column(bench.run(make.collective(corner, where, count)), "step_s", "")


def _split(column: str) -> Maker:
    def made(bench: Bench, record: Record, corner: Corner, where: str, count: int) -> Simulated:
        return _column(bench.run(make.split_product(corner, where, count)), column, "")

    return made


_MAKERS: Mapping[tuple[str, str], Maker] = {
    ("tokens_per_s", "decode"): _decoded("output_tokens_per_s"),
    ("tokens_per_s_per_user", "decode"): _decoded("output_tokens_per_s_per_user"),
    ("tpot", "decode"): _decoded("tpot_s"),
    ("ttft", "decode"): _decoded("ttft_s"),
    ("tokens_per_s", "serving"): _served("output_tokens_per_s"),
    ("tokens_per_s_per_gpu", "serving"): _served("output_tokens_per_s_per_gpu"),
    ("tokens_per_s_per_user", "serving"): _served("output_tokens_per_s_per_user"),
    ("tpot", "serving"): _served("tpot_s"),
    ("ttft", "serving"): _served("ttft_s"),
    ("tokens_per_s", "training"): _trained("tokens_per_s"),
    ("tokens_per_s_per_gpu", "training"): _trained("tokens_per_s_per_gpu"),
    ("achieved", "training"): _trained("flop_per_s_per_gpu"),
    ("mfu", "training"): _trained("mfu"),
    ("training_memory", "training"): _trained("memory_bytes_per_gpu"),
    ("training_memory", "memory"): _trained("memory_bytes_per_gpu"),
    ("images_per_s", "image"): _drawn(invert=True),
    ("image_time", "image"): _drawn(invert=False),
    ("batch_time", "image"): _drawn(invert=False, whole=True),
    ("achieved", "kernel"): _product(parts=False, rate=True),
    ("time", "kernel"): _product(parts=False, rate=False),
    ("gemm_time", "kernel"): _product(parts=False, rate=False),
    ("per_gpu_gemm", "kernel"): _product(parts=True, rate=False),
    ("communication", "kernel"): _reduced,
    ("step_total", "kernel"): _split("step_s"),
    ("efficiency", "kernel"): _split("efficiency"),
    ("time", "collective"): _reduced,
}


# ---- quantities that take more than a run -------------------------------------------------------------


def _sustained(bench: Bench, record: Record, kind: str) -> Answer:
    """Sustained rate of a large product over the dense peak, in fp16."""
    gpu = record.word("gpu")
    if gpu is None:
        return Answer(missing=("gpu",), refused="the words do not say gpu")
    size = 8192
    corner = {"m": size, "n": size, "k": size, "precision": record.word("precision") or "fp16"}
    row = bench.run(make.kernel(corner, gpu, sustained=True))
    peak = float(row["mfu"]) * float(row["step_s"])  # time at the datasheet peak
    return Answer((_over(row, "step_s", peak, f"product of {size} cubed, sustained clocks"),))


def _most_users(bench: Bench, record: Record, kind: str) -> Answer:
    """Users whose cache the memory holds."""
    model, gpu = record.word("model"), record.word("gpu")
    if model is None or gpu is None:
        return Answer(missing=("model", "gpu"), refused="the words do not say model and gpu")
    prompt = record.known("prompt") or record.known("seq")
    if prompt is None:
        return Answer(missing=("prompt",), refused="the words do not say the tokens of a request")
    found = []
    for precision in precisions_of(record)[:1]:
        for output in (0, 256):
            row = bench.fit(model, gpu, precision, int(prompt.value) + output)
            users = float(row["most_users"]) if row["fits_one"] else 0.0
            found.append(Simulated(users, users, users, f"{output} tokens of output, {precision}"))
    return Answer(tuple(found), ("output tokens",))


_SPECIAL: Mapping[str, Callable[[Bench, Record, str], Answer]] = {
    "sustained": _sustained,
    "most_users": _most_users,
    "fits": fits,
    "max_parameters": ceiling,
}
