"""The jobs a scenario can ask for, and the graph of operators each one is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from simgpu.arguments import plain
from simgpu.documents import dotted
from simgpu.errors import InputError, nearest, shown
from simgpu.model.config import TransformerConfig
from simgpu.model.graph import ModelGraph
from simgpu.plan.checks import check_fits_model, check_trains
from simgpu.plan.numerics import DTYPES, NARROW, PROJECTIONS, Numerics, adapter_targets
from simgpu.plan.parallelism import Plan
from simgpu.schema_errors import validate
from simgpu.workload.fields import Accumulate, Dtype, Routing, Size, Strict
from simgpu.workload.frameworks import Framework
from simgpu.workload.inference.jobs import Inference, InferenceJob, MixedStep, Serving
from simgpu.workload.networks.job import Network
from simgpu.workload.operator_list import OperatorList
from simgpu.workload.server.jobs import Traffic

__all__ = [
    "Accumulate", "Dtype", "Inference", "MixedStep", "Network", "OperatorList", "Prefill", "Serving", "Traffic",
    "Training",
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
    optimizer: Literal["adam", "muon", "momentum", "sgd", "none"] = "adam"
    master_weights: bool | None = None
    """An fp32 copy that the optimizer updates; default: where weights are of 16 bits."""
    weights: Literal["fp32", "fp16", "bf16"] | None = None
    """What weights are kept in for the kernels; default: the scenario's dtype, bf16 for fp8 and fp4."""
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
    mtp_layers: Annotated[int, Field(strict=True, ge=0, le=16)] = 0
    """Modules of multi-token prediction that are trained beside the model, each a layer like the last and a further
    loss (`num_nextn_predict_layers` of DeepSeek-V3, `mtp_num_layers` of Megatron-Core); 0: none."""
    use_cache: bool = False
    """Keys and values of all layers stay to the end of a step: `use_cache` of a Hugging Face model, which stays on
    where recomputation is put around its layers from outside; `gradient_checkpointing_enable` turns it off."""
    loss: Literal["plain", "compiled", "fused"] | None = None
    """How the loss runs, for memory: plain, as the framework writes it; compiled together (torch.compile, Megatron-LM's
    native fusion); fused, a kernel that makes the gradient of the 16-bit logits in their place (Transformer Engine's,
    cross entropies of Liger and flash-attn). Default: as the framework does."""
    dropout: bool | None = None
    """Whether masks of dropout are kept; default: as the framework does."""
    fp8_scaling: Literal["tensorwise", "rowwise", "delayed", "block", "mx"] | None = None
    """Scaling of matrix products in fp8 (`simgpu.plan.numerics.FP8_SCALING`); default: as the framework does."""
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
        half = dtype in ("bf16", "fp16", *NARROW)
        weights = self.weights or ("bf16" if dtype in NARROW else "fp32" if dtype == "tf32" else dtype)
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
        config = self.with_mtp(_checked(model, self, plan))
        check_trains(plan, config, self.batch, self.tokens)
        if not self.flash and plan.cp > 1:
            raise InputError("attention without a fused kernel cannot be split over a sequence", key="workload.flash")
        if self.optimizer == "muon" and (plan.offload != "none" or self.finetune != "full"):
            given = f"plan.offload {plan.offload}" if plan.offload != "none" else f"finetune {self.finetune}"
            raise InputError(f"'muon' is not supported with {given}; expected adam", key="workload.optimizer")
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

    def with_mtp(self, config: TransformerConfig) -> TransformerConfig:
        """The model with what predicts further tokens. Raises `InputError` (key only) where it cannot."""
        if not self.mtp_layers:
            return config
        problem = ""
        if self.finetune != "full":
            problem = f"is not supported with finetune {self.finetune}"
        elif not config.causal or not config.lm_head:
            problem = f"'{config.name}' predicts no next token"
        elif config.embedding_width or config.masked_lm:
            problem = f"'{config.name}' has a head of another form"
        if problem:
            raise InputError(f"{self.mtp_layers}: {problem}; expected 0", key="workload.mtp_layers")
        return replace(config, trained_mtp=self.mtp_layers)

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

        config = self.with_mtp(_checked(model, self, plan))
        return training_graph(config, self.batch, self.tokens, dtype, accumulate, self.routing, self.flash)


Workload = Annotated[
    Prefill | Training | OperatorList | Inference | MixedStep | Serving | Traffic | Network, Field(discriminator="kind")
]


def longest_sequence(job: Workload) -> int:
    """Tokens of the longest sequence of a job; 0 for a list of operators and networks of stages."""
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
    for one in (Prefill, Training, OperatorList, Inference, MixedStep, Serving, Traffic, Network)
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
    typed: Prefill | Training | OperatorList | Inference | MixedStep | Serving | Traffic | Network = found
    return typed
