"""Chakra execution traces as PyTorch's converter writes them: operators of the host, kernels below them, streams."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from traces_by_hand import Trace, step

from simgpu.cli import main
from simgpu.lab.replay.flow import graph_of, length
from simgpu.lab.traces import chakra
from simgpu.lab.traces.chakra import read_protobuf
from simgpu.lab.traces.kineto import read_kineto


def number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(at: int, content: bytes | int | str) -> bytes:
    if isinstance(content, int):
        return number(at << 3) + number(content)
    content = content.encode() if isinstance(content, str) else content
    return number(at << 3 | 2) + number(len(content)) + content


def attribute(name: str, at: int, value: int) -> bytes:
    return field(10, field(1, name) + field(at, value))


def node(
    identity: int, name: str, us: float, cpu: bool, parent: int = 0, kind: int = 4, more: bytes = b"", start: int = 0,
    inputs: Iterable[Any] = (), after: Iterable[int] = (), stream: int | None = None,
) -> bytes:  # fmt: skip
    values, shapes, types = inputs or ([], [], [])
    found = field(1, identity) + field(2, name) + field(3, kind) + field(7, round(us))
    found += field(4, number(parent)) if parent else b""
    found += field(5, b"".join(map(number, after))) + (field(6, start) if start else b"")
    found += field(8, field(1, str(values)) + field(2, str(shapes)) + field(3, str(types)))
    found += attribute("is_cpu_op", 27, int(cpu)) + more
    return found + (attribute("stream", 9, stream) if stream is not None else b"")


def write(file: Path, *nodes: bytes) -> Path:
    file.write_bytes(b"".join(number(len(one)) + one for one in (field(1, "0.0.4"), *nodes)))
    return file


def converted(trace: Trace, file: Path) -> Path:
    """What the linker and the converter make of a profiler's trace: each kernel below the operator that called it."""
    operators = [event for event in trace.events if event["cat"] == "cpu_op"]
    launches = {event["args"]["correlation"]: event for event in trace.events if event["cat"] == "cuda_runtime"}
    around: dict[int, int] = {}
    nodes, first = [], 100
    for i, event in enumerate(operators):
        inside = [j for j, one in enumerate(operators) if j != i and one["ts"] < event["ts"]
                  and one["ts"] + one["dur"] > event["ts"]]  # fmt: skip
        around[i] = max(inside, default=-1)
        args = event["args"]
        types = [f"Tensor({kind})" if kind else "None" for kind in args["Input type"]]
        inputs = ["" for _ in types], args["Input Dims"], types
        nodes.append(
            node(first + i, event["name"], 3, True, max(around[i], -1) + first if inside else 1, inputs=inputs)
        )
    for i, event in enumerate(one for one in trace.events if one["cat"] in ("kernel", "gpu_memcpy")):
        launch = launches.get(event["args"].get("correlation"))
        at = launch["ts"] if launch else -1.0
        callers = [j for j, one in enumerate(operators) if one["ts"] <= at <= one["ts"] + one["dur"]]
        above = first + max(callers) if callers else 1
        collective = event["name"].startswith("nccl")
        more = attribute("comm_type", 9, 0) + attribute("comm_size", 9, 33554432) if collective else b""
        kernel = node(1000 + i, event["name"], event["dur"], False, above, 7 if collective else 4, more,
                      after=[above], stream=7)  # fmt: skip
        nodes.append(kernel)
    return write(file, *nodes)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_converter_s_traces_say_what_the_profiler_s_say(tmp_path: Path) -> None:
    """Operators, shapes, types and times of kernels; operators of the host are none of them."""
    known = read_kineto(step().data(), tmp_path)
    found = read_protobuf(converted(step(), tmp_path / "rank.0.et"))
    assert sorted((one.name, one.kind, one.seconds) for one in found.records) == [
        (one[0], one[1], pytest.approx(one[2])) for one in sorted((x.name, x.kind, x.seconds) for x in known.records)
    ]
    shapes = {one.name: one.shapes for one in known.records if one.shapes and one.kind == "operator"}
    assert {one.name: one.shapes for one in found.records if one.shapes} == shapes
    whole = sum(record.seconds or 0.0 for record in found.records)
    graph = graph_of(found.records, found.waits)
    assert whole <= length(graph.play([1.0] * len(found.records))) < whole + 100e-6  # the host is ahead
    there = json.loads(run("replay", tmp_path / "rank.0.et", "--gpu", "h100-sxm", "--to-gpu", "b200-sxm",
                           "--format", "json").stdout)  # fmt: skip
    assert {row["operator"]: row["factor"] for row in there["operators"]}["aten::mm"] < 0.6
    assert "what each node depends on" in " ".join(there["notes"])


def test_streams_and_dependencies_say_when_kernels_run(tmp_path: Path) -> None:
    """A collective beside a kernel, both after the same one; a last one after both. Starts, where they are said."""

    def kernels(starts: tuple[int, ...]) -> list[bytes]:
        rows = [(11, 100, 7, [10]), (12, 300, 7, [11]), (13, 500, 20, [11]), (14, 50, 7, [12, 13])]
        return [node(i, f"k{i}", us, False, 10, after=after, stream=stream, start=start)
                for (i, us, stream, after), start in zip(rows, starts, strict=True)]  # fmt: skip

    host = node(10, "aten::mm", 5, True, 1)
    found = read_protobuf(write(tmp_path / "a.et", host, *kernels((0, 0, 0, 0))))
    (record,) = found.records
    assert [round(1e6 * ran.start) for ran in record.ran] == [5, 105, 105, 605]
    assert len({ran.stream for ran in record.ran}) == 2
    found = read_protobuf(write(tmp_path / "b.et", host, *kernels((50, 150, 160, 700))))
    assert [round(1e6 * ran.start) for ran in found.records[0].ran] == [50, 150, 160, 700]


def test_bombs_are_one_line_or_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths that lie, texts and lists without end, circles, more nodes than memory holds."""
    kernel = node(11, "k", 100, False, 10)
    good = write(tmp_path / "good.et", node(10, "aten::mm", 5, True, 1), kernel)
    raw = good.read_bytes()
    (tmp_path / "lies.et").write_bytes(raw + number(1 << 62))
    (tmp_path / "number.et").write_bytes(raw + b"\xff" * 40)
    (tmp_path / "inside.et").write_bytes(raw + number(4) + b"\x12\x7fxx")
    write(tmp_path / "text.et", node(10, "aten::mm", 5, True, 1), node(11, "x" * 3_000_000, 9, False, 10), kernel)
    deep = "[" * 50_000 + "]" * 50_000
    lists = field(8, field(2, deep)) + field(8, field(2, "[" + "0," * 3_000_000 + "]"))
    write(tmp_path / "lists.et", node(10, "aten::mm", 5, True, 1) + lists, kernel)
    write(tmp_path / "circle.et", node(10, "a", 5, True, 11), node(11, "b", 5, True, 10), node(12, "k", 5, False, 10))
    for name, said in (
        ("lies.et", "were announced"),
        ("number.et", "is damaged at byte"),
        ("inside.et", "is no Chakra execution trace, or it is cut off"),
        ("text.et", ""),
        ("lists.et", ""),
        ("circle.et", ""),
    ):
        done = run("trace", "list", tmp_path / name)
        assert done.exit_code == (2 if said else 0) and said in done.stderr, (name, done.output, done.exception)
        assert done.stderr.count("\n") == bool(said) and len(done.output) < 20_000
    monkeypatch.setattr(chakra, "MOST_KEPT", 1)
    assert "holds more than 1 nodes" in run("trace", "list", good).stderr
    monkeypatch.setattr(chakra, "MOST_BYTES", 10)
    assert "is larger than 10 bytes" in run("trace", "list", good).stderr


def test_a_file_of_many_nodes_is_not_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is mapped: `read_bytes` is not asked for it."""
    file = write(tmp_path / "a.et", node(10, "aten::mm", 5, True, 1), node(11, "k", 9, False, 10))
    monkeypatch.setattr(Path, "read_bytes", lambda *_: pytest.fail("read as a whole"))
    assert len(read_protobuf(file).records) == 1
