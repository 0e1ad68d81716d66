"""Bounds that no machine of the words passes: datasheet figures, and the fewest bytes and FLOPs the words allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from simgpu.claims.bench import Bench
from simgpu.claims.entry import Record
from simgpu.claims.facts import BYTES, gpu_of, least_read, least_weights, precisions_of, transformer
from simgpu.claims.readings import readings
from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec

SLACK = 0.02
"""How far (relative) beyond a bound a figure must lie."""
UNITS_OF = {"fp32": ("fp32",), "tf32": ("tf32",), "fp16": ("fp16",), "bf16": ("bf16",), "fp8": ("fp8",),
            "fp8-block": ("fp8",), "int8": ("int8",), "fp4": ("fp4", "fp8", "fp16")}  # fmt: skip
"""Types of products that a precision can be multiplied in; weight-only ones are converted to 16 bits."""
TRAINED = {"full": 6.0, "pretraining": 6.0, "lora": 4.0, "qlora": 4.0}
"""FLOPs of a parameter and token: forward 2, gradients of inputs 2, of weights 2 (Kaplan et al. 2020, table 1)."""


@dataclass(frozen=True)
class Bound:
    """The most (or least) that a quantity can be, SI, and why."""

    value: float
    words: str
    least: bool = False


def bounds(bench: Bench, record: Record, name: str, kind: str) -> list[Bound]:
    """Every bound of quantity `name` of a record."""
    return list(_MADE[name](bench, record, kind)) if name in _MADE else []


def peak_of(gpu: GPUSpec, precision: str, dense: bool = True) -> float:
    """The largest dense peak at which a precision can be multiplied, whatever products are summed in, FLOP/s."""
    wanted = UNITS_OF.get(precision, ("fp16", "bf16"))
    found = [peak.datasheet for peak in gpu.peak if peak.dtype in wanted]
    if not found:  # the GPU lacks the type: weights are converted
        found = [peak.datasheet for peak in gpu.peak if peak.dtype in ("fp16", "bf16")]
    return (1.0 if dense else 2.0) * max(found, default=gpu.vector_peak.datasheet)


def gpus_of(record: Record) -> float:
    """The most GPUs that the words allow."""
    given = record.known("gpus")
    return given.high if given is not None else max((one.high for one in record.inputs.get("gpus", ())), default=1.0)


def misfit(bench: Bench, record: Record) -> str:
    """How the weights alone pass the memory of the GPUs, with the fewest bytes that the words allow; '' if they fit."""
    gpu, model = gpu_of(bench.catalogue, record), record.word("model")
    config = transformer(bench.catalogue, model)
    if gpu is None or model is None or config is None or record.words.get("offload") or record.word("method"):
        return ""
    room = gpus_of(record) * gpu.memory.capacity.si
    precision = min(precisions_of(record), key=lambda one: least_weights(bench, model, one))
    needed = least_weights(bench, model, precision)
    if needed <= room * (1 + SLACK):
        return ""
    what = f"{needed / 1e9:.4g} GB of {precision} weights in {room / 1e9:.4g} GB of memory"
    return f"does not fit: {what}, {needed / room:.2g} times"


def _tokens(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    gpu, model = gpu_of(bench.catalogue, record), record.word("model")
    config = transformer(bench.catalogue, model)
    if gpu is None or model is None or config is None:
        return
    count = gpus_of(record)
    if kind in ("training", "finetune_capacity") or record.word("method") in TRAINED:
        methods = record.words.get("method", ("lora",))
        flop = min(TRAINED.get(one, 4.0) for one in methods) * config.active_parameters
        peak = max(peak_of(gpu, one) for one in precisions_of(record))
        yield Bound(
            count * peak / flop,
            f"{flop / config.active_parameters:.0f} FLOPs a parameter and token at the datasheet peak",
        )
        return
    yield from _served(bench, record, kind, gpu, model, count)


def _served(bench: Bench, record: Record, kind: str, gpu: GPUSpec, model: str, count: float) -> Iterator[Bound]:
    """Bounds of decoding: bytes that every step reads, and FLOPs of every token."""
    config = bench.catalogue.model(model)
    options = precisions_of(record)
    read = {one: least_read(bench, model, one) for one in options}
    rate = count * gpu.memory.bandwidth.si
    batch = _batch(record, kind)
    if batch is not None:
        best = min(read, key=lambda one: read[one])
        words = f"memory bandwidth over the {read[best] / 1e9:.4g} GB of {best} weights that each step reads"
        yield Bound(batch * rate / read[best], words + (f", {batch:.4g} sequences a step" if batch > 1 else ""))
    peak = max(peak_of(gpu, one) for one in options)
    yield Bound(count * peak / (2 * config.active_parameters), "2 FLOPs a parameter and token at the datasheet peak")


def _batch(record: Record, kind: str) -> float | None:
    """The most sequences that a step can have by the words; None where they leave it open."""
    for name in ("batch", "users"):
        options = [one.high for one in record.inputs.get(name, ())]
        given = record.known(name)
        if given is not None or options:
            return max([*options, *([given.high] if given else [])])
    return 1.0 if kind == "decode" else None


def _per_user(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    gpu, model = gpu_of(bench.catalogue, record), record.word("model")
    if gpu is not None and model is not None and transformer(bench.catalogue, model):
        read = min(least_read(bench, model, one) for one in precisions_of(record))
        yield Bound(
            gpus_of(record) * gpu.memory.bandwidth.si / read, "memory bandwidth over the weights that each step reads"
        )


def _tpot(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    for one in _per_user(bench, record, kind):
        yield Bound(1 / one.value, one.words, least=True)


def _achieved(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    gpu = gpu_of(bench.catalogue, record)
    if gpu is None:
        return
    options = record.words.get("precision", ("fp16", "fp8", "int8", "fp4") if kind != "kernel" else ("fp16",))
    peak = max(peak_of(gpu, one) for one in options)
    yield Bound(peak, "the dense datasheet peak")
    sizes = [record.known(name) for name in ("m", "n", "k")]
    if all(sizes):
        m, n, k = (one.value for one in sizes if one is not None)
        each = min(BYTES.get(one, 2.0) for one in options)
        moved = each * (m * k + k * n + m * n)
        moved -= gpu.memory.l2_cache.si  # what stays in the cache between repetitions has no such bound
        if moved > 0:
            yield Bound(
                2 * m * n * k / moved * gpu.memory.bandwidth.si,
                "memory bandwidth times FLOPs over bytes of the operands beyond the L2",
            )


def _product_time(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    sizes = [record.known(name) for name in ("m", "n", "k")]
    gpu = gpu_of(bench.catalogue, record)
    if gpu is not None and all(sizes):
        m, n, k = (one.value for one in sizes if one is not None)
        peak = max(peak_of(gpu, one) for one in record.words.get("precision", ("fp16",)))
        yield Bound(2 * m * n * k / peak, "FLOPs at the dense datasheet peak", least=True)


def _part_time(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    for one in _product_time(bench, record, kind):
        yield Bound(one.value / gpus_of(record), one.words, least=True)


def _transfer(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    gpu, payload = gpu_of(bench.catalogue, record), record.known("payload")
    count = gpus_of(record)
    if gpu is None or payload is None or count < 2 or kind not in ("tp_scaling", "collective"):
        return
    rates = [
        one.value for one in readings(bench.catalogue, gpu.name, "interconnect") if one.convention == "one direction"
    ]
    least = 2 * (count - 1) / count * payload.low
    if rates and record.words.get("interconnect", ("own",)) != ("pcie",):
        yield Bound(
            least / max(rates),
            f"{least / 1e6:.4g} MB that each GPU must receive, at the link's rate of one direction",
            least=True,
        )


def _images(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    from simgpu.claims.scenarios import network

    gpu = gpu_of(bench.catalogue, record)
    if gpu is None or not record.word("model"):
        return
    steps = [one.low for one in record.inputs.get("steps", ())]
    corner = {"batch": 1, "steps": max(1, int(min(steps)))} if steps else {"batch": 1}
    try:
        row = bench.run(network(record, corner))
    except InputError:
        return
    flop = row.get("flop")
    if flop:
        options = record.words.get("precision", ("fp16", "fp8", "int8"))
        yield Bound(
            max(peak_of(gpu, one) for one in options) / flop, f"{flop / 1e12:.4g} TFLOP an image at the datasheet peak"
        )


def _image_time(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    for one in _images(bench, record, kind):
        yield Bound(1 / one.value, one.words, least=True)


def _batch_time(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    batch = record.known("batch")
    for one in _images(bench, record, kind) if batch else ():
        assert batch is not None
        yield Bound(batch.low / one.value, one.words, least=True)


def _share(bench: Bench, record: Record, kind: str) -> Iterator[Bound]:
    yield Bound(1.0, "no share is above 100 %")


Maker = Callable[[Bench, Record, str], Iterator[Bound]]
_MADE: Mapping[str, Maker] = {
    "tokens_per_s": _tokens,
    "tokens_per_s_per_user": _per_user,
    "tokens_per_s_per_gpu": _tokens,
    "tpot": _tpot,
    "achieved": _achieved,
    "gemm_time": _product_time,
    "per_gpu_gemm": _part_time,
    "time": lambda bench, record, kind: iter([*_product_time(bench, record, kind), *_transfer(bench, record, kind)]),
    "communication": _transfer,
    "images_per_s": _images,
    "image_time": _image_time,
    "batch_time": _batch_time,
    "mfu": _share,
    "efficiency": _share,
    "cut": _share,
    "compute_fraction": _share,
    "sustained": _share,
}
