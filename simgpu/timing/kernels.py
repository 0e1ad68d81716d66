"""Kernel times of a model's operators, each with how sure it is.

An operator is handed to the model of its class (`simgpu.timing.timer.GPUTimer`) and its interval looked up
(`simgpu.timing.uncertainty`). Equal operators on equal GPUs are timed once in a process. Weights come from DRAM, as
they do between the layers of a model; clocks are those of a sustained run unless a burst is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.inherit import DEFAULT, WHOSE, Given
from simgpu.hardware.machine import machine_of
from simgpu.memo import SHARED, WORDS, Region, content, key_of
from simgpu.model.operators import (
    Attention,
    Convolution,
    Embedding,
    ExpertLayer,
    GroupedMatmul,
    Indexer,
    Kernel,
    Matmul,
    Pointwise,
    Scan,
)
from simgpu.model.serving import FEW_QUERIES
from simgpu.timing.attention_libraries import NOT_LATENT
from simgpu.timing.attention_timer import UNFUSED
from simgpu.timing.attention_work import AttentionWork, LatentWork
from simgpu.timing.constants import CLOCKS
from simgpu.timing.convolution_timer import convolution_time
from simgpu.timing.expert_libraries import multiplied_in
from simgpu.timing.expert_timer import ExpertLayerWork, GroupedWork
from simgpu.timing.gemm_libraries import GGML, GGML_MMQ, NARROW, WEIGHT_ONLY, WIDENING
from simgpu.timing.parts import KernelTimes
from simgpu.timing.quantise import CAST, SCALED
from simgpu.timing.quantise import NONE as FUSED
from simgpu.timing.routing import rank_load
from simgpu.timing.scan_timer import scan_library
from simgpu.timing.timer import GPUTimer
from simgpu.timing.uncertainty import class_of, spread
from simgpu.timing.vector_work import SELECTED_AT_ONCE


@dataclass(frozen=True)
class Uncertainty:
    """Factors from a time to its P10 and P90, and the share of that variance which a class has in common."""

    group: str  # class whose errors go together: gemm, attention, vector, collective
    low: float = 1.0
    high: float = 1.0
    correlated: float = 0.0


POWER = ("energy_per_flop", "burst_exponent")
"""What clocks under load follow from where nobody measured them."""

STAND_INS = (
    (("clock_fraction", "throttle"), POWER),
    (("l2_bytes_per_clock",), ("l2_bytes_per_flop",)),
)
"""Constants of matrix multiplications, and those that are only asked where they are not given."""

QUANTISED = ("all", "cast", "attention", "none")
"""Which narrow products have a kernel of their own before them that quantises what they multiply: all of them; all, but
it only casts, by scales of the checkpoint; that of the values of attention alone, where norms and activations quantise
as they write; or none."""

AFTER_ATTENTION = "attention_out"
"""The product that takes the values of attention."""


def quantised_by(quantised: str, name: str) -> str:
    """How the activations of a narrow product come to its type, by one of `QUANTISED` and the product's name."""
    if quantised == "attention":
        return SCALED if name == AFTER_ATTENTION else FUSED
    return {"all": SCALED, "cast": CAST, "none": FUSED}[quantised]


NONE = Uncertainty("given")
"""Of a time that a user measured: taken as it is."""


@dataclass(frozen=True)
class KernelTime:
    """Seconds of one kernel and where they go; the parts overlap, so they need not add up.

    `bound` is what decides: compute, memory, latency, or measured (given by the user).
    """

    seconds: float
    compute: float
    memory: float
    latency: float
    bound: str
    uncertainty: Uncertainty = NONE
    operator: str = ""  # what it is validated as: gemm, attention_prefill ...
    library: str = DEFAULT
    regime: str = ""  # where its constants come from: calibrated, inherited, datasheet
    sol_s: float = 0.0  # s at the speed of light: the slower of datasheet peak and datasheet bandwidth
    floor: float = 0.0  # s that no kernel can go below: `sol_s`, but what fits L2 need not pass the memory
    peak: float = 0.0  # FLOP/s of the datasheet for the type that matrices are multiplied in; 0: none are


def vector_rows(vectors: int, stored: str) -> int:
    """Rows up to which a product is one of vectors.

    They are `vectors` where weights are in blocks, one where they are plain (ggml-cuda.cu: MMVQ_MAX_BATCH_SIZE;
    dequantize_mul_mat_vec takes one).
    """
    return vectors if stored else min(vectors, 1)


KERNELS = 20_000
"""Times that are remembered for the figures of a GPU: some 2 kB each."""

FIGURES = 32
"""Figures of GPUs whose times are remembered."""


NO_TIME = (*WORDS, "name", "nvlink", "host_link", "mig_profiles", "video", "kernel")
"""Fields of a GPU's specification that kernels do not depend on; its constants are taken as they were inherited."""


def _gpu_of(cluster: Cluster) -> bytes:
    """A digest of every figure of a cluster's GPU, and of its constants, that a time can depend on."""
    known = machine_of(cluster).memo.region("gpu", 1)
    made: bytes = known.known("digest", lambda: content(cluster.gpu, NO_TIME) + content(cluster.kernel, WHOSE))
    return made


def _without_stand_ins(constants: dict[str, Given]) -> dict[str, Given]:
    """Constants less those that were only asked because others were not given."""
    for given, instead in STAND_INS:
        if all(name in constants for name in given):
            constants = {name: one for name, one in constants.items() if name not in instead}
    return constants


def _seconds(times: KernelTimes) -> float:
    return float(times.seconds.reshape(-1)[0])


def _times_of(key: tuple[Any, ...]) -> tuple[bytes, Region[Kernel, KernelTime]]:
    """A name for kernels of a key, and room for their times."""
    return blake2b(repr(key).encode(), digest_size=20).digest(), Region(KERNELS)


@dataclass(eq=False)
class KernelModel:
    """Times kernels on the GPU of a cluster.

    `attention` names the library of attention kernels (default: what serving stacks choose on the GPU), `narrow` that
    of products in 8 and 4 bits, `quantised` which of these have a kernel before them that quantises (`QUANTISED`),
    `experts` that of mixtures of experts, `few_rows` of products of a few rows, `sparse` of attention over picked keys.
    Slowdowns are factors on times: of matrix products, of kernels that stream, of attention over a part of its keys.
    In `training` steps, sustained ones, clocks are lower than in a loop of one kernel (`simgpu.timing.gemm_libraries`).
    Products of up to `vectors` rows are those of vectors (`vector_rows`, `simgpu.timing.gemv`). `stack` is the
    framework or engine whose steps the user may have measured. Models that give equal times have equal `identity`.
    """

    cluster: Cluster
    sustained: bool = True
    attention: str = DEFAULT
    narrow: str = DEFAULT
    matmul_slowdown: float = 1.0
    stream_slowdown: float = 1.0
    context_slowdown: float = 1.0
    vectors: int = 0
    experts: str = DEFAULT
    scan: str = DEFAULT
    sparse: str = DEFAULT
    few_rows: str = GGML
    training: bool = False
    quantised: str = "all"
    stack: str = ""

    def __post_init__(self) -> None:
        self.gpu, self.constants = self.cluster.gpu, self.cluster.kernel
        self._own = self.constants.stretch(self.stack, "slowdown")
        self._own_experts = self._own * self.constants.stretch(self.stack, "experts")
        self._own_arithmetic = self.constants.stretch(self.stack, "arithmetic")
        self._replayed = self.constants.replayed("kernel")
        self.timer = GPUTimer(self.gpu, self.constants, self.sustained, self.training and self.sustained)
        self._regimes: dict[tuple[str, str], tuple[str, bool]] = {}
        key = key_of(self, cluster=_gpu_of(self.cluster))
        self.identity, self._known = SHARED.region("kernels", FIGURES).known(key, lambda: _times_of(key))

    def peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True, key: str = "dtype") -> float:
        """Dense datasheet peak, FLOP/s; see `simgpu.timing.device.Device.peak`."""
        return self.timer.peak(dtype, accumulate, tensor, key)

    def time(self, op: Kernel) -> KernelTime:
        """Seconds of one run of `op`. A measured time that the user gave is taken as it is."""
        found = self._known.get(op)
        if found is None:
            found = self._known[op] = self._time(op)
        typed: KernelTime = found
        return typed

    def collective_uncertainty(
        self, kind: str, seconds: float, library: str = "nccl", nodes: bool = False
    ) -> Uncertainty:
        """The interval of a collective's time of about `seconds`; `nodes`: it leaves its node."""
        regime, seen = self._regime("collective", library)
        found = spread(
            kind, seconds, architecture=self.constants.architecture, regime=regime, library=library, seen=seen,
            nodes=nodes,
        )  # fmt: skip
        return Uncertainty("collective", float(found.low), float(found.high), float(found.correlated))

    def _regime(self, kind: str, library: str) -> tuple[str, bool]:
        """How close the constants of a class are to this GPU, and whether its user measured them."""
        found = self._regimes.get((kind, library))
        if found is None:
            constants = self.constants
            found = constants.regime(kind, library), constants.by_user(kind, library)
            self._regimes[kind, library] = found
        return found

    def used(self, time: KernelTime) -> dict[str, Given]:
        """Constants that a time was made with, with where each comes from."""
        if not time.operator:
            return {}
        group = class_of(time.operator)
        found = _without_stand_ins(self.constants.origins(group, time.library))
        if group == "attention":  # its clock follows from that of matrix multiplications
            clocks = _without_stand_ins(self.constants.origins("gemm"))
            found |= {name: clocks[name] for name in (*CLOCKS, *POWER) if name in clocks}
        return found

    def _time(self, op: Kernel) -> KernelTime:
        if op.time_s is not None:
            return KernelTime(op.time_s, 0.0, 0.0, 0.0, "measured", peak=self._datasheet_peak(op))
        times, operator, library = self._model(op)
        group = class_of(operator)
        factor = self._factor(op) * self._replayed.get(op.name, self._replayed.get(group, 1.0))
        times = times.stretched(factor, self._own_arithmetic)
        parts = KernelTimes(*(part.reshape(-1)[:1] for part in times))
        seconds = float(parts.seconds[0])
        regime, seen = self._regime(group, library)
        found = spread(
            operator, seconds, architecture=self.constants.architecture, regime=regime, library=library, seen=seen
        )
        uncertainty = Uncertainty(group, float(found.low), float(found.high), float(found.correlated))
        compute, memory, latency = (float(part[0]) for part in parts[1:])
        bound = str(parts.bound()[0])
        sol_s, floor = self._speed_of_light(op)
        more = sol_s, floor, self._datasheet_peak(op)
        return KernelTime(seconds, compute, memory, latency, bound, uncertainty, operator, library, regime, *more)

    def _factor(self, op: Kernel) -> float:
        """What a framework makes of the time of a kernel, and the user's own machine of that."""
        match op:
            case Matmul() | Convolution():
                return self.matmul_slowdown * self._own
            case Pointwise():
                return self.stream_slowdown * self._own
            case Attention():
                return self.context_slowdown * self._own
            case ExpertLayer() | GroupedMatmul():
                return self._own_experts
            case _:
                return self._own

    def _datasheet_peak(self, op: Kernel) -> float:
        """Peak of the type that a kernel multiplies matrices in, FLOP/s; 0 where it multiplies none."""
        match op:
            case Matmul() | GroupedMatmul() | Attention() | Convolution():
                return self.timer.device.datasheet_peak(op.dtype, op.accumulate)
            case ExpertLayer():
                return self.timer.device.datasheet_peak(op.dtype)
            case _:
                return 0.0

    def _speed_of_light(self, op: Kernel) -> tuple[float, float]:
        """Seconds at the speed of light, and those that no kernel can go below.

        Weights and caches come from memory, whoever ran before; the tensors of a kernel that streams may have been left
        in L2. Of experts it is those that the routing visits, on the busiest rank as their time is.
        """
        bandwidth = self.gpu.memory.bandwidth.si
        peak = self._datasheet_peak(op)
        if not peak:
            arithmetic = op.flops / self.timer.device.datasheet_peak("fp32", "fp32", tensor=False)
            beyond = max(op.bytes - self.gpu.memory.l2_cache.si, 0.0)
            return max(arithmetic, op.bytes / bandwidth), beyond / bandwidth
        flops, moved = op.flops, op.bytes
        if isinstance(op, ExpertLayer):
            load = rank_load(op.rows, op.topk, op.experts, op.ranks, op.routing)
            flops, moved = op.work(load.active, load.visits)
        elif isinstance(op, GroupedMatmul):
            load = rank_load(op.entering, op.topk, op.total, op.ranks, op.routing)
            flops, moved = op.work(load.active, load.visits)
        sol_s = max(flops / peak, moved / bandwidth)
        return sol_s, sol_s

    def _model(self, op: Kernel) -> tuple[KernelTimes, str, str]:
        """Times of an operator, its name in validation, the library it was timed in."""
        match op:
            case Matmul():
                return self._product(op)
            case GroupedMatmul():
                return self._grouped(op)
            case ExpertLayer():
                return self._experts(op)
            case Attention():
                return self._attention(op)
            case Embedding():
                return self._lookup(op), "embedding", DEFAULT
            case Pointwise():
                return self._pointwise(op)
            case Scan():
                library = scan_library(self.scan, op.variant)
                return self.timer.scans.scan(op, library), "scan", library
            case Indexer():
                return self.timer.scans.indexer(op), "indexer", DEFAULT
            case Convolution():
                return convolution_time(self.timer, op), op.kind, DEFAULT

    def _product(self, op: Matmul) -> tuple[KernelTimes, str, str]:
        matrix, m, n, k = self.timer.matrix, op.m.size, op.n_size, op.k.size
        vectors = self.vectors if op.products == 1 else 0
        few = vector_rows(vectors, op.stored)
        if m <= few:
            return matrix.gemv(m, n, k, op.dtype, op.stored or None, self.few_rows), "gemm", self.few_rows
        if vectors and op.dtype == "int8" and op.stored:
            library, times = GGML_MMQ, matrix.mmq(m, n, k, op.stored)
        else:
            library = matrix.libraries.chosen(op.dtype, op.accumulate)
            if library in NARROW and self.narrow != DEFAULT:
                library = self.narrow
            if op.stored:
                library = WIDENING if self.narrow == WIDENING else WEIGHT_ONLY
            how = quantised_by(self.quantised, op.name)
            times = matrix.gemm(m, n, k, op.products, op.dtype, op.accumulate, library, op.stored or None, quantise=how)
        if few:  # whoever multiplies by more vectors does no less than for these
            times = max(times, matrix.gemv(few, n, k, op.dtype, op.stored or None, self.few_rows), key=_seconds)
        return times, "gemm", library

    def _lookup(self, op: Embedding) -> KernelTimes:
        """Times of a look-up of rows of a table.

        PyTorch takes up to 16 of them one after another, which is slower than 17 at once; a step of a model does not
        get shorter by a token more.
        """
        rows, vector = op.rows.size, self.timer.vector
        few, many = (vector.embedding(n, op.width, op.dtype) for n in (rows, max(rows, SELECTED_AT_ONCE + 1)))
        return min(few, many, key=_seconds)

    def _grouped(self, op: GroupedMatmul) -> tuple[KernelTimes, str, str]:
        work = GroupedWork(
            tokens=op.entering,
            topk=op.topk,
            experts=op.total,
            ep=op.ranks,
            n=op.n_size,
            k=op.k.size,
            distribution=op.routing,
            weight_gradient=op.weight_gradient,
            whole=False,
        )
        times = self.timer.experts.product(work, op.dtype)
        more = max(op.each_s * op.experts.size - _seconds(times), 0.0)
        times = KernelTimes(times.seconds + more, times.compute, times.memory, times.latency + more)
        return times, "moe", self.timer.experts.library(op.dtype)

    def _experts(self, op: ExpertLayer) -> tuple[KernelTimes, str, str]:
        library = self.timer.experts.library(op.dtype) if self.experts == DEFAULT else self.experts
        work = ExpertLayerWork(
            tokens=op.rows,
            hidden=op.hidden,
            inner=op.inner,
            topk=op.topk,
            experts=op.experts,
            ep=op.ranks,
            gated=op.gated,
            distribution=op.routing,
            whole=False,
        )
        return (
            self.timer.experts.layer(work, multiplied_in(library, op.dtype), library, weights=op.stored or None),
            "moe",
            library,
        )

    def _attention(self, op: Attention) -> tuple[KernelTimes, str, str]:
        timer = self.timer.attention
        library = timer.library(self.attention)
        batch, heads, kv_heads, dim = op.batch.size, op.heads.size, op.kv_heads.size, op.head_dim
        kv_dtype = op.kv_dtype or None
        if library == UNFUSED and op.queries == 1:
            times = timer.unfused(batch, op.keys, kv_heads, dim + op.v_dim, kv_dtype or op.dtype)
            return times, "attention_decode", library
        if op.cache_width:
            return self._latent(op, timer.library(DEFAULT if library in NOT_LATENT else library))
        work = AttentionWork(batch, op.queries, op.keys, heads, kv_heads, dim, op.v_dim, op.window)
        if op.passes == 1:
            return self._forward(op, work, library)
        times = timer.backward(work, causal=op.causal, dtype=op.dtype, library=library, warm=False)
        return times, "attention_prefill", library

    def _latent(self, op: Attention, library: str) -> tuple[KernelTimes, str, str]:
        """Attention in the latent space, which a prompt has too where its keys are picked one by one.

        More queries take no less than a few.
        """
        few, rope, kv_dtype = min(op.queries, FEW_QUERIES), op.head_dim - op.v_dim, op.kv_dtype or None
        keys = min(op.keys, op.window + few - 1) if op.window else op.keys
        work = LatentWork(op.batch.size, few, keys, op.heads.size, rope_dim=rope, latent_dim=op.v_dim)
        attention, picked = self.timer.attention, self.timer.picked
        times = attention.latent_decode(work, dtype=op.dtype, kv_dtype=kv_dtype, library=library, warm=False)
        if op.picked:
            times = picked.few(replace(op, queries=few), times, self.sparse)
        if op.queries > few:
            return max(times, picked.prompt(op, self.sparse), key=_seconds), "attention_prefill", library
        return times, "attention_decode", library

    def _forward(self, op: Attention, work: AttentionWork, library: str) -> tuple[KernelTimes, str, str]:
        """Kernels for prompts, and for a few queries over a cache.

        Which of the two an engine runs changes at a number of queries, and no token more makes a step shorter: few
        tokens without a cache run in the quicker one, and more queries over a cache take no less than those few.
        """
        timer, kv_dtype = self.timer.attention, op.kv_dtype or None

        def few(queries: int) -> KernelTimes:
            some = work._replace(queries=queries)
            return timer.decode(some, dtype=op.dtype, kv_dtype=kv_dtype, library=library, warm=False)

        if op.queries <= FEW_QUERIES and op.keys > op.queries:
            return few(op.queries), "attention_decode", library
        times = timer.prefill(work, causal=op.causal, dtype=op.dtype, kv_dtype=kv_dtype, library=library, warm=False)
        if op.queries <= FEW_QUERIES:
            times = min(times, few(op.queries), key=_seconds)
        elif op.keys > op.queries:
            times = max(times, few(FEW_QUERIES), key=_seconds)
        return times, "attention_prefill", library

    def _pointwise(self, op: Pointwise) -> tuple[KernelTimes, str, str]:
        timer, rows = self.timer.vector, op.rows.size
        cols = op.elements / rows
        forward = op.reads <= op.writes  # what computes a gradient reads more than it writes
        if op.kind == "normalization" and forward:
            return timer.normalization(rows, cols, op.dtype, residual=op.reads > 1), op.kind, DEFAULT
        if op.kind == "scores":  # softmax over the keys of each head and query
            heads = sum(dim.units for dim in op.width)
            return timer.softmax(rows * heads, cols / heads, op.dtype), "softmax", DEFAULT
        if op.kind == "softmax":
            return timer.softmax(rows, cols, op.dtype), op.kind, DEFAULT
        if op.kind == "moments":
            return timer.moments(rows, cols, op.dtype), "normalization", DEFAULT
        times = timer.elementwise(op.elements, op.reads, op.writes, op.dtype, strided=op.kind == "strided")
        return times, op.kind if op.kind in ("rope", "activation", "embedding") else "elementwise", DEFAULT
