"""Checks that a plan fits a cluster, a model and a job; an error names the key to change."""

from __future__ import annotations

from simgpu.errors import InputError, shown
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig, feed_of
from simgpu.plan.parallelism import Plan
from simgpu.plan.schedule import check
from simgpu.plan.stages import layer_ranges

SERVING_DISPATCHERS = ("alltoall", "deepep")
"""What brings rows to experts of other replicas in inference: NCCL, or DeepEP (normal kernels for prompts, those of low
latency for decodes)."""
PLAN_KEYS = ("tp", "pp", "dp", "ep", "cp", "context", "order", "dispatcher", "redundant_experts")
"""Keys of a plan that inference supports."""

MOST_RANKS = 131_072
"""Ranks that are simulated at most: some ten seconds."""

MOST_IN_GROUP = 8192
"""Ranks that reduce gradients together at most: every one has its flows."""


def check_simulated(plan: Plan) -> None:
    """Raise `InputError` (key only) if a plan has more ranks than are simulated in some seconds."""
    if plan.world > MOST_RANKS:
        raise InputError(f"{plan.world:,} ranks are too many to simulate; expected at most {MOST_RANKS:,}", key="plan")
    if plan.dp * plan.cp > MOST_IN_GROUP:
        problem = f"{plan.dp * plan.cp:,} ranks (dp x cp) are too many in one collective"
        raise InputError(f"{problem}; expected at most {MOST_IN_GROUP:,}", key="plan.dp")


def check_fits_cluster(plan: Plan, cluster: Cluster) -> None:
    """Raise `InputError` (key only) if the plan has more ranks than the cluster has GPUs."""
    if plan.world > cluster.gpu_count:
        names = [name for name in ("tp", "cp", "pp", "dp") if name in ("tp", "dp") or getattr(plan, name) > 1]
        degrees = f"{' x '.join(f'{name} {getattr(plan, name)}' for name in names)} = {plan.world} ranks"
        raise InputError(f"{degrees}, but '{cluster.name}' has {cluster.gpu_count} GPUs", key="plan")


def check_fits_model(plan: Plan, config: TransformerConfig, batch: int, tokens: int) -> None:
    """Raise `InputError` (key only) if the plan cannot split the model."""
    tp = plan.tp
    if plan.redundant_experts is not None:
        problem = f"{plan.redundant_experts}: copies of experts are supported for inference only; leave it out"
        raise InputError(problem, key="plan.redundant_experts")
    _check_states(plan, config)
    if config.heads % tp or not splits_kv(config, tp):
        good = ", ".join(str(n) for n in range(1, 129) if config.heads % n == 0 and splits_kv(config, n))
        heads = f"the {config.heads} attention heads"
        if config.heads % tp == 0:
            heads = f"the {config.kv_heads} key-value heads, nor is it a multiple of them,"
        raise InputError(f"{tp} does not divide {heads} of '{config.name}'; expected one of {good}", key="plan.tp")
    widths = dense_widths(config, bool(config.experts == 1 or config.dense_layers))
    widths |= {config.expert_width} if config.experts > 1 and not plan.whole_experts else set()
    for width in widths:
        if width % tp:
            raise InputError(f"{tp} does not divide the feed-forward width {width}", key="plan.tp")
    if batch % plan.dp:
        raise InputError(f"{plan.dp} does not divide the batch of {batch} sequences", key="plan.dp")
    if plan.sequence_parallel and tokens % tp:
        raise InputError(f"sequence parallelism over {tp} ranks does not divide {tokens} tokens", key="workload.tokens")


def _check_experts(plan: Plan, config: TransformerConfig) -> None:
    """Raise `InputError` (key only) if experts cannot be split over the ranks of a stage this way."""
    if plan.expert_ranks % plan.ep:
        names = "tp x dp x cp" if plan.whole_experts else "dp x cp"
        more = "" if plan.whole_experts or plan.tp == 1 or plan.expert_ranks * plan.tp % plan.ep else (
            "; with plan.expert_tp 1 experts go over tp too"
        )  # fmt: skip
        raise InputError(f"{plan.ep} does not divide {names} = {plan.expert_ranks}{more}", key="plan.ep")
    if plan.whole_experts and config.experts > 1 and not plan.sequence_parallel:
        problem = "1: ranks of a tensor group send rows of their own; expected plan.sequence_parallel true"
        raise InputError(problem, key="plan.expert_tp")


def check_trains(plan: Plan, config: TransformerConfig, batch: int, tokens: int) -> None:
    """Raise `InputError` (key only) if a training step cannot be split this way."""
    _check_experts(plan, config)
    local = batch // plan.dp
    micro = plan.micro_batch or local
    if local % micro:
        problem = f"{micro} does not divide the {local} sequences of a replica (batch {batch} / dp {plan.dp})"
        raise InputError(problem, key="plan.micro_batch")
    if plan.pp > 1:
        check(plan.pipeline, plan.pp, local // micro, plan.vp)
    held = max(sum(len(chunk) for chunk in stage) for stage in layer_ranges(config.layers, plan))
    if plan.recompute_layers is not None and plan.recompute_layers > held:
        problem = f"{plan.recompute_layers} is more than the {held} layers of a stage"
        raise InputError(problem, key="plan.recompute_layers")
    if plan.offload_layers is not None and plan.offload_layers > held:
        problem = f"{plan.offload_layers} is more than the {held} layers of a stage"
        raise InputError(problem, key="plan.offload_layers")
    if plan.async_tp and plan.tp > 1 and not plan.sequence_parallel:
        problem = "splits the collectives of sequence parallelism; expected plan.sequence_parallel true"
        raise InputError(problem, key="plan.async_tp")
    split = plan.cp * (2 if plan.cp > 1 else 1) * (plan.tp if plan.sequence_parallel else 1)
    if plan.cp > 1 and tokens % split:
        raise InputError(f"{plan.cp} ranks with two chunks each do not divide {tokens} tokens", key="plan.cp")
    if plan.cp > 1 and plan.context == "all_to_all" and config.heads % (plan.tp * plan.cp):
        problem = f"all_to_all over {plan.cp} ranks does not divide the {config.heads // plan.tp} heads of a rank"
        raise InputError(problem, key="plan.context")
    if plan.ep > 1 and config.experts == 1:
        raise InputError(f"{plan.ep}: '{config.name}' has no experts; expected 1", key="plan.ep")
    if plan.ep > config.experts:
        raise InputError(f"{plan.ep} is more than the {config.experts} experts of '{config.name}'", key="plan.ep")
    if config.experts % plan.ep:
        raise InputError(f"{plan.ep} does not divide the {config.experts} experts of '{config.name}'", key="plan.ep")
    if plan.recompute_layers is not None and plan.recompute != "full":
        problem = f"{plan.recompute_layers} layers are recomputed only with plan.recompute full, not {plan.recompute}"
        raise InputError(problem, key="plan.recompute_layers")


def splits_kv(config: TransformerConfig, tp: int) -> bool:
    """True if `tp` ranks share or repeat the key-value heads of every kind of layer."""
    shapes = {config.of(kind).kv_heads for kind, _ in config.layer_kinds()} if config.runs else {config.kv_heads}
    return all(heads % tp == 0 or tp % heads == 0 for heads in shapes)


def dense_widths(config: TransformerConfig, some: bool) -> set[int]:
    """Widths of dense feed-forwards, of `some` layers where all are alike."""
    if config.runs:
        return {config.of(kind).ffn for kind, _ in config.layer_kinds() if feed_of(kind) == "dense"}
    return {config.ffn} if some else set()


def _check_states(plan: Plan, config: TransformerConfig, key: str = "") -> None:
    """Raise `InputError` (key only) if layers with a state, or sparse attention, cannot be split this way."""
    if config.state is not None and config.state.heads % plan.tp:
        good = ", ".join(str(n) for n in range(1, 129) if config.state.heads % n == 0)
        problem = f"{plan.tp} does not divide the {config.state.heads} heads of the states of '{config.name}'"
        problem += f"; expected one of {good}"
        raise InputError(problem, key=key or "plan.tp")
    if plan.cp > 1 and (config.state is not None or config.index_heads):
        what = "a state from chunk to chunk" if config.state is not None else "an indexer over all keys"
        raise InputError(f"{plan.cp}: '{config.name}' has {what}, which cannot be shared; expected 1", key="plan.cp")


def _check_dispatcher(plan: Plan) -> None:
    """Raise `InputError` where inference has no such dispatcher, or nothing to dispatch."""
    if plan.dispatcher is None:
        return
    told = shown(plan.dispatcher)
    if plan.dispatcher not in SERVING_DISPATCHERS:
        problem = f"{told} is supported for training only; expected {' or '.join(SERVING_DISPATCHERS)}"
        raise InputError(problem, key="plan.dispatcher")
    if plan.ep <= plan.tp:
        problem = f"{told}: no rows travel where ranks of one replica share the experts; expected plan.ep above plan.tp"
        raise InputError(problem, key="plan.dispatcher")


def check_serves(plan: Plan, config: TransformerConfig, key: str = "") -> None:
    """Raise `InputError` (key only) where a plan cannot split the model for inference."""
    plain = Plan()
    for name in vars(plain):
        if name not in PLAN_KEYS and getattr(plan, name) != getattr(plain, name):
            problem = f"{shown(getattr(plan, name))} is supported for training only; leave it out"
            raise InputError(problem, key=f"plan.{name}")
    if plan.context == "all_to_all":
        raise InputError("all_to_all is supported for training only; expected ring or all_gather", key="plan.context")
    tp, ep = plan.tp, plan.ep
    _check_dispatcher(plan)
    _check_states(plan, config, key)
    if config.heads % tp or not splits_kv(config, tp):
        good = [n for n in range(1, 129) if not config.heads % n and splits_kv(config, n)]
        problem = f"{tp} does not divide the {config.heads} attention heads of '{config.name}'"
        raise InputError(f"{problem}; expected one of {', '.join(map(str, good))}", key=key or "plan.tp")
    for width in dense_widths(config, bool(config.experts == 1 or config.dense_layers or config.moe_every > 1)):
        if width % tp:
            raise InputError(f"{tp} does not divide the feed-forward width {width}", key=key or "plan.tp")
    if ep > 1 and config.experts == 1:
        raise InputError(f"{ep}: '{config.name}' has no experts; expected 1", key=key or "plan.ep")
    copies = plan.redundant_experts or 0
    if copies and ep == 1:
        problem = f"{copies} copies of experts are of no use on one rank; expected plan.ep above 1"
        raise InputError(problem, key=key or "plan.redundant_experts")
    if (config.experts + copies) % ep:
        problem = f"{ep} does not divide the {config.experts} experts of '{config.name}'"
        more = f" and their {copies} copies; expected {-config.experts % ep or ep}, or {ep} more" if copies else ""
        raise InputError(problem + more, key=key or ("plan.redundant_experts" if copies else "plan.ep"))
    if (ep <= tp and tp % ep) or (ep > tp and (ep % tp or plan.dp % (ep // tp))):
        problem = f"{ep} shares the experts neither within tp = {tp} ranks nor over whole replicas (dp = {plan.dp})"
        raise InputError(problem, key=key or "plan.ep")
    width = tp // ep if ep <= tp else 1
    if config.experts > 1 and config.expert_width % width:
        problem = f"{width} ranks (tp / ep) do not divide the width {config.expert_width} of an expert"
        raise InputError(problem, key=key or "plan.tp")
