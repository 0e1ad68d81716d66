"""From what a user asks to a deployment: defaults filled in, and everything checked that could not be served."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import ceil

from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import ACCUMULATE
from simgpu.model.patterns import one_more
from simgpu.model.quantised import FURTHER
from simgpu.plan.checks import check_serves
from simgpu.plan.numerics import adapter_targets
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import PRECISIONS, Precision, as_published, is_gguf, precision_of
from simgpu.timing.kernels import KernelModel
from simgpu.workload.fields import check_shares
from simgpu.workload.inference.adapters import TARGETS, Adapters
from simgpu.workload.inference.deployment import ROUTING, Deployment
from simgpu.workload.inference.jobs import Inference, InferenceJob, MixedStep, Serving, Speculative
from simgpu.workload.inference.speculation import ACCEPTED, BY_TASK, MTP, Speculation
from simgpu.workload.options import PLAIN, RunOptions
from simgpu.workload.runtime_files import shipped
from simgpu.workload.runtimes import Runtime

ACTIVATIONS = ("fp32", "fp16", "bf16")
"""Types of activations between products."""


def deploy(
    cluster: Cluster, job: InferenceJob, model: TransformerConfig | None, plan: Plan, run: Runtime,
    how: RunOptions = PLAIN,
) -> Deployment:  # fmt: skip
    """The deployment that a job asks for; `run` is its runtime. Raises `InputError` (key only) for what cannot be."""
    config = _model(job, model)
    run = on_machine(run, cluster)
    check_serves(plan, config)
    dtype = how.dtype
    wide = dtype if dtype in ACTIVATIONS else "bf16"
    named = job.precision or own_precision(config, dtype, run)
    precision = as_published(chosen_precision(named, dtype, run), config)
    if is_gguf(precision) and wide == "bf16":  # llama.cpp keeps activations in fp32 and multiplies in fp16
        wide = "fp16"
    sums = how.accumulate or ACCUMULATE[wide]
    timer = KernelModel(cluster, sustained=how.sustained(job))
    timer.peak(wide, sums)
    precision = _on_this_gpu(precision, timer, run, cluster.gpu.name, "workload.precision" if named else "dtype")
    if job.routing is not None and config.experts == 1:
        problem = f"{shown(job.routing)}: '{config.name}' has no experts; leave it out"
        raise InputError(problem, key="workload.routing")
    check_shares(job.routing, config.experts)
    if job.offload and cluster.gpu.vendor == "Apple":
        problem = f"{job.offload:g}: '{cluster.gpu.name}' has no memory apart from the host's; leave it out"
        raise InputError(problem, key="workload.offload")
    routing = job.routing or ROUTING
    limit = 0 if isinstance(job, MixedStep) else job.chunk or 0
    if isinstance(job, Inference) and job.sequences and -(-job.batch // plan.dp) > job.sequences:
        problem = f"{job.sequences} at a time are fewer than the {-(-job.batch // plan.dp)} of a replica's batch"
        raise InputError(problem, key="workload.sequences")
    cache = job.kv_cache or own_cache(config, named, run)
    made = Deployment(
        config, cluster, plan, precision, run, wide, cache, sums, routing, how.sustained(job), how.algorithm,
        how.protocol, job.offload, limit, job.sequences or 0, job.memory_share,
        sees=getattr(job, "images", None) is not None, adapters=_adapters(job, config, run),
    )  # fmt: skip
    _check_slots(job, made)
    return made.shared()


def _adapters(job: InferenceJob, config: TransformerConfig, run: Runtime) -> Adapters | None:
    """The adapters that a job asks for. Raises `InputError` for what an engine does not have."""
    asked = job.lora
    if asked is None or not asked.rank:
        return None
    if run.style != "fused":
        problem = f"{run.name} has no slots of adapters here; expected vllm, sglang or trtllm"
        raise InputError(problem, key="workload.runtime")
    known = adapter_targets(config)
    for place, name in enumerate(asked.targets or ()):
        if name not in known:
            problem = f"{shown(name)} is no matrix of '{config.name}'; expected some of {_listed(known)}"
            raise InputError(f"{problem}{nearest(name, known)}", key=f"workload.lora.targets.{place}")
    targets = tuple(asked.targets) if asked.targets else TARGETS
    return Adapters(asked.max_rank or asked.rank, asked.max_loras, asked.adapters, asked.rank, asked.exponent, targets)


def _check_slots(job: InferenceJob, made: Deployment) -> None:
    """Raise `InputError` for a batch, or a step, that names more adapters than there are slots."""
    adapters = made.adapters
    if adapters is None or job.lora is None:
        return
    if isinstance(job, Serving):
        most = ceil((job.concurrency or 1) / made.plan.dp)
    else:
        most = ceil(job.batch / made.plan.dp) if isinstance(job, Inference) else job.decodes + (job.prefill > 0)
    named = round(adapters.distinct(most))
    if named > adapters.slots:
        problem = f"{most} requests at a time name {named} of {adapters.count} adapters"
        raise InputError(
            f"{problem}, and a step has at most {adapters.slots}; expected max_loras {named}, or kind traffic, where"
            " requests wait for a slot",
            key="workload.lora.max_loras",
        )


HOST_TIMES = ("step_s", "sequence_s", "prompt_s", "between_s", "hop_s", "launch_s")
"""Fields of a runtime that are time of the host."""


def on_machine(run: Runtime, cluster: Cluster) -> Runtime:
    """A runtime with the times of host and front end that its user's logs say of this machine."""
    host, front = (cluster.kernel.stretch(run.engine, part) for part in ("host", "front"))
    if host == front == 1:
        return run
    times = {name: host * getattr(run, name) for name in HOST_TIMES}
    return replace(run, first_s=front * run.first_s, **times)


def own_precision(config: TransformerConfig, dtype: str, run: Runtime) -> str | None:
    """The precision that a checkpoint is stored in, where the runtime reads such files; None without one."""
    return config.published or None if dtype in ACTIVATIONS and not run.precisions else None


def own_cache(config: TransformerConfig, named: str | None, run: Runtime) -> str:
    """The type of the cache that a checkpoint is made for, where it is served in its own precision; '': none named."""
    return config.published_kv if named == config.published and not run.precisions else ""


def chosen_precision(name: str | None, dtype: str, run: Runtime) -> Precision:
    """The precision by name, or that of the scenario's dtype, if the runtime has it."""
    if name is not None and dtype not in ACTIVATIONS:
        problem = (
            f"{shown(dtype)} is the type of activations beside workload.precision; expected {_listed(ACTIVATIONS)}"
        )
        raise InputError(problem, key="dtype")
    if name is None and dtype not in PRECISIONS:
        raise InputError(f"{shown(dtype)} is not served in; expected one of {_listed(PRECISIONS)}", key="dtype")
    precision = run.precision(precision_of(name or dtype))
    key = "workload.precision" if name is not None else "dtype"
    if run.takes(precision):
        return precision
    if run.precisions == "gguf":
        raise InputError(_not_in_blocks(precision.name, run), key=key)
    if is_gguf(precision):
        raise InputError(f"{shown(precision.name)} is a GGUF type; expected workload.runtime llama.cpp", key=key)
    good = [name for name, one in PRECISIONS.items() if run.takes(one)]
    raise InputError(f"{shown(precision.name)} is not in {run.name}; expected one of {_listed(good)}", key=key)


def _not_in_blocks(name: str, run: Runtime) -> str:
    """Why a runtime of GGUF files does not have a precision: no version has, or this one has not yet."""
    known = shipped()
    versions = known.versions(run.engine) if run.engine in known.engines else ()
    later = [one.name for one in versions if name in one.block_formats]
    good = [one for one in PRECISIONS if is_gguf(run.precision(PRECISIONS[one]))]
    if later:
        return f"{shown(name)} is not in {run.name} ({run.version}); expected workload.runtime {later[0]} or later"
    return f"{shown(name)} is no GGUF type; {run.name} runs fp16 and {_listed(good)}"


def _on_this_gpu(precision: Precision, timer: KernelModel, run: Runtime, gpu: str, key: str) -> Precision:
    """The precision as the GPU runs it: narrow products, or weights that are converted on the way."""
    if not precision.products:
        return precision
    try:
        timer.peak(precision.products)
    except InputError:
        if not run.converts:
            problem = f"{shown(precision.name)}: '{gpu}' has no {precision.products} units, and {run.name} does not"
            raise InputError(f"{problem} convert such weights; expected bf16, int4 or vllm", key=key) from None
        return replace(precision, converted=True)
    return precision


def speculation_of(
    target: Deployment, asked: Speculative | None, draft: TransformerConfig | None, tokens: int = 0
) -> Speculation | None:
    """Speculative decoding as asked, up to a context of `tokens`; `draft` is the model of that name."""
    if asked is None:
        return None
    accepted = _acceptance(asked)
    if asked.draft == MTP:
        if asked.precision is not None:
            raise InputError(
                f"{shown(asked.precision)}: a layer of the model has its precision; leave it out",
                key="workload.speculative.precision",
            )
        layer = one_more(target.config)
        wide = (
            target.dtype
            if FURTHER in target.config.published_wide and target.precision.name == layer.published
            else None
        )
        return Speculation(asked.tokens, accepted, _drafter(target, layer, wide, part=True))
    if draft is None:
        problem = f"{shown(asked.draft)}: the model itself is needed: simulate(..., draft=load_model({asked.draft!r}))"
        raise InputError(problem, key="workload.speculative.draft")
    if draft.parameters >= target.config.parameters:
        problem = f"'{draft.name}' ({draft.parameters / 1e9:.3g}B) is not smaller than '{target.config.name}'"
        problem += f" ({target.config.parameters / 1e9:.3g}B)"
        raise InputError(problem, key="workload.speculative.draft")
    if draft.vocab != target.config.vocab:
        problem = f"'{draft.name}' has {draft.vocab:,} tokens in its vocabulary, '{target.config.name}'"
        raise InputError(
            f"{problem} {target.config.vocab:,}; guesses must be its tokens", key="workload.speculative.draft"
        )
    if not draft.takes(tokens):
        problem = f"'{draft.name}' has {draft.max_tokens:,} learned positions, the context is {tokens:,} tokens"
        raise InputError(problem, key="workload.speculative.draft")
    waits = not target.runtime.overlaps_drafts
    return Speculation(asked.tokens, accepted, _drafter(target, draft, asked.precision), waits)


def _acceptance(asked: Speculative) -> float | tuple[float, ...]:
    """How often guesses are accepted, as asked or as measured of such drafts."""
    usual = ACCEPTED.get(asked.draft, BY_TASK[asked.task or "code"])
    given = usual if asked.acceptance is None else asked.acceptance
    if isinstance(given, float):
        return given
    key = "workload.speculative.acceptance"
    if asked.acceptance is not None and len(given) < asked.tokens:
        problem = f"{len(given)} places, and {asked.tokens} tokens are guessed; expected a rate for each"
        raise InputError(problem, key=key)
    rising = next((i for i, (one, later) in enumerate(pairwise(given), 2) if later > one), 0)
    if rising:
        problem = (
            f"{given[rising - 1]:g} at place {rising} is more than {given[rising - 2]:g} before it; expected rates"
        )
        raise InputError(f"{problem} of all drafts, as vLLM logs them by position", key=key)
    return tuple(given)


def _drafter(target: Deployment, config: TransformerConfig, name: str | None, part: bool = False) -> Deployment:
    """The draft on the GPUs of its model; `part` of it, or a model of its own."""
    key, precision = "workload.speculative.precision", target.precision
    if name is not None:
        try:
            precision = chosen_precision(name, target.dtype, target.runtime)
        except InputError as error:
            raise InputError(error.problem, key=key) from None
        precision = _on_this_gpu(precision, target.kernels, target.runtime, target.cluster.gpu.name, key)
    plan = replace(target.plan, pp=1, dp=target.plan.dp, ep=min(target.plan.ep, config.experts))
    check_serves(plan, config, "workload.speculative.draft")
    return replace(target.fresh(), config=config, plan=plan, precision=precision, offloaded=0.0, part=part)


def _model(job: InferenceJob, model: TransformerConfig | None) -> TransformerConfig:
    """The model, if it can hold the tokens."""
    if model is None:
        raise InputError(f"this key is missing; a workload of kind '{job.kind}' needs one", key="model")
    if isinstance(job, MixedStep):
        if job.prefill + job.decodes == 0:
            raise InputError("0, and no decodes either; a step needs some tokens", key="workload.prefill")
        if job.past and not job.prefill:
            raise InputError(f"{job.past}: cached tokens of a prompt of which none are new", key="workload.past")
        longest = {"workload.past": job.past + job.prefill, "workload.context": job.context if job.decodes else 0}
    else:
        longest = {"workload.prompt": job.prompt, "workload.output": job.prompt + job.output}
    for key, tokens in longest.items():
        if not model.takes(tokens):
            total = "a context of " if key != "workload.prompt" else ""
            problem = f"{total}{tokens:,} tokens is more than the {model.max_tokens:,} learned positions of"
            raise InputError(f"{problem} '{model.name}'", key=key)
    if not model.causal and (isinstance(job, MixedStep) or job.output > 1):
        raise InputError(f"'{model.name}' sees both ways and generates nothing; expected 1", key="workload.output")
    if isinstance(job, Inference) and job.speculative and job.output < 2:
        raise InputError(f"{job.output}: with one token there is nothing to speculate on", key="workload.output")
    return model


def _listed(names: object) -> str:
    return ", ".join(map(str, names))  # type: ignore[call-overload]
