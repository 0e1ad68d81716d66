"""The exchange of rows between ranks that share experts, as the dispatcher of a training stack does it.

The model asks for an all-to-all of a copy of each row for each expert that it visits (`model/feed_forward.py`), as NCCL
does it. What others send, how busy the busiest rank is, and what hides behind another microbatch is put in here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simgpu.model.operators import BYTES, Dim, GroupedMatmul, Pointwise
from simgpu.plan.expert_stack import ExpertStack
from simgpu.plan.experts import FLEX, sent_once
from simgpu.plan.parallelism import Plan
from simgpu.plan.program import Collective, Step
from simgpu.workload.training.lowering import AMAX, AROUND, CAST

GROUP = "ep"
QUANTISING = (CAST, AMAX, *AROUND)
"""Ends of names of kernels that quantise rows."""

OUTER = ("experts_up", "experts_down_dgrad")
"""Products whose rows come from elsewhere: in forward, and their gradients in backward."""

OF_WEIGHTS = ("_accumulate", "_copies")
"""Ends of names of what passes over gradients of weights, however many rows came."""

MULTIPROCESSORS = {"deepep": 20.0, "hybridep": 32.0}
"""That a dispatcher's kernels hold (deepseek-ai/DeepEP, num_sms of its tests; NVIDIA-NeMo/Megatron-Bridge,
moe_hybridep_num_sms)."""


@dataclass(frozen=True)
class Exchange:
    """How rows travel.

    Known are the settings, the load of the busiest rank, visits of a row, experts of a rank, width of a row, nodes of
    an expert group, and multiprocessors of a GPU.
    """

    experts: ExpertStack
    load: float
    visits: int
    here: int
    hidden: int
    nodes: int
    multiprocessors: float

    def of(self, steps: Sequence[Step], plan: Plan) -> tuple[Step, ...]:
        """The steps of one rank, those of the exchange as the dispatcher runs them, on the busiest rank."""
        return tuple(step for one in steps for step in self._step(one, plan))

    def _step(self, step: Step, plan: Plan) -> Iterator[Step]:
        if isinstance(step, Collective) and step.group == GROUP:
            yield from self._exchanged(step, plan)
        elif isinstance(step, GroupedMatmul):
            each = self.experts.product_s if self.experts.grouped != "fused" else 0.0
            yield replace(step, load=self.load, each_s=each)
        elif isinstance(step, Pointwise) and step.name.startswith("experts_") and not step.name.endswith(OF_WEIGHTS):
            yield from self._streamed(step)
        else:
            yield step

    def _streamed(self, step: Pointwise) -> Iterator[Pointwise]:
        """Activation or quantising of the rows that came.

        Rows are quantised expert by expert: one kernel for all of them there is for delayed scaling alone (Transformer
        Engine, pytorch/csrc/extensions/cast.cpp, multi_tensor_quantize_impl). Fused products quantise all rows that
        come to them at once, and what passes between them where it is made (its op fuser).
        """
        step = replace(step, reads=step.reads * self.load, writes=step.writes * self.load)
        end = next((end for end in QUANTISING if step.name.endswith(end)), "")
        if not end or (self.experts.grouped == "fused" and step.name.removesuffix(end) in OUTER):
            yield step
        elif self.experts.grouped != "fused":
            rows = replace(step.rows, width=max(step.rows.size // self.here, 1), units=1)
            yield from [replace(step, rows=rows)] * self.here

    def _exchanged(self, step: Collective, plan: Plan) -> Iterator[Step]:
        """A transfer, with what its dispatcher runs around it.

        NCCL's sends rows by rank, so that those of each expert are put together after dispatch and taken apart before
        combination (sort_chunks_by_idxs), and probabilities travel by themselves, in backward their gradients.
        """
        travels = self._travels(step, plan.ep)
        if self.experts.dispatcher != "alltoall":
            yield travels
            return
        width = self.hidden
        rows = Dim(max(round(travels.size / width / BYTES["bf16"]), 1))
        sort = Pointwise(f"{step.name}_sort", "elementwise", rows, (Dim(width),), "bf16", 1, 1, 0)
        sorts = [sort] if self.here > 1 else []
        after = step.name in ("dispatch", "combine_backward")  # rows come to their experts
        yield from () if after else sorts
        yield travels
        if step.name.startswith("dispatch"):
            small = 4.0 * travels.size / width / BYTES["bf16"]
            yield replace(travels, name=f"{step.name}_probabilities", size=small)
        yield from sorts if after else ()

    def _travels(self, step: Collective, ranks: int) -> Collective:
        """A transfer of rows, as the dispatcher sends them.

        Forward of a microbatch hides its transfers beside backward of another, and the other way round: as both have
        as many, those beside a pass are in proportion to its kernels, of which backward has two of three.
        """
        hidden = self.experts.overlap_hidden if self.experts.expert_overlap else 0.0
        dispatcher = self.experts.dispatcher
        step = replace(step, hidden=hidden, beside=hidden * (4 / 3 if step.name.endswith("_backward") else 2 / 3))
        if dispatcher == "allgather":  # all rows to all ranks; and back what each of them made of them, added up
            backwards = step.name.endswith("_backward")
            gathers = step.name.startswith("dispatch") != backwards
            kind = "all_gather" if gathers else "reduce_scatter"
            return replace(step, kind=kind, size=step.size / self.visits * ranks)
        size = step.size * self.load
        if dispatcher not in FLEX:
            return replace(step, size=size)
        places = self.nodes if self.nodes > 1 else ranks
        held = min(MULTIPROCESSORS[dispatcher] / self.multiprocessors, 0.5)
        return replace(
            step, size=size * sent_once(places, self.visits), pace=self.experts.flex_time,
            extra_s=self.experts.flex_latency_s if self.nodes > 1 else 0.0, held=held,
        )  # fmt: skip
