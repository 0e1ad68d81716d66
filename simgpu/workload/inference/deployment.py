"""A model deployed: its weights in a precision, split by a plan, run by a runtime. What one step of it takes.

A step is blocks (embedding, layers, head), each run on the engine once for every kind of layer that differs; equal
layers share theirs, and equal steps too. Ranks of a stage are alike, one stands for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.inherit import DEFAULT
from simgpu.hardware.machine import machine_of
from simgpu.memo import Region, content, key_of
from simgpu.model.config import TransformerConfig
from simgpu.model.networks.vision import tower_parameters
from simgpu.model.operators import BYTES, Attention, Dim, Matmul, Operator, Pointwise, Scan
from simgpu.model.serving import (
    FEW_QUERIES,
    ExpertSplit,
    Group,
    is_decode,
    separated,
    serving_embedding,
    serving_head,
    serving_layer,
    tokens_of,
)
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import Precision, applied, is_boosted
from simgpu.plan.program import Collective, Step, shard_operators
from simgpu.plan.serving_memory import Served, experts_of, serving_memory
from simgpu.plan.stages import spread_layers
from simgpu.timing.gemm_libraries import GGML
from simgpu.timing.kernels import KernelModel
from simgpu.workload.blocks import Block, BlockCounts, run_block
from simgpu.workload.inference.adapters import ADAPTER_BYTES, Adapters, alone
from simgpu.workload.inference.direct import DEEPEP, directly, lanes_of
from simgpu.workload.inference.lowering import INSIDE, INTEGERS, UNPACKED, kernels_of
from simgpu.workload.links import Links
from simgpu.workload.runtimes import Runtime

Groups = tuple[Group, ...]

ROUTING = "popularity_3"
"""How unevenly tokens of served experts are dealt, unless said otherwise: almost evenly. Mixtral 8x7B reads all of its
experts from 20 sequences on (vLLM 0.15.1 on two H100 under open load: 18.0 ms at 23 sequences, 20.4 ms at 103), and
MiniMax-M2, gpt-oss-120b and Qwen3-235B in vLLM and SGLang agree; TensorRT-LLM's rows would have it less even
(docs/inference.md)."""


@dataclass(frozen=True)
class StepTime:
    """One step of an engine. `stages` hold the blocks of each pipeline stage and how often they run.

    `send` is the time of activations from one stage to the next, `host` what the GPU waits for the host, `copies` that
    of weights out of the host's memory to each stage, s. `each_sequence` is the part of `host` that grows with the
    sequences: sampling and bookkeeping, in which the GPU works on small kernels. Boards that serve many sequences draw
    their limit in steps of which it is a third.
    """

    groups: Groups
    stages: tuple[BlockCounts, ...]
    send: float
    host: float
    copies: tuple[float, ...] = ()
    each_sequence: float = 0.0

    @cached_property
    def each(self) -> tuple[float, ...]:
        """Seconds of each stage."""
        copies = self.copies or (0.0,) * len(self.stages)
        times = (sum(block.seconds * count for block, count in made) for made in self.stages)
        return tuple(seconds + copy for seconds, copy in zip(times, copies, strict=True))

    @property
    def seconds(self) -> float:
        """Seconds from its start to its last token, through all stages."""
        return sum(self.each) + self.send * (len(self.stages) - 1) + self.host

    @property
    def sequences(self) -> int:
        """Sequences that it brings forward."""
        return sum(group.count for group in self.groups)

    @cached_property
    def kernels(self) -> tuple[int, ...]:
        """Kernels of each stage."""
        return tuple(sum(block.kernels * count for block, count in made) for made in self.stages)

    def slowed(self, factor: float) -> StepTime:
        """The step with kernels and collectives longer by a factor."""
        stages = tuple(tuple((block.slowed(factor), count) for block, count in made) for made in self.stages)
        return replace(self, stages=stages)

    def scaled(self, factor: float) -> StepTime:
        """The step with all of its times longer by a factor."""
        copies = tuple(factor * seconds for seconds in self.copies)
        host, each = factor * self.host, factor * self.each_sequence
        return replace(self.slowed(factor), send=factor * self.send, host=host, copies=copies, each_sequence=each)

    @property
    def slowest(self) -> float:
        """Seconds between steps that follow each other through the pipeline."""
        return max(self.each) + (self.send if len(self.stages) > 1 else 0.0)


REMEMBERED = 500
"""Steps of a deployment that are remembered, and blocks of them: some 20 kB each."""

DEPLOYMENTS = 32
"""Deployments on a cluster whose steps are remembered."""


@dataclass
class Deployment:
    """A model on a cluster."""

    config: TransformerConfig
    cluster: Cluster
    plan: Plan
    precision: Precision
    runtime: Runtime
    dtype: str = "bf16"
    kv_dtype: str = ""
    accumulate: str = "fp32"
    routing: str = ROUTING
    sustained: bool = False
    algorithm: str = "auto"
    protocol: str = "auto"
    offloaded: float = 0.0
    limit: int = 0  # new tokens of a step at most; 0: as the runtime has it
    sequences: int = 0  # requests at a time at most, of a replica; 0: as the runtime has it
    memory_share: float | None = None  # that the engine takes; None: as the runtime has it
    drafter: Served | None = None  # held beside the model, for which it guesses
    part: bool = False  # a layer of a model whose embedding and head it shares
    sees: bool = False  # prompts hold images: the vision tower is loaded too
    adapters: Adapters | None = None  # of low rank, that requests name
    adapted: bool = True  # whether steps have their kernels; their memory is taken all the same
    _steps: Region[Groups, StepTime] = field(default_factory=lambda: Region(REMEMBERED), repr=False, compare=False)
    _blocks: Region[tuple[Any, ...], Block] = field(
        default_factory=lambda: Region(REMEMBERED), repr=False, compare=False
    )

    @cached_property
    def kernels(self) -> KernelModel:
        """Kernels of the runtime on this GPU."""
        run, precision = self.runtime, self.precision
        gpu = self.cluster.gpu
        experts = run.experts_of(precision, gpu, self.dtype) or DEFAULT
        return KernelModel(
            self.cluster, self.sustained, run.attention or DEFAULT, run.products_of(precision, gpu) or DEFAULT,
            stream_slowdown=run.stream_slowdown, vectors=run.vectors, experts=experts, scan=run.scan or DEFAULT,
            sparse=run.sparse or DEFAULT, quantised=run.quantises_after(precision),
            few_rows=run.few_rows if self._graphs else GGML, stack=run.engine,
        )  # fmt: skip

    @property
    def _graphs(self) -> bool:
        """Whether decode replays as a CUDA graph, of which other vendors' GPUs have none."""
        return self.runtime.graphs and self.cluster.gpu.vendor == "NVIDIA"

    @cached_property
    def links(self) -> Links:
        """Links between its ranks."""
        run = self.runtime
        return Links(
            self.cluster, self.plan, self.kernels, self.algorithm, self.protocol, custom=run.custom_reduce,
            custom_limits=run.custom_limits,
        )  # fmt: skip

    @cached_property
    def experts(self) -> ExpertSplit:
        """The ways that experts are shared: over ranks of a tensor-parallel group, then over replicas too."""
        return experts_of(self.config, self.plan)

    @cached_property
    def stages(self) -> tuple[range, ...]:
        """Layers of each pipeline stage."""
        return spread_layers(self.config.layers, self.plan.pp)

    @cached_property
    def served(self) -> Served:
        """The inputs that its memory depends on."""
        run = self.runtime
        score = run.score_bytes if run.style == "ggml" or BYTES[self.dtype] > 2 else 0.0
        every = self._every_logit or run.holds_logits
        reserve = run.set_aside(self.memory_share, score, every, self.cluster.gpu, self.seats)
        return Served(
            self.config, self.plan, self.precision, self.dtype, self.kv_dtype, self.chunk, reserve, self.offloaded,
            run.style == "ggml", run.narrower, self.drafter, self.part, self._tower_bytes, self.slot_bytes,
        )  # fmt: skip

    @cached_property
    def slot_bytes(self) -> float:
        """Bytes of the slots of adapters on a rank, of the stage that has most."""
        return self.adapters.slots * self.adapter_bytes(self.adapters.rank) if self.adapters else 0.0

    def adapter_bytes(self, rank: int) -> float:
        """Bytes of an adapter of a rank on each GPU, of the stage that has most."""
        held = [sum(self.adapters.numbers(steps, rank) * count for steps, count in stage)
                for stage in self._adapted_layers(1)] if self.adapters else [0.0]  # fmt: skip
        return ADAPTER_BYTES * max(held)

    @property
    def adapter_matrices(self) -> int:
        """Matrices of the layers that have adapters."""
        adapters = self.adapters
        return sum(count for stage in self._adapted_layers(1) for steps, count in stage for one in steps
                   if adapters is not None and isinstance(one, Matmul) and one.name in adapters.targets)  # fmt: skip

    def adapters_s(self, tokens: int, distinct: int) -> float:
        """Seconds of the kernels of adapters in a step of so many tokens, which name so many different ones."""
        if self.adapters is None:
            return 0.0
        each = self._adapted_layers(tokens)
        made = [(alone(steps, self.adapters, distinct), count) for stage in each for steps, count in stage]
        return sum(run_block("adapters", one, self.kernels, self.links).seconds * count for one, count in made)

    def _adapted_layers(self, tokens: int) -> list[list[tuple[list[Step], int]]]:
        """Steps of the layers of each stage with so many tokens, and how many layers are alike."""
        found = []
        for layers in self.stages:
            counts = Counter(self._kinds[layer] for layer in layers)
            groups = (Group(tokens, 1, 2),)
            found.append([(list(shard_operators(self._operators(kind, groups), self._inner)), count)
                          for kind, count in counts.items()])  # fmt: skip
        return found

    @property
    def _tower_bytes(self) -> float:
        """Bytes of the vision tower, in 16 bits, where there are images."""
        tower = self.config.vision
        return 2.0 * tower_parameters(tower) if self.sees and tower is not None else 0.0

    @property
    def _every_logit(self) -> bool:
        """Whether a step makes logits of all its tokens, as PyTorch's encoders always do."""
        return self.runtime.style == "eager" and (self.runtime.every_logit or not self.config.causal)

    @property
    def chunk(self) -> int:
        """New tokens of a step at most."""
        return self.limit or self.runtime.chunk(self.cluster.gpu)

    @property
    def seats(self) -> int:
        """Requests at a time at most, of a replica; 0: as many as its cache holds."""
        return self.sequences or self.runtime.seats(self.cluster.gpu)

    def step(self, *groups: Group) -> StepTime:
        """The time of a step with these groups of sequences."""
        known = tuple(group for group in groups if group.count)
        found = self._steps.get(known)
        if found is None:
            found = self._steps[known] = self._step(known)
        return found

    def shared(self) -> Deployment:
        """The same, with the steps that deployments like it on this cluster have worked out."""
        if self.drafter is not None:
            return self
        known = machine_of(self.cluster).memo.region("deployments", DEPLOYMENTS)
        precision, runtime = content(self.precision), content(self.runtime)
        key = key_of(self, ("cluster", "drafter"), precision=precision, runtime=runtime)
        found: Deployment = known.known(key, self.fresh)
        return found

    def fresh(self) -> Deployment:
        """The same, with nothing worked out."""
        return replace(self, _steps=Region(REMEMBERED), _blocks=Region(REMEMBERED))

    def decode(self, batch: int, context: int) -> StepTime:
        """One new token for each of `batch` sequences that then hold `context` tokens."""
        return self.step(Group(batch, 1, max(context, 2)))

    # ---- steps ---------------------------------------------------------------------------------------

    def _step(self, groups: Groups) -> StepTime:
        stages = []
        for s, layers in enumerate(self.stages):
            counts: dict[tuple[str, bool], int] = {}
            for layer in layers:
                key = (self._kinds[layer], is_boosted(self.precision, layer, self.config.layers))
                counts[key] = counts.get(key, 0) + 1
            made = [(self._block("embedding", groups), 1)] if s == 0 else []
            made += [(self._block(kind, groups, more), count) for (kind, more), count in counts.items()]
            made += [(self._block("head", groups), 1)] if s == len(self.stages) - 1 else []
            stages.append(tuple(made))
        send = 0.0
        if self.plan.pp > 1:
            size = tokens_of(groups) * self.config.hidden * max(BYTES[self.dtype], 2.0) / self.plan.cp
            send = self.links.inner("send_recv", "pp", size).seconds
        step = StepTime(groups, tuple(stages), send, 0.0, self._copies)
        host = self.host(step)
        return replace(step, host=host, each_sequence=min(host, self.runtime.sequence_s * step.sequences))

    def host(self, step: StepTime, waits: bool = False) -> float:
        """Seconds that the GPU waits for the host in a step, or would if the host did not work ahead (`waits`)."""
        run, groups = self.runtime, step.groups
        prompts = sum(group.count for group in groups if group.queries > FEW_QUERIES)
        host = run.step_s + run.sequence_s * step.sequences + run.prompt_s * prompts
        if self.plan.pp > 1:
            host += run.hop_s * self.plan.pp
        elif run.overlaps_host and not waits:  # it prepares the next step meanwhile
            host = max(host - step.slowest, 0.0)
        return host + run.between_s

    @cached_property
    def _copies(self) -> tuple[float, ...]:
        """Seconds of each stage's weights that stay in host memory to cross the host link.

        They cross once a step, beside nothing. The GPUs of a socket share its memory.
        """
        if not self.offloaded:
            return ()
        node, port = self.cluster.node, self.cluster.gpu.host_link
        rate = port.bandwidth.si if port.bandwidth else self.cluster.links[port.link].lane_bandwidth.si * port.lanes.si
        memory = sum(socket.memory_bandwidth.si * socket.count for socket in node.sockets)
        shared = memory / min(self.plan.world, self.cluster.gpus_per_node)
        kept = [memory.host for memory in serving_memory(self.served, 1, 2, 0.0)]
        copies = self.kernels.timer.vector.host_copy(kept, link_bandwidth=rate, host_bandwidth=shared)
        return tuple(map(float, copies.seconds))

    @cached_property
    def _kinds(self) -> list[str]:
        return [kind for kind, count in self.config.layer_kinds() for _ in range(count)]

    def _block(self, kind: str, groups: Groups, more: bool = False) -> Block:
        key = (kind, groups, more)
        if key not in self._blocks:
            self._blocks[key] = self.run(kind, self._operators(kind, groups), groups, more)
        return self._blocks[key]

    def run(self, name: str, operators: Sequence[Operator], groups: Groups, more: bool = False) -> Block:
        """A block of operators on one rank, as the runtime's kernels."""
        steps = self._sharded(self._lowered(operators, more), groups)
        replays = self.runtime.graphs and is_decode(groups)
        return run_block(name, steps, self.kernels, self.links, 0.0 if replays else self.runtime.launch_s)

    def _operators(self, kind: str, groups: Groups) -> tuple[Operator, ...]:
        """The operators of a block."""
        return self.ends(kind, groups) if kind in ("embedding", "head") else self.layer(kind, groups, self.experts)

    def ends(self, kind: str, groups: Groups) -> tuple[Operator, ...]:
        """The operators of the embedding or the head."""
        if kind == "embedding":
            return serving_embedding(self._picking, groups, self.dtype)
        return serving_head(self._picking, groups, self.dtype, self.accumulate, every=self._every_logit)

    def layer(self, kind: str, groups: Groups, split: ExpertSplit) -> tuple[Operator, ...]:
        """The operators of a layer whose experts are shared in this way."""
        numbers = (self.dtype, self.accumulate, self.kv_dtype)
        return serving_layer(self._picking, kind, groups, *numbers, split, self.routing)

    def _lowered(self, operators: Sequence[Operator], more: bool) -> tuple[Operator, ...]:
        """The kernels of operators before they are split."""
        c = self._picking
        if self.runtime.style == "ggml":
            operators = tuple(separated(operators))
        found = kernels_of(applied(operators, self.precision, c, more), self.runtime, c, self._products)
        if self.runtime.style != "ggml" or self._sums == ("fp16", "fp16"):
            return found
        kind, sums = self._sums
        return tuple(
            replace(op, dtype=kind, accumulate=sums) if isinstance(op, Matmul) and op.accumulate == "fp16" else op
            for op in found
        )

    @cached_property
    def _picking(self) -> TransformerConfig:
        """The model, whose indexer picks keys of short prompts too where the engine has no dense attention for them."""
        always = bool(self.config.index_heads and self.runtime.sparse)
        return replace(self.config, index_always=True) if always else self.config

    @cached_property
    def _products(self) -> str:
        """How llama.cpp multiplies many rows here.

        Metal converts weights and activations inside the product (ggml-metal.metal, kernel_mul_mm). CUDA multiplies
        blocks as they are where the GPU has matrix units for 8-bit integers (ggml-cuda/mmq.cu,
        ggml_cuda_should_use_mmq), and else unpacks weights before.
        """
        gpu = self.cluster.gpu
        if gpu.vendor == "Apple":
            return INSIDE
        units = any(peak.dtype == "int8" and peak.engine == "tensor" for peak in gpu.peak)
        return INTEGERS if units and self.runtime.integer_products else UNPACKED

    @cached_property
    def _sums(self) -> tuple[str, str]:
        """(type, sums) of products that llama.cpp asks cuBLAS for in fp16, sums and all.

        They are fp32 where the GPU lacks such sums, or is faster in fp32 altogether (ggml-cuda.cu,
        fast_fp16_available).
        """
        try:
            half = self.kernels.peak("fp16", "fp16")
        except InputError:
            return "fp16", "fp32"
        return ("fp16", "fp16") if half >= self.kernels.peak("fp32", "fp32") else ("fp32", "fp32")

    @cached_property
    def _inner(self) -> Plan:
        """The plan of one replica's stage."""
        return replace(self.plan, dp=1, pp=1)

    def _sharded(self, operators: Sequence[Operator], groups: Groups) -> tuple[Step, ...]:
        """Kernels and collectives of one rank, and the small kernels that no operator stands for."""
        plan = self._inner
        if plan.cp > 1 and is_decode(groups):
            steps = self._over_caches(operators, replace(plan, cp=1))
        else:
            steps = list(shard_operators(operators, plan))
        steps = self._with_whole_norms(steps, groups)
        if self.plan.dispatcher == DEEPEP and self.experts.replicas > 1:
            lanes = lanes_of(self.cluster, self.plan.group("experts", 0))
            steps = list(directly(steps, lanes, is_decode(groups)))
        if self.adapters is not None and self.adapted:
            sequences = sum(group.count for group in groups)
            different = min(round(self.adapters.distinct(sequences)), self.adapters.slots, tokens_of(groups))
            steps = self.adapters.put_beside(steps, max(different, 1))
        count = sum(not isinstance(step, Collective) for step in steps)
        prompts = not is_decode(groups)
        spare = self.runtime.gap_s * count * prompts + (self.runtime.layer_s if _is_layer(operators) else 0.0)
        if spare:
            steps.append(Pointwise("small_kernels", "elementwise", Dim(1), (Dim(1),), "bf16", 0, 0, 0, time_s=spare))
        return tuple(steps)

    def _with_whole_norms(self, steps: list[Step], groups: Groups) -> list[Step]:
        """The steps, where norms over all heads together need the sums of squares of every rank.

        These are two numbers of a token, in fp32, in one all-reduce (vLLM, layers/mamba/linear_attn.py,
        MiniMaxText01RMSNormTP.forward_qk).
        """
        if not self.config.qk_norm_whole or self.plan.tp == 1:
            return steps
        sums = Collective("qk_norm_sums", "all_reduce", "tp", 8.0 * tokens_of(groups) / self.plan.cp)
        found: list[Step] = []
        for step in steps:
            found += [sums, step] if isinstance(step, Pointwise) and step.name == "qk_norm" else [step]
        return found

    def _over_caches(self, operators: Sequence[Operator], plan: Plan) -> list[Step]:
        """Decode with caches that are split over ranks by their tokens.

        Each rank attends to its part, and the partial results of all are gathered and weighed (Yang et al., Context
        Parallelism for Scalable Million-Token Inference, 2024, section 3.4).
        """
        found: list[Step] = []
        n = self.plan.cp
        for op in operators:
            if not isinstance(op, Attention):
                found += shard_operators((op,), plan)
                continue
            part = op.split(plan.ways)
            found.append(replace(part, keys=max(ceil(op.keys / n), op.queries + 1)))
            size = 4.0 * n * part.batch.size * part.queries * part.heads.size * (part.v_dim + 1)
            found.append(Collective("attention_parts", "all_gather", "cp", size))
        return found


def _is_layer(operators: Sequence[Operator]) -> bool:
    return any(isinstance(op, (Attention, Scan)) or op.name in ("attention_out", "ffn_down") for op in operators)
