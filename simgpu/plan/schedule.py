"""Pipeline schedules: the order in which a stage runs the forward and backward passes of its microbatches.

A step is `m` microbatches through `p` stages; with virtual stages each stage holds `v` chunks of layers, and chunk `c`
of stage `s` is number `c p + s` of the `p v` parts of the model. A `Task` is one pass of one microbatch through one
chunk. Nothing here knows how long a task takes: bubbles come out when the engine runs the order.

Orders, each as its authors' code runs it:

- gpipe: all forwards, then all backwards (Huang et al., GPipe, 2019; order of microbatches as in
  torch.distributed.pipelining.ScheduleGPipe).
- 1f1b: `min(p - s - 1, m)` forwards, then one forward and one backward in turn (PipeDream-Flush; Narayanan et al. 2021,
  and Megatron-LM core/pipeline_parallel/schedules.py, forward_backward_pipelining_without_interleaving).
- interleaved: microbatches in groups of `p`, each group through all chunks before the next; the warm-up is
  `2 (p - s - 1) + (v - 1) p` forwards (same file: get_pp_rank_microbatches, get_schedule_table).
- zb-h1: 1F1B with backward cut in two, and the weight gradients of stage `s` delayed by `s` microbatches, so that every
  stage holds as many microbatches as the first does in 1F1B (Qi et al., Zero Bubble Pipeline Parallelism, 2023,
  arXiv 2401.10241, section 2.1; the delay as in torch.distributed.pipelining.ScheduleInterleavedZeroBubble).

- zb-v: two chunks on each stage, the second in reverse order, so that the first stage has both the embedding and the
  head; backward cut in two (the same, section 6, and Qi et al., Pipeline Parallelism with Controllable Memory, 2024,
  arXiv 2405.15362; the order of torch.distributed.pipelining.ScheduleZBVZeroBubble). Where forward, input and weight
  gradients take the same time t of a chunk, a step takes (6 m + p - 1) t: stages start one after another and are never
  idle between. It holds as many activations as 1F1B's first stage, on every stage.

- dualpipe-v: placed as zb-v; forward of one chunk and backward of the other are a pair, in which the exchanges of
  either hide beside kernels of the other (`expert_overlap`), and backward is cut only where weight gradients fill
  waits at both ends (deepseek-ai/DualPipe, dualpipe/dualpipev.py; torch.distributed.pipelining.ScheduleDualPipeV).
  DualPipe itself, of two copies of the model that microbatches enter from both ends (DeepSeek-V3, arXiv 2412.19437,
  section 3.2.1), is two replicas of it over half as many stages, joined rank by rank: the same parameters, activations
  and bubbles.

GPipe, 1F1B and ZB-V take any number of microbatches: fewer than stages leave stages idle, and the step says so as its
bubble, (p - 1)/(m + p - 1). Interleaving needs a multiple of `p` (Megatron-LM refuses others, same file,
forward_backward_pipelining_with_interleaving), the delay of ZB-H1 at least `p`, DualPipeV at least `2 p`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from simgpu.errors import InputError, nearest, shown
from simgpu.memo import remembered
from simgpu.plan.parallelism import SCHEDULES, V_SHAPED

FEW_TASKS = 4096
"""Passes forward of a step whose order is remembered."""

ANY_NUMBER = ("1f1b", "gpipe", "zb-v")
"""Schedules that run any number of microbatches, also fewer than there are stages."""

CUT = ("zb-h1", *V_SHAPED)
"""Schedules that cut backward in two."""

TAKES_TURNS = ("interleaved", *V_SHAPED)
"""Schedules with more than one chunk on a stage."""

Kind: TypeAlias = Literal["F", "B", "W"]


@dataclass(frozen=True, slots=True)
class Task:
    """One pass of microbatch `microbatch` through chunk `chunk` of stage `stage`.

    kind: 'F' forward; 'B' backward, of inputs and weights, but of inputs alone where it is cut in two (`CUT`);
    'W' weight gradients, where it is.
    """

    kind: Kind
    stage: int
    chunk: int
    microbatch: int


def tasks(schedule: str, stages: int, microbatches: int, chunks: int = 1) -> tuple[tuple[Task, ...], ...]:
    """Tasks of every stage, in the order in which its compute stream runs them.

    Raises `InputError` (key only) where the schedule cannot run so many microbatches.

    >>> "".join(task.kind for task in tasks("1f1b", 2, 3)[0])
    'FFBFBB'
    """
    check(schedule, stages, microbatches, chunks)
    return tuple(tuple(_stage(schedule, stage, stages, microbatches, chunks)) for stage in range(stages))


def depends_on(task: Task, stages: int, chunks: int = 1, schedule: str = "") -> Task | None:
    """The task whose output `task` needs, and waits for wherever it runs; None for a forward of the first chunk.

    Chunk `c` of the first stage follows chunk `c - 1` of the last, backward the other way round; in V shape the second
    chunk of a stage follows that of the next. A backward of the last
    chunk needs its own forward, weight gradients need the backward of the same chunk.
    """
    if task.kind == "W":
        return Task("B", task.stage, task.chunk, task.microbatch)
    part = part_of(task.stage, task.chunk, stages, schedule)
    if task.kind == "B" and part == stages * chunks - 1:
        return Task("F", task.stage, task.chunk, task.microbatch)
    part += 1 if task.kind == "B" else -1
    return Task(task.kind, *place_of(part, stages, schedule), task.microbatch) if part >= 0 else None


def part_of(stage: int, chunk: int, stages: int, schedule: str = "") -> int:
    """The part of the model, in order of depth, that is a chunk of a stage."""
    return chunk * stages + (stages - 1 - stage if schedule in V_SHAPED and chunk % 2 else stage)


def place_of(part: int, stages: int, schedule: str = "") -> tuple[int, int]:
    """The stage and the chunk that a part of the model, in order of depth, is."""
    chunk, stage = divmod(part, stages)
    return (stages - 1 - stage if schedule in V_SHAPED and chunk % 2 else stage), chunk


def order(schedule: str, stages: int, microbatches: int, chunks: int = 1) -> tuple[Task, ...]:
    """All tasks, each after the one it depends on and after those before it on its stage.

    They are sorted by the time at which they would start if a forward took 1, a backward 2 (1 and 1 where it is cut in
    two) and communication nothing.
    """
    check(schedule, stages, microbatches, chunks)
    few = stages * microbatches * chunks <= FEW_TASKS
    return (_known_order if few else _order)(schedule, stages, microbatches, chunks)


def in_flight(schedule: str, stages: int, microbatches: int, chunks: int, stage: int) -> int:
    """The largest number of (chunk, microbatch) pairs whose activations `stage` holds at one time.

    Activations are held from forward to the end of backward; where it is cut in two to the end of the weight gradients.
    The input gradient frees part of them (attention, norms: what no matrix multiplication multiplies by), so that there
    this is the upper bound.
    """
    held = peak = 0
    release = "W" if schedule in CUT else "B"
    for task in tasks(schedule, stages, microbatches, chunks)[stage]:
        if task.kind == "F":
            held += 1
            peak = max(peak, held)
        elif task.kind == release:
            held -= 1
    return peak


def check(schedule: str, stages: int, microbatches: int, chunks: int = 1) -> None:
    """Raise `InputError` (key only) unless the schedule can run so many microbatches through so many stages."""
    if schedule not in SCHEDULES:
        raise InputError(f"{shown(schedule)} is not known{nearest(schedule, SCHEDULES)}", key="plan.schedule")
    for key, count in (("plan.pp", stages), ("workload.batch", microbatches), ("plan.vp", chunks)):
        if count < 1:
            raise InputError(f"{count} is not a positive whole number", key=key)
    if chunks > 1 and schedule not in TAKES_TURNS:
        problem = f"{shown(schedule)} has no virtual stages, here {chunks}; expected interleaved"
        raise InputError(problem, key="plan.schedule")
    if schedule in V_SHAPED and chunks != 2 and stages > 1:
        raise InputError(f"{chunks}: {schedule} runs two chunks on each stage; expected 2", key="plan.vp")
    many = f"{microbatches} microbatch{'es' if microbatches > 1 else ''}"
    least = 2 * stages if schedule == "dualpipe-v" and stages > 1 else stages
    if microbatches < least and schedule not in ANY_NUMBER:
        is_fewer = "are fewer" if microbatches > 1 else "is fewer"
        needs = f"{'a multiple of' if schedule == 'interleaved' else 'at least'} {least}"
        than = f"twice {stages}" if least > stages else f"{stages}"
        problem = f"{many} {is_fewer} than {than} stages; {schedule} needs {needs}"
        raise InputError(
            f"{problem}, {', '.join(ANY_NUMBER[:-1])} and {ANY_NUMBER[-1]} take any number", key="plan.micro_batch"
        )
    if schedule == "interleaved" and microbatches % stages:
        below = microbatches // stages * stages
        problem = f"{many} cannot be interleaved over {stages} stages, Megatron-LM refuses them"
        problem = f"{problem}; expected a multiple of {stages}, such as {below} or {below + stages}"
        raise InputError(problem, key="workload.batch")


def _stage(schedule: str, stage: int, stages: int, microbatches: int, chunks: int) -> list[Task]:
    """Tasks of one stage: a warm-up of forwards, one forward and one backward in turn, the backwards left."""
    total = microbatches * chunks
    if schedule in V_SHAPED and stages > 1:
        padded = max(microbatches, 2 * stages - 1)
        runs = _zigzag(stage, stages, padded) if schedule == "zb-v" else _pairs(stage, stages, microbatches)
        return list(_numbered(runs, stage, microbatches))
    if schedule == "gpipe":
        warm_up = total
    elif schedule == "interleaved":
        warm_up = min(total, 2 * (stages - stage - 1) + (chunks - 1) * stages)
    else:
        warm_up = min(total, stages - stage - 1)
    # microbatches in groups of as many as there are stages, where there is more than one chunk to take turns
    group = stages if schedule == "interleaved" else microbatches
    pairs = [
        (c, i) for first in range(0, microbatches, group) for c in range(chunks) for i in range(first, first + group)
    ]
    forward = [Task("F", stage, c, i) for c, i in pairs]
    backward = [[Task("B", stage, chunks - 1 - c, i)] for c, i in pairs]
    if schedule in CUT:
        for behind, pair in enumerate(backward[stage:]):
            pair.append(Task("W", stage, 0, behind))
        backward[-1] += [Task("W", stage, 0, i) for i in range(total - stage, total)]
    run = forward[:warm_up]
    for at in range(total):
        run += forward[warm_up + at : warm_up + at + 1]
        run += backward[at]
    return run


def _zigzag(stage: int, stages: int, microbatches: int) -> list[str]:
    """Passes of one stage of ZB-V by kind and chunk, of 2 p - 1 microbatches at least."""
    behind, ahead = stage, stages - stage
    runs = ["F0"] * (2 * ahead - 1) + ["F1", "F0"] * behind + ["F1", "B1", "W1"] * ahead
    runs += ["F0", "B0", "W0", "F1", "B1", "W1"] * (microbatches - stages)
    return runs + ["B0", "B1"] * behind + ["B0", "W0"] * ahead + ["W1"] * behind + ["W0"] * behind


def _pairs(stage: int, stages: int, microbatches: int) -> list[str]:
    """Passes of one stage of DualPipeV by kind and chunk, of 2 p microbatches at least, in its eight steps."""
    behind, ahead = stage + 1, stages - stage - 1
    runs = ["F0"] * (2 * ahead) + ["F0", "F1"] * behind + ["B1", "W1", "F1"] * ahead
    runs += ["F0", "B1", "W1", "F1", "B0", "W0"] * (microbatches - 2 * stages + behind)
    runs += ["B1", "W1", "F1", "B0", "W0"] * ahead
    waiting: list[str] = []  # weight gradients that are left for later
    for n, chunk in enumerate("10" * behind):
        runs.append(f"B{chunk}")
        (runs if n < behind else waiting).append(f"W{chunk}")
    for _ in range(ahead):
        runs += [waiting.pop(0), "B0"]
        waiting.append("W0")
    return runs + waiting


def _numbered(runs: Iterable[str], stage: int, microbatches: int) -> Iterator[Task]:
    """The tasks of passes, each of the next microbatch, without those of microbatches that there are not."""
    done: Counter[str] = Counter()
    for run in runs:
        at = done[run]
        done[run] += 1
        if at < microbatches:
            yield Task(run[0], stage, int(run[1]), at)  # type: ignore[arg-type]


def _order(schedule: str, stages: int, microbatches: int, chunks: int) -> tuple[Task, ...]:
    """The tasks of `order`, by a calendar of whole times: work in proportion to the tasks."""
    lists = tasks(schedule, stages, microbatches, chunks)
    parts = stages * chunks
    seconds = {"F": 1, "B": 1 if schedule in CUT else 2, "W": 1}
    # what is done, one row for each kind and part: row of kind k and part q is (k parts + q)
    row_of = {"F": 0, "B": parts, "W": 2 * parts}
    done = [bytearray(microbatches) for _ in range(3 * parts)]
    reached, busy = [0] * stages, [False] * stages
    calendar: list[list[tuple[int, int, int]]] = [[]]  # (stage, row, microbatch) that end at each time
    ordered: list[Task] = []
    now = 0
    while True:
        for stage, row, microbatch in calendar[now]:
            done[row][microbatch] = True
            busy[stage] = False
        for stage in range(stages):
            if busy[stage] or reached[stage] == len(lists[stage]):
                continue
            task = lists[stage][reached[stage]]
            part = part_of(stage, task.chunk, stages, schedule)
            row = row_of[task.kind] + part
            needs = _row_before(task.kind, part, parts)
            if needs >= 0 and not done[needs][task.microbatch]:
                continue
            ordered.append(task)
            reached[stage] += 1
            busy[stage] = True
            end = now + seconds[task.kind]
            calendar += [[] for _ in range(end + 1 - len(calendar))]
            calendar[end].append((stage, row, task.microbatch))
        now += 1
        if now == len(calendar):
            return tuple(ordered)


_known_order = remembered(32)(_order)


def _row_before(kind: Kind, part: int, parts: int) -> int:
    """The row that `depends_on` means, in rows of `_order`; -1 for none."""
    if kind == "F":
        return part - 1
    if kind == "W":
        return parts + part
    return parts + part + 1 if part < parts - 1 else part
