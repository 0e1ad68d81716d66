"""From a finished training step to the boxes of its pipeline picture."""

from __future__ import annotations

from simgpu.render.pipeline import Box, Panel
from simgpu.workload.execution import Activity, Execution

_KINDS = {"forward": "F", "backward": "B", "weight gradients": "W"}


def panel_of(execution: Execution, stages: int, title: str) -> Panel:
    """Passes of microbatches, communication between ranks and the optimizer, on the first rank of every stage."""
    step = max(len(execution.streams) // stages, 1)
    chosen = [execution.streams[stage * step] for stage in range(min(stages, len(execution.streams)))]
    of = {number: (s, name) for s, streams in enumerate(chosen) for name, number in streams.items()}
    boxes: list[list[Box]] = [[] for _ in chosen]
    for span in execution.timeline.spans(of):
        stage, stream = of[span.stream]
        activity = span.label
        assert isinstance(activity, Activity)
        if stream != "compute":
            box = Box(span.start, span.end, "communication")
        elif activity.task is not None:
            microbatch, chunk = activity.task
            box = Box(span.start, span.end, _KINDS[activity.kind], microbatch, chunk)
        else:
            box = Box(span.start, span.end, "optimizer")
        if box.end > box.start:
            boxes[stage].append(box)
    return Panel(title, [_joined(sorted(found, key=lambda box: box.start)) for found in boxes])


def _joined(boxes: list[Box]) -> list[Box]:
    """Boxes in which parts of one pass (its layers one by one) that follow each other without a gap are one."""
    joined: list[Box] = []
    last: dict[str, int] = {}  # where the last box of compute, and of communication, stands
    for box in boxes:
        lane = "communication" if box.kind == "communication" else "compute"
        before = joined[last[lane]] if lane in last else None
        same = before is not None and (box.kind, box.microbatch, box.chunk) == (
            before.kind, before.microbatch, before.chunk,
        )  # fmt: skip
        if before is not None and same and box.start <= before.end + 1e-9:
            joined[last[lane]] = Box(before.start, max(before.end, box.end), *_what(box))
        else:
            last[lane] = len(joined)
            joined.append(box)
    return joined


def _what(box: Box) -> tuple[str, int | None, int]:
    return box.kind, box.microbatch, box.chunk
