"""The command `simgpu replay`: read a trace, name the machines, play it, print and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simgpu import event_stream, trace_events
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.replay import own, scaled
from simgpu.lab.replay.changes import Changes, changes_of, needs_experiment
from simgpu.lab.replay.rescaling import Machine, Rescaling
from simgpu.lab.replay.step import Replayed, replay, tracks
from simgpu.lab.traces import chakra, kineto
from simgpu.lab.traces import command as traces
from simgpu.lab.traces.records import Recorded
from simgpu.settings import hardware_overrides


@dataclass(frozen=True)
class Asked:
    """Machines by name, None where the trace says it or nothing changes; `settings` are `key=value` texts."""

    gpu: str | None = None
    cluster: str | None = None
    to_gpu: str | None = None
    to_cluster: str | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class Answer:
    """A replay with the names of its machines."""

    file: Path
    old: str
    new: str
    changes: Changes
    replayed: Replayed

    def document(self) -> dict[str, Any]:
        """The answer as data."""
        return {"file": str(self.file), "recorded_on": self.old, "asked_on": self.new, **self.replayed.document()}


@dataclass(frozen=True)
class ScaledAnswer:
    """A replay at another scale, with the file that it is of."""

    file: Path
    scaled: scaled.Scaled

    def document(self) -> dict[str, Any]:
        """The answer as data."""
        return {"file": str(self.file), **self.scaled.document()}


def read(file: Path) -> Recorded:
    """A trace with times of kernels of one GPU. Raises `InputError`."""
    with trace_events.uncollected():
        return _read(file)


def _read(file: Path) -> Recorded:
    if traces.is_json(file):
        data = event_stream.read(file, kineto.slim)
        if not chakra.is_chakra_json(data) and own.is_own(data):
            return own.read_own(data, file)
        recorded = traces.parsed(data, file)
    else:
        recorded = traces.read(file)
    if not any(record.seconds for record in recorded.records):
        raise InputError("has no times of kernels; expected a trace of PyTorch's profiler with CUDA", file=file)
    gpus = {ran.stream.partition(",")[0] for record in recorded.records for ran in record.ran}
    if len(gpus) > 1:
        raise InputError(f"holds kernels of {len(gpus)} GPUs; expected the trace of one rank", file=file)
    return recorded


def run(recorded: Recorded, file: Path, catalogue: Catalogue, asked: Asked) -> Answer:
    """Play a trace as it is asked. Raises `InputError`."""
    if asked.gpu is not None and asked.cluster is not None:
        raise InputError("--gpu and --cluster contradict each other", key="--gpu")
    if asked.to_gpu is not None and asked.to_cluster is not None:
        raise InputError("--to-gpu and --to-cluster contradict each other", key="--to-gpu")
    changes, hardware = changes_of(asked.settings)
    with trace_events.uncollected():
        return _run(recorded, file, catalogue, asked, changes, hardware)


def _run(
    recorded: Recorded, file: Path, catalogue: Catalogue, asked: Asked, changes: Changes, hardware: Sequence[str]
) -> Answer:
    old = traces.machine_of(recorded, catalogue, asked.gpu, asked.cluster, file)
    new = _target(old, asked, catalogue, hardware)
    machines = Machine(old, asked.cluster is not None), Machine(new, _network(asked))
    return Answer(file, old.name, new.name, changes, replay(recorded, Rescaling(*machines, changes, recorded.records)))


def is_scaled(asked: Asked, said: bool) -> bool:
    """True if the experiment of a trace is to be asked: a key of it is set, or the trace says it and no machine is."""
    named = asked.gpu or asked.cluster or asked.to_gpu
    return needs_experiment(asked.settings) or (said and named is None)


def run_scaled(
    recorded: Recorded, file: Path, catalogue: Catalogue, was: scaled.Asked, asked: scaled.Asked
) -> ScaledAnswer:
    """Play a trace at another scale: its experiment as it was recorded, and as it is asked. Raises `InputError`."""
    with trace_events.uncollected():
        return ScaledAnswer(file, scaled.scale(recorded, file, was, asked, catalogue))


def _network(asked: Asked) -> bool:
    """Whether collectives are on the links of a machine that is named."""
    return asked.to_cluster is not None or (asked.to_gpu is None and asked.cluster is not None)


def _target(old: Cluster, asked: Asked, catalogue: Catalogue, hardware: Sequence[str]) -> Cluster:
    """The machine that is asked for; the old one itself where nothing of it changes."""
    name = asked.to_gpu or asked.to_cluster or asked.cluster or asked.gpu or old.gpu.name
    named = asked.to_gpu or asked.to_cluster
    if asked.to_gpu is not None:
        traces.check_gpu(asked.to_gpu, catalogue, "--to-gpu")
    same = named is None or named == (asked.cluster or asked.gpu or old.gpu.name)
    return old if same and not hardware else catalogue.cluster(name, hardware_overrides(hardware))


# ---- what is shown ---------------------------------------------------------------------------------------


def show(done: Answer | ScaledAnswer, style: str, top: int, out: IO[str]) -> None:
    """Print a replay: the step, by class, then by operator; at another scale by part, then by kernel."""
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.replay import print_replay, print_scaled

    document = done.document()
    if style == "json":
        print_json(document, out)
    elif style == "csv":
        print_csv(document["operators" if isinstance(done, Answer) else "parts"], out)
    elif isinstance(done, ScaledAnswer):
        print_scaled(document, top, out)
    else:
        print_replay(document, top, out)


def write(done: Answer | ScaledAnswer, file: Path) -> Path:
    """Write both timelines as a trace for the Perfetto UI."""
    from simgpu.render.trace import trace_events as timeline
    from simgpu.render.trace import write_events

    if isinstance(done, ScaledAnswer):
        found = done.scaled
        events = [trace_events.named("process_name", 0, name="recorded")]
        events += _recorded(found.recorded)
        return write_events(events + timeline(found.after.result.execution, 1, "asked for:"), file)

    titles = f"recorded on {done.old}", f"asked for on {done.new}"
    events = [trace_events.named("process_name", i, name=title) for i, title in enumerate(titles)]
    streams: dict[str, int] = {}
    for which, stream, kernels in tracks(done.replayed):
        tid = streams.setdefault(stream, len(streams))
        events.append(trace_events.named("thread_name", which, tid, name=stream))
        events += [trace_events.complete(name, "replay", (which, tid), ran.start, ran.seconds, {"factor": factor})
                   for name, ran, factor in kernels]  # fmt: skip
    return write_events(events, file)


def _recorded(recorded: Recorded) -> list[dict[str, Any]]:
    """The kernels of a trace, from 0, as the first process."""
    ran = [(record.name, one) for record in recorded.records for one in record.ran]
    begin = min((one.start for _, one in ran), default=0.0)
    streams = {stream: i for i, stream in enumerate(dict.fromkeys(one.stream for _, one in ran))}
    names = [trace_events.named("thread_name", 0, tid, name=stream) for stream, tid in streams.items()]
    return names + [
        trace_events.complete(name, "replay", (0, streams[one.stream]), one.start - begin, one.seconds, {})
        for name, one in ran
    ]


__all__ = ["Answer", "Asked", "ScaledAnswer", "is_scaled", "read", "run", "run_scaled", "show", "write"]
