"""Rows of tables of training steps as what is simulated: a model by its shape, a machine, a plan, and numerics.

Nothing here is fitted. What a table leaves open is taken from the scripts of the same source where they are published;
where nothing says, a row becomes several cases, the most usual first, of which those count that fit the GPU's memory:
the prediction is their median, of a source that tuned its settings the fastest, and its interval covers all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from simgpu.errors import InputError, nearest, shown
from simgpu.lab.validation.batches import DTYPES, Machine
from simgpu.lab.validation.tables import Table
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan

_KNOWN = {field.name for field in fields(TransformerConfig)}
SHAPE = ("num_layers", "hidden_size", "num_heads", "ffn_size", "vocab_size", "seq_len")


@dataclass(frozen=True)
class Case:
    """One step that can be simulated. `framework` is a name of `simgpu.workload.frameworks`."""

    config: TransformerConfig
    gpus: int
    per_node: int
    plan: Plan
    batch: int  # sequences of all data-parallel replicas
    tokens: int  # of a sequence
    dtype: str
    framework: str
    numerics: tuple[tuple[str, Any], ...] = ()  # other fields of `Training`
    link: str = ""  # what the table says of the links in a node
    network: str = ""  # and between nodes

    def with_plan(self, **changes: Any) -> Case:
        return replace(self, plan=replace(self.plan, **changes))


@dataclass(frozen=True)
class Wanted:
    """A row to predict: its cases, the most usual first, and what was measured.

    `quantity` is step_time (s) or memory (bytes of a GPU), `part` what of the memory: peak, states, activations, or
    relative (activations over those without recomputation and sequence parallelism, a fraction).
    """

    cases: tuple[Case, ...]
    measured: float
    quantity: str = "step_time"
    part: str = ""
    caveat: str = ""
    dtype: str = ""  # as the table spells it
    tuned: bool = False  # the source looked for its settings: the fastest case that fits is meant, not the median


class Reader:
    """Cells of one row, and what its machine can do."""

    def __init__(self, table: Table, row: int, machine: Machine | None = None) -> None:
        self._table, self._row, self._machine = table, row, machine

    def multiplies(self, dtype: str) -> bool:
        """Whether the GPU has matrix units for a data type."""
        try:
            return self._machine is not None and self._machine.peak(dtype) > 0
        except InputError:
            return False

    def number(self, name: str, default: float | None = None) -> float:
        """A number; `default` where the cell is empty or the column is missing."""
        value = float(self._table.numbers[name][self._row]) if name in self._table.numbers else math.nan
        return value if not math.isnan(value) or default is None else default

    def count(self, name: str, default: int | None = None) -> int:
        value = self.number(name, default)
        if not math.isfinite(value) or value != int(value):
            raise self._table.error(self._row, "expected a whole number", name)
        return int(value)

    def has(self, name: str) -> bool:
        return name in self._table.numbers and not math.isnan(self._table.numbers[name][self._row])

    def word(self, name: str) -> str:
        return str(self._table.words[name][self._row]) if name in self._table.words else ""

    def dtype(self, name: str = "dtype") -> str:
        """A data type as models name it."""
        given = self.word(name)
        if given not in DTYPES:
            raise self._table.error(self._row, f"no model of data type {shown(given)}{nearest(given, DTYPES)}", name)
        return DTYPES[given]

    def flag(self, name: str) -> bool:
        return self.word(name) == "True"


def degrees(row: Reader) -> dict[str, Any]:
    """Degrees of parallelism by column; one where nothing is said."""
    return {name: row.count(f"{name}_size", 1) for name in ("tp", "pp", "dp", "cp")}


Translate = Callable[[Reader], "Iterable[Wanted | str]"]
"""What a row asks for: quantities to predict, or in words why there is no prediction."""


# ---- models ------------------------------------------------------------------------------------------


def gpt(row: Reader, tied: bool = True, hidden: str = "hidden_size") -> TransformerConfig:
    """A model of GPT-2's kind: LayerNorm, biases, learned positions, a feed-forward of two matrices."""
    return _config(row, hidden, gated=False, tied_embeddings=tied, rms_norm=False, rope=False, qkv_bias=True, bias=True)


def llama(row: Reader, tied: bool = False) -> TransformerConfig:
    """A model of Llama's kind: RMSNorm, no biases, rotary positions, a gated feed-forward."""
    return _config(
        row, "hidden_size", gated=True, tied_embeddings=tied, rms_norm=True, rope=True, qkv_bias=False, bias=False
    )


def bidirectional(config: TransformerConfig) -> TransformerConfig | None:
    """The same as an encoder; None while there is none."""
    return replace(config, causal=False) if "causal" in _KNOWN else None


def _config(row: Reader, hidden_column: str, **kind: Any) -> TransformerConfig:
    hidden, heads = row.count(hidden_column), row.count("num_heads")
    return TransformerConfig(
        name=row.word("model") or "model",
        layers=row.count("num_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=row.count("num_kv_heads", heads),
        head_dim=hidden // heads,
        ffn=row.count("ffn_size"),
        vocab=row.count("vocab_size"),
        max_tokens=row.count("seq_len"),
        qk_norm=False,
        **kind,
    )


# ---- MosaicML ----------------------------------------------------------------------------------------

MIXED: dict[str, tuple[tuple[str, Any], ...]] = {
    # torch FSDP keeps fp32 shards, casts them on the way to the all-gather, and reduces gradients in fp32 (DEFAULT)
    # or in the low precision (PURE): composer/trainer/mosaic_fsdp_utils.py, get_mixed_precision
    "DEFAULT": (("reduce", "fp32"), ("gradients", "fp32")),
    "PURE": (("reduce", "bf16"), ("gradients", "fp32")),
}
_PRECISION = {"amp_bf16": "bf16", "bf16": "bf16", "amp_fp16": "fp16", "fp16": "fp16", "amp_fp8": "fp8"}
ZERO = {"FULL_SHARD": 3, "SHARD_GRAD_OP": 2, "NO_SHARD": 0}
_UNSTATED_NETWORK = "network between nodes not stated: 50 and 25 GB/s per GPU are both covered"


def foundry(row: Reader) -> Iterable[Wanted | str]:
    """mosaicml/llm-foundry: MPT under FSDP, eager, Triton's flash attention."""
    precision, mixed, sharding = (row.word(n) for n in ("precision", "fsdp_mixed_precision", "sharding_strategy"))
    if precision not in _PRECISION or mixed not in MIXED or sharding not in ZERO:
        return [f"no meaning for '{precision}', '{mixed}', '{sharding}'"]
    if row.flag("activation_cpu_offload"):
        return ["activations in the memory of the host are not simulated"]
    gpus, tokens = row.count("num_gpus"), row.count("seq_len")
    micro = row.count("micro_batch_size")
    plan = Plan(
        dp=gpus,
        zero=ZERO[sharding],
        micro_batch=micro,
        recompute="full" if row.flag("activation_checkpointing") else "none",
    )
    dtype = _PRECISION[precision]
    stated = "roce" in row.word("interconnect").lower()
    case = Case(
        config=gpt(row, hidden="d_model"),
        gpus=gpus,
        per_node=min(row.count("gpus_per_node", 8), gpus),
        plan=plan,
        batch=row.count("global_batch_size"),
        tokens=tokens,
        dtype=dtype,
        framework="pytorch-2023",
        numerics=MIXED[mixed] + ((("fp8_scaling", "delayed"),) if dtype == "fp8" else ()),  # Transformer Engine
        network="RoCE 25 GB/s per GPU" if stated else "InfiniBand 50 GB/s per GPU",
    )
    cases: tuple[Case, ...] = (case,)
    caveat = ""
    if not stated and gpus > case.per_node:
        cases, caveat = (case, replace(case, network="RoCE 25 GB/s per GPU")), _UNSTATED_NETWORK
    return [Wanted(cases, row.number("step_time_s"), caveat=caveat, dtype=precision)]


# ---- TorchTitan --------------------------------------------------------------------------------------


def torchtitan(row: Reader) -> Iterable[Wanted | str]:
    """pytorch/torchtitan: FSDP2 over dp x cp, which keeps weights gathered between microbatches of a pipeline; as many
    microbatches as stages; key and value all-gathered in context parallelism (defaults of the repository)."""
    split: dict[str, Any] = {name: row.count(f"{name}_size", 1) for name in ("tp", "pp", "cp")}
    gpus, local = row.count("num_gpus"), row.count("local_batch_size")
    scaling, checkpointing = row.word("float8"), row.word("activation_checkpointing")
    interleaved = "interleaved" in row.word("pp_schedule").lower()
    dp = gpus // math.prod(split.values())
    plan = Plan(
        **split,
        dp=dp,
        vp=2 if interleaved else 1,
        zero=3 if split["pp"] == 1 else 2,
        micro_batch=max(local // split["pp"], 1),
        recompute=checkpointing.partition("-")[0] or "none",
        sequence_parallel=split["tp"] > 1,
        async_tp=row.flag("async_tp"),
        context="all_gather",
    )
    numerics = MIXED["DEFAULT"] + ((("fp8_scaling", scaling),) if scaling else ())
    case = Case(
        config=llama(row),
        gpus=gpus,
        per_node=min(row.count("gpus_per_node", 8), gpus),
        plan=plan,
        batch=row.count("global_batch_size"),
        tokens=row.count("seq_len"),
        dtype="fp8" if scaling else "bf16",
        framework=_pytorch(row.flag("torch_compile")),
        numerics=numerics,
        network="RoCE 50 GB/s per GPU",
    )
    caveat = "selective by operator: half of the matrix products" if checkpointing.startswith("selective") else ""
    found = [Wanted((case,), row.number("step_time_s"), caveat=caveat, dtype=f"fp8 {scaling}" if scaling else "bf16")]
    if row.has("memory_bytes_per_gpu"):
        found.append(replace(found[0], measured=row.number("memory_bytes_per_gpu"), quantity="memory", part="peak"))
    return found


def _pytorch(compiled: bool) -> str:
    return "pytorch-compiled" if compiled else "pytorch-eager"


# ---- others ------------------------------------------------------------------------------------------

NO_OPTIMIZER = (("optimizer", "none"),)


def neusight(row: Reader) -> Iterable[Wanted | str]:
    """sitar-lab/NeuSight: Hugging Face models, eager, fp32 on vector units; Megatron-LM by accelerate on 4 GPUs."""
    mode = row.word("mode")
    if mode == "inference_prefill":
        return ["forward alone: see validate inference"]
    if mode != "training_fwd_bwd":
        return [f"no mode {shown(mode)}; expected training_fwd_bwd or inference_prefill"]
    model = row.word("model")
    if model.startswith("switch"):
        return ["an encoder-decoder of experts is not simulated"]
    config: TransformerConfig | None = gpt(row)
    if model.startswith("bert"):
        config = bidirectional(gpt(row))
        if config is None:
            return ["attention to later tokens (encoders) is not simulated"]
    assert config is not None
    split, caveat = degrees(row), ""
    batch = row.count("global_batch")
    micro = batch // split["dp"] // row.count("num_microbatches", 1)
    if split["pp"] > 1 and micro == batch:
        split, caveat = split | {"pp": 1}, "one microbatch: stages run one after another, as on one GPU"
    world = math.prod(split.values())
    case = Case(
        config=config,
        gpus=world,
        per_node=world,
        plan=Plan(**split, micro_batch=micro, overlap_gradients=False),
        batch=batch,
        tokens=row.count("seq_len"),
        dtype="fp32",
        framework=_pytorch(row.flag("torch_compile")),  # Megatron's fused kernels need 16-bit types
        numerics=(*NO_OPTIMIZER, *_FP32, ("flash", False)),
    )
    return [Wanted((case,), row.number("latency_s"), caveat=caveat, dtype=row.word("dtype"))]


PURE_BF16 = (
    ("weights", "bf16"),
    ("master_weights", False),
    ("gradients", "bf16"),
    ("reduce", "bf16"),
    ("states", "bf16"),
)
TIED = 3072
"""Llama 3 models up to this hidden size tie their embeddings, larger ones do not (their config.json)."""


def ml_engineering(row: Reader) -> Iterable[Wanted | str]:
    """stas00/ml-engineering: Llama on one B200; GPT-2 by torch's DDP on two GPUs (transformers, performance docs)."""
    workload, mode, gpus = row.word("workload"), row.word("mode"), row.count("num_gpus")
    if workload == "forward":
        return ["forward alone: see validate inference"]
    if mode == "DataParallel":
        return ["one process that copies the model to every GPU each step is not simulated"]
    optimizer = () if workload.endswith("adamw") else NO_OPTIMIZER
    dtype = row.dtype()
    micro = row.count("batch_size")
    plan = Plan(dp=gpus, micro_batch=micro, recompute="full" if row.flag("gradient_checkpointing") else "none")
    learned = row.count("num_kv_heads") == row.count("num_heads")
    case = Case(
        config=gpt(row) if learned else llama(row, tied=row.count("hidden_size") <= TIED),
        gpus=gpus,
        per_node=gpus,
        plan=plan,
        batch=micro * gpus,
        tokens=row.count("seq_len"),
        dtype=dtype,
        framework=_pytorch("compile" in mode),
        numerics=(*optimizer, *(PURE_BF16 if dtype == "bf16" else (*_FP32, ("flash", False)))),
        link=_bridged(row.word("link")),
    )
    graphs = "reduce-overhead" in mode or "max-autotune" in mode
    caveat = f"predicted as without CUDA graphs ({mode})" if graphs else ""
    return [Wanted((case,), row.number("latency_s"), caveat=caveat, dtype=row.word("dtype"))]


_FP32 = (("weights", "fp32"), ("master_weights", False), ("gradients", "fp32"), ("reduce", "fp32"))


def _bridged(link: str) -> str:
    return "pcie" if "PCIe" in link else ("nvlink-bridge pair" if "NVLink" in link else "")


BERT = {"bert_base_squad": (12, 768, 12, 3072), "bert_large_squad": (24, 1024, 16, 4096)}
"""Layers, hidden size, heads and feed-forward width (Devlin et al. 2019)."""
SQUAD_TOKENS = 384
"""NVIDIA/DeepLearningExamples, PyTorch/LanguageModeling/BERT/scripts/run_squad.sh: --max_seq_length=384."""


def lambda_labs(row: Reader) -> Iterable[Wanted | str]:
    """lambdal/deeplearning-benchmark: fine-tuning BERT on SQuAD with NVIDIA's DeepLearningExamples."""
    task, gpus = row.word("task"), row.count("num_gpus")
    if task not in BERT:
        return ["no transformer of this project's kind (convolutions, recurrent layers, encoder-decoders, tables)"]
    if not row.has("global_batch"):
        return ["batch size not stated"]
    layers, hidden, heads, ffn = BERT[task]
    decoder = TransformerConfig(
        task, layers, hidden, heads, heads, hidden // heads, ffn, False, 2, 512, True, False, False, True, True, False
    )
    config = bidirectional(decoder)
    if config is None:
        return ["attention to later tokens (encoders) is not simulated"]
    batch = row.count("global_batch")
    mixed = row.word("precision").startswith("amp")
    dtype = "fp16" if mixed else ("tf32" if row.multiplies("tf32") else "fp32")
    numerics = (("gradients", "fp16"), ("reduce", "fp16")) if mixed else _FP32
    case = Case(
        config=config,
        gpus=gpus,
        per_node=gpus,
        plan=Plan(dp=gpus, micro_batch=batch // gpus),
        batch=batch,
        tokens=SQUAD_TOKENS,
        dtype=dtype,
        framework="pytorch-eager",
        numerics=(*numerics, ("flash", False)),
        link=row.word("interconnect") if "not stated" not in row.word("interconnect") else "pcie",
    )
    measured = batch / row.number("throughput_items_per_s")
    return [Wanted((case,), measured, caveat="embeddings' optimizer step left out", dtype=row.word("precision"))]


# ---- figures that come with simgpu -------------------------------------------------------------------

_KINDS: dict[str, Callable[[Reader], TransformerConfig]] = {
    "gpt": gpt,
    "gpt-untied": lambda row: gpt(row, tied=False),
    "llama": llama,
    "llama-tied": lambda row: llama(row, tied=True),
}


def stated(row: Reader) -> Iterable[Wanted | str]:
    """A table that states the whole plan in its columns."""
    kind, dtype = row.word("kind"), row.word("dtype")
    if kind not in _KINDS or dtype not in DTYPES:
        return [f"no meaning for kind '{kind}' and dtype '{dtype}'"]
    gpus, low = row.count("num_gpus"), DTYPES[dtype]
    plan = Plan(
        **degrees(row),
        vp=row.count("virtual_pp", 1),
        zero=row.count("zero"),
        micro_batch=row.count("micro_batch_size"),
        recompute=row.word("activation_recompute"),
        sequence_parallel=row.flag("sequence_parallel"),
        overlap_gradients=row.flag("overlap"),
        overlap_weights=row.flag("overlap"),
        context=row.word("context") or "ring",
        order=tuple(row.word("order").split()) or Plan().order,
    )
    numerics: list[tuple[str, Any]] = [("gradients", row.word("gradients")), ("reduce", row.word("reduce"))]
    if row.word("flash") == "False":
        numerics.append(("flash", False))
    case = Case(
        config=_KINDS[kind](row),
        gpus=gpus,
        per_node=min(8, gpus),
        plan=plan,
        batch=row.count("global_batch_size"),
        tokens=row.count("seq_len"),
        dtype=low,
        framework=row.word("framework"),
        numerics=tuple(numerics),
        network=row.word("interconnect"),
    )
    return [Wanted((case,), row.number("step_time_s"), caveat=row.word("note"), dtype=dtype)]
