"""Networks read from files of others: what they hold, by class of operator, and the files that run them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from simgpu.errors import InputError, shown
from simgpu.model.imported.pieces import Imported
from simgpu.model.operators import BYTES, Operator
from simgpu.plan.parallelism import Plan
from simgpu.workload.graph_files import document, lines
from simgpu.workload.operator_list import OperatorList

ENDINGS = (".json", ".yaml", ".yml")


def dimensions(given: Sequence[str]) -> dict[str, int]:
    """Values of free dimensions, each given as NAME=N. Raises `InputError`."""
    found: dict[str, int] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        if not name or not value.isdigit() or not 0 < int(value) <= 10**9:
            raise InputError(f"{shown(text)}: expected NAME=N with N from 1, such as batch=8", key="--dim")
        if found.setdefault(name, int(value)) != int(value):
            raise InputError(f"'{name}' is given twice", key="--dim")
    return found


def summary(found: Imported) -> dict[str, Any]:
    """What a network holds: operators, FLOPs, bytes and parameters by class, and in sum."""
    dtype = found.dtype if found.dtype in BYTES else "fp32"
    job = OperatorList(operators=[dict(entry) for entry in found.entries])
    graph = job.graph(None, Plan(), dtype, "fp64" if dtype == "fp64" else "fp32")
    operators = graph.segments[0].operators
    rows: dict[str, dict[str, Any]] = {}
    for op in operators:
        row = rows.setdefault(op.kind, {"operator": op.kind, "count": 0, "flop": 0.0, "bytes": 0.0, "parameters": 0})
        row["count"] += 1
        row["flop"] += _flop(op)
        row["bytes"] += getattr(op, "bytes", 0.0)
        row["parameters"] += op.weights
    head = {key: value for key, value in document(found).items() if key not in ("operators", "simgpu_graph")}
    return {
        **head, "flop": graph.flops, "bytes": sum(row["bytes"] for row in rows.values()), "kernels": len(operators),
        "rows": sorted(rows.values(), key=lambda row: (-row["flop"], -row["bytes"])),
    }  # fmt: skip


def _flop(op: Operator) -> float:
    """FLOPs of a product; what streams counts none, as elsewhere."""
    return op.flops if op.kind in ("matmul", "convolution", "attention") else 0.0


def show(content: Mapping[str, Any], style: str, out: IO[str]) -> None:
    """Print a summary."""
    from simgpu.render.data import print_csv, print_json

    if style == "json":
        print_json(content, out)
    elif style == "csv":
        print_csv(content["rows"], out)
    else:
        _print(content, out)


def _print(content: Mapping[str, Any], out: IO[str]) -> None:
    from simgpu.render.table import grid, print_notes
    from simgpu.units import format_si

    cells = [
        (row["operator"], f"{row['count']:,}", format_si(row["flop"], "FLOP") if row["flop"] else "",
         format_si(row["bytes"], "B"), f"{row['parameters']:,}" if row["parameters"] else "")
        for row in content["rows"]
    ]  # fmt: skip
    whole = format_si(content["flop"], "FLOP"), format_si(content["bytes"], "B"), f"{content['parameters']:,}"
    cells.append(("all", f"{content['kernels']:,}", *whole))
    grid(content["source"], ("operator", "kernels", "FLOP", "bytes", "parameters"), cells, out, right=(1, 2, 3, 4))
    sizes = ", ".join(f"{name} [{' x '.join(map(str, shape))}]" for name, shape in content["inputs"].items())
    how = "joined as a compiler joins them" if content["fused"] else "one kernel each, as eager code runs them"
    notes = [f"inputs: {sizes}; bytes in {content['dtype']}; pointwise operators: {how}"]
    if content["unknown"]:
        notes.append(assumed_note(content["unknown"]))
    print_notes(notes, out)


def assumed_note(unknown: Mapping[str, int]) -> str:
    """What stands in for operators that are not known."""
    names = ", ".join(f"{name} ({count})" for name, count in unknown.items())
    return f"not known, taken as bound by memory: {names}"


def check_ending(out: Path) -> None:
    """Raise `InputError` for a file that is neither a graph nor an experiment by its name."""
    if out.suffix not in ENDINGS:
        raise InputError("expected a file named .json (the graph) or .yaml (an experiment that runs it)", file=out)


def write(found: Imported, out: Path, gpu: str) -> list[tuple[str, Path]]:
    """Write the graph; for a .yaml also an experiment that runs it on `gpu`. Returns the files."""
    from simgpu.render.files import written_whole

    check_ending(out)
    graph = out.with_suffix(".json")
    with written_whole(graph) as stream:
        for line in lines(document(found)):
            stream.write(line)
    written = [("graph", graph)]
    if out.suffix != ".json":
        with written_whole(out) as stream:
            stream.write(_experiment(found, graph, gpu))
        written.append(("experiment", out))
    return written


def _experiment(found: Imported, graph: Path, gpu: str) -> str:
    """An experiment that runs a graph."""
    name = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in graph.stem)
    dtype = found.dtype if found.dtype in BYTES else "fp32"
    return (
        f"experiment: {name}\ntitle: {json.dumps(f'{found.name} on {gpu}')}\n\nscenario:\n  cluster: {gpu}\n"
        f"  dtype: {dtype}\n  workload: {{kind: operators, file: {json.dumps(str(graph))}}}\n\n"
        "table: [model, cluster, dtype, step_s, flop, mfu, weights_bytes_per_gpu]\n"
    )
