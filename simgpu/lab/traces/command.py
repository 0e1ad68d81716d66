"""The commands `simgpu trace list` and `simgpu trace compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simgpu import event_stream
from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest
from simgpu.hardware.cluster import Cluster
from simgpu.lab.measurement.backend import Device
from simgpu.lab.measurement.device import name_of
from simgpu.lab.traces import chakra, kineto, nsight
from simgpu.lab.traces.comparing import Group, classes, grouped, predict, scores, unpredicted
from simgpu.lab.traces.records import Recorded
from simgpu.reading import start_of


def read(file: Path) -> Recorded:
    """A trace: of PyTorch's profiler in JSON, of Nsight Systems, or a Chakra execution trace. Raises `InputError`."""
    if file.suffix in nsight.REPORTS:
        problem = f"is a report of Nsight Systems; expected it exported: nsys export --type sqlite {file.name}"
        raise InputError(problem, file=file)
    if nsight.is_database(start_of(file, 64)):
        return nsight.read_nsight(file)
    if is_json(file):
        return parsed(event_stream.read(file, kineto.slim), file)
    return chakra.read_protobuf(file)


def is_json(file: Path) -> bool:
    """Whether a trace is JSON, plain or gzipped; else it is protobuf. Raises `InputError` for an empty file."""
    start = start_of(file, 64)
    if not start:
        raise InputError("is empty, expected a trace", file=file)
    return file.suffix != ".et" and (start.startswith(b"\x1f\x8b") or start.lstrip()[:1] in (b"{", b"["))


def parsed(data: Mapping[str, Any], file: Path) -> Recorded:
    """The records in the JSON of a trace. Raises `InputError`."""
    return chakra.read_json_nodes(data, file) if chakra.is_chakra_json(data) else kineto.read_kineto(data, file)


@dataclass(frozen=True)
class Compared:
    """A trace with predictions on a GPU; `gpu` is '' where it was only listed."""

    file: Path
    recorded: Recorded
    groups: Sequence[Group]
    gpu: str = ""

    def document(self) -> dict[str, Any]:
        """The answer as data."""
        found = scores(self.groups) if self.gpu else None
        return {
            "file": str(self.file), "what": self.recorded.what, "gpu": self.gpu,
            "devices": [name for name, _, _ in self.recorded.gpus], "notes": list(self.recorded.notes),
            "classes": classes(self.groups) if self.gpu else [], "summary": vars(found) if found else {},
            "rows": [group.row() for group in self.groups],
        }  # fmt: skip


def listed(file: Path) -> Compared:
    """The records of a trace by operator and shape."""
    recorded = read(file)
    return Compared(file, recorded, grouped(recorded.records))


def compared(file: Path, catalogue: Catalogue, gpu: str | None, cluster: str | None) -> Compared:
    """The records of a trace with predictions, on the GPU that it names or on a given one."""
    recorded = read(file)
    machine = machine_of(recorded, catalogue, gpu, cluster, file)
    groups = grouped(recorded.records)
    predict(groups, machine, cluster is not None)
    return Compared(file, recorded, groups, machine.gpu.name)


def machine_of(recorded: Recorded, catalogue: Catalogue, gpu: str | None, cluster: str | None, file: Path) -> Cluster:
    """The machine of a trace: the one that is named, else the GPU that the trace names. Raises `InputError`."""
    if cluster is not None:
        return catalogue.cluster(cluster)
    if gpu is not None:
        check_gpu(gpu, catalogue, "--gpu")
        return catalogue.cluster(gpu)
    if not recorded.gpus:
        raise InputError("does not say on which GPU it was recorded; name it with --gpu", file=file)
    names_found = {name_of(Device(name, sms, memory, 0), catalogue) for name, sms, memory in recorded.gpus}
    if len(names_found) > 1:
        raise InputError(f"was recorded on {', '.join(sorted(names_found))}; name one with --gpu", file=file)
    return catalogue.cluster(names_found.pop())


def check_gpu(gpu: str, catalogue: Catalogue, key: str) -> None:
    """Raise `InputError` for the name of no GPU."""
    names = catalogue.names("gpus")
    if gpu not in names and "@" not in gpu:
        raise InputError(f"unknown GPU '{gpu}'{catalogue.elsewhere(gpu) or nearest(gpu, names)}", key=key)


# ---- what is shown ---------------------------------------------------------------------------------------


def show(done: Compared, style: str, top: int, out: IO[str]) -> None:
    """Print a trace: by class, then by operator and shape."""
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.traces import print_compared, print_listed

    if style == "json":
        print_json(done.document(), out)
    elif style == "csv":
        print_csv([group.row() for group in done.groups], out)
    elif done.gpu:
        print_compared(done.document(), unpredicted(done.groups), top, out)
    else:
        print_listed(done.document(), top, out)


def write(done: Compared, folder: Path, plots: bool, formats: Sequence[str]) -> list[tuple[str, Path]]:
    """Write data, and a picture of predicted over measured times."""
    from simgpu.render.data import print_csv, print_json
    from simgpu.render.files import save, written_whole

    document = done.document()
    written = []
    for name, write_to in (("compare.json", print_json), ("compare.csv", _csv(print_csv))):
        with written_whole(folder / name) as stream:
            write_to(document, stream)
        written.append(("data", folder / name))
    rows = _drawn(document["rows"])
    if plots and rows:
        from simgpu.render.parity import parity_figure

        words = f"{done.file.name} on {done.gpu}: each operator and shape"
        figure = parity_figure(rows, "measured_s", "time_s", "class", "operator", words)
        files = [folder / f"compare.{kind}" for kind in formats or ("png", "svg")]
        written += [("plot", path) for path in save(figure, *files)]
    return written


def _csv(print_csv: Any) -> Any:
    return lambda document, stream: print_csv(document["rows"], stream)


MOST_DRAWN = 400
"""Shapes in a picture: those that take longest."""


def _drawn(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    both = [row for row in rows if row["measured_s"] and row["predicted_s"]][:MOST_DRAWN]
    ends = {"time_s": "predicted_s", "time_s_p10": "predicted_s_p10", "time_s_p90": "predicted_s_p90"}
    return [
        {**row, **{name: row[of] for name, of in ends.items()},
         "operator": f"{row['operator'].removeprefix('aten::')} {row['shape']}"}
        for row in both
    ]  # fmt: skip
