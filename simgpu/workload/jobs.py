"""The jobs a scenario can ask for, and the graph of operators each one is."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from simgpu.arguments import plain
from simgpu.documents import dotted
from simgpu.errors import InputError, nearest, shown
from simgpu.model.config import TransformerConfig
from simgpu.model.graph import ModelGraph, Segment
from simgpu.model.operators import ACCUMULATE, Attention, Communicate, Dim, Matmul, Operator, Pointwise
from simgpu.plan.checks import check_fits_model, check_trains
from simgpu.plan.numerics import DTYPES, PROJECTIONS, Numerics, adapter_targets
from simgpu.plan.parallelism import Plan
from simgpu.schema_errors import validate
from simgpu.workload.fields import Accumulate, Dtype, Passes, Routing, Size, Strict, positive
from simgpu.workload.frameworks import Framework
from simgpu.workload.inference.jobs import Inference, InferenceJob, MixedStep, Serving
from simgpu.workload.server.jobs import Traffic

__all__ = [
    "Accumulate", "Dtype", "Inference", "MixedStep", "OperatorList", "Prefill", "Serving", "Traffic", "Training",
    "Workload",
]  # fmt: skip


class Prefill(Strict):
    """Prefill of `batch` prompts of `tokens` tokens each, up to the logits of the last token."""

    kind: Literal["prefill"] = "prefill"
    batch: Size = 1
    tokens: Size

    def graph(self, model: TransformerConfig | None, plan: Plan, dtype: str, accumulate: str) -> ModelGraph:
        """The operators of the prefill. Raises `InputError` (key only) where the plan cannot split the model."""
        from simgpu.model.transformer import prefill_graph

        config = _checked(model, self, plan)
        return prefill_graph(config, self.batch, self.tokens, dtype, accumulate)


class Training(Strict):
    """One optimizer step on `batch` sequences (all replicas together) of `tokens` tokens each."""

    kind: Literal["training"] = "training"
    batch: Size = 1
    tokens: Size
    optimizer: Literal["adam", "momentum", "sgd", "none"] = "adam"
    master_weights: bool | None = None
    """An fp32 copy that the optimizer updates; default: where weights are of 16 bits."""
    weights: Literal["fp32", "fp16", "bf16"] | None = None
    """What weights are kept in for the kernels; default: the scenario's dtype, bf16 for fp8."""
    sharded_copy: bool | None = None
    """With ZeRO-3, whether shards of the weights are kept beside those of the master weights; false: the master's
    alone, cast on the way to a gather (FSDP with mixed precision). Default: as the framework does."""
    gradients: Literal["fp32", "fp16", "bf16"] | None = None
    """What gradients are summed in; default: fp32 with master weights (not in DeepSpeed), else as the weights."""
    reduce: Literal["fp32", "fp16", "bf16"] | None = None
    """What gradients travel in; default: as they are summed."""
    states: Literal["fp32", "bf16"] = "fp32"
    clip: bool = True
    """Clipping by the norm of all gradients."""
    flash: bool = True
    """Fused attention; false: scores go through memory."""
    loss_chunks: Annotated[int, Field(strict=True, gt=0, le=65536)] = 1
    """Parts of a microbatch's tokens whose head and loss run forward and backward one after another, so that the logits
    of one part are in memory at a time (ChunkedCELoss of torchtitan, Liger)."""
    use_cache: bool = False
    """Keys and values of all layers stay to the end of a step: `use_cache` of a Hugging Face model, which stays on
    where recomputation is put around its layers from outside; `gradient_checkpointing_enable` turns it off."""
    loss: Literal["plain", "compiled", "fused"] | None = None
    """How the loss runs, for memory: plain, as the framework writes it; compiled together (torch.compile, Megatron-LM's
    native fusion); fused, a kernel that makes the gradient of the 16-bit logits in their place (Transformer Engine's,
    cross entropies of Liger and flash-attn). Default: as the framework does."""
    dropout: bool | None = None
    """Whether masks of dropout are kept; default: as the framework does."""
    fp8_scaling: Literal["tensorwise", "rowwise", "delayed"] | None = None
    """Scaling of matrix products in fp8; default: as the framework does."""
    finetune: Literal["full", "lora", "qlora"] = "full"
    rank: Annotated[int, Field(strict=True, gt=0, le=4096)] = 16
    """Rank of the adapters."""
    targets: tuple[str, ...] | None = None
    """Matrices that have adapters, by name; default: those of attention."""
    routing: Routing = "balanced"
    """How tokens choose experts: balanced, random, power_law_A or popularity_A."""
    train_tokens: Annotated[float, Field(gt=0, le=1e18, allow_inf_nan=False)] | None = None
    """Tokens of a whole training run, for days and GPU-hours."""

    def numerics(
        self, dtype: str, model: TransformerConfig | None = None, framework: Framework | None = None
    ) -> Numerics:
        """The dtypes of a training step, defaults filled in as the framework does; with `model`, targets that it has.

        Raises `InputError` (key only) where nothing is trained in `dtype`.
        """
        if dtype not in DTYPES:
            raise InputError(
                f"{shown(dtype)} is not supported for training; expected one of {', '.join(DTYPES)}", key="dtype"
            )
        if self.fp8_scaling and dtype != "fp8":
            raise InputError(f"{shown(self.fp8_scaling)} needs dtype fp8, not {dtype}", key="workload.fp8_scaling")
        names = PROJECTIONS if self.targets is None else self.targets
        if model is not None:
            known = adapter_targets(model)
            names = tuple(name for name in names if name in known)
        half = dtype in ("bf16", "fp16", "fp8")
        weights = self.weights or ("bf16" if dtype == "fp8" else "fp32" if dtype == "tf32" else dtype)
        master = half if self.master_weights is None else self.master_weights
        as_weights = framework is not None and framework.gradients_as_weights
        gradients = self.gradients or ("fp32" if master and not as_weights else weights)
        separate = master and weights != "fp32"
        if self.sharded_copy is not None and not (separate and self.optimizer != "none"):
            problem = f"{str(self.sharded_copy).lower()} needs fp32 master weights beside {weights}"
            raise InputError(problem, key="workload.sharded_copy")
        return Numerics(
            dtype,
            weights,
            "fp32" if separate else None,
            gradients,
            self.reduce or gradients,
            self.states,
            self.optimizer,
            self.flash,
            self.finetune,
            self.rank,
            names,
            self.sharded_copy,
            self.loss_chunks,
            self.use_cache,
            self.loss,
            self.dropout,
        )

    def scaling(self, usual: str) -> str:
        """How matrix products in fp8 are scaled; `usual` is the default of the framework."""
        return self.fp8_scaling or usual

    def check(self, model: TransformerConfig | None, plan: Plan) -> TransformerConfig:
        """Return the model. Raises `InputError` (key only) where it is missing or the plan cannot split this step."""
        config = _checked(model, self, plan)
        check_trains(plan, config, self.batch, self.tokens)
        if not self.flash and plan.cp > 1:
            raise InputError("attention without a fused kernel cannot be split over a sequence", key="workload.flash")
        if self.sharded_copy is not None and (plan.zero != 3 or self.finetune != "full"):
            problem = f"{str(self.sharded_copy).lower()} is supported only with plan.zero 3 and finetune full"
            raise InputError(problem, key="workload.sharded_copy")
        if self.loss_chunks > self.tokens // plan.cp:
            problem = (
                f"{self.loss_chunks} parts are more than the {self.tokens // plan.cp} tokens of a sequence on a rank"
            )
            raise InputError(problem, key="workload.loss_chunks")
        if self.optimizer == "none" and plan.offload != "none":
            raise InputError(
                f"{shown(plan.offload)}: optimizer none has no states to offload; expected none", key="plan.offload"
            )
        if self.routing != "balanced" and config.experts == 1:
            problem = f"{shown(self.routing)}: '{config.name}' has no experts; expected balanced"
            raise InputError(problem, key="workload.routing")
        self._check_adapters(config)
        return config

    def _check_adapters(self, config: TransformerConfig) -> None:
        """Raise `InputError` (key only) for keys of adapters where there are none, or matrices that the model lacks."""
        if self.finetune == "full":
            plain = type(self).model_fields["rank"].default
            given = {
                "rank": self.rank if self.rank != plain else None,
                "targets": None if self.targets is None else list(self.targets),
            }
            for key, value in given.items():
                if value is not None:
                    problem = f"{shown(value)} is not supported with finetune full; expected finetune lora or qlora"
                    raise InputError(problem, key=f"workload.{key}")
            return
        known = adapter_targets(config)
        if self.targets is not None and not self.targets:
            raise InputError(f"the list is empty; expected some of {', '.join(known)}", key="workload.targets")
        for i, name in enumerate(self.targets or ()):
            if name not in known:
                problem = f"{shown(name)} is not a matrix of '{config.name}' that can have an adapter"
                raise InputError(f"{problem}; expected some of {', '.join(known)}", key=f"workload.targets.{i}")

    def graph(self, model: TransformerConfig | None, plan: Plan, dtype: str, accumulate: str) -> ModelGraph:
        """The operators of the step. Raises `InputError` (key only) where the plan cannot split the model."""
        from simgpu.model.transformer import training_graph

        config = _checked(model, self, plan)
        return training_graph(config, self.batch, self.tokens, dtype, accumulate, self.routing, self.flash)


class _Listed(Strict):
    """An operator of a list. `split` names what tensor parallelism cuts; with tp > 1 it must be given.

    `time` is a measured time of the whole operator on one GPU; parts of it take their share by FLOPs.
    """

    name: str = ""
    split: str | None = None
    time: Annotated[float, positive("s")] | None = None

    def split_size(self) -> tuple[str, int] | None:
        """The axis that is split and its length; None where nothing is split."""
        return None if self.split in (None, "none") else (str(self.split), int(getattr(self, str(self.split))))


class ListedMatmul(_Listed):
    """C[m, n] = A[m, k] B[k, n]."""

    op: Literal["matmul"]
    m: Size
    n: Size
    k: Size
    batch: Size = 1
    dtype: Dtype | None = None
    accumulate: Accumulate | None = None
    split: Literal["m", "n", "k", "none"] | None = None

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The product as an operator called `name`; `dtype` and `accumulate` where the list has none of its own."""
        dims = {key: Dim(getattr(self, key), 1, "tp" if self.split == key else "") for key in ("m", "n", "k")}
        own = self.dtype or dtype
        sums = self.accumulate or (accumulate if own == dtype else ACCUMULATE[own])
        return Matmul(name, dims["m"], (dims["n"],), dims["k"], own, sums, self.batch, time_s=self.time)


class ListedAttention(_Listed):
    """Flash attention of `batch` sequences: `queries` new tokens against `keys` (default: as many)."""

    op: Literal["attention"]
    batch: Size = 1
    queries: Size
    keys: Size | None = None
    heads: Size
    kv_heads: Size | None = None
    head_dim: Annotated[int, Field(strict=True, gt=0, le=1024)]
    causal: bool = True
    dtype: Dtype | None = None
    split: Literal["heads", "batch", "none"] | None = None

    @field_validator("kv_heads")
    @classmethod
    def _divides_heads(cls, kv_heads: int | None, info: ValidationInfo) -> int | None:
        heads = info.data.get("heads")
        if kv_heads and heads and heads % kv_heads:
            raise ValueError(f"{kv_heads} does not divide heads = {heads}")
        return kv_heads

    def check(self, key: str, tp: int) -> None:
        """Raise `InputError` below `key` where keys are too few, or heads do not go over `tp` ranks."""
        if self.causal and self.keys is not None and self.keys < self.queries:
            problem = f"{self.keys} is less than queries = {self.queries}; keys count the new tokens with the cached"
            raise InputError(problem, key=f"{key}.keys")
        few = self.kv_heads or self.heads
        if self.split == "heads" and few % tp and tp % few:
            raise InputError(f"tp {tp} does not divide kv_heads = {few}", key=f"{key}.kv_heads")

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The attention as an operator called `name`; `dtype` where the list has none of its own."""
        heads_axis, batch_axis = ("tp" if self.split == key else "" for key in ("heads", "batch"))
        return Attention(
            name,
            Dim(self.batch, 1, batch_axis),
            self.queries,
            self.keys or self.queries,
            Dim(self.heads, 1, heads_axis),
            Dim(self.kv_heads or self.heads, 1, heads_axis),
            self.head_dim,
            self.dtype or dtype,
            self.causal,
            accumulate=accumulate if self.dtype in (None, dtype) else ACCUMULATE[self.dtype or dtype],
            time_s=self.time,
        )


class ListedPointwise(_Listed):
    """A memory-bound operator over [rows, width]: `reads` + `writes` passes."""

    op: Literal["pointwise"]
    rows: Size
    width: Size
    reads: Passes = 1
    writes: Passes = 1
    dtype: Dtype | None = None
    split: Literal["rows", "width", "none"] | None = None

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The operator, called `name`; `dtype` where the list has none of its own."""
        rows, width = (Dim(getattr(self, key), 1, "tp" if self.split == key else "") for key in ("rows", "width"))
        return Pointwise(
            name, "elementwise", rows, (width,), self.dtype or dtype, self.reads, self.writes, time_s=self.time
        )


class ListedCollective(Strict):
    """A collective over the tensor-parallel group; `bytes` as nccl-tests count them. Nothing with tp 1."""

    op: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
    name: str = ""
    bytes: Annotated[float, positive("B")]

    def build(self, name: str, dtype: str, accumulate: str) -> Operator:
        """The collective as an operator called `name`. It moves bytes, of no data type."""
        return Communicate(name, self.op, self.bytes)


Listed = Annotated[ListedMatmul | ListedAttention | ListedPointwise | ListedCollective, Field(discriminator="op")]


class OperatorList(Strict):
    """Operators written out in the experiment file, in order, `repeat` times over. Needs no model."""

    kind: Literal["operators"] = "operators"
    operators: Annotated[list[Listed], Field(min_length=1)]
    repeat: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 1

    def own_dtypes(self) -> Iterator[tuple[str, str, str | None]]:
        """(key, dtype, accumulate) of each operator that does not use the scenario's dtype."""
        for i, entry in enumerate(self.operators):
            if not isinstance(entry, ListedCollective) and entry.dtype is not None:
                sums = entry.accumulate if isinstance(entry, ListedMatmul) else None
                yield f"workload.operators.{i}.dtype", entry.dtype, sums

    def graph(self, model: TransformerConfig | None, plan: Plan, dtype: str, accumulate: str) -> ModelGraph:
        """The operators of the list. Raises `InputError` (key only) where the plan cannot split one of them."""
        if model is not None:
            raise InputError(f"'{model.name}' is not supported for a list of operators; leave it out", key="model")
        built: list[Operator] = []
        for i, entry in enumerate(self.operators):
            key = f"workload.operators.{i}"
            if not isinstance(entry, ListedCollective) and plan.tp > 1:
                if entry.split is None:
                    raise InputError(
                        f"this key is missing; tp {plan.tp} needs the axis to split, or none", key=f"{key}.split"
                    )
                cut = entry.split_size()
                if cut and cut[1] % plan.tp:
                    raise InputError(f"tp {plan.tp} does not divide {cut[0]} = {cut[1]}", key=f"{key}.{cut[0]}")
            if isinstance(entry, ListedAttention):
                entry.check(key, plan.tp)
            built.append(entry.build(entry.name or f"{entry.op}{i}", dtype, accumulate))
        if plan.dp > 1:
            raise InputError(f"{plan.dp}: a list of operators has no batch to split; expected 1", key="plan.dp")
        if plan.sequence_parallel:
            raise InputError("is not supported for a list of operators; expected false", key="plan.sequence_parallel")
        return ModelGraph("operators", (Segment("operators", tuple(built), self.repeat),))


Workload = Annotated[
    Prefill | Training | OperatorList | Inference | MixedStep | Serving | Traffic, Field(discriminator="kind")
]


def longest_sequence(job: Workload) -> int:
    """Tokens of the longest sequence of a job; 0 for a list of operators."""
    match job:
        case Prefill() | Training():
            return job.tokens
        case MixedStep():
            return max(job.past + job.prefill, job.context if job.decodes else 0)
        case Inference() | Serving():
            return job.prompt + job.output
        case Traffic():
            return job.longest
    return 0


def deployed_as(job: InferenceJob | Traffic) -> InferenceJob:
    """The job by which a deployment is made: of a load of requests, a server with the same limits."""
    return job.served() if isinstance(job, Traffic) else job


def _checked(model: TransformerConfig | None, job: Prefill | Training, plan: Plan) -> TransformerConfig:
    """Return the model. Raises `InputError` (key only) where it is missing, or cannot take the tokens or the plan."""
    if model is None:
        raise InputError(f"this key is missing; a workload of kind '{job.kind}' needs one", key="model")
    if not model.takes(job.tokens):
        problem = f"{job.tokens:,} tokens are more than the {model.max_tokens:,} learned positions of '{model.name}'"
        raise InputError(problem, key="workload.tokens")
    check_fits_model(plan, model, job.batch, job.tokens)
    return model


JOBS = {
    one.model_fields["kind"].default: one
    for one in (Prefill, Training, OperatorList, Inference, MixedStep, Serving, Traffic)
}
"""Classes of jobs by their `kind`."""


def job_of(job: Mapping[str, Any] | Workload) -> Workload:
    """The job that a mapping of its keys describes; a job itself is returned. Raises `InputError` (key only)."""
    if not isinstance(job, Mapping):
        return job
    kind = job.get("kind")
    if not isinstance(kind, str) or kind not in JOBS:
        problem = f"{shown(kind)} is not known" if "kind" in job else "this key is missing"
        raise InputError(f"{problem}{nearest(kind or '', JOBS)}", key="workload.kind")

    def blame(path: tuple[Any, ...], problem: str) -> InputError:
        return InputError(problem, key=dotted(("workload", *path)))

    found: Any = validate(JOBS[kind], plain(dict(job)), blame)
    typed: Prefill | Training | OperatorList | Inference | MixedStep | Serving | Traffic = found
    return typed
