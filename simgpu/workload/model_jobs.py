"""Jobs that compute a model once: a prefill, and a training step."""

from dataclasses import replace
from math import ceil, sqrt
from typing import Annotated, Literal

from pydantic import Field

from simgpu.errors import InputError, shown
from simgpu.model.config import TransformerConfig
from simgpu.model.graph import ModelGraph
from simgpu.model.lengths import graph_by_length, weighted
from simgpu.plan.checks import check_fits_model, check_trains
from simgpu.plan.numerics import DTYPES, NARROW, PROJECTIONS, Numerics, adapter_targets
from simgpu.plan.parallelism import Plan
from simgpu.schema_errors import TrueFalse
from simgpu.workload.data.fields import Data
from simgpu.workload.fields import Routing, Size, Strict, check_shares
from simgpu.workload.frameworks import Framework
from simgpu.workload.training_pools import TrainingPool


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
    """Sequences of a step, of all replicas together."""
    tokens: Size
    """Tokens of a sequence."""
    mean_tokens: Annotated[float, Field(gt=0, le=2**31, allow_inf_nan=False)] | None = None
    """Mean length of the sequences, where they are shorter than `tokens`; default: all are as long."""
    lengths: Literal["padded", "packed", "ragged"] = "padded"
    """How sequences of `mean_tokens` are brought into rows: padded, each to `tokens`; packed, as many into rows of
    `tokens` as have room, masked from each other (`batch` counts rows); ragged, one after another without padding."""
    length_deviation: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    """Standard deviation of lengths over their mean; 0: all are of `mean_tokens`."""
    optimizer: Literal["adam", "muon", "momentum", "sgd", "none"] = "adam"
    """What it keeps of each weight and how much it computes: adam two states, momentum one, muon one and products."""
    master_weights: TrueFalse | None = None
    """An fp32 copy that the optimizer updates; default: where weights are of 16 bits."""
    weights: Literal["fp32", "fp16", "bf16"] | None = None
    """What weights are kept in for the kernels; default: the scenario's dtype, bf16 for fp8 and fp4."""
    sharded_copy: TrueFalse | None = None
    """With ZeRO-3, whether shards of the weights are kept beside those of the master weights; false: the master's
    alone, cast on the way to a gather (FSDP with mixed precision). Default: as the framework does."""
    gradients: Literal["fp32", "fp16", "bf16"] | None = None
    """What gradients are summed in; default: fp32 with master weights (not in DeepSpeed), else as the weights."""
    reduce: Literal["fp32", "fp16", "bf16"] | None = None
    """What gradients travel in; default: as they are summed."""
    states: Literal["fp32", "bf16"] = "fp32"
    """What the optimizer's states are kept in."""
    clip: TrueFalse = True
    """Clipping by the norm of all gradients."""
    flash: TrueFalse = True
    """Fused attention; false: scores go through memory."""
    loss_chunks: Annotated[int, Field(strict=True, gt=0, le=65536)] = 1
    """Parts of a microbatch's tokens whose head and loss run forward and backward one after another, so that the logits
    of one part are in memory at a time (ChunkedCELoss of torchtitan, Liger)."""
    mtp_layers: Annotated[int, Field(strict=True, ge=0, le=16)] = 0
    """Modules of multi-token prediction that are trained beside the model, each a layer like the last and a further
    loss (`num_nextn_predict_layers` of DeepSeek-V3, `mtp_num_layers` of Megatron-Core); 0: none."""
    use_cache: TrueFalse = False
    """Keys and values of all layers stay to the end of a step: `use_cache` of a Hugging Face model, which stays on
    where recomputation is put around its layers from outside; `gradient_checkpointing_enable` turns it off."""
    loss: Literal["plain", "compiled", "fused"] | None = None
    """How the loss runs, for memory: plain, as the framework writes it; compiled together (torch.compile, Megatron-LM's
    native fusion); fused, a kernel that makes the gradient of the 16-bit logits in their place (Transformer Engine's,
    cross entropies of Liger and flash-attn). Default: as the framework does."""
    dropout: TrueFalse | None = None
    """Whether masks of dropout are kept; default: as the framework does."""
    fp8_scaling: Literal["tensorwise", "rowwise", "delayed", "block", "mx"] | None = None
    """Scaling of matrix products in fp8 (`simgpu.plan.numerics.FP8_SCALING`); default: as the framework does."""
    finetune: Literal["full", "lora", "qlora"] = "full"
    """All weights; adapters beside frozen weights; adapters beside frozen weights of 4 bits."""
    rank: Annotated[int, Field(strict=True, gt=0, le=4096)] = 16
    """Rank of the adapters."""
    targets: tuple[str, ...] | None = None
    """Matrices that have adapters, by name; default: those of attention."""
    routing: Routing = "balanced"
    """How tokens choose experts: balanced, random, power_law_A or popularity_A."""
    train_tokens: Annotated[float, Field(gt=0, le=1e18, allow_inf_nan=False)] | None = None
    """Tokens of a whole training run, for days and GPU-hours."""
    data: Data | None = None
    """What reads and tokenises samples beside the step; default: tokens are on the GPU."""
    pools: Annotated[list[TrainingPool], Field(min_length=1, max_length=16)] | None = None
    """More GPUs, not like those of the plan, that train on a share of the batch."""

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

    @property
    def row_tokens(self) -> int:
        """Tokens of a row of the batch as it is computed: the mean length of ragged ones, else all, padded or not."""
        ragged = self.lengths == "ragged" and self.mean_tokens is not None
        return max(round(self.mean_tokens or 0), 1) if ragged else self.tokens

    def fullest_tokens(self, plan: Plan) -> int:
        """Tokens of a row for memory: of ragged ones in the microbatch that has the longest among its sequences."""
        if self.row_tokens == self.tokens:
            return self.tokens
        sequences = plan.micro_batch or max(self.batch // plan.dp, 1)
        return ceil((self.tokens + (sequences - 1) * self.row_tokens) / sequences)

    @property
    def length(self) -> float:
        """Tokens of the sequence that a token is in, on average, for attention; 0: rows are whole sequences."""
        return 0.0 if self.lengths == "padded" else self._weighted

    @property
    def _weighted(self) -> float:
        mean = self.mean_tokens
        if mean is None or (not self.length_deviation and self.lengths != "packed"):
            return 0.0
        return weighted(mean, self.length_deviation)

    @property
    def padded(self) -> bool:
        """True if rows are computed with tokens that are none."""
        return self.lengths == "padded" and self.mean_tokens is not None

    @property
    def real_tokens(self) -> float:
        """Tokens of a step without padding."""
        mean = self.tokens if self.mean_tokens is None or self.lengths == "packed" else self.mean_tokens
        return self.batch * mean

    @property
    def samples(self) -> float:
        """Sequences of a step: those in the rows of packed ones."""
        packed = self.lengths == "packed" and self.mean_tokens is not None
        return self.batch * self.tokens / (self.mean_tokens or 1.0) if packed else self.batch

    def _check_lengths(self, plan: Plan) -> None:
        """Raise `InputError` (key only) for lengths that cannot be, or that nothing was said of."""
        mean = self.mean_tokens
        if mean is None:
            for key in ("lengths", "length_deviation"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    problem = f"{shown(getattr(self, key))}: the mean length is missing; expected workload.mean_tokens"
                    raise InputError(problem, key=f"workload.{key}")
            return
        if mean > self.tokens:
            problem = f"{mean:g} is more than the {self.tokens} tokens of the longest sequence"
            raise InputError(problem, key="workload.mean_tokens")
        most = sqrt(self.tokens / mean - 1)  # as many as long as they can be, the others empty
        if self.length_deviation > most + 1e-9:
            problem = f"{self.length_deviation:g}: lengths of up to {self.tokens} with a mean of {mean:g}"
            raise InputError(f"{problem} deviate by at most {most:.3g}", key="workload.length_deviation")
        if self.lengths != "padded" and not self.flash:
            problem = f"'{self.lengths}' needs a fused kernel (flash: true); expected padded"
            raise InputError(problem, key="workload.lengths")
        if self.lengths != "padded" and plan.cp > 1:
            problem = f"'{self.lengths}' is not supported with plan.cp {plan.cp}; expected padded"
            raise InputError(problem, key="workload.lengths")

    def check(self, model: TransformerConfig | None, plan: Plan) -> TransformerConfig:
        """Return the model. Raises `InputError` (key only) where it is missing or the plan cannot split this step."""
        self._check_lengths(plan)
        config = self.with_mtp(_checked(model, self, plan))
        check_trains(plan, config, self.batch, self.row_tokens)
        if not self.flash and plan.cp > 1:
            raise InputError("attention without a fused kernel cannot be split over a sequence", key="workload.flash")
        if self.optimizer == "muon" and (plan.offload != "none" or self.finetune != "full"):
            given = f"plan.offload {plan.offload}" if plan.offload != "none" else f"finetune {self.finetune}"
            raise InputError(f"'muon' is not supported with {given}; expected adam", key="workload.optimizer")
        if self.sharded_copy is not None and (plan.zero != 3 or self.finetune != "full"):
            problem = f"{str(self.sharded_copy).lower()} is supported only with plan.zero 3 and finetune full"
            raise InputError(problem, key="workload.sharded_copy")
        if self.loss_chunks > self.row_tokens // plan.cp:
            share = self.row_tokens // plan.cp
            problem = f"{self.loss_chunks} parts are more than the {share} tokens of a sequence on a rank"
            raise InputError(problem, key="workload.loss_chunks")
        if self.optimizer == "none" and plan.offload != "none":
            raise InputError(
                f"{shown(plan.offload)}: optimizer none has no states to offload; expected none", key="plan.offload"
            )
        if self.routing != "balanced" and config.experts == 1:
            problem = f"{shown(self.routing)}: '{config.name}' has no experts; expected balanced"
            raise InputError(problem, key="workload.routing")
        check_shares(self.routing, config.experts)
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
        """The operators of the step on real tokens, without padding.

        Raises `InputError` (key only) where the plan cannot split the model.
        """
        from simgpu.model.transformer import training_graph

        config = self.with_mtp(_checked(model, self, plan))
        mean = self.tokens if self.mean_tokens is None or self.lengths == "packed" else max(round(self.mean_tokens), 1)
        whole = training_graph(config, self.batch, mean, dtype, accumulate, self.routing, self.flash)
        return graph_by_length(whole, self._weighted)


def _checked(model: TransformerConfig | None, job: Prefill | Training, plan: Plan) -> TransformerConfig:
    """Return the model. Raises `InputError` (key only) where it is missing, or cannot take the tokens or the plan."""
    if model is None:
        raise InputError(f"this key is missing; a workload of kind '{job.kind}' needs one", key="model")
    if not model.takes(job.tokens):
        problem = f"{job.tokens:,} tokens are more than the {model.max_tokens:,} learned positions of '{model.name}'"
        raise InputError(problem, key="workload.tokens")
    check_fits_model(plan, model, job.batch, job.tokens)
    return model
