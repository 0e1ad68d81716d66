"""What follows from the words of a claim: shapes of the model, bytes of a precision, figures of the GPU.

Equations take these where the row gives no number of its own.
"""

from __future__ import annotations

from simgpu.catalog import Catalogue
from simgpu.claims.bench import Bench
from simgpu.claims.entry import Record
from simgpu.claims.readings import readings
from simgpu.claims.relations import Interval
from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec
from simgpu.model.config import TransformerConfig

BYTES = {"fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "fp8-block": 1.0, "int8": 1.0, "w8a16": 1.0,
         "int4": 0.5, "fp4": 0.5, "mxfp4": 0.5}  # fmt: skip
"""Bytes of a weight without its scales: the least that the name of a precision allows."""


def is_gguf(precision: str) -> bool:
    """True for the block formats of llama.cpp."""
    return precision.startswith("q") and precision not in BYTES


def transformer(catalogue: Catalogue, name: str | None) -> TransformerConfig | None:
    """The language model of that name, None for networks of stages and unknown names."""
    if name is None or not catalogue.find("models", name):
        return None
    try:
        return catalogue.model(name)
    except InputError:
        return None


def least_weights(bench: Bench, model: str, precision: str) -> float:
    """The fewest bytes of weights that the words allow: of a GGUF file its own, else bits of the name x parameters."""
    config = bench.catalogue.model(model)
    if is_gguf(precision):
        return bench.file_bytes(model, precision)
    return BYTES.get(precision, 2.0) * config.parameters


def least_read(bench: Bench, model: str, precision: str) -> float:
    """The fewest bytes of weights that one token must read: the active ones, without the table of tokens."""
    config = bench.catalogue.model(model)
    whole = least_weights(bench, model, precision)
    table = 0 if config.tied_embeddings else config.vocab * config.hidden
    return whole * max(0.0, config.active_parameters - table) / config.parameters


def precisions_of(record: Record) -> tuple[str, ...]:
    """Precisions that the words allow; where they say none, any from 4 bits to 16."""
    return record.words.get("precision", ()) or ("fp16", "fp8", "int8", "int4")


def gpu_of(catalogue: Catalogue, record: Record) -> GPUSpec | None:
    """The GPU of a record, where the words fix one."""
    name = record.word("gpu")
    if name is None and (cluster := record.word("cluster")) is not None:
        try:
            return catalogue.cluster(cluster).gpu
        except InputError:
            return None
    if name is None:
        return None
    spec = catalogue.spec("gpus", name)
    assert isinstance(spec, GPUSpec)
    return spec


def facts(bench: Bench, record: Record) -> dict[str, Interval]:
    """Quantities that the words give, as intervals."""
    found: dict[str, Interval] = {"kv_dtype_bytes": (2.0, 2.0), "batch": (1.0, 1.0)}
    config = transformer(bench.catalogue, record.word("model"))
    if config is not None:
        found["parameters"] = (float(config.parameters), float(config.parameters))
        if not config.kv_rank and config.state is None and not config.borrowed_kv:
            for name, value in (
                ("layers", config.layers),
                ("kv_heads", config.kv_heads),
                ("head_dim", config.head_dim),
            ):
                found[name] = (float(value), float(value))
    precision = record.word("precision")
    if precision in BYTES:
        found["dtype_bytes"] = (BYTES[precision],) * 2
    elif precision is not None and config is not None:
        each = bench.file_bytes(config.name, precision) / config.parameters
        found["dtype_bytes"] = (each, each)
    gpu = gpu_of(bench.catalogue, record)
    if gpu is not None:
        for name in ("memory", "memory_bandwidth", "sms", "boost", "tdp", "fp32", "fp16_tensor"):
            values = [one.value for one in readings(bench.catalogue, gpu.name, name) if one.usual]
            if values:
                found[name] = (min(values), max(values))
    return found
